"""Metrics of a whole split, in nats, with their standard errors."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from vae import datasets, losses, models, randomness

# Images in one evaluation batch. Part of what the evaluation's noise means.
BATCH_SIZE = 500


class Estimate(NamedTuple):
  """A mean over images.

  Attributes:
    value: the mean.
    se: its standard error: the sample standard deviation over images divided
      by the root of their number; not a number for a single image.
  """

  value: float
  se: float


class Evaluation(NamedTuple):
  """Metrics of a split.

  Attributes:
    num_images: N.
    elbo: nats per image, beta = 1.
    distortion: nats per image.
    rate: nats per image.
    rate_per_latent: float64 [L], mean KL(q(z_u|x) || N(0, 1)) of each latent's
      marginal, in nats. Adds up to the rate for a factorized posterior only.
  """

  num_images: int
  elbo: Estimate
  distortion: Estimate
  rate: Estimate
  rate_per_latent: np.ndarray


def estimate(values: np.ndarray) -> Estimate:
  """Mean and standard error of per-image values [N], in float64."""
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not len(values):
    raise ValueError(f'expected values of shape [N], got {values.shape}')
  se = np.nan
  if len(values) > 1:
    se = values.std(ddof=1) / np.sqrt(len(values))
  return Estimate(float(values.mean()), float(se))


def batches(
  images: np.ndarray, binarize: str, seed: int
) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
  """The batches of an evaluation, with fixed noise.

  The noise depends on the seed and the image's place alone, so that models
  and steps are compared on the same draws. The last batch is filled up with
  the first image, for a single shape to be compiled.

  Args:
    images: uint8 [N, H, W, C].
    binarize: one of `datasets.BINARISATIONS`.
    seed: the run's seed.

  Yields:
    How many images count, float32 images [BATCH_SIZE, H, W, C], and the key of
    the posterior's noise.
  """
  size = min(BATCH_SIZE, len(images))
  for index, start in enumerate(range(0, len(images), size)):
    batch = images[start : start + size]
    count = len(batch)
    if count < size:
      batch = np.concatenate([batch, np.repeat(images[:1], size - count, 0)])
    key = lambda purpose, index=index: randomness.key(seed, purpose, index)
    floats = datasets.to_float(
      tf.constant(batch),
      binarize,
      key(randomness.Purpose.EVALUATION_BINARISATION),
    )
    yield count, floats, key(randomness.Purpose.EVALUATION_POSTERIOR)


class Evaluator:
  """Evaluates one model; compiles once, whatever the number of images."""

  def __init__(self, model: models.VAE, num_samples: int = 1):
    """Initializes the evaluator.

    Args:
      model: the VAE; its variables may change between evaluations.
      num_samples: posterior samples per image for the distortion.
    """

    def per_image(images, key):
      terms = losses.terms(model, images, key, num_samples)
      posterior = model.encode(images)
      mean, stddev = posterior.mean(), posterior.stddev()
      # KL(N(m, s^2) || N(0, 1)), Kingma & Welling 2013, appendix B.
      per_latent = 0.5 * (
        tf.square(mean) + tf.square(stddev) - 1.0
      ) - tf.math.log(stddev)
      return terms.distortion, terms.rate, per_latent

    self._per_image = tf.function(per_image, autograph=False)

  def __call__(
    self, images: np.ndarray, binarize: str, seed: int
  ) -> Evaluation:
    """Evaluates every image of a split once.

    Args:
      images: uint8 [N, H, W, C].
      binarize: one of `datasets.BINARISATIONS`.
      seed: the run's seed.
    """
    parts = []
    for count, batch, key in batches(images, binarize, seed):
      outputs = self._per_image(batch, key)
      parts.append([output.numpy()[:count] for output in outputs])
    distortion, rate, per_latent = (
      np.concatenate(part).astype(np.float64)
      for part in zip(*parts, strict=True)
    )
    return Evaluation(
      num_images=len(images),
      elbo=estimate(-(distortion + rate)),
      distortion=estimate(distortion),
      rate=estimate(rate),
      rate_per_latent=per_latent.mean(axis=0),
    )
