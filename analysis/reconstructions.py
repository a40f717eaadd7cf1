"""Reconstructions: test images above, what the decoder makes of them below.

Means of its distribution over pixels, or by --show its modes or draws from it.
With --by_factor, of data that hold every combination of their factors: images
in which one factor varies, and their reconstructions.
"""

import argparse

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, figures, frames, grids
from launch import records

# Images across a figure of two columns.
_COLUMNS = 16


def read_frame(run: frames.RunFiles, show: str = 'mean') -> pd.DataFrame:
  """Returns `index`, `truth` and what is shown of each kept test image.

  Args:
    run: the run.
    show: one of `records.SHOWN`, the name of its column.

  Raises:
    FigureError: a run without images.
    RecordError: arrays that are missing or damaged.
  """
  frames.check_images(run)
  arrays = records.read_arrays(run.path, 'reconstructions', ['images'])
  return pd.DataFrame(
    {
      'index': range(len(arrays['images'])),
      'truth': list(arrays['images']),
      show: list(frames.shown(run, arrays, show)),
    }
  )


def plot_reconstructions(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws images with their reconstructions below them.

  The frame may be chosen rows of `read_frame`'s, and have several of
  `records.SHOWN`.
  """
  shown = [name for name in records.SHOWN if name in frame]
  rows = ['truth', *shown]
  figures.check_columns(frame, ['index', *rows])
  images = grids.stack(pd.concat([frame[row] for row in rows]))
  return grids.plot_images(
    images.reshape(len(rows), len(frame), *images.shape[1:]),
    page,
    title,
    x='index of the image',
    columns=[str(index) for index in frame['index']],
    rows=['input', *map(frames.shown_in_words, shown)],
    caption='Decoded from the mean of the posterior of each image.',
  )


def read_factor_frame(run: frames.RunFiles, show: str = 'mean') -> pd.DataFrame:
  """Returns a row for each image in which one factor varies.

  Args:
    run: the run.
    show: one of `records.SHOWN`, the name of its column.

  Returns:
    Columns factor, its name; value, an index of num_values; truth and what is
    shown, [H, W, C].

  Raises:
    FigureError: no such images were kept.
    RecordError: arrays that are damaged.
  """
  if not (run.path / records.ARRAYS / 'by_factor.npz').exists():
    raise figures.FigureError(
      f'{run.path} has no images by factor; python -m launch.evaluate '
      f'--run_dir={run.path} writes them, where the data hold every '
      'combination of known factors'
    )
  keys = ['labels', 'values', 'num_values', 'images']
  arrays = records.read_arrays(run.path, 'by_factor', keys)
  names = ['factor', 'value', 'num_values', 'truth']
  return pd.DataFrame(
    {
      **{name: list(arrays[k]) for name, k in zip(names, keys, strict=True)},
      show: list(frames.shown(run, arrays, show)),
    }
  )


def plot_by_factor(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws two rows for each factor: images over its values, and decoded."""
  (show,) = [name for name in records.SHOWN if name in frame] or ['mean']
  figures.check_columns(frame, ['factor', 'value', 'num_values', 'truth', show])
  grids.stack(pd.concat([frame['truth'], frame[show]]))  # Of one shape.
  groups = list(frame.groupby('factor', sort=False))
  columns = max(len(rows) for _, rows in groups)
  shape = np.shape(frame['truth'].iloc[0])
  # A factor of fewer values leaves paper.
  images = np.ones((2 * len(groups), columns, *shape))
  labels = []
  for row, (name, rows) in enumerate(groups):
    rows = rows.sort_values('value')
    images[2 * row, : len(rows)] = grids.stack(rows['truth'])
    images[2 * row + 1, : len(rows)] = grids.stack(rows[show])
    count = rows['num_values'].iloc[0]
    labels += [f'{name} ({count})', '']
  return grids.plot_images(
    images,
    page,
    title,
    rows=labels,
    caption='One factor from its first to its last value (in brackets: how '
    'many it has), the others at their middle one; below each image: '
    f'{frames.shown_in_words(show)}.',
  )


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  frame = read_frame(runs.runs[0], arguments.show)
  page = command.page(arguments)
  count = int(_COLUMNS * page.width / figures.DOUBLE_COLUMN.width)
  indices = arguments.index or range(min(count, len(frame)))
  if outside := [index for index in indices if not 0 <= index < len(frame)]:
    raise figures.FigureError(
      f'--index={outside[0]}: the run keeps the images 0 to {len(frame) - 1}'
    )
  return plot_reconstructions(
    frame.iloc[list(indices)], command.title(arguments, runs), page
  )


def _add_options(parser: command.Parser) -> None:
  command.add_show(parser)
  parser.add_list('--index', 'of test images, by default the first ones', int)
  parser.add_switch(
    '--by_factor', 'vary one factor at a time (reconstructions_by_factor.*)'
  )


BY_FACTOR = command.Figure(
  'reconstructions_by_factor',
  'Reconstructions by factor: images in which one factor varies, and what the '
  'decoder makes of them.',
  command.of_one_run(read_factor_frame, plot_by_factor),
  'Two rows for each factor: images over its values while the others stay, and '
  'below them what the decoder makes of them.',
  add_options=_add_options,
)

FIGURE = command.Figure(
  'reconstructions',
  __doc__,
  _draw,
  'Test images in the upper row, and below each what the decoder makes of it.',
  add_options=_add_options,
  variants={'by_factor': BY_FACTOR},
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
