"""Writes what figures are drawn from: images that only the model can make."""

import pathlib

import numpy as np
import tensorflow as tf

from launch import records
from vae import datasets, evaluation, models, randomness

# Test images kept with their reconstructions.
NUM_RECONSTRUCTIONS = 64

# Samples from the prior.
NUM_SAMPLES = 64

# Test images around which each latent is moved.
NUM_TRAVERSED = 4

# The grid over two latents: points a side, and how far it reaches, in standard
# deviations of the prior.
GRID_SIZE = 13
GRID_EXTENT = 3.0


def write(
  run_dir: pathlib.Path,
  step: int,
  model: models.VAE,
  split: datasets.Split,
  binarize: str,
  seed: int,
  result: evaluation.Evaluation,
) -> None:
  """Writes every array of a run.

  Args:
    run_dir: the run.
    step: the number of updates of the model.
    model: the VAE.
    split: the test split.
    binarize: one of `datasets.BINARISATIONS`.
    seed: the run's seed.
    result: the split's evaluation, which says which latents carry most.
  """
  floats = datasets.to_float(
    tf.constant(split.images[:NUM_RECONSTRUCTIONS]),
    binarize,
    randomness.key(seed, randomness.Purpose.EVALUATION_BINARISATION, 0),
  )
  reconstructions = {
    'images': floats.numpy(),
    'modes': model.reconstruct(floats).numpy(),
  }
  latents = {'means': result.means, 'stddevs': result.stddevs}
  if split.labels is not None:
    reconstructions['labels'] = split.labels[:NUM_RECONSTRUCTIONS]
    latents['labels'] = split.labels
  key = randomness.key(seed, randomness.Purpose.PRIOR, 0)
  samples = {'modes': model.sample(NUM_SAMPLES, key).numpy()}
  for name, contents in (
    ('reconstructions', reconstructions),
    ('latents', latents),
    ('samples', samples),
    ('latent_grid', latent_grid(model, result.rate_per_latent)),
    ('traversals', traversals(model, floats[:NUM_TRAVERSED])),
  ):
    records.write_arrays(run_dir, name, step, contents)


def traversals(model: models.VAE, images: tf.Tensor) -> dict[str, np.ndarray]:
  """Modes decoded while one latent moves and the others stay.

  Args:
    model: the VAE.
    images: [N, H, W, C], whose posterior means the other latents keep.

  Returns:
    `values` [G], where the moving latent is; `modes` [N, L, G, H, W, C].
  """
  values = np.linspace(-GRID_EXTENT, GRID_EXTENT, GRID_SIZE, dtype=np.float32)
  means = model.encode(images).mean().numpy()  # [N, L]
  num_images, latent_size = means.shape
  latents = np.tile(means[:, None, None], (1, latent_size, GRID_SIZE, 1))
  for latent in range(latent_size):
    latents[:, latent, :, latent] = values
  # One image at a time, to bound the memory.
  modes = [model.decode(latents[n]).mode().numpy() for n in range(num_images)]
  return {'values': values, 'modes': np.stack(modes)}


def latent_grid(
  model: models.VAE, rate_per_latent: np.ndarray
) -> dict[str, np.ndarray]:
  """Modes decoded on an even grid over the two latents of highest rate.

  The other latents are zero, the prior's mean. A model of one latent gets a
  grid of one row.

  Args:
    model: the VAE.
    rate_per_latent: [L], nats.

  Returns:
    `latents` [2] (or [1]), which two, the one of the higher rate first;
    `rates` of them in nats; `values` [G], where the grid's points are;
    `modes` [G, G, H, W, C], the first latent from left to right and the second
    from bottom to top.
  """
  latents = np.argsort(-rate_per_latent, kind='stable')[:2]
  values = np.linspace(-GRID_EXTENT, GRID_EXTENT, GRID_SIZE, dtype=np.float32)
  rows = values[::-1] if len(latents) == 2 else np.zeros(1, np.float32)
  grid = np.zeros((len(rows), len(values), len(rate_per_latent)), np.float32)
  grid[..., latents[0]] = values
  if len(latents) == 2:
    grid[..., latents[1]] = rows[:, None]
  return {
    'latents': latents,
    'rates': rate_per_latent[latents],
    'values': values,
    'modes': model.decode(tf.constant(grid)).mode().numpy(),
  }
