"""A linear decoder with Gaussian noise: everything is known in closed form.

Tipping & Bishop 1999 (probabilistic PCA); Lucas et al. 2019, "Don't blame the
ELBO!" (https://arxiv.org/abs/1911.02469).
"""

import numpy as np
import pytest
import scipy.stats
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from tests.vae import builders
from vae import models, objectives, priors, randomness, terms
from vae.metrics import evaluation, importance

tfd = tfp.distributions

SIGMA = 0.5
# Orthogonal columns, so that the exact posterior has independent latents.
W = np.array([[1.5, 0.0], [0.0, 1.0], [1.5, 0.0], [0.0, -1.0]])
MU = np.array([0.5, 0.2, 0.4, 0.6])


class Linear(snt.Module):
  """Linear encoder and decoder, with a scale that does not depend on x."""

  def __init__(self, output_size, w, b, log_scale):
    super().__init__()
    self.w = tf.Variable(w, dtype=tf.float32)
    self.b = tf.Variable(b, dtype=tf.float32)
    self.log_scale = tf.Variable(log_scale, dtype=tf.float32)
    self._size = output_size

  def __call__(self, inputs):
    flat = tf.reshape(inputs, [-1, self.w.shape[0]])
    loc = tf.matmul(flat, self.w) + self.b
    scale = tf.exp(self.log_scale) * tf.ones_like(loc)
    return tf.concat([loc, scale], -1)


def normal(parameters):
  loc, scale = tf.split(parameters, 2, -1)
  return tfd.Independent(tfd.Normal(loc, scale), 1)


def exact_posterior(w=W, sigma=SIGMA):
  m = w.T @ w + sigma**2 * np.eye(w.shape[1])
  return np.linalg.inv(m) @ w.T, sigma * np.sqrt(np.diag(np.linalg.inv(m)))


def linear_vae(shift=0.0, widen=1.0):
  """The model with its exact posterior, or one that is off."""
  projection, scale = exact_posterior()
  encoder = Linear(
    2, projection.T, -projection @ MU + shift, np.log(scale * widen)
  )
  decoder = Linear(4, W.T, MU, np.full(4, np.log(SIGMA)))
  return models.VAE(
    models.Encoder(encoder, normal),
    models.Decoder(decoder, normal),
    priors.standard(2),
  )


def exact_log_p(x):
  covariance = W @ W.T + SIGMA**2 * np.eye(4)
  return scipy.stats.multivariate_normal.logpdf(x, MU, covariance)


def draw(count, seed=0):
  generator = np.random.default_rng(seed)
  z = generator.normal(size=(count, 2))
  return (z @ W.T + MU + SIGMA * generator.normal(size=(count, 4))).astype('f4')


def key(step=0):
  return randomness.key(0, randomness.Purpose.POSTERIOR, step)


def test_the_elbo_of_the_exact_posterior_is_log_p():
  x = draw(50)
  sampled = terms.sample(
    linear_vae(), tf.constant(x), key(), 3, is_training=False
  )
  weights = terms.log_weights(linear_vae(), *sampled)
  # Every importance weight is p(x) itself.
  np.testing.assert_allclose(
    weights, np.tile(exact_log_p(x), (3, 1)), atol=2e-4
  )
  measured = builders.elbo_terms(linear_vae(), tf.constant(x), key(), 20_000)
  np.testing.assert_allclose(measured.elbo, exact_log_p(x), atol=0.05)


def test_the_rate_and_the_elbo_of_a_wrong_posterior_are_known():
  x = draw(20)
  model = linear_vae(shift=0.3, widen=1.5)
  projection, scale = exact_posterior()
  mean, std = (x - MU) @ projection.T + 0.3, scale * 1.5
  rate = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).sum(-1)
  # The gap to log p is KL(q || exact posterior), in closed form.
  gap = (0.5 * ((0.3 / scale) ** 2 + 1.5**2 - 1) - np.log(1.5)).sum()
  measured = builders.elbo_terms(model, tf.constant(x), key(), 40_000)
  np.testing.assert_allclose(measured.rate, rate, rtol=1e-4)
  np.testing.assert_allclose(measured.elbo, exact_log_p(x) - gap, atol=0.1)


@pytest.fixture
def tables(monkeypatch):
  """Lets evaluation take real-valued rows for images."""

  def batches(x, binarize, seed):
    del binarize, seed
    yield len(x), 0, tf.constant(x), key()

  monkeypatch.setattr(evaluation, 'fixed_batches', batches)


def test_the_importance_weighted_bound_meets_log_p_within_its_error(tables):
  x = draw(400)
  model = linear_vae(shift=0.3, widen=1.3)
  exact = exact_log_p(x)
  log_p = []
  for seed in range(10):
    bounds = importance.Estimator(model, False)(
      x, 'dynamic', seed, [1, 10, 100, 1000]
    )
    log_p.append([bound.log_p.value for bound in bounds])
  means = np.mean(log_p, axis=0)
  errors = np.std(log_p, axis=0, ddof=1) / np.sqrt(10)
  # Never above log p, never decreasing, and log p in the end.
  assert (means < exact.mean() + 3 * errors).all()
  assert (np.diff(means) > 0).all()
  assert means[-1] == pytest.approx(
    exact.mean(), abs=4 * errors[-1] + bounds[-1].bias
  )
  # The stated bias is that of the estimate, once samples are many.
  assert exact.mean() - means[2] == pytest.approx(bounds[2].bias, rel=0.5)


def test_the_exact_posterior_has_a_full_effective_sample_size(tables):
  bounds = importance.Estimator(linear_vae(), False)(
    draw(50), 'dynamic', 0, [1, 64]
  )
  assert bounds[1].ess == pytest.approx(64, rel=1e-3)
  assert bounds[1].bias == pytest.approx(0.0, abs=1e-5)
  assert bounds[1].log_p.value == pytest.approx(
    exact_log_p(draw(50)).mean(), abs=1e-3
  )


def test_stated_errors_cover_the_truth_over_resampled_test_sets(tables):
  covariance = W @ W.T + SIGMA**2 * np.eye(4)
  truth = -scipy.stats.multivariate_normal(MU, covariance).entropy()
  evaluator = evaluation.Evaluator(linear_vae())
  covered = 0
  for seed in range(300):
    elbo = evaluator(draw(200, seed), 'none', seed).elbo
    covered += abs(elbo.value - truth) < 1.96 * elbo.se
  # Binomial(300, 0.95) lies in [0.91, 0.985] with probability 0.998.
  assert 0.91 <= covered / 300 <= 0.985


def test_stated_errors_of_the_bound_are_its_spread_over_test_sets(tables):
  estimator = importance.Estimator(linear_vae(shift=0.3, widen=1.3), False)

  def bound(data_seed, noise_seed):
    return estimator(draw(200, data_seed), 'dynamic', noise_seed, [20])[0].log_p

  resampled = [bound(seed, seed) for seed in range(150)]
  spread = np.std([e.value for e in resampled], ddof=1)
  stated = np.mean([e.se for e in resampled])
  # The spread of 150 values is known to 6%.
  assert spread == pytest.approx(stated, rel=0.2)
  # Repeating an evaluation varies by its noise alone, which is the lesser part.
  repeated = [bound(0, seed).value for seed in range(50)]
  assert 0 < np.std(repeated, ddof=1) < stated


def test_latents_collapse_where_beta_exceeds_their_signal_to_noise():
  # With data of covariance diag(lambda), noise sigma fixed and beta, the
  # optimum has w_i^2 = lambda_i - beta sigma^2, and w_i = 0 beyond
  # beta = lambda_i / sigma^2.
  variances = np.array([4.0, 2.0, 0.5])
  sigma = 0.7
  beta = 2.0  # The last collapses: 0.5 / 0.49 < 2 < 2.0 / 0.49.
  generator = np.random.default_rng(0)
  x = generator.normal(size=(4000, 3))
  x -= x.mean(0)
  x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, ddof=0))).T
  x = tf.constant(x * np.sqrt(variances), tf.float32)
  encoder = Linear(3, 0.3 * np.eye(3), np.zeros(3), np.zeros(3))
  decoder = Linear(3, 0.5 * np.eye(3), np.zeros(3), np.full(3, np.log(sigma)))
  model = models.VAE(
    models.Encoder(encoder, normal),
    models.Decoder(decoder, normal),
    priors.standard(3),
  )
  variables = [encoder.w, encoder.b, encoder.log_scale, decoder.w, decoder.b]
  optimizer = snt.optimizers.Adam(tf.Variable(0.02))

  @tf.function
  def train(step):
    optimizer.learning_rate.assign(
      0.02 * tf.pow(0.01, tf.cast(step, tf.float32) / 1500)
    )
    with tf.GradientTape() as tape:
      loss, *_ = objectives.elbo(model, builders.batch(x, key(step)), beta)
    optimizer.apply(tape.gradient(loss, variables), variables)
    return loss

  for step in range(1500):
    train(tf.constant(step))
  loss = np.mean([train(tf.constant(s)).numpy() for s in range(1500, 1550)])

  expected = np.maximum(variances - beta * sigma**2, 0.0)
  w = decoder.w.numpy()
  np.testing.assert_allclose(w @ w.T, np.diag(expected), atol=0.12)
  rates = evaluation.estimate(builders.elbo_terms(model, x, key()).rate.numpy())
  # s^2 = beta sigma^2 / lambda of what is not collapsed, a = w / lambda.
  shrink = np.minimum(beta * sigma**2 / variances, 1.0)
  rate = 0.5 * ((1 - shrink) + shrink - 1 - np.log(shrink))
  assert rates.value == pytest.approx(rate.sum(), abs=0.03)
  distortion = 0.5 * np.log(2 * np.pi * sigma**2) + np.where(
    expected > 0, beta / 2, variances / (2 * sigma**2)
  )
  assert loss == pytest.approx((distortion + beta * rate).sum(), abs=0.05)
