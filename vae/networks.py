"""Networks between data and parameters, and the initial values of weights."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special
import sonnet as snt
import tensorflow as tf

from vae import mode, randomness

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

  def __init__(self, scheme: str, seed: int):
    """Initializes the initializer.

    Args:
      scheme: one of `Initializer.SCHEMES`.
      seed: the run's seed.

    Raises:
      ValueError: a scheme that does not exist.
    """
    if scheme not in self.SCHEMES:
      raise ValueError(f'scheme must be one of {self.SCHEMES}, got {scheme!r}')
    self._scheme = scheme
    self._seed = seed
    self._num_drawn = 0

  def transposed(self) -> snt.initializers.Initializer:
    """For weights whose last two axes are outputs and inputs."""
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
  """Dropout (Srivastava et al. 2014), in training only.

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

  def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
    if not mode.is_training() or not self._rate:
      return inputs
    draws = randomness.uniform(mode.next_key(), tf.shape(inputs))
    kept = inputs / (1.0 - self._rate)
    return tf.where(draws >= self._rate, kept, tf.zeros_like(kept))


# -- Convolutions -------------------------------------------------------------
#
# Encoders map images [B, H, W, C] to [B, *output_shape], decoders latents
# [B, L] to [B, *output_shape] with output_shape [H, W, C']. Each pair fits the
# image sizes that its geometry allows, and says so where one does not fit.


def _image_size(shape: Sequence[int]) -> tuple[int, int]:
  if len(shape) != 3:
    raise ValueError(
      f'convolutions need data of shape [H, W, C], got {tuple(shape)}'
    )
  return shape[0], shape[1]


def _refuse(size: tuple[int, int], what: str, which: str) -> ValueError:
  height, width = size
  return ValueError(f'images of {height}×{width} do not fit {what}: {which}')


class _Layers(snt.Module):
  """Modules and functions, one after the other."""

  def __init__(
    self, layers: Sequence[Callable], output_shape: Sequence[int], name: str
  ):
    super().__init__(name=name)
    self._layers = list(layers)
    self._output_shape = tuple(output_shape)

  def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
    for layer in self._layers:
      inputs = layer(inputs)
    # Transposed convolutions forget their shape where the batch has none.
    return tf.reshape(inputs, [-1, *self._output_shape])


def _strided_sizes(
  size: tuple[int, int], num_layers: int
) -> list[tuple[int, int]]:
  """The sizes before and after each 5x5 convolution of stride 2, VALID."""
  smallest = 1
  for _ in range(num_layers):
    smallest = 2 * (smallest - 1) + 5
  if min(size) < smallest:
    raise _refuse(
      size,
      f'{num_layers} convolutions of 5×5 with stride 2',
      f'the smallest is {smallest}×{smallest}',
    )
  sizes = [size]
  for _ in range(num_layers):
    height, width = sizes[-1]
    sizes.append(((height - 5) // 2 + 1, (width - 5) // 2 + 1))
  return sizes


def strided_conv_encoder(
  data_shape: Sequence[int],
  channels: Sequence[int],
  hidden_sizes: Sequence[int],
  output_shape: Sequence[int],
  activation: Activation = tf.nn.relu,
  w_init: Initializer | None = None,
) -> snt.Module:
  """Convolutions of 5x5 with stride 2, VALID, then dense layers.

  Args:
    data_shape: [H, W, C].
    channels: of each convolution.
    hidden_sizes: width of each dense layer.
    output_shape: shape of one example's output.
    activation: after every layer but the last.
    w_init: initial weights; biases start at zero.

  Raises:
    ValueError: images too small.
  """
  _strided_sizes(_image_size(data_shape), len(channels))
  layers: list[Callable] = []
  for size in channels:
    convolution = snt.Conv2D(size, 5, 2, padding='VALID', w_init=w_init)
    layers += [convolution, activation]
  layers.append(MLP(hidden_sizes, output_shape, activation, w_init))
  return _Layers(layers, output_shape, 'strided_conv_encoder')


def strided_conv_decoder(
  channels: Sequence[int],
  hidden_sizes: Sequence[int],
  output_shape: Sequence[int],
  activation: Activation = tf.nn.relu,
  w_init: Initializer | None = None,
) -> snt.Module:
  """The mirror of `strided_conv_encoder`, with a last convolution of 3x3.

  Args:
    channels: of the encoder's convolutions, in its order.
    hidden_sizes: width of each dense layer, in the decoder's order.
    output_shape: [H, W, C'].
    activation: after every layer but the last.
    w_init: initial weights; biases start at zero.

  Raises:
    ValueError: images too small.
  """
  sizes = _strided_sizes(_image_size(output_shape), len(channels))[::-1]
  start = (*sizes[0], channels[-1])
  layers: list[Callable] = [
    MLP(hidden_sizes, start, activation, w_init),
    activation,
  ]
  for count, size in zip(reversed(channels), sizes[1:], strict=True):
    layers += [
      snt.Conv2DTranspose(
        count,
        5,
        size,
        2,
        padding='VALID',
        w_init=w_init and w_init.transposed(),
      ),
      activation,
    ]
  layers.append(snt.Conv2D(output_shape[-1], 3, w_init=w_init))
  return _Layers(layers, output_shape, 'strided_conv_decoder')


def _pooled_size(size: tuple[int, int], num_layers: int) -> tuple[int, int]:
  """The size after each 3x3 convolution, VALID, with 2x2 max-pooling.

  The decoder doubles and adds two as often, and adds two more; only where that
  leads back to the image's size does the pair fit.
  """
  small, back = list(size), list(size)
  for axis in range(2):
    for _ in range(num_layers):
      small[axis] = (small[axis] - 2) // 2
    back[axis] = small[axis]
    for _ in range(num_layers):
      back[axis] = 2 * back[axis] + 2
    back[axis] += 2
  if min(small) < 1 or tuple(back) != tuple(size):
    smallest = 1
    for _ in range(num_layers):
      smallest = 2 * smallest + 2
    raise _refuse(
      size,
      f'{num_layers} convolutions of 3×3 with pooling',
      f'a side must be {smallest + 2}, or more by a multiple of '
      f'{2**num_layers}',
    )
  return small[0], small[1]


def pooled_conv_encoder(
  data_shape: Sequence[int],
  channels: Sequence[int],
  output_shape: Sequence[int],
  activation: Activation = tf.nn.relu,
  dropout: float = 0.0,
  w_init: Initializer | None = None,
) -> snt.Module:
  """Convolutions of 3x3, VALID, each with 2x2 max-pooling; then dropout.

  Args:
    data_shape: [H, W, C].
    channels: of each convolution.
    output_shape: shape of one example's output.
    activation: after every convolution.
    dropout: rate of the dropout before the linear layer.
    w_init: initial weights; biases start at zero.

  Raises:
    ValueError: an image size that does not fit.
  """
  _pooled_size(_image_size(data_shape), len(channels))
  layers: list[Callable] = []
  for size in channels:
    layers += [
      snt.Conv2D(size, 3, padding='VALID', w_init=w_init),
      activation,
      lambda inputs: tf.nn.max_pool2d(inputs, 2, 2, 'VALID'),
    ]
  layers += [
    snt.flatten,
    Dropout(dropout),
    MLP([], output_shape, w_init=w_init),
  ]
  return _Layers(layers, output_shape, 'pooled_conv_encoder')


def upsampled_conv_decoder(
  channels: Sequence[int],
  output_shape: Sequence[int],
  activation: Activation = tf.nn.relu,
  w_init: Initializer | None = None,
) -> snt.Module:
  """Nearest-neighbour upsampling with transposed convolutions of 3x3, VALID.

  Args:
    channels: of the encoder's convolutions, in its order.
    output_shape: [H, W, C'].
    activation: after every convolution but the last.
    w_init: initial weights; biases start at zero.

  Raises:
    ValueError: an image size that does not fit.
  """
  small = _pooled_size(_image_size(output_shape), len(channels))

  def transpose(size: int) -> snt.Module:
    return snt.Conv2DTranspose(
      size, 3, padding='VALID', w_init=w_init and w_init.transposed()
    )

  def double(inputs: tf.Tensor) -> tf.Tensor:
    return tf.repeat(tf.repeat(inputs, 2, axis=1), 2, axis=2)

  layers: list[Callable] = [MLP([], (*small, channels[-1]), w_init=w_init)]
  for size in reversed(channels):
    layers += [double, transpose(size), activation]
  layers.append(transpose(output_shape[-1]))
  return _Layers(layers, output_shape, 'upsampled_conv_decoder')


def _deep_extent(size: tuple[int, int], num_levels: int) -> tuple[int, int]:
  """The size after halving `num_levels` times."""
  factor = 2**num_levels
  if size[0] % factor or size[1] % factor:
    raise _refuse(
      size,
      f'{num_levels} halvings',
      f'both sides must be multiples of {factor}',
    )
  return size[0] // factor, size[1] // factor


def deep_conv_encoder(
  data_shape: Sequence[int],
  channels: Sequence[int],
  output_shape: Sequence[int],
  activation: Activation = tf.nn.leaky_relu,
  w_init: Initializer | None = None,
) -> snt.Module:
  """Pairs of 5x5 convolutions, SAME, the second of each with stride 2.

  The last convolution spans what is left of the image (7x7 for 28x28 pixels
  and two pairs). The input is shifted by -0.5.

  Args:
    data_shape: [H, W, C].
    channels: of each pair.
    output_shape: shape of one example's output.
    activation: after every convolution.
    w_init: initial weights; biases start at zero.

  Raises:
    ValueError: an image size that cannot be halved as often.
  """
  extent = _deep_extent(_image_size(data_shape), len(channels))
  layers: list[Callable] = [lambda inputs: inputs - 0.5]
  for size in channels:
    for stride in (1, 2):
      layers += [snt.Conv2D(size, 5, stride, w_init=w_init), activation]
  layers += [
    snt.Conv2D(channels[-1], extent, padding='VALID', w_init=w_init),
    activation,
    MLP([], output_shape, w_init=w_init),
  ]
  return _Layers(layers, output_shape, 'deep_conv_encoder')


def deep_conv_decoder(
  channels: Sequence[int],
  output_shape: Sequence[int],
  activation: Activation = tf.nn.leaky_relu,
  w_init: Initializer | None = None,
) -> snt.Module:
  """The mirror of `deep_conv_encoder`, with one more layer at full size.

  Args:
    channels: of the encoder's pairs, in its order.
    output_shape: [H, W, C'].
    activation: after every convolution but the last.
    w_init: initial weights; biases start at zero.

  Raises:
    ValueError: an image size that cannot be halved as often.
  """
  extent = _deep_extent(_image_size(output_shape), len(channels))

  def transpose(
    size: int, kernel: int | tuple[int, int], stride: int, padding: str
  ) -> list[Callable]:
    return [
      snt.Conv2DTranspose(
        size,
        kernel,
        stride=stride,
        padding=padding,
        w_init=w_init and w_init.transposed(),
      ),
      activation,
    ]

  def as_pixel(latents: tf.Tensor) -> tf.Tensor:
    return latents[:, None, None, :]

  layers: list[Callable] = [
    as_pixel,
    *transpose(channels[-1], extent, 1, 'VALID'),
  ]
  for size in reversed(channels):
    layers += transpose(size, 5, 1, 'SAME') + transpose(size, 5, 2, 'SAME')
  layers += [
    *transpose(channels[0], 5, 1, 'SAME'),
    snt.Conv2D(output_shape[-1], 5, w_init=w_init),
  ]
  return _Layers(layers, output_shape, 'deep_conv_decoder')
