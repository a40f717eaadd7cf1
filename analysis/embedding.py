"""Embedding: t-SNE of up to 10,000 test images beside that of their latents.

Both are computed once and kept in arrays/embedding.npz. Where there are two
latents they are drawn as they are too. Labels colour the points, or by --color
a factor that is known.
"""

import argparse
import hashlib
import math
import sys
from collections.abc import Mapping, Sequence

import mizani.breaks
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, frames, wording
from launch import records

_IMAGES = 't-SNE of the examples'
_LATENTS = 't-SNE of their latents'
_RAW = 'the latents themselves'

# A label is named where so much more than its share of the points around its
# own are its too: none where they lie all over, all where no other's are.
_GATHERED = 0.15

# And where three cells of a panel's, each way, hold such a share of its points:
# none of many small groups stands for the others.
_CELLS, _SHARE = 30, 0.06

# Of the letters that name labels, in points.
_NAME_SIZE = figures.FONT_SIZE - 1

# Points that one thread embeds in seconds.
_FEW = 2000

# Where a t-SNE is drawn, so that axes of which nothing can be read have no
# ticks.
_NOWHERE = 1e6


def read_frame(run: frames.RunFiles, color: str | None = None) -> pd.DataFrame:
  """Returns a row for each test image and panel.

  Computes what arrays/embedding.npz does not hold yet, about half a minute
  for each 10,000 points.

  Args:
    run: the run.
    color: the factor whose values are the labels; None for the labels or,
      where there are none, the first factor.

  Returns:
    Columns panel, x, y; label, categories in their order; and color, what
    labels are of.

  Raises:
    RecordError: arrays that are missing, damaged, or not finite.
    FigureError: fewer than two images.
  """
  arrays = records.read_arrays(
    run.path, 'latents', ['means', 'pixels_pca', 'step']
  )
  means, pixels = arrays['means'], arrays['pixels_pca']
  if len(means) < len(pixels):
    raise records.RecordError(
      f'{run.path / records.ARRAYS / "latents"}.npz is damaged: it has arrays '
      f'of the shapes {means.shape} and {pixels.shape}'
    )
  if not (np.isfinite(means).all() and np.isfinite(pixels).all()):
    raise records.RecordError(f'{run.path}: latents that are not finite')
  means = means[: len(pixels)]  # Of a large test split, the first are drawn.
  if len(means) < 2:
    raise figures.FigureError(f'{run.path}: an embedding needs two images')
  panels = _embeddings(run, int(arrays['step']), means, pixels)
  if means.shape[1] == 2:
    panels[_RAW] = means
  # Labels are optional: a dataset may have none.
  factors = [name for name, _ in run.manifest['dataset'].get('factors') or []]
  if not color and 'labels' not in arrays and 'factors' in arrays:
    color = next(iter(factors), None)
  labels = _labels(run, arrays, factors, color)[: len(means)]
  frame = pd.concat(
    [
      pd.DataFrame(
        {'panel': panel, 'x': points[:, 0], 'y': points[:, 1], 'label': labels}
      )
      for panel, points in panels.items()
    ],
    ignore_index=True,
  )
  return frame.assign(color=color or 'label')


def _labels(
  run: frames.RunFiles,
  arrays: Mapping[str, np.ndarray],
  factors: Sequence[str],
  color: str | None,
) -> pd.Categorical:
  if color:
    if color not in factors or 'factors' not in arrays:
      raise figures.FigureError(
        f'--color={color}: no known factor of {run.path}; there are: '
        f'{", ".join(factors) or "none"}'
      )
    values = arrays['factors'][:, factors.index(color)]
  elif 'labels' in arrays:
    values = arrays['labels']
  else:
    return pd.Categorical([''] * len(arrays['means']))
  # Names in the order of what they name.
  distinct, places = np.unique(values, return_inverse=True)
  named = records.named(run.manifest, distinct, color)
  names = np.array([*map(records.text, named.tolist())])
  return pd.Categorical(names[places], [*dict.fromkeys(names)])


def _embeddings(
  run: frames.RunFiles, step: int, means: np.ndarray, pixels: np.ndarray
) -> dict[str, np.ndarray]:
  """Both embeddings, [N, 2] each: those that were kept, or new ones."""
  inputs = digest(means, pixels)
  if (run.path / records.ARRAYS / 'embedding.npz').exists():
    kept = records.read_arrays(run.path, 'embedding')
    if str(kept.get('inputs')) == inputs:
      return {_IMAGES: kept['images'], _LATENTS: kept['latents']}
  print(
    f't-SNE of {len(means):,} images and of their latents, which are kept: '
    'about a minute for 10,000 ...',
    file=sys.stderr,
  )
  result = {_IMAGES: tsne(pixels), _LATENTS: tsne(means)}
  records.write_arrays(
    run.path,
    'embedding',
    step,
    {
      'images': result[_IMAGES],
      'latents': result[_LATENTS],
      'inputs': np.array(inputs),
    },
  )
  return result


def digest(means: np.ndarray, pixels: np.ndarray) -> str:
  """Returns a digest of the latents and images that embeddings are of."""
  return hashlib.sha256(means.tobytes() + pixels.tobytes()).hexdigest()


def tsne(points: np.ndarray) -> np.ndarray:
  """Embeds points in two dimensions (van der Maaten and Hinton 2008).

  Args:
    points: [N, D].

  Returns:
    float32 [N, 2]; the same points give the same result.
  """
  import sklearn.manifold
  import threadpoolctl

  # A point needs neighbours within the perplexity; equal points, as of
  # collapsed latents, have no principal components to start from.
  points = points.astype(np.float32)
  varies = np.square(np.ptp(points, 0)).any()
  start = 'pca' if points.shape[1] >= 2 and varies else 'random'
  method = sklearn.manifold.TSNE(
    perplexity=min(30.0, (len(points) - 1) / 3),
    init=start,
    angle=0.7,
    max_iter=750,
    random_state=0,
  )
  # Threads wait for each other thousands of times, on a machine that is busy
  # far longer than few points take.
  threads = 1 if len(points) <= _FEW else None
  with threadpoolctl.threadpool_limits(threads, user_api='openmp'):
    return method.fit_transform(points)


def plot_embedding(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws the points of each panel, coloured by label.

  A label stands among its points too, so that no reader depends on its colour,
  but where these lie all over the panel; many numbers have a scale instead.

  Args:
    frame: as of `read_frame`.
    title: of the figure.
    page: what it is drawn for.
  """
  figures.check_columns(frame, ['panel', 'x', 'y', 'label', 'color'])
  frame, color = frame.copy(), frame['color'].iloc[0]
  panels = list(frame['panel'].unique())
  frame['panel'] = pd.Categorical(frame['panel'], panels)
  columns = len(panels) if page.is_double else math.ceil(len(panels) / 2)
  rows = math.ceil(len(panels) / columns)
  ticks = 0.3 if _RAW in panels else 0.0
  width = page.width / columns - ticks
  height = min(width, 0.6 * page.height / rows)
  many = len(frame) / len(panels) > 1000
  away = frame['panel'].isin([_IMAGES, _LATENTS])
  frame['x'] = frame['x'] + _NOWHERE * away
  frame['y'] = frame['y'] + _NOWHERE * away
  corners = _corners(frame, width / height)
  hues = colours.hues(frames.levels(frame['label']), page, color)
  scale, *_ = hues.layers
  if isinstance(scale.guide, gg.guide_legend):
    scale.guide.override_aes = {'size': 1.5}  # Else none would see its colour.
  frame['label'] = frame['label'].map(records.text).astype(object)
  frame['hue'] = hues.of(frame['label'])
  words = _axis_titles(corners)
  if hues.where is None:
    words.append(
      gg.geom_label(
        gg.aes(label='label'),
        _names(frame, corners, width, page),
        size=_NAME_SIZE,
        fill='#ffffffcc',  # Letters alone are black.
        label_size=0,
        label_padding=0.1,
      )
    )
  return (
    gg.ggplot(frame, gg.aes('x', 'y'))
    + gg.facet_wrap('panel', scales='free', ncol=columns)
    # As vectors, so many points would make a page slow to turn.
    + gg.geom_point(
      gg.aes(color='hue'), size=0.4 if many else 1.2, stroke=0, raster=many
    )
    + gg.geom_blank(data=corners)
    + hues.layers
    + words
    + gg.scale_x_continuous(name='', breaks=_breaks, labels=wording.tick_labels)
    + gg.scale_y_continuous(name='', breaks=_breaks, labels=wording.tick_labels)
    + figures.dress(
      page,
      (height + 0.1) * rows + ticks + 0.3 + hues.height,
      title,
      f'The axes of a t-SNE have no unit. {hues.note}',
      has_strips=True,
    )
    + gg.theme(panel_grid_major=gg.element_blank())
  )


def _breaks(limits: tuple[float, float]) -> Sequence[float]:
  if limits[1] > _NOWHERE / 2:
    return []
  return [*mizani.breaks.breaks_extended()(limits)]


def _corners(frame: pd.DataFrame, ratio: float) -> pd.DataFrame:
  """Returns two corners of each panel, with units as long across as upwards.

  Args:
    frame: with the columns panel, x and y.
    ratio: of a panel's width to its height.
  """
  panels = frame.groupby('panel', observed=True)[['x', 'y']]
  low, high = panels.min(), panels.max()
  middle, spans = (low + high) / 2, (high - low) / [ratio, 1.0]
  # A little more, so that no rounding leaves a point outside.
  half = 0.501 * spans.max(axis='columns').replace(0.0, 1.0)
  halves = pd.DataFrame({'x': ratio * half, 'y': half})
  return pd.concat([middle - halves, middle + halves]).reset_index()


def _axis_titles(corners: pd.DataFrame) -> list[gg.geom_text]:
  """Returns titles of the axes that have a unit, each at its end."""
  panel, size = corners[corners['panel'] == _RAW], figures.LABEL_SIZE
  ends = panel.tail(1)
  return [
    gg.geom_text(
      data=ends.assign(y=panel['y'].min()),
      label='latent 0',
      size=size,
      ha='right',
      va='bottom',
    ),
    gg.geom_text(
      data=ends.assign(x=panel['x'].min()),
      label='latent 1',
      size=size,
      angle=90,
      ha='left',
      va='top',
    ),
  ]


def _names(
  frame: pd.DataFrame, corners: pd.DataFrame, width: float, page: figures.Page
) -> pd.DataFrame:
  """Returns where labels stand: at most of their own points, and apart.

  A label whose points have hardly more of their own around them than anywhere,
  or lie in many places, stands nowhere.

  Args:
    frame: panel, label, x and y of each point.
    corners: of the panels.
    width: of a panel, in inches.
    page: whose letters are used.
  """
  from scipy import ndimage  # Slow, and --help has no use for it.

  placed = []
  for panel, points in frame.groupby('panel', observed=True):
    low, high = corners.loc[corners['panel'] == panel, ['x', 'y']].to_numpy()
    inch = (high[0] - low[0]) / (0.9 * width)
    edges = [
      np.linspace(start, end, _CELLS + 1)
      for start, end in zip(low, high, strict=True)
    ]
    middles = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    x, y = np.meshgrid(*middles, indexing='ij')
    around = lambda cells: ndimage.convolve(
      cells, np.ones([3, 3]), mode='constant'
    )
    cells = {
      str(label): np.histogram2d(rows['x'], rows['y'], edges)[0]
      for label, rows in points.groupby('label')
    }
    everyone, taken = around(sum(cells.values())), []
    for label, own in sorted(cells.items(), key=lambda item: -item[1].max()):
      near, share = around(own), own.sum() / len(points)
      local = own * (near - 1) / np.maximum(everyone - 1, 1)
      if local.sum() / own.sum() - share <= _GATHERED * (1 - share):
        continue
      if near.max() <= _SHARE * own.sum():
        continue
      # With a letter between two names.
      half = inch * figures.text_width(f'{label}0', page, _NAME_SIZE) / 2
      free = (x - half >= low[0]) & (x + half <= high[0])
      for other_x, other_y, other_half in taken:
        free &= (np.abs(x - other_x) > half + other_half) | (
          np.abs(y - other_y) > 1.5 * _NAME_SIZE / 72 * inch
        )
      # Many of its points, and few of others.
      score = np.where(free, near**2 / np.maximum(everyone, 1), 0.0)
      at = np.unravel_index(score.argmax(), score.shape)
      if score[at]:
        taken.append((x[at], y[at], half))
        placed.append((panel, label, x[at], y[at]))
  names = pd.DataFrame(placed, columns=['panel', 'label', 'x', 'y'])
  return names.astype({'panel': frame['panel'].dtype})


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  return plot_embedding(
    read_frame(runs.runs[0], arguments.color),
    command.title(arguments, runs),
    command.page(arguments),
  )


def _add_options(parser: command.Parser) -> None:
  parser.add_argument(
    '--color',
    metavar='FACTOR',
    help='a known factor; default: the labels, or '
    'the first factor of data that have none',
  )


FIGURE = command.Figure(
  'embedding',
  __doc__,
  _draw,
  'Points for the images, placed by t-SNE of their pixels and of their '
  'latents, coloured and marked by label.',
  add_options=_add_options,
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
