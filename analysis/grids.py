"""Grids of images: pictures, and grids beside each other with their labels."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, figures, wording

# Pixels between the images of a grid.
_GAP = 2

# Inches: the least that an image is wide where blocks stand side by side, what
# is between blocks, and beside labels.
_SMALLEST, _BETWEEN, _BESIDE = 0.22, 0.1, 0.04

# Of a line of letters, in inches for each point.
_LINE = 1.3 / 72

_NAME_SIZE, _LABEL_SIZE = figures.FONT_SIZE - 1, figures.LABEL_SIZE

# The frame of an image that is marked.
_MARK = colours.PALETTE[1]


def stack(images: pd.Series) -> np.ndarray:
  """Returns the images of a frame's column as one array, [N, H, W, C].

  Raises:
    FigureError: images of several shapes, or no images.
  """
  shapes = {np.shape(image) for image in images}
  if len(shapes) != 1:
    raise figures.FigureError(f'the images differ in shape: {sorted(shapes)}')
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
    raise figures.FigureError(
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


def plot_images(
  images: np.ndarray,
  page: figures.Page,
  title: str = '',
  x: str = '',
  y: str = '',
  columns: Sequence[str] = (),
  rows: Sequence[str] = (),
  marked: Sequence[tuple[int, int]] = (),
  caption: str = '',
) -> gg.ggplot:
  """Draws a grid of images, each pixel a square of whole device pixels.

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
    caption: below the figure.

  Raises:
    FigureError: arrays that are no images.
  """
  block = Block('', images, rows, marked)
  return plot_blocks([block], page, title, x, y, columns, caption)


def plot_blocks(
  blocks: Sequence[Block],
  page: figures.Page,
  title: str = '',
  x: str = '',
  y: str = '',
  columns: Sequence[str] = (),
  caption: str = '',
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
    caption: likewise.

  Raises:
    FigureError: arrays that are no images.
  """
  for block in blocks:
    canvas(block.images)  # Which refuses what is no image.
  look = [
    gg.scale_x_continuous(breaks=[], expand=(0, 0)),
    gg.scale_y_continuous(breaks=[], expand=(0, 0)),
  ]
  bare = gg.theme(
    panel_grid_major=gg.element_blank(),
    panel_border=gg.element_blank(),
    axis_ticks=gg.element_blank(),
    axis_text=gg.element_blank(),
    **{
      name: gg.element_blank()
      for name, shown in (('axis_title_x', x), ('axis_title_y', y))
      if not shown
    },
  )
  empty = gg.ggplot(pd.DataFrame({'x': [0.0], 'y': [0.0]}), gg.aes('x', 'y'))
  empty += gg.geom_blank()
  # How much room texts take is known after drawing them, and how their lines
  # break when it is known how much the images take.
  beside, above = 0.0, 0.0
  # A figure of few columns still has room for its texts.
  texts = [
    figures.text_width(title, page),
    figures.text_width(caption, page, figures.FONT_SIZE - 2),
  ]
  narrowest = min(page.width, 1.05 * max(texts))
  for _ in range(9):
    layout = _fit(
      blocks, columns, page, page.width - beside, page.height - above
    )
    width, height = layout.width * layout.pixel, layout.height * layout.pixel
    across = max(beside + width, narrowest)
    layers = [
      *look,
      gg.labs(
        x=figures.wrap(x, 0.9 * (across - beside), page),
        y=figures.wrap(y, 0.9 * height, page),
      ),
      *figures.dress(page._replace(width=across), page.height, title, caption),
      bare,
    ]
    limits = {
      'xlim': (-0.5, layout.width - 0.5),
      'ylim': (0.5 - layout.height, 0.5),
      'expand': False,
    }
    dpi = math.ceil(figures.DPI * layout.pixel - 1e-6) / layout.pixel
    drawn = empty + gg.coord_cartesian(**limits) + layers
    size = across, above + height
    beside, above = _margins(drawn + gg.theme(figure_size=size), dpi)
    if max(beside + width - page.width, above + height - page.height) < 0.01:
      break
  for _ in range(2):  # The outer margin is a share of the size itself.
    size = max(beside + width, narrowest), above + height
    beside, above = _margins(drawn + gg.theme(figure_size=size), dpi)
  plot = figures.Pictures() + layers + gg.theme(figure_size=size)
  plot += gg.coord_fixed(**limits)
  plot.dpi = dpi
  for block, (left, top) in zip(blocks, layout.corners, strict=True):
    grid = image_grid(block.images)
    grid['x'] += left
    grid['y'] -= top + grid['y'].max()
    plot += gg.geom_raster(
      gg.aes('x', 'y', fill='colour', group=1), grid, interpolation='none'
    )
  plot += gg.scale_fill_identity()
  for frame in _frames(blocks, layout):  # So they are on whole device pixels.
    plot += gg.geom_rect(
      gg.aes(xmin='left', xmax='right', ymin='low', ymax='high'),
      pd.DataFrame([frame], columns=['left', 'right', 'low', 'high']),
      fill='none',
      color=_MARK,
      size=0.5,
    )
  labels = pd.DataFrame(_texts(blocks, columns, layout))
  for (ha, va, points), lines in labels.groupby(['ha', 'va', 'size']):
    plot += gg.geom_text(
      gg.aes('x', 'y', label='text'),
      lines,
      size=points,
      family=page.family,
      ha=ha,
      va=va,
    )
  return plot


class _Layout(NamedTuple):
  """The places of blocks, in pixels of images from the upper left corner down.

  Attributes:
    pixel: how wide and high one is, in inches.
    width: of all.
    height: likewise.
    corners: left and top of each block's first image.
    step: every so many columns have a label.
    size: of the letters of rows, in points.
    names: of each block, with its lines broken.
    notes: likewise.
  """

  pixel: float
  width: int
  height: int
  corners: Sequence[tuple[int, int]]
  step: int
  size: float
  names: Sequence[str]
  notes: Sequence[str]


def _fit(
  blocks: Sequence[Block],
  columns: Sequence[str],
  page: figures.Page,
  width: float,
  height: float,
) -> _Layout:
  """Returns the layout of the largest images that fits so many inches.

  As many blocks stand side by side as leave images large enough.
  """
  _, num_columns, _, image_width, _ = blocks[0].images.shape
  layouts, least = [], 1 / figures.DPI
  for wide in range(len(blocks), 0, -1):
    pixel = width / (wide * num_columns * image_width)
    while True:
      layout = _lay_out(blocks, columns, page, wide, pixel)
      # Letters do not shrink with images.
      fitting = min(width / layout.width, height / layout.height)
      if fitting > 0.9999 * pixel or pixel == least:
        break
      pixel = max(least, fitting)
    # Blocks that are too high side by side are so below each other.
    over = [
      max(0.0, layout.width * layout.pixel - 1.0001 * width),
      max(0.0, layout.height * layout.pixel - 1.0001 * height),
    ]
    if not any(over) and layout.pixel * image_width >= _SMALLEST:
      return layout
    layouts.append((*over, -layout.pixel, layout))
  return min(layouts, key=lambda found: found[:3])[-1]


def _lay_out(
  blocks: Sequence[Block],
  columns: Sequence[str],
  page: figures.Page,
  wide: int,
  pixel: float,
) -> _Layout:
  """Returns the layout of so many blocks side by side, of a pixel's inches."""
  pixels = lambda inches: math.ceil(inches / pixel - 1e-6)
  _, num_columns, image_height, image_width, _ = blocks[0].images.shape
  across = num_columns * (image_width + _GAP) - _GAP
  size = min(_LABEL_SIZE, 65 * (image_height + _GAP) * pixel)
  measure = lambda text, size: figures.text_width(text, page, size)
  widest = max((measure(name, _LABEL_SIZE) for name in columns), default=0.0)
  apart = widest + measure('0', _LABEL_SIZE)
  step = max(1, math.ceil(apart / ((image_width + _GAP) * pixel)))
  # What labels of the outer columns need beside their images.
  over = max(0, pixels((widest - image_width * pixel) / 2))
  beside = [
    max(
      [over]
      + [
        # Letters on a screen are a little wider than those of print.
        pixels(1.04 * measure(row, size) + _BESIDE)
        for block in blocks[place::wide]
        for row in block.rows
        if row
      ]
    )
    for place in range(wide)
  ]
  room = across * pixel
  names = [figures.wrap(b.name, room, page, _NAME_SIZE) for b in blocks]
  notes = [figures.wrap(b.note, room, page, _LABEL_SIZE) for b in blocks]
  lines = lambda text, size: pixels(_LINE * size * len(text.splitlines()))
  corners, top = [], 0
  for start in range(0, len(blocks), wide):
    if start:
      top += pixels(_BETWEEN)
    line = range(start, min(start + wide, len(blocks)))
    top += max(lines(names[place], _NAME_SIZE) for place in line)
    left = 0
    for place in line:
      left += beside[place - start] + (place > start) * pixels(_BETWEEN)
      corners.append((left, top))
      left += across + over
    top += max(
      _down(blocks[place])
      + (lines('x', _LABEL_SIZE) if columns else 0)
      + lines(notes[place], _LABEL_SIZE)
      for place in line
    )
  width = sum(beside) + wide * (across + over) + (wide - 1) * pixels(_BETWEEN)
  return _Layout(pixel, width, top, corners, step, size, names, notes)


def _down(block: Block) -> int:
  """Returns how high a block's images are."""
  rows, _, height, _, _ = block.images.shape
  return rows * (height + _GAP) - _GAP


def _centres(count: int, size: int) -> np.ndarray:
  """Returns the middles of a grid's images along one axis, [count]."""
  return np.arange(count) * (size + _GAP) + (size - 1) / 2


def _frames(
  blocks: Sequence[Block], layout: _Layout
) -> Iterator[tuple[float, float, float, float]]:
  """Yields the edges of what is marked: left, right, low and high."""
  for block, (left, top) in zip(blocks, layout.corners, strict=True):
    _, _, height, width, _ = block.images.shape
    for row, column in block.marked:
      x = left + column * (width + _GAP) - 0.5
      y = top + row * (height + _GAP) - 0.5
      yield x, x + width, -y - height, -y


def _texts(
  blocks: Sequence[Block], columns: Sequence[str], layout: _Layout
) -> Iterator[dict[str, Any]]:
  """Yields what is written: at x and y, how it is aligned, in points."""
  beside = _BESIDE / 2 / layout.pixel
  for block, (left, top), name, note in zip(
    blocks, layout.corners, layout.names, layout.notes, strict=True
  ):
    rows, num_columns, height, width, _ = block.images.shape

    def text(x, y, text, ha, va, size=_LABEL_SIZE, corner=(left, top)):
      x, y = corner[0] + x, -corner[1] - y
      return {'x': x, 'y': y, 'text': text, 'ha': ha, 'va': va, 'size': size}

    yield text(-0.5, -0.5 - beside, name, 'left', 'bottom', _NAME_SIZE)
    for y, label in zip(_centres(rows, height), block.rows, strict=False):
      yield text(-0.5 - beside, y, label, 'right', 'center', layout.size)
    below = _down(block) - 0.5 + beside
    for x, label in [*zip(_centres(num_columns, width), columns, strict=False)][
      :: layout.step
    ]:
      yield text(x, below, label, 'center', 'top')
    if columns:
      below += _LINE * _LABEL_SIZE / layout.pixel
    yield text(-0.5, below, note, 'left', 'top')


def _margins(plot: gg.ggplot, dpi: float) -> tuple[float, float]:
  """Returns the inches beside, and above and below, a plot's panel."""
  figure = (plot + gg.theme(dpi=dpi)).draw()
  figure.draw_without_rendering()
  panel = figure.axes[0].get_window_extent()
  width, height = figure.get_size_inches()
  figures.close(figure)
  return width - panel.width / dpi, height - panel.height / dpi


def plot_over_latents(
  frame: pd.DataFrame,
  page: figures.Page,
  title: str,
  x: str,
  y: str,
  caption: str,
) -> gg.ggplot:
  """Draws images over two latents (or a row over one).

  Args:
    frame: columns first (the latent across), second (upwards; NaN where there
      is one latent) and image, [H, W, C].
    page: what it is drawn for; its width is the most that is taken.
    title: of the figure.
    x: what the first latent is.
    y: what the second is.
    caption: below the figure.

  Raises:
    FigureError: missing columns, no rows, or no full grid.
  """
  figures.check_columns(frame, ['first', 'second', 'image'])
  one = frame['second'].isna().all()
  ordered = frame.sort_values(
    ['second', 'first'], ascending=[False, True], kind='stable'
  )
  columns = frame['first'].nunique()
  rows = len(frame) // columns
  if rows * columns != len(frame):
    raise figures.FigureError(
      f'{len(frame)} images are no grid of {columns} columns'
    )
  images = stack(ordered['image'])
  return plot_images(
    images.reshape(rows, columns, *images.shape[1:]),
    page,
    title,
    x=x,
    y='' if one else y,
    columns=[*map(wording.number, ordered['first'].iloc[:columns])],
    rows=()
    if one
    else [*map(wording.number, ordered['second'].iloc[::columns])],
    caption=caption,
  )
