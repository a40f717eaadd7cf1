"""Networks between data and parameters, and the initial values of weights."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special
import sonnet as snt
import tensorflow as tf

from vae import randomness, replicas

Activation = Callable[[tf.Tensor], tf.Tensor]


class Initializer(snt.initializers.Initializer):
  """Initial weights that depend on nothing but a seed and their own place.

  Sonnet's initializers draw from TensorFlow's global generator; this one draws
  the n-th weight that it is asked for from (seed, WEIGHTS, n), so that building
  a model twice with a seed gives the same bits.

  Schemes, where a weight has `fan_in` inputs and `fan_out` outputs:
    `sonnet`: Sonnet's default, normal with standard deviation
      fan_in**-0.5, truncated at two standard deviations.
    `glorot_uniform`: uniform on ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio
      2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16).
    `he_uniform`: uniform on ±sqrt(6 / fan_in) (He et al. 2015,
      https://arxiv.org/abs/1502.01852).
  """

  SCHEMES = ('sonnet', 'glorot_uniform', 'he_uniform')

  def __init__(self, scheme: str, seed: int, first: int = 0):
    """Initializes the initializer.

    Args:
      scheme: one of `Initializer.SCHEMES`.
      seed: the run's seed.
      first: the number of the first weight, so that two networks of a seed
        need not start alike.

    Raises:
      ValueError: a scheme that does not exist.
    """
    if scheme not in self.SCHEMES:
      raise ValueError(f'scheme must be one of {self.SCHEMES}, got {scheme!r}')
    self._scheme = scheme
    self._seed = seed
    self._num_drawn = first

  def transposed(self) -> snt.initializers.Initializer:
    """Returns it for weights whose last two axes are outputs and inputs."""
    return lambda shape, dtype: self._draw(shape, shape[-1], shape[-2], dtype)

  def __call__(self, shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """Draws a weight whose last two axes are inputs and outputs."""
    return self._draw(shape, shape[-2], shape[-1], dtype)

  def _draw(
    self, shape: Sequence[int], inputs: int, outputs: int, dtype: tf.DType
  ) -> tf.Tensor:
    generator = randomness.host_generator(
      self._seed, randomness.Purpose.WEIGHTS, self._num_drawn
    )
    self._num_drawn += 1
    receptive_field = math.prod(shape[:-2])
    fan_in, fan_out = receptive_field * inputs, receptive_field * outputs
    if self._scheme == 'sonnet':
      low, high = scipy.special.ndtr([-2.0, 2.0])
      draws = scipy.special.ndtri(generator.uniform(low, high, shape))
      draws *= fan_in**-0.5
    elif self._scheme == 'glorot_uniform':
      limit = math.sqrt(6.0 / (fan_in + fan_out))
      draws = generator.uniform(-limit, limit, shape)
    else:
      limit = math.sqrt(6.0 / fan_in)
      draws = generator.uniform(-limit, limit, shape)
    return tf.constant(draws.astype(np.float32), dtype)


class Zeros(Initializer):
  """Zeros of any size, for a network that is traced and never run."""

  def __init__(self):
    """Initializes the initializer."""
    super().__init__('sonnet', 0)

  def _draw(
    self, shape: Sequence[int], inputs: int, outputs: int, dtype: tf.DType
  ) -> tf.Tensor:
    return tf.zeros(shape, dtype)


class MLP(snt.Module):
  """Dense layers from one shape to another, [B, ...] to [B, *output_shape].

  The input is flattened, passed through the hidden layers, each followed by
  the activation, and through a last linear layer whose output is reshaped. It
  serves as encoder ([H, W, C] to [2 L]) and as decoder ([L] to [H, W, C]).
  """

  def __init__(
    self,
    hidden_sizes: Sequence[int],
    output_shape: Sequence[int],
    activation: Activation = tf.nn.relu,
    w_init: snt.initializers.Initializer | None = None,
    output_bias: np.ndarray | None = None,
    name: str | None = None,
  ):
    """Initializes the network.

    Args:
      hidden_sizes: width of each hidden layer; empty for a linear map.
      output_shape: shape of one example's output.
      activation: applied after every hidden layer.
      w_init: initial weights.
      output_bias: initial biases of the last layer, of `output_shape`; all
        other biases, and these by default, start at zero.
      name: name of the module.

    Raises:
      ValueError: a size below 1.
    """
    super().__init__(name=name)
    if any(size < 1 for size in (*hidden_sizes, *output_shape)):
      raise ValueError(
        'sizes must be at least 1, got '
        f'hidden_sizes={tuple(hidden_sizes)}, output_shape={output_shape}'
      )
    self._output_shape = tuple(output_shape)
    self._hidden = snt.nets.MLP(
      hidden_sizes, w_init=w_init, activation=activation, activate_final=True
    )
    self._output = snt.Linear(
      math.prod(output_shape),
      w_init=w_init,
      b_init=None
      if output_bias is None
      else lambda shape, dtype: tf.constant(output_bias, dtype, shape),
    )

  def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
    """Maps [B, ...] to [B, *output_shape]."""
    outputs = self._output(self._hidden(snt.flatten(inputs)))
    return tf.reshape(outputs, [-1, *self._output_shape])


class Dropout(snt.Module):
  """Dropout (Srivastava et al. 2014), where there is a key: in training.

  https://jmlr.org/papers/v15/srivastava14a.html. Zeroes each number with
  probability `rate` and divides the others by `1 - rate`.
  """

  def __init__(self, rate: float, name: str | None = None):
    """Initializes the layer.

    Args:
      rate: the probability of a zero, in [0, 1).
      name: name of the module.

    Raises:
      ValueError: a rate outside [0, 1).
    """
    super().__init__(name=name)
    if not 0.0 <= rate < 1.0:
      raise ValueError(f'rate must lie in [0, 1), got {rate}')
    self._rate = rate

  def __call__(self, inputs: tf.Tensor, key: tf.Tensor | None) -> tf.Tensor:
    """Drops numbers of [...].

    Args:
      inputs: any shape.
      key: of this layer's noise at this step; None outside of training.
    """
    if key is None or not self._rate:
      return inputs
    draws = replicas.drawn(
      functools.partial(randomness.uniform, key), tf.shape(inputs)
    )
    kept = inputs / (1.0 - self._rate)
    return tf.where(draws >= self._rate, kept, tf.zeros_like(kept))
