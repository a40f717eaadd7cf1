"""Optimizers, by the settings that they take.

Each public function here is a value of `--optimizer`. It takes by keyword
`learning_rate`, the step size, which the engine sets before every step, and any
setting of `launch.settings.config`.
"""

from collections.abc import Sequence

import sonnet as snt
import tensorflow as tf


def adam(
  learning_rate: tf.Variable, adam_epsilon: float = 1e-8
) -> snt.Optimizer:
  """Returns Adam (Kingma & Ba 2014, https://arxiv.org/abs/1412.6980).

  Args:
    learning_rate: the step size.
    adam_epsilon: added to the root of the second moment.
  """
  return snt.optimizers.Adam(learning_rate, epsilon=adam_epsilon)


def adagrad(learning_rate: tf.Variable) -> snt.Optimizer:
  """Returns Adagrad (Duchi et al. 2011), as TensorFlow has it.

  https://jmlr.org/papers/v12/duchi11a.html, figure 1, whose sum of squared
  gradients starts at 0.1, with nothing added to its root:

      parameter <- parameter - learning_rate gradient / sqrt(0.1 + sum)

  Args:
    learning_rate: the step size.
  """
  return _Adagrad(learning_rate)


class _Adagrad(snt.Optimizer):
  """Sonnet has none."""

  def __init__(self, learning_rate: tf.Variable):
    super().__init__(name='adagrad')
    self.learning_rate = learning_rate
    self.sums = []

  @snt.once
  def _initialize(self, parameters: Sequence[tf.Variable]) -> None:
    for parameter in parameters:
      zeros = tf.zeros_like(parameter)
      self.sums.append(tf.Variable(zeros, trainable=False, name='sum'))

  def apply(
    self, updates: Sequence[tf.Tensor], parameters: Sequence[tf.Variable]
  ) -> None:
    self._initialize(parameters)
    for update, parameter, total in zip(
      updates, parameters, self.sums, strict=True
    ):
      if update is None:  # Of what the loss does not depend on.
        continue
      total.assign_add(update**2)
      root = tf.sqrt(0.1 + total)
      parameter.assign_sub(self.learning_rate * update / root)


def momentum(
  learning_rate: tf.Variable, momentum: float = 0.9
) -> snt.Optimizer:
  """Returns gradient descent along a sum of gradients that decays.

  Args:
    learning_rate: the step size.
    momentum: what is left of the sum after a step.
  """
  return snt.optimizers.Momentum(learning_rate, momentum)


def rmsprop(learning_rate: tf.Variable) -> snt.Optimizer:
  """Returns RMSProp with decay 0.9 and epsilon 1e-10."""
  return snt.optimizers.RMSProp(learning_rate, epsilon=1e-10)


def sgd(learning_rate: tf.Variable) -> snt.Optimizer:
  """Returns plain gradient descent."""
  return snt.optimizers.SGD(learning_rate)
