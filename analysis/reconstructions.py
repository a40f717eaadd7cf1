"""Reconstructions: test images above, the decoder's modes and means below."""

import argparse

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, figures, frames
from launch import records

# Images across a figure of two columns.
_COLUMNS = 16


def read_frame(run: frames.RunFiles) -> pd.DataFrame:
  """Returns `index`, `truth` and `mode` [H, W, C] of each kept test image.

  Returns:
    Also `mean`, of the likelihood, where the run kept it and it is not the
    mode: that of a Bernoulli is black and white whatever its targets are.

  Raises:
    FigureError: a run without images.
    RecordError: arrays that are missing or damaged.
  """
  frames.check_images(run)
  arrays = records.read_arrays(run.path, 'reconstructions', ['images', 'modes'])
  frame = pd.DataFrame(
    {
      'index': range(len(arrays['images'])),
      'truth': list(arrays['images']),
      'mode': list(arrays['modes']),
    }
  )
  means = arrays.get('means', arrays['modes'])
  if not np.array_equal(means, arrays['modes']):
    frame['mean'] = list(means)
  return frame


def plot_reconstructions(
  frame: pd.DataFrame, title: str = '', width: float = figures.DOUBLE_COLUMN
) -> gg.ggplot:
  """Draws images with their reconstructions below them.

  The frame may be chosen rows of `read_frame`'s; without `mean`, truth and
  mode.
  """
  figures.check_columns(frame, ['index', 'truth', 'mode'])
  rows = ['truth', 'mode', *(['mean'] if 'mean' in frame else [])]
  images = figures.stack(pd.concat([frame[row] for row in rows]))
  return figures.plot_images(
    images.reshape(len(rows), len(frame), *images.shape[1:]),
    width,
    title,
    x='index of the image',
    columns=[str(index) for index in frame['index']],
    rows=rows,
  )


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  frame = read_frame(runs.runs[0])
  width = command.width(arguments)
  count = int(_COLUMNS * width / figures.DOUBLE_COLUMN)
  indices = arguments.index or range(min(count, len(frame)))
  if outside := [index for index in indices if not 0 <= index < len(frame)]:
    raise figures.FigureError(
      f'--index={outside[0]}: the run keeps the images 0 to {len(frame) - 1}'
    )
  return plot_reconstructions(
    frame.iloc[list(indices)], command.title(arguments, runs), width
  )


def _add_options(parser: command.Parser) -> None:
  parser.add_list('--index', 'of test images, by default the first ones', int)


FIGURE = command.Figure(
  'reconstructions',
  __doc__,
  _draw,
  'Test images in the upper row, and below each the mode that the decoder '
  'makes of it, and the mean where that is another image.',
  add_options=_add_options,
)

if __name__ == '__main__':
  command.run(FIGURE)
