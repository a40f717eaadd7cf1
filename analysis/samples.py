"""Samples: what the decoder makes of draws from the prior.

Means of its distribution over pixels, or by --show its modes or draws from it.
"""

import math

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, figures, frames, grids
from launch import records


def read_frame(run: frames.RunFiles, show: str = 'mean') -> pd.DataFrame:
  """Returns a row for each draw: `image`, [H, W, C], and `shown`, what of it.

  Args:
    run: the run.
    show: one of `records.SHOWN`.

  Raises:
    FigureError: a run without images or without a prior.
    RecordError: arrays that are missing or damaged.
  """
  frames.check_images(run)
  frames.check_rates(run, 'there is no prior to sample from')
  arrays = records.read_arrays(run.path, 'samples')
  images = list(frames.shown(run, arrays, show))
  return pd.DataFrame({'image': images, 'shown': show})


def plot_samples(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
) -> gg.ggplot:
  """Draws samples in a grid, about square or, of both columns, half as high."""
  figures.check_columns(frame, ['image', 'shown'])
  images, shown = grids.stack(frame['image']), frame['shown'].iloc[0]
  columns = math.ceil(math.sqrt(len(images) * (4 if page.is_double else 1)))
  rows = math.ceil(len(images) / columns)
  # White where the last row ends early.
  grid = np.ones((rows * columns, *images.shape[1:]), images.dtype)
  grid[: len(images)] = images
  return grids.plot_images(
    grid.reshape(rows, columns, *images.shape[1:]),
    page,
    title,
    caption=f'Shown: {frames.shown_in_words(shown)} at latents drawn from the '
    'prior.',
  )


FIGURE = command.Figure(
  'samples',
  __doc__,
  command.of_one_run(read_frame, plot_samples),
  'A grid of images that the decoder makes of draws from the prior.',
  width='single',
  add_options=command.add_show,
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
