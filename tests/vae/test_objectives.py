"""Importance-weighted bounds and gradients against NumPy and known answers."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tests.vae import builders
from vae import (
  distributions,
  likelihoods,
  models,
  networks,
  objectives,
  posteriors,
  priors,
  randomness,
  terms,
)

tfd = tfp.distributions


def key(step=0):
  return randomness.key(0, randomness.Purpose.POSTERIOR, step)


def numpy_log_weights(model, images, step, num_samples):
  """From the networks' outputs on, without TensorFlow or TFP."""
  posterior = model.encode(images)
  latents = distributions.sample(posterior, num_samples, key(step)).numpy()
  logits = model.decode(latents).distribution.logits.numpy().astype(np.float64)
  mean, std = posterior.mean().numpy(), posterior.stddev().numpy()
  log_likelihood = (images.numpy() * logits - np.logaddexp(0, logits)).sum(
    (2, 3, 4)
  )
  log_prior = scipy.stats.norm.logpdf(latents).sum(-1)
  log_posterior = scipy.stats.norm.logpdf(latents, mean, std).sum(-1)
  return log_likelihood + log_prior - log_posterior


def test_log_weights_and_bound_are_what_numpy_makes_of_them():
  model = builders.small_vae()
  images = builders.float_images(4)
  sampled = terms.sample(model, images, key(), 9, is_training=False)
  actual = terms.log_weights(model, *sampled)
  expected = numpy_log_weights(model, images, 0, 9)
  np.testing.assert_allclose(actual, expected, rtol=1e-4)
  np.testing.assert_allclose(
    terms.importance_weighted_bound(actual),
    scipy.special.logsumexp(expected, axis=0) - np.log(9),
    rtol=1e-5,
  )


def test_one_sample_is_the_monte_carlo_elbo():
  model = builders.small_vae()
  images = builders.float_images(6)
  batch = builders.batch(images, key())
  loss, measured, *_ = objectives.iwae(model, batch, num_samples=1)
  elbo = builders.elbo_terms(model, images, key(), kl='monte_carlo').elbo
  np.testing.assert_allclose(loss, -np.mean(elbo), rtol=1e-6)
  np.testing.assert_allclose(measured.elbo, elbo, rtol=1e-6)


def test_the_bound_never_decreases_in_the_number_of_samples():
  model = builders.small_vae(scale='exp')
  images = builders.float_images(8)
  sampled = terms.sample(model, images, key(), 64 * 500, is_training=False)
  weights = terms.log_weights(model, *sampled)
  means, errors = [], []
  for count in (1, 4, 16, 64):
    groups = tf.reshape(weights, [count, -1])
    bounds = terms.importance_weighted_bound(groups).numpy()
    means.append(bounds.mean())
    errors.append(bounds.std() / np.sqrt(bounds.size))
  for less, more in zip(range(3), range(1, 4), strict=True):
    assert means[more] > means[less] - 3 * (errors[more] + errors[less])
  assert means[3] > means[0] + 0.1


def gradients(objective, model, images, step, num_samples):
  with tf.GradientTape() as tape:
    loss = objective(
      model, builders.batch(images, key(step)), num_samples=num_samples
    ).value
  return loss, tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize('num_samples', [1, 5])
def test_iwae_gradients_are_finite_differences_of_the_bound(num_samples):
  model = builders.small_vae()
  images = builders.float_images(4)
  _, actual = gradients(objectives.iwae, model, images, 0, num_samples)

  def loss():
    weights = numpy_log_weights(model, images, 0, num_samples)
    bound = scipy.special.logsumexp(weights, axis=0) - np.log(num_samples)
    return -bound.mean()

  for variable, gradient in zip(model.trainable_variables, actual, strict=True):
    value = variable.numpy()
    direction = np.random.default_rng(0).normal(size=value.shape)
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    variable.assign(value + 0.01 * direction)
    above = loss()
    variable.assign(value - 0.01 * direction)
    below = loss()
    variable.assign(value)
    expected = (above - below) / 0.02
    assert np.sum(gradient * direction) == pytest.approx(
      expected, rel=0.02, abs=0.01
    )


def test_dreg_has_the_value_of_iwae():
  model = builders.small_vae()
  images = builders.float_images(4)
  batch = builders.batch(images, key())
  one = objectives.iwae(model, batch, num_samples=7)
  two = objectives.dreg(model, batch, num_samples=7)
  np.testing.assert_allclose(one.value, two.value, rtol=1e-6)


def test_dreg_has_the_expected_gradient_of_iwae_with_less_variance():
  model = builders.small_vae(scale='exp')
  images = builders.float_images(2)
  num_encoder = len(model.encode.trainable_variables)
  sums = {}
  for objective in (objectives.iwae, objectives.dreg):
    step_gradients = tf.function(
      lambda step, objective=objective: gradients(
        objective, model, images, step, 16
      )[1]
    )
    draws = []
    for step in range(1500):
      parts = step_gradients(tf.constant(step))
      draws.append(np.concatenate([g.numpy().ravel() for g in parts]))
    sums[objective] = np.array(draws)
  iwae, dreg = sums[objectives.iwae], sums[objectives.dreg]
  error = np.sqrt((iwae.var(0) + dreg.var(0)) / len(iwae))
  scores = (iwae.mean(0) - dreg.mean(0)) / np.maximum(error, 1e-9)
  # Standard normal scores: their mean square is 1, but that they correlate.
  assert np.mean(scores**2) < 1.5
  size = sum(
    int(np.prod(v.shape)) for v in model.trainable_variables[:num_encoder]
  )
  encoder_first = (
    model.trainable_variables[0] is (model.encode.trainable_variables[0])
  )
  encoder = slice(0, size)
  if not encoder_first:
    encoder = slice(-size, None)
  assert dreg[:, encoder].var(0).sum() < 0.8 * iwae[:, encoder].var(0).sum()


def test_the_rate_may_have_samples_of_its_own():
  model = builders.small_vae()
  images = builders.float_images(4)
  loss = lambda **options: builders.elbo_terms(
    model, images, key(), kl='monte_carlo', **options
  )
  shared, own = loss(), loss(kl_samples=1)
  np.testing.assert_array_equal(shared.distortion, own.distortion)
  assert (shared.rate.numpy() != own.rate.numpy()).all()
  # By the definition, with other noise than the reconstruction's.
  latents = distributions.sample(
    model.encode(images), 20_000, randomness.fold(key(), 1)
  )
  posterior = model.encode(images)
  expected = np.mean(
    posterior.log_prob(latents) - model.prior.log_prob(latents), axis=0
  )
  np.testing.assert_allclose(loss(kl_samples=20_000).rate, expected, rtol=1e-4)
  exact = builders.elbo_terms(model, images, key()).rate
  np.testing.assert_allclose(loss(kl_samples=20_000).rate, exact, rtol=0.05)


def test_the_reconstruction_alone_is_the_mean_of_squared_errors():
  shape = (4, 4, 1)
  posterior = posteriors.Deterministic(2, tf.sigmoid)
  likelihood = likelihoods.SquaredError(shape, tf.sigmoid)
  w_init = networks.Initializer('sonnet', 0)
  model = models.VAE(
    models.Encoder(
      networks.MLP([8], posterior.parameter_shape, w_init=w_init), posterior
    ),
    models.Decoder(networks.MLP([8], shape, w_init=w_init), likelihood),
    priors.standard(2),
  )
  images = builders.float_images(5)
  batch = builders.batch(images, key())
  loss, measured, *_ = objectives.reconstruction(model, batch, reduction='mean')
  errors = (images - model.reconstruct(images)) ** 2
  np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)
  np.testing.assert_allclose(
    measured.distortion, np.sum(errors, axis=(1, 2, 3)), rtol=1e-5
  )
  summed = objectives.reconstruction(model, batch, reduction='sum')
  np.testing.assert_allclose(summed.value, 16 * loss, rtol=1e-5)


def test_monte_carlo_kl_agrees_with_the_exact_one():
  model = builders.small_vae()
  images = builders.float_images(5)
  exact = builders.elbo_terms(model, images, key(), 1).rate.numpy()
  sampled = terms.sample(model, images, key(), 20_000, is_training=False)
  ratios = (
    sampled.posterior.log_prob(sampled.latents)
    - model.prior.log_prob(sampled.latents)
  ).numpy()
  estimate = terms.rate(
    model, sampled.posterior, sampled.latents, 'monte_carlo'
  ).numpy()
  error = ratios.std(0) / np.sqrt(len(ratios))
  assert (np.abs(estimate - exact) < 4 * error).all()
  with pytest.raises(ValueError, match='quadrature'):
    terms.rate(model, sampled.posterior, sampled.latents, 'quadrature')


def test_more_samples_average_the_elbo():
  model = builders.small_vae()
  images = builders.float_images(4)
  batch = builders.batch(images, key())
  loss = objectives.elbo(model, batch, 1.0, reduction='sum', num_samples=11)
  sampled = terms.sample(model, images, key(), 11, is_training=False)
  rate = tfd.kl_divergence(sampled.posterior, model.prior)
  expected = np.mean(sampled.distortions, axis=0) + rate
  np.testing.assert_allclose(loss.value, np.mean(expected), rtol=1e-6)
