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

from vae import distributions, models

tfd = tfp.distributions

REDUCTIONS = ('mean', 'sum')


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


def terms(
  model: models.VAE, images: tf.Tensor, key: tf.Tensor, num_samples: int = 1
) -> Terms:
  """Rate in closed form and distortion by Monte Carlo, for each image.

  Args:
    model: the VAE.
    images: [B, H, W, C], values in the likelihood's range.
    key: of the posterior's noise, from `randomness.key`.
    num_samples: S, posterior samples per image over which the distortion is
      averaged.

  Returns:
    Terms of shape [B].
  """
  posterior = model.encode(images)
  latents = distributions.sample(posterior, num_samples, key)  # [S, B, L]
  likelihood = model.decode(latents)
  distortion = -tf.reduce_mean(likelihood.log_prob(images), axis=0)
  return Terms(tfd.kl_divergence(posterior, model.prior), distortion)


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
