"""Objectives that draw latents apart, against closed forms and NumPy."""

import functools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from tests.vae import builders
from vae import (
  errors,
  networks,
  objectives,
  posteriors,
  randomness,
  terms,
  training,
)

tfd = tfp.distributions

L = 4


def key(step=1):
  return randomness.key(0, randomness.Purpose.POSTERIOR, step)


def normal(loc, scale):
  return tfd.Independent(
    tfd.Normal(tf.constant(loc, tf.float32), tf.constant(scale, tf.float32)), 1
  )


def alike(count):
  latents = np.random.default_rng(0).standard_normal((count, L))
  posterior = normal(np.zeros((count, L)), np.ones((count, L)))
  return posterior, tf.constant(latents, tf.float32)


def apart(count):
  """Posteriors that no other reaches, in every latent."""
  loc = np.tile(1e3 * np.arange(count)[:, None], (1, L))
  return normal(loc, np.ones((count, L))), tf.constant(loc, tf.float32)


# -- Estimates of the total correlation ---------------------------------------


@pytest.mark.parametrize('n', [64, 737_280])
def test_minibatch_weights_have_their_known_bias(n):
  b = 16
  parts = terms.decompose(*alike(b), n)
  # Without its constants (L - 1) log (N B), this is exactly -(L - 1) log B.
  assert float(parts.total_correlation) == pytest.approx(
    (L - 1) * np.log(n), rel=1e-5
  )
  assert float(parts.mutual_information) == pytest.approx(np.log(n), rel=1e-5)
  parts = terms.decompose(*apart(b), n)
  assert float(parts.total_correlation) == pytest.approx(
    (L - 1) * np.log(n * b), rel=1e-5
  )


def test_stratified_weights_are_exact_where_posteriors_are_alike():
  parts = terms.decompose(*alike(16), 1000, 'stratified')
  assert float(parts.total_correlation) == pytest.approx(0.0, abs=1e-4)
  assert float(parts.mutual_information) == pytest.approx(0.0, abs=1e-4)


def test_stratified_weights_have_their_places():
  b, n = 5, 40
  weights = np.exp(terms._log_weights(b, n, 'stratified').numpy().astype(float))
  np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)
  np.testing.assert_allclose(np.diag(weights), 1 / n, rtol=1e-6)
  m = b - 1
  for row in range(b):
    others = np.sort(np.delete(weights[row], row))
    expected = np.sort([(n - m) / (n * m)] + [1 / m] * (b - 2))
    np.testing.assert_allclose(others, expected, rtol=1e-6)


@pytest.mark.parametrize('estimator', terms.TC_ESTIMATORS)
def test_estimates_are_what_numpy_makes_of_their_equations(estimator):
  b, n = 6, 50
  generator = np.random.default_rng(1)
  loc, scale = generator.standard_normal((b, L)), generator.random((b, L)) + 0.5
  latents = loc + scale * generator.standard_normal((b, L))
  weights = terms._log_weights(b, n, estimator).numpy().astype(np.float64)
  each = scipy.stats.norm.logpdf(latents[:, None], loc[None], scale[None])
  log_q = scipy.special.logsumexp(each.sum(-1) + weights, axis=1)
  log_q_each = scipy.special.logsumexp(each + weights[..., None], axis=1)
  parts = terms.decompose(
    normal(loc, scale), tf.constant(latents, tf.float32), n, estimator
  )
  assert float(parts.total_correlation) == pytest.approx(
    np.mean(log_q - log_q_each.sum(1)), rel=1e-4
  )
  own = np.einsum('iil->il', each).sum(1)
  assert float(parts.mutual_information) == pytest.approx(
    np.mean(own - log_q), rel=1e-4
  )


@pytest.mark.parametrize(
  ('estimator', 'bias'), [('weighted', None), ('stratified', 0.0)]
)
def test_estimates_against_the_exact_total_correlation_of_a_gaussian(
  estimator, bias
):
  # q(z|x) = N(x, s^2 I), x ~ N(0, C): q(z) = N(0, C + s^2 I).
  n = b = 1500
  covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
  generator = np.random.default_rng(0)
  loc = generator.multivariate_normal(np.zeros(2), covariance, b)
  latents = loc + 0.5 * generator.standard_normal((b, 2))
  total = covariance + 0.25 * np.eye(2)
  exact = 0.5 * np.log(np.prod(np.diag(total)) / np.linalg.det(total))
  parts = terms.decompose(
    normal(loc, np.full((b, 2), 0.5)),
    tf.constant(latents, tf.float32),
    n,
    estimator,
  )
  # Where the batch is the data, all weights are known but for the factor B.
  constant = np.log(n) if bias is None else bias
  error = float(parts.total_correlation) - constant - exact
  assert abs(error) < 0.08


def test_correlated_posteriors_have_their_own_density():
  b = 5
  family = posteriors.FullCovariance(3)
  parameters = np.random.default_rng(0).standard_normal(
    (b, *family.parameter_shape)
  )
  posterior = family(tf.constant(parameters, tf.float32))
  latents = posterior.mean() + 0.1
  parts = terms.decompose(posterior, latents, 9)
  means, stddevs = posterior.mean().numpy(), posterior.stddev().numpy()
  covariances = posterior.covariance().numpy()
  joint = np.array(
    [
      [
        scipy.stats.multivariate_normal.logpdf(z, m, c)
        for m, c in zip(means, covariances, strict=True)
      ]
      for z in latents.numpy()
    ]
  )
  each = scipy.stats.norm.logpdf(latents.numpy()[:, None], means, stddevs)
  weight = -np.log(9 * b)
  expected = scipy.special.logsumexp(joint + weight, axis=1) - np.sum(
    scipy.special.logsumexp(each + weight, axis=1), axis=1
  )
  assert float(parts.total_correlation) == pytest.approx(
    expected.mean(), rel=1e-3
  )


def test_a_batch_of_one_has_no_aggregate():
  with pytest.raises(ValueError, match='two images, got 1'):
    terms.decompose(*alike(1), 10)
  with pytest.raises(ValueError, match='estimator'):
    terms.decompose(*alike(3), 10, 'other')


# -- The maximum mean discrepancy ---------------------------------------------


@pytest.mark.parametrize('a', [0.25, 1.0, 3.0])
def test_the_discrepancy_of_two_gaussians_is_the_closed_form(a):
  count, d, h2 = 2000, 3, 3.0
  generator = np.random.default_rng(0)
  first = np.sqrt(a) * generator.standard_normal((count, d))
  second = generator.standard_normal((count, d))
  power = lambda spread: (h2 / (h2 + spread)) ** (d / 2)
  expected = power(2 * a) + power(2) - 2 * power(a + 1)
  value = terms.mmd(
    tf.constant(first, tf.float32), tf.constant(second, tf.float32), 'gaussian'
  )
  assert float(value) == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize('kernel', terms.KERNELS)
def test_the_discrepancy_is_what_numpy_makes_of_its_equation(kernel):
  generator = np.random.default_rng(0)
  first, second = generator.standard_normal((2, 7, 3))
  distance = lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1)
  k = {
    'gaussian': lambda d: np.exp(-d / 6),
    'inverse_multiquadratic': lambda d: 6 / (6 + d),
  }[kernel]
  within = [k(distance(x, x)) for x in (first, second)]
  mean = sum((m.sum() - np.trace(m)) / (7 * 6) for m in within)
  expected = mean - 2 * k(distance(first, second)).mean()
  value = terms.mmd(
    tf.constant(first, tf.float32), tf.constant(second, tf.float32), kernel
  )
  assert float(value) == pytest.approx(expected, abs=1e-6)


# -- The objectives -----------------------------------------------------------


def model_and_batch(count=8, seed=0):
  images = builders.float_images(count, seed)
  return builders.small_vae(L), builders.batch(images, key(), num_examples=30)


def test_dip_of_constant_means_is_known():
  flat = normal(np.zeros((6, L)), np.ones((6, L)))
  first = terms.covariance(flat, of_samples=False)
  np.testing.assert_allclose(first, np.zeros((L, L)))
  second = terms.covariance(flat, of_samples=True)
  np.testing.assert_allclose(second, np.eye(L))


def penalty(posterior, objective, **weights):
  """The penalty of a model whose posterior is given."""
  images = builders.float_images(posterior.batch_shape[0])
  model = builders.small_vae(L)
  model.encode = lambda images, key=None: posterior
  found = objective(model, builders.batch(images, key()), 1.0, **weights)
  return float(found.measured['penalty_nats'])


def test_dip_penalties_of_known_posteriors():
  flat = normal(np.zeros((6, L)), np.ones((6, L)))
  # Each variance lacks 1: lambda_d L, and lambda_d is ten times the other.
  assert penalty(flat, objectives.dip_i, dip_weight=3.0) == pytest.approx(
    30.0 * L
  )
  assert penalty(flat, objectives.dip_ii, dip_weight=3.0) == 0.0
  # Means with the identity for their covariance: +-1 in all combinations.
  corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * L), -1).reshape(-1, L)
  white = normal(corners, np.ones_like(corners))
  value = penalty(white, objectives.dip_i, dip_weight=3.0)
  assert float(value) == pytest.approx(0.0, abs=1e-5)
  generator = np.random.default_rng(0)
  loc, scale = generator.standard_normal((2, 9, L))
  scale = np.abs(scale) + 0.1
  for objective, extra, times in (
    (objectives.dip_i, 0.0, 10.0),
    (objectives.dip_ii, np.diag((scale**2).mean(0)), 1.0),
  ):
    covariance = np.cov(loc.T, bias=True) + extra
    others = covariance - np.diag(np.diag(covariance))
    both = (others**2).sum(), ((np.diag(covariance) - 1) ** 2).sum()
    value = penalty(normal(loc, scale), objective, dip_weight=2.0)
    assert float(value) == pytest.approx(
      2.0 * both[0] + 2.0 * times * both[1], rel=1e-4
    )
    value = penalty(
      normal(loc, scale), objective, dip_weight=2.0, dip_diagonal_weight=0.0
    )
    assert float(value) == pytest.approx(2.0 * both[0], rel=1e-4)


def elbo_loss(model, batch):
  return objectives.elbo(model, batch, 1.0)


@pytest.mark.parametrize(
  ('gamma', 'capacity'), [(1.0, 0.0), (3.0, 2.5), (0.0, 9.0)]
)
def test_annealed_is_its_equation(gamma, capacity):
  model, batch = model_and_batch()
  found = objectives.annealed(model, batch, gamma, tf.constant(capacity))
  rate, distortion = elbo_loss(model, batch).terms
  expected = np.mean(distortion) + gamma * abs(np.mean(rate) - capacity)
  assert float(found.value) == pytest.approx(expected, rel=1e-6)
  assert found.measured['capacity_nats'] == capacity


def test_the_distance_from_the_capacity_is_that_of_the_mean_rate():
  model, batch = model_and_batch()
  rate = elbo_loss(model, batch).terms.rate.numpy()
  capacity = float(np.median(rate))
  found = objectives.annealed(model, batch, 1.0, tf.constant(capacity))
  each = np.abs(rate - capacity).mean()
  distance = found.value - np.mean(found.terms.distortion)
  assert float(distance) == pytest.approx(abs(rate.mean() - capacity), abs=1e-4)
  assert abs(distance - each) > 1e-3


def factor(**settings):
  settings = {'discriminator_sizes': (16, 16)} | settings
  return objectives.Factor(
    L, networks.Initializer('glorot_uniform', 7), **settings
  )


def test_a_discriminator_that_cannot_tell_is_neutral():
  model, batch = model_and_batch()
  objective = factor()
  for variable in objective.trainable_variables:
    variable.assign(tf.zeros_like(variable))
  found = objective(model, batch, 1.0, 5.0)
  assert float(found.value) == pytest.approx(
    float(elbo_loss(model, batch).value), rel=1e-6
  )
  assert found.measured['total_correlation_nats'] == 0.0
  assert float(found.adversary) == pytest.approx(np.log(2), rel=1e-6)


def test_factor_is_its_equation():
  model, batch = model_and_batch()
  objective = factor()
  found = objective(model, batch, 2.0, 5.0)
  rate, distortion = found.terms
  latents = terms.sample(
    model, batch.images, batch.key, is_training=True
  ).latents[0]
  logits = objective._discriminator(latents).numpy()
  correlation = (logits[:, 0] - logits[:, 1]).mean()
  expected = np.mean(distortion + 2.0 * rate) + 5.0 * correlation
  assert float(found.value) == pytest.approx(expected, rel=1e-5)
  permuted = objectives._permuted(latents, randomness.fold(batch.key, 3))
  of_permuted = objective._discriminator(permuted).numpy()
  cross = lambda logits, label: -scipy.special.log_softmax(logits, 1)[:, label]
  expected = 0.5 * np.mean(cross(logits, 0)) + 0.5 * np.mean(
    cross(of_permuted, 1)
  )
  assert float(found.adversary) == pytest.approx(expected, rel=1e-5)
  right = np.concatenate([logits.argmax(1) == 0, of_permuted.argmax(1) == 1])
  assert float(found.measured['discriminator_accuracy']) == pytest.approx(
    right.mean()
  )


def test_each_latent_is_permuted_by_itself():
  latents = tf.reshape(tf.range(60.0), [20, 3])
  permuted = objectives._permuted(latents, key()).numpy()
  np.testing.assert_array_equal(np.sort(permuted, axis=0), latents)
  rows = {tuple(row) for row in latents.numpy().tolist()}
  assert sum(tuple(row) in rows for row in permuted.tolist()) < 5


def test_a_second_batch_is_the_other_half():
  model, batch = model_and_batch(8)
  found = factor(permutation='second_batch')(model, batch, 1.0, 1.0)
  half = batch._replace(images=batch.images[:4])
  assert found.terms.rate.shape == (4,)
  np.testing.assert_array_equal(
    found.terms.rate, elbo_loss(model, half).terms.rate
  )
  with pytest.raises(errors.PartError, match='no two halves'):
    factor(permutation='second_batch')(
      model, batch._replace(images=batch.images[:7]), 1.0, 1.0
    )


def test_info_is_its_equation():
  model, batch = model_and_batch()
  found = objectives.info(model, batch, 0.5, 7.0)
  rate, distortion = found.terms
  expected = np.mean(distortion + 0.5 * rate) + 7.0 * found.measured['mmd']
  assert float(found.value) == pytest.approx(float(expected), rel=1e-6)
  alone = objectives.info(model, batch, 0.5, 0.0)
  elbo = objectives.elbo(model, batch, 0.5)
  assert float(alone.value) == pytest.approx(elbo.value.numpy(), rel=1e-6)


def test_beta_tc_is_its_equation():
  model, batch = model_and_batch()
  found = objectives.beta_tc(model, batch, 4.0)
  correlation = found.measured['total_correlation_nats']
  expected = elbo_loss(model, batch).value + 3.0 * correlation
  assert float(found.value) == pytest.approx(expected.numpy(), rel=1e-6)


NEUTRAL = {
  'annealed': (
    objectives.annealed,
    {'gamma': 1.0, 'capacity': 0.0},
  ),
  'beta_tc': (objectives.beta_tc, {'beta': 1.0}),
  'dip_i': (objectives.dip_i, {'beta': 1.0, 'dip_weight': 0.0}),
  'dip_ii': (objectives.dip_ii, {'beta': 1.0, 'dip_weight': 0.0}),
  'info': (objectives.info, {'beta': 1.0, 'mmd_weight': 0.0}),
  'factor': (None, {'beta': 1.0, 'gamma': 0.0}),
}


def trained(objective, weights, jit=False, steps=6):
  module = None
  if objective is None:
    objective = module = factor()
  model = builders.small_vae(L)
  rate = tf.Variable(1e-2, trainable=False)
  optimizer = training.with_slots(
    snt.optimizers.Adam(rate), model.trainable_variables
  )
  own = None
  if module is not None:
    own = training.with_slots(
      module.make_optimizer(), module.trainable_variables
    )
  engine = training.Engine(
    model,
    optimizer,
    training.Objective(objective, tuple(weights), (), module, own),
    builders.byte_images(30),
    seed=0,
    batch_size=8,
    binarize='none',
    jit=jit,
    on_device=True,
  )
  full = {n: np.full(steps, v, np.float32) for n, v in weights.items()}
  engine.run(1, full, np.full(steps, 1e-2, np.float32))
  return [variable.numpy() for variable in model.variables]


@functools.cache
def elbo_run(jit):
  elbo = functools.partial(objectives.elbo)
  return trained(elbo, {'beta': 1.0}, jit)


@pytest.mark.parametrize('name', NEUTRAL)
def test_without_their_weights_objectives_train_as_the_elbo_to_the_bit(name):
  for mine, theirs in zip(
    trained(*NEUTRAL[name]), elbo_run(False), strict=True
  ):
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize('name', ['beta_tc', 'factor'])
def test_under_xla_they_train_as_the_elbo_to_rounding(name):
  runs = trained(*NEUTRAL[name], jit=True), elbo_run(True)
  for mine, theirs in zip(*runs, strict=True):
    np.testing.assert_allclose(mine, theirs, atol=2e-5)


WEIGHED = {
  'annealed': {'gamma': 3.0, 'capacity': 0.5},
  'beta_tc': {'beta': 4.0},
  'dip_i': {'beta': 1.0, 'dip_weight': 5.0},
  'dip_ii': {'beta': 1.0, 'dip_weight': 5.0},
  'info': {'beta': 0.5, 'mmd_weight': 50.0},
  'factor': {'beta': 1.0, 'gamma': 8.0},
}


@pytest.mark.parametrize('name', NEUTRAL)
def test_gradients_are_those_of_finite_differences(name):
  model, batch = model_and_batch()
  objective = NEUTRAL[name][0] or factor()
  loss = lambda: objective(model, batch, **WEIGHED[name]).value
  with tf.GradientTape() as tape:
    value = loss()
  parameters = model.trainable_variables
  gradients = tape.gradient(value, parameters)
  generator = np.random.default_rng(0)
  direction = [
    generator.standard_normal(p.shape).astype(np.float32) for p in parameters
  ]
  slope = sum(
    float(tf.reduce_sum(g * d))
    for g, d in zip(gradients, direction, strict=True)
  )
  step = 1e-3
  ends = []
  for sign in (1, -2):
    for p, d in zip(parameters, direction, strict=True):
      p.assign_add(sign * step * d)
    ends.append(float(loss()))
  assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=0.02)
