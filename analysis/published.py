"""Published results next to obtained ones, as a table in Markdown.

Reads the records of the runs kept in analysis/results/runs, so that no number
of the table is typed by hand: `python -m analysis.published > PAGE`.
"""

import pathlib

import numpy as np
import pandas as pd

from analysis import command, figures, frames, table
from launch import records

_RESULTS = pathlib.Path(__file__).parent / 'results'
_RUNS = _RESULTS / 'runs'


def read() -> pd.DataFrame:
  """Reads the published numbers, and how each is obtained here.

  Returns:
    Text columns: what (model and quantity), source, published (as printed
    there), runs (of the seeds, a pattern under analysis/results/runs), metrics
    (each with its weight in what is added up), num_samples (of the rows in
    eval.csv that they are of), steps (`FIRST-LAST`, where they are columns of
    train.csv or terms instead, and their mean over these steps is taken),
    command (reproduces a run) and difference (in recipe).
  """
  path = _RESULTS / 'published.csv'
  return pd.read_csv(path, dtype=str, keep_default_na=False)


def obtained(result: pd.Series, runs: pathlib.Path = _RUNS) -> pd.DataFrame:
  """Reads what each run of a result measured, a row for each seed.

  Args:
    result: a row of the published numbers.
    runs: the folder of kept runs.

  Returns:
    Columns seed, value (in the published sign), se (over examples, for a single
    metric), example (what the data are made of), steps (of the weights that
    were measured), seconds, commit.

  Raises:
    FigureError: a run is missing, or lacks the metric.
    RecordError: a run is damaged.
  """
  weights = pd.Series(
    {
      name: float(weight)
      for name, weight in (m.split(':') for m in result['metrics'].split())
    }
  )
  rows = []
  for path in sorted(runs.glob(result['runs'])):
    measured = _over_steps if result['steps'] else _at_the_end
    (run,) = frames.read_runs([str(path)]).runs
    rows.append(
      {
        'seed': run.config['seed'],
        'example': run.example,
        **measured(path, result, weights),
        'seconds': records.read_table(path, records.TIMING)['seconds'].max(),
        'commit': run.manifest['source']['commit'],
      }
    )
  frame = pd.DataFrame(rows)
  if frame.empty:
    raise figures.FigureError(f'no run {result["runs"]} in {runs}')
  return frame


def _at_the_end(
  run: pathlib.Path, result: pd.Series, weights: pd.Series
) -> dict[str, float]:
  frame = records.read_table(run, records.EVAL)
  frame = frame[
    (frame['split'] == 'test')
    & frame['metric'].isin(weights.index)
    & (frame['num_samples'] == int(result['num_samples']))
  ]
  figures.check_columns(frame, ['value', 'se'])
  step = records.result_step(
    records.read_manifest(run), frame.to_dict('records')
  )
  last = frame[frame['step'] == step].set_index('metric')
  return {
    'value': (weights * last['value'][weights.index]).sum(),
    'se': last['se'].iloc[0] if len(weights) == 1 else np.nan,
    'steps': int(last['step'].iloc[0]),
  }


def _over_steps(
  run: pathlib.Path, result: pd.Series, weights: pd.Series
) -> dict[str, float]:
  """The mean over the first step and every `log_every`th, of those named.

  Powers of two are logged besides, and would weigh the beginning.
  """
  first, last = map(int, result['steps'].split('-'))
  every = records.read_config(run)['log_every']
  terms = records.read_table(run, records.TERMS)
  frame = (
    records.read_table(run, records.TRAIN)
    .set_index('step')
    .join(terms.pivot(index='step', columns='term', values='value'))
  )
  step = frame.index
  frame = frame[
    ((step == 1) | (step % every == 0)) & (step >= first) & (step <= last)
  ]
  if step.max() < last:
    raise figures.FigureError(f'{run} ends at step {step.max():,}')
  return {
    'value': (frame[weights.index].mean() * weights).sum(),
    'se': np.nan,
    'steps': last,
  }


def _value(frame: pd.DataFrame) -> str:
  """Mean and error: over seeds where there are several, else over examples."""
  if len(frame) > 1:
    value, error = frame['value'].agg(['mean', 'sem'])
    return f'{table.show(value, error)} (over seeds)'
  value, error, example = frame.iloc[0][['value', 'se', 'example']]
  over = '' if np.isnan(error) else f' (over {example}s)'
  return table.show(value, error) + over


def render() -> str:
  """Returns the table, in Markdown."""
  published = read()
  results = [obtained(result) for _, result in published.iterrows()]
  numbers = published[['what', 'source', 'published']].assign(
    obtained=[_value(r) for r in results],
    seeds=[', '.join(map(str, sorted(r['seed']))) for r in results],
    steps=[f'{r["steps"].max():,}' for r in results],
    **{'minutes a run': [f'{r["seconds"].mean() / 60:.1f}' for r in results]},
  )
  recipes = published.drop_duplicates('command')
  commands = pd.DataFrame(
    {
      'command': '`' + recipes['command'] + '`',
      'difference in recipe': recipes['difference'],
    }
  )
  return f'{table.markdown(numbers)}\n\n{table.markdown(commands)}'


def main() -> None:
  """Prints the table."""
  command.Parser('published', __doc__).parse_args()
  command.main('published', lambda: iter([render()]))


if __name__ == '__main__':
  main()
