"""Published results next to obtained ones, as a table in Markdown.

Reads the records of the runs kept in analysis/results/runs, so that no number
of the table is typed by hand: `python -m analysis.published > PAGE`.
"""

import argparse
import pathlib
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
    metric: in eval.csv.
    sign: what `value` is multiplied by to compare.
    num_samples: of the row in eval.csv.
    command: reproduces a run; an evaluation follows it where one is needed.
    difference: in recipe, in words.
  """

  what: str
  source: str
  published: str
  runs: str
  metric: str
  sign: int
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
      'log_p_nats',
      -1,
      5000,
      command,
      difference,
    ),
    Result(
      f'IWAE, k = {count}: active units',
      source,
      published_units,
      f'iwae-k{count}',
      'active_units',
      1,
      1,
      command,
      difference,
    ),
  ]


RESULTS: tuple[Result, ...] = (
  Result(
    'MLP 784-500-20, static: −elbo, nats',
    'flax, examples/vae',
    'around 104',
    'mlp_vae-seed*',
    'elbo_nats',
    -1,
    1,
    'python -m launch.train --preset=mlp_vae --seed=0 '
    '--run_dir=runs/mlp_vae-seed0',
    'a static draw of our own, trained on 50,000 images, instead of '
    "Larochelle's files",
  ),
  *_iwae(1, '86.76', '19'),
  *_iwae(5, '85.54', '22'),
  *_iwae(50, '84.78', '25'),
)


def obtained(result: Result, runs: pathlib.Path = _RUNS) -> pd.DataFrame:
  """What each run of a result measured, a row for each seed.

  Args:
    result: the published result.
    runs: the folder of kept runs.

  Returns:
    Columns seed, value (in the published sign), se, steps, seconds, commit.

  Raises:
    FigureError: a run is missing, or lacks the metric.
    RecordError: a run is damaged.
  """
  rows = []
  for run in sorted(runs.glob(result.runs)):
    frame = records.read_table(run, records.EVAL)
    frame = frame[
      (frame['split'] == 'test')
      & (frame['metric'] == result.metric)
      & (frame['num_samples'] == result.num_samples)
    ]
    figures.check_columns(frame, ['value', 'se'])
    last = frame.sort_values('step').iloc[-1]
    timing = records.read_table(run, records.TIMING)
    rows.append(
      {
        'seed': records.read_config(run)['seed'],
        'value': result.sign * last['value'],
        'se': last['se'],
        'steps': int(last['step']),
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
  row = frame.iloc[0]
  if np.isnan(row['se']):
    return f'{row["value"]:.0f}'
  return f'{row["value"]:.2f} ± {row["se"]:.2f} (over images)'


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
