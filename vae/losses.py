"""Objectives, as pure functions of per-image terms in nats.

Words (Alemi et al. 2018, https://arxiv.org/abs/1711.00464): for an image x,

    rate       = KL(q(z|x) || p(z)),             summed over latents
    distortion = -E_q(z|x)[log p(x|z)],          summed over pixels
    elbo       = -(distortion + rate) <= log p(x)

`elbo` has beta = 1 and its true sign, whatever was trained. What is minimised
is called the loss, and has one mean over the batch, taken last.
"""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from vae import distributions, models, randomness

tfd = tfp.distributions

REDUCTIONS = ('mean', 'sum')
KL_METHODS = ('exact', 'monte_carlo')


class Terms(NamedTuple):
  """Per-image terms in nats, each of shape [B]."""

  rate: tf.Tensor
  distortion: tf.Tensor

  @property
  def elbo(self) -> tf.Tensor:
    """The evidence lower bound in nats, [B]: beta = 1, true sign."""
    return elbo(self.rate, self.distortion)


def elbo(rate: tf.Tensor, distortion: tf.Tensor) -> tf.Tensor:
  """-(distortion + rate), in the unit of its arguments.

  Args:
    rate: [B].
    distortion: [B].

  Raises:
    ValueError: shapes that differ; [B] and [B, 1] would broadcast to [B, B].
  """
  rate.shape.assert_has_rank(1)
  rate.shape.assert_is_compatible_with(distortion.shape)
  return -(distortion + rate)


class Sampled(NamedTuple):
  """A model's distributions at some images, and samples of the posterior.

  Attributes:
    posterior: q(z|x), batch [B], event [L].
    latents: drawn from it, [S, B, L].
    distortions: -log p(x|z) of each sample, nats, [S, B].
  """

  posterior: tfd.Distribution
  latents: tf.Tensor
  distortions: tf.Tensor


def sample(
  model: models.VAE, images: tf.Tensor, key: tf.Tensor, num_samples: int = 1
) -> Sampled:
  """Encodes images, draws latents and decodes them.

  Args:
    model: the VAE.
    images: [B, H, W, C], values in the likelihood's range.
    key: of the posterior's noise, from `randomness.key`.
    num_samples: S, posterior samples for each image.
  """
  posterior = model.encode(images)
  latents = distributions.sample(posterior, num_samples, key)
  distortions = -model.decode(latents).log_prob(images)
  return Sampled(posterior, latents, distortions)


def rate(
  model: models.VAE,
  posterior: tfd.Distribution,
  latents: tf.Tensor,
  kl: str = 'exact',
) -> tf.Tensor:
  """KL(q(z|x) || p(z)) of each image in nats, [B].

  Args:
    model: the VAE.
    posterior: q(z|x), batch [B].
    latents: samples of it, [S, B, L].
    kl: 'exact' for the closed form, 'monte_carlo' for the mean of
      log q(z|x) - log p(z) over the samples.

  Raises:
    ValueError: a method that does not exist.
    NotImplementedError: 'exact' where no closed form is known.
  """
  if kl == 'exact':
    return tfd.kl_divergence(posterior, model.prior)
  if kl == 'monte_carlo':
    log_ratio = posterior.log_prob(latents) - model.prior.log_prob(latents)
    return tf.reduce_mean(log_ratio, axis=0)
  raise ValueError(f'kl must be one of {KL_METHODS}, got {kl!r}')


def has_closed_form(
  posterior: tfd.Distribution, prior: tfd.Distribution
) -> bool:
  """Whether the 'exact' rate between two families of densities is known."""
  try:
    tfd.kl_divergence(posterior, prior)
  except NotImplementedError:
    return False
  return True


def terms(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  num_samples: int = 1,
  kl: str = 'exact',
  kl_samples: int = 0,
) -> Terms:
  """Rate and distortion of each image, the latter averaged over samples.

  Args:
    model: the VAE.
    images: [B, H, W, C], values in the likelihood's range.
    key: of the posterior's noise, from `randomness.key`.
    num_samples: S, posterior samples per image.
    kl: 'exact' or 'monte_carlo'.
    kl_samples: samples of their own for the Monte Carlo rate; 0 for those of
      the distortion.

  Returns:
    Terms of shape [B].
  """
  sampled = sample(model, images, key, num_samples)
  latents = sampled.latents
  if kl == 'monte_carlo' and kl_samples:
    latents = distributions.sample(
      sampled.posterior, kl_samples, randomness.fold(key, 1)
    )
  return Terms(
    rate(model, sampled.posterior, latents, kl),
    tf.reduce_mean(sampled.distortions, axis=0),
  )


def effective_beta(
  beta: float, reduction: str, num_values: int, latent_size: int
) -> float:
  """The weight of the rate against the distortion, both in nats.

  Under `mean` the loss divides the distortion by `num_values` and the rate by
  `latent_size`; multiplied by `num_values` it is
  `distortion + beta (num_values / latent_size) rate`. (The inverse of the
  normalised beta of Higgins et al. 2017, section 3.)

  Args:
    beta: the launcher's beta.
    reduction: 'mean' or 'sum'.
    num_values: H W C, the number of values in an image.
    latent_size: L.

  Raises:
    ValueError: a reduction that does not exist.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction}')
  return beta if reduction == 'sum' else beta * num_values / latent_size


def beta_loss(
  terms: Terms,
  beta: float | tf.Tensor,
  reduction: str,
  num_values: int,
  latent_size: int,
) -> tf.Tensor:
  """The objective of beta-VAEs (Higgins et al. 2017), averaged over the batch.

  https://openreview.net/forum?id=Sy2fzU9gl, equation 4, to be minimised:

      sum:  distortion + beta rate                                  (nats)
      mean: distortion / num_values + beta rate / latent_size

  At beta = 1 under `sum` this is the mean of `-elbo`.

  Args:
    terms: [B] each.
    beta: weight of the rate, a scalar.
    reduction: 'mean' or 'sum'.
    num_values: H W C.
    latent_size: L.

  Returns:
    A scalar.

  Raises:
    ValueError: a reduction that does not exist, or terms of unequal shape.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction}')
  terms.rate.shape.assert_is_compatible_with(terms.distortion.shape)
  terms.rate.shape.assert_has_rank(1)
  distortion, rate = terms.distortion, terms.rate
  if reduction == 'mean':
    distortion, rate = distortion / num_values, rate / latent_size
  return tf.reduce_mean(distortion + beta * rate)


# -- Importance weights -------------------------------------------------------


def log_weights(
  model: models.VAE,
  posterior: tfd.Distribution,
  latents: tf.Tensor,
  distortions: tf.Tensor,
) -> tf.Tensor:
  """Log-weights log p(x|z) + log p(z) - log q(z|x) of each sample, [S, B].

  Args:
    model: the VAE.
    posterior: q(z|x), batch [B].
    latents: [S, B, L].
    distortions: -log p(x|z), [S, B].
  """
  prior_to_posterior = model.prior.log_prob(latents) - posterior.log_prob(
    latents
  )
  prior_to_posterior.shape.assert_is_compatible_with(distortions.shape)
  return prior_to_posterior - distortions


def importance_weighted_bound(log_weights: tf.Tensor) -> tf.Tensor:
  """The bound of Burda et al. 2015 (https://arxiv.org/abs/1509.00519), eq. 8.

  log (1/S) sum_s w_s: the elbo in expectation at S = 1, never less with more
  samples, and log p(x) in the limit.

  Args:
    log_weights: [S, B], nats.

  Returns:
    [B], nats.
  """
  log_weights.shape.assert_has_rank(2)
  num_samples = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
  return tf.reduce_logsumexp(log_weights, axis=0) - tf.math.log(num_samples)
