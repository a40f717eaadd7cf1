"""Density fit: a Gaussian p and the diagonal q nearest to it by each KL."""

import argparse
import pathlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, figures
from launch import process, records

_FITS = {'reverse': 'q by KL(q‖p)', 'forward': 'q by KL(p‖q)'}

_LOC = ['loc_0', 'loc_1']
_SCALE = ['scale_0', 'scale_1']

# Contours, in standard deviations from the mean.
_RADII = (1, 2)


def _contours(
  name: str, loc: np.ndarray, scale_tril: np.ndarray
) -> pd.DataFrame:
  """Points on the contours of N(loc, T T'): loc + radius * T * circle."""
  angles = np.linspace(0.0, 2.0 * np.pi, 181)
  circle = np.stack([np.cos(angles), np.sin(angles)])  # [2, A]
  return pd.concat(
    [
      pd.DataFrame(
        (loc[:, None] + radius * scale_tril @ circle).T, columns=['x', 'y']
      ).assign(density=name, radius=radius)
      for radius in _RADII
    ]
  )


def _label(name: str, scale_tril: np.ndarray) -> str:
  variances = (scale_tril**2).sum(axis=1)
  return f'{name}: variances {variances[0]:.2f}, {variances[1]:.2f}'


def plot_density_fit(
  frame: pd.DataFrame,
  loc: np.ndarray,
  scale_tril: np.ndarray,
  title: str = '',
) -> gg.ggplot:
  """Draws the target and both fits at their last step.

  Args:
    frame: rows of density_fit.csv.
    loc: of the target, [2].
    scale_tril: the target's lower triangle T, [2, 2].
    title: of the figure.
  """
  figures.check_columns(frame, ['step', 'direction', *_LOC, *_SCALE])
  densities = [('target p', np.asarray(loc), np.asarray(scale_tril))]
  for direction, name in _FITS.items():
    rows = frame[frame['direction'] == direction].sort_values('step')
    if rows.empty:
      raise figures.FigureError(f'the table has no rows of the {direction} fit')
    last = rows.iloc[-1]
    densities.append(
      (
        name,
        last[_LOC].to_numpy(float),
        np.diag(last[_SCALE].to_numpy(float)),
      )
    )
  labels = [_label(name, triangle) for name, _, triangle in densities]
  points = pd.concat(
    [
      _contours(label, centre, triangle)
      for label, (_, centre, triangle) in zip(labels, densities, strict=True)
    ]
  )
  points['density'] = pd.Categorical(points['density'], labels)
  colours = (figures.PALETTE[6], *figures.PALETTE[:2])
  return (
    gg.ggplot(points, gg.aes('x', 'y', color='density', linetype='density'))
    + gg.geom_path(
      gg.aes(group='density.astype(str) + radius.astype(str)'), size=0.7
    )
    + gg.scale_color_manual(colours)
    + gg.scale_linetype_manual(('solid', 'dashed', 'dashdot'))
    + gg.coord_fixed()
    + gg.scale_x_continuous(name='first dimension', labels=figures.tick_labels)
    + gg.scale_y_continuous(name='second dimension', labels=figures.tick_labels)
    + figures.dress(figures.SINGLE_COLUMN, 3.75, title)
    + gg.theme(
      legend_position='bottom',
      legend_direction='vertical',
      legend_title=gg.element_blank(),
      legend_key_width=24,
      legend_key_spacing_y=0,
      legend_box_margin=0,
    )
  )


def _draw(arguments: argparse.Namespace) -> Iterator[pathlib.Path]:
  folder = process.user_path(arguments.run_dir)
  path = folder / records.DENSITY_FIT_TARGET
  if not path.exists():
    raise records.RecordError(
      f'{path} does not exist; python -m launch.fit_density '
      f'--output_dir={folder} writes it'
    )
  target = records.read_object(path)
  try:
    loc = np.array(target['loc'], float).reshape(2)
    scale_tril = np.array(target['scale_tril'], float).reshape(2, 2)
    commit = target['source']['commit']
  except (KeyError, TypeError, ValueError) as error:
    raise records.RecordError(f'{path} is damaged: {error!r}') from error
  plot = plot_density_fit(
    records.read_table(folder, records.DENSITY_FIT),
    loc,
    scale_tril,
    'Contours at 1 and 2 standard deviations',
  )
  yield from figures.save(
    plot,
    process.user_path(
      arguments.output or folder / records.FIGURES / 'density_fit'
    ),
    arguments.format or figures.FORMATS,
    command.drawn_by(f'fit {folder.name}; commit {commit}'),
  )


def main() -> None:
  """Draws the fit of a folder."""
  parser = command.Parser('density_fit', __doc__)
  parser.add_argument(
    '--run_dir',
    default='runs/density_fit',
    help='folder of the fit',
  )
  parser.add_argument(
    '--output',
    help='file without suffix; default: figures/density_fit in the folder',
  )
  command.add_format(parser)
  arguments = parser.parse_args()
  command.main('density_fit', lambda: _draw(arguments))


if __name__ == '__main__':
  main()
