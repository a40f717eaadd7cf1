"""Reconstructions: test images above, the decoder's modes below."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotnine as gg

from analysis import figures
from launch import records

# Images across the figure.
_COLUMNS = 16


def plot_reconstructions(
  images: np.ndarray, modes: np.ndarray, title: str = ''
) -> gg.ggplot:
  """Draws images with their reconstructions below them.

  Args:
    images: [N, H, W, C] in [0, 1].
    modes: the reconstructions, of the same shape.
    title: of the figure.

  Raises:
    FigureError: shapes that differ or are no images.
  """
  if images.shape != modes.shape:
    raise figures.FigureError(
      f'images {images.shape} and modes {modes.shape} differ in shape'
    )
  images, modes = images[:_COLUMNS], modes[:_COLUMNS]
  frame = figures.image_grid(np.stack([images, modes]))
  height = images.shape[1]
  columns, width = images.shape[0], images.shape[2]
  row_inches = figures.DOUBLE_COLUMN * height / (columns * width)
  return (
    gg.ggplot()
    + figures.draw_grid(frame)
    + gg.scale_x_continuous(breaks=[], expand=(0, 0))
    + gg.scale_y_continuous(
      breaks=list(figures.grid_centres(2, height)),
      labels=['mode', 'truth'],
      expand=(0, 0),
    )
    + gg.labs(x='', y='')
    + figures.title(title, figures.DOUBLE_COLUMN)
    + figures.theme(figures.DOUBLE_COLUMN, 2 * row_inches + 0.4)
    + gg.theme(
      panel_border=gg.element_blank(),
      panel_grid_major=gg.element_blank(),
      axis_ticks=gg.element_blank(),
    )
  )


def _draw(run_dir: pathlib.Path, manifest: Mapping[str, Any]) -> gg.ggplot:
  arrays = records.read_arrays(run_dir, 'reconstructions', ['images', 'modes'])
  return plot_reconstructions(
    arrays['images'],
    arrays['modes'],
    figures.describe(records.read_config(run_dir), manifest),
  )


if __name__ == '__main__':
  figures.run('reconstructions', __doc__, _draw)
