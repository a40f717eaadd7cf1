"""Rate and distortion over runs: the frontier, and lines of equal elbo.

Seeds are points; a line joins the means of each effective beta (Alemi et al.
2018, "Fixing a Broken ELBO").
"""

import argparse

import mizani.breaks
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, figures, frames

# Below it, in nats, and where no latent is active, a run counts as collapsed.
_COLLAPSED_NATS = 0.1


def read_frame(runs: frames.Runs) -> pd.DataFrame:
  """Returns rate, distortion, effective beta and the `series` of each run.

  A series is what a line joins: the runs that differ only in beta and seed; or
  in the seed alone, where there is no effective beta that could order them.

  Raises:
    FigureError: no run has both a rate and a distortion.
  """
  names = ['rate_nats', 'distortion_nats', 'effective_beta', 'active_units']
  frame = runs.table.reindex(columns=names).astype(float)
  others = [n for n in runs.varying if n not in ('beta', 'reduction')]
  frame['series'] = frames.configuration(runs.table, others).where(
    frame['effective_beta'].notna(),
    frames.configuration(
      runs.table, [n for n in runs.varying if n != 'reduction']
    ),
  )
  if frame[names[:2]].isna().any(axis=1).all():
    raise figures.FigureError(
      'no run has a rate and a distortion in nats yet; python -m '
      'launch.evaluate --run_dir=RUN measures them'
    )
  return frame


def plot_rate_distortion(
  frame: pd.DataFrame, title: str = '', width: float = figures.SINGLE_COLUMN
) -> gg.ggplot:
  """Draws distortion against rate.

  Rows without numbers are counted below the figure.
  """
  names = ['rate_nats', 'distortion_nats', 'effective_beta', 'series']
  figures.check_columns(frame, names)
  points = frame.dropna(subset=['rate_nats', 'distortion_nats', 'series'])
  if points.empty:
    raise figures.FigureError('no run has a rate and a distortion yet')
  points = points.assign(
    state=np.where(
      (points['rate_nats'] < _COLLAPSED_NATS)
      | (points.get('active_units', pd.Series(1, points.index)) == 0),
      'collapsed',
      'not collapsed',
    )
  )
  series = frames.levels(points['series'])
  points['series'] = pd.Categorical(points['series'], series)
  means = points.groupby(
    ['series', 'effective_beta'], observed=True, dropna=False
  )[['rate_nats', 'distortion_nats']].mean()
  means = means.reset_index()
  # One point has no line.
  lines = means.groupby('series', observed=True).filter(lambda g: len(g) > 1)
  right = 1.12 * max(1.0, points['rate_nats'].max())
  low, high = points['distortion_nats'].min(), points['distortion_nats'].max()
  pad = max(0.12 * (high - low), 0.05 * abs(high), 1.0)
  low, high = low - pad, high + pad
  panel = 0.8 * width
  legend_rows, legend = figures.legend(series, width)
  missing = len(frame) - len(points)
  has_beta = points['effective_beta'].notna()
  numbers = ''
  if has_beta.any():
    where = '' if has_beta.all() else ', where there is one'
    numbers = f'Numbers at points: effective beta{where}. '
  return (
    gg.ggplot(points, gg.aes('rate_nats', 'distortion_nats'))
    + _elbo_lines(right, low, high)
    # Less distortion at less rate cannot be had, so that this corner is free.
    + gg.annotate(
      'text',
      x=0.01 * right,
      y=low + 0.02 * (high - low),
      label='rate 0: collapsed',
      angle=90,
      ha='left',
      va='bottom',
      size=6,
      color='#737373',
    )
    + gg.geom_path(gg.aes(color='series'), lines, size=0.6)
    + gg.geom_point(
      gg.aes(color='series', shape='state'), size=1.6, fill='none'
    )
    + gg.geom_text(
      gg.aes(label='effective_beta'),
      means.dropna(),
      format_string='{:.3g}',
      ha='left',
      va='bottom',
      nudge_x=0.015 * right,
      nudge_y=0.02 * (high - low),
      size=6,
    )
    + gg.scale_color_manual(figures.colours(len(series)), guide=legend)
    + gg.scale_shape_manual(
      {'collapsed': 'D', 'not collapsed': 'o'}, guide=None
    )
    + gg.scale_x_continuous(name='rate, nats per image')
    + gg.scale_y_continuous(
      name='distortion, nats per image', labels=figures.tick_labels
    )
    + gg.coord_cartesian(xlim=(0, right), ylim=(low, high), expand=False)
    + gg.labs(color='')
    + figures.dress(
      width,
      panel + 0.2 + 0.16 * legend_rows,
      title,
      f'{numbers}Dashed: equal elbo, in nats.'
      + (' Diamonds: collapsed.' if 'collapsed' in set(points['state']) else '')
      + (
        f' Not shown, without numbers: {missing} of {len(frame)}.'
        if missing
        else ''
      ),
    )
    + gg.theme(panel_grid_major=gg.element_blank())
  )


def _elbo_lines(right: float, low: float, high: float) -> list:
  """Lines of equal elbo through a panel, with their values at its edge.

  Args:
    right: the highest rate of the panel, whose lowest is 0.
    low: the lowest distortion.
    high: the highest.
  """
  levels = mizani.breaks.breaks_extended(7)((low, high + right))
  levels = np.array([v for v in levels if low < v < high + right])
  lines = pd.DataFrame(
    {
      # From the left or the upper edge to the right or the lower one.
      'x': np.maximum(0.0, levels - high),
      'y': np.minimum(levels, high),
      'xend': np.minimum(right, levels - low),
      'yend': np.maximum(low, levels - right),
      'label': [f'elbo {figures.number(-level, 0)}' for level in levels],
    }
  )
  # A label stands below its line, where that leaves the panel; one that would
  # not fit between both ends, or into the corner, is left out.
  lines['at'] = np.minimum(
    lines['xend'] - 0.05 * right, lines['xend'] - 0.07 * (high - low)
  )
  lines.loc[lines['yend'] > low + 0.07 * (high - low), 'at'] = 0.95 * right
  lines = lines.assign(below=lines['y'] + lines['x'] - lines['at'])
  labelled = lines[lines['at'] > lines['x'] + 0.25 * right]
  return [
    gg.geom_segment(
      gg.aes('x', 'y', xend='xend', yend='yend'),
      lines,
      linetype='dashed',
      color='#bfbfbf',
      size=0.4,
    ),
    gg.geom_text(
      gg.aes('at', 'below', label='label'),
      labelled,
      size=5.5,
      color='#737373',
      ha='right',
      va='top',
    ),
  ]


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  return plot_rate_distortion(
    read_frame(runs), command.title(arguments, runs), command.width(arguments)
  )


FIGURE = command.Figure(
  'rate_distortion',
  __doc__,
  _draw,
  'Distortion against rate, a point for each run, the effective beta beside '
  'it, over lines of equal elbo.',
  joint=True,
  width='single',
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
