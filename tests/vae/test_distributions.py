import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from vae import distributions, likelihoods, posteriors, priors, randomness

tfd = tfp.distributions

KEY = randomness.key(0, randomness.Purpose.POSTERIOR, 1)
SCALES = {
  'square': np.square,
  'softplus': lambda raw: np.log1p(np.exp(raw)),
  'exp': np.exp,
  'log_variance': lambda raw: np.exp(raw / 2),
}


@pytest.mark.parametrize('scale', SCALES)
def test_posterior_is_the_normal_that_its_parameters_say(scale):
  parameters = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
  posterior = posteriors.Normal(3, scale)(tf.constant(parameters))
  z = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
  expected = scipy.stats.norm.logpdf(
    z,
    parameters[:, :3],
    SCALES[scale](parameters[:, 3:]) + distributions.SCALE_FLOOR,
  ).sum(-1)
  np.testing.assert_allclose(posterior.log_prob(z), expected, rtol=1e-4)
  assert posterior.event_shape == (3,)


@pytest.mark.parametrize('scale', SCALES)
def test_samples_spread_by_the_scale_and_not_by_its_square(scale):
  parameters = tf.constant([[1.0, -2.0, 0.7, -0.4]])
  posterior = posteriors.Normal(2, scale)(parameters)
  samples = distributions.sample(posterior, 100_000, KEY).numpy()
  assert samples.shape == (100_000, 1, 2)
  np.testing.assert_allclose(
    samples.std(0), posterior.stddev().numpy(), rtol=0.01
  )
  np.testing.assert_allclose(
    samples.mean(0), posterior.mean().numpy(), atol=0.01
  )


def test_a_scale_of_zero_costs_finite_nats():
  posterior = posteriors.Normal(1, 'square')(tf.zeros([1, 2]))
  kl = tfd.kl_divergence(posterior, priors.standard(1))
  expected = 0.5 * (1e-12 - 1) - np.log(1e-6)
  np.testing.assert_allclose(kl.numpy(), [expected], rtol=1e-5)


def test_samples_are_differentiable_in_the_parameters():
  parameters = tf.constant([[0.3, 0.8]])
  with tf.GradientTape() as tape:
    tape.watch(parameters)
    posterior = posteriors.Normal(1, 'exp')(parameters)
    sample = distributions.sample(posterior, 1, KEY)
  noise = (sample.numpy().item() - 0.3) / np.exp(0.8)
  np.testing.assert_allclose(
    tape.gradient(sample, parameters), [[1.0, np.exp(0.8) * noise]], rtol=1e-4
  )


def test_posterior_arguments_are_checked():
  with pytest.raises(ValueError, match='latent_size'):
    posteriors.Normal(0)
  with pytest.raises(ValueError, match='cube'):
    posteriors.Normal(2, 'cube')


@pytest.mark.parametrize('sample_shape', [(), (3,)])
def test_bernoulli_agrees_with_scipy(sample_shape):
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(*sample_shape, 4, 2, 3, 1)) * 5
  images = generator.integers(0, 2, size=(4, 2, 3, 1))
  likelihood = likelihoods.Bernoulli([2, 3, 1])(tf.constant(logits, tf.float32))
  expected = scipy.stats.bernoulli.logpmf(
    images, scipy.special.expit(logits)
  ).sum((-1, -2, -3))
  actual = likelihood.log_prob(images.astype(np.float32))
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  np.testing.assert_array_equal(likelihood.mode(), logits > 0)


def test_bernoulli_of_grey_pixels_is_the_negative_cross_entropy():
  grey = np.random.default_rng(0).uniform(size=(4, 2, 2, 1))
  logits = np.random.default_rng(1).normal(size=(4, 2, 2, 1))
  p = scipy.special.expit(logits)
  expected = (grey * np.log(p) + (1 - grey) * np.log1p(-p)).sum((1, 2, 3))
  likelihood = likelihoods.Bernoulli([2, 2, 1])(tf.constant(logits, tf.float32))
  actual = likelihood.log_prob(tf.constant(grey, tf.float32))
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_bernoulli_stays_finite_at_extreme_logits():
  likelihood = likelihoods.Bernoulli([2])(tf.constant([[-200.0, 200.0]]))
  assert likelihood.log_prob(tf.constant([[0.0, 1.0]])).numpy() == 0.0
  assert likelihood.log_prob(tf.constant([[1.0, 0.0]])).numpy() == -400.0


@pytest.mark.parametrize('size', [1, 7, 784, 101])
def test_bernoulli_gradients_are_those_of_the_closed_form(size):
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(3, 2, size)) * 4
  values = generator.random((2, size))
  upstream = generator.normal(size=(3, 2))
  tensors = [tf.constant(a, tf.float32) for a in (logits, values)]
  with tf.GradientTape() as tape:
    tape.watch(tensors)
    likelihood = likelihoods.Bernoulli([size])(tensors[0])
    total = tf.reduce_sum(upstream * likelihood.log_prob(tensors[1]))
  by_logits, by_values = tape.gradient(total, tensors)
  expected = upstream[..., None] * (values - scipy.special.expit(logits))
  np.testing.assert_allclose(by_logits, expected, rtol=1e-4, atol=1e-5)
  expected = (upstream[..., None] * logits).sum(0)
  np.testing.assert_allclose(by_values, expected, rtol=1e-4, atol=1e-4)


def test_the_mixture_draws_what_tfp_does_and_turns_no_integers_round():
  ours = priors.mixture(2, 3, KEY)
  theirs = tfd.MixtureSameFamily(
    tfd.Categorical(logits=tf.constant([0.0, 1.0, -1.0])),
    ours.components_distribution,
  )
  ours.mixture_distribution.logits.assign([0.0, 1.0, -1.0])
  np.testing.assert_array_equal(
    distributions.sample(ours, 100, KEY), distributions.sample(theirs, 100, KEY)
  )
  draw = tf.function(lambda: distributions.sample(ours, 100, KEY))
  for operation in draw.get_concrete_function().graph.get_operations():
    if operation.type == 'Transpose':
      assert operation.inputs[0].dtype.is_floating
