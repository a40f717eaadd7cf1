"""Colours that tell levels of a setting apart, and their legends."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import axis, figures, wording

# Okabe and Ito's colours without yellow, which is faint in thin lines, and
# three more. Colour-blind readers can tell all of them apart.
PALETTE = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#000000',
  '#6633CC',
  '#993300',
  '#FF3366',
)

# Outlines that go with colours, where marks may coincide.
_SHAPES = ('o', '^', 's', 'v', 'D', 'p', '<', 'h', '>', '8')

# The stretch of viridis, from dark to light, that is not faint in thin lines.
_SEQUENCE = (0.0, 0.7)

# What is counted, but in no order that colours could follow.
_UNORDERED = ('', 'seed', 'label', 'shape')

# How high a row of a legend is.
_KEY_INCHES = 0.16


def of_levels(levels: Sequence[str], setting: str = '') -> list[str]:
  """Returns a colour for each level of a setting.

  Three or more numbers go from dark to light, also in grey print; words and
  seeds, which have no order, have colours that can be told apart, as far as
  there are.

  Args:
    levels: as text, in their order.
    setting: of which they are; empty where they are names.
  """
  if len(levels) <= len(PALETTE) and not _are_ordered(levels, setting):
    return list(PALETTE[: len(levels)])
  return sequence(len(levels))


def sequence(count: int) -> list[str]:
  """Returns so many colours from dark to light, none of them faint."""
  shades = mpl.colormaps['viridis'](np.linspace(*_SEQUENCE, count))
  return [mpl.colors.to_hex(shade) for shade in shades]


def _are_ordered(levels: Sequence[str], setting: str) -> bool:
  """Says if levels are numbers whose order colours can show."""
  if setting in _UNORDERED or len(levels) < 3:
    return False
  try:
    return bool(np.isfinite([*map(float, levels)]).all())
  except ValueError:
    return False


class Legend(NamedTuple):
  """A legend below a figure.

  Attributes:
    height: in inches.
    guide: of its scale; None where there is nothing to tell apart.
    breaks: the labels that are shown.
    note: a sentence where these are not all.
  """

  height: float
  guide: Any
  breaks: Sequence[str]
  note: str = ''


def legend(
  labels: Sequence[str], page: figures.Page, title: str = ''
) -> Legend:
  """Returns a legend that fits the page.

  Its keys are as many as a quarter of the page holds.

  Args:
    labels: of its keys, in their order; one alone needs no legend.
    page: what the figure is drawn for.
    title: beside the keys.
  """
  if len(labels) < 2:
    return Legend(0.0, None, labels)
  shown, note = list(labels), ''
  width = lambda text: figures.text_width(text, page, figures.FONT_SIZE - 1.5)
  room = 0.95 * page.width - (width(title) * 1.1 + 0.1 if title else 0.0)
  columns = int(room / (0.3 + max(map(width, shown))))
  columns = max(1, min(len(shown), columns))
  rows = -(-len(shown) // columns)
  columns = -(-len(shown) // rows)  # So that rows are about as long.
  most = int(page.height / 4 / _KEY_INCHES)
  if rows > most:
    shown, rows = shown[: most * columns], most
    note = f'The legend names {len(shown)} of {len(labels)}.'
  elif len(shown) > len(PALETTE):
    note = f'{len(shown)} colours are more than can be told apart.'
  height = _KEY_INCHES * rows
  return Legend(height, gg.guide_legend(ncol=columns, byrow=True), shown, note)


class Hues(NamedTuple):
  """Colours that tell the levels of a setting apart, with their legend.

  Attributes:
    levels: as text, in their order.
    where: each is on the bar that is the legend; none where levels have keys.
    height: of the legend, in inches.
    note: a sentence on what it lacks, or its scale.
    layers: scale and title.
    fill: the scale of areas in the same colours, which has no legend.
    shapes: scale and title of outlines that share its keys; one for a bar.
  """

  levels: Sequence[str]
  where: np.ndarray | None
  height: float
  note: str
  layers: Sequence[Any]
  fill: Any
  shapes: Sequence[Any]

  def of(self, values: pd.Series) -> pd.Series:
    """Returns what stands for levels in a column that is mapped to a colour."""
    if self.where is None:
      return pd.Series(pd.Categorical(values, self.levels), values.index)
    return values.map(dict(zip(self.levels, self.where, strict=True)))


def hues(levels: Sequence[str], page: figures.Page, setting: str = '') -> Hues:
  """Returns the colours of a setting's levels.

  Numbers that are more than can be told apart have a bar with ticks at some of
  them, along which they are as on an axis (`positions`); others have keys.

  Args:
    levels: as text, in their order.
    page: what the figure is drawn for.
    setting: of which they are; empty where they are names.
  """
  title = wording.name(setting)
  if len(levels) <= len(PALETTE) or not _are_ordered(levels, setting):
    named = [wording.value(setting, level) for level in levels]
    keys = legend(named, page, title)
    shades = of_levels(levels, setting)
    shared = {
      'guide': keys.guide,
      'breaks': levels[: len(keys.breaks)],
      'labels': keys.breaks,
      'drop': False,
    }
    scale = gg.scale_color_manual(shades, **shared)
    outlines = [_SHAPES[k % len(_SHAPES)] for k in range(len(levels))]
    shapes = [gg.scale_shape_manual(outlines, **shared), gg.labs(shape=title)]
    fill = gg.scale_fill_manual(shades, guide=None, drop=False)
    layers = [scale, gg.labs(color=title)]
    return Hues(levels, None, keys.height, keys.note, layers, fill, shapes)
  where, scale_in_words = axis.positions(levels)
  size = figures.FONT_SIZE - 1.5
  room = 0.9 * page.width - figures.text_width(title, page) - 0.2
  bar = max(0.8, min(0.5 * page.width, room))

  def with_room(some: Sequence[int]) -> list[str]:
    labels = [levels[place] for place in some]
    return axis.with_room(labels, where[[*some]], page, 0.95 * bar, size)

  # Every so many, as on a ruler, and the last.
  last, fitting = len(levels) - 1, sum(map(bool, with_room(range(len(levels)))))
  some = [*range(0, last, math.ceil(1.5 * len(levels) / fitting)), last]
  ticks = dict(zip(with_room(some), where[some], strict=True))
  ticks.pop('', None)
  shades = sequence(64)
  scale = gg.scale_color_gradientn(
    shades,
    breaks=[*ticks.values()],
    labels=[*ticks],
    # Of it alone: other legends keep small keys.
    guide=gg.guide_colorbar(
      theme=gg.theme(legend_key_width=72 * bar, legend_key_height=6)
    ),
  )
  return Hues(
    levels,
    where,
    2 * _KEY_INCHES,
    f'Colours: {scale_in_words.strip(" ()")}.' if scale_in_words else '',
    [scale, gg.labs(color=title)],
    gg.scale_fill_gradientn(shades, guide=None),
    [gg.scale_shape_manual(_SHAPES[:1], guide=None)],
  )
