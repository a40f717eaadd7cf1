"""Optimizers, by the settings that they take.

Each public function here is a value of `--optimizer`. It takes by keyword
`learning_rate`, the step size, which the engine sets before every step, and any
setting of `launch.settings.config`.
"""

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
