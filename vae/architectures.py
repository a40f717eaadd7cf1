"""Encoders and decoders, in pairs.

Encoders map data [B, *data_shape] to [B, *output_shape], decoders latents
[B, L] to [B, *output_shape]. Convolutions need data of shape [H, W, C]; each
pair of them fits the image sizes that its geometry allows, and says so where
one does not fit.

Each public function here named `NAME_encoder` or `NAME_decoder` is a value of
`--encoder` or `--decoder`, and of `--network` where both are there. By keyword
it takes any of these, and any setting of `launch.settings.config`:

  data_shape: of one example, [H, W, C] for convolutions.
  output_shape: of one example's output; of a decoder's, [H, W, C'].
  hidden_sizes: widths of the encoder's dense layers, in its order.
  channels: of the encoder's convolutions or pairs of them, in its order.
  activation: a function, after every layer but the last.
  dropout: rate of the dropout before the encoder's last layer.
  w_init: initial weights. Biases start at zero.
  output_bias: initial biases of a decoder's output, of `output_shape`.

It raises PartError for images of a size that does not fit.
"""

from collections.abc import Callable, Sequence

import numpy as np
import sonnet as snt
import tensorflow as tf

from vae import errors, networks, randomness


def mlp_encoder(
  hidden_sizes: Sequence[int],
  output_shape: Sequence[int],
  activation: networks.Activation = tf.nn.relu,
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """Dense layers, for data of any shape."""
  return networks.MLP(hidden_sizes, output_shape, activation, w_init)


def mlp_decoder(
  hidden_sizes: Sequence[int],
  output_shape: Sequence[int],
  activation: networks.Activation = tf.nn.relu,
  w_init: networks.Initializer | None = None,
  output_bias: np.ndarray | None = None,
) -> snt.Module:
  """The mirror of `mlp_encoder`."""
  return networks.MLP(
    hidden_sizes[::-1], output_shape, activation, w_init, output_bias
  )


def _image_size(shape: Sequence[int]) -> tuple[int, int]:
  if len(shape) != 3:
    raise errors.PartError(
      f'convolutions need data of shape [H, W, C], got {tuple(shape)}'
    )
  return shape[0], shape[1]


def _refuse(size: tuple[int, int], what: str, which: str) -> errors.PartError:
  height, width = size
  return errors.PartError(
    f'images of {height}×{width} do not fit {what}: {which}'
  )


class _Layers(snt.Module):
  """Modules and functions, one after the other; in training with a key."""

  takes_key = True

  def __init__(
    self, layers: Sequence[Callable], output_shape: Sequence[int], name: str
  ):
    super().__init__(name=name)
    self._layers = list(layers)
    self._output_shape = tuple(output_shape)

  def __call__(
    self, inputs: tf.Tensor, key: tf.Tensor | None = None
  ) -> tf.Tensor:
    num_drawn = 0  # A key of its own for each layer that draws.
    for layer in self._layers:
      if isinstance(layer, networks.Dropout):
        own = None if key is None else randomness.fold(key, num_drawn)
        inputs = layer(inputs, own)
        num_drawn += 1
      else:
        inputs = layer(inputs)
    # Transposed convolutions forget their shape where the batch has none.
    return tf.reshape(inputs, [-1, *self._output_shape])


def _transposed(
  channels: int,
  kernel: int | tuple[int, int],
  w_init: networks.Initializer | None,
  stride: int = 1,
  padding: str = 'SAME',
  output_shape: tuple[int, int] | None = None,
) -> snt.Module:
  """A transposed convolution, whose weights have their axes swapped."""
  return snt.Conv2DTranspose(
    channels,
    kernel,
    output_shape,
    stride,
    padding=padding,
    w_init=w_init and w_init.transposed(),
  )


def _strided_sizes(
  size: tuple[int, int], num_layers: int
) -> list[tuple[int, int]]:
  """The sizes before and after each 5x5 convolution of stride 2, VALID."""
  smallest = 4 * 2**num_layers - 3
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
  activation: networks.Activation = tf.nn.relu,
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """Convolutions of 5x5 with stride 2, VALID, then dense layers."""
  _strided_sizes(_image_size(data_shape), len(channels))
  layers: list[Callable] = []
  for size in channels:
    convolution = snt.Conv2D(size, 5, 2, padding='VALID', w_init=w_init)
    layers += [convolution, activation]
  layers.append(networks.MLP(hidden_sizes, output_shape, activation, w_init))
  return _Layers(layers, output_shape, 'strided_conv_encoder')


def strided_conv_decoder(
  channels: Sequence[int],
  hidden_sizes: Sequence[int],
  output_shape: Sequence[int],
  activation: networks.Activation = tf.nn.relu,
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """The mirror of `strided_conv_encoder`, with a last convolution of 3x3."""
  sizes = _strided_sizes(_image_size(output_shape), len(channels))[::-1]
  start = (*sizes[0], channels[-1])
  layers: list[Callable] = [
    networks.MLP(hidden_sizes[::-1], start, activation, w_init),
    activation,
  ]
  for count, size in zip(reversed(channels), sizes[1:], strict=True):
    layers += [
      _transposed(count, 5, w_init, 2, 'VALID', output_shape=size),
      activation,
    ]
  layers.append(snt.Conv2D(output_shape[-1], 3, w_init=w_init))
  return _Layers(layers, output_shape, 'strided_conv_decoder')


def _pooled_size(size: tuple[int, int], num_layers: int) -> tuple[int, int]:
  """The size after each 3x3 convolution, VALID, with 2x2 max-pooling.

  The decoder doubles and adds two as often, and adds two more; only where that
  leads back to the image's size does the pair fit.
  """
  small = list(size)
  for _ in range(num_layers):
    small = [(side - 2) // 2 for side in small]
  scale = 2**num_layers
  if min(small) < 1 or [scale * (side + 2) for side in small] != list(size):
    raise _refuse(
      size,
      f'{num_layers} convolutions of 3×3 with pooling',
      f'a side must be {3 * scale}, or more by a multiple of {scale}',
    )
  return small[0], small[1]


def pooled_conv_encoder(
  data_shape: Sequence[int],
  channels: Sequence[int],
  output_shape: Sequence[int],
  activation: networks.Activation = tf.nn.relu,
  dropout: float = 0.0,
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """Convolutions of 3x3, VALID, each with 2x2 max-pooling; then dropout."""
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
    networks.Dropout(dropout),
    networks.MLP([], output_shape, w_init=w_init),
  ]
  return _Layers(layers, output_shape, 'pooled_conv_encoder')


def pooled_conv_decoder(
  channels: Sequence[int],
  output_shape: Sequence[int],
  activation: networks.Activation = tf.nn.relu,
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """Nearest-neighbour upsampling with transposed convolutions of 3x3, VALID.

  Before them comes a dense layer without activation.
  """
  small = _pooled_size(_image_size(output_shape), len(channels))

  def double(inputs: tf.Tensor) -> tf.Tensor:
    return tf.repeat(tf.repeat(inputs, 2, axis=1), 2, axis=2)

  layers: list[Callable] = [
    networks.MLP([], (*small, channels[-1]), w_init=w_init)
  ]
  for size in reversed(channels):
    layers += [double, _transposed(size, 3, w_init, 1, 'VALID'), activation]
  layers.append(_transposed(output_shape[-1], 3, w_init, 1, 'VALID'))
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
  activation: networks.Activation = tf.nn.leaky_relu,
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """Pairs of 5x5 convolutions, SAME, the second of each with stride 2.

  The last convolution spans what is left of the image (7x7 for 28x28 pixels
  and two pairs). The input is shifted by -0.5.
  """
  extent = _deep_extent(_image_size(data_shape), len(channels))
  layers: list[Callable] = [lambda inputs: inputs - 0.5]
  for size in channels:
    for stride in (1, 2):
      layers += [snt.Conv2D(size, 5, stride, w_init=w_init), activation]
  layers += [
    snt.Conv2D(channels[-1], extent, padding='VALID', w_init=w_init),
    activation,
    networks.MLP([], output_shape, w_init=w_init),
  ]
  return _Layers(layers, output_shape, 'deep_conv_encoder')


def deep_conv_decoder(
  channels: Sequence[int],
  output_shape: Sequence[int],
  activation: networks.Activation = tf.nn.leaky_relu,
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """The mirror of `deep_conv_encoder`, with one more layer at full size."""
  extent = _deep_extent(_image_size(output_shape), len(channels))
  layers: list[Callable] = [
    lambda latents: latents[:, None, None, :],  # As a pixel.
    _transposed(channels[-1], extent, w_init, 1, 'VALID'),
    activation,
  ]
  for size in reversed(channels):
    for stride in (1, 2):
      layers += [_transposed(size, 5, w_init, stride), activation]
  layers += [
    _transposed(channels[0], 5, w_init),
    activation,
    snt.Conv2D(output_shape[-1], 5, w_init=w_init),
  ]
  return _Layers(layers, output_shape, 'deep_conv_decoder')


# -- The networks of two studies ----------------------------------------------


def _halvings(size: tuple[int, int]) -> int:
  """Counts how often the shorter side can be halved down to 4."""
  count = (min(size) // 4).bit_length() - 1
  if (
    count < 1
    or any(side % 2**count for side in size)
    or min(size) != (4 << count)
  ):
    raise _refuse(
      size,
      'halving down to 4',
      'the shorter side must be 8, 16, 32, 64, ..., and the other a multiple '
      'of a quarter of it',
    )
  return count


def burgess_conv_encoder(
  data_shape: Sequence[int],
  output_shape: Sequence[int],
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """Convolutions of 32 channels, 4x4 with stride 2, down to 4x4; then 256, 256.

  Burgess et al. 2018 (https://arxiv.org/abs/1804.03599), section A.1: relu
  after every layer but the last; at 64x64, one channel and ten latents 252,052
  parameters. Meant for `--init=he_uniform`.
  """
  layers: list[Callable] = []
  for _ in range(_halvings(_image_size(data_shape))):
    layers += [snt.Conv2D(32, 4, 2, w_init=w_init), tf.nn.relu]
  layers.append(networks.MLP([256, 256], output_shape, w_init=w_init))
  return _Layers(layers, output_shape, 'burgess_conv_encoder')


def burgess_conv_decoder(
  output_shape: Sequence[int], w_init: networks.Initializer | None = None
) -> snt.Module:
  """The mirror of `burgess_conv_encoder`; 249,953 parameters, likewise."""
  size = _image_size(output_shape)
  count = _halvings(size)
  start = (size[0] >> count, size[1] >> count, 32)
  layers = _upwards(
    start, [256, 256], [32] * (count - 1) + [output_shape[-1]], w_init
  )
  return _Layers(layers, output_shape, 'burgess_conv_decoder')


def _upwards(
  start: tuple[int, int, int],
  hidden_sizes: Sequence[int],
  channels: Sequence[int],
  w_init: networks.Initializer | None,
) -> list[Callable]:
  """Dense layers to `start`, then doublings by transposed 4x4 convolutions."""
  layers: list[Callable] = [networks.MLP(hidden_sizes, start, w_init=w_init)]
  for size in channels:
    layers += [tf.nn.relu, _transposed(size, 4, w_init, 2)]
  return layers


def locatello_conv_encoder(
  data_shape: Sequence[int],
  output_shape: Sequence[int],
  w_init: networks.Initializer | None = None,
) -> snt.Module:
  """Convolutions 32, 32 of 4x4 and 64, 64 of 2x2 with stride 2; then 256.

  The network of Locatello et al. 2019 (https://arxiv.org/abs/1811.12359), as
  its code has it: relu after every layer but the last; at 64x64, one channel
  and ten latents 309,204 parameters. Meant for `--init=glorot_uniform`.
  """
  _deep_extent(_image_size(data_shape), 4)
  layers: list[Callable] = []
  for size, kernel in ((32, 4), (32, 4), (64, 2), (64, 2)):
    layers += [snt.Conv2D(size, kernel, 2, w_init=w_init), tf.nn.relu]
  layers.append(networks.MLP([256], output_shape, w_init=w_init))
  return _Layers(layers, output_shape, 'locatello_conv_encoder')


def locatello_conv_decoder(
  output_shape: Sequence[int], w_init: networks.Initializer | None = None
) -> snt.Module:
  """The decoder beside `locatello_conv_encoder`; 381,313 parameters."""
  start = (*_deep_extent(_image_size(output_shape), 4), 64)
  layers = _upwards(start, [256], [64, 32, 32, output_shape[-1]], w_init)
  return _Layers(layers, output_shape, 'locatello_conv_decoder')


def higgins_mlp_encoder(
  output_shape: Sequence[int], w_init: networks.Initializer | None = None
) -> snt.Module:
  """Two dense layers of 1,200 with relu, as of Higgins et al. 2017.

  https://openreview.net/forum?id=Sy2fzU9gl, table 1, for sprites.
  """
  return networks.MLP([1200, 1200], output_shape, tf.nn.relu, w_init)


def higgins_mlp_decoder(
  output_shape: Sequence[int], w_init: networks.Initializer | None = None
) -> snt.Module:
  """Three dense layers of 1,200 with tanh, beside `higgins_mlp_encoder`."""
  return networks.MLP([1200, 1200, 1200], output_shape, tf.nn.tanh, w_init)
