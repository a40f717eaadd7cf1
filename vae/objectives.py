"""Objectives: what training minimises.

Each public function or `snt.Module` here is a value of `--objective`. It is
called with the model, a `terms.Batch` and, where it names it, beta, and returns
a `terms.Loss`. A function takes any setting of `launch.settings.config` by
keyword; a module takes settings when it is made.

A module may own variables, whose initial values `w_init` draws. They minimise
the loss's `adversary`, by the optimizer that its method `make_optimizer`
returns.

Where an objective takes `reduction`, its loss is under it; else it is in nats.
What more there is to know of it, `terms.declare` says.
"""

import math

import tensorflow as tf

from vae import distributions, models, randomness, terms


@terms.declare(rate_weight='beta', needs=('rate',))
def elbo(
  model: models.VAE,
  batch: terms.Batch,
  beta: tf.Tensor,
  *,
  reduction: str = 'sum',
  num_samples: int = 1,
  kl: str = 'exact',
  kl_samples: int = 0,
) -> terms.Loss:
  """The elbo with beta on its rate (Higgins et al. 2017, equation 4).

  https://openreview.net/forum?id=Sy2fzU9gl. Minimised is the batch mean of

      sum:  distortion + beta rate                                  (nats)
      mean: distortion / (H W C) + beta rate / L

  At beta = 1 under `sum` this is the mean of `-elbo`.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], and the key of their noise.
    beta: weight of the rate, a scalar.
    reduction: 'mean' or 'sum'.
    num_samples: S, posterior samples per image.
    kl: 'exact' or 'monte_carlo'.
    kl_samples: samples of their own for the Monte Carlo rate; 0 for those of
      the distortion.
  """
  sampled = terms.sample(
    model, batch.images, batch.key, num_samples, is_training=True
  )
  latents = sampled.latents
  if kl == 'monte_carlo' and kl_samples:
    own = randomness.fold(batch.key, 1)
    latents = distributions.sample(sampled.posterior, kl_samples, own)
  rate = terms.rate(model, sampled.posterior, latents, kl)
  distortion = tf.reduce_mean(sampled.distortions, axis=0)
  values, size = terms.units(
    reduction, math.prod(batch.images.shape[1:]), model.prior.event_shape[0]
  )
  loss = tf.reduce_mean(distortion / values + beta * (rate / size))
  return terms.Loss(loss, terms.Terms(rate, distortion))


@terms.declare(needs=('code',))
def reconstruction(
  model: models.VAE, batch: terms.Batch, *, reduction: str = 'mean'
) -> terms.Loss:
  """The distortion alone, as a plain autoencoder is trained.

  The rate, which does not exist, is zero in the terms.

  Args:
    model: the VAE, whose posterior may be deterministic.
    batch: images [B, H, W, C], and the key of their noise, where there is any.
    reduction: 'mean' over the values of an image, or their 'sum'.
  """
  sampled = terms.sample(model, batch.images, batch.key, is_training=True)
  distortion = sampled.distortions[0]
  values, _ = terms.units(reduction, math.prod(batch.images.shape[1:]), 1)
  loss = tf.reduce_mean(distortion / values)
  return terms.Loss(loss, terms.Terms(tf.zeros_like(distortion), distortion))


def _monte_carlo_terms(
  model: models.VAE, sampled: terms.Sampled
) -> terms.Terms:
  rate = terms.rate(model, sampled.posterior, sampled.latents, 'monte_carlo')
  return terms.Terms(rate, tf.reduce_mean(sampled.distortions, axis=0))


@terms.declare(rate_weight='one', needs=('rate', 'density'))
def iwae(
  model: models.VAE, batch: terms.Batch, *, num_samples: int
) -> terms.Loss:
  """Minus the importance-weighted bound (Burda et al. 2015), in nats.

  The terms are those of the elbo, for comparison.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], not grey, or it bounds nothing.
    num_samples: S.
  """
  sampled = terms.sample(
    model, batch.images, batch.key, num_samples, is_training=True
  )
  bound = terms.importance_weighted_bound(terms.log_weights(model, *sampled))
  return terms.Loss(-tf.reduce_mean(bound), _monte_carlo_terms(model, sampled))


@terms.declare(rate_weight='one', needs=('rate', 'density'))
def dreg(
  model: models.VAE, batch: terms.Batch, *, num_samples: int
) -> terms.Loss:
  """`iwae`'s bound with the doubly reparameterized gradient of the encoder.

  Tucker et al. 2018 (https://arxiv.org/abs/1810.04152), equation 8. With the
  normalised weights v_s = w_s / sum_r w_r,

      decoder and prior:  sum_s v_s   d log w_s / d theta
      encoder:            sum_s v_s^2 (d log w_s / d z_s) (d z_s / d phi)

  The same value, and the same expectation as the gradient of `iwae`, with a
  variance for the encoder that does not drown it as S grows.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], not grey, or it bounds nothing.
    num_samples: S.
  """
  posterior = terms.encode(model, batch.images, batch.key, is_training=True)
  latents = distributions.sample(posterior, num_samples, batch.key)
  # The parameters of q count through z alone, not through log q(z|x).
  stopped = tf.nest.map_structure(
    tf.stop_gradient, posterior, expand_composites=True
  )
  leaves = tf.stop_gradient(latents)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(leaves)
    distortions = -model.decode(leaves, batch.images).log_prob(batch.images)
    weights = terms.log_weights(model, stopped, leaves, distortions)
    normalised = tf.stop_gradient(tf.nn.softmax(weights, axis=0))
    surrogate = tf.reduce_sum(normalised * weights, axis=0)
  by_latents = tape.gradient(surrogate, leaves)  # v_s d log w_s / d z_s
  through_latents = tf.reduce_sum(
    tf.stop_gradient(normalised[..., None] * by_latents) * latents,
    axis=[0, 2],
  )
  gradient_of = tf.reduce_mean(surrogate + through_latents)
  bound = tf.reduce_mean(terms.importance_weighted_bound(weights))
  # The bound's value, with the gradient of the two sums.
  loss = -tf.stop_gradient(bound - gradient_of) - gradient_of
  sampled = terms.Sampled(posterior, latents, distortions)
  return terms.Loss(loss, _monte_carlo_terms(model, sampled))
