"""Every part in one model: what must hold of each, whatever it is joined to."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from vae import (
  architectures,
  distributions,
  likelihoods,
  models,
  networks,
  posteriors,
  priors,
  randomness,
  terms,
)

tfd = tfp.distributions

LATENTS = 3
PRIOR_KEY = randomness.key(0, randomness.Purpose.PRIOR, 0)

NETWORKS = {
  'mlp': (
    lambda data, shape, init: networks.MLP([6], shape, tf.nn.tanh, init),
    lambda shape, init: networks.MLP([6], shape, tf.nn.tanh, init),
  ),
  'strided_conv': (
    lambda data, shape, init: architectures.strided_conv_encoder(
      data, [2, 3], [6], shape, tf.nn.tanh, init
    ),
    lambda shape, init: architectures.strided_conv_decoder(
      [2, 3], [6], shape, tf.nn.tanh, init
    ),
  ),
  'pooled_conv': (
    lambda data, shape, init: architectures.pooled_conv_encoder(
      data, [2, 3], shape, tf.nn.tanh, 0.5, init
    ),
    lambda shape, init: architectures.pooled_conv_decoder(
      [2, 3], shape, tf.nn.tanh, init
    ),
  ),
  'deep_conv': (
    lambda data, shape, init: architectures.deep_conv_encoder(
      data, [2, 3], shape, tf.nn.tanh, init
    ),
    lambda shape, init: architectures.deep_conv_decoder(
      [2, 3], shape, tf.nn.tanh, init
    ),
  ),
}

POSTERIORS = {
  'normal': lambda: posteriors.Normal(LATENTS, 'log_variance'),
  'full_covariance': lambda: posteriors.FullCovariance(LATENTS),
  'deterministic': lambda: posteriors.Deterministic(LATENTS, tf.sigmoid),
}

PRIORS = {
  'normal': lambda: priors.standard(LATENTS),
  'mixture': lambda: priors.mixture(LATENTS, 4, PRIOR_KEY),
}

LIKELIHOODS = {
  'bernoulli': likelihoods.Bernoulli,
  'continuous_bernoulli': likelihoods.ContinuousBernoulli,
  'normal_fixed': lambda shape: likelihoods.Normal(shape, 0.5),
  'normal_global': lambda s: likelihoods.Normal(s, 'global'),
  'normal_per_output': lambda s: likelihoods.Normal(s, 'per_output'),
  'normal_optimal': lambda s: likelihoods.Normal(s, 'optimal'),
  'squared_error': likelihoods.SquaredError,
}


def make(
  network='mlp',
  posterior='normal',
  prior='normal',
  likelihood='bernoulli',
  shape=(28, 28, 1),
):
  init = networks.Initializer('glorot_uniform', 0)
  encoder, decoder = NETWORKS[network]
  q, p = POSTERIORS[posterior](), LIKELIHOODS[likelihood](shape)
  model = models.VAE(
    models.Encoder(encoder(shape, q.parameter_shape, init), q),
    models.Decoder(decoder(p.parameter_shape, init), p),
    PRIORS[prior](),
  )
  model.decode(model.encode(tf.zeros([1, *shape])).mean())
  return model


def images(count=3, shape=(28, 28, 1)):
  generator = np.random.default_rng(0)
  return tf.constant(generator.random((count, *shape)), tf.float32)


def key(step=0):
  return randomness.key(0, randomness.Purpose.POSTERIOR, step)


def loss_of(model, x, kl):
  sampled = terms.sample(model, x, key(), 2, is_training=False)
  loss = tf.reduce_mean(sampled.distortions)
  if kl:
    loss += tf.reduce_mean(
      terms.rate(model, sampled.posterior, sampled.latents, kl)
    )
  return loss


# Each network with each posterior, each posterior with each prior that goes
# with it, each likelihood once.
COMBINATIONS = [
  *((network, posterior, None, 'bernoulli')
    for network in NETWORKS for posterior in POSTERIORS),
  ('mlp', 'normal', 'mixture', 'bernoulli'),
  ('mlp', 'full_covariance', 'mixture', 'bernoulli'),
  *(('mlp', 'normal', None, likelihood) for likelihood in LIKELIHOODS),
]  # fmt: skip


@pytest.mark.parametrize(
  ('network', 'posterior', 'prior', 'likelihood'), COMBINATIONS
)
def test_conformance(network, posterior, prior, likelihood):
  model = make(network, posterior, prior or 'normal', likelihood)
  kl = 'monte_carlo' if prior else 'exact'
  if posterior == 'deterministic':
    kl = None
  x = images()

  # Eager and compiled for an unknown batch size agree.
  eager = loss_of(model, x, kl)
  compiled = tf.function(
    lambda x: loss_of(model, x, kl),
    input_signature=[tf.TensorSpec([None, 28, 28, 1])],
  )
  np.testing.assert_allclose(eager, compiled(x), rtol=1e-4)

  # Gradients reach every variable.
  with tf.GradientTape() as tape:
    loss = loss_of(model, x, kl)
  gradients = tape.gradient(loss, model.trainable_variables)
  for variable, gradient in zip(
    model.trainable_variables, gradients, strict=True
  ):
    assert gradient is not None, variable.name
    assert np.isfinite(gradient).all(), variable.name
    assert np.any(gradient), variable.name

  # A model takes another's variables and is then the same function.
  twin = make(network, posterior, prior or 'normal', likelihood)
  for variable in twin.variables:
    variable.assign(tf.zeros_like(variable))
  for mine, other in zip(twin.variables, model.variables, strict=True):
    mine.assign(other)
  np.testing.assert_array_equal(eager, loss_of(twin, x, kl))


@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('shape', [(28, 28, 1), (32, 32, 3)])
def test_networks_fit_images_of_other_sizes_and_colours(network, shape):
  model = make(network, shape=shape)
  x = images(2, shape)
  assert model.reconstruct(x).shape == (2, *shape)


@pytest.mark.parametrize(
  ('make_network', 'message'),
  [
    (
      lambda: architectures.strided_conv_decoder([8, 8, 8], [], (20, 20, 1)),
      'images of 20×20 do not fit 3 convolutions .* the smallest is 29×29',
    ),
    (
      lambda: architectures.pooled_conv_decoder([8, 8], (27, 28, 1)),
      'a side must be 12, or more by a multiple of 4',
    ),
    (
      lambda: architectures.deep_conv_encoder((27, 28, 1), [8, 8], [4]),
      'both sides must be multiples of 4',
    ),
    (lambda: architectures.deep_conv_decoder([8], (27,)), 'need data of shape'),
  ],
)
def test_images_that_do_not_fit_are_refused(make_network, message):
  with pytest.raises(ValueError, match=message):
    make_network()


@pytest.mark.parametrize('size', [29, 31])
def test_the_smallest_size_that_is_named_fits(size):
  architectures.strided_conv_decoder([2, 2, 2], [], (size, size, 1))
  architectures.pooled_conv_decoder([2, 2], (12, 16, 1))


# -- Dropout ------------------------------------------------------------------


def test_dropout_zeroes_its_share_in_training_only():
  layer = networks.Dropout(0.3)
  ones = tf.ones([100, 1000])
  np.testing.assert_array_equal(layer(ones, None), ones)
  dropped = layer(ones, key()).numpy()
  zeros = (dropped == 0).mean()
  assert zeros == pytest.approx(0.3, abs=0.01)
  np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.7, rtol=1e-6)


def test_dropout_in_an_encoder_differs_by_step_and_repeats_by_key():
  model, x = make('pooled_conv'), images()

  def means(*keys):
    return model.encode(x, *keys).mean().numpy()

  first = means(key(0))
  np.testing.assert_array_equal(means(key(0)), first)
  assert (means(key(1)) != first).any()
  assert (means() != first).any()
  np.testing.assert_array_equal(means(), means())
  # A network without such layers takes no key.
  plain = make('mlp')
  np.testing.assert_array_equal(
    plain.encode(x, key()).mean(), plain.encode(x).mean()
  )


def test_objectives_train_with_dropout_and_evaluation_does_without():
  model, x = make('pooled_conv'), images()
  draw = lambda is_training: terms.sample(
    model, x, key(), is_training=is_training
  ).posterior.mean()
  np.testing.assert_array_equal(draw(False), model.encode(x).mean())
  own = randomness.key(0, randomness.Purpose.DROPOUT, 0)
  np.testing.assert_array_equal(draw(True), model.encode(x, own).mean())
  assert (draw(True) != draw(False)).numpy().any()


def test_dropout_of_everything_is_refused():
  with pytest.raises(ValueError, match='rate must lie in'):
    networks.Dropout(1.0)
  with pytest.raises(TypeError, match='key'):  # Never left out by mistake.
    networks.Dropout(0.5)(tf.ones([1]))


# -- Log-probabilities against SciPy ------------------------------------------


def test_the_full_covariance_is_that_of_its_triangle():
  generator = np.random.default_rng(0)
  parameters = generator.normal(size=(4, 3 + 6))
  posterior = posteriors.FullCovariance(3)(tf.constant(parameters, tf.float32))
  z = generator.normal(size=(4, 3))
  for row in range(4):
    fill = parameters[row, 3:]
    order = tfp.math.fill_triangular(tf.constant(fill)).numpy()
    triangle = np.tril(order, -1) + np.diag(
      np.logaddexp(0, np.diag(order)) + 1e-5
    )
    expected = scipy.stats.multivariate_normal.logpdf(
      z[row], parameters[row, :3], triangle @ triangle.T
    )
    actual = posterior.log_prob(tf.constant(z, tf.float32))[row]
    assert float(actual) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('posterior', ['normal', 'full_covariance'])
def test_samples_have_the_covariance_of_the_posterior(posterior):
  family = POSTERIORS[posterior]()
  parameters = np.random.default_rng(0).normal(
    size=(1, *family.parameter_shape)
  )
  q = family(tf.constant(parameters, tf.float32))
  z = distributions.sample(q, 200_000, key()).numpy()[:, 0]
  np.testing.assert_allclose(z.mean(0), q.mean()[0], atol=0.02)
  covariance = np.diag(q.variance()[0])
  if posterior == 'full_covariance':
    covariance = q.covariance()[0]
  np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.03)


def test_a_deterministic_posterior_samples_its_code():
  q = POSTERIORS['deterministic']()(tf.constant([[0.0, 1.0, -1.0]]))
  z = distributions.sample(q, 4, key())
  expected = scipy.special.expit([0.0, 1.0, -1.0])
  np.testing.assert_allclose(z, np.tile(expected, (4, 1, 1)), rtol=1e-6)


def test_the_continuous_bernoulli_is_a_density_on_the_unit_interval():
  logits = np.array([-3.0, 0.5, 4.0])
  likelihood = likelihoods.ContinuousBernoulli([3])(
    tf.constant(logits, tf.float32)
  )
  x = np.array([0.1, 0.5, 0.9])
  # p(x) = C exp(x logits), with C so that it integrates to one.
  constant = logits / np.expm1(logits)
  expected = np.sum(np.log(constant) + x * logits)
  actual = likelihood.log_prob(tf.constant(x, tf.float32))
  assert float(actual) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('kind', [0.5, 'global', 'per_output', 'optimal'])
def test_normal_likelihoods_agree_with_scipy(kind):
  family = likelihoods.Normal((4, 2), kind)
  generator = np.random.default_rng(0)
  parameters = generator.normal(size=(5, *family.parameter_shape))
  x = generator.normal(size=(5, 4, 2))
  loc, scale = parameters, {0.5: 0.5, 'global': 1.0, 'optimal': 1.0}.get(kind)
  if kind == 'per_output':
    assert family.parameter_shape == (4, 4)
    assert family.scale is None
    loc, raw = parameters[..., :2], parameters[..., 2:]
    scale = np.logaddexp(0, raw)
  expected = scipy.stats.norm.logpdf(x, loc, scale).sum((1, 2))
  likelihood = family(tf.constant(parameters, tf.float32))
  actual = likelihood.log_prob(tf.constant(x, tf.float32))
  np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_the_optimal_scale_is_the_one_of_greatest_likelihood():
  family = likelihoods.Normal((3,), 'optimal')
  generator = np.random.default_rng(0)
  loc = tf.constant(generator.normal(size=(50, 3)), tf.float32)
  x = tf.constant(generator.normal(size=(50, 3)), tf.float32)
  before = float(tf.reduce_sum(family(loc).log_prob(x)))
  assert float(family.scale) == 1.0  # Asking changes nothing.
  best = float(tf.reduce_sum(family.fit(family(loc), x).log_prob(x)))
  assert best > before
  scale = float(np.sqrt(np.mean((x - loc) ** 2)))
  assert float(family.scale) == pytest.approx(scale, rel=1e-4)
  for factor in (0.95, 1.05):
    other = scipy.stats.norm.logpdf(x, loc, scale * factor).sum()
    assert best > other
  # In evaluation the scale stays as training left it.
  np.testing.assert_allclose(
    family(loc).log_prob(2 * x),
    scipy.stats.norm.logpdf(2 * x, loc, scale).sum(-1),
    rtol=1e-3,
  )


@pytest.mark.parametrize('kind', ['half', 0.0, -1.0])
def test_scales_that_are_none_are_refused(kind):
  with pytest.raises(ValueError, match='likelihood_scale must be'):
    likelihoods.Normal((3,), kind)


def test_squared_error_is_the_sum_of_squares():
  loc, x = np.zeros((2, 3)), np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.5]])
  likelihood = likelihoods.SquaredError([3])(tf.constant(loc, tf.float32))
  np.testing.assert_allclose(
    likelihood.log_prob(tf.constant(x, tf.float32)), [-14.0, -0.25]
  )


def test_the_mixture_prior_is_the_mean_of_its_components():
  prior = priors.mixture(2, 3, PRIOR_KEY)
  means = prior.components_distribution.distribution.loc.numpy()
  z = np.array([0.3, -0.2])
  densities = scipy.stats.norm.pdf(z, means, 1.0).prod(-1)
  assert float(prior.log_prob(tf.constant(z, tf.float32))) == pytest.approx(
    np.log(densities.mean()), rel=1e-4
  )
  assert len(prior.trainable_variables) == 3
  samples = distributions.sample(prior, 20_000, key()).numpy()
  np.testing.assert_allclose(samples.mean(0), means.mean(0), atol=0.05)
  other = distributions.sample(prior, 20_000, key(1)).numpy()
  assert (samples != other).any()
  with pytest.raises(ValueError, match='prior_components'):
    priors.mixture(2, 0, PRIOR_KEY)
  with pytest.raises(NotImplementedError):
    tfd.kl_divergence(priors.standard(2), prior)


def test_closed_forms_of_the_rate_agree_between_families():
  generator = np.random.default_rng(0)
  parameters = tf.constant(generator.normal(size=(4, 6)), tf.float32)
  normal = posteriors.Normal(3)(parameters)
  np.testing.assert_allclose(
    tfd.kl_divergence(normal, priors.standard(3)),
    tfd.kl_divergence(
      tfd.MultivariateNormalDiag(normal.mean(), normal.stddev()),
      tfd.MultivariateNormalDiag(tf.zeros([3]), tf.ones([3])),
    ),
    rtol=1e-5,
  )
  q = POSTERIORS['full_covariance']()(
    tf.constant(generator.normal(size=(4, 9)), tf.float32)
  )
  full = tfd.kl_divergence(q, priors.standard(3)).numpy()
  mean, covariance = q.mean().numpy(), q.covariance().numpy()
  expected = 0.5 * (
    np.trace(covariance, axis1=1, axis2=2)
    + (mean**2).sum(-1)
    - 3
    - np.linalg.slogdet(covariance)[1]
  )
  np.testing.assert_allclose(full, expected, rtol=1e-4)


def test_variables_of_every_part_are_found():
  model = make(prior='mixture', likelihood='normal_global')
  names = [variable.name for variable in model.trainable_variables]
  assert any('log_scale' in name for name in names)
  assert len(names) == len({id(v) for v in model.trainable_variables})
  assert isinstance(model, snt.Module)
  assert len(model.trainable_variables) == 4 + 4 + 1 + 3
