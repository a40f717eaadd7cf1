"""Compiles functions into programs of TensorFlow."""

import contextvars
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_for_xla = contextvars.ContextVar('for_xla', default=False)


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
    functools.partial(_traced, function, bool(jit)),
    jit_compile=jit,
    autograph=False,
  )


def _traced(
  function: Callable[..., Any], for_xla: bool, *args: Any, **kwargs: Any
) -> Any:
  token = _for_xla.set(for_xla)
  try:
    return function(*args, **kwargs)
  finally:
    _for_xla.reset(token)


def is_for_xla() -> bool:
  """Returns whether what is being traced is a program that XLA compiles."""
  return _for_xla.get()
