"""Animations: images that change together, to and fro without end."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.backends.backend_agg
import matplotlib.figure
import numpy as np
import PIL.Image

from analysis import figures, grids

FORMAT = 'gif'

# For screens: a figure of two columns fills most of a page in a browser.
DPI = 150

# The most that an image is wide or high, and between images, in inches.
_LARGEST, _GAP = 1.0, 0.08

_MILLISECONDS = 150
_COLOURS = 256


class Animation(NamedTuple):
  """Pictures that a notebook shows one after the other.

  Attributes:
    pictures: uint8 [T, height, width, 3], from one end to the other.
  """

  pictures: np.ndarray

  def gif(self, origin: str = '') -> bytes:
    """Returns a GIF that goes to the last picture and back, again and again.

    Greys are kept as they are; other pictures share the 256 colours that fit
    them best. The same pictures and versions give the same bytes.

    Args:
      origin: where it comes from, for its comment.
    """
    if (self.pictures == self.pictures[..., :1]).all():
      forth = [PIL.Image.fromarray(p) for p in self.pictures[..., 0]]
    else:
      # One palette, so that what stands still does not flicker.
      # One pixel in nine has nearly all colours, as images are drawn larger.
      strip = np.concatenate([picture[::3, ::3] for picture in self.pictures])
      palette = PIL.Image.fromarray(strip).quantize(
        _COLOURS,
        # A median cut alone would drop what is rare, such as one red.
        PIL.Image.Quantize.MAXCOVERAGE,
        kmeans=1,
        dither=PIL.Image.Dither.NONE,
      )
      forth = [
        PIL.Image.fromarray(picture).quantize(
          palette=palette, dither=PIL.Image.Dither.NONE
        )
        for picture in self.pictures
      ]
    return _to_and_fro(forth, 'GIF', comment=origin.encode())

  def webp(self, most: int) -> bytes:
    """Returns a WebP that moves as the GIF does, which all browsers show.

    Every colour is kept, but where that takes more bytes than `most`; then
    they are near those that were.
    """
    forth = [PIL.Image.fromarray(picture) for picture in self.pictures]
    exact = _to_and_fro(forth, 'WEBP', lossless=True, method=2, quality=50)
    if len(exact) <= most:
      return exact
    return _to_and_fro(forth, 'WEBP', quality=90)

  def _repr_mimebundle_(self, **_) -> dict[str, str]:
    return {'image/gif': base64.b64encode(self.gif()).decode()}


def _to_and_fro(
  forth: Sequence[PIL.Image.Image], kind: str, **options: Any
) -> bytes:
  """Writes pictures that go to the last one and back, again and again."""
  first, *others = [*forth, *forth[-2:0:-1]]
  buffer = io.BytesIO()
  first.save(
    buffer,
    kind,
    save_all=True,
    append_images=others,
    duration=_MILLISECONDS,
    loop=0,
    **options,
  )
  return buffer.getvalue()


def draw(
  images: np.ndarray,
  labels: Sequence[Sequence[str]],
  captions: Sequence[str],
  page: figures.Page,
  title: str = '',
  note: str = '',
) -> Animation:
  """Draws images in a grid, each pixel as a square of whole device pixels.

  Args:
    images: [T, blocks, N, H, W, C] in [0, 1], C of 1 or 3; each block starts a
      row of the grid, and takes as many as it needs.
    labels: what stands above each image, [blocks][N].
    captions: what stands below them all, at each of the T times.
    page: what it is drawn for; its width is the most that is taken.
    title: of the animation.
    note: below the caption.

  Raises:
    FigureError: arrays that are no images.
  """
  _, blocks, cells, height, width, _ = images.shape
  dpi = DPI * page.pixels
  gap = round(_GAP * dpi)
  with mpl.rc_context({'font.family': page.family, 'text.parse_math': False}):
    figure = mpl.figure.Figure(dpi=dpi)
    renderer = mpl.backends.backend_agg.FigureCanvasAgg(figure).get_renderer()

    def measure(text: str, size: float) -> tuple[int, int]:
      """Returns how wide and high a text is, in device pixels."""
      extent = figure.text(0, 0, text, size=size).get_window_extent(renderer)
      return int(np.ceil(extent.width)), int(np.ceil(extent.height))

    sizes = [
      measure(label, figures.LABEL_SIZE) for row in labels for label in row
    ]
    label_width, label_height = np.max(sizes, axis=0).tolist()
    label_height += gap // 2
    columns, scale = _layout(
      images.shape,
      (int(page.width * dpi), int(page.height * dpi)),
      (label_width + gap, label_height + gap),
      gap,
      int(_LARGEST * dpi),
    )
    rows = -(-cells // columns)
    step_x = max(width * scale, label_width) + gap
    step_y = height * scale + label_height + gap
    across = max(columns * step_x, round(1.6 * dpi))
    inches = across / dpi
    # Letters of a screen are a little wider than those of print.
    room, small = 0.97 * inches - _GAP, figures.FONT_SIZE - 2
    title = figures.wrap(title, room, page) if title else ''
    note = figures.wrap(note, room, page, small) if note else ''
    captions = [figures.wrap(caption, room, page) for caption in captions]
    heights = [
      measure(text, size)[1] + gap if text else 0
      for text, size in (
        (title, figures.FONT_SIZE),
        (max(captions, key=len), figures.FONT_SIZE),
        (note, small),
      )
    ]
    top = heights[0] + gap
    down = top + blocks * rows * step_y + heights[1] + heights[2]

    figure = mpl.figure.Figure((inches, down / dpi), dpi)
    canvas = mpl.backends.backend_agg.FigureCanvasAgg(figure)

    def write(x: int, y: int, text: str, size: float) -> mpl.text.Text:
      return figure.text(
        x / across, 1 - y / down, text, size=size, va='top', ha='left'
      )

    corners = []
    for block in range(blocks):
      for cell in range(cells):
        row = block * rows + cell // columns
        x = gap // 2 + cell % columns * step_x
        y = top + row * step_y
        write(x, y, labels[block][cell], figures.LABEL_SIZE)
        corners.append((block, cell, x, y + label_height))
    bottom = top + blocks * rows * step_y
    write(gap // 2, gap // 2, title, figures.FONT_SIZE)
    write(gap // 2, bottom + heights[1], note, small)
    caption = write(gap // 2, bottom, '', figures.FONT_SIZE)
    pictures = []
    for now, text in zip(images, captions, strict=True):
      caption.set_text(text)
      canvas.draw()
      picture = np.array(canvas.buffer_rgba())[..., :3]
      for block, cell, x, y in corners:
        image = grids.canvas(now[block, cell][None, None])
        picture[y : y + height * scale, x : x + width * scale] = image.repeat(
          scale, axis=0
        ).repeat(scale, axis=1)
      pictures.append(picture)
  return Animation(np.stack(pictures))


def _layout(
  shape: tuple[int, ...],
  room: tuple[int, int],
  label: tuple[int, int],
  gap: int,
  largest: int,
) -> tuple[int, int]:
  """Returns how many images stand side by side, and how large a pixel is.

  The most that is as large as can be; pixels that would be less than one take
  more room than there is.
  """
  _, blocks, cells, height, width, _ = shape
  best = (1, 1)
  for columns in range(1, cells + 1):
    wide, high = room[0] // columns, room[1] // (blocks * -(-cells // columns))
    if wide < label[0] and columns > 1:
      break
    scale = min(
      (wide - gap) // width,
      (high - label[1]) // height,
      largest // max(width, height),
    )
    if scale >= best[1]:
      best = (columns, scale)
  columns, scale = best
  # As many in each row, but for the last.
  return -(-cells // -(-cells // columns)), scale
