"""Rate and distortion over runs: the frontier, and lines of equal elbo.

A line joins the means over seeds of each effective beta, or of each strength in
a sweep over objectives (Alemi et al. 2018, "Fixing a Broken ELBO"); small
points are seeds.
"""

import argparse
import itertools
from collections.abc import Sequence

import mizani.breaks
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, frames, wording
from launch import records

# Below it, in nats, and where no latent is active, a run counts as collapsed.
_COLLAPSED_NATS = 0.1
_COLLAPSED = '← rate 0: collapsed'

# Where a number may stand beside its point: on one side of the line, the best
# places first, at several distances in inches.
_ABOVE = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.0, 1.0), (1.0, 0.0))
_BELOW = tuple((-x, -y) for x, y in _ABOVE)
_GAPS = (0.05, 0.09, 0.14)

# Of the letters in the panel, in points.
_SIZE = 6


def read_frame(runs: frames.Runs) -> pd.DataFrame:
  """Returns a row for each seed.

  A series is what a line joins: the runs that differ only in beta and seed; or
  in the seed alone, where there is no effective beta that could order them. A
  sweep's strengths take the place of betas.

  Returns:
    Columns configuration, seed, rate_nats, distortion_nats, effective_beta and
    active_units; order, what orders the points of a line, and ordered_by, the
    column that it is; series, and series_of, the setting whose values these
    are, or empty.

  Raises:
    FigureError: no run has both a rate and a distortion.
  """
  runs.check_counted()
  names = ['rate_nats', 'distortion_nats', 'effective_beta', 'active_units']
  frame = runs.table.reindex(columns=names).astype(float)
  # A sweep's strengths order the runs of each objective, as beta does.
  by_strength = records.STRENGTH in runs.varying
  ordered_by = records.STRENGTH if by_strength else 'effective_beta'
  frame = frame.assign(
    order=runs.table[ordered_by].astype(float), seed=runs.table['seed']
  )
  others = [
    n for n in runs.varying if n not in ('beta', 'reduction', records.STRENGTH)
  ]
  series_of = ''
  if len(others) == 1 and frame['order'].notna().all():
    series_of = others[0]
    frame['series'] = runs.table[series_of].map(records.text)
  else:
    frame['series'] = frames.configuration(runs.table, others).where(
      frame['order'].notna(),
      frames.configuration(
        runs.table, [n for n in runs.varying if n != 'reduction']
      ),
    )
  frame['configuration'] = frames.configuration(runs.table, runs.varying)
  frame = frames.over_repeats(frame, ['configuration']).assign(
    ordered_by=ordered_by, series_of=series_of
  )
  if not _are_finite(frame).any():
    raise figures.FigureError(
      'no run has a rate and a distortion in nats yet; python -m '
      'launch.evaluate --run_dir=RUN measures them'
    )
  return frame


def _are_finite(frame: pd.DataFrame) -> pd.Series:
  return frame[['rate_nats', 'distortion_nats']].map(np.isfinite).all(axis=1)


def plot_rate_distortion(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
  example: str = 'image',
) -> gg.ggplot:
  """Draws distortion against rate.

  Rows without finite numbers are counted below the figure.

  Args:
    frame: from `read_frame`.
    title: of the figure.
    page: what it is drawn for.
    example: what the data are made of.
  """
  names = ['rate_nats', 'distortion_nats', 'order', 'series']
  figures.check_columns(frame, [*names, 'ordered_by', 'series_of'])
  ordered_by = wording.with_unit(frame['ordered_by'].iloc[0])
  points = frame[_are_finite(frame)]
  if points.empty:
    raise figures.FigureError('no run has a rate and a distortion yet')
  points = points.assign(
    collapsed=(points['rate_nats'] < _COLLAPSED_NATS)
    | (points.get('active_units', pd.Series(1, points.index)) == 0),
  )
  series = frames.levels(points['series'])
  hues = colours.hues(series, page, frame['series_of'].iloc[0])
  points['color'] = hues.of(points['series'])
  grouped = points.groupby(['series', 'order'], observed=True, dropna=False)
  of_seeds = grouped[['rate_nats', 'distortion_nats']]
  means = of_seeds.mean().join(of_seeds.sem().fillna(0.0).add_suffix('_se'))
  means = means.join(grouped['collapsed'].all()).reset_index()
  means['color'] = hues.of(means['series'])
  means['shape'] = means['color'] if hues.where is None else ''
  # A run alone is its mean.
  seeds = points[points.duplicated(['series', 'order'], keep=False)]
  # One point has no line.
  lines = means.groupby('series', observed=True).filter(lambda g: len(g) > 1)
  right = 1.12 * max(1.0, points['rate_nats'].max())
  low, high = points['distortion_nats'].min(), points['distortion_nats'].max()
  pad = max(0.12 * (high - low), 0.05 * abs(high), 1.0)
  low, high = low - pad, high + pad
  panel = (0.5 if page.is_double else 0.8) * page.width
  places = _Places(right, low, high, panel, page)
  for _, line in lines.groupby('series', observed=True):
    places.block_line(*line[['rate_nats', 'distortion_nats']].to_numpy().T)
  for _, row in means.iterrows():
    places.block_cross(row)
  for marks in (seeds, means):
    places.block(marks['rate_nats'], marks['distortion_nats'])
  orders = points['order'].unique()
  # One that all points share is said once.
  numbered = means.dropna() if len(orders) > 1 else means[:0]
  beside = places.beside(numbered)
  has_order = points['order'].notna()
  notes = []
  if len(orders) == 1 and has_order.all():
    notes.append(f'At {ordered_by} {_number(orders[0])}.')
  if len(numbered):
    where = '' if has_order.all() else ', where there is one'
    if len(beside) < len(numbered):
      where += ', where there is room'
    notes.append(f'Numbers at points: {ordered_by}{where}.')
  notes.append('Dashed: equal elbo, in nats.')
  named = frame[['ordered_by', 'series_of']].iloc[0]
  notes += filter(None, (hues.note, wording.note(*named)))
  if len(seeds):
    notes.append('Small points: seeds; large: their mean ± 1 standard error.')
  if means['collapsed'].any():
    notes.append('Filled: collapsed.')
  if missing := len(frame) - len(points):
    notes.append(
      f'Not shown: {missing} of {len(frame)} runs, not finished or without a '
      'finite rate and distortion.'
    )
  return (
    gg.ggplot(points, gg.aes('rate_nats', 'distortion_nats'))
    + _elbo_lines(places, bool(means['collapsed'].any()))
    + gg.geom_path(
      gg.aes(color='color', group='series'),
      lines,
      size=0.6,
      # Keys show what all series have.
      show_legend=lines['series'].nunique() == len(series),
    )
    + gg.geom_point(
      gg.aes(color='color'),
      seeds,
      size=1.0,
      stroke=0,
      alpha=0.6,
      show_legend=False,
    )
    + gg.geom_segment(
      gg.aes(
        x='rate_nats - rate_nats_se',
        xend='rate_nats + rate_nats_se',
        yend='distortion_nats',
        color='color',
      ),
      means,
      size=0.4,
      show_legend=False,
    )
    + gg.geom_segment(
      gg.aes(
        y='distortion_nats - distortion_nats_se',
        xend='rate_nats',
        yend='distortion_nats + distortion_nats_se',
        color='color',
      ),
      means,
      size=0.4,
      show_legend=False,
    )
    + gg.geom_point(
      gg.aes(color='color', shape='shape'), means, size=1.8, fill='none'
    )
    + gg.geom_point(
      gg.aes(color='color', shape='shape', fill='color'),
      means[means['collapsed']],
      size=1.8,
      show_legend=False,
    )
    + gg.geom_text(
      gg.aes('x', 'y', label='label', color='color'),
      beside.assign(color=hues.of(beside['series'])),
      size=_SIZE,
      show_legend=False,
    )
    + hues.fill
    + hues.shapes
    + gg.scale_x_continuous(
      name=wording.with_unit('rate_nats', example),
      labels=wording.tick_labels,
    )
    + gg.scale_y_continuous(
      name=wording.with_unit('distortion_nats', example),
      labels=wording.tick_labels,
    )
    + gg.coord_cartesian(xlim=(0, right), ylim=(low, high), expand=False)
    + figures.dress(
      page,
      panel + 0.2 + hues.height,
      title,
      ' '.join(notes),
    )
    + hues.layers
    + gg.theme(panel_grid_major=gg.element_blank())
  )


def _number(order: float) -> str:
  """An order as axes write numbers, but of four digits."""
  return wording.tick_labels([float(f'{order:.4g}')])[0]


class _Places:
  """Finds places for labels in the panel that cover nothing.

  Attributes:
    levels: the distortions at rate 0 of the lines of equal elbo.
  """

  def __init__(
    self,
    right: float,
    low: float,
    high: float,
    panel: float,
    page: figures.Page,
  ):
    self.right, self.low, self.high = right, low, high
    self._page = page
    # Nats in an inch, across, where labels of the axis take some, and upwards.
    self._inch = np.array([right / (page.width - 0.45), (high - low) / panel])
    levels = mizani.breaks.breaks_extended(7)((low, high + right))
    self.levels = np.array([v for v in levels if low < v < high + right])
    self._taken = np.empty((0, 4))
    self._lines = np.empty((0, 2))

  def block(self, x: pd.Series, y: pd.Series) -> None:
    """Keeps labels off points."""
    centres = np.stack([x, y], axis=-1)
    half = 0.035 * self._inch
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    self._taken = np.concatenate([self._taken, boxes])

  def block_line(self, x: np.ndarray, y: np.ndarray) -> None:
    """Keeps labels off a line where that can be."""
    places = np.linspace(0, len(x) - 1, 50 * len(x))
    between = lambda values: np.interp(places, range(len(values)), values)
    self._lines = np.concatenate(
      [self._lines, np.stack([between(x), between(y)], axis=-1)]
    )

  def block_cross(self, mean: pd.Series) -> None:
    """Keeps labels off the errors of a mean."""
    ends = np.array([-1.0, 1.0])
    for x, y in (
      (mean['rate_nats_se'], 0.0),
      (0.0, mean['distortion_nats_se']),
    ):
      self.block_line(
        mean['rate_nats'] + x * ends, mean['distortion_nats'] + y * ends
      )

  def _half(self, text: str) -> np.ndarray:
    """Half the width and height of a text, in inches."""
    width = figures.text_width(text, self._page, _SIZE)
    return np.array([width / 2 + 0.01, 0.05])

  def _box(self, centre: np.ndarray, text: str) -> np.ndarray:
    half = self._inch * self._half(text)
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

  def _take(self, box: np.ndarray) -> None:
    self._taken = np.concatenate([self._taken, box[None]])

  def beside(self, means: pd.DataFrame) -> pd.DataFrame:
    """Returns where the numbers of points stand: x, y, label, series.

    Those of a series are on the side of it that has room for more of them, but
    for those that have none there; one that has room nowhere is left out.
    """
    rows = []
    for _, points in means.groupby('series', observed=True, sort=False):
      free = self._taken
      trials = []
      for side, other in ((_ABOVE, _BELOW), (_BELOW, _ABOVE)):
        self._taken = free
        placed = [self._place(row, side, other) for _, row in points.iterrows()]
        trials.append((sum(bad for bad, _ in placed), placed, self._taken))
      _, placed, self._taken = min(trials, key=lambda trial: trial[0])
      rows += [row for _, row in placed if row]
    return pd.DataFrame(rows, columns=['x', 'y', 'label', 'series'])

  def _place(
    self,
    row: pd.Series,
    side: Sequence[tuple[float, float]],
    other: Sequence[tuple[float, float]],
  ) -> tuple[float, tuple[float, float, str, str] | None]:
    """Returns how bad the best place of a number is, and that place."""
    text = _number(row['order'])
    at = np.array([row['rate_nats'], row['distortion_nats']])
    tried = []
    for away, directions in ((0.0, side), (0.5, other)):
      for gap, direction in itertools.product(_GAPS, directions):
        offset = (self._half(text) + gap) * direction
        centre = at + self._inch * offset
        tried.append((self._cost(self._box(centre, text), True) + away, centre))
    cost, centre = min(tried, key=lambda place: place[0])
    if cost >= 10:  # A number that covers another tells neither.
      return cost, None
    self._take(self._box(centre, text))
    return cost, (*centre, text, row['series'])

  def at_left(self, text: str) -> np.ndarray | None:
    """Returns where a text stands beside the left edge, the lowest; if any."""
    x = self._inch[0] * (self._half(text)[0] + 0.03)
    for y in np.linspace(self.low, self.high, 100):
      box = self._box(np.array([x, y]), text)
      if self._cost(box, True) == 0:
        self._take(box)
        return np.array([x, y])
    return None

  def along(self, level: float, text: str) -> np.ndarray | None:
    """Returns where the label of a line of equal elbo stands on it, if any."""
    first, last = max(0.0, level - self.high), min(self.right, level - self.low)
    for x in np.linspace(last, first, 60):
      box = self._box(np.array([x, level - x]), text)
      if self._cost(box, False) == 0:
        self._take(box)
        return np.array([x, level - x])
    return None


def _elbo_lines(places: _Places, has_collapsed: bool) -> list:
  """Lines of equal elbo through a panel, their values, and what rate 0 is."""
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
  if has_collapsed and (at := places.at_left(_COLLAPSED)) is not None:
    rows.append((*at, _COLLAPSED))
  for level in places.levels:
    text = f'elbo {wording.number(-level, 0)}'
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
      size=_SIZE - 0.5,
      color='#595959',
      label_size=0,
      label_padding=0.1,
    ),
  ]


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  return plot_rate_distortion(
    read_frame(runs),
    command.title(arguments, runs),
    command.page(arguments),
    runs.example,
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
