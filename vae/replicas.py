"""One batch on several devices: replicas that compute a part of it each.

All replicas hold the same variables, are given the whole batch, and draw the
noise of all of it. In the networks, where the work is, each computes its `part`
by place in the batch, and `gathered` brings the parts together; from there on
an objective, and all that it takes over the batch, is the same on each replica
as on one device.

Gradients: with loss L_r on replica r, all of which are the same number L, a
replica finds d(L_1 + ... + L_N) / d(its own copy of a variable), for `gathered`
and `averaged` are differentiated across replicas. What moves all copies alike
moves that sum by the sum of these, and L by their mean, which `averaged` takes.

With one device, and outside of a replica, all is as if this were not there.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import sonnet as snt
import tensorflow as tf


def available() -> list[str]:
  """Returns the devices that may train: the GPUs, or the CPU without any.

  A program may have divided that into several, which share its cores, by
  `tf.config.set_logical_device_configuration`.
  """
  found = tf.config.list_logical_devices('GPU')
  found = found or tf.config.list_logical_devices('CPU')
  return [device.name for device in found]


@functools.cache
def strategy(num_devices: int) -> tf.distribute.Strategy:
  """Returns what makes variables (in its scope) and runs steps on devices.

  It is one for each number, so that variables of two models can be assigned.

  Args:
    num_devices: as many of `available`, the first; 1 for TensorFlow as it is.
  """
  if num_devices == 1:
    return tf.distribute.get_strategy()
  return snt.distribute.Replicator(
    available()[:num_devices],
    # Which adds in the order of the devices, so that bits repeat.
    tf.distribute.ReductionToOneDevice(),
  )


def run(
  strategy: tf.distribute.Strategy,
  function: Callable[..., tf.Tensor],
  arguments: Sequence[Any],
) -> tf.Tensor:
  """Calls a function on each replica; returns what the first one does.

  Args:
    strategy: from `strategy`.
    function: returns the same on all.
    arguments: of the function.
  """
  results = strategy.run(function, tuple(arguments))
  return strategy.experimental_local_results(results)[0]


def _context() -> tf.distribute.ReplicaContext | None:
  """This replica's, where it is one of several."""
  context = tf.distribute.get_replica_context()
  several = context is not None and context.num_replicas_in_sync > 1
  return context if several else None


def part(batch: tf.Tensor, axis: int = 0) -> tf.Tensor:
  """Returns this replica's part: of B images r B / N to (r + 1) B / N.

  Args:
    batch: of all replicas; N divides B.
    axis: that of the batch.
  """
  context = _context()
  if context is None:
    return batch
  parts = tf.split(batch, context.num_replicas_in_sync, axis)
  return tf.stack(parts)[context.replica_id_in_sync_group]


def gathered(own: tf.Tensor, axis: int = 0) -> tf.Tensor:
  """Returns the whole batch of which each replica has computed its part.

  Args:
    own: this replica's part.
    axis: that of the batch.
  """
  context = _context()
  if context is None:
    return own
  return context.all_gather(own, axis)


def averaged(values: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
  """Returns the means over replicas; None where there is None.

  Args:
    values: gradients, or what replicas computed of their parts.
  """
  context = _context()
  if context is None:
    return list(values)
  present = [value for value in values if value is not None]
  means = iter(context.all_reduce(tf.distribute.ReduceOp.MEAN, present))
  return [None if value is None else next(means) for value in values]


def drawn(
  draw: Callable[[tf.Tensor], tf.Tensor], shape: tf.Tensor
) -> tf.Tensor:
  """Draws a replica's part of the noise of the whole batch.

  So the noise of an image does not depend on which replica it is with.

  Args:
    draw: returns noise of a shape.
    shape: of the part, [B / N, ...].
  """
  context = _context()
  if context is None:
    return draw(shape)
  whole = tf.concat([shape[:1] * context.num_replicas_in_sync, shape[1:]], 0)
  return part(draw(whole))
