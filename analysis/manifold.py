"""Manifold: what is decoded over both latents of a model that has two.

Means of the decoder's distribution over pixels, or by --show its modes or draws
from it.
"""

import pandas as pd
import plotnine as gg

from analysis import command, figures, frames, grids
from launch import records


def read_frame(run: frames.RunFiles, show: str = 'mean') -> pd.DataFrame:
  """Returns `first`, `second` and `image` [H, W, C] of each point of the grid.

  Args:
    run: the run.
    show: one of `records.SHOWN`.

  Returns:
    Also the columns at, where the grid's values lie, in words, and shown, what
    the images are of the decoder's distribution.

  Raises:
    FigureError: a run without images, or of another number of latents.
    RecordError: arrays that are missing or damaged.
  """
  frames.check_images(run)
  if run.config['latent_size'] != 2:
    raise figures.FigureError(
      f'{run.path} has {run.config["latent_size"]} latents; a manifold is '
      'drawn over two'
    )
  arrays = records.read_arrays(run.path, 'manifold', ['values'])
  images = frames.shown(run, arrays, show)
  frame = frames.grid(run, 'manifold', arrays['values'], images)
  at = (
    'quantiles of N(0,\N{NO-BREAK SPACE}1)' if run.has_rates else 'even steps'
  )
  return frame.assign(at=at, shown=show)


def plot_manifold(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws the grid, the first latent across and the second upwards."""
  figures.check_columns(frame, ['at', 'shown'])
  at, shown = frame[['at', 'shown']].iloc[0]
  return grids.plot_over_latents(
    frame,
    page,
    title,
    x='latent 0',
    y='latent 1',
    caption=f'Latents at {at}; shown: {frames.shown_in_words(shown)}.',
  )


FIGURE = command.Figure(
  'manifold',
  __doc__,
  command.of_one_run(read_frame, plot_manifold),
  'A grid of images that the decoder makes while the first latent grows from '
  'left to right and the second from bottom to top.',
  add_options=command.add_show,
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
