"""Compiles functions into programs of TensorFlow."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def compiled(
  function: Callable[..., Any], jit: bool | None = None
) -> Callable[..., Any]:
  """Returns a program that is traced for each new kind of arguments.

  TensorFlow warns of a function that is traced again and again, and takes those
  for one that are of one piece of code. Each model's are programs of their own,
  of which a loop over settings makes many; a partial function is its own piece.

  Args:
    function: of tensors.
    jit: as `jit_compile` of `tf.function`.
  """
  return tf.function(
    functools.partial(function), jit_compile=jit, autograph=False
  )
