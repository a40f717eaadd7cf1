"""Embedding: t-SNE of up to 10,000 test images beside that of their latents.

Both are computed once and kept in arrays/embedding.npz. Where there are two
latents they are drawn as they are too. Labels colour the points, or by --color
a factor that is known.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence

import mizani.breaks
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, frames, wording
from launch import records

_IMAGES = 't-SNE of the test examples'
_LATENTS = 't-SNE of their latents'
_RAW = 'the latents themselves'

# Values of a factor from which on their order counts, and colours follow it.
_MANY_VALUES = 10

# Points of a label are gathered where they spread over less than this share of
# how far all of them do.
_GATHERED = 0.7

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
    Columns panel, x, y; label, categories in their order, or numbers of a
    factor of more than ten values; and color, what labels are of.

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
) -> np.ndarray | pd.Categorical:
  if color:
    if color not in factors or 'factors' not in arrays:
      raise figures.FigureError(
        f'--color={color}: no known factor of {run.path}; there are: '
        f'{", ".join(factors) or "none"}'
      )
    values = arrays['factors'][:, factors.index(color)]
    if len(np.unique(values)) > _MANY_VALUES:
      return values.astype(float)
  elif 'labels' in arrays:
    values = arrays['labels']
  else:
    return np.full(len(arrays['means']), '')
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

  A label stands in the middle of its points too, so that no reader depends on
  its colour, but where these lie all over the panel; numbers have a scale
  instead.

  Args:
    frame: as of `read_frame`.
    title: of the figure.
    page: what it is drawn for.
  """
  figures.check_columns(frame, ['panel', 'x', 'y', 'label', 'color'])
  frame, color = frame.copy(), frame['color'].iloc[0]
  panels = list(frame['panel'].unique())
  frame['panel'] = pd.Categorical(frame['panel'], panels)
  columns = len(panels) if page.is_double else 1
  side = page.width / columns
  many = len(frame) / len(panels) > 1000
  away = frame['panel'].isin([_IMAGES, _LATENTS])
  frame['x'] = frame['x'] + _NOWHERE * away
  frame['y'] = frame['y'] + _NOWHERE * away
  # Squares of as many units across as upwards.
  spans = frame.groupby('panel', observed=True)[['x', 'y']].agg(['min', 'max'])
  corners = pd.concat(
    [_square(str(name), span) for name, span in spans.iterrows()]
  )
  corners['panel'] = pd.Categorical(corners['panel'], panels)
  if pd.api.types.is_float_dtype(frame['label']):
    legend_height, note = 0.16, ''
    coloured = [
      gg.scale_color_gradientn(
        colours.sequence(64),
        name=color,
        guide=gg.guide_colorbar(),
        labels=lambda v: v,
      ),
      gg.theme(legend_key_width=60, legend_key_height=6),
    ]
  else:
    if isinstance(frame['label'].dtype, pd.CategoricalDtype):
      labels = list(frame['label'].cat.categories)
    else:
      labels = frames.levels(frame['label'])
    frame['label'] = pd.Categorical(frame['label'].map(records.text), labels)
    middles = _apart(_middles(frame), corners, side)
    legend = colours.legend(labels, page, color)
    legend_height, note = legend.height, legend.note
    if legend.guide:
      legend.guide.override_aes = {'size': 1.5}
    coloured = [
      gg.geom_label(
        gg.aes(label='label'),
        middles,
        color='black',
        size=7,
        alpha=0.7,
        label_size=0,
        label_padding=0.1,
      ),
      gg.scale_color_manual(
        colours.of_levels(labels, color),
        guide=legend.guide,
        breaks=legend.breaks,
      ),
      gg.labs(color=color),
    ]
  return (
    gg.ggplot(frame, gg.aes('x', 'y', color='label'))
    + gg.facet_wrap('panel', scales='free', ncol=columns)
    # As vectors, so many points would make a page slow to turn.
    + gg.geom_point(size=0.4 if many else 1.2, stroke=0, raster=many)
    + gg.geom_blank(gg.aes('x', 'y'), corners, inherit_aes=False)
    + coloured
    + gg.scale_x_continuous(name='', breaks=_breaks, labels=wording.tick_labels)
    + gg.scale_y_continuous(name='', breaks=_breaks, labels=wording.tick_labels)
    + figures.dress(
      page,
      (side + 0.1) * len(panels) / columns + legend_height,
      title,
      'The axes of a t-SNE have no unit.'
      + (
        ' Of the latents themselves, the first is across and the second up.'
        if _RAW in panels
        else ''
      )
      + f' {note}',
    )
    + gg.theme(panel_grid_major=gg.element_blank())
  )


def _breaks(limits: tuple[float, float]) -> Sequence[float]:
  if limits[1] > _NOWHERE / 2:
    return []
  return [*mizani.breaks.breaks_extended()(limits)]


def _square(panel: str, span: pd.Series) -> pd.DataFrame:
  """Corners of the square around the points of a panel."""
  half = max(span[axis, 'max'] - span[axis, 'min'] for axis in 'xy') / 2 or 1.0
  corners = {
    axis: (span[axis, 'max'] + span[axis, 'min']) / 2 + np.array([-half, half])
    for axis in 'xy'
  }
  return pd.DataFrame({'panel': panel, **corners})


def _middles(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the middle of each label's points where they are gathered there.

  That is, nearer to it than the panel's points are to theirs, by the median.
  """
  points = ['x', 'y']
  spread = lambda rows: (rows - rows.median()).abs().sum(axis=1).median()
  groups = frame.groupby(['panel', 'label'], observed=True)[points]
  middles = groups.median().reset_index()
  of_all = frame.groupby('panel', observed=True)[points].apply(spread)
  most = _GATHERED * of_all[middles['panel']].to_numpy()
  return middles[groups.apply(spread).to_numpy() <= most]


def _apart(
  middles: pd.DataFrame, corners: pd.DataFrame, side: float
) -> pd.DataFrame:
  """Moves labels upwards until none covers another.

  Args:
    middles: panel, label, x and y of each.
    corners: of the square panels.
    side: of a panel, in inches.
  """
  placed = []
  sizes = corners.groupby('panel', observed=True)['x'].agg(np.ptp)
  for panel, rows in middles.groupby('panel', observed=True):
    inch = sizes[panel] / (0.85 * side)
    taken = []
    for _, row in rows.sort_values('y', kind='stable').iterrows():
      across = inch * (0.08 + 0.06 * len(row['label'])) / 2
      x, y = row['x'], row['y']
      for other_x, other_y, other_across in sorted(taken, key=lambda t: t[1]):
        near = abs(x - other_x) < across + other_across
        if near and abs(y - other_y) < 0.15 * inch:
          y = other_y + 0.15 * inch
      taken.append((x, y, across))
      placed.append(row.to_dict() | {'y': y})
  return pd.DataFrame(placed, columns=middles.columns).astype(middles.dtypes)


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
