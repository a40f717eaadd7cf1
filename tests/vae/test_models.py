import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.vae import builders
from vae import distributions, models, randomness

tfd = tfp.distributions


def key(step=0):
  return randomness.key(0, randomness.Purpose.POSTERIOR, step)


def test_encoder_and_decoder_return_distributions():
  model = builders.small_vae()
  posterior = model.encode(builders.float_images(5))
  assert isinstance(posterior, tfd.Distribution)
  assert posterior.batch_shape == (5,)
  assert posterior.event_shape == (3,)
  likelihood = model.decode(tf.zeros([2, 5, 3]))
  assert likelihood.batch_shape == (2, 5)
  assert likelihood.event_shape == builders.SHAPE


def test_decoder_treats_leading_axes_alike():
  model = builders.small_vae()
  latents = tf.random.stateless_normal([2, 5, 3], [0, 0])
  together = model.decode(latents).distribution.logits
  apart = [model.decode(latents[s]).distribution.logits for s in range(2)]
  np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)


def test_evaluation_draws_samples_and_reconstruction_does_not():
  model = builders.small_vae()
  images = builders.float_images(4)
  one, two = (
    builders.elbo_terms(model, images, key(s)).distortion for s in (0, 1)
  )
  assert (one.numpy() != two.numpy()).all()
  expected = model.decode(model.encode(images).mean()).mode()
  np.testing.assert_array_equal(model.reconstruct(images), expected)


def test_samples_are_decoded_modes_of_prior_draws():
  model = builders.small_vae()
  latents = distributions.sample(model.prior, 6, key())
  np.testing.assert_array_equal(
    model.sample(6, key()), model.decode(latents).mode()
  )
  assert model.sample(6, key()).shape == (6, *builders.SHAPE)


def test_a_batch_of_priors_is_refused():
  prior = tfd.Independent(tfd.Normal(tf.zeros([4, 3]), 1.0), 1)
  with pytest.raises(ValueError, match='empty batch shape'):
    models.VAE(None, None, prior)
