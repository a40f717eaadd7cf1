import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from vae import compilation, randomness

KEY = (7, randomness.Purpose.POSTERIOR, 3)


def test_uniform_has_the_same_bits_with_and_without_xla():
  def draw():
    return randomness.uniform(randomness.key(*KEY), [1000])

  eager = draw().numpy()
  np.testing.assert_array_equal(eager, tf.function(draw)().numpy())
  np.testing.assert_array_equal(
    eager, tf.function(draw, jit_compile=True)().numpy()
  )


@pytest.mark.parametrize('shape', [[1], [4], [3, 7], [2, 5, 1001]])
@pytest.mark.parametrize('key', [KEY, (2**31, 255, 2**32 - 1), (0, 0, 0)])
def test_words_are_the_same_in_a_program_of_xla(shape, key):
  draw = lambda: randomness.bits(randomness.key(*key), shape)
  for_xla = compilation.compiled(draw, jit=True)
  assert 'StatelessRandom' not in str(
    for_xla.get_concrete_function().graph.as_graph_def()
  )
  np.testing.assert_array_equal(for_xla().numpy(), draw().numpy())


@pytest.mark.parametrize(
  ('counter', 'key', 'words'),
  [
    (
      [0, 0, 0, 0],
      [0, 0],
      [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
    ),
    (
      [0xFFFFFFFF] * 4,
      [0xFFFFFFFF] * 2,
      [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    (
      [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
      [0xA4093822, 0x299F31D0],
      [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
  ],
)
def test_philox_has_the_known_answers_of_its_authors(counter, key, words):
  """Those of Random123, kat_vectors."""
  actual = randomness.philox(
    tf.constant(counter, tf.uint32), tf.constant(key, tf.uint32)
  )
  assert [int(word) for word in actual] == words


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
