"""Small models that the tests share."""

import functools

import numpy as np
import tensorflow as tf

from vae import (
  likelihoods,
  models,
  networks,
  objectives,
  posteriors,
  priors,
  terms,
)

SHAPE = (4, 4, 1)


def small_vae(latent_size=3, scale='softplus', seed=0, shape=SHAPE):
  w_init = networks.Initializer('sonnet', seed)
  posterior = posteriors.Normal(latent_size, scale)
  likelihood = likelihoods.Bernoulli(shape)
  model = models.VAE(
    models.Encoder(
      networks.MLP([8], posterior.parameter_shape, w_init=w_init), posterior
    ),
    models.Decoder(
      networks.MLP([8], likelihood.parameter_shape, w_init=w_init), likelihood
    ),
    priors.standard(latent_size),
  )
  model.decode(model.encode(tf.zeros([1, *shape])).mean())
  return model


objective = functools.partial(objectives.elbo, reduction='mean')


def batch(images, key, step=1, num_examples=30):
  return terms.Batch(images, key, tf.constant(step, tf.int64), num_examples)


def elbo_terms(model, images, key, num_samples=1, **options):
  """The terms of the elbo, whose loss is left out."""
  options['num_samples'] = num_samples
  return objectives.elbo(model, batch(images, key), 1.0, **options).terms


def byte_images(count, seed=0, shape=SHAPE):
  generator = np.random.default_rng(seed)
  return generator.integers(0, 256, size=(count, *shape), dtype=np.uint8)


def float_images(count, seed=0, shape=SHAPE):
  return tf.constant(byte_images(count, seed, shape) / 255.0, tf.float32)
