import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tests.vae import builders
from vae import distributions, randomness, terms
from vae.metrics import evaluation, importance

IMAGES = builders.byte_images(7)


def reference(model, seed, count):
  """L_k of each image by NumPy, from the same draws, all held at once."""
  bounds, sizes = [], []
  for valid, batch, floats, _ in evaluation.fixed_batches(
    IMAGES, 'dynamic', seed
  ):
    posterior = model.encode(floats)
    weights = []
    for chunk in range(-(-count // importance._CHUNK)):
      key = randomness.key(
        seed, randomness.Purpose.EVALUATION_IMPORTANCE, batch
      )
      key += tf.constant([0, chunk * 2**40], tf.int64)
      latents = distributions.sample(posterior, importance._CHUNK, key)
      distortions = -model.decode(latents).log_prob(floats)
      weights.append(terms.log_weights(model, posterior, latents, distortions))
    weights = np.concatenate(weights)[:count, :valid].astype(np.float64)
    total = scipy.special.logsumexp(weights, axis=0)
    bounds.append(total - np.log(count))
    sizes.append(
      np.exp(2 * total - scipy.special.logsumexp(2 * weights, axis=0))
    )
  return np.concatenate(bounds), np.concatenate(sizes)


@pytest.mark.parametrize('jit', [False, True])
def test_running_sums_are_what_numpy_makes_of_all_weights(monkeypatch, jit):
  monkeypatch.setattr(evaluation, 'BATCH_SIZE', 3)  # Ragged: 3, 3, 1.
  model = builders.small_vae(scale='exp')
  counts = [1, 6, 8, 41]
  bounds = importance.Estimator(model, jit)(IMAGES, 'dynamic', 5, counts)
  assert [bound.num_samples for bound in bounds] == counts
  for bound in bounds:
    values, sizes = reference(model, 5, bound.num_samples)
    assert len(values) == len(IMAGES)
    assert bound.log_p.value == pytest.approx(values.mean(), rel=1e-4)
    assert bound.log_p.se == pytest.approx(
      values.std(ddof=1) / np.sqrt(len(values)), rel=1e-3
    )
    assert bound.ess == pytest.approx(sizes.mean(), rel=1e-3)
    assert bound.bias == pytest.approx(
      (1 / sizes - 1 / bound.num_samples).mean() / 2, rel=1e-2, abs=1e-6
    )
    assert bound.degenerate == (sizes < 10).mean()


def test_which_counts_are_asked_for_changes_no_estimate():
  model = builders.small_vae()
  estimator = importance.Estimator(model, False)
  alone = estimator(IMAGES, 'dynamic', 0, [30])
  among = estimator(IMAGES, 'dynamic', 0, [1, 7, 30])
  assert alone[0] == among[2]


def test_progress_reaches_the_number_of_images():
  seen = []
  importance.Estimator(builders.small_vae(), False)(
    IMAGES, 'dynamic', 0, [2], seen.append
  )
  assert seen == [7]


def test_counts_are_powers_of_ten_up_to_the_last():
  assert importance.sample_counts(5000) == [1, 10, 100, 1000, 5000]
  assert importance.sample_counts(10) == [1, 10]
  assert importance.sample_counts(1) == [1]
  with pytest.raises(ValueError, match='at least 1'):
    importance.sample_counts(0)


def test_what_cannot_be_estimated_is_refused():
  estimator = importance.Estimator(builders.small_vae(), False)
  for counts in ([], [0], [2**25]):
    with pytest.raises(ValueError, match='sample counts must lie in'):
      estimator(IMAGES, 'dynamic', 0, counts)
