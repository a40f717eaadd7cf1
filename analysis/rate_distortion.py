"""Rate and distortion over runs: the frontier, and lines of equal elbo.

Seeds are points; a line joins the means of each effective beta, or of each
strength in a sweep over objectives (Alemi et al. 2018, "Fixing a Broken ELBO").
"""

import argparse

import mizani.breaks
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, figures, frames
from launch import records

# What orders the points of a line.
_BETA = 'effective beta'

# Below it, in nats, and where no latent is active, a run counts as collapsed.
_COLLAPSED_NATS = 0.1

# Where a number may stand beside its point, the best places first; and the size
# of its letters, in points.
_DIRECTIONS = (
  (1, 1),
  (0, 1),
  (1, 0),
  (-1, -1),
  (0, -1),
  (-1, 0),
  (-1, 1),
  (1, -1),
)
_SIZE = 6


def read_frame(runs: frames.Runs) -> pd.DataFrame:
  """Returns rate, distortion, `order` and the `series` of each run.

  A series is what a line joins: the runs that differ only in beta and seed; or
  in the seed alone, where there is no effective beta that could order them. A
  sweep's strengths take the place of betas. What orders is in `attrs`, and the
  setting of which series are values, where it is one.

  Raises:
    FigureError: no run has both a rate and a distortion.
  """
  names = ['rate_nats', 'distortion_nats', 'effective_beta', 'active_units']
  frame = runs.table.reindex(columns=names).astype(float)
  # A sweep's strengths order the runs of each objective, as beta does.
  if records.STRENGTH in runs.varying:
    frame['order'], frame.attrs['order'] = (
      runs.table[records.STRENGTH].astype(float),
      records.STRENGTH,
    )
  else:
    frame['order'], frame.attrs['order'] = frame['effective_beta'], _BETA
  others = [
    n for n in runs.varying if n not in ('beta', 'reduction', records.STRENGTH)
  ]
  if len(others) == 1 and frame['order'].notna().all():
    frame['series'] = runs.table[others[0]].map(records.text)
    frame.attrs['series'] = others[0]
  else:
    frame['series'] = frames.configuration(runs.table, others).where(
      frame['order'].notna(),
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
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
) -> gg.ggplot:
  """Draws distortion against rate.

  Rows without numbers are counted below the figure.
  """
  names = ['rate_nats', 'distortion_nats', 'order', 'series']
  figures.check_columns(frame, names)
  ordered_by = frame.attrs.get('order', _BETA)
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
  grouped = points.groupby(['series', 'order'], observed=True, dropna=False)[
    ['rate_nats', 'distortion_nats']
  ]
  means = grouped.mean().join(grouped.sem().fillna(0.0).add_suffix('_se'))
  means = means.reset_index()
  # One point has no line.
  lines = means.groupby('series', observed=True).filter(lambda g: len(g) > 1)
  right = 1.12 * max(1.0, points['rate_nats'].max())
  low, high = points['distortion_nats'].min(), points['distortion_nats'].max()
  pad = max(0.12 * (high - low), 0.05 * abs(high), 1.0)
  low, high = low - pad, high + pad
  panel = 0.8 * page.width
  places = _Places(right, low, high, page.width, panel)
  for _, line in lines.groupby('series', observed=True):
    places.block_line(line['rate_nats'], line['distortion_nats'])
  places.block(points['rate_nats'], points['distortion_nats'])
  beside = places.beside(means.dropna())
  crossed = bool(
    (means[['rate_nats_se', 'distortion_nats_se']] > 0).any(axis=None)
  )
  setting = frame.attrs.get('series', '')
  legend = figures.legend(series, page, setting)
  missing = len(frame) - len(points)
  has_order = points['order'].notna()
  numbers = ''
  if has_order.any():
    where = '' if has_order.all() else ', where there is one'
    if len(beside) < len(means.dropna()):
      where += ', where there is room'
    numbers = f'Numbers at points: {ordered_by}{where}. '
  return (
    gg.ggplot(points, gg.aes('rate_nats', 'distortion_nats'))
    + _elbo_lines(places)
    # Less distortion at less rate cannot be had, so that this corner is free.
    + gg.annotate(
      'label',
      x=0.012 * right,
      y=low + 0.02 * (high - low),
      label='rate 0: collapsed',
      angle=90,
      ha='left',
      va='bottom',
      size=6,
      color='#595959',
      label_size=0,
      label_padding=0.1,
    )
    + gg.geom_path(gg.aes(color='series'), lines, size=0.6)
    + gg.geom_point(
      gg.aes(color='series', shape='state'), size=1.6, fill='none'
    )
    + gg.geom_segment(
      gg.aes(
        x='rate_nats - rate_nats_se',
        xend='rate_nats + rate_nats_se',
        yend='distortion_nats',
        color='series',
      ),
      means,
      size=0.4,
    )
    + gg.geom_segment(
      gg.aes(
        y='distortion_nats - distortion_nats_se',
        xend='rate_nats',
        yend='distortion_nats + distortion_nats_se',
        color='series',
      ),
      means,
      size=0.4,
    )
    + gg.geom_text(
      gg.aes('x', 'y', label='label', color='series'),
      beside.assign(series=pd.Categorical(beside['series'], series)),
      size=_SIZE,
      show_legend=False,
    )
    + gg.scale_color_manual(
      figures.colours(len(series)), guide=legend.guide, breaks=legend.breaks
    )
    + gg.scale_shape_manual(
      {'collapsed': 'D', 'not collapsed': 'o'}, guide=None
    )
    + gg.scale_x_continuous(
      name='rate, nats per image', labels=figures.tick_labels
    )
    + gg.scale_y_continuous(
      name='distortion, nats per image', labels=figures.tick_labels
    )
    + gg.coord_cartesian(xlim=(0, right), ylim=(low, high), expand=False)
    + gg.labs(color=setting)
    + figures.dress(
      page,
      panel + 0.2 + legend.height,
      title,
      f'{numbers}Dashed: equal elbo, in nats. {legend.note}'
      + (' Crosses: mean ± 1 standard error.' if crossed else '')
      + (' Diamonds: collapsed.' if 'collapsed' in set(points['state']) else '')
      + (
        f' Not shown, without numbers: {missing} of {len(frame)}.'
        if missing
        else ''
      ),
    )
    + gg.theme(panel_grid_major=gg.element_blank())
  )


class _Places:
  """Finds places for labels in the panel that cover nothing.

  Attributes:
    levels: the distortions at rate 0 of the lines of equal elbo.
  """

  def __init__(
    self, right: float, low: float, high: float, width: float, panel: float
  ):
    self.right, self.low, self.high = right, low, high
    # Nats in an inch, across and upwards.
    self._inch = np.array([right / (0.87 * width), (high - low) / panel])
    levels = mizani.breaks.breaks_extended(7)((low, high + right))
    self.levels = np.array([v for v in levels if low < v < high + right])
    # The corner where the frontier never is says what rate 0 means.
    corner = [0.0, low, 0.25 * self._inch[0], low + 1.0 * self._inch[1]]
    self._taken = np.array([corner])
    self._lines = np.empty((0, 2))

  def block(self, x: pd.Series, y: pd.Series) -> None:
    """Keeps labels off points."""
    centres = np.stack([x, y], axis=-1)
    half = 0.035 * self._inch
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    self._taken = np.concatenate([self._taken, boxes])

  def block_line(self, x: pd.Series, y: pd.Series) -> None:
    """Keeps labels off a line where that can be."""
    places = np.linspace(0, len(x) - 1, 50 * len(x))
    between = lambda values: np.interp(places, range(len(values)), values)
    self._lines = np.concatenate(
      [self._lines, np.stack([between(x), between(y)], axis=-1)]
    )

  def _box(self, centre: np.ndarray, text: str) -> np.ndarray:
    half = self._inch * [0.045 * len(text) / 2 + 0.01, 0.05]
    return np.concatenate([centre - half, centre + half])

  def _cost(self, box: np.ndarray, with_levels: bool) -> float:
    """Returns how much a box covers, most of all beyond the panel."""
    left, bottom, right, top = box
    outside = left < 0 or right > self.right
    outside = outside or bottom < self.low or top > self.high
    t = self._taken
    taken = (
      (t[:, 0] < right)
      & (t[:, 2] > left)
      & (t[:, 1] < top)
      & (t[:, 3] > bottom)
    )
    x, y = self._lines.T
    lines = (left < x) & (x < right) & (bottom < y) & (y < top)
    levels = (left + bottom < self.levels) & (self.levels < right + top)
    cost = 1000 * outside + 100 * taken.sum() + 10 * lines.any()
    return cost + (levels.any() if with_levels else 0)

  def beside(self, means: pd.DataFrame) -> pd.DataFrame:
    """Returns where the numbers of points stand: x, y, label, series."""
    rows = []
    for _, row in means.iterrows():
      text = f'{row["order"]:.3g}'
      at = np.array([row['rate_nats'], row['distortion_nats']])
      half = self._inch * [0.045 * len(text) / 2 + 0.05, 0.11]
      centres = [at + half * direction for direction in _DIRECTIONS]
      boxes = [self._box(centre, text) for centre in centres]
      costs = [self._cost(box, True) for box in boxes]
      best = int(np.argmin(costs))
      if costs[best] >= 100:  # A number that covers another tells neither.
        continue
      self._taken = np.concatenate([self._taken, boxes[best][None]])
      rows.append((*centres[best], text, row['series']))
    return pd.DataFrame(rows, columns=['x', 'y', 'label', 'series'])

  def along(self, level: float, text: str) -> np.ndarray | None:
    """Returns where the label of a line of equal elbo stands on it, if any."""
    first, last = max(0.0, level - self.high), min(self.right, level - self.low)
    for x in np.linspace(last, first, 60):
      box = self._box(np.array([x, level - x]), text)
      if self._cost(box, False) == 0:
        self._taken = np.concatenate([self._taken, box[None]])
        return np.array([x, level - x])
    return None


def _elbo_lines(places: _Places) -> list:
  """Lines of equal elbo through a panel, with their values on them."""
  lines = pd.DataFrame(
    {
      # From the left or the upper edge to the right or the lower one.
      'x': np.maximum(0.0, places.levels - places.high),
      'y': np.minimum(places.levels, places.high),
      'xend': np.minimum(places.right, places.levels - places.low),
      'yend': np.maximum(places.low, places.levels - places.right),
    }
  )
  rows = []
  for level in places.levels:
    text = f'elbo {figures.number(-level, 0)}'
    if (at := places.along(level, text)) is not None:
      rows.append((*at, text))
  return [
    gg.geom_segment(
      gg.aes('x', 'y', xend='xend', yend='yend'),
      lines,
      linetype='dashed',
      color='#bfbfbf',
      size=0.4,
    ),
    gg.geom_label(
      gg.aes('x', 'y', label='label'),
      pd.DataFrame(rows, columns=['x', 'y', 'label']),
      size=5.5,
      color='#595959',
      label_size=0,
      label_padding=0.1,
    ),
  ]


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  return plot_rate_distortion(
    read_frame(runs), command.title(arguments, runs), command.page(arguments)
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
