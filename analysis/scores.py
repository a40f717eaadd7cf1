"""Scores: those of disentanglement over a setting, or of one run.

Runs are points, with their mean ± 1 standard error over seeds.
Beside them stand the floor, of codes that tell nothing of the factors, and the
scores of the factors themselves as codes.
"""

import argparse

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import (
  axis,
  colours,
  command,
  figures,
  frames,
  table,
  wording,
)
from launch import records

# What a score lies between.
FLOOR, EXACT = 'floor', 'exact'
_MARKS = (
  'Floor: of codes that tell nothing of the factors; exact: of the factors '
  'themselves as codes.'
)

# How large the letters along axes are, in points.
_TICKS = 6.0

# What is too wide above a panel.
_SHORT = {'Gaussian total correlation, nats': 'Gaussian TC, nats'}


def label(score: str, variant: str) -> str:
  """Returns a score's name, with its unit apart."""
  name = wording.name(f'{wording.name(score)} {variant}'.strip())
  return name + (', nats' if score.endswith('_nats') else '')


def read_scores(run: frames.RunFiles, step: int | None = None) -> pd.DataFrame:
  """Returns the rows of a run's scores.csv that are its result.

  Args:
    run: the run.
    step: of the weights; None for that of `records.result_step`.

  Returns:
    Those of the split that is evaluated; no rows where there are none.

  Raises:
    RecordError: a damaged table.
  """
  rows = records.read_table(run.path, records.SCORES)
  if step is None:
    step = records.result_step(run.manifest, rows.to_dict('records'))
  return rows[(rows['step'] == step) & (rows['split'] == run.split)]


def read_frame(runs: frames.Runs, x: str = '', color: str = '') -> pd.DataFrame:
  """Returns a row for each seed and score.

  Args:
    runs: the runs.
    x: the setting on the horizontal axis; empty for one run.
    color: the setting that colours; empty for all that vary besides.

  Returns:
    Columns run and seed; panel, the score; value, se, floor, exact; joint,
    whether runs were scored by comparing them; x and color, as text; series,
    what a line joins. A seed without scores has one row, of NaN.

  Raises:
    FigureError: no such setting, or no run has scores.
    RecordError: a damaged table.
  """
  runs.check_settings(x, color)
  runs.check_counted()
  others = (
    runs.varying_within(x, color)
    if x and color
    else [name for name in runs.varying if name not in (x, color)]
  )
  series = frames.configuration(
    runs.table, [*([color] if color else []), *others]
  )
  shades = runs.table[color] if color else series
  xs = runs.table[x] if x else pd.Series('', runs.table.index)
  found = {run.name: read_scores(run) for run in runs.counted}
  if (runs.folder / records.SWEEP).exists():
    joint = records.read_table(runs.folder, records.SWEEP_SCORES)
    for name, rows in joint.groupby('run_dir'):
      if name in found:
        found[name] = pd.concat([found[name], rows.assign(joint=True)])
  nothing = pd.DataFrame(columns=list(records.COLUMNS[records.SCORES]))
  parts = []
  columns = [runs.table['run'], runs.table['seed'], xs, shades, series]
  for name, seed, *place in zip(*columns, strict=True):
    rows = found.get(name, nothing)
    names = [*map(label, rows['score'], rows['variant'])] or ['']
    numbers = rows[['value', 'se', 'floor', 'exact']].astype(float)
    numbers = numbers.reset_index(drop=True).reindex(range(len(names)))
    words = dict(
      zip(('x', 'color', 'series'), map(records.text, place), strict=True)
    )
    joint = rows.get('joint', pd.Series(0.0, rows.index)).eq(1.0)
    parts.append(
      numbers.assign(
        run=name, seed=seed, panel=names, joint=[*joint] or [False], **words
      )
    )
  frame = frames.over_repeats(
    pd.concat(parts, ignore_index=True), ['panel', 'x', 'color', 'series']
  )
  if frame['value'].isna().all():
    raise figures.FigureError(
      f'no run of {runs.folder} was scored; python -m launch.evaluate '
      '--run_dir=RUN --scores=all does so'
    )
  return frame


def plot_scores(
  frame: pd.DataFrame,
  x: str,
  color: str = '',
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws every score against a setting, in a panel of its own.

  Args:
    frame: from `read_frame`.
    x: the setting on the horizontal axis.
    color: that of the colours; empty where they are names.
    title: of the figure.
    page: what it is drawn for.
  """
  columns = [
    'run',
    'panel',
    'value',
    'floor',
    'exact',
    'joint',
    'x',
    'color',
    'series',
  ]
  figures.check_columns(frame, columns)
  missing = int((frame.groupby('run')['value'].count() == 0).sum())
  scored = frame.dropna(subset='value')
  panels = list(scored['panel'].unique())
  if not panels:
    raise figures.FigureError('no run was scored yet')
  across = _columns([_SHORT.get(name, name) for name in panels], page)
  levels = frames.levels(scored['x'])
  place, scale = axis.places(scored['x'], levels, x, page, across, _TICKS)
  scored = scored.assign(
    place=place, panel=pd.Categorical(scored['panel'], panels)
  )
  step = axis.step(scored['place'].to_numpy())
  marks = _marks(scored, 0.4 * step)
  far = _far(scored)
  drawn = ~marks.set_index(['panel', 'mark']).index.isin(far.index)
  marks, far = marks[drawn], far.reset_index()
  hues = colours.hues(frames.levels(scored['color']), page, color)
  place, apart = axis.side_by_side(scored['place'], scored['series'])
  scored = scored.assign(place=place, color=hues.of(scored['color']))
  keys = ['panel', 'series', 'place']
  # A run alone is its mean.
  small = scored[scored.duplicated(keys, keep=False)]
  seeds = over_seeds(scored)
  intervals = seeds.dropna(subset='low')
  # Words have no line between them.
  lines = seeds.groupby(['panel', 'series'], observed=True).filter(
    lambda group: len(group) > 1 and axis.are_numbers(levels)
  )
  down = -(-len(panels) // across)
  height = min(1.15, (page.height - 0.8) / down)
  return (
    gg.ggplot(scored, gg.aes('place', 'value'))
    + gg.facet_wrap(
      'panel',
      ncol=across,
      scales='free_y',
      labeller=lambda name: _SHORT.get(name, name),
    )
    + gg.geom_line(
      gg.aes(linetype='mark', group='mark'), marks, color='#595959', size=0.4
    )
    + gg.geom_line(
      gg.aes(y='mean', color='color', group='series'), lines, size=0.5
    )
    + gg.geom_linerange(
      gg.aes(y='mean', ymin='low', ymax='high', color='color'),
      intervals,
      size=0.5,
    )
    + gg.geom_point(gg.aes(y='mean', color='color'), seeds, size=1.4, stroke=0)
    + gg.geom_point(
      gg.aes(color='color'),
      small.assign(place=small['place'] + 0.4 * apart),
      size=0.9,
      stroke=0,
    )
    + gg.geom_text(
      gg.aes(np.inf, 'edge', label='words', va='va'),
      far,
      ha='right',
      size=5.5,
      color='#404040',
    )
    + gg.geom_blank(gg.aes(y='room'), far)
    + scale
    + gg.scale_y_continuous(name='', labels=wording.tick_labels)
    + gg.scale_linetype_manual(
      {FLOOR: 'dashed', EXACT: 'dotted'}, guide=gg.guide_legend(order=2)
    )
    + gg.labs(linetype='')
    + figures.dress(
      page,
      down * height + 0.5 + 0.16 + hues.height,
      title,
      (
        f'Small points: the {frames.seeds_in_words(scored, keys)}; large: '
        'their mean ±\N{NO-BREAK SPACE}1 standard error. '
        if len(small)
        else 'One seed each. '
      )
      + _MARKS
      + (
        ' An arrow stands for a line that is far beyond the scores, with its '
        'mean over runs.'
        if len(far)
        else ''
      )
      + (
        ' Gaussian TC: the total correlation of a Gaussian with the '
        "codes' covariance."
        if _SHORT.keys() & set(panels)
        else ''
      )
      + (
        ' UDR compares seeds with each other and has no standard error.'
        if scored['joint'].any()
        else ''
      )
      + (
        f' Not shown, not finished or without scores: {missing} '
        f'run{"s" * (missing > 1)}.'
        if missing
        else ''
      )
      + f' {wording.note(x, color)} {hues.note}',
      has_strips=True,
    )
    + hues.layers
    + gg.theme(
      axis_text=gg.element_text(size=_TICKS),
      panel_spacing_y=0.1 / page.width,
      legend_box='vertical',
      legend_spacing=0.0,
    )
  )


def _columns(panels: list[str], page: figures.Page) -> int:
  """Returns the number of columns of fewest holes in which names have room.

  Args:
    panels: their names.
    page: what the figure is drawn for.
  """
  size = figures.FONT_SIZE - 1
  widest = max(figures.text_width(name, page, size) for name in panels)
  few, many = (3, 5) if page.is_double else (2, 3)
  fitting = [
    count
    for count in range(few, many + 1)
    if count == few or widest < 0.85 * page.width / count
  ]
  # Of as many holes the flatter figure.
  best = min(fitting, key=lambda count: (-len(panels) % count, -count))
  return min(best, len(panels))


def over_seeds(scored: pd.DataFrame) -> pd.DataFrame:
  """Returns the mean over seeds, and one standard error below and above it.

  Of a score that is never below zero none of these is: the standard error is
  at most the mean, which it is where all but one seed are zero.

  Args:
    scored: rows of `read_frame` with a `place` on the horizontal axis.

  Returns:
    Columns panel, series, color, place, mean, low and high; NaN for one
    seed, and for joint scores.
  """
  keys = ['panel', 'series', 'color', 'place']
  seeds = scored.groupby(keys, observed=True)
  result = seeds['value'].agg(['mean', 'sem']).reset_index()
  # Scores that compare seeds are not independent of each other.
  joint = seeds['joint'].any().to_numpy()
  error = result['sem'].mask(joint)
  low, high = result['mean'] - error, result['mean'] + error
  return result[[*keys, 'mean']].assign(low=low, high=high)


def _marks(scored: pd.DataFrame, margin: float) -> pd.DataFrame:
  """Returns the lines of floor and mark: means over runs at each place.

  Args:
    scored: with a `place` for each row.
    margin: how far they go on beyond the outer places.
  """
  long = scored.rename(columns={'floor': FLOOR, 'exact': EXACT})
  long = long.melt(['panel', 'place'], [FLOOR, EXACT], 'mark', 'mean').dropna()
  means = long.groupby(['panel', 'mark', 'place'], observed=True)
  means = means['mean'].mean().reset_index()
  ends = means.groupby(['panel', 'mark'], observed=True)
  first, last = ends.head(1), ends.tail(1)
  lines = pd.concat(
    [
      first.assign(place=first['place'] - margin),
      means,
      last.assign(place=last['place'] + margin),
    ]
  ).rename(columns={'mean': 'value'})
  lines['mark'] = pd.Categorical(lines['mark'], [FLOOR, EXACT])
  return lines


def _far(scored: pd.DataFrame) -> pd.DataFrame:
  """Returns floors and marks that would squeeze a panel's scores, in words.

  Beside such a line they would have less than two thirds of the height; it is
  at a panel's edge instead. Scores that do not differ leave all lines room.

  Returns:
    By panel and mark, columns words, edge and va, where they stand, and room,
    a value as far as they reach.
  """
  long = scored.melt(['panel', 'value'], [FLOOR, EXACT], 'mark', 'at').dropna()
  found = long.groupby(['panel', 'mark'], observed=True).agg(
    low=('value', 'min'),
    high=('value', 'max'),
    least=('at', 'min'),
    most=('at', 'max'),
    mean=('at', 'mean'),
  )
  span = found['high'] - found['low']
  beside = span.mask(span < 1e-6, np.inf) / 2
  is_above = found['least'] > found['high'] + beside
  is_below = found['most'] < found['low'] - beside
  found['side'] = 1 * is_above - 1 * is_below
  found = found.assign(span=span)[found['side'] != 0]
  line = 1 + found.groupby(['panel', 'side'], observed=True).cumcount()
  texts = []
  for (_, mark), mean, side, count in zip(
    found.index, found['mean'], found['side'], line, strict=True
  ):
    text, other = f'{mark} {table.show(mean, np.nan, True)}', '\n' * (count - 1)
    texts.append(f'{other}{text} ↑ ' if side > 0 else f'{text} ↓ {other}')
  outer = found['high'].where(found['side'] > 0, found['low'])
  return found.assign(
    words=texts,
    edge=found['side'] * np.inf,
    va=np.where(found['side'] > 0, 'top', 'bottom'),
    room=outer + found['side'] * line * found['span'] / 6,
  )


def plot_run_scores(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws the scores of one run, each between its floor and its mark.

  Those in nats, of another scale and without a floor, are in words below.
  """
  figures.check_columns(frame, ['panel', 'value', 'se', 'floor', 'exact'])
  frame = frame.dropna(subset='value')
  if frame.empty:
    raise figures.FigureError('no run was scored yet')
  in_nats = frame['panel'].str.endswith(', nats')
  below = [
    f'{name.removesuffix(", nats")} {table.show(value, se, True)} nats (exact '
    f'{table.show(exact, np.nan, True)})'
    for name, value, se, exact in frame.loc[
      in_nats, ['panel', 'value', 'se', 'exact']
    ].itertuples(index=False)
  ]
  frame = frame[~in_nats]
  if frame.empty:
    raise figures.FigureError(
      'no score between a floor and a mark: ' + below[0]
    )
  names = list(frame['panel'])
  frame = frame.assign(panel=pd.Categorical(frame['panel'], names[::-1]))
  frame['low'] = frame['value'] - frame['se']
  frame['high'] = frame['value'] + frame['se']
  frame['words'] = [
    table.show(value, se, in_figure=True)
    for value, se in zip(frame['value'], frame['se'], strict=True)
  ]
  measured = 'score'
  long = (
    frame.rename(columns={'value': measured, 'floor': FLOOR, 'exact': EXACT})
    .melt(['panel'], [FLOOR, measured, EXACT], 'mark', 'value')
    .dropna()
  )
  long['mark'] = pd.Categorical(long['mark'], [FLOOR, measured, EXACT])
  intervals = frame.dropna(subset='se')
  right = max(1.0, long['value'].max())
  legend = colours.legend([FLOOR, measured, EXACT], page)
  has_numbers = page.is_double
  # Inches of names and numbers, and what these add to an axis of length one.
  left, beside = (
    max(figures.text_width(text, page, size) for text in texts)
    for texts, size in ((names, figures.FONT_SIZE), (frame['words'], 6))
  )
  beside = (beside + 0.2) / (page.width - left - beside - 0.4)
  return (
    gg.ggplot(long, gg.aes('value', 'panel'))
    + gg.geom_line(gg.aes(group='panel'), color='#e6e6e6', size=2.5)
    + gg.geom_segment(
      gg.aes(x='low', xend='high', y='panel', yend='panel'),
      intervals,
      color=colours.PALETTE[0],
      size=0.9,
    )
    + gg.geom_point(gg.aes(shape='mark', fill='mark', size='mark'), stroke=0.4)
    + (
      gg.geom_text(
        gg.aes(right * 1.04, label='words'), frame, size=6, ha='left'
      )
      if has_numbers
      else gg.geom_blank()
    )
    + gg.scale_shape_manual(
      {FLOOR: '|', measured: 'o', EXACT: 'D'}, guide=legend.guide
    )
    + gg.scale_fill_manual(
      {FLOOR: '#000000', measured: colours.PALETTE[0], EXACT: '#ffffff'},
      guide=legend.guide,
    )
    + gg.scale_size_manual(
      {FLOOR: 2.2, measured: 1.8, EXACT: 1.8}, guide=legend.guide
    )
    + gg.labs(shape='', fill='', size='')
    + gg.scale_x_continuous(
      name='',
      labels=wording.tick_labels,
      breaks=np.arange(0, 1.01, 0.25),
      expand=(0.03, 0, 0.03, beside if has_numbers else 0),
    )
    + gg.scale_y_discrete(name='')
    + gg.expand_limits(x=[0.0, 1.0])
    + figures.dress(
      page,
      0.17 * len(names) + 0.45 + legend.height,
      title,
      f'{_MARKS} Grey: from the least of the three to the most. Blue line: ± 1 '
      'standard error over draws of images, where there are several.'
      + (f' Besides: {"; ".join(below)}.' if below else ''),
    )
    + gg.theme(panel_grid_major_y=gg.element_blank())
  )


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  title, page = command.title(arguments, runs), command.page(arguments)
  if len(runs.table) == 1:
    return plot_run_scores(read_frame(runs), title, page)
  x, color = axis.settings(runs, arguments.x, arguments.color)
  return plot_scores(read_frame(runs, x, color), x, color, title, page)


def _add_options(parser: command.Parser) -> None:
  parser.add_argument(
    '--x',
    metavar='SETTING',
    help='on the horizontal axis; default: of others than --color that of most '
    'values',
  )
  parser.add_argument(
    '--color',
    metavar='SETTING',
    help='colours the runs; default: all that vary, but seed and --x',
  )


FIGURE = command.Figure(
  'scores',
  __doc__,
  _draw,
  'Scores of disentanglement, a panel or a row for each, between a floor and '
  'what the factors themselves score.',
  joint=True,
  add_options=_add_options,
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
