"""Results of runs as a table: mean ± standard error over seeds.

A second table holds the differences between settings, paired by seed, and
says which of them are larger than chance: paired t-tests at the 5% level, with
Holm's correction for the number of differences of a metric.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence

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
  rows = _tidy(table, settings).groupby(['configuration', 'metric'], sort=False)
  means = rows['value'].agg(value='mean', se='sem', num_seeds='count')
  return means.reset_index()


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
  columns = ['first', 'second', 'metric', 'value', 'se', 'num_seeds', 'p']
  wide = _tidy(table, settings).pivot_table(
    'value', ['metric', 'seed'], 'configuration', sort=False
  )
  words = table[list(settings)].map(records.text)
  words.index = pd.Index(frames.configuration(table, settings))
  words = words[words.index.isin(wide.columns) & ~words.index.duplicated()]
  pairs = [
    (wide[first] - wide[second])
    .dropna()
    .groupby('metric', sort=False)
    .agg(value='mean', se='sem', num_seeds='count', p=_p_value)
    .reset_index()
    .assign(first=first, second=second)
    for first, second in itertools.combinations(words.index, 2)
    if (words.loc[first] != words.loc[second]).sum() == 1
  ]
  none = pd.DataFrame(columns=columns, dtype=float)
  frame = pd.concat(pairs or [none], ignore_index=True)[columns]
  frame = frame[frame['num_seeds'] > 1]
  corrected = frame.groupby('metric')['p'].transform(holm)
  return frame.assign(p=corrected, larger_than_chance=corrected < _LEVEL)


def _p_value(differences: pd.Series) -> float:
  """Returns that of a t-test; NaN where there is no spread to go by."""
  import scipy.stats  # Slow, and --help has no use for it.

  if differences.nunique() < 2:  # Equal, as of counts, or one alone.
    return np.nan
  return float(scipy.stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: pd.Series) -> pd.Series:
  """Returns p-values corrected for their number (Holm 1979); NaN stays."""
  ordered = p_values.dropna().sort_values()
  steps = ordered * np.arange(len(ordered), 0, -1)
  return steps.cummax().clip(upper=1.0).reindex(p_values.index)


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
    return f'{figures.tick_labels([value])[0]} ± 0'
  digits = max(0, min(6, 1 - int(np.floor(np.log10(se)))))
  return f'{figures.number(value, digits)} ± {figures.number(se, digits)}'


def cells(
  frame: pd.DataFrame, keys: Sequence[str], star: str | None = None
) -> pd.DataFrame:
  """Returns a table of text, with a column for each metric.

  Args:
    frame: from `summarise` or `differences`.
    keys: the columns that name a row.
    star: the column that marks a cell where it is true.
  """
  text = pd.Series([*map(show, frame['value'], frame['se'])], frame.index)
  if star:
    text += frame[star].map({True: ' *', False: ''})
  rows = frame.assign(text=text).groupby([*keys, 'metric'], sort=False)
  wide = rows['text'].first().unstack(sort=False, fill_value='')
  seeds = frame.groupby([*keys], sort=False)['num_seeds']
  wide.insert(0, 'seeds', seeds.agg(_span))
  result = wide.reset_index().rename_axis(columns=None)
  return result.assign(**{key: result[key].replace('', 'all') for key in keys})


def _span(counts: pd.Series) -> str:
  """Returns a count, or the least and most where metrics differ in theirs."""
  return '–'.join(map(str, sorted({counts.min(), counts.max()})))


def _rows(frame: pd.DataFrame) -> list[list[str]]:
  return [list(frame.columns), *frame.to_numpy().tolist()]


def markdown(frame: pd.DataFrame) -> str:
  """Returns a table of text in Markdown."""
  header, *lines = [
    '| ' + ' | '.join(cell.replace('|', r'\|') for cell in row) + ' |'
    for row in _rows(frame)
  ]
  return '\n'.join([header, '|' + '---|' * len(frame.columns), *lines])


_LATEX = {
  '\\': r'\textbackslash{}',
  '−': '$-$',
  '–': '--',
  '±': r'$\pm$',
  '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}',
} | {letter: f'\\{letter}' for letter in '&%$#_{}'}


def latex(frame: pd.DataFrame) -> str:
  """Returns a table of text in LaTeX, for the package booktabs."""
  header, *lines = [
    ' & '.join(
      ''.join(_LATEX.get(letter, letter) for letter in cell) for cell in row
    )
    + r' \\'
    for row in _rows(frame)
  ]
  columns = 'l' * len(frame.columns)
  return '\n'.join(
    [
      rf'\begin{{tabular}}{{{columns}}}',
      r'\toprule',
      header,
      r'\midrule',
      *lines,
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
