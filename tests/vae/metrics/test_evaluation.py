import numpy as np
import pytest
import tensorflow as tf

from tests.vae import builders
from vae import priors
from vae.data import batches, bits
from vae.metrics import evaluation


def test_packed_images_evaluate_to_the_same_bits(monkeypatch):
  monkeypatch.setattr(evaluation, 'BATCH_SIZE', 4)
  model = builders.small_vae()
  images = (builders.byte_images(10) > 127) * np.uint8(255)
  packed = bits.PackedImages(bits.pack(images), images.shape[1:])
  evaluator = evaluation.Evaluator(model)
  one, other = (evaluator(data, 'none', seed=3) for data in (images, packed))
  assert one.elbo == other.elbo
  np.testing.assert_array_equal(one.means, other.means)


def test_every_image_counts_once_in_a_ragged_split(monkeypatch):
  monkeypatch.setattr(evaluation, 'BATCH_SIZE', 4)
  model = builders.small_vae()
  images = builders.byte_images(10)
  result = evaluation.Evaluator(model)(images, 'none', seed=3)

  rates, distortions = [], []
  for count, _, floats, key in evaluation.fixed_batches(images, 'none', 3):
    measured = builders.elbo_terms(model, floats, key)
    rates.append(measured.rate.numpy()[:count])
    distortions.append(measured.distortion.numpy()[:count])
  rates, distortions = np.concatenate(rates), np.concatenate(distortions)
  assert len(rates) == result.num_images == 10
  assert result.rate.value == pytest.approx(rates.mean(), rel=1e-5)
  assert result.distortion.value == pytest.approx(distortions.mean(), rel=1e-5)
  elbos = -(rates + distortions)
  assert result.elbo.value == pytest.approx(elbos.mean(), rel=1e-5)
  assert result.elbo.se == pytest.approx(
    elbos.std(ddof=1) / np.sqrt(10), rel=1e-4
  )


def test_the_batches_hold_every_image_in_order(monkeypatch):
  monkeypatch.setattr(evaluation, 'BATCH_SIZE', 4)
  images = builders.byte_images(10)
  parts = [
    floats.numpy()[:count]
    for count, _, floats, _ in evaluation.fixed_batches(images, 'none', 0)
  ]
  assert [len(part) for part in parts] == [4, 4, 2]
  np.testing.assert_allclose(np.concatenate(parts), images / 255, rtol=1e-6)


def test_batches_of_large_images_hold_fewer(monkeypatch):
  assert evaluation.batch_size((128, 128, 3)) == evaluation.BATCH_SIZE
  assert 20 * evaluation.batch_size((1024, 1024, 3)) < evaluation.BATCH_SIZE
  assert evaluation.batch_size((2**14, 2**14, 3)) == 1
  images = builders.byte_images(10)
  monkeypatch.setattr(evaluation, 'BATCH_VALUES', 4 * images[0].size + 1)
  found = evaluation.fixed_batches(images, 'none', 0)
  assert [count for count, *_ in found] == [4, 4, 2]


def test_binary_targets_are_those_of_every_seed_and_noise_is_a_seeds_own(
  monkeypatch,
):
  monkeypatch.setattr(evaluation, 'BATCH_SIZE', 4)
  images = np.full((8, *builders.SHAPE), 128, np.uint8)

  def draw(seed):
    found = evaluation.fixed_batches(images, 'dynamic', seed)
    _, _, floats, keys = zip(*found, strict=True)
    return np.array(floats), np.array(keys)

  (first, keys), (again, same), (other, others) = draw(0), draw(0), draw(1)
  np.testing.assert_array_equal(first, again)
  np.testing.assert_array_equal(first, other)
  np.testing.assert_array_equal(keys, same)
  assert (first[0] != first[1]).any()
  assert (keys != others).any()
  assert len(np.unique(keys, axis=0)) == 2


def test_rate_per_latent_adds_up_to_the_rate():
  model = builders.small_vae()
  images = builders.byte_images(20)
  result = evaluation.Evaluator(model)(images, 'none', 0)
  assert result.rate_per_latent.shape == (3,)
  assert result.rate_per_latent.sum() == pytest.approx(
    result.rate.value, rel=1e-5
  )
  posterior = model.encode(batches.to_float(tf.constant(images), 'none', None))
  mean, std = posterior.mean().numpy(), posterior.stddev().numpy()
  expected = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).mean(0)
  np.testing.assert_allclose(result.rate_per_latent, expected, rtol=1e-4)


def test_active_units_are_those_whose_posterior_mean_moves():
  means = np.zeros((1000, 3), np.float32)
  means[:, 1] = np.random.default_rng(0).normal(0.0, 0.09, 1000)  # 0.0081
  means[:, 2] = np.random.default_rng(1).normal(5.0, 0.11, 1000)  # 0.0121
  nothing = evaluation.Estimate(0.0, 0.0)
  result = evaluation.Evaluation(
    1000, nothing, nothing, nothing, nothing, means, np.ones_like(means)
  )
  assert result.active_units == 1
  np.testing.assert_allclose(result.mean_variance, means.var(0), rtol=1e-4)


def test_more_samples_estimate_the_same_distortion():
  model = builders.small_vae()
  images = builders.byte_images(500)
  one = evaluation.Evaluator(model)(images, 'none', 0)
  many = evaluation.Evaluator(model, num_samples=50)(images, 'none', 0)
  assert one.rate == many.rate
  assert (
    abs(one.distortion.value - many.distortion.value) < 3 * one.distortion.se
  )


def test_the_standard_error_covers_what_it_claims():
  generator = np.random.default_rng(0)
  covered = 0
  for _ in range(2000):
    estimate = evaluation.estimate(generator.exponential(size=100))
    covered += abs(estimate.value - 1.0) < 1.96 * estimate.se
  # 0.95 for normal data; a little less for data this skewed.
  assert 0.91 < covered / 2000 < 0.97


def test_estimates_of_bad_shapes_are_refused():
  with pytest.raises(ValueError, match=r'shape \[N\]'):
    evaluation.estimate(np.zeros((3, 1)))
  with pytest.raises(ValueError, match=r'shape \[N\]'):
    evaluation.estimate(np.zeros(0))
  assert np.isnan(evaluation.estimate(np.zeros(1)).se)


def test_standard_normal_posterior_has_no_rate():
  posterior = priors.standard(3)
  assert np.all(posterior.mean() == 0)
  assert np.all(posterior.stddev() == 1)
