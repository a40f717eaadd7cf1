"""Evaluates a run: `python -m launch.evaluate --run_dir=R`."""

import sys

from absl import flags

from launch import cli, process, records
from launch.experiment import progress
from launch.rundir import opening

_SPLIT = flags.DEFINE_string(
  'split',
  None,
  'which images: train, validation or test; without it test, or train where '
  'the run trained on all',
)
_NUM_IMPORTANCE_SAMPLES = flags.DEFINE_integer(
  'num_importance_samples',
  5000,
  'posterior samples per image for the bound on log p(x); it is also reported '
  'at 1, 10, 100, ... samples; 0: no bound. Not for grey targets',
)

_SCORES = flags.DEFINE_list(
  'scores',
  [],
  'scores of disentanglement to add to scores.csv, for data with factors: all, '
  'or a list of beta_vae, factor_vae, mig, modularity, sap, sap_r2, '
  'explicitness, irs, infomec, dci_forest, total_correlation_nats, '
  'pairwise_information_nats and dci, whose boosted trees take minutes',
)

_MOST_SAMPLES = 2**24

_SUMMARY = """
Evaluates the newest checkpoint of a run over every image of a split, and adds
to its eval.csv: elbo, rate, distortion, bits per dimension, active units, the
rate taken apart, and the importance-weighted bound on log p(x), which takes
longest and says beforehand how long.
Usage: python -m launch.evaluate [--run_dir=RUN]
"""


def main() -> int:
  """Evaluates as the flags say and returns the exit code."""
  num_samples = _NUM_IMPORTANCE_SAMPLES.value
  if not 0 <= num_samples <= _MOST_SAMPLES:
    raise opening.RunError(
      f'--num_importance_samples={num_samples}: must be at least 0 and at most '
      f'{_MOST_SAMPLES:,}'
    )
  path = opening.find(cli.RUN_DIR.value)
  process.import_tensorflow()
  from launch import runs
  from launch.experiment import messages, metrics, pictures, programs, scores

  chosen = scores.parse(_SCORES.value)

  def warn(line: str) -> None:
    print(line, file=sys.stderr)

  programs.set_threads(opening.load_config(path).threads)
  run = runs.load(path, cli.data_dir(), warn)
  if not (run.manifest['has_density'] and run.manifest['has_elbo']):
    if num_samples and flags.FLAGS['num_importance_samples'].present:
      raise opening.RunError(
        f'--num_importance_samples={num_samples}: {path} has '
        + (
          f'{run.manifest["targets"].split(":")[0]} targets, where a Bernoulli '
          'gives no log-density and the bound would bound nothing; train with '
          '--binarize'
          if run.manifest['has_elbo']
          else 'no posterior or no density that a bound could be made of'
        )
      )
    num_samples = 0
  print(f'evaluating {path}')
  shown: list[progress.Progress] = []
  unit = messages.counted(run.manifest['dataset']['shape'])

  def show(label: str, total: int):
    for bar in shown:
      bar.close()
    shown.append(progress.Progress(0, total, unit, label))
    return shown[-1].update

  try:
    evaluated = run.evaluate(_SPLIT.value, num_samples, show)
    if num_samples:
      minutes, seconds = divmod(round(evaluated.seconds_of_bounds()), 60)
      print(
        f'the bound on log p(x) at {num_samples:,} samples will take about '
        f'{minutes} min {seconds} s; --num_importance_samples=N for fewer, 0 '
        'for no bound',
        flush=True,
      )
    rows = metrics.record(path, evaluated, in_training=False)
  finally:
    for bar in shown:
      bar.close()
  if evaluated.split == records.result_split(evaluated.manifest):
    pictures.write(path, evaluated, run.dataset, in_training=False)
  print('\n'.join(metrics.lines(evaluated, rows)))
  if chosen:
    print('scores of disentanglement (± standard error over draws):')
    scores.record(path, evaluated, chosen)
  return 0


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
