"""The look of all figures: theme, palette, image grids, saving."""

import functools
import io
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
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

# Okabe and Ito's colours without yellow, which is faint in thin lines; then it
# and two more. Colour-blind readers can tell all of them apart.
PALETTE = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#000000',
  '#F0E442',
  '#993300',
  '#FF3366',
)

# Pixels between the images of a grid.
_GAP = 2

# Inches that an image is wide at least, where blocks stand side by side.
_SMALLEST = 0.22

# The frame of an image that is marked.
_MARK = PALETTE[1]

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
  """Breaks a text's lines.

  Args:
    text: of one paragraph.
    width: of a line, in inches; at least a letter has room.
    page: whose letters are used.
    size: of these, in points.
    at_commas: whether what stands between commas stays on one line if it can.
  """
  parts = re.split(r'(?<=,)\s+', text) if at_commas else text.split()
  words = [
    word
    for part in parts
    for word in (
      [part] if text_width(part, page, size) <= width else part.split()
    )
  ]
  lines, line = [], ''
  for word in words:
    if text_width(f'{line} {word}'.lstrip(), page, size) <= width:
      line = f'{line} {word}'.lstrip()
      continue
    lines += [line] if line else []
    line = word
    while len(line) > 1 and text_width(line, page, size) > width:
      fits = len(line) - 1
      while fits > 1 and text_width(line[:fits], page, size) > width:
        fits -= 1
      lines.append(line[:fits])
      line = line[fits:]
  return '\n'.join([*lines, line])


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


NATS = ', nats per image'


def in_words(name: str) -> str:
  """Returns what a column or metric is called in a figure, with its unit."""
  words = name.removesuffix('_nats').replace('_', ' ')
  return f'{words}{NATS}' if name.endswith('_nats') else words


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


def colours(count: int) -> list[str]:
  """Returns so many colours that can be told apart, as far as there are."""
  if count <= len(PALETTE):
    return list(PALETTE[:count])
  shades = mpl.colormaps['viridis'](np.linspace(0.0, 0.95, count))
  return [mpl.colors.to_hex(shade) for shade in shades]


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

  Of numbers in more colours than can be told apart some are shown, from the
  first to the last; of other labels as many as a quarter of the page holds.

  Args:
    labels: of its keys, in their order; one alone needs no legend.
    page: what the figure is drawn for.
    title: beside the keys.
  """
  if len(labels) < 2:
    return Legend(0.0, None, labels)
  shown, note = list(labels), ''
  if len(shown) > len(PALETTE) and _are_numbers(shown):
    places = np.linspace(0, len(shown) - 1, 6)
    shown = [labels[place] for place in places.round().astype(int)]
  width = lambda text: text_width(text, page, FONT_SIZE - 1.5)
  room = 0.95 * page.width - (width(title) * 1.1 + 0.1 if title else 0.0)
  columns = int(room / (0.3 + max(map(width, shown))))
  columns = max(1, min(len(shown), columns))
  rows = -(-len(shown) // columns)
  most = int(page.height / 4 / _KEY_INCHES)
  if rows > most:
    shown, rows = shown[: most * columns], most
    note = f'The legend names {len(shown)} of {len(labels)}.'
  elif len(shown) > len(PALETTE):
    note = f'{len(shown)} colours are more than can be told apart.'
  height = _KEY_INCHES * rows
  return Legend(height, gg.guide_legend(ncol=columns), shown, note)


def _are_numbers(labels: Sequence[str]) -> bool:
  try:
    return bool([*map(float, labels)])
  except ValueError:
    return False


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
  """Checks that a frame can be drawn.

  Raises:
    FigureError: columns are missing, or there are no rows.
  """
  if missing := [name for name in columns if name not in frame.columns]:
    raise FigureError(f'the table lacks the columns {", ".join(missing)}')
  if frame.empty:
    raise FigureError('the table has no rows yet')


# -- Image grids --------------------------------------------------------------


def stack(images: pd.Series) -> np.ndarray:
  """Returns the images of a frame's column as one array, [N, H, W, C].

  Raises:
    FigureError: images of several shapes, or no images.
  """
  shapes = {np.shape(image) for image in images}
  if len(shapes) != 1:
    raise FigureError(f'the images differ in shape: {sorted(shapes)}')
  return np.stack(list(images))


def canvas(images: np.ndarray) -> np.ndarray:
  """Returns a grid of images as one picture, with white gaps.

  Args:
    images: [rows, columns, H, W, C] in [0, 1], C of 1 or 3.

  Returns:
    uint8 [height, width, 3].

  Raises:
    FigureError: another shape.
  """
  if images.ndim != 5 or images.shape[-1] not in (1, 3):
    raise FigureError(
      'images must have shape [rows, columns, H, W, 1 or 3], got '
      f'{images.shape}'
    )
  rows, columns, height, width, _ = images.shape
  # A pixel that is no number is drawn black, as zero is.
  finite = np.nan_to_num(images, nan=0.0)
  levels = np.rint(np.clip(finite, 0.0, 1.0) * 255).astype(np.uint8)
  result = np.full(
    (rows * (height + _GAP), columns * (width + _GAP), 3), 255, np.uint8
  )
  tiles = result.reshape(rows, height + _GAP, columns, width + _GAP, 3)
  tiles[:, :height, :, :width] = levels.transpose(0, 2, 1, 3, 4)
  return result[:-_GAP, :-_GAP]


def image_grid(images: np.ndarray) -> pd.DataFrame:
  """Returns the pixels of a grid of images.

  Args:
    images: as in `canvas`.

  Returns:
    A row for each pixel: `x` from left to right and `y` from bottom to top, in
    pixels of the whole grid, and `colour` as '#rrggbb'.
  """
  codes = canvas(images).astype(np.uint32) @ np.array(
    [65536, 256, 1], np.uint32
  )
  unique, inverse = np.unique(codes, return_inverse=True)
  names = np.array([f'#{code:06x}' for code in unique], dtype=object)
  y, x = np.indices(codes.shape)
  return pd.DataFrame(
    {
      'x': x.ravel(),
      'y': (len(codes) - 1 - y).ravel(),
      'colour': names[inverse.ravel()],
    }
  )


def _centres(count: int, size: int) -> np.ndarray:
  """The middles of the images of a grid along one axis, in pixels."""
  return np.arange(count) * (size + _GAP) + (size - 1) / 2


def plot_images(
  images: np.ndarray,
  page: Page,
  title: str = '',
  x: str = '',
  y: str = '',
  columns: Sequence[str] = (),
  rows: Sequence[str] = (),
  marked: Sequence[tuple[int, int]] = (),
) -> gg.ggplot:
  """Draws a grid of images, each pixel as a square of whole device pixels.

  Args:
    images: [rows, columns, H, W, C] in [0, 1], C of 1 or 3.
    page: what it is drawn for; its width is the most that is taken.
    title: of the figure.
    x: what the columns are.
    y: what the rows are.
    columns: a label for each column, of which as many are shown as there is
      room for; or none.
    rows: likewise, from top to bottom; all are shown.
    marked: row and column of images that are framed.

  Raises:
    FigureError: arrays that are no images.
  """
  block = Block('', images, rows, marked)
  return plot_blocks([block], page, title, x, y, columns)


class Block(NamedTuple):
  """A grid of images beside others.

  Attributes:
    name: what stands above it, another one for each.
    images: [rows, columns, H, W, C] in [0, 1], C of 1 or 3.
    rows: a label for each row, from top to bottom; or none.
    marked: row and column of images that are framed.
    note: what stands below it.
  """

  name: str
  images: np.ndarray
  rows: Sequence[str] = ()
  marked: Sequence[tuple[int, int]] = ()
  note: str = ''


def plot_blocks(
  blocks: Sequence[Block],
  page: Page,
  title: str = '',
  x: str = '',
  y: str = '',
  columns: Sequence[str] = (),
) -> gg.ggplot:
  """Draws grids of images beside each other, or below where it is too narrow.

  Args:
    blocks: of images of one shape, and as many columns; as many rows as each
      has.
    page: as of `plot_images`.
    title: likewise.
    x: likewise, of all blocks.
    y: likewise.
    columns: likewise.

  Raises:
    FigureError: arrays that are no images.
  """
  for block in blocks:
    canvas(block.images)  # Which refuses what is no image.
  _, num_columns, image_height, image_width, _ = blocks[0].images.shape
  num_rows = max(len(block.images) + bool(block.note) for block in blocks)
  grids, corners, framed, notes, breaks = [], [], [], [], []
  right = _centres(num_columns, image_width)
  across = num_columns * (image_width + _GAP) - _GAP
  down = num_rows * (image_height + _GAP) - _GAP
  for place, block in enumerate(blocks):
    # Where a block has fewer rows there is paper.
    images = np.ones((num_rows, *block.images.shape[1:]))
    images[: len(block.images)] = block.images
    # Each block has a stretch of the axis, and so its own labels.
    low = 2 * down * place
    grid = image_grid(images).assign(place=place)
    grid['y'] += low
    grids.append(grid)
    corners += [(place, 0, low), (place, across - 1, low + down - 1)]
    up = low + _centres(num_rows, image_height)[::-1]
    breaks += [*up[: len(block.rows)]]
    framed += [
      (
        place,
        *(right[column] - image_width / 2, right[column] + image_width / 2),
        *(up[row] - image_height / 2, up[row] + image_height / 2),
      )
      for row, column in block.marked
    ]
    if block.note:
      above = len(block.images) * (image_height + _GAP)
      notes.append((place, -0.5, low + down - 0.5 - above, block.note))
  labels = [label for block in blocks for label in block.rows]
  row_points = 72 * page.height / num_rows
  look = [
    gg.scale_y_continuous(breaks=breaks, labels=labels, expand=(0, 0)),
    gg.theme(
      panel_grid_major=gg.element_blank(),
      panel_border=gg.element_blank(),
      axis_ticks=gg.element_blank(),
      **{
        'axis_text_y': gg.element_text(size=min(LABEL_SIZE, 0.75 * row_points))
      }
      | {
        name: gg.element_blank()
        for name, shown in (
          ('axis_title_x', x),
          ('axis_title_y', y),
          ('axis_text_x', columns),
          ('axis_text_y', labels),
        )
        if not shown
      },
    ),
  ]
  ends = pd.DataFrame(corners, columns=['place', 'x', 'y'])

  limits = {'xlim': (-0.5, across - 0.5), 'ylim': (-0.5, down - 0.5)}

  def facets(wide: int, panel: float) -> list[Any]:
    if len(blocks) == 1:
      return []
    names = [wrap(block.name, 0.95 * panel, page) for block in blocks]
    return [
      gg.facet_wrap(
        'place',
        ncol=wide,
        scales='free_y',
        labeller=lambda place: names[int(place)],
      ),
      gg.theme(strip_text=gg.element_text(size=FONT_SIZE - 1, ha='left')),
    ]

  def margins(wide: int, layers: list[Any]) -> tuple[float, float]:
    plot = gg.ggplot(ends, gg.aes('x', 'y')) + gg.geom_blank()
    if len(blocks) == 1:
      plot += gg.coord_cartesian(**limits, expand=False)
    return _margins(plot + layers, wide, -(-len(blocks) // wide))

  # How much room the labels take is known after drawing them; only then can
  # the panel have a whole number of device pixels for each pixel.
  wide = len(blocks)
  while True:
    around = [theme(page, page.height), *look, *facets(wide, page.width / wide)]
    beside, _ = margins(wide, [gg.labs(x=x, y=y), *around])
    room = (page.width - beside) / (wide * across)
    if wide == 1 or room * image_width >= _SMALLEST:
      break
    wide -= 1
  high = -(-len(blocks) // wide)
  room = min(room, (page.height - 1) / (high * down))
  pixel = max(1, int(DPI * room + 1e-6)) / DPI  # inches
  step = 1
  if columns:
    widest = max(text_width(name, page, LABEL_SIZE) for name in columns)
    label = widest + text_width('0', page, LABEL_SIZE)
    step = math.ceil(label / ((image_width + _GAP) * pixel))
  panel, panels = pixel * across, pixel * across * wide
  # A figure of few columns still has room for its title.
  narrowest = min(page.width, 1.6)
  layers = [
    gg.scale_x_continuous(
      breaks=[*right[::step]] if columns else [],
      labels=list(columns[::step]),
      expand=(0, 0),
    ),
    gg.labs(
      x=wrap(x, 0.9 * panels, page), y=wrap(y, 0.9 * pixel * down * high, page)
    ),
    *dress(
      page._replace(width=max(beside + panels, narrowest)), page.height, title
    ),
    *look,
    *facets(wide, panel),
  ]
  size = max(beside + panels, narrowest), page.height
  for _ in range(2):  # The outer margin is a share of the size itself.
    beside, above = margins(wide, [*layers, gg.theme(figure_size=size)])
    size = max(beside + panels, narrowest), above + pixel * down * high
  plot = (
    gg.ggplot(pd.concat(grids), gg.aes('x', 'y', fill='colour', group=1))
    # Each by itself, as between blocks there is no even step.
    + [gg.geom_raster(data=grid, interpolation='none') for grid in grids]
    + gg.scale_fill_identity()
    + layers
    + gg.theme(figure_size=size)
  )
  for frame in framed:  # One by one they are drawn on whole device pixels.
    plot += gg.geom_rect(
      gg.aes(xmin='left', xmax='right', ymin='low', ymax='high'),
      pd.DataFrame([frame], columns=['place', 'left', 'right', 'low', 'high']),
      inherit_aes=False,
      fill='none',
      color=_MARK,
      size=0.5,
    )
  if notes:
    rows = pd.DataFrame(notes, columns=['place', 'x', 'y', 'note'])
    wrapped = [wrap(note, panel, page, LABEL_SIZE) for note in rows['note']]
    plot += gg.geom_text(
      gg.aes('x', 'y', label='note'),
      rows.assign(note=wrapped),
      inherit_aes=False,
      size=LABEL_SIZE,
      family=page.family,
      ha='left',
      va='top',
    )
  if len(blocks) == 1:
    return plot + gg.coord_fixed(**limits, expand=False)
  return plot


def plot_over_latents(
  frame: pd.DataFrame, page: Page, title: str, x: str, y: str
) -> gg.ggplot:
  """Draws images over two latents (or a row over one).

  Args:
    frame: columns first (the latent across), second (upwards; NaN where there
      is one latent) and image, [H, W, C].
    page: what it is drawn for; its width is the most that is taken.
    title: of the figure.
    x: what the first latent is.
    y: what the second is.

  Raises:
    FigureError: missing columns, no rows, or no full grid.
  """
  check_columns(frame, ['first', 'second', 'image'])
  one = frame['second'].isna().all()
  ordered = frame.sort_values(
    ['second', 'first'], ascending=[False, True], kind='stable'
  )
  columns = frame['first'].nunique()
  rows = len(frame) // columns
  if rows * columns != len(frame):
    raise FigureError(f'{len(frame)} images are no grid of {columns} columns')
  images = stack(ordered['image'])
  return plot_images(
    images.reshape(rows, columns, *images.shape[1:]),
    page,
    title,
    x=x,
    y='' if one else y,
    columns=[*map(number, ordered['first'].iloc[:columns])],
    rows=() if one else [*map(number, ordered['second'].iloc[::columns])],
  )


def _margins(
  plot: gg.ggplot, wide: int = 1, high: int = 1
) -> tuple[float, float]:
  """Inches beside and above or below a plot's panels, and between them."""
  figure = (plot + gg.theme(dpi=DPI)).draw()
  figure.draw_without_rendering()
  panel = figure.axes[0].get_window_extent()
  width, height = figure.get_size_inches()
  close(figure)
  return width - wide * panel.width / DPI, height - high * panel.height / DPI


def close(figure: Any) -> None:
  """Frees a figure that a plot has drawn."""
  import matplotlib.pyplot as plt  # Slow, and --help has no use for it.

  plt.close(figure)


# -- Files --------------------------------------------------------------------


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
