"""Whether a model is being trained: what dropout and the like ask.

A context rather than an argument, so that a network without such layers is a
plain function of its input.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

from vae import randomness

# The key of the step, and how many layers have drawn from it so far.
_TRAINING: contextvars.ContextVar[list | None] = contextvars.ContextVar(
  'training', default=None
)


@contextlib.contextmanager
def training(key: tf.Tensor) -> Iterator[None]:
  """Makes what is called inside behave as in training.

  Args:
    key: of the noise of this step, from `randomness.key`.
  """
  token = _TRAINING.set([key, 0])
  try:
    yield
  finally:
    _TRAINING.reset(token)


def is_training() -> bool:
  """Whether this is called inside `training`."""
  return _TRAINING.get() is not None


def next_key() -> tf.Tensor:
  """A key of its own for each layer that asks, in the order of asking.

  Raises:
    RuntimeError: called outside `training`.
  """
  state = _TRAINING.get()
  if state is None:
    raise RuntimeError('next_key() has a key in training only')
  key, layer = state
  state[1] += 1
  return randomness.fold(key, layer)
