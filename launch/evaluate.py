"""Evaluates a run: `python -m launch.evaluate --run_dir=R`."""

import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from launch import cli, process, records
from launch.experiment import progress
from launch.rundir import opening
from launch.settings import scores as score_settings

if TYPE_CHECKING:
  from launch import runs
  from launch.experiment import metrics

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
  'at 1, 10, 100, ... samples; 0: no bound, as with --scores where it is not '
  'typed. Not for grey targets',
)

_SCORES = flags.DEFINE_list(
  'scores',
  [],
  'scores of disentanglement to add to scores.csv, for data with factors: a '
  f'list of {", ".join(score_settings.SCORES)}; or all, which leaves out '
  + ' and '.join(
    name for name, score in score_settings.SCORES.items() if score.takes_minutes
  )
  + ', which takes minutes',
)

_SWEEP_DIR = flags.DEFINE_string(
  'sweep_dir',
  None,
  'folder of a sweep, whose finished runs are evaluated; with --scores they '
  'are scored alone, from the codes that they have recorded, unless '
  '--num_importance_samples is typed. What stands is not done again',
)
_AGAIN = flags.DEFINE_bool(
  'again', False, 'with --sweep_dir: measure again what stands already'
)

_INDEX = flags.DEFINE_list(
  'index',
  [],
  'test images, a list, around which to add traversals for '
  '`analysis.traversals --index`; nothing is measured',
)

_SCORES_TITLE = 'scores of disentanglement (± standard error over draws):'

# That of `vae.metrics.importance`, which would import TensorFlow.
_MOST_SAMPLES = 2**24

_SUMMARY = """
Evaluates the newest checkpoint of a run over every image of a split, and adds
to its eval.csv: elbo, rate, distortion, bits per dimension, active units, the
rate taken apart, and the importance-weighted bound on log p(x), which takes
longest and says beforehand how long.
Usage: python -m launch.evaluate [--run_dir=RUN | --sweep_dir=SWEEP]
"""


def main() -> int:
  """Evaluates as the flags say and returns the exit code."""
  num_samples = _NUM_IMPORTANCE_SAMPLES.value
  if not 0 <= num_samples <= _MOST_SAMPLES:
    raise opening.RunError(
      f'--num_importance_samples={num_samples}: must be at least 0 and at most '
      f'{_MOST_SAMPLES:,}'
    )
  chosen = score_settings.parse(_SCORES.value, _SWEEP_DIR.value is not None)
  if chosen and not flags.FLAGS['num_importance_samples'].present:
    # Who asks for scores need not wait for the bound, which may take hours.
    num_samples = 0
  if _SWEEP_DIR.value is not None:
    for flag in ('run_dir', 'split', 'index'):
      if flags.FLAGS[flag].present:
        raise opening.RunError(
          f'--{flag}: is of one run, and --sweep_dir of all of its runs'
        )
    return _evaluate_sweep(
      process.user_path(_SWEEP_DIR.value), chosen, num_samples
    )
  path = opening.find(cli.RUN_DIR.value)
  indices = _indices()
  process.import_tensorflow()
  if indices:
    _add_traversals(path, indices)
    return 0
  from launch.experiment import scores

  evaluated = _evaluate(path, chosen, num_samples)
  if chosen:
    print(_SCORES_TITLE)
    with scores.processes() as pool:
      scores.record(
        path,
        scores.Codes.of(evaluated),
        chosen,
        marks=scores.Marks(scores.marks_folder(cli.data_dir())),
        pool=pool,
      )
  return 0


def _indices() -> list[int]:
  """Returns the images that --index names.

  Raises:
    RunError: what is no index, or another flag beside them.
  """
  for text in _INDEX.value:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
      raise opening.RunError(
        f'--index={process.printable(text)}: must be a whole number, at least 0'
      )
  for flag in ('split', 'scores', 'num_importance_samples'):
    if _INDEX.value and flags.FLAGS[flag].present:
      raise opening.RunError(
        f'--index: adds traversals of test images alone; leave out --{flag}'
      )
  return [int(text) for text in _INDEX.value]


def _add_traversals(path: pathlib.Path, indices: Sequence[int]) -> None:
  """Adds traversals around some test images to the arrays of a run."""
  from launch.experiment import pictures

  run = _load(path)
  if len(run.manifest['dataset']['shape']) != 3:
    raise opening.RunError(
      f'--index: {path} was trained on a table, which has no images'
    )
  split, data = run.split()
  for index in indices:
    if index >= len(data.examples):
      raise opening.RunError(
        f'--index={index}: the {split} split has the images 0 to '
        f'{len(data.examples) - 1}'
      )
  pictures.add_traversals(
    path, run.model, run.config, run.manifest, run.step, data.examples, indices
  )
  numbers = ','.join(map(str, sorted({*indices})))
  print(
    f'added; python -m analysis.traversals --run_dir={path} --index={numbers}'
  )


def _evaluate_sweep(
  folder: pathlib.Path, chosen: Sequence[str], num_samples: int
) -> int:
  """Evaluates the finished runs of a sweep; returns the exit code.

  With scores alone, from the codes that the runs have recorded where these are
  of their last weights.
  """
  paths = records.runs_of(folder)
  process.import_tensorflow()
  from launch.experiment import metrics, scores
  from launch.sweeps import ranking

  evaluates = not chosen or num_samples > 0
  of_runs = [n for n in chosen if not score_settings.SCORES[n].of_sweep]
  marks = scores.Marks(scores.marks_folder(cli.data_dir()))
  models, num_failed = [], 0
  with scores.processes() as pool:
    for number, path in enumerate(paths, 1):
      shown = f'{number} of {len(paths)}: {path.name}'
      try:
        manifest = records.read_manifest(path)
        if manifest['status'] != 'finished':
          print(f'{shown}: left out, since it is {manifest["status"]}')
          continue
        codes = None
        if evaluates:
          if not _AGAIN.value and metrics.stand(path, num_samples):
            print(f'{shown}: its metrics stand')
          else:
            codes = scores.Codes.of(_evaluate(path, chosen, num_samples))
        if not chosen:
          continue
        codes = codes or scores.Codes.read(path)
        codes = codes or scores.Codes.of(_load(path).evaluate())
        scores.check(chosen, manifest, bool(codes.names))
        models.append(ranking.Model.of(path, codes))
        names = of_runs
        if not _AGAIN.value:
          names = scores.missing(path, codes, of_runs)
        if not names:
          print(f'{shown}: its scores stand')
          continue
        print(f'{shown}, {_SCORES_TITLE}', flush=True)
        scores.record(path, codes, names, marks=marks, pool=pool)
      except score_settings.ScoreError:
        raise
      except (ValueError, OSError) as error:
        if type(error) is ValueError:
          raise
        num_failed += 1
        print(f'{shown}: {process.printable(str(error))}', file=sys.stderr)
  if len(of_runs) < len(chosen):
    print(f'{folder}, models that differ in their seed alone:')
    ranking.record(folder, models)
  if num_failed:
    print(f'{num_failed} of {len(paths)} runs failed', file=sys.stderr)
  return 1 if num_failed else 0


def _load(path: pathlib.Path) -> 'runs.Run':
  import tensorflow as tf

  from launch import runs
  from launch.experiment import programs

  programs.set_threads(opening.load_config(path).threads)
  tf.config.experimental.enable_op_determinism()  # As training has it.
  return runs.load(
    path, cli.data_dir(), lambda line: print(line, file=sys.stderr)
  )


def _evaluate(
  path: pathlib.Path, chosen: Sequence[str], num_samples: int
) -> 'metrics.Evaluated':
  """Evaluates a run into its files, as the flags say.

  Args:
    path: the run directory.
    chosen: scores for which its data must have factors.
    num_samples: importance samples of the bound, or 0 for none.
  """
  from launch.experiment import messages, metrics, pictures, scores

  run = _load(path)
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
  _, data = run.split(_SPLIT.value)
  has_factors = data.factors is not None or data.labels is not None
  scores.check(chosen, run.manifest, has_factors)
  print(f'evaluating {path}', flush=True)
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
  return evaluated


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
