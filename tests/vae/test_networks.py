import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from vae import networks


def test_mlp_computes_what_numpy_computes():
  w_init = networks.Initializer('sonnet', 0)
  mlp = networks.MLP([7, 5], [2, 3], tf.nn.relu, w_init)
  images = np.random.default_rng(0).normal(size=(4, 2, 2, 1))
  actual = mlp(tf.constant(images, tf.float32)).numpy()
  hidden = images.reshape(4, 4)
  weights = [v.numpy() for v in mlp.trainable_variables]
  by_shape = {w.shape: w for w in weights}
  hidden = np.maximum(hidden @ by_shape[4, 7], 0)
  hidden = np.maximum(hidden @ by_shape[7, 5], 0)
  expected = (hidden @ by_shape[5, 6]).reshape(4, 2, 3)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('sizes', [[0], [5, -1]])
def test_mlp_refuses_sizes_below_one(sizes):
  with pytest.raises(ValueError, match='at least 1'):
    networks.MLP(sizes, [3])


@pytest.mark.parametrize(
  ('scheme', 'distribution'),
  [
    ('sonnet', scipy.stats.truncnorm(-2, 2, scale=300**-0.5)),
    (
      'glorot_uniform',
      scipy.stats.uniform(-np.sqrt(6 / 500), 2 * np.sqrt(6 / 500)),
    ),
    (
      'he_uniform',
      scipy.stats.uniform(-np.sqrt(6 / 300), 2 * np.sqrt(6 / 300)),
    ),
  ],
)
def test_weights_follow_their_scheme(scheme, distribution):
  weights = networks.Initializer(scheme, 0)([300, 200], tf.float32).numpy()
  assert scipy.stats.kstest(weights.ravel(), distribution.cdf).pvalue > 0.01


def test_fans_of_a_convolution_count_its_receptive_field():
  weights = networks.Initializer('he_uniform', 0)([5, 5, 8, 16], tf.float32)
  limit = np.sqrt(6 / (5 * 5 * 8))
  assert 0.99 * limit < np.abs(weights).max() <= limit


def test_weights_depend_on_seed_and_place_alone():
  def draw(seed):
    initializer = networks.Initializer('sonnet', seed)
    return [initializer([3, 4], tf.float32).numpy() for _ in range(2)]

  first, again, other = draw(1), draw(1), draw(2)
  np.testing.assert_array_equal(first, again)
  assert (first[0] != first[1]).all()
  assert (first[0] != other[0]).all()


def test_unknown_scheme_is_refused():
  with pytest.raises(ValueError, match='magic'):
    networks.Initializer('magic', 0)


def test_output_bias_is_where_the_output_starts():
  bias = np.arange(6, dtype=np.float32).reshape(2, 3)
  w_init = networks.Initializer('sonnet', 0)
  mlp = networks.MLP([4], [2, 3], w_init=w_init, output_bias=bias)
  np.testing.assert_array_equal(mlp(tf.zeros([1, 5]))[0], bias)
