import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.vae import builders
from vae import distributions, losses, posteriors, priors, randomness

tfd = tfp.distributions

KEY = randomness.key(0, randomness.Purpose.POSTERIOR, 0)


def terms():
  return losses.Terms(tf.constant([1.0, 2.0]), tf.constant([30.0, 50.0]))


def test_kl_agrees_in_closed_form_by_numpy_and_by_monte_carlo():
  generator = np.random.default_rng(0)
  parameters = tf.constant(generator.normal(size=(4, 6)), tf.float32)
  posterior = posteriors.Normal(3, 'softplus')(parameters)
  prior = priors.standard(3)
  exact = tfd.kl_divergence(posterior, prior).numpy()
  mean, std = posterior.mean().numpy(), posterior.stddev().numpy()
  by_numpy = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).sum(-1)
  np.testing.assert_allclose(exact, by_numpy, rtol=1e-5)
  latents = distributions.sample(posterior, 100_000, KEY)
  ratios = (posterior.log_prob(latents) - prior.log_prob(latents)).numpy()
  error = ratios.std(0) / np.sqrt(len(ratios))
  assert (np.abs(ratios.mean(0) - exact) < 4 * error).all()


def test_terms_are_what_numpy_makes_of_the_same_latents():
  model = builders.small_vae()
  images = builders.float_images(5)
  actual = losses.terms(model, images, KEY, num_samples=7)
  posterior = model.encode(images)
  latents = distributions.sample(posterior, 7, KEY)
  logits = model.decode(latents).distribution.logits.numpy()
  cross_entropy = np.logaddexp(0, logits) - images.numpy() * logits
  np.testing.assert_allclose(
    actual.distortion, cross_entropy.sum((2, 3, 4)).mean(0), rtol=1e-4
  )
  assert actual.rate.shape == (5,)


def test_loss_of_beta_one_under_sum_is_the_negative_elbo():
  loss = losses.beta_loss(terms(), 1.0, 'sum', 784, 10)
  np.testing.assert_allclose(loss, -np.mean(terms().elbo))
  np.testing.assert_allclose(terms().elbo, [-31.0, -52.0])


def test_elbo_does_not_know_beta():
  model = builders.small_vae()
  images = builders.float_images(5)
  elbos = [
    builders.objective(model, images, KEY, beta)[1].elbo.numpy()
    for beta in (0.0, 4.0)
  ]
  np.testing.assert_array_equal(*elbos)


def test_mean_reduction_is_per_pixel_and_per_latent():
  loss = losses.beta_loss(terms(), 0.01, 'mean', 784, 10)
  expected = np.mean([30 / 784 + 0.01 * 1 / 10, 50 / 784 + 0.01 * 2 / 10])
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_mean_and_sum_are_one_objective_up_to_the_number_of_pixels():
  model = builders.small_vae()
  images = builders.float_images(6)
  gradients = {}
  for reduction in losses.REDUCTIONS:
    beta = 0.7
    if reduction == 'sum':
      beta = losses.effective_beta(0.7, 'mean', 16, 3)
    with tf.GradientTape() as tape:
      loss = losses.beta_loss(
        losses.terms(model, images, KEY), beta, reduction, 16, 3
      )
    gradients[reduction] = tape.gradient(loss, model.trainable_variables)
  for mean, total in zip(gradients['mean'], gradients['sum'], strict=True):
    np.testing.assert_allclose(mean * 16, total, rtol=1e-3, atol=1e-5)


def test_effective_beta():
  assert losses.effective_beta(0.01, 'mean', 784, 10) == pytest.approx(0.784)
  assert losses.effective_beta(0.01, 'sum', 784, 10) == 0.01
  with pytest.raises(ValueError, match='median'):
    losses.effective_beta(1.0, 'median', 784, 10)


def test_shapes_that_would_broadcast_are_refused():
  bad = losses.Terms(tf.zeros([4]), tf.zeros([4, 1]))
  with pytest.raises(ValueError, match='incompatible'):
    losses.beta_loss(bad, 1.0, 'sum', 784, 10)
  with pytest.raises(ValueError, match='incompatible'):
    _ = bad.elbo


def test_gradients_reach_every_variable():
  model = builders.small_vae()
  with tf.GradientTape() as tape:
    loss, _ = builders.objective(model, builders.float_images(6), KEY, 1.0)
  gradients = tape.gradient(loss, model.trainable_variables)
  assert len(gradients) == 8
  for gradient in gradients:
    assert np.abs(gradient).max() > 0
