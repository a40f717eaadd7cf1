"""What the figures share: theme, palette, image grids, saving, command line."""

import argparse
import pathlib
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotnine as gg

from launch import records

# Widths of a paper's columns, in inches.
SINGLE_COLUMN = 3.35
DOUBLE_COLUMN = 6.9

FORMATS = ('png', 'pdf')

# Okabe and Ito's colours, which colour-blind readers can tell apart.
PALETTE = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#000000',
)

# Pixels between the images of a grid.
_GAP = 2


class FigureError(ValueError):
  """A figure cannot be drawn from what a run has written."""


def theme(width: float, height: float) -> gg.theme:
  """The look of every figure, at a size in inches."""
  return gg.theme_bw(base_size=8, base_family='DejaVu Sans') + gg.theme(
    figure_size=(width, height),
    panel_grid_minor=gg.element_blank(),
    panel_grid_major=gg.element_line(color='#e6e6e6', size=0.4),
    panel_border=gg.element_rect(color='#4d4d4d', size=0.5),
    strip_background=gg.element_blank(),
    plot_title=gg.element_text(size=8),
    legend_key=gg.element_blank(),
    plot_margin=0.02,
  )


def title(text: str, width: float) -> gg.ggtitle:
  """A title that breaks its lines at the width of a figure, in inches."""
  # At 8 points a letter is about 0.065 inches wide.
  return gg.ggtitle(textwrap.fill(text, max(20, int(width / 0.065))))


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
  """Checks that a frame can be drawn.

  Raises:
    FigureError: columns are missing, or there are no rows.
  """
  if missing := [name for name in columns if name not in frame.columns]:
    raise FigureError(f'the table lacks the columns {", ".join(missing)}')
  if frame.empty:
    raise FigureError('the table has no rows yet')


# -- Image grids --------------------------------------------------------------


def image_grid(images: np.ndarray) -> pd.DataFrame:
  """The pixels of a grid of images.

  Args:
    images: [rows, columns, H, W, C] in [0, 1], C of 1 or 3.

  Returns:
    A row for each pixel: `x` from left to right and `y` from bottom to top, in
    pixels of the whole grid, and `colour` as '#rrggbb'.

  Raises:
    FigureError: another shape.
  """
  if images.ndim != 5 or images.shape[-1] not in (1, 3):
    raise FigureError(
      'images must have shape [rows, columns, H, W, 1 or 3], got '
      f'{images.shape}'
    )
  rows, columns, height, width, _ = images.shape
  levels = np.rint(np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)
  # White gaps belong to the picture, so that it is one even raster.
  canvas = np.full(
    (rows * (height + _GAP), columns * (width + _GAP), 3), 255, np.uint8
  )
  tiles = canvas.reshape(rows, height + _GAP, columns, width + _GAP, 3)
  tiles[:, :height, :, :width] = levels.transpose(0, 2, 1, 3, 4)
  canvas = canvas[:-_GAP, :-_GAP]
  codes = canvas.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
  unique, inverse = np.unique(codes, return_inverse=True)
  names = np.array([f'#{code:06x}' for code in unique])
  y, x = np.indices(codes.shape)
  return pd.DataFrame(
    {
      'x': x.ravel(),
      'y': (len(codes) - 1 - y).ravel(),
      'colour': names[inverse.ravel()],
    }
  )


def grid_centres(count: int, size: int) -> np.ndarray:
  """Where the middles of the images of a grid lie along one axis, in pixels."""
  return np.arange(count) * (size + _GAP) + (size - 1) / 2


def draw_grid(frame: pd.DataFrame) -> list[Any]:
  """Layers that draw an `image_grid`, each pixel one sharp square."""
  return [
    gg.geom_raster(
      gg.aes('x', 'y', fill='colour'), frame, interpolation='none'
    ),
    gg.scale_fill_identity(),
    gg.coord_fixed(expand=False),
  ]


# -- Runs, files and the command line -----------------------------------------


def describe(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
  """One line that says what a run is."""
  line = f'{manifest["dataset"]["name"]}, {config["latent_size"]} latents'
  if manifest['effective_beta'] is None:  # As in autoencoders.
    return line
  return (
    f'{line}, beta {config["beta"]:g} ({config["reduction"]}), '
    f'effective beta {manifest["effective_beta"]:.4g}'
  )


def save(
  plot: gg.ggplot,
  path: pathlib.Path,
  run_dir: pathlib.Path,
  manifest: Mapping[str, Any],
) -> None:
  """Writes a figure with the run, its commit and the command that drew it.

  The same command, versions and run give the same bytes.

  Args:
    plot: the figure.
    path: the file; its suffix, .png or .pdf, says the format.
    run_dir: the run.
    manifest: its manifest.
  """
  command = shlex.join(
    [
      'python',
      '-m',
      f'analysis.{pathlib.Path(sys.argv[0]).stem}',
      *sys.argv[1:],
    ]
  )
  text = (
    f'run {run_dir.name}, commit {manifest["source"]["commit"]}; drawn by: '
    f'{command}'
  )
  metadata = (
    {'Description': text}
    if path.suffix == '.png'
    # A date alone would make two files of the same figure differ.
    else {'Subject': text, 'CreationDate': None}
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  with mpl.rc_context({'pdf.fonttype': 42}):
    plot.save(path, dpi=300, verbose=False, metadata=metadata)


def run(
  name: str,
  summary: str,
  draw: Callable[[pathlib.Path, Mapping[str, Any]], gg.ggplot],
  read: Callable[[pathlib.Path], Mapping[str, Any]] = records.read_manifest,
  default: str | None = None,
) -> None:
  """Runs a figure's command.

  Args:
    name: of the figure and its files.
    summary: what --help prints.
    draw: makes the figure from a run directory and its manifest.
    read: the manifest of a folder, or what has its `source`.
    default: the folder that is drawn; None for the newest run under runs/.
  """
  parser = argparse.ArgumentParser(
    prog=f'python -m analysis.{name}', description=summary, allow_abbrev=False
  )
  parser.add_argument(
    '--run_dir',
    help=f'folder of the run; default: {default or "the newest under runs/"}',
  )
  parser.add_argument(
    '--output',
    help='file without suffix; default: RUN_DIR/figures/' + name,
  )
  parser.add_argument(
    '--format',
    action='append',
    choices=FORMATS,
    help='may be given again; default: both',
  )
  arguments = parser.parse_args()
  try:
    run_dir = pathlib.Path(
      arguments.run_dir or default or records.newest_run()
    ).expanduser()
    manifest = read(run_dir)
    plot = draw(run_dir, manifest)
    stem = arguments.output or run_dir / records.FIGURES / name
    for suffix in arguments.format or FORMATS:
      path = pathlib.Path(f'{stem}.{suffix}')
      save(plot, path, run_dir, manifest)
      print(path)
  except (records.RecordError, FigureError, OSError) as error:
    print(f'analysis.{name}: error: {error}', file=sys.stderr)
    sys.exit(1)
