"""Objectives: what training minimises, with the terms that it is made of.

Each public function here is a value of `--objective`. It takes the model, the
images, the key of the posterior's noise and beta, and by keyword any setting of
`launch.config` that its signature names; it returns the loss, a scalar, and
`losses.Terms` in nats.
"""

import math

import tensorflow as tf

from vae import distributions, losses, models


def elbo(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
  *,
  reduction: str = 'sum',
  num_samples: int = 1,
  kl: str = 'exact',
  kl_samples: int = 0,
) -> tuple[tf.Tensor, losses.Terms]:
  """The elbo with beta on its rate: `losses.beta_loss` of `losses.terms`.

  Args:
    model: the VAE.
    images: [B, H, W, C].
    key: of the posterior's noise.
    beta: weight of the rate, a scalar.
    reduction: 'mean' or 'sum'.
    num_samples: S, posterior samples per image.
    kl: 'exact' or 'monte_carlo'.
    kl_samples: samples of their own for the Monte Carlo rate; 0 for those of
      the distortion.

  Returns:
    The loss, a scalar, and the terms.
  """
  measured = losses.terms(model, images, key, num_samples, kl, kl_samples)
  num_values = math.prod(images.shape[1:])
  latent_size = model.prior.event_shape[0]
  loss = losses.beta_loss(measured, beta, reduction, num_values, latent_size)
  return loss, measured


def reconstruction(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
  *,
  reduction: str = 'mean',
) -> tuple[tf.Tensor, losses.Terms]:
  """The distortion alone, as a plain autoencoder is trained.

  Args:
    model: the VAE, whose posterior may be deterministic.
    images: [B, H, W, C].
    key: of the posterior's noise, where it has any.
    beta: not used: there is no rate to weigh.
    reduction: 'mean' over the values of an image, or their 'sum'.

  Returns:
    The loss, a scalar, and the terms; the rate, which does not exist, is zero.
  """
  del beta
  distortion = losses.sample(model, images, key).distortions[0]
  measured = losses.Terms(tf.zeros_like(distortion), distortion)
  num_values = math.prod(images.shape[1:])
  loss = losses.beta_loss(measured, 0.0, reduction, num_values, 1)
  return loss, measured


def _monte_carlo_terms(
  model: models.VAE, sampled: losses.Sampled
) -> losses.Terms:
  rate = losses.rate(model, sampled.posterior, sampled.latents, 'monte_carlo')
  return losses.Terms(rate, tf.reduce_mean(sampled.distortions, axis=0))


def iwae(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
  *,
  num_samples: int,
) -> tuple[tf.Tensor, losses.Terms]:
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
  sampled = losses.sample(model, images, key, num_samples)
  bound = losses.importance_weighted_bound(losses.log_weights(model, *sampled))
  return -tf.reduce_mean(bound), _monte_carlo_terms(model, sampled)


def dreg(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
  *,
  num_samples: int,
) -> tuple[tf.Tensor, losses.Terms]:
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
    weights = losses.log_weights(model, stopped, leaves, distortions)
    normalised = tf.stop_gradient(tf.nn.softmax(weights, axis=0))
    surrogate = tf.reduce_sum(normalised * weights, axis=0)
  by_latents = tape.gradient(surrogate, leaves)  # v_s d log w_s / d z_s
  through_latents = tf.reduce_sum(
    tf.stop_gradient(normalised[..., None] * by_latents) * latents,
    axis=[0, 2],
  )
  gradient_of = tf.reduce_mean(surrogate + through_latents)
  bound = tf.reduce_mean(losses.importance_weighted_bound(weights))
  # The bound's value, with the gradient of the two sums.
  loss = -tf.stop_gradient(bound - gradient_of) - gradient_of
  sampled = losses.Sampled(posterior, latents, distortions)
  return loss, _monte_carlo_terms(model, sampled)
