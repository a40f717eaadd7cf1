import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tests.vae import builders
from vae import distributions, priors
from vae.metrics import aggregate, evaluation

tfd = tfp.distributions


def mixture(means, scale):
  means = np.asarray(means, np.float32)
  return tfd.Independent(tfd.Normal(means, np.full_like(means, scale)), 1)


def decompose(means, scale):
  posterior = mixture(means, scale)
  prior = priors.standard(posterior.event_shape[0])
  return aggregate.decompose(posterior, prior, 0)


def dimension_wise_kl(centres, scale):
  """KL of a one-dimensional mixture of normals to N(0, 1), by quadrature."""

  def integrand(z):
    density = scipy.stats.norm.pdf(z, centres, scale).mean()
    return density * (np.log(density) - scipy.stats.norm.logpdf(z))

  edges = np.unique([c + k * scale for c in centres for k in (-9, 0, 9)])
  return sum(
    scipy.integrate.quad(integrand, low, high, limit=200)[0]
    for low, high in itertools.pairwise(edges)
  )


def test_copied_latents_are_correlated_and_well_apart_clusters_informative():
  # Four clusters, the same in both latents: z says which cluster, log 4 nats;
  # so does each latent alone, so that they share log 4.
  centres = np.array([-3.0, -1.0, 1.0, 3.0])
  means = np.tile(np.repeat(centres, 500)[:, None], (1, 2))
  parts = decompose(means, 0.05)
  assert parts.mutual_information.value == pytest.approx(np.log(4), abs=0.01)
  assert parts.total_correlation.value == pytest.approx(np.log(4), abs=0.01)
  expected = 2 * dimension_wise_kl(centres, 0.05)
  assert abs(parts.dimension_wise_kl.value - expected) < (
    4 * parts.dimension_wise_kl.se
  )


def test_independent_latents_have_no_total_correlation():
  centres = np.array([-2.0, 0.0, 2.0])
  grid = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
  parts = decompose(np.repeat(grid, 200, axis=0), 0.05)
  assert parts.mutual_information.value == pytest.approx(np.log(9), abs=0.01)
  assert parts.total_correlation.value == pytest.approx(0.0, abs=0.01)


def test_gaussian_latents_have_the_information_of_a_gaussian_channel():
  # z = mean + noise with means N(0, 1 - s^2): I = -log(s), and q(z) = N(0, 1).
  scale = 0.5
  generator = np.random.default_rng(0)
  means = generator.normal(0, np.sqrt(1 - scale**2), (4000, 1))
  parts = decompose(means, scale)
  for estimate, expected in (
    (parts.mutual_information, -np.log(scale)),
    (parts.total_correlation, 0.0),
    (parts.dimension_wise_kl, 0.0),
  ):
    assert abs(estimate.value - expected) < 4 * estimate.se + 0.005


def test_stated_errors_are_the_spread_over_splits():
  parts = []
  for seed in range(60):
    generator = np.random.default_rng(seed)
    posterior = mixture(generator.normal(0, 1.0, (200, 2)), 0.5)
    prior = priors.standard(2)
    parts.append(aggregate.decompose(posterior, prior, seed)[1:])
  values, errors = np.moveaxis(np.array(parts), -1, 0)
  # The spread of 60 values is known to 9%; the mixture changes with the split,
  # which the stated error leaves out.
  ratios = values.std(0, ddof=1) / errors.mean(0)
  assert (ratios > 0.6).all()
  assert (ratios < 1.4).all()


def test_a_collapsed_posterior_has_no_parts():
  parts = decompose(np.zeros((100, 3)), 1.0)
  for estimate in parts[1:]:
    assert estimate.value == pytest.approx(0.0, abs=1e-4)


def test_a_mixture_prior_that_fits_has_no_kl_where_the_latents_share_all():
  # Two clusters, the same in both latents, and the prior is the mixture of
  # them: KL(q(z) || p(z)) = 0. The latents share log 2 nats, which a
  # "dimension-wise KL", log prod_u q(z_u) - log p(z), would give as -log 2.
  centres = np.array([[-2.0, -2.0], [2.0, 2.0]], np.float32)
  posterior = mixture(np.repeat(centres, 200, axis=0), 0.1)
  prior = tfd.MixtureSameFamily(
    tfd.Categorical(probs=[0.5, 0.5]), mixture(centres, 0.1)
  )
  parts = aggregate.decompose(posterior, prior, 0)
  assert parts.mutual_information.value == pytest.approx(np.log(2), abs=1e-3)
  assert parts.marginal_kl.value == pytest.approx(0.0, abs=1e-3)
  assert parts.total_correlation.value == pytest.approx(np.log(2), abs=1e-3)
  assert parts.dimension_wise_kl is None


def test_the_marginal_kl_to_a_mixture_is_that_of_quadrature():
  # q(z): one normal; p(z): a mixture of two, in one dimension.
  weights, centres, scales = [0.3, 0.7], [-1.0, 1.5], [0.5, 1.0]
  prior = tfd.MixtureSameFamily(
    tfd.Categorical(probs=weights),
    tfd.Independent(
      tfd.Normal(np.float32(centres)[:, None], np.float32(scales)[:, None]), 1
    ),
  )
  parts = aggregate.decompose(mixture(np.full((4000, 1), 0.4), 0.8), prior, 0)

  def integrand(z):
    log_q = scipy.stats.norm.logpdf(z, 0.4, 0.8)
    p = np.dot(weights, scipy.stats.norm.pdf(z, centres, scales))
    return np.exp(log_q) * (log_q - np.log(p))

  expected = scipy.integrate.quad(integrand, -8, 8)[0]
  assert abs(parts.marginal_kl.value - expected) < 4 * parts.marginal_kl.se
  assert parts.mutual_information.value == pytest.approx(0.0, abs=1e-4)


def test_priors_say_whether_their_latents_are_independent():
  prior = priors.standard(2)
  assert aggregate.has_independent_latents(prior)
  key = aggregate.randomness.key(0, aggregate.randomness.Purpose.WEIGHTS, 0)
  assert not aggregate.has_independent_latents(priors.mixture(2, 3, key))


def test_of_large_splits_a_fixed_choice_of_images_is_taken_apart(monkeypatch):
  monkeypatch.setattr(aggregate, 'MOST_IMAGES', 50)
  np.testing.assert_array_equal(aggregate.choose(50), np.arange(50))
  chosen = aggregate.choose(1000)
  np.testing.assert_array_equal(chosen, aggregate.choose(1000))
  assert len(set(chosen)) == 50
  assert (np.diff(chosen) > 0).all()
  # From all over the split, as far as 50 uniform draws are.
  assert 400 < chosen.mean() < 600
  assert chosen.min() >= 0 and chosen.max() < 1000


def test_the_parts_add_up_to_the_rate(monkeypatch):
  monkeypatch.setattr(evaluation, 'BATCH_SIZE', 30)
  model = builders.small_vae(scale='exp')
  images = builders.byte_images(100)
  posterior = aggregate.aggregate_posterior(model, images, 'none', 0)
  assert posterior.batch_shape == (100,)
  parts = aggregate.decompose(posterior, model.prior, 0)
  exact = tfd.kl_divergence(posterior, model.prior).numpy().mean()
  split = parts.total_correlation.value + parts.dimension_wise_kl.value
  assert split == pytest.approx(parts.marginal_kl.value, rel=1e-4, abs=1e-5)
  total = parts.mutual_information.value + parts.marginal_kl.value
  # The parts share one sample of z for each image.
  latents = distributions.sample(
    posterior,
    400,
    aggregate.randomness.key(0, aggregate.randomness.Purpose.PRIOR, 0),
  )
  ratios = posterior.log_prob(latents) - model.prior.log_prob(latents)
  error = np.std(np.mean(ratios, axis=1))
  assert abs(total - exact) < 4 * error


def test_correlated_posteriors_are_taken_apart_too():
  tril = np.array([[1.0, 0.0], [0.8, 0.6]], np.float32)
  posterior = tfd.MultivariateNormalTriL(
    tf.zeros([50, 2]), tf.constant(np.tile(tril, (50, 1, 1)))
  )
  parts = aggregate.decompose(posterior, priors.standard(2), 0)
  assert parts.mutual_information.value == pytest.approx(0.0, abs=1e-4)
  # KL of a bivariate normal of correlation 0.8 to its marginals.
  expected = -0.5 * np.log(1 - 0.8**2)
  assert abs(parts.total_correlation.value - expected) < (
    4 * parts.total_correlation.se
  )


def test_pieces_do_not_change_the_parts(monkeypatch):
  means = np.random.default_rng(0).normal(size=(37, 2))
  whole = decompose(means, 0.3)
  monkeypatch.setattr(aggregate, '_MOST_DENSITIES', 37 * 2 * 5)
  pieces = decompose(means, 0.3)
  np.testing.assert_allclose(whole[1:], pieces[1:], rtol=1e-4, atol=1e-5)


def test_one_image_is_refused():
  with pytest.raises(ValueError, match='at least 2'):
    decompose(np.zeros((1, 2)), 1.0)
