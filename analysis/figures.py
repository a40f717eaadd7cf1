"""The look of all figures: theme, palette, texts, legends, saving."""

import functools
import io
import itertools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotnine as gg

from launch import records


class Page(NamedTuple):
  """A place that a figure is drawn for.

  Attributes:
    width: of the figure, in inches.
    is_double: whether that is both columns.
    height: the most that there is room for, in inches.
    family: of the letters; one that ships with matplotlib.
    pixels: by how many pixels a PNG is finer each way, and as much larger on
      its page than the figure is drawn: letters grow with it.
  """

  width: float
  is_double: bool
  height: float = 8.5
  family: str = 'DejaVu Sans'
  pixels: int = 1


def _pages(single: float, double: float, **look: Any) -> Mapping[str, Page]:
  """A venue's pages, by the name of their width, which is in inches."""
  return {
    'single': Page(single, is_double=False, **look),
    'double': Page(double, is_double=True, **look),
  }


# Of those with one column, `single` is half of it. Letters of 8 points in a
# narrow figure are as large on a screen or wall as its width makes them.
STYLES: Mapping[str, Mapping[str, Page]] = {
  'paper': _pages(3.35, 6.9),
  'neurips': _pages(2.7, 5.5, height=8.0, family='STIXGeneral'),
  'icml': _pages(3.25, 6.75, height=8.0, family='STIXGeneral'),
  'poster': _pages(3.0, 5.5, height=8.0, pixels=3),
  'slides': _pages(2.7, 5.5, height=3.0, pixels=2),
}
WIDTHS = tuple(STYLES['paper'])
SINGLE_COLUMN, DOUBLE_COLUMN = STYLES['paper'].values()

FORMATS = ('png', 'pdf')
DPI = 300

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

# The stretch of viridis, from dark to light, that is not faint in thin lines.
_SEQUENCE = (0.0, 0.7)

# What is counted, but in no order that colours could follow.
_UNORDERED = ('', 'seed', 'label')

# Points, as in a paper's caption; and of what labels the axes.
FONT_SIZE = 8
LABEL_SIZE = 6.5

# Between a title and the names of panels, in points.
_STRIP_GAP = 10

# How high a row of a legend is.
_KEY_INCHES = 0.16


class FigureError(ValueError):
  """A figure cannot be drawn from what a run has written."""


class _Theme(gg.theme_bw):
  """Text is what it says, and no mathematics between two dollars."""

  def __init__(self, family: str):
    super().__init__(FONT_SIZE, family)
    # Of the letters in panels too.
    self._rcParams['font.family'] = family
    self._rcParams['text.parse_math'] = False


def theme(page: Page, height: float) -> gg.theme:
  """Returns the look of every figure, of the page's width, in inches high."""
  return _Theme(page.family) + gg.theme(
    figure_size=(page.width, height),
    panel_grid_minor=gg.element_blank(),
    panel_grid_major=gg.element_line(color='#e6e6e6', size=0.4),
    panel_border=gg.element_rect(color='#4d4d4d', size=0.5),
    strip_background=gg.element_blank(),
    strip_text=gg.element_text(size=FONT_SIZE - 1),
    plot_title=gg.element_text(size=FONT_SIZE, ha='left'),
    plot_title_position='plot',
    plot_caption=gg.element_text(size=FONT_SIZE - 2, ha='left'),
    plot_caption_position='plot',
    legend_key=gg.element_blank(),
    legend_position='bottom',
    legend_title=gg.element_text(size=FONT_SIZE - 1),
    legend_text=gg.element_text(size=FONT_SIZE - 1.5),
    legend_key_size=9,
    legend_margin=2,
    legend_box_spacing=0.01,
    plot_margin=0.01,
  )


def wrap(
  text: str,
  width: float,
  page: Page,
  size: float = FONT_SIZE,
  at_commas: bool = False,
) -> str:
  """Breaks a text into the fewest lines, as even as they can be.

  Args:
    text: of one paragraph.
    width: of a line, in inches; at least a letter has room.
    page: whose letters are used.
    size: of these, in points.
    at_commas: whether what stands between commas stays on one line if it can.
  """
  fits = lambda line: text_width(line, page, size) <= width
  # Not at spaces that are none to break at.
  parts = re.split('(?<=,)[ \n]+' if at_commas else '[ \n]+', text.strip())
  words = [
    piece
    for part in parts
    for word in ([part] if fits(part) else re.split('[ \n]+', part))
    for piece in _pieces(word, fits)
  ]
  # A line is as wide as its words together, measured one by one, as that of
  # every line is slow.
  measure = lambda line: text_width(f'|{line}|', page, size)
  space = measure(' ') - measure('')
  widths = [measure(word) - measure('') for word in words]
  # Of the words from each on: how many lines, how uneven, and their ends.
  best: list[tuple[int, float, list[int]]] = [(0, 0.0, [])]
  for start in reversed(range(len(words))):
    ways, line = [], -space
    for end in range(start + 1, len(words) + 1):
      line += space + widths[end - 1]
      if end > start + 1 and line > width:
        break
      count, uneven, ends = best[len(words) - end]
      ways.append((count + 1, uneven + (width - line) ** 2, [end, *ends]))
    best.append(min(ways))
  ends = itertools.pairwise([0, *best[-1][2]])
  return '\n'.join(' '.join(words[start:end]) for start, end in ends)


def _pieces(word: str, fits: Callable[[str], bool]) -> list[str]:
  """A word, in pieces of a line each where it is longer than one."""
  pieces = []
  while len(word) > 1 and not fits(word):
    # Twice as many letters as before, then by halves.
    low, high = 1, 2
    while high < len(word) and fits(word[:high]):
      low, high = high, 2 * high
    high = min(high, len(word))
    while high - low > 1:
      middle = (low + high) // 2
      low, high = (middle, high) if fits(word[:middle]) else (low, middle)
    pieces.append(word[:low])
    word = word[low:]
  return [*pieces, word]


@functools.cache
def text_width(text: str, page: Page, size: float = FONT_SIZE) -> float:
  """Returns how wide a line of text is, in inches.

  Args:
    text: the line.
    page: whose letters are used.
    size: of these, in points.
  """
  # Slow, and --help has no use for it.
  from matplotlib import font_manager, textpath

  letters = font_manager.FontProperties(family=page.family, size=size)
  width, _, _ = textpath.text_to_path.get_text_width_height_descent(
    text, letters, ismath=False
  )
  return width / 72


def number(value: float, digits: int = 1) -> str:
  """Returns a number with a proper minus sign, and none before zero."""
  return f'{value:z.{digits}f}'.replace('-', '−')


def tick_labels(breaks: Sequence[float]) -> list[str]:
  """Returns numbers along an axis, with a proper minus sign."""
  return [f'{value:z,.7g}'.replace('-', '−') for value in breaks]


_NATS = 'nats per image'


# What papers write otherwise than columns are called.
_SPELLED: Mapping[str, str] = {
  **{name.lower(): name for name in ('DCI', 'IRS', 'KL', 'MIG', 'SAP', 'UDR')},
  'beta vae': 'BetaVAE score',
  'dimension wise': 'dimension-wise',
  'factor vae': 'FactorVAE score',
  'gaussian': 'Gaussian',
  'infomec': 'InfoMEC',
  'r2': 'R²',
}
_TO_SPELL = re.compile(rf'\b({"|".join(_SPELLED)})\b')


def name_in_words(name: str) -> str:
  """Returns what a column or metric is called, without its unit."""
  words = name.removesuffix('_nats').replace('_', ' ')
  return _TO_SPELL.sub(lambda found: _SPELLED[found[0]], words)


def unit_in_words(name: str) -> str:
  """Returns the unit of a column or metric; empty for none."""
  return _NATS if name.endswith('_nats') else ''


def in_words(name: str) -> str:
  """Returns what a column or metric is called in a figure, with its unit."""
  return ', '.join(filter(None, [name_in_words(name), unit_in_words(name)]))


def dress(
  page: Page,
  height: float,
  title: str = '',
  caption: str = '',
  has_strips: bool = False,
) -> list[Any]:
  """Returns theme, title and caption, at a size in inches without the texts.

  Both texts break their lines at the width, and the figure grows with them as
  far as the page is high.

  Args:
    page: what the figure is drawn for.
    height: without the texts.
    title: above the figure.
    caption: below it.
    has_strips: whether panels are named above them, as near as the title.
  """
  layers: list[Any] = []
  room = 0.97 * page.width
  if title:
    title = wrap(title, room, page, at_commas=True)
    layers.append(gg.ggtitle(title))
    height += (title.count('\n') + 1) * 0.15
  if caption:
    caption = wrap(caption, room, page, FONT_SIZE - 2)
    layers.append(gg.labs(caption=caption))
    height += (caption.count('\n') + 1) * 0.12
  height = min(height, page.height)
  look = theme(page, height)
  if title and has_strips:
    # plotnine takes a margin below for a share of the width.
    margin = {'b': _STRIP_GAP * height / page.width, 'units': 'pt'}
    look += gg.theme(plot_title=gg.element_text(margin=margin))
  return [*layers, look]


def colours(levels: Sequence[str], setting: str = '') -> list[str]:
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


def positions(levels: Sequence[str]) -> np.ndarray:
  """Returns where the levels of a setting are along an axis.

  Numbers that span a decade are placed by their logarithm, with zero a step
  before the others; other numbers evenly, and words, like numbers below zero,
  side by side.

  Args:
    levels: as text, in their order.
  """
  numbers = pd.to_numeric(pd.Series(levels), errors='coerce')
  positive = numbers[numbers > 0]
  if numbers.isna().any() or (numbers < 0).any() or positive.empty:
    return np.arange(len(levels), dtype=float)
  if positive.max() < 10 * positive.min():
    return numbers.to_numpy(float)
  where = np.log10(np.where(numbers > 0, numbers, np.nan))
  before = np.nanmin(where) - step(where[~np.isnan(where)])
  return np.where(np.isnan(where), before, where)


def step(where: np.ndarray) -> float:
  """Returns the room of a level along an axis.

  It is about a column of the figure, also where some levels are close together.

  Args:
    where: the levels are.
  """
  at = np.unique(where)
  return max(np.diff(at).min(), np.ptp(at) / 8) if len(at) > 1 else 1.0


def with_room(
  labels: Sequence[str],
  where: np.ndarray,
  page: Page,
  width: float,
  size: float = FONT_SIZE,
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
    max(text_width(line, page, size) for line in label.split('\n')) / 2
    for label in labels
  ]
  apart = 0.4 * text_width('0', page, size)
  result, taken, end = [], -np.inf, at[-1] - halves[-1] - apart
  for place, (label, x, half) in enumerate(
    zip(labels, at, halves, strict=True), 1
  ):
    fits = x - half >= taken and (place in (1, len(at)) or x + half <= end)
    result.append(label if fits else '')
    taken = x + half + apart if fits else taken
  return result


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


def legend(labels: Sequence[str], page: Page, title: str = '') -> Legend:
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
  width = lambda text: text_width(text, page, FONT_SIZE - 1.5)
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
    note: a sentence on what it lacks.
    layers: scale and title.
    fill: the scale of areas in the same colours, which has no legend.
  """

  levels: Sequence[str]
  where: np.ndarray | None
  height: float
  note: str
  layers: Sequence[Any]
  fill: Any

  def of(self, values: pd.Series) -> pd.Series:
    """Returns what stands for levels in a column that is mapped to a colour."""
    if self.where is None:
      return pd.Series(pd.Categorical(values, self.levels), values.index)
    return values.map(dict(zip(self.levels, self.where, strict=True)))


def hues(levels: Sequence[str], page: Page, setting: str = '') -> Hues:
  """Returns the colours of a setting's levels.

  Numbers that are more than can be told apart have a bar with ticks at some of
  them, along which they are as on an axis (`positions`); others have keys.

  Args:
    levels: as text, in their order.
    page: what the figure is drawn for.
    setting: of which they are; empty where they are names.
  """
  title = name_in_words(setting)
  if len(levels) <= len(PALETTE) or not _are_ordered(levels, setting):
    keys = legend(levels, page, title)
    shades = colours(levels, setting)
    scale = gg.scale_color_manual(
      shades, guide=keys.guide, breaks=keys.breaks, drop=False
    )
    fill = gg.scale_fill_manual(shades, guide=None, drop=False)
    layers = [scale, gg.labs(color=title)]
    return Hues(levels, None, keys.height, keys.note, layers, fill)
  where, size = positions(levels), FONT_SIZE - 1.5
  room = 0.9 * page.width - text_width(title, page) - 0.2
  bar = max(0.8, min(0.5 * page.width, room))
  ticks = dict(
    zip(with_room(levels, where, page, 0.95 * bar, size), where, strict=True)
  )
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
    '',
    [scale, gg.labs(color=title)],
    gg.scale_fill_gradientn(shades, guide=None),
  )


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
  """Checks that a frame can be drawn.

  Raises:
    FigureError: columns are missing, or there are no rows.
  """
  if missing := [name for name in columns if name not in frame.columns]:
    raise FigureError(f'the table lacks the columns {", ".join(missing)}')
  if frame.empty:
    raise FigureError('the table has no rows yet')


# -- Files --------------------------------------------------------------------


def close(figure: Any) -> None:
  """Frees a figure that a plot has drawn."""
  import matplotlib.pyplot as plt  # Slow, and --help has no use for it.

  plt.close(figure)


def save(
  plot: gg.ggplot,
  stem: pathlib.Path,
  formats: Sequence[str],
  origin: str,
  pixels: int = 1,
) -> list[pathlib.Path]:
  """Writes a figure with where it comes from.

  The same figure and versions give the same bytes.

  Args:
    plot: the figure.
    stem: the file without its suffix.
    formats: of `FORMATS`.
    origin: runs, commit and command, for the file's metadata.
    pixels: as of `Page`.

  Returns:
    The files.
  """
  # Type 42 embeds the fonts, as publishers ask.
  with mpl.rc_context({'pdf.fonttype': 42}):
    figure = (plot + gg.theme(dpi=DPI)).draw()
    paths = []
    for suffix in formats:
      path = pathlib.Path(f'{stem}.{suffix}')
      metadata = (
        {'Description': origin}
        if suffix == 'png'
        # A date alone would make two files of the same figure differ.
        else {'Subject': origin, 'CreationDate': None}
      )
      buffer = io.BytesIO()
      options = (
        {'dpi': DPI * pixels, 'pil_kwargs': {'dpi': (DPI, DPI)}}
        if suffix == 'png'
        else {'dpi': DPI}
      )
      figure.savefig(buffer, format=suffix, metadata=metadata, **options)
      records.write_figure(path, buffer.getvalue())
      paths.append(path)
    close(figure)
  return paths
