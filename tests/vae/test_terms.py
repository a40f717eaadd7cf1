import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.vae import builders
from vae import distributions, objectives, posteriors, priors, randomness, terms

tfd = tfp.distributions

KEY = randomness.key(0, randomness.Purpose.POSTERIOR, 0)


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
  actual = builders.elbo_terms(model, images, KEY, num_samples=7)
  posterior = model.encode(images)
  latents = distributions.sample(posterior, 7, KEY)
  logits = model.decode(latents).distribution.logits.numpy()
  cross_entropy = np.logaddexp(0, logits) - images.numpy() * logits
  np.testing.assert_allclose(
    actual.distortion, cross_entropy.sum((2, 3, 4)).mean(0), rtol=1e-4
  )
  assert actual.rate.shape == (5,)


def loss_of(model, images, beta, reduction):
  batch = builders.batch(images, KEY)
  return objectives.elbo(model, batch, beta, reduction=reduction)


def test_loss_of_beta_one_under_sum_is_the_negative_elbo():
  loss = loss_of(builders.small_vae(), builders.float_images(5), 1.0, 'sum')
  np.testing.assert_allclose(loss.value, -np.mean(loss.terms.elbo), rtol=1e-6)
  one = terms.Terms(tf.constant([1.0, 2.0]), tf.constant([30.0, 50.0]))
  np.testing.assert_allclose(one.elbo, [-31.0, -52.0])


def test_elbo_does_not_know_beta():
  elbos = [
    loss_of(
      builders.small_vae(), builders.float_images(5), beta, 'mean'
    ).terms.elbo
    for beta in (0.0, 4.0)
  ]
  np.testing.assert_array_equal(*elbos)


def test_mean_reduction_is_per_pixel_and_per_latent():
  loss = loss_of(builders.small_vae(), builders.float_images(5), 0.01, 'mean')
  rate, distortion = (term.numpy() for term in loss.terms)
  expected = np.mean(distortion / 16 + 0.01 * rate / 3)
  np.testing.assert_allclose(loss.value, expected, rtol=1e-6)


def test_mean_and_sum_are_one_objective_up_to_the_number_of_pixels():
  model = builders.small_vae()
  images = builders.float_images(6)
  gradients = {}
  for reduction in terms.REDUCTIONS:
    beta = 0.7
    if reduction == 'sum':
      beta = terms.effective_beta(0.7, 'mean', 16, 3)
    with tf.GradientTape() as tape:
      loss = loss_of(model, images, beta, reduction).value
    gradients[reduction] = tape.gradient(loss, model.trainable_variables)
  for mean, total in zip(gradients['mean'], gradients['sum'], strict=True):
    np.testing.assert_allclose(mean * 16, total, rtol=1e-3, atol=1e-5)


def test_effective_beta():
  assert terms.effective_beta(0.01, 'mean', 784, 10) == pytest.approx(0.784)
  assert terms.effective_beta(0.01, 'sum', 784, 10) == 0.01
  with pytest.raises(ValueError, match='median'):
    terms.effective_beta(1.0, 'median', 784, 10)


def test_shapes_that_would_broadcast_are_refused():
  with pytest.raises(ValueError, match='incompatible'):
    _ = terms.Terms(tf.zeros([4]), tf.zeros([4, 1])).elbo


def test_gradients_reach_every_variable():
  model = builders.small_vae()
  with tf.GradientTape() as tape:
    loss = loss_of(model, builders.float_images(6), 1.0, 'mean').value
  gradients = tape.gradient(loss, model.trainable_variables)
  assert len(gradients) == 8
  for gradient in gradients:
    assert np.abs(gradient).max() > 0
