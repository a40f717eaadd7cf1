"""Writes what figures are drawn from: images that only the model can make."""

import pathlib

import numpy as np
import tensorflow as tf

from launch import records
from vae import datasets, evaluation, models, randomness

# Test images kept with their reconstructions.
NUM_RECONSTRUCTIONS = 64

# The grid over two latents: points a side, and how far it reaches, in standard
# deviations of the prior.
GRID_SIZE = 13
GRID_EXTENT = 3.0


def write(
  run_dir: pathlib.Path,
  model: models.VAE,
  split: datasets.Split,
  binarize: str,
  seed: int,
  result: evaluation.Evaluation,
) -> None:
  """Writes every array of a run.

  Args:
    run_dir: the run.
    model: the VAE.
    split: the test split.
    binarize: one of `datasets.BINARISATIONS`.
    seed: the run's seed.
    result: the split's evaluation, which says which latents carry most.
  """
  images = split.images[:NUM_RECONSTRUCTIONS]
  floats = datasets.to_float(
    tf.constant(images),
    binarize,
    randomness.key(seed, randomness.Purpose.EVALUATION_BINARISATION, 0),
  )
  reconstructions = {
    'images': floats.numpy(),
    'modes': model.reconstruct(floats).numpy(),
  }
  if split.labels is not None:
    reconstructions['labels'] = split.labels[:NUM_RECONSTRUCTIONS]
  records.write_arrays(run_dir, 'reconstructions', reconstructions)
  records.write_arrays(
    run_dir, 'latent_grid', latent_grid(model, result.rate_per_latent)
  )


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
