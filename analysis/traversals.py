"""Traversals: what is decoded while one latent moves and the others stay.

Means of the decoder's distribution over pixels, or by --show its modes or draws
from it. A row for each latent, ordered by its rate; those whose mean hardly
varies over images (by at most 0.01) are one row. Where `launch.evaluate
--scores` has measured it, the factor that a latent tells most of stands beside
it. Columns are even steps, or quantiles of the latent's aggregate posterior.
With --grid, the two latents of the highest rate move at once, the others at
zero.
"""

import argparse

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, factors, figures, frames
from launch import records

# Where the latent that moves lies.
COLUMNS = ('even', 'quantiles')


def read_frame(
  run: frames.RunFiles,
  index: int = 0,
  columns: str = 'even',
  show: str = 'mean',
) -> pd.DataFrame:
  """Returns `latent`, `value`, `image` [H, W, C] and rate of each image.

  Args:
    run: the run.
    index: of the test image that the latents which stay are those of.
    columns: one of `COLUMNS`.
    show: one of `records.SHOWN`.

  Returns:
    Also the columns rate_nats, and active, whether Var_x(E[z_u]) > 0.01; NaN
    and true for a plain autoencoder. For quantiles also their share, quantile.
    Where the weights were scored, `factor` that the latent tells most of, and
    the `share` of its entropy.

  Raises:
    FigureError: a run without images, or an image that was not kept.
    RecordError: files that are missing or damaged.
  """
  frames.check_images(run)
  keys = ['values']
  if columns == 'quantiles':
    keys, show = ['quantiles', 'quantile_values'], f'quantile_{show}'
  arrays = records.read_arrays(run.path, 'traversals', ['step', *keys])
  # Of the weights that made the images, which others may have followed.
  rates = frames.rates(run, int(arrays['step']))
  places, *values = (arrays[key] for key in keys)
  images = frames.shown(run, arrays, show)
  values = values[0] if values else np.tile(places, (len(rates), 1))
  # That the rest fits together is known of what was read.
  if images.shape[1] != len(rates):
    raise records.RecordError(
      f'{run.path / records.ARRAYS / "traversals"}.npz is damaged: images of '
      f'shape {images.shape} do not fit {len(rates)} latents'
    )
  if not 0 <= index < len(images):
    raise figures.FigureError(
      f'--index={index}: the run keeps traversals of the images 0 to '
      f'{len(images) - 1}'
    )
  count = values.shape[1]
  rows = rates.loc[rates.index.repeat(count)].reset_index(drop=True)
  ordered = images[index][rates['latent']]  # [L, G, H, W, C]
  frame = pd.DataFrame(
    {
      'latent': rows['latent'],
      'rate_nats': rows['rate_nats'],
      'active': ~(rows['mean_variance'] <= frames.ACTIVE_VARIANCE),
      'value': values[rates['latent']].ravel(),
      'image': list(ordered.reshape(-1, *ordered.shape[2:])),
    }
  )
  if columns == 'quantiles':
    frame['quantile'] = np.tile(places, len(rates))
  if (most := factors.read_most(run, int(arrays['step']))) is not None:
    frame = frame.join(most, on='latent')
  return frame


def plot_traversals(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws a row of images for each latent that is active."""
  figures.check_columns(
    frame, ['latent', 'rate_nats', 'active', 'value', 'image']
  )
  column, x = 'value', 'value of the latent'
  show = figures.number
  if 'quantile' in frame:
    column, x = 'quantile', "quantile of the latent's aggregate posterior"
    show = '{:.0%}'.format
  places = np.sort(frame[column].unique())
  images, labels = [], []
  inactive = frame[~frame['active']]
  # The one of the highest rate stands for them.
  for name, rows in [
    *frame[frame['active']].groupby('latent', sort=False),
    *([('inactive', inactive)] if len(inactive) else []),
  ]:
    if name == 'inactive':
      count = rows['latent'].nunique()
      highest = rows['rate_nats'].max()
      label = f'{count} inactive, ≤ {figures.number(highest, 2)}'
      rows = rows[rows['latent'] == rows['latent'].iloc[0]]
    elif np.isnan(rate := rows['rate_nats'].iloc[0]):
      label = f'{name}'
    else:
      label = f'{name}, {figures.number(rate, 2)}'
    if name != 'inactive' and 'factor' in rows:
      label += f' ({rows["factor"].iloc[0]} {rows["share"].iloc[0]:.2f})'
    if len(rows) != len(places):
      raise figures.FigureError(
        f'latent {name} has {len(rows)} images for {len(places)} values'
      )
    images.append(figures.stack(rows.sort_values(column)['image']))
    labels.append(label)
  has_rates = frame['rate_nats'].notna().any()
  if len(inactive):
    x += (
      ' (inactive: its mean varies over images by at most '
      f'{frames.ACTIVE_VARIANCE}, whatever its rate)'
    )
  if 'factor' in frame:
    x += (
      '; in brackets: the factor it tells most of, and the share of its entropy'
    )
  return figures.plot_images(
    np.stack(images),
    page,
    title,
    x=x,
    y='latent, rate in nats' if has_rates else 'latent',
    columns=[show(place) for place in places],
    rows=labels,
  )


def read_grid_frame(run: frames.RunFiles, show: str = 'mean') -> pd.DataFrame:
  """Returns a row for each image over the two latents of highest rate.

  Args:
    run: the run.
    show: one of `records.SHOWN`.

  Returns:
    Columns first, second and image; first_name and second_name, what they are.

  Raises:
    FigureError: a run without images or without rates.
    RecordError: arrays that are missing or damaged.
  """
  frames.check_images(run)
  frames.check_rates(run, 'none of its latents has the highest rate')
  keys = ['latents', 'rates', 'values']
  arrays = records.read_arrays(run.path, 'latent_grid', keys)
  names = [
    f'latent {latent}, {figures.number(rate, 2)} nats'
    for latent, rate in zip(arrays['latents'], arrays['rates'], strict=False)
  ]
  images = frames.shown(run, arrays, show)
  frame = frames.grid(run, 'latent_grid', arrays['values'], images)
  return frame.assign(first_name=names[0], second_name=names[-1])


def plot_latent_grid(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
) -> gg.ggplot:
  """Draws the grid over two latents (or a row over one)."""
  figures.check_columns(frame, ['first_name', 'second_name'])
  return figures.plot_over_latents(
    frame,
    page,
    title,
    x=frame['first_name'].iloc[0],
    y=frame['second_name'].iloc[0],
  )


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  return plot_traversals(
    read_frame(
      runs.runs[0], arguments.index, arguments.columns, arguments.show
    ),
    command.title(arguments, runs),
    command.page(arguments),
  )


def _add_options(parser: command.Parser) -> None:
  command.add_show(parser)
  parser.add_argument(
    '--index',
    type=int,
    default=0,
    help='of the test image around which latents move',
  )
  parser.add_argument(
    '--columns',
    default=COLUMNS[0],
    choices=COLUMNS,
    help="where the latent moves: even steps, or quantiles of the latent's "
    'aggregate posterior',
  )
  parser.add_switch(
    '--grid', 'move the two latents of the highest rate at once (latent_grid.*)'
  )


GRID = command.Figure(
  'latent_grid',
  'Latent grid: what is decoded over the two latents of the highest rate.',
  command.of_one_run(read_grid_frame, plot_latent_grid),
  'A grid of images: what the decoder makes while the two latents of the '
  'highest rate move and the others are zero.',
  add_options=_add_options,
)

FIGURE = command.Figure(
  'traversals',
  __doc__,
  _draw,
  'A row of images for each latent, from the highest rate to the lowest: what '
  'the decoder makes of a test image while that latent moves.',
  add_options=_add_options,
  variants={'grid': GRID},
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
