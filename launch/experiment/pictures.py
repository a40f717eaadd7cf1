"""Writes what figures are drawn from: images that only the model can make."""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
import tensorflow as tf
import threadpoolctl

from launch import records
from launch.experiment import metrics
from launch.settings import config as config_lib
from vae import distributions, models, randomness
from vae.data import batches, datasets
from vae.metrics import evaluation

# Test images kept with their reconstructions.
NUM_RECONSTRUCTIONS = 64

# Values of each factor, at most, whose images are kept.
NUM_VALUES = 10

# Samples from the prior.
NUM_SAMPLES = 64

# Test images around which each latent is moved, besides those asked for.
NUM_TRAVERSED = 4

# What is drawn of pixels around a test image has keys of its own from here on.
_TRAVERSED_DRAWS = 2**20

# The grid over two latents: points a side, and how far it reaches, in standard
# deviations of the prior.
GRID_SIZE = 13
GRID_EXTENT = 3.0

# Of the aggregate posterior of a latent, where its traversal may lie too; and
# of how many points of equal probability each image's posterior is made.
QUANTILES = (np.rint(np.linspace(1, 99, GRID_SIZE)) / 100).astype(np.float32)
_POINTS = 16

# Points a side of the manifold of two latents.
MANIFOLD_SIZE = 20

# Test examples that are embedded by t-SNE, the first; and how many of their
# principal components are kept for it.
NUM_EMBEDDED = 10_000
NUM_COMPONENTS = 50


# From latents to pictures of what they decode to, by what is shown of it.
_Decode = Callable[[np.ndarray | tf.Tensor], dict[str, np.ndarray]]


def write(
  run_dir: pathlib.Path,
  of: metrics.Evaluated,
  dataset: datasets.Dataset,
  in_training: bool,
) -> None:
  """Writes every array of a run.

  Args:
    run_dir: the run.
    of: the evaluated split, which says which latents carry most.
    dataset: that it is of.
    in_training: whether this process holds the run.
  """
  model, split, config, result = of.model, of.data, of.config, of.result
  floats = batches.to_float(
    tf.constant(split.examples[:NUM_RECONSTRUCTIONS]),
    config.binarize,
    evaluation.target_key(0),
  )
  decode = _decoder(model, config.seed)
  reconstructions = {
    'images': floats.numpy(),
    **decode(model.encode(floats).mean()),
  }
  latents = {
    'means': result.means,
    'stddevs': result.stddevs,
    'pixels_pca': principal_components(
      np.asarray(split.examples[:NUM_EMBEDDED])
    ),
  }
  if split.labels is not None:
    reconstructions['labels'] = split.labels[:NUM_RECONSTRUCTIONS]
    latents['labels'] = split.labels
  if split.factors is not None:  # Their names are in the manifest.
    latents['factors'] = split.factors
  contents = {
    'reconstructions': reconstructions,
    'latents': latents,
    # Of the whole split, also where a choice of it was evaluated.
    'traversals': traversals(
      model,
      config,
      dataset.splits[of.split].examples,
      _traversed(run_dir),
      result.means,
      result.stddevs,
    ),
  }
  if result.has_elbo:
    key = randomness.key(config.seed, randomness.Purpose.PRIOR, 0)
    drawn = distributions.sample(model.prior, NUM_SAMPLES, key)
    contents['samples'] = decode(drawn)
    contents['latent_grid'] = latent_grid(decode, result.rate_per_latent)
  if dataset.has_grid:
    contents['by_factor'] = by_factor(decode, model, dataset, config.binarize)
  if config.latent_size == 2:
    contents['manifold'] = manifold(decode, result, result.has_elbo)
  expected = None if in_training else of.manifest
  for name, arrays in contents.items():
    records.write_arrays(run_dir, name, of.step, arrays, expected)


def add_traversals(
  run_dir: pathlib.Path,
  model: models.VAE,
  config: config_lib.Config,
  manifest: Mapping[str, Any],
  step: int,
  examples: batches.Examples,
  indices: Iterable[int],
) -> None:
  """Adds traversals around images to those that a run keeps.

  Args:
    run_dir: the run.
    model: the VAE.
    config: the run's settings.
    manifest: of the run.
    step: the number of updates of the model.
    examples: of the split that is evaluated.
    indices: of the images.

  Raises:
    RecordError: latents that are missing, damaged, or of other weights.
  """
  latents = records.read_arrays(run_dir, 'latents', ['means', 'stddevs'])
  if int(latents['step']) != step:
    raise records.RecordError(
      f'the arrays of {run_dir} are of step {int(latents["step"]):,} and its '
      f'weights of step {step:,}; python -m launch.evaluate '
      f'--run_dir={run_dir} writes them anew'
    )
  arrays = traversals(
    model,
    config,
    examples,
    sorted({*_traversed(run_dir), *indices}),
    latents['means'],
    latents['stddevs'],
  )
  records.write_arrays(run_dir, 'traversals', step, arrays, manifest)


def _traversed(run_dir: pathlib.Path) -> list[int]:
  """The first images of a split, and those that were asked for before."""
  kept: list[int] = []
  with contextlib.suppress(records.RecordError):
    arrays = records.read_arrays(run_dir, 'traversals', ['indices'])
    kept = arrays['indices'].tolist()
  return sorted({*range(NUM_TRAVERSED), *kept})


def _decoder(model: models.VAE, seed: int, first_draw: int = 0) -> _Decode:
  """Makes a function that shows what latents [..., L] decode to.

  Args:
    model: the VAE.
    seed: of the draws.
    first_draw: which of the seed's draws is the first.

  Returns:
    A function to the likelihood's `means` and `modes`, and, where it is a
    density, `samples`, each [..., H, W, C], in half precision where they are
    images.
  """
  draws = itertools.count(first_draw)
  likelihood = getattr(model.decode, 'likelihood', None)
  density_of = getattr(likelihood, 'density_of', 'any')

  def decode(latents: np.ndarray | tf.Tensor) -> dict[str, np.ndarray]:
    likelihood = model.decode(tf.convert_to_tensor(latents))
    shown = {'means': likelihood.mean(), 'modes': likelihood.mode()}
    if density_of is not None:
      key = randomness.key(seed, randomness.Purpose.PIXELS, next(draws))
      shown['samples'] = distributions.sample(likelihood, 1, key)[0]
    # A thousand shades of grey, in half the bytes.
    dtype = np.float16 if len(likelihood.event_shape) == 3 else np.float32
    return {
      name: tensor.numpy().astype(dtype) for name, tensor in shown.items()
    }

  return decode


def by_factor(
  decode: _Decode, model: models.VAE, dataset: datasets.Dataset, binarize: str
) -> dict[str, np.ndarray]:
  """Images in which one factor varies, and what they are decoded to.

  The other factors keep the middle one of their values. The images are of all
  splits, so that the model was trained on most of them.

  Args:
    decode: of the VAE.
    model: the VAE.
    dataset: holds every combination of factors.
    binarize: as in `batches.to_float`.

  Returns:
    For each image `labels` [N], the name of the factor that varies; `values`
    [N], the index of its value, of which there are `num_values` [N]; `images`
    and what they are decoded to, `means` and the like, [N, H, W, C].
  """
  names, sizes = list(dataset.factors), np.array([*dataset.factors.values()])
  rows, which = [], []
  for k, size in enumerate(sizes):
    values = np.rint(np.linspace(0, size - 1, min(size, NUM_VALUES)))
    factors = np.tile(sizes // 2, (len(values), 1))
    factors[:, k] = values
    rows.append(factors)
    which += [k] * len(values)
  factors = np.concatenate(rows)
  images = batches.to_float(
    tf.constant(dataset.images_of(factors)), binarize, evaluation.target_key(0)
  )
  return {
    'labels': np.array(names)[which],
    'values': factors[np.arange(len(which)), which],
    'num_values': sizes[which],
    'images': images.numpy(),
    **decode(model.encode(images).mean()),
  }


def principal_components(examples: np.ndarray) -> np.ndarray:
  """Examples on their first principal components, the input of a t-SNE.

  Args:
    examples: [N, ...].

  Returns:
    float16 [N, K], with K of `NUM_COMPONENTS` at most, and less than N; one
    column of zeros where the examples do not differ.
  """
  flat = examples.reshape(len(examples), -1).astype(np.float32)
  if examples.dtype == np.uint8:
    flat /= 255.0
  flat -= flat.mean(axis=0)
  if not flat.any():
    return np.zeros((len(flat), 1), np.float16)
  # The bits depend on the number of threads, which here is not --threads but
  # what the process may use.
  with threadpoolctl.threadpool_limits(1):
    if flat.shape[1] <= 2048:
      _, vectors = np.linalg.eigh(flat.T @ flat)
      vectors = vectors[:, ::-1][:, :NUM_COMPONENTS]
    else:  # Where all of them would take minutes.
      import scipy.sparse.linalg

      count = min(NUM_COMPONENTS, min(flat.shape) - 1)
      start = np.ones(min(flat.shape), np.float32)
      vectors = scipy.sparse.linalg.svds(flat, count, v0=start)[2][::-1].T
    return (flat @ vectors).astype(np.float16)


def manifold(
  decode: _Decode, result: evaluation.Evaluation, has_prior: bool
) -> dict[str, np.ndarray]:
  """Decodes a grid that covers both of two latents evenly.

  Args:
    decode: of a VAE of two latents.
    result: an evaluation, for where an autoencoder's codes lie.
    has_prior: whether the grid lies at quantiles of N(0, 1), which are those of
      the standard prior; else it is even over the middle 98% of the codes.

  Returns:
    `values` [G] and what is decoded, `modes` and the like, [G, G, H, W, C], the
    first latent from left to right and the second from bottom to top.
  """
  if has_prior:
    shares = (np.arange(MANIFOLD_SIZE) + 0.5) / MANIFOLD_SIZE
    values = scipy.special.ndtri(shares).astype(np.float32)
  else:
    low, high = np.quantile(result.means, [0.01, 0.99])
    values = np.linspace(low, high, MANIFOLD_SIZE, dtype=np.float32)
  grid = np.stack(np.meshgrid(values, values[::-1]), axis=-1)
  return {'values': values, **decode(grid)}


def aggregate_quantiles(means: np.ndarray, stddevs: np.ndarray) -> np.ndarray:
  """Quantiles of each latent's aggregate posterior, the mixture over images.

  Args:
    means: of normals, [N, L].
    stddevs: of them, [N, L].

  Returns:
    float32 [L, Q] at the shares `QUANTILES`.
  """
  shares = (np.arange(_POINTS) + 0.5) / _POINTS
  offsets = scipy.special.ndtri(shares)[:, None].astype(np.float32)
  # One latent at a time, to bound the memory.
  return np.stack(
    [
      np.quantile(mean + offsets * stddev, QUANTILES)
      for mean, stddev in zip(means.T, stddevs.T, strict=True)
    ]
  ).astype(np.float32)


def traversals(
  model: models.VAE,
  config: config_lib.Config,
  examples: batches.Examples,
  indices: Sequence[int],
  means: np.ndarray,
  stddevs: np.ndarray,
) -> dict[str, np.ndarray]:
  """Decodes latents of which one moves while the others stay.

  Args:
    model: the VAE.
    config: the run's settings.
    examples: of a split.
    indices: of N of them; those past the end are left out.
    means: of the latents' posteriors, [M, L], for where the latents lie.
    stddevs: of them, [M, L].

  Returns:
    `indices` [N]; `images` as the model sees them, [N, H, W, C], and `codes`,
    their posterior means [N, L], which the other latents keep; `values` [G],
    where the moving latent is; what is decoded, `modes` and the like,
    [N, L, G, H, W, C]; the same at quantiles of its aggregate posterior:
    `quantiles` [Q], the shares; `quantile_values` [L, Q]; `quantile_modes` and
    the like [N, L, Q, H, W, C].
  """
  kept = [index for index in indices if index < len(examples)]
  values = np.linspace(-GRID_EXTENT, GRID_EXTENT, GRID_SIZE, dtype=np.float32)
  quantile_values = aggregate_quantiles(means, stddevs)
  even_values = np.tile(values, (means.shape[1], 1))
  images = np.stack([_target(examples, i, config.binarize) for i in kept])
  codes = model.encode(tf.constant(images)).mean().numpy()
  even, at_quantiles = [], []
  # One image at a time, to bound the memory.
  for index, code in zip(kept, codes, strict=True):
    first_draw = _TRAVERSED_DRAWS + 2 * index
    decode = _decoder(model, config.seed, first_draw)
    even.append(_traverse(decode, code, even_values))
    at_quantiles.append(_traverse(decode, code, quantile_values))
  stacked = lambda parts, start='': {
    start + name: np.stack([part[name] for part in parts]) for name in parts[0]
  }
  return {
    'indices': np.array(kept),
    'images': images,
    'codes': codes,
    'values': values,
    **stacked(even),
    'quantiles': QUANTILES,
    'quantile_values': quantile_values,
    **stacked(at_quantiles, 'quantile_'),
  }


def _target(
  examples: batches.Examples, index: int, binarize: str
) -> np.ndarray:
  """An example as the model sees it, in `reconstructions` too."""
  block, place = divmod(index, NUM_RECONSTRUCTIONS)
  start = block * NUM_RECONSTRUCTIONS
  floats = batches.to_float(
    tf.constant(examples[start : start + NUM_RECONSTRUCTIONS]),
    binarize,
    evaluation.target_key(block),
  )
  return floats.numpy()[place]


def _traverse(
  decode: _Decode, code: np.ndarray, values: np.ndarray
) -> dict[str, np.ndarray]:
  """Decodes around a code [L] with each latent at its values [L, G]."""
  latents = np.tile(code, (*values.shape, 1))
  for latent, moved in enumerate(values):
    latents[latent, :, latent] = moved
  return decode(latents)


def latent_grid(
  decode: _Decode, rate_per_latent: np.ndarray
) -> dict[str, np.ndarray]:
  """Decodes an even grid over the two latents of highest rate.

  The other latents are zero, which is the standard prior's mean. A model of one
  latent gets a grid of one row.

  Args:
    decode: of the VAE.
    rate_per_latent: [L], nats.

  Returns:
    `latents` [2] (or [1]), which two, the one of the higher rate first;
    `rates` of them in nats; `values` [G], where the grid's points are;
    what is decoded, `modes` and the like, [G, G, H, W, C], the first latent
    from left to right and the second from bottom to top.
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
    **decode(grid),
  }
