"""Embedding: t-SNE of up to 10,000 test images beside that of their latents.

Both are computed once and kept in arrays/embedding.npz. Where there are two
latents they are drawn as they are too.
"""

import hashlib
import sys

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import command, figures, frames
from launch import records

_IMAGES = 't-SNE of the test examples'
_LATENTS = 't-SNE of their latents'
_RAW = 'the latents themselves'


def read_frame(run: frames.RunFiles) -> pd.DataFrame:
  """Returns a row for each test image and panel: `panel`, `x`, `y`, `label`.

  Computes what arrays/embedding.npz does not hold yet, about half a minute
  for each 10,000 points.

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
  labels = arrays.get('labels', np.full(len(means), ''))[: len(means)]
  names = run.manifest['dataset'].get('label_names')
  if isinstance(names, list) and np.isin(labels, range(len(names))).all():
    labels = np.array([str(name) for name in names])[labels]
  return pd.concat(
    [
      pd.DataFrame(
        {'panel': panel, 'x': points[:, 0], 'y': points[:, 1], 'label': labels}
      )
      for panel, points in panels.items()
    ],
    ignore_index=True,
  )


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

  # A point needs neighbours within the perplexity; equal coordinates, as of
  # collapsed latents, have no principal components to start from.
  points = points.astype(np.float32)
  start = 'pca' if points.shape[1] >= 2 and points.std() > 0 else 'random'
  return sklearn.manifold.TSNE(
    perplexity=min(30.0, (len(points) - 1) / 3),
    init=start,
    angle=0.7,
    max_iter=750,
    random_state=0,
  ).fit_transform(points)


def plot_embedding(
  frame: pd.DataFrame, title: str = '', width: float = figures.DOUBLE_COLUMN
) -> gg.ggplot:
  """Draws the points of each panel, coloured by label.

  A label stands in the middle of its points too, so that no reader depends on
  its colour.
  """
  figures.check_columns(frame, ['panel', 'x', 'y', 'label'])
  frame = frame.copy()
  panels = list(frame['panel'].unique())
  frame['panel'] = pd.Categorical(frame['panel'], panels)
  labels = frames.levels(frame['label'])
  frame['label'] = pd.Categorical(frame['label'].map(records.text), labels)
  middles = frame.groupby(['panel', 'label'], observed=True, as_index=False)[
    ['x', 'y']
  ].median()
  columns = len(panels) if width == figures.DOUBLE_COLUMN else 1
  side = width / columns
  legend_rows, legend = figures.legend(labels, width)
  if legend:
    legend.override_aes = {'size': 1.5}
  many = len(frame) / len(panels) > 1000
  return (
    gg.ggplot(frame, gg.aes('x', 'y', color='label'))
    + gg.facet_wrap('panel', scales='free', ncol=columns)
    # As vectors, so many points would make a page slow to turn.
    + gg.geom_point(size=0.4 if many else 1.2, stroke=0, raster=many)
    + gg.geom_label(
      gg.aes(label='label'),
      middles,
      color='black',
      size=7,
      alpha=0.7,
      label_size=0,
      label_padding=0.1,
    )
    + gg.scale_color_manual(figures.colours(len(labels)), guide=legend)
    + gg.scale_x_continuous(name='', labels=figures.tick_labels)
    + gg.scale_y_continuous(name='', labels=figures.tick_labels)
    + figures.dress(
      width,
      (side + 0.1) * len(panels) / columns + 0.16 * legend_rows,
      title,
      'The axes of a t-SNE have no unit.',
    )
    + gg.theme(panel_grid_major=gg.element_blank())
  )


FIGURE = command.Figure(
  'embedding',
  __doc__,
  command.of_one_run(read_frame, plot_embedding),
  'Points for the images, placed by t-SNE of their pixels and of their '
  'latents, coloured and marked by label.',
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
