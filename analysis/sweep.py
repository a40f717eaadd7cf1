"""Sweep: any metric against any setting, mean and standard error over seeds.

Runs that failed, or have not ended, are crosses at the foot of the figure.
"""

import argparse

import pandas as pd
import plotnine as gg

from analysis import axis, colours, command, figures, frames, wording
from launch import records


def read_frame(
  runs: frames.Runs, x: str, metric: str, color: str | None = None
) -> pd.DataFrame:
  """Returns a row for each seed: x, value, status, seed, series and color.

  A series is what a line joins: the runs that differ only in x and seed.

  Args:
    runs: the runs.
    x: the setting on the horizontal axis.
    metric: the result on the vertical axis.
    color: the setting that colours the lines; None for all that vary.

  Raises:
    FigureError: no such setting or metric.
  """
  runs.check_settings(x, color)
  runs.check_metrics(metric)
  series = frames.configuration(
    runs.table, [name for name in runs.varying if name != x]
  )
  frame = pd.DataFrame(
    {
      'x': runs.table[x].map(records.text),
      'value': runs.table[metric].astype(float),
      'status': runs.table['status'],
      'seed': runs.table['seed'],
      'series': series,
      'color': runs.table[color].map(records.text) if color else series,
    }
  )
  return frames.over_repeats(frame, ['x', 'status', 'series', 'color'])


def plot_sweep(
  frame: pd.DataFrame,
  x: str,
  metric: str,
  color: str = '',
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
) -> gg.ggplot:
  """Draws a metric against a setting.

  Args:
    frame: from `read_frame`.
    x: the setting on the horizontal axis, in words.
    metric: what is measured, in words.
    color: what the colours are, in words.
    title: of the figure.
    page: what it is drawn for.
  """
  figures.check_columns(frame, ['x', 'value', 'status', 'series', 'color'])
  frame = frame.copy()
  x_levels, colour_levels = (
    frames.levels(frame['x']),
    frames.levels(frame['color']),
  )
  hues = colours.hues(colour_levels, page, color)
  frame['color'] = hues.of(frame['color'])
  frame['place'], scale = axis.places(frame['x'], x_levels, x, page)
  frame['place'], apart = axis.side_by_side(frame['place'], frame['series'])
  finished = frame[(frame['status'] == 'finished') & frame['value'].notna()]
  others = frame.drop(finished.index)
  low, high = 0.0, 1.0
  if len(finished):
    low, high = finished['value'].min(), finished['value'].max()
  pad = 0.1 * max(high - low, 0.05 * abs(high), 1e-3)
  others = others.assign(value=low - 1.5 * pad)
  # A run alone is its mean.
  small = finished[finished.duplicated(['series', 'place'], keep=False)]
  small = small.assign(place=small['place'] + 0.4 * apart)
  seeds = frames.over_seeds(finished, ['series', 'color', 'place'])
  # One point has no line, and words have none between them.
  lines = seeds.groupby('series').filter(
    lambda group: len(group) > 1 and axis.are_numbers(x_levels)
  )
  caption = (
    'Mean ± 1 standard error over '
    f'{frames.seeds_in_words(finished, ["series", "place"])}, the small points.'
    if len(small)
    else 'One seed each.'
  )
  if len(others):
    listed = frames.count_by_status(others)
    caption += f' Crosses: runs without a result ({listed}).'
  if frame['series'].nunique() > 1:
    caption += f' Series of one {x} stand side by side.'
  for note in filter(None, (hues.note, wording.note(x, color))):
    caption += f' {note}'
  height = (0.45 if page.is_double else 0.7) * page.width
  return (
    gg.ggplot(frame, gg.aes('place', 'value', color='color'))
    + gg.geom_blank(data=frame.assign(value=low))
    + gg.geom_line(gg.aes(y='mean', group='series'), lines, size=0.6)
    + gg.geom_point(data=small, size=1.0, stroke=0, alpha=0.6)
    + gg.geom_pointrange(
      gg.aes(y='mean', ymin='low', ymax='high'), seeds, size=0.5, fatten=1.5
    )
    + gg.geom_point(data=others, shape='x', size=2, show_legend=False)
    + scale
    + gg.scale_y_continuous(
      name=metric,
      labels=wording.tick_labels,
      **({} if len(finished) else {'breaks': []}),
    )
    + figures.dress(page, height + 0.2 + hues.height, title, caption)
    + hues.layers
  )


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  x, color = axis.settings(runs, arguments.x, arguments.color)
  return plot_sweep(
    read_frame(runs, x, arguments.metric, color),
    wording.name(x),
    wording.with_unit(arguments.metric, runs.example),
    color,
    command.title(arguments, runs),
    command.page(arguments),
  )


def _add_options(parser: command.Parser) -> None:
  parser.add_argument(
    '--x',
    metavar='SETTING',
    help='on the horizontal axis; default: of others than --color that of most '
    'values',
  )
  parser.add_argument(
    '--metric',
    default='elbo_nats',
    help='of eval.csv, on the vertical axis',
  )
  parser.add_argument(
    '--color',
    metavar='SETTING',
    help='colours the lines; default: all that vary, but seed and --x',
  )


FIGURE = command.Figure(
  'sweep',
  __doc__,
  _draw,
  'A metric against a setting: mean and standard error over seeds, a line for '
  'each group of runs.',
  joint=True,
  width='single',
  add_options=_add_options,
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
