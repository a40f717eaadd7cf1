"""Published results next to obtained ones, as a table in Markdown.

Reads the records of the runs kept in analysis/results/runs, so that no number
of the table is typed by hand: `python -m analysis.published > PAGE`.
"""

import argparse
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import figures
from launch import records

_RUNS = pathlib.Path(__file__).parent / 'results' / 'runs'


class Result(NamedTuple):
  """One published number and how it is obtained here.

  Attributes:
    what: the model and the quantity.
    source: where it is published.
    published: as it is printed there.
    runs: the runs of its seeds, a pattern under analysis/results/runs.
    metrics: what is added up: the weight of each metric of eval.csv.
    num_samples: of the rows in eval.csv.
    command: reproduces a run; an evaluation follows it where one is needed.
    difference: in recipe, in words.
  """

  what: str
  source: str
  published: str
  runs: str
  metrics: Mapping[str, float]
  num_samples: int
  command: str
  difference: str


def _iwae(count: int, published_nll: str, published_units: str) -> list[Result]:
  source = 'Burda et al. 2015, table 1'
  command = (
    f'python -m launch.train --preset=iwae --num_samples={count} '
    f'--batch_size=100 --num_epochs=121 --run_dir=runs/iwae-k{count} && '
    f'python -m launch.evaluate --run_dir=runs/iwae-k{count}'
  )
  difference = (
    'a ladder of 121 epochs (1, 3, 9, 27, 81) in batches of 100, where the '
    'paper has 3,280 (up to 2,187) in batches of 20: less training, so a '
    'worse bound is expected. More units are active at this point of the '
    "ladder than at the paper's end; whether its last stages silence them was "
    'not run'
  )
  return [
    Result(
      f'IWAE, k = {count}: NLL by 5,000 samples, nats',
      source,
      published_nll,
      f'iwae-k{count}',
      {'log_p_nats': -1},
      5000,
      command,
      difference,
    ),
    Result(
      f'IWAE, k = {count}: active units',
      source,
      published_units,
      f'iwae-k{count}',
      {'active_units': 1},
      1,
      command,
      difference,
    ),
  ]


def _full_covariance(steps: int, published: str, seeds: str = '') -> Result:
  return Result(
    f'full covariance, static, {steps:,} steps: −elbo, nats',
    'TFP, vae_mnist_advi',
    published,
    f'full_covariance_vae-static-{steps}{seeds}',
    {'elbo_nats': -1},
    1,
    'python -m launch.train --preset=full_covariance_vae --binarize=static '
    f'--num_validation=10000 --batch_size=32 --training_steps={steps} '
    f'--run_dir=runs/full_covariance_vae-static-{steps}',
    "a static draw of our own instead of Larochelle's files",
  )


def _notebook(what: str, published: str, kl_weight: float) -> Result:
  return Result(
    f'full covariance, dynamic, 15 epochs: {what}, nats',
    "TFP's notebook of layers",
    published,
    'full_covariance_vae-beta2',
    {'distortion_nats': 1, 'rate_nats': kl_weight},
    1,
    'python -m launch.train --preset=full_covariance_vae --beta=2',
    "the notebook's loss adds the KL twice, so that it trains at beta 2 and "
    'prints NLL + 2 KL; it also inverts the digits, ours do not. Both rows are '
    'of one run',
  )


def _conv(name: str, flag: str) -> Result:
  return Result(
    f'conv_vae, {name} KL: −elbo, nats',
    'a tutorial; no number published',
    '',
    f'conv_vae{flag.replace("--kl=", "-")}',
    {'elbo_nats': -1},
    1,
    f'python -m launch.train --preset=conv_vae {flag}'.strip(),
    'batch size ours. Each is measured with the exact KL',
  )


RESULTS: tuple[Result, ...] = (
  Result(
    'MLP 784-500-20, static: −elbo, nats',
    'flax, examples/vae',
    'around 104',
    'mlp_vae-seed*',
    {'elbo_nats': -1},
    1,
    'python -m launch.train --preset=mlp_vae --seed=0 '
    '--run_dir=runs/mlp_vae-seed0',
    'a static draw of our own, trained on 50,000 images, instead of '
    "Larochelle's files",
  ),
  *_iwae(1, '86.76', '19'),
  *_iwae(5, '85.54', '22'),
  *_iwae(50, '84.78', '25'),
  _full_covariance(1001, '135.6', seeds='*'),
  _full_covariance(2001, '120.8'),
  _full_covariance(5001, '110.2'),
  _full_covariance(10001, '105.0'),
  _notebook('NLL + 2 KL', '119.48; 118.2 and 118.3 earlier', 2),
  _notebook('NLL + KL, a bound on −log p(x)', '', 1),
  Result(
    'autoencoder, 2 units: squared error per pixel',
    'a tutorial; 0.0557 is the best of any linear one (PCA)',
    'about 0.043; PCA 0.0557',
    'autoencoder',
    {'squared_error': 1},
    1,
    'python -m launch.train --preset=autoencoder',
    'none known',
  ),
  _conv('exact', ''),
  _conv('Monte Carlo', '--kl=monte_carlo'),
  Result(
    'conv_vae_dropout, stopped early: −elbo, nats',
    'a tutorial; no number published',
    '',
    'conv_vae_dropout',
    {'elbo_nats': -1},
    1,
    'python -m launch.train --preset=conv_vae_dropout',
    'noise of scale 1 (the source draws its own with 1e-4), stops on a '
    'validation split (the source on the test set) after 5 epochs without a '
    'better one, and keeps the best weights, at the steps shown (the source '
    'the last)',
  ),
  Result(
    'dense_vae on wine: −elbo, nats per row',
    'a tutorial; data and batch are ours',
    '',
    'dense_vae',
    {'elbo_nats': -1},
    1,
    'python -m launch.train --preset=dense_vae',
    'at its KL weight of 10 the posterior collapses (rate 0.05 nats)',
  ),
)


def obtained(result: Result, runs: pathlib.Path = _RUNS) -> pd.DataFrame:
  """What each run of a result measured, a row for each seed.

  Args:
    result: the published result.
    runs: the folder of kept runs.

  Returns:
    Columns seed, value (in the published sign), se (over images, for a single
    metric), steps (of the weights that were measured), seconds, commit.

  Raises:
    FigureError: a run is missing, or lacks the metric.
    RecordError: a run is damaged.
  """
  rows = []
  for run in sorted(runs.glob(result.runs)):
    frame = records.read_table(run, records.EVAL)
    frame = frame[
      (frame['split'] == 'test')
      & frame['metric'].isin(list(result.metrics))
      & (frame['num_samples'] == result.num_samples)
    ]
    figures.check_columns(frame, ['value', 'se'])
    step = records.result_step(
      records.read_manifest(run), frame.to_dict('records')
    )
    last = frame[frame['step'] == step].set_index('metric')
    weights = pd.Series(result.metrics)
    timing = records.read_table(run, records.TIMING)
    rows.append(
      {
        'seed': records.read_config(run)['seed'],
        'value': (weights * last['value'][weights.index]).sum(),
        'se': last['se'].iloc[0] if len(weights) == 1 else np.nan,
        'steps': int(last['step'].iloc[0]),
        'seconds': timing['seconds'].max(),
        'commit': records.read_manifest(run)['source']['commit'],
      }
    )
  frame = pd.DataFrame(rows)
  if frame.empty:
    raise figures.FigureError(f'no run {result.runs} in {runs}')
  return frame


def _value(frame: pd.DataFrame) -> str:
  """Mean and error: over seeds where there are several, else over images."""
  if len(frame) > 1:
    error = frame['value'].std(ddof=1) / np.sqrt(len(frame))
    return f'{frame["value"].mean():.2f} ± {error:.2f} (over seeds)'
  value, error = frame.iloc[0][['value', 'se']]
  if value == round(value):  # A count.
    return f'{value:.0f}'
  digits = 2 if value > 1 else 4
  if np.isnan(error):
    return f'{value:.{digits}f}'
  return f'{value:.{digits}f} ± {error:.{digits}f} (over images)'


def table() -> str:
  """The table, in Markdown."""
  lines = [
    '| what | source | published | obtained | seeds | steps | minutes a run |',
    '|---|---|---|---|---|---|---|',
  ]
  recipes: dict[str, str] = {}
  for result in RESULTS:
    frame = obtained(result)
    seeds = ', '.join(str(seed) for seed in sorted(frame['seed']))
    lines.append(
      f'| {result.what} | {result.source} | {result.published} | '
      f'{_value(frame)} | {seeds} | {frame["steps"].max():,} | '
      f'{frame["seconds"].mean() / 60:.1f} |'
    )
    recipes[result.command] = result.difference
  lines += ['', '| command | difference in recipe |', '|---|---|']
  lines += [f'| `{command}` | {why} |' for command, why in recipes.items()]
  return '\n'.join(lines)


def main() -> None:
  """Prints the table."""
  argparse.ArgumentParser(
    prog='python -m analysis.published', description=__doc__
  ).parse_args()
  print(table())


if __name__ == '__main__':
  main()
