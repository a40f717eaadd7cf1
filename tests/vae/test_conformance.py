"""Every part in one model: what must hold of each, whatever it is joined to."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from launch.experiment import build
from launch.settings import config as config_lib
from launch.settings import parts
from launch.settings.config import Config
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
  training,
)

tfd = tfp.distributions

LATENTS = 3
PRIOR_KEY = randomness.key(0, randomness.Purpose.PRIOR, 0)

# The parts are those that flags have as values, found as they are: a new one
# is in these tests as soon as it is written.
PARTS = {f.name: f.metadata['choices'] for f in config_lib.fields()}
# In the order in which they are tried for a network.
SIDES = (28, 32, 64)


def key(step=0):
  return randomness.key(0, randomness.Purpose.POSTERIOR, step)


class Made(NamedTuple):
  """A model of some parts, with what else it needs."""

  config: Config
  shape: tuple[int, ...]
  model: models.VAE
  objective: training.Objective

  def images(self, count=3):
    generator = np.random.default_rng(0)
    images = generator.random((count, *self.shape))
    if self.config.binarize != 'none':
      images = np.round(images)
    return tf.constant(images, tf.float32)

  def loss(self, model, images):
    batch = terms.Batch(images, key(), tf.constant(1, tf.int64), 100)
    weights = {name: tf.constant(0.5) for name in self.objective.weights}
    return self.objective.loss(model, batch, **weights)


def make(channels=1, **parts):
  """Makes a model of some parts, with the first others that go with them."""
  refusal = None
  for objective, posterior, kl, binarize, side in itertools.product(
    PARTS['objective'],
    PARTS['posterior'],
    ('exact', 'monte_carlo'),
    ('none', 'dynamic'),
    SIDES,
  ):
    settings = {
      'objective': objective,
      'posterior': posterior,
      'kl': kl,
      'binarize': binarize,
      'num_samples': 2,
      'hidden_sizes': (6,),
      'channels': (2, 3),
      'dropout': 0.5,
      'latent_size': LATENTS,
      'activation': 'tanh',
      'init': 'glorot_uniform',
      'training_steps': 9,
    }
    shape = (side, side, channels)
    try:
      config = Config(**settings | parts)
      model = build.model(config, shape)
      return Made(config, shape, model, build.objective(config, model))
    except config_lib.ConfigError as error:
      refusal = error
  raise AssertionError(f'{parts} go with nothing, such as: {refusal}')


# Each network with each posterior, each posterior with each prior, each
# likelihood with each kind of scale, and each objective.
COMBINATIONS = [
  *({'network': network, 'posterior': posterior}
    for network in PARTS['network'] for posterior in PARTS['posterior']),
  *({'posterior': posterior, 'prior': prior}
    for posterior in PARTS['posterior'] for prior in PARTS['prior']
    if (posterior, prior) != ('deterministic', 'mixture')),
  *({'likelihood': likelihood, 'likelihood_scale': scale}
    for likelihood in PARTS['likelihood']
    for scale in ('0.5', 'global', 'per_output', 'optimal')
    if scale == '0.5'
    or 'likelihood_scale' in parts.settings('likelihood', likelihood)),
  *({'posterior': 'normal', 'posterior_scale': scale}
    for scale in PARTS['posterior_scale']),
  *({'objective': objective} for objective in PARTS['objective']),
]  # fmt: skip


@pytest.mark.parametrize(
  'chosen', COMBINATIONS, ids=lambda chosen: '-'.join(chosen.values())
)
def test_conformance(chosen):
  made = make(**chosen)
  model, x = made.model, made.images()

  # Eager and compiled for an unknown batch size agree.
  loss = made.loss(model, x)
  compiled = tf.function(
    lambda x: made.loss(model, x).value,
    input_signature=[tf.TensorSpec([None, *made.shape])],
  )
  np.testing.assert_allclose(loss.value, compiled(x), rtol=1e-4)
  assert loss.value.shape == ()
  for name, measured in loss.measured.items():
    assert measured.shape == (), name

  # Its terms are of each image.
  for term in loss.terms:
    assert term.shape == (3,)
    assert np.isfinite(term).all()

  # Gradients reach every variable.
  with tf.GradientTape() as tape:
    value = made.loss(model, x).value
  gradients = tape.gradient(value, model.trainable_variables)
  for variable, gradient in zip(
    model.trainable_variables, gradients, strict=True
  ):
    assert gradient is not None, variable.name
    assert np.isfinite(gradient).all(), variable.name
    assert np.any(gradient), variable.name

  # A model takes another's variables and is then the same function.
  twin = build.model(made.config, made.shape)
  for variable in twin.variables:
    variable.assign(tf.zeros_like(variable))
  for mine, other in zip(twin.variables, model.variables, strict=True):
    mine.assign(other)
  np.testing.assert_array_equal(
    made.loss(model, x).value, made.loss(twin, x).value
  )


@pytest.mark.parametrize('network', PARTS['network'])
@pytest.mark.parametrize('channels', [1, 3])
def test_networks_fit_grey_and_colour_images(network, channels):
  made = make(channels, network=network)
  assert made.model.reconstruct(made.images(2)).shape == (2, *made.shape)


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
  made = make(network='pooled_conv', dropout=0.5)
  model, x = made.model, made.images()

  def means(*keys):
    return model.encode(x, *keys).mean().numpy()

  first = means(key(0))
  np.testing.assert_array_equal(means(key(0)), first)
  assert (means(key(1)) != first).any()
  assert (means() != first).any()
  np.testing.assert_array_equal(means(), means())
  # A network without such layers takes no key.
  plain = make(network='mlp').model
  np.testing.assert_array_equal(
    plain.encode(x, key()).mean(), plain.encode(x).mean()
  )


def test_objectives_train_with_dropout_and_evaluation_does_without():
  made = make(network='pooled_conv', dropout=0.5)
  model, x = made.model, made.images()
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


@pytest.mark.parametrize('name', ['Normal', 'FullCovariance'])
def test_samples_have_the_covariance_of_the_posterior(name):
  family = getattr(posteriors, name)(LATENTS)
  parameters = np.random.default_rng(0).normal(
    size=(1, *family.parameter_shape)
  )
  q = family(tf.constant(parameters, tf.float32))
  z = distributions.sample(q, 200_000, key()).numpy()[:, 0]
  np.testing.assert_allclose(z.mean(0), q.mean()[0], atol=0.02)
  covariance = np.diag(q.variance()[0])
  if name == 'FullCovariance':
    covariance = q.covariance()[0]
  np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.03)


def test_a_deterministic_posterior_samples_its_code():
  q = posteriors.Deterministic(LATENTS, tf.sigmoid)(
    tf.constant([[0.0, 1.0, -1.0]])
  )
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
  q = posteriors.FullCovariance(3)(
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
  model = make(
    prior='mixture', likelihood='normal', likelihood_scale='global'
  ).model
  names = [variable.name for variable in model.trainable_variables]
  assert any('log_scale' in name for name in names)
  assert len(names) == len({id(v) for v in model.trainable_variables})
  assert isinstance(model, snt.Module)
  assert len(model.trainable_variables) == 4 + 4 + 1 + 3
