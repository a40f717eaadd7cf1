import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from vae import randomness

KEY = (7, randomness.Purpose.POSTERIOR, 3)


def test_uniform_has_the_same_bits_with_and_without_xla():
  def draw():
    return randomness.uniform(randomness.key(*KEY), [1000])

  eager = draw().numpy()
  np.testing.assert_array_equal(eager, tf.function(draw)().numpy())
  np.testing.assert_array_equal(
    eager, tf.function(draw, jit_compile=True)().numpy()
  )


def test_normal_agrees_with_and_without_xla():
  def draw():
    return randomness.normal(randomness.key(*KEY), [1001])

  np.testing.assert_allclose(
    draw().numpy(), tf.function(draw, jit_compile=True)().numpy(), atol=1e-4
  )


def test_normal_is_the_box_muller_transform_of_the_words():
  key = randomness.key(*KEY)
  words = randomness.bits(key, [2, 5]).numpy().view(np.uint32) >> 8
  u, v = (words[0] + 1) / 2**24, words[1] / 2**24
  radius = np.sqrt(-2 * np.log(u))
  expected = np.concatenate(
    [radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)]
  )
  actual = randomness.normal(key, [3, 3]).numpy()
  np.testing.assert_allclose(actual.ravel(), expected[:9], atol=1e-5)


@pytest.mark.parametrize(
  ('draw', 'distribution'),
  [(randomness.uniform, 'uniform'), (randomness.normal, 'norm')],
)
def test_draws_follow_their_distribution(draw, distribution):
  draws = draw(randomness.key(*KEY), [100_000]).numpy()
  assert scipy.stats.kstest(draws, distribution).pvalue > 0.01


def test_uniform_lies_in_the_half_open_interval():
  draws = randomness.uniform(randomness.key(*KEY), [200_000]).numpy()
  assert draws.min() >= 0.0
  assert draws.max() < 1.0


@pytest.mark.parametrize(
  'other',
  [
    (8, randomness.Purpose.POSTERIOR, 3),
    (7, randomness.Purpose.BINARISATION, 3),
    (7, randomness.Purpose.POSTERIOR, 4),
  ],
)
def test_seed_purpose_and_step_each_change_the_draw(other):
  one = randomness.normal(randomness.key(*KEY), [100_000]).numpy()
  two = randomness.normal(randomness.key(*other), [100_000]).numpy()
  assert abs(np.corrcoef(one, two)[0, 1]) < 0.02


def test_host_generator_is_a_function_of_its_arguments():
  draws = [
    randomness.host_generator(1, randomness.Purpose.SPLIT, step).random(4)
    for step in (0, 0, 1)
  ]
  np.testing.assert_array_equal(draws[0], draws[1])
  assert (draws[0] != draws[2]).all()
