"""Results of runs as a table: mean ± standard error over seeds.

A second table holds the differences between settings, paired by seed, and
says which of them are larger than chance: paired t-tests at the 5% level, with
Holm's correction for the number of differences of a metric.
"""

import argparse
import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis import command, figures, frames, wording
from launch import process, records

_LEVEL = 0.05

_PAIRS = (
  'Differences, first minus second, ± one standard error over seeds. * marks '
  "what is larger than chance: paired by seed, t-test at 5%, Holm's correction."
)
_EQUAL = ' What is the same for every seed (± 0) has no such test.'


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
  wide = _tidy(table, settings).set_index(['metric', 'seed', 'configuration'])
  wide = wide['value'].unstack(sort=False)
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

  # One alone, or equal, as of counts, but for how they were rounded.
  if len(differences) < 2 or np.allclose(
    differences, differences.mean(), rtol=1e-9, atol=0.0
  ):
    return np.nan
  return float(scipy.stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: pd.Series) -> pd.Series:
  """Returns p-values corrected for their number (Holm 1979); NaN stays."""
  ordered = p_values.dropna().sort_values()
  steps = ordered * np.arange(len(ordered), 0, -1)
  return steps.cummax().clip(upper=1.0).reindex(p_values.index)


def means(runs: frames.Runs, metrics: Sequence[str]) -> pd.DataFrame:
  """Returns what `summarise` says of runs, with one seed's error over images.

  Args:
    runs: the runs.
    metrics: of eval.csv.

  Returns:
    As of `summarise`, and `mark`, ' †' where the error is over images and not
    all are.
  """
  runs.check_counted()
  settings = runs.varying
  result = summarise(runs.table[['seed', *settings, *metrics]], settings)
  result['mark'] = ''
  alone = result['num_seeds'] == 1
  if not alone.any():
    return result
  configurations = dict(
    zip(
      runs.table['run'],
      frames.configuration(runs.table, settings),
      strict=True,
    )
  )
  errors = {}
  for run in runs.counted:
    own = records.read_results(run.path, run.manifest, 'se')
    for metric, error in own.items():
      errors[configurations[run.name], metric] = error
  keys = zip(result['configuration'], result['metric'], strict=True)
  found = pd.Series([errors.get(key, np.nan) for key in keys], result.index)
  marked = alone & found.notna()
  return result.assign(
    se=result['se'].where(~marked, found),
    mark=marked.map({True: '' if alone.all() else ' †', False: ''}),
  )


def error_in_words(means: pd.DataFrame, example: str) -> str:
  """Returns what the errors in a table of `means` are over; empty for none.

  Args:
    means: the table.
    example: as of `frames.Runs.example`.
  """
  if means['se'].isna().all():
    return ''
  if (means['num_seeds'] == 1).all():
    return f'± is one standard error over {example}s.'
  words = '± is one standard error over seeds'
  marked = f', or, where marked †, of one seed over {example}s'
  return f'{words}{marked if means["mark"].any() else ""}.'


def _tidy(table: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
  """A row for each seed and result: configuration, seed, metric, value.

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
  return frames.over_repeats(long, ['configuration', 'metric'])


def show(value: float, se: float, in_figure: bool = False) -> str:
  """Returns a number with its error, both to the error's second digit.

  A count has none; other numbers without an error have three digits or two
  after their point. Those beyond what float64 counts one by one are short.

  Args:
    value: the number.
    se: its error; NaN for none.
    in_figure: whether it is short, as in figures: to the error's first digit,
      or second where that is 1, and of at most four significant digits.

  An error that is less than these show says so: '0.9951 ± <0.0001'.
  """
  if not max(abs(value), 0.0 if np.isnan(se) else se) < 2**53:
    text = wording.tick_labels([value, se])
    return text[0] if np.isnan(se) else ' ± '.join(text)
  if np.isnan(se) and value == round(value):
    return wording.number(value, 0)
  # Of so many significant digits, after rounding to these.
  decimals = lambda count: (
    count - 1 - int(f'{value:.{count - 1}e}'.split('e')[1])
  )
  most = decimals(4) if in_figure else 6
  if np.isnan(se):
    return _rounded(value, min(max(2, decimals(3)), most))
  if se == 0:
    return wording.with_minus(f'{round(value, most):z.15g}') + ' ± 0'
  is_one_digit = in_figure and f'{se:e}'[0] != '1'
  digits = 1 - is_one_digit - int(np.floor(np.log10(se)))
  if se < 10.0**-most:
    return f'{_rounded(value, most)} ± <{_rounded(10.0**-most, most)}'
  digits = min(digits, most) if in_figure else max(0, min(digits, most))
  return f'{_rounded(value, digits)} ± {_rounded(se, digits)}'


def _rounded(value: float, digits: int) -> str:
  """A number to so many digits after its point, or before it below zero."""
  return wording.number(round(value, digits), max(0, digits))


def cells(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
  """Returns a table of text, with a column for each metric.

  Args:
    frame: from `means`, `summarise` or `differences`; `mark` ends a cell.
    keys: the columns that name a row.
  """
  text = pd.Series([*map(show, frame['value'], frame['se'])], frame.index)
  if 'mark' in frame:
    text += frame['mark']
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
  '†': r'$\dagger$',
  'β': r'$\beta$',
  '²': '$^2$',
  '_': ' ',  # Names as one writes them.
  '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}',
} | {letter: f'\\{letter}' for letter in '&%$#{}'}

_NUMBER = re.compile(r'(−?\d+)(\.\d+)?(?: ± (<?\d+)(\.\d+)?)?( \*| †)?')


def _escape(text: str) -> str:
  return ''.join(_LATEX.get(letter, letter) for letter in text)


def _aligned(cells: Sequence[str]) -> list[str] | None:
  """Numbers in LaTeX that align at their decimal points, and at their errors'.

  What a cell lacks beside the longest one is there without ink, which needs no
  package. None where a cell is no number.
  """
  parts = []
  for cell in cells:
    match = _NUMBER.fullmatch(cell)
    if cell and not match:
      return None
    parts.append(match.groups('') if match else ('',) * 5)
  decimals, whole, error_decimals = (
    max((part[k] for part in parts), key=len) for k in (1, 2, 3)
  )

  def pad(text: str, full: str) -> str:
    lacking = full[len(text) :]
    return text + (rf'\phantom{{{lacking}}}' if lacking else '')

  lines = []
  for value, digits, error, error_digits, mark in parts:
    text = value.replace('−', '-') + pad(digits, decimals)
    if error:
      lacking = whole[: len(whole) - len(error)]
      text += r' \pm ' + (rf'\phantom{{{lacking}}}' if lacking else '')
      text += error + pad(error_digits, error_decimals)
    elif whole:
      text += rf'\phantom{{{{}} \pm {whole}{error_decimals}}}'
    mark = {' *': r'\rlap{$^{*}$}', ' †': r'\rlap{$^{\dagger}$}'}.get(mark, '')
    lines.append(f'${text}${mark}' if value else '')
  return lines


def latex(frame: pd.DataFrame, caption: str) -> str:
  """Returns a table of text in LaTeX, for the package booktabs.

  Numbers align at their decimal points, and names are words.

  Args:
    frame: of text.
    caption: of the table.
  """
  columns, headers, kinds = [], [], ''
  for name in frame.columns:
    cells = frame[name].astype(str).tolist()
    aligned = _aligned(cells)
    columns.append(aligned or [*map(_escape, cells)])
    header = _escape(wording.name(name))
    headers.append(
      rf'\multicolumn{{1}}{{c}}{{{header}}}' if aligned else header
    )
    kinds += 'r' if aligned else 'l'
  rows = zip(*columns, strict=True)
  return '\n'.join(
    [
      r'\begin{table}',
      r'\centering',
      rf'\caption{{{_escape(caption)}}}',
      rf'\begin{{tabular}}{{{kinds}}}',
      r'\toprule',
      ' & '.join(headers) + r' \\',
      r'\midrule',
      *(' & '.join(row) + r' \\' for row in rows),
      r'\bottomrule',
      r'\end{tabular}',
      r'\end{table}',
    ]
  )


def _by_unit(metrics: Sequence[str], example: str) -> dict[str, str]:
  """The metrics that have a unit, as one writes them, by what it is."""
  names: dict[str, list[str]] = {}
  for metric in metrics:
    if unit := wording.unit(metric, example):
      names.setdefault(unit, []).append(wording.name(metric))
  return {unit: ', '.join(named) for unit, named in names.items()}


def both(
  runs: frames.Runs, metrics: Sequence[str]
) -> tuple[tuple[pd.DataFrame, str], tuple[pd.DataFrame, str] | None]:
  """Returns the table of means and that of differences, each with a caption.

  Args:
    runs: the runs.
    metrics: of eval.csv.

  Returns:
    Tables of text; None for the second where nothing can be compared.

  Raises:
    FigureError: no results.
  """
  single = means(runs, metrics)
  parts = [
    'One seed' if (single['num_seeds'] == 1).all() else 'Mean over seeds'
  ]
  units = _by_unit(metrics, runs.example)
  parts += [f'{names} in {unit}' for unit, names in units.items()]
  errors = error_in_words(single, runs.example)
  caption = f'{"; ".join(parts)}. {errors}'.strip()
  if runs.left_out:
    caption += f' Left out, as not finished: {runs.left_out}.'
  first = (cells(single, ['configuration']), caption)
  columns = ['seed', *runs.varying, *metrics]
  pairs = differences(runs.table[columns], runs.varying)
  if pairs.empty:
    return first, None
  stars = pairs['larger_than_chance'].map({True: ' *', False: ''})
  shown = cells(pairs.assign(mark=stars), ['first', 'second'])
  is_equal = pairs['p'].isna() & (pairs['value'] != 0)
  return first, (shown, _PAIRS + (_EQUAL if is_equal.any() else ''))


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
  metrics = [*(metrics or runs.metrics)]
  if form == 'csv':
    # One tidy table, for programs: a row for each number.
    single, settings = means(runs, metrics), runs.varying
    pairs = differences(runs.table[['seed', *settings, *metrics]], settings)
    single = single.rename(columns={'configuration': 'first'})
    kinds = [single.assign(kind='mean'), pairs.assign(kind='difference')]
    order = ['kind', 'first', 'second', 'metric', 'value', 'se', 'num_seeds']
    together = pd.concat([kind for kind in kinds if len(kind)])
    together = together.reindex(columns=[*order, 'p', 'larger_than_chance'])
    return together.to_csv(index=False).rstrip('\n')
  tables = [
    (shown, f'{runs.describe()}. {caption}')
    for shown, caption in filter(None, both(runs, metrics))
  ]
  if form == 'latex':
    needed = r'% \usepackage{booktabs}'
    return '\n\n'.join([needed, *(latex(*each) for each in tables)])
  return '\n\n'.join(f'{markdown(shown)}\n\n{text}' for shown, text in tables)


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
