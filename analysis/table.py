"""Results of runs as a table: mean ± standard error over seeds.

A second table holds the differences between settings, paired by seed, and
says which of them are larger than chance: paired t-tests at the 5% level, with
Holm's correction for the number of differences of a metric.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import command, figures, frames
from launch import process, records

_LEVEL = 0.05

_NOTE = (
  '± is one standard error over seeds. * marks a difference, first minus '
  'second, that is larger than chance: paired by seed, t-test at 5%, '
  "Holm's correction."
)


def summarise(table: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
  """Returns mean and standard error over seeds.

  Args:
    table: a row for each run: settings, and results that are numbers.
    settings: the columns that tell configurations apart; `seed` is none.

  Returns:
    A row for each configuration and metric: `configuration`, `metric`, `value`,
    `se` (NaN for one seed), `num_seeds`. A metric that a configuration lacks
    has no row.
  """
  long = _tidy(table, settings)
  result = (
    long.groupby(['configuration', 'metric'], sort=False)['value']
    .agg(value='mean', se='sem', num_seeds='count')
    .reset_index()
  )
  return result


def differences(table: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
  """Compares configurations that differ in one setting, seed by seed.

  Args:
    table: as in `summarise`, with the column seed.
    settings: likewise.

  Returns:
    A row for each pair and metric that share two seeds or more: `first`,
    `second`, `metric`, `value` (the mean of first - second), `se`, `num_seeds`,
    `p` (of a paired t-test, corrected by Holm's method over the pairs of the
    metric; NaN where all differences are equal), and `larger_than_chance`.
  """
  import scipy.stats  # Slow, and --help has no use for it.

  long = _tidy(table, settings)
  words = table[list(settings)].map(records.text)
  words['configuration'] = frames.configuration(table, settings)
  words = words.drop_duplicates().set_index('configuration')
  pairs = [
    (a, b)
    for a, b in itertools.combinations(words.index, 2)
    if (words.loc[a] != words.loc[b]).sum() == 1
  ]
  rows: list[dict[str, Any]] = []
  for metric, group in long.groupby('metric', sort=False):
    by_seed = group.pivot_table(
      index='seed', columns='configuration', values='value'
    )
    tested: list[dict[str, Any]] = []
    for first, second in pairs:
      if first not in by_seed or second not in by_seed:
        continue
      paired = (by_seed[first] - by_seed[second]).dropna()
      if len(paired) < 2:
        continue
      mean, se = float(paired.mean()), float(paired.sem())
      # Equal differences, as of counts, say nothing about their spread.
      p = float(scipy.stats.ttest_1samp(paired, 0).pvalue) if se else np.nan
      tested.append(
        {
          'first': first,
          'second': second,
          'metric': metric,
          'value': mean,
          'se': se,
          'num_seeds': len(paired),
          'p': p,
        }
      )
    known = [row for row in tested if not np.isnan(row['p'])]
    corrected = holm([row['p'] for row in known])
    for row, p in zip(known, corrected, strict=True):
      row['p'] = p
    rows += tested
  frame = pd.DataFrame(
    rows,
    columns=['first', 'second', 'metric', 'value', 'se', 'num_seeds', 'p'],
  )
  return frame.assign(larger_than_chance=frame['p'] < _LEVEL)


def holm(p_values: Sequence[Any]) -> list[float]:
  """P-values corrected for their number (Holm 1979)."""
  count = len(p_values)
  order = np.argsort(p_values)
  steps = [p_values[k] * (count - place) for place, k in enumerate(order)]
  corrected = np.empty(count)
  corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
  return corrected.tolist()


def _tidy(table: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
  """A row for each run and result: configuration, seed, metric, value.

  Raises:
    FigureError: no results.
  """
  figures.check_columns(table, ['seed', *settings])
  metrics = [name for name in table.columns if name not in (*settings, 'seed')]
  frame = table[['seed', *metrics]].assign(
    configuration=frames.configuration(table, settings)
  )
  long = frame.melt(
    ['configuration', 'seed'], metrics, 'metric', 'value'
  ).dropna()
  if long.empty:
    raise figures.FigureError('no run has a result yet')
  return long


def show(value: float, se: float) -> str:
  """Returns a number with its error, both to the error's second digit."""
  if np.isnan(se):
    return figures.number(value, 2)
  if se == 0:
    return f'{value:g} ± 0'.replace('-', '−')
  digits = max(0, min(6, 1 - int(np.floor(np.log10(se)))))
  return f'{figures.number(value, digits)} ± {figures.number(se, digits)}'


def cells(
  frame: pd.DataFrame, keys: Sequence[str], star: str | None = None
) -> list[list[str]]:
  """Returns a header and rows of text, with a column for each metric.

  Args:
    frame: from `summarise` or `differences`.
    keys: the columns that name a row.
    star: the column that marks a cell where it is true.
  """
  metrics = list(frame['metric'].unique())
  rows: dict[tuple[str, ...], dict[str, str]] = {}
  for record in frame.to_dict('records'):
    text = show(record['value'], record['se'])
    mark = ' *' if star and record[star] else ''
    row = rows.setdefault(tuple(record[key] for key in keys), {})
    row[record['metric']] = text + mark
    row['seeds'] = str(record['num_seeds'])
  return [
    [*keys, 'seeds', *metrics],
    *(
      [*(key or 'all' for key in names), row['seeds']]
      + [row.get(metric, '') for metric in metrics]
      for names, row in rows.items()
    ),
  ]


def markdown(rows: Sequence[Sequence[str]]) -> str:
  """Returns a table in Markdown, the header first."""
  lines = [
    '| ' + ' | '.join(cell.replace('|', r'\|') for cell in row) + ' |'
    for row in rows
  ]
  return '\n'.join([lines[0], '|' + '---|' * len(rows[0]), *lines[1:]])


_LATEX = {
  '\\': r'\textbackslash{}',
  '−': '$-$',
  '±': r'$\pm$',
  '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}',
} | {letter: f'\\{letter}' for letter in '&%$#_{}'}


def latex(rows: Sequence[Sequence[str]]) -> str:
  """Returns a table in LaTeX, for the package booktabs; the header first."""
  lines = [
    ' & '.join(
      ''.join(_LATEX.get(letter, letter) for letter in cell) for cell in row
    )
    + r' \\'
    for row in rows
  ]
  return '\n'.join(
    [
      r'\begin{tabular}{' + 'l' * len(rows[0]) + '}',
      r'\toprule',
      lines[0],
      r'\midrule',
      *lines[1:],
      r'\bottomrule',
      r'\end{tabular}',
    ]
  )


def render(runs: frames.Runs, metrics: Sequence[str], form: str) -> str:
  """Returns both tables as text.

  Args:
    runs: the runs.
    metrics: of eval.csv; none for all that there are.
    form: 'markdown', 'csv' or 'latex'.

  Raises:
    FigureError: no such metric, or no results.
  """
  runs.check_metrics(*metrics)
  settings = runs.varying
  columns = ['seed', *settings, *(metrics or runs.metrics)]
  table = runs.table[columns]
  means, pairs = summarise(table, settings), differences(table, settings)
  if form == 'csv':
    # One tidy table, for programs: a row for each number.
    means = means.rename(columns={'configuration': 'first'})
    kinds = [means.assign(kind='mean'), pairs.assign(kind='difference')]
    order = ['kind', 'first', 'second', 'metric', 'value', 'se', 'num_seeds']
    together = pd.concat([kind for kind in kinds if len(kind)])
    together = together.reindex(columns=[*order, 'p', 'larger_than_chance'])
    return together.to_csv(index=False).rstrip('\n')
  draw = {'markdown': markdown, 'latex': latex}[form]
  parts = [draw(cells(means, ['configuration']))]
  if len(pairs):
    parts.append(draw(cells(pairs, ['first', 'second'], 'larger_than_chance')))
  lacking = runs.table[runs.table['status'] != 'finished']
  note = _NOTE if len(pairs) else _NOTE.split('. ')[0] + '.'
  if len(lacking):
    counts = lacking['status'].value_counts()
    listed = ', '.join(f'{count} {status}' for status, count in counts.items())
    note += f' Of {len(runs.table)} runs not all are finished: {listed}.'
  if form == 'latex':
    note = f'% {note}'
  return '\n\n'.join([*parts, note])


def _print(arguments: argparse.Namespace) -> Iterator[object]:
  text = render(
    command.find_runs(arguments), arguments.metric or [], arguments.format
  )
  if not arguments.output:
    yield text
    return
  suffix = {'markdown': 'md', 'csv': 'csv', 'latex': 'tex'}[arguments.format]
  path = process.user_path(f'{arguments.output}.{suffix}')
  records.write_figure(path, f'{text}\n'.encode())
  yield path


def main() -> None:
  """Prints the tables."""
  parser = command.parser(
    'table', __doc__, True, 'file without suffix; default: the terminal'
  )
  parser.add_list('--metric', 'of eval.csv, by default all')
  parser.add_argument(
    '--format',
    default='markdown',
    choices=('markdown', 'csv', 'latex'),
    help='of the tables',
  )
  arguments = parser.parse_args()
  command.main('table', lambda: _print(arguments))


if __name__ == '__main__':
  main()
