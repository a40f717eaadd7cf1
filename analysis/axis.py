"""Settings along an axis: where levels are, and which have a label."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import figures, frames, wording
from launch import records


def settings(
  runs: frames.Runs, x: str | None, color: str | None
) -> tuple[str, str]:
  """Returns the settings along an axis and of the colours.

  Args:
    runs: that are drawn.
    x: what was asked for; None for the one of most values.
    color: likewise; None for the only other that varies, or for all others,
      which is empty.

  Raises:
    FigureError: one setting for both.
  """
  varying = [name for name in runs.varying if name != color]
  x = x or next(iter(varying), 'beta')
  others = [name for name in varying if name != x]
  if color == x:
    raise figures.FigureError(
      f'--color={color} is what the horizontal axis says; '
      + (f'give --color={others[0]}' if others else 'leave it out')
    )
  return x, color or (others[0] if len(others) == 1 else '')


def positions(levels: Sequence[str]) -> tuple[np.ndarray, str]:
  """Returns where the levels of a setting are along an axis or a bar.

  Numbers that span a decade are placed by their logarithm, with zero a step
  before the others; other numbers, like those in even steps, by themselves, and
  words, like numbers below zero or without end, side by side.

  Args:
    levels: as text, in their order.

  Returns:
    The places, and what follows the name of the axis to say so.
  """
  numbers = pd.to_numeric(pd.Series(levels), errors='coerce')
  positive = numbers[numbers > 0]
  if not np.isfinite(numbers).all() or (numbers < 0).any() or positive.empty:
    where = np.arange(len(levels), dtype=float)
    is_plain = numbers.isna().any() or np.array_equal(where, numbers)
    return where, '' if is_plain else ' (not to scale)'
  steps = np.diff(np.sort(numbers))
  if positive.max() < 10 * positive.min() or np.allclose(
    steps, steps[0], atol=0.0
  ):
    return numbers.to_numpy(float), ''
  where = np.log10(np.where(numbers > 0, numbers, np.nan))
  if not (numbers == 0).any():
    return where, ' (log scale)'
  before = np.nanmin(where) - step(where[~np.isnan(where)])
  return np.where(np.isnan(where), before, where), ' (log scale; 0 apart)'


def are_numbers(levels: Sequence[str]) -> bool:
  """Returns whether levels are numbers, which a line may join."""
  return bool(pd.to_numeric(pd.Series(levels), errors='coerce').notna().all())


def step(where: np.ndarray) -> float:
  """Returns the room of a level along an axis.

  It is about a column of the figure, also where some levels are close together.

  Args:
    where: the levels are.
  """
  return max(_gap(where), np.ptp(where) / 8)


def _gap(where: np.ndarray) -> float:
  """Returns how far the two nearest levels are apart; 1 for one alone."""
  distinct = np.unique(where)
  return np.diff(distinct).min() if len(distinct) > 1 else 1.0


def with_room(
  labels: Sequence[str],
  where: np.ndarray,
  page: figures.Page,
  width: float,
  size: float = figures.FONT_SIZE,
) -> list[str]:
  """Returns the labels of ticks; empty where one has no room.

  The last has, before those between.

  Args:
    labels: in their order.
    where: they are along an axis.
    page: whose letters are used.
    width: of the axis, in inches.
    size: of letters, in points.
  """
  at = width * (where - where.min()) / (np.ptp(where) or 1.0)
  halves = [
    max(figures.text_width(line, page, size) for line in label.split('\n')) / 2
    for label in labels
  ]
  apart = 0.4 * figures.text_width('0', page, size)
  result, taken, end = [], -np.inf, at[-1] - halves[-1] - apart
  for place, (label, x, half) in enumerate(
    zip(labels, at, halves, strict=True), 1
  ):
    fits = x - half >= taken and (place in (1, len(at)) or x + half <= end)
    result.append(label if fits else '')
    taken = x + half + apart if fits else taken
  return result


def places(
  values: pd.Series,
  levels: list[str],
  setting: str,
  page: figures.Page = figures.SINGLE_COLUMN,
  across: int = 1,
  size: float = figures.FONT_SIZE,
) -> tuple[pd.Series, gg.scale_x_continuous]:
  """Returns where settings are on the horizontal axis, and its scale.

  Args:
    values: as text.
    levels: the distinct ones, in their order.
    setting: of which they are.
    page: what it is drawn for.
    across: how many panels stand beside each other.
    size: of letters, in points.
  """
  where, scale_in_words = positions(levels)
  place, room = dict(zip(levels, where, strict=True)), (0.05, 0.0)
  labels = [wording.value(setting, level) for level in levels]
  if not are_numbers(levels):
    labels = [figures.wrap(label, 0.8, page) for label in labels]
    room = (0.05, 0.3)  # For words.
  width = 0.75 * page.width / across
  scale = gg.scale_x_continuous(
    name=wording.name(setting) + scale_in_words,
    breaks=list(where),
    labels=with_room(labels, where, page, width, size),
    expand=room,
  )
  return values.map(place), scale


def side_by_side(
  where: pd.Series, series: pd.Series
) -> tuple[pd.Series, float]:
  """Returns where series stand beside each other around each place of an axis.

  One that is alone at a place stands there, and none is as far from its place
  as a fifth of the way between the two nearest places.

  Args:
    where: each row is along the axis.
    series: of each row.

  Returns:
    The places, and how far apart neighbours are.
  """
  order = frames.levels(series)
  rank = series.map(records.text).map(order.index)
  rows = pd.DataFrame({'where': where, 'rank': rank})
  pairs = rows.drop_duplicates().sort_values('rank')
  at = pairs.groupby('where')['rank']
  pairs['shift'] = at.cumcount() - (at.transform('size') - 1) / 2
  apart = min(0.2, 0.4 / at.size().max()) * _gap(where.to_numpy())
  shift = rows.merge(pairs, how='left', on=['where', 'rank'])['shift']
  return where + apart * shift.to_numpy(), apart
