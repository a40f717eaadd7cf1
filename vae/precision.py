"""Layers that multiply in bfloat16, between numbers that stay float32.

A bfloat16 has the exponents of a float32 and 8 bits of precision (Kalamkar et
al. 2019, https://arxiv.org/abs/1905.12322): nothing over- or underflows that
did not before, so that losses need no scaling.
"""

import contextvars
import copy
import functools
from collections.abc import Callable
from typing import Any

import sonnet as snt
import tensorflow as tf

# Sonnet's layers that are a product or a convolution, and a bias.
LAYERS = (
  snt.Linear,
  snt.Conv1D,
  snt.Conv2D,
  snt.Conv3D,
  snt.Conv1DTranspose,
  snt.Conv2DTranspose,
  snt.Conv3DTranspose,
)

_multiplies_in_bfloat16 = contextvars.ContextVar('bfloat16', default=False)


def in_bfloat16(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function in which layers, and their gradients, are bfloat16.

  What each of `LAYERS` is called with and its weights are rounded to bfloat16,
  and so is their product, which is float32 again; so are the gradients of all
  of these. Products are added up in float32, as processors do. Biases,
  variables, and all between layers, stay float32: TensorFlow would add up the
  gradients of biases in bfloat16 where the processor has no such numbers.

  Args:
    function: calls layers.
  """

  @functools.wraps(function)
  def wrapper(*args: Any, **kwargs: Any) -> Any:
    token = _multiplies_in_bfloat16.set(True)
    try:
      return function(*args, **kwargs)
    finally:
      _multiplies_in_bfloat16.reset(token)

  return wrapper


def _mixed(call: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
  """A layer's call that heeds `in_bfloat16`.

  As `snt.mixed_precision.modes` makes it, which leaves out each layer's first
  call, and whose cast of variables prints a warning of another package.
  """

  @functools.wraps(call)
  def wrapper(
    layer: snt.Module, inputs: tf.Tensor, *args: Any, **kwargs: Any
  ) -> tf.Tensor:
    if not _multiplies_in_bfloat16.get():
      return call(layer, inputs, *args, **kwargs)
    if not hasattr(layer, 'w'):
      call(layer, inputs, *args, **kwargs)  # Makes its variables, as float32.
    rounded = copy.copy(layer)
    # Transposed convolutions have private names for what others have.
    own = {name.removeprefix('_'): name for name in vars(layer)}
    vars(rounded)['w'] = tf.cast(layer.w, tf.bfloat16)
    vars(rounded)[own['with_bias']] = False
    outputs = call(rounded, tf.cast(inputs, tf.bfloat16), *args, **kwargs)
    outputs = tf.cast(outputs, tf.float32)
    if not hasattr(layer, 'b'):
      return outputs
    places = own.get('data_format')
    return tf.nn.bias_add(outputs, layer.b, places and vars(layer)[places])

  return wrapper


# Sonnet's own way to mixed precision: parts that use its layers need no change.
for _layer in LAYERS:
  _layer.__call__ = _mixed(_layer.__call__)
