"""Grids of images: their pixels, and where they are drawn."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import plotnine as gg
import pytest

from analysis import figures, grids
from tests.analysis import builders

# -- Pictures -----------------------------------------------------------------


def test_image_grid_places_every_pixel():
  grid = builders.images(2, 3, 4, 5, 1)
  frame = grids.image_grid(grid)
  canvas = {
    (x, y): colour
    for x, y, colour in frame[['x', 'y', 'colour']].itertuples(index=False)
  }
  assert len(canvas) == (2 * 4 + 2) * (3 * 5 + 2 * 2)
  top = 2 * 4 + 2 - 1
  for row, column, y, x in np.ndindex(2, 3, 4, 5):
    level = round(float(grid[row, column, y, x, 0]) * 255)
    place = (column * 7 + x, top - row * 6 - y)
    assert canvas[place] == f'#{level:02x}{level:02x}{level:02x}'
  assert canvas[5, 0] == '#ffffff'  # The gap.


def test_colours_keep_their_channels():
  grid = np.zeros((1, 1, 1, 1, 3))
  grid[..., 0], grid[..., 2] = 1.0, 0.2
  assert grids.image_grid(grid)['colour'].tolist() == ['#ff0033']


def test_a_pixel_that_is_no_number_is_black():
  grid = np.full((1, 1, 1, 1, 1), np.nan)
  assert grids.image_grid(grid)['colour'].tolist() == ['#000000']


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 1, 4, 5, 2)])
def test_grids_of_other_shapes_are_refused(shape):
  with pytest.raises(figures.FigureError, match='must have shape'):
    grids.image_grid(np.zeros(shape))


# -- What is drawn ------------------------------------------------------------

PAGE = figures.SINGLE_COLUMN


def board(rows):
  """Red and blue squares, which no label, and no blurred drawing, is made of.

  Returns:
    float32 [rows, 2, 8, 8, 3].
  """
  levels = np.indices((rows, 2, 8, 8))[-2:].sum(0) % 2
  return np.stack([levels, 0 * levels, 1 - levels], -1).astype(np.float32)


def drawn_boards(plot, path, counts):
  """Where boards of so many rows are drawn, by whole device pixels.

  Returns:
    Left and top of each, from top to bottom and left to right, and how many
    device pixels wide and high a pixel is.
  """
  figures.save(plot, path.with_suffix(''), ['png'], 'test')
  picture = np.asarray(PIL.Image.open(path).convert('RGB')).astype(int)
  is_red = (picture == [255, 0, 0]).all(-1)
  seen = is_red | (picture == [0, 0, 255]).all(-1)
  # The first pixel of each image is blue, and the next red.
  top, left = np.argwhere(seen)[0]
  size = int(np.argmax(is_red[top, left:]))
  assert size >= 2
  remaining, corners = seen.copy(), []
  while remaining.any():
    rows = np.flatnonzero(remaining.any(1))
    top = rows[0]
    left = np.flatnonzero(remaining[top])[0]
    count = counts[len(corners)]
    images = (board(count) * 255).astype(int)
    for row, column in np.ndindex(count, 2):
      y, x = top + row * 10 * size, left + column * 10 * size
      where = np.s_[y : y + 8 * size, x : x + 8 * size]
      expected = images[row, column].repeat(size, 0).repeat(size, 1)
      np.testing.assert_array_equal(picture[where], expected)
      remaining[where] = False
    corners.append((left, top))
  return corners, size


@pytest.mark.parametrize('rows', [1, 3, 20])
def test_every_pixel_is_drawn_as_one_square_of_whole_device_pixels(
  tmp_path, rows
):
  plot = grids.plot_images(
    board(rows),
    PAGE,
    'title',
    'across',
    'down',
    ['left', 'right'],
    ['row'] * rows,
  )
  assert len(drawn_boards(plot, tmp_path / 'x.png', [rows])[0]) == 1


def test_grids_stand_side_by_side_as_far_as_there_is_room(tmp_path):
  blocks = [
    grids.Block('some grid', board(rows), ['a row'] * rows, note='a note')
    for rows in (2, 1, 1)
  ]
  plot = grids.plot_blocks(blocks, PAGE, columns=['left', 'right'])
  corners, _ = drawn_boards(plot, tmp_path / 'x.png', [2, 1, 1])
  assert len({top for _, top in corners}) == 1
  narrow = PAGE._replace(width=1.2)
  plot = grids.plot_blocks(blocks, narrow, columns=['left', 'right'])
  corners, size = drawn_boards(plot, tmp_path / 'x.png', [2, 1, 1])
  assert len({left for left, _ in corners}) == 1
  # The second grid follows the first, whose height it need not have.
  first, second, third = (top for _, top in corners)
  assert second - first - 10 * size == third - second
  assert third - second < 8 * size + 0.7 * figures.DPI


LONG = 'words of a title or of a caption ' * 9


@pytest.mark.parametrize('page', figures.STYLES['slides'].values())
@pytest.mark.parametrize(('rows', 'text'), [(1, ''), (1, LONG), (9, LONG)])
def test_a_grid_fills_its_column_and_stays_on_its_page(
  tmp_path, page, rows, text
):
  images = np.ones((rows, 12, 28, 28, 1))
  plot = grids.plot_images(
    images, page, text, 'x', 'y', rows=['a row'] * rows, caption=text
  )
  figures.save(plot, tmp_path / 'x', ['png'], 'test')
  with PIL.Image.open(tmp_path / 'x.png') as picture:
    dpi, _ = picture.info['dpi']
    width, height = picture.width / dpi, picture.height / dpi
  assert height < page.height + 0.02
  assert width == pytest.approx(page.width, abs=0.02) or rows == 9


def test_where_nothing_fits_the_least_is_too_much():
  blocks = [
    grids.Block(name, np.ones((2, 7, 30, 30, 1)), ['a row'] * 2, note='a note')
    for name in ('first', 'second', 'third')
  ]
  layout = grids._fit(blocks, ['x'] * 7, PAGE, width=3.5, height=0.3)
  assert layout.width * layout.pixel <= 3.5
  assert 0.3 < layout.height * layout.pixel < 0.8
  assert len({top for _, top in layout.corners}) == 1


def test_no_letters_touch_images_or_leave_the_figure():
  blocks = [
    grids.Block(
      'a long name that takes several lines ' * 2,
      board(rows),
      [f'row {row}, 12.34 (position x 0.99)' for row in range(rows)],
      note='a long note below ' * 4,
    )
    for rows in (3, 1)
  ]
  columns = ['a long label', 'another one']
  plot = grids.plot_blocks(
    blocks, PAGE, 'title', 'x ' * 40, 'y', columns, 'below ' * 50
  )
  figure = (plot + gg.theme(dpi=figures.DPI)).draw()
  figure.draw_without_rendering()
  boxes = [
    text.get_window_extent()
    for text in figure.findobj(mpl.text.Text)
    if text.get_visible() and text.get_text()
  ]
  images = [
    image.get_window_extent() for image in figure.findobj(mpl.image.AxesImage)
  ]
  assert len(images) == 2
  inside = figure.bbox.padded(1)
  for place, box in enumerate(boxes):
    assert inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)
    for other in [*images, *boxes[:place]]:
      assert not box.padded(-1).overlaps(other.padded(-1))
  plt.close(figure)
