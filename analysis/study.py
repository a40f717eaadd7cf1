"""Study: how objective, strength and seed share the variance of each score.

As in section 5.3 of Locatello et al. 2019, https://arxiv.org/abs/1811.12359,
for any sweep whose runs are scored: objectives first, then what varies within
them, then seeds. --correlations draws how scores agree in the order of models,
and --tables prints the numbers of both in Markdown.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, frames, scores, table, wording
from launch import records

_LEVEL = 0.05

# Results that need no factors, and by which a model could be chosen.
_RESULTS = ('elbo_nats', 'rate_nats')

_SEED, _GREY = 'seed', '#b3b3b3'
_SHARES = ('share', 'chance', 'p')


def read_frame(runs: frames.Runs) -> tuple[pd.DataFrame, list[str], list[str]]:
  """Returns the settings, results and scores of runs that have finished.

  Returns:
    A row for each seed with a column for each setting that varies, as text,
    `seed`, and those of measures; the measures that need no factors, results
    first; and those that do.

  Raises:
    FigureError: no run is scored, or has finished.
    RecordError: a damaged table.
  """
  runs.check_counted()
  found: dict[str, dict[str, float]] = {}
  needs: dict[str, bool] = {}
  for run in runs.counted:
    rows = scores.read_scores(run)
    for row in rows.to_dict('records'):
      name = ' '.join(filter(None, (row['score'], row['variant'])))
      found.setdefault(run.name, {})[name] = row['value']
      # What needs no factors has no floor, where these are permuted.
      needs[name] = needs.get(name, False) or not np.isnan(row['floor'])
  of_sweep = []
  if (runs.folder / records.SWEEP).exists():
    of_sweep = records.read_rows(runs.folder, records.SWEEP_SCORES)
  for row in of_sweep:
    if row['run_dir'] in found:
      name = f'{row["score"]} {row["variant"]}'
      found[row['run_dir']][name] = float(row['value'])
      needs[name] = False
  if not found:
    raise figures.FigureError(
      'no run has scores; python -m launch.evaluate --scores=all gives them'
    )
  frame = runs.table[runs.table['run'].isin(found)].reset_index(drop=True)
  measured = pd.DataFrame([found[name] for name in frame['run']])
  results = [name for name in _RESULTS if name in frame]
  settings = frame[runs.varying].map(records.text)
  frame = pd.concat([settings, frame[[_SEED, *results]], measured], axis=1)
  frame = frames.over_repeats(frame, runs.varying)
  unlabelled = [name for name, is_needed in needs.items() if not is_needed]
  labelled = [name for name, is_needed in needs.items() if is_needed]
  return frame, [*results, *unlabelled], labelled


def applies(runs: frames.Runs) -> bool:
  """Returns whether runs are scored, and their seeds tell what is chance."""
  if not runs.varying:
    return False
  scored = [
    run.name for run in runs.counted if (run.path / records.SCORES).exists()
  ]
  rows = runs.table[runs.table['run'].isin(scored)]
  settings = rows[runs.varying].map(records.text)
  cells = rows[_SEED].groupby([settings[name] for name in runs.varying])
  return bool(cells.nunique().max() > 1)


def nesting(runs: frames.Runs) -> list[str]:
  """Returns the settings that vary, objectives before what is within them."""
  return sorted(runs.varying, key=lambda name: name != 'objective')


# -- Variance -----------------------------------------------------------------


def variance(
  frame: pd.DataFrame, settings: Sequence[str], measures: Sequence[str]
) -> pd.DataFrame:
  """Takes the variance of measures over runs apart.

  Eta squared of a nested analysis of variance: each setting has the sum of
  squares between its values' means, within the settings before it, and `seed`
  what is left within all of them.

  Args:
    frame: a row for each run, with columns for settings and measures.
    settings: outermost first.
    measures: the columns that are taken apart.

  Returns:
    A row for each measure and level: `measure`, `level` (a setting or seed),
    `share` (of the variance), `chance` (the share that it has of noise, on
    average: that of the degrees of freedom) and `p` (of an F-test against
    seeds, corrected by Holm's method over the measures; NaN for seeds).

  Raises:
    FigureError: no cell has two seeds.
  """
  import scipy.stats  # Slow, and --help has no use for it.

  rows = []
  for measure in measures:
    known = frame[[*settings, measure]].dropna()
    values = known[measure]
    means = [pd.Series(values.mean(), values.index)]
    groups = [1]
    for depth in range(1, len(settings) + 1):
      grouped = known.groupby(list(settings[:depth]))[measure]
      means.append(grouped.transform('mean'))
      groups.append(grouped.ngroups)
    means.append(values)
    groups.append(len(values))
    squares = [
      float(((inner - outer) ** 2).sum())
      for outer, inner in itertools.pairwise(means)
    ]
    freedom = [inner - outer for outer, inner in itertools.pairwise(groups)]
    if not freedom[-1]:
      raise figures.FigureError('seeds tell what is chance: give several')
    noise = squares[-1] / freedom[-1]
    for level, square, free in zip(
      [*settings, _SEED], squares, freedom, strict=True
    ):
      tested = level != _SEED and free and noise
      rows.append(
        {
          'measure': measure,
          'level': level,
          'share': square / sum(squares) if any(squares) else np.nan,
          'chance': free / sum(freedom),
          'p': scipy.stats.f.sf(square / free / noise, free, freedom[-1])
          if tested
          else np.nan,
        }
      )
  result = pd.DataFrame(rows, columns=['measure', 'level', *_SHARES])
  for level in settings:
    tested = (result['level'] == level) & result['p'].notna()
    result.loc[tested, 'p'] = table.holm(result.loc[tested, 'p'])
  return result


def plot_variance(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws the shares of each measure's variance as a bar.

  Args:
    frame: from `variance`.
    title: of the figure.
    page: what it is drawn for.
  """
  figures.check_columns(frame, ['measure', 'level', *_SHARES])
  frame = frame.assign(measure=frame['measure'].map(wording.name))
  frame['level'] = frame['level'].map(wording.name)
  levels = list(dict.fromkeys(frame['level']))
  measures = list(dict.fromkeys(frame['measure']))
  frame = frame.assign(
    measure=pd.Categorical(frame['measure'], measures[::-1]),
    # Bars are stacked from the last level to the first.
    level=pd.Categorical(frame['level'], levels[::-1]),
  )
  chances = frame.drop_duplicates('level')
  by_chance = ', '.join(
    f'{row["level"]} {row["chance"]:.0%}' for row in chances.to_dict('records')
  )
  legend = colours.legend(levels, page)
  # Not those that tell objectives apart; seeds, which explain none, are grey.
  palette = itertools.cycle((*colours.PALETTE[4:], *colours.PALETTE[:4]))
  shades = {
    level: _GREY if level == _SEED else shade
    for level, shade in zip(levels, palette, strict=False)
  }
  return (
    gg.ggplot(frame.dropna(subset=['share']), gg.aes('measure', 'share'))
    # In grey print the levels are told apart by their order.
    + gg.geom_col(gg.aes(fill='level'), width=0.75, color='#ffffff', size=0.5)
    + gg.coord_flip()
    + gg.scale_fill_manual(
      shades,
      breaks=levels,
      guide=legend.guide,
    )
    + gg.scale_y_continuous(
      name='share of the variance over runs',
      labels=wording.tick_labels,
      expand=(0, 0, 0, 0.02),
    )
    + gg.labs(x='', fill='')
    + figures.dress(
      page,
      0.9 + 0.2 * len(measures),
      title,
      'Each level within those before it (eta squared). Of a score that is '
      f'noise: {by_chance}.',
    )
  )


# -- Correlations -------------------------------------------------------------


def correlations(
  frame: pd.DataFrame, first: Sequence[str], second: Sequence[str]
) -> pd.DataFrame:
  """Returns Spearman's rank correlations between measures over runs.

  Args:
    frame: a row for each run, with a column for each measure.
    first: measures.
    second: measures.

  Returns:
    A row for each pair: `first`, `second`, `value` (NaN where one does not
    vary) and `num_runs`.
  """
  rows = []
  for one in first:
    for other in second:
      known = frame[[one, other] if one != other else [one]].dropna()
      ranks = known.rank()
      varies = len(known) > 1 and (ranks.nunique() > 1).all()
      value = np.corrcoef(ranks[one], ranks[other])[0, 1] if varies else np.nan
      rows.append(
        {'first': one, 'second': other, 'value': value, 'num_runs': len(known)}
      )
  return pd.DataFrame(rows, columns=['first', 'second', 'value', 'num_runs'])


def plot_correlations(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws rank correlations as a heat map.

  Args:
    frame: from `correlations`.
    title: of the figure.
    page: what it is drawn for.
  """
  figures.check_columns(frame, ['first', 'second', 'value', 'num_runs'])
  frame = frame.assign(
    first=frame['first'].map(wording.name),
    second=frame['second'].map(wording.name),
  )
  first = list(dict.fromkeys(frame['first']))
  second = list(dict.fromkeys(frame['second']))
  frame = frame.assign(
    first=pd.Categorical(frame['first'], first[::-1]),
    second=pd.Categorical(frame['second'], second),
    label=frame['value'].map(_number(2), na_action='ignore').fillna(''),
    # Only the darkest blue is darker than what white letters need.
    ink=np.where(frame['value'] > 0.9, '#ffffff', '#000000'),
  )
  beside = max(figures.text_width(name, page) for name in first)
  cell = (page.width - beside - 0.2) / len(second)
  size = min(5.5, 0.85 * cell / figures.text_width('−0.00', page, 1))
  return (
    gg.ggplot(frame, gg.aes('second', 'first', fill='value'))
    + gg.geom_tile(color='white', size=0.5)
    + gg.geom_text(gg.aes(label='label', color='ink'), size=size)
    + gg.scale_color_identity()
    + gg.scale_fill_gradient2(
      low=colours.PALETTE[1],
      mid='#f7f7f7',
      high=colours.PALETTE[0],
      limits=(-1, 1),
      na_value='#d9d9d9',
      guide=None,
    )
    + gg.labs(x='', y='')
    + figures.dress(
      page,
      1.4 + 0.22 * len(first),
      title,
      f"Spearman's rank correlations over {frame['num_runs'].max()} runs, "
      'whatever their settings.',
    )
    + gg.theme(
      axis_text_x=gg.element_text(rotation=45, ha='right'),
      panel_grid_major=gg.element_blank(),
    )
  )


# -- Tables -------------------------------------------------------------------


def render(runs: frames.Runs, measures: Sequence[str]) -> str:
  """Returns the study's numbers as tables in Markdown.

  Args:
    runs: of a sweep, scored.
    measures: those of interest; none for all that need factors.

  Raises:
    FigureError: no such measure, or nothing to tell from chance.
    RecordError: a damaged table.
  """
  frame, unlabelled, labelled = read_frame(runs)
  known = [*unlabelled, *labelled]
  if unknown := [name for name in measures if name not in known]:
    raise figures.FigureError(
      f'no run has the score {unknown[0]}; there are: {", ".join(known)}'
    )
  labelled = [name for name in measures or labelled if name in labelled]
  settings = nesting(runs)
  means = table.summarise(
    frame[[_SEED, *settings, *(measures or known)]], settings
  )
  parts = [table.markdown(table.cells(means, ['configuration']))]
  words = '± is one standard error over seeds.'
  if labelled:
    parts += [
      _variance_table(frame, settings, labelled),
      _correlation_table(frame, labelled, labelled),
      _correlation_table(frame, unlabelled, labelled),
    ]
    words += (
      ' Shares are eta squared, each level within those before it; * marks one '
      "that is larger than seeds explain (F-test at 5%, Holm's correction over "
      "scores). Correlations are Spearman's, over all runs."
    )
  return '\n\n'.join([*parts, words])


def _variance_table(
  frame: pd.DataFrame, settings: Sequence[str], measures: Sequence[str]
) -> str:
  parts = variance(frame, settings, measures)
  parts['text'] = parts['share'].map(_percent, na_action='ignore')
  parts.loc[parts['p'] < _LEVEL, 'text'] += ' *'
  shares = parts.set_index(['measure', 'level'])['text'].unstack(sort=False)
  spread = frame[measures].agg(['mean', 'std']).T.map(_number(3))
  wide = spread.set_axis(['mean', 'standard deviation'], axis=1).join(shares)
  chances = parts.drop_duplicates('level').set_index('level')['chance']
  wide.loc['noise'] = chances.map(_percent)
  return _markdown(wide, 'score')


def _correlation_table(
  frame: pd.DataFrame, first: Sequence[str], second: Sequence[str]
) -> str:
  found = correlations(frame, first, second).set_index(['first', 'second'])
  wide = found['value'].unstack(sort=False)
  return _markdown(wide.map(_number(2)), '')


def _percent(share: float) -> str:
  return f'{share:.0%}'


def _number(digits: int) -> Callable[[float], str]:
  return lambda value: wording.number(value, digits)


def _markdown(wide: pd.DataFrame, corner: str) -> str:
  """A table whose index is its first column."""
  wide = wide.fillna('').rename_axis(index=corner, columns=None)
  return table.markdown(wide.reset_index(names=corner))


# -- The command --------------------------------------------------------------


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  frame, _, labelled = read_frame(runs)
  return plot_variance(
    variance(frame, nesting(runs), labelled),
    command.title(arguments, runs),
    command.page(arguments),
  )


def _draw_correlations(
  runs: frames.Runs, arguments: argparse.Namespace
) -> gg.ggplot:
  frame, unlabelled, labelled = read_frame(runs)
  return plot_correlations(
    correlations(frame, [*labelled, *unlabelled], labelled),
    command.title(arguments, runs),
    command.page(arguments),
  )


def _add_options(parser: command.Parser) -> None:
  parser.add_switch(
    '--correlations', 'draw how measures agree (correlations.*)'
  )
  parser.add_switch('--tables', 'print the numbers, and draw nothing')
  parser.add_list('--metric', 'in the tables; default: all')


CORRELATIONS = command.Figure(
  'correlations',
  'Correlations: how the ranks that measures give to models agree.',
  _draw_correlations,
  "A heat map of Spearman's rank correlations between measures.",
  joint=True,
  add_options=_add_options,
)

FIGURE = command.Figure(
  'study',
  __doc__,
  _draw,
  'A bar for each score: the shares of its variance over runs that settings '
  'and seeds explain.',
  joint=True,
  add_options=_add_options,
  variants={'correlations': CORRELATIONS},
)

plot = FIGURE.plot


def main() -> None:
  """Draws a figure of the study, or prints its numbers."""
  arguments = FIGURE.parser().parse_args()
  if not arguments.tables:
    command.run(FIGURE)
    return

  def tables() -> Iterator[object]:
    yield render(command.find_runs(arguments), arguments.metric or [])

  command.main('study', tables)


if __name__ == '__main__':
  main()
