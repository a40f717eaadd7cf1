"""Traversals: modes decoded over the two latents that carry most."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotnine as gg

from analysis import figures
from launch import records


def plot_traversals(
  modes: np.ndarray,
  values: np.ndarray,
  latents: np.ndarray,
  rates: np.ndarray,
  title: str = '',
) -> gg.ggplot:
  """Draws a grid of images over two latents (or a row over one).

  Args:
    modes: [G, G, H, W, C], or [1, G, H, W, C] for one latent.
    values: [G], the latents' values, from left to right and from bottom to top.
    latents: [2] or [1], which latents.
    rates: of these latents, in nats.
    title: of the figure.

  Raises:
    FigureError: shapes that do not fit together.
  """
  rows, columns, height, width = modes.shape[:4]
  if columns != len(values) or rows not in (1, len(values)):
    raise figures.FigureError(
      f'modes of shape {modes.shape} do not fit {len(values)} values'
    )
  shown = slice(None, None, max(1, (columns - 1) // 6))
  labels = [f'{value:.1f}' for value in values[shown]]

  def name(axis: int) -> str:
    return f'latent {latents[axis]} (rate {rates[axis]:.2f} nats)'

  side = 3.9
  return (
    gg.ggplot()
    + figures.draw_grid(figures.image_grid(modes))
    + gg.scale_x_continuous(
      name=name(0),
      breaks=list(figures.grid_centres(columns, width)[shown]),
      labels=labels,
      expand=(0, 0),
    )
    + gg.scale_y_continuous(
      name=name(1) if rows > 1 else '',
      breaks=list(figures.grid_centres(rows, height)[shown])
      if rows > 1
      else [],
      labels=labels if rows > 1 else [],
      expand=(0, 0),
    )
    + figures.title(title, side)
    + figures.theme(
      side, (side - 0.4) * rows * height / (columns * width) + 0.6
    )
    + gg.theme(
      panel_grid_major=gg.element_blank(), panel_border=gg.element_blank()
    )
  )


def _draw(run_dir: pathlib.Path, manifest: Mapping[str, Any]) -> gg.ggplot:
  arrays = records.read_arrays(
    run_dir, 'latent_grid', ['modes', 'values', 'latents', 'rates']
  )
  return plot_traversals(
    arrays['modes'],
    arrays['values'],
    arrays['latents'],
    arrays['rates'],
    title=figures.describe(records.read_config(run_dir), manifest),
  )


if __name__ == '__main__':
  figures.run('traversals', __doc__, _draw)
