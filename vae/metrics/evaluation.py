"""Metrics of a whole split, in nats, with their standard errors."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from vae import compilation, metrics, models, randomness, terms
from vae.data import batches

# Images in one evaluation batch. Part of what the evaluation's noise means.
BATCH_SIZE = 500

# Values of the images in such a batch at most, which then has fewer of them:
# layers, and samples decoded together, have some dozen times as many.
BATCH_VALUES = 2**25


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
    elbo: nats per image, beta = 1; not a number for an autoencoder.
    distortion: nats per image; not a number for an autoencoder.
    rate: nats per image; not a number for an autoencoder.
    squared_error: of an autoencoder's reconstruction, mean over the values of
      an image; else not a number.
    means: E[z_u] under q(z|x), float32 [N, L].
    stddevs: standard deviation of z_u under q(z|x), float32 [N, L].
  """

  num_images: int
  elbo: Estimate
  distortion: Estimate
  rate: Estimate
  squared_error: Estimate
  means: np.ndarray
  stddevs: np.ndarray

  @property
  def has_elbo(self) -> bool:
    """Returns whether the model has an elbo; autoencoders have none."""
    return not np.isnan(self.elbo.value)

  @property
  def rate_per_latent(self) -> np.ndarray:
    """Mean KL(q(z_u|x) || N(0, 1)) of each latent's marginal, nats, [L].

    Adds up to the rate for a factorized posterior and the standard normal
    prior only (Kingma & Welling 2013, appendix B). Not a number for an
    autoencoder.
    """
    if not self.has_elbo:
      return np.full(self.means.shape[1], np.nan)
    means, stddevs = self.means.astype('f8'), self.stddevs.astype('f8')
    kl = 0.5 * (means**2 + stddevs**2 - 1.0) - np.log(stddevs)
    return kl.mean(axis=0)

  @property
  def mean_variance(self) -> np.ndarray:
    """Var_x(E[z_u]), the activity of each latent, [L]."""
    return self.means.astype('f8').var(axis=0)

  @property
  def active_units(self) -> int:
    """The number of latents above `metrics.ACTIVE_VARIANCE`."""
    return int((self.mean_variance > metrics.ACTIVE_VARIANCE).sum())


def estimate(values: np.ndarray) -> Estimate:
  """Returns mean and standard error of per-image values [N], in float64."""
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not len(values):
    raise ValueError(f'expected values of shape [N], got {values.shape}')
  se = np.nan
  if len(values) > 1:
    se = values.std(ddof=1) / np.sqrt(len(values))
  return Estimate(float(values.mean()), float(se))


def choose(
  num_images: int,
  most: int,
  purpose: randomness.Purpose = randomness.Purpose.EVALUATION_IMAGES,
) -> np.ndarray:
  """Returns a fixed choice of images, which no run's seed changes.

  Args:
    num_images: N, of the split.
    most: how many at most; of fewer images, all are chosen.
    purpose: what they are chosen for.

  Returns:
    Their places, increasing, [min(N, most)].
  """
  if num_images <= most:
    return np.arange(num_images)
  generator = randomness.host_generator(0, purpose)
  return np.sort(generator.permutation(num_images)[:most])


def batch_size(shape: Sequence[int]) -> int:
  """Returns how many images of a shape one evaluation batch has at most."""
  return min(BATCH_SIZE, max(1, BATCH_VALUES // math.prod(shape)))


def target_key(batch: int) -> tf.Tensor:
  """Returns the key by which a batch of targets is drawn, in every run."""
  return randomness.key(0, randomness.Purpose.EVALUATION_BINARISATION, batch)


def fixed_batches(
  images: batches.Examples, binarize: str, seed: int
) -> Iterator[tuple[int, int, tf.Tensor, tf.Tensor]]:
  """Yields the batches of an evaluation, with fixed noise.

  Binary targets depend on the image's place alone, so that runs of all seeds
  are measured on the same; the posterior's noise on the seed too, so that steps
  are compared on the same draws. The last batch is filled up with
  the first image, for a single shape to be compiled.

  Args:
    images: uint8 [N, H, W, C].
    binarize: one of `batches.BINARISATIONS`.
    seed: the run's seed.

  Yields:
    How many images count, the batch's number, float32 images
    [B, H, W, C], and the key of the posterior's noise.
  """
  size = min(batch_size(images.shape[1:]), len(images))
  for index, start in enumerate(range(0, len(images), size)):
    batch = np.asarray(images[start : start + size])
    count = len(batch)
    if count < size:
      first = np.asarray(images[:1])
      batch = np.concatenate([batch, np.repeat(first, size - count, 0)])
    floats = batches.to_float(tf.constant(batch), binarize, target_key(index))
    purpose = randomness.Purpose.EVALUATION_POSTERIOR
    yield count, index, floats, randomness.key(seed, purpose, index)


_NONE = Estimate(np.nan, np.nan)


class Evaluator:
  """Evaluates one model; compiles once, whatever the number of images."""

  def __init__(
    self,
    model: models.VAE,
    num_samples: int = 1,
    has_elbo: bool = True,
  ):
    """Initializes the evaluator.

    Args:
      model: the VAE; its variables may change between evaluations. Its rate is
        exact where a closed form is known, else by Monte Carlo.
      num_samples: posterior samples per image.
      has_elbo: False for an autoencoder, whose posterior is deterministic or
        whose likelihood is no density: its squared error is measured instead.
    """

    def elbo_terms(images, key):
      sampled = terms.sample(model, images, key, num_samples, is_training=False)
      posterior = sampled.posterior
      exact = terms.has_closed_form(posterior, model.prior)
      kl = 'exact' if exact else 'monte_carlo'
      distortion = tf.reduce_mean(sampled.distortions, axis=0)
      rate = terms.rate(model, posterior, sampled.latents, kl)
      return distortion, rate, posterior.mean(), posterior.stddev()

    def squared_error(images, key):
      del key
      posterior = model.encode(images)
      errors = tf.math.squared_difference(
        images, model.decode(posterior.mean()).mean()
      )
      error = tf.reduce_mean(errors, axis=list(range(1, images.shape.rank)))
      return error, posterior.mean(), posterior.stddev()

    self._has_elbo = has_elbo
    self._per_image = compilation.compiled(
      elbo_terms if has_elbo else squared_error
    )

  def __call__(
    self, images: batches.Examples, binarize: str, seed: int
  ) -> Evaluation:
    """Evaluates every image of a split once.

    Args:
      images: uint8 [N, H, W, C].
      binarize: one of `batches.BINARISATIONS`.
      seed: the run's seed.
    """
    parts = []
    for count, _, batch, key in fixed_batches(images, binarize, seed):
      outputs = self._per_image(batch, key)
      parts.append([output.numpy()[:count] for output in outputs])
    *columns, means, stddevs = (
      np.concatenate(part) for part in zip(*parts, strict=True)
    )
    if not self._has_elbo:
      error = estimate(columns[0])
      return Evaluation(len(images), _NONE, _NONE, _NONE, error, means, stddevs)
    distortion, rate = (term.astype('f8') for term in columns)
    return Evaluation(
      num_images=len(images),
      elbo=estimate(-(distortion + rate)),
      distortion=estimate(distortion),
      rate=estimate(rate),
      squared_error=_NONE,
      means=means,
      stddevs=stddevs,
    )
