"""Objectives, as pure functions of per-image terms in nats.

Words (Alemi et al. 2018, https://arxiv.org/abs/1711.00464): for an image x,

    rate       = KL(q(z|x) || p(z)),             summed over latents
    distortion = -E_q(z|x)[log p(x|z)],          summed over pixels
    elbo       = -(distortion + rate) <= log p(x)

`elbo` has beta = 1 and its true sign, whatever was trained. What is minimised
is called the loss, and has one mean over the batch, taken last.
"""

import math
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from vae import distributions, models

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


def rate(model: models.VAE, sampled: Sampled, kl: str = 'exact') -> tf.Tensor:
  """KL(q(z|x) || p(z)) of each image in nats, [B].

  Args:
    model: the VAE.
    sampled: from `sample`.
    kl: 'exact' for the closed form, 'monte_carlo' for the mean of
      log q(z|x) - log p(z) over the samples.

  Raises:
    ValueError: a method that does not exist.
    NotImplementedError: 'exact' where no closed form is known.
  """
  if kl == 'exact':
    return tfd.kl_divergence(sampled.posterior, model.prior)
  if kl == 'monte_carlo':
    latents = sampled.latents
    log_ratio = sampled.posterior.log_prob(latents) - model.prior.log_prob(
      latents
    )
    return tf.reduce_mean(log_ratio, axis=0)
  raise ValueError(f'kl must be one of {KL_METHODS}, got {kl!r}')


def terms(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  num_samples: int = 1,
  kl: str = 'exact',
) -> Terms:
  """Rate and distortion of each image, the latter averaged over samples.

  Args:
    model: the VAE.
    images: [B, H, W, C], values in the likelihood's range.
    key: of the posterior's noise, from `randomness.key`.
    num_samples: S, posterior samples per image.
    kl: 'exact' or 'monte_carlo'.

  Returns:
    Terms of shape [B].
  """
  sampled = sample(model, images, key, num_samples)
  return _terms(model, sampled, kl)


def _terms(model: models.VAE, sampled: Sampled, kl: str) -> Terms:
  distortion = tf.reduce_mean(sampled.distortions, axis=0)
  return Terms(rate(model, sampled, kl), distortion)


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


def beta_elbo(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
  *,
  reduction: str = 'sum',
  num_samples: int = 1,
  kl: str = 'exact',
) -> tuple[tf.Tensor, Terms]:
  """The default objective: `beta_loss` of `terms`.

  Args:
    model: the VAE.
    images: [B, H, W, C].
    key: of the posterior's noise.
    beta: weight of the rate, a scalar.
    reduction: 'mean' or 'sum'.
    num_samples: S, posterior samples per image.
    kl: 'exact' or 'monte_carlo'.

  Returns:
    The loss, a scalar, and the terms.
  """
  measured = terms(model, images, key, num_samples, kl)
  num_values = math.prod(images.shape[1:])
  latent_size = model.prior.event_shape[0]
  loss = beta_loss(measured, beta, reduction, num_values, latent_size)
  return loss, measured


# -- Importance-weighted objectives -------------------------------------------


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


def iwae(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
  *,
  num_samples: int,
) -> tuple[tf.Tensor, Terms]:
  """Minus the importance-weighted bound (Burda et al. 2015), in nats.

  Args:
    model: the VAE.
    images: [B, H, W, C]; not grey, or it bounds nothing.
    key: of the posterior's noise.
    beta: not used: the bound has none.
    num_samples: S.

  Returns:
    The loss, a scalar, and the terms of the elbo, for comparison.
  """
  del beta
  sampled = sample(model, images, key, num_samples)
  bound = importance_weighted_bound(log_weights(model, *sampled))
  return -tf.reduce_mean(bound), _terms(model, sampled, 'monte_carlo')


def dreg(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
  *,
  num_samples: int,
) -> tuple[tf.Tensor, Terms]:
  """`iwae`'s bound with the doubly reparameterized gradient of the encoder.

  Tucker et al. 2018 (https://arxiv.org/abs/1810.04152), equation 8. With the
  normalised weights v_s = w_s / sum_r w_r,

      decoder and prior:  sum_s v_s   d log w_s / d theta
      encoder:            sum_s v_s^2 (d log w_s / d z_s) (d z_s / d phi)

  The same expectation as the gradient of `iwae`, with a variance for the
  encoder that does not drown it as S grows.

  Args:
    model: the VAE.
    images: [B, H, W, C]; not grey, or it bounds nothing.
    key: of the posterior's noise.
    beta: not used: the bound has none.
    num_samples: S.

  Returns:
    The loss, a scalar whose value is `iwae`'s, and the terms of the elbo.
  """
  del beta
  posterior = model.encode(images)
  latents = distributions.sample(posterior, num_samples, key)
  # The parameters of q count through z alone, not through log q(z|x).
  stopped = tf.nest.map_structure(
    tf.stop_gradient, posterior, expand_composites=True
  )
  leaves = tf.stop_gradient(latents)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(leaves)
    distortions = -model.decode(leaves).log_prob(images)
    weights = log_weights(model, stopped, leaves, distortions)
    normalised = tf.stop_gradient(tf.nn.softmax(weights, axis=0))
    surrogate = tf.reduce_sum(normalised * weights, axis=0)
  by_latents = tape.gradient(surrogate, leaves)  # v_s d log w_s / d z_s
  through_latents = tf.reduce_sum(
    tf.stop_gradient(normalised[..., None] * by_latents) * latents,
    axis=[0, 2],
  )
  gradient_of = tf.reduce_mean(surrogate + through_latents)
  bound = tf.reduce_mean(importance_weighted_bound(weights))
  # The bound's value, with the gradient of the two sums.
  loss = -tf.stop_gradient(bound - gradient_of) - gradient_of
  sampled = Sampled(posterior, latents, distortions)
  return loss, _terms(model, sampled, 'monte_carlo')
