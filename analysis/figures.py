"""The look of all figures: pages, theme, texts, saving."""

import functools
import io
import itertools
import pathlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
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

# Points, as in a paper's caption; and of what labels the axes.
FONT_SIZE = 8
LABEL_SIZE = 6.5

# Between a title and the names of panels, in points.
_STRIP_GAP = 10


# What is warned of letters that the font lacks, which are drawn as boxes.
NO_LETTER = 'Glyph .* missing from font'


class FigureError(ValueError):
  """A figure cannot be drawn from what a run has written."""


class _Theme(gg.theme_bw):
  """Text is what it says, and no mathematics between two dollars."""

  def __init__(self, family: str):
    super().__init__(FONT_SIZE, family)
    # Of the letters in panels too.
    self._rcParams['font.family'] = family
    self._rcParams['text.parse_math'] = False


class Pictures(gg.ggplot):
  """A figure of images, with as many dots as their pixels need.

  Attributes:
    dpi: at which each pixel of an image is a square of whole device pixels; at
      least that of other figures.
  """

  dpi: float = DPI


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
  with warnings.catch_warnings():  # Drawing the text warns.
    warnings.filterwarnings('ignore', message=NO_LETTER)
    width, _, _ = textpath.text_to_path.get_text_width_height_descent(
      text, letters, ismath=False
    )
  return width / 72


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
    dpi = plot.dpi if isinstance(plot, Pictures) else DPI
    figure = (plot + gg.theme(dpi=dpi)).draw()
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
        {'dpi': dpi * pixels, 'pil_kwargs': {'dpi': (dpi, dpi)}}
        if suffix == 'png'
        else {'dpi': dpi}
      )
      figure.savefig(buffer, format=suffix, metadata=metadata, **options)
      records.write_figure(path, buffer.getvalue())
      paths.append(path)
    close(figure)
  return paths
