"""The fit of a diagonal Gaussian q to a full-covariance one, p.

Both directions of the KL are minimised: KL(q||p), as in variational inference,
and KL(p||q), as in maximum likelihood. At the optimum q has the mean of p, and
the variances 1 / diag(S^-1) or diag(S), S being the covariance of p (Bishop
2006, Pattern Recognition and Machine Learning, section 10.1.2). The first are
never larger than the second: KL(q||p) underestimates the variance.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

tfb = tfp.bijectors
tfd = tfp.distributions

# What each direction minimises.
DIRECTIONS: Mapping[
  str, Callable[[tfd.Distribution, tfd.Distribution], tf.Tensor]
] = {
  'reverse': lambda q, p: tfd.kl_divergence(q, p),
  'forward': lambda q, p: tfd.kl_divergence(p, q),
}


class Trajectory(NamedTuple):
  """q after 0, 1, ..., K updates.

  Attributes:
    loc: means, [K + 1, L].
    scale: standard deviations, [K + 1, L].
    kl_q_p: KL(q||p), nats, [K + 1].
    kl_p_q: KL(p||q), nats, [K + 1].
  """

  loc: np.ndarray
  scale: np.ndarray
  kl_q_p: np.ndarray
  kl_p_q: np.ndarray


def target(parameters: Sequence[float]) -> tfd.MultivariateNormalTriL:
  """Makes p = N(0, T T'), with T the `FillScaleTriL` of its parameters.

  The parameters fill T in a clockwise spiral that starts at the lower right;
  the diagonal is their softplus, shifted by 1e-5. For three of them, a, b, c:

    T = [[softplus(c), 0], [b, softplus(a)]]

  Args:
    parameters: L (L + 1) / 2 numbers.

  Raises:
    ValueError: another number of them.
  """
  triangle = tfb.FillScaleTriL(diag_shift=1e-5).forward(
    tf.constant(parameters, tf.float32)
  )
  return tfd.MultivariateNormalTriL(tf.zeros(triangle.shape[-1:]), triangle)


def _check_direction(direction: str) -> None:
  if direction not in DIRECTIONS:
    raise ValueError(
      f'direction must be one of {sorted(DIRECTIONS)}, got {direction!r}'
    )


def best_variances(p: tfd.MultivariateNormalTriL, direction: str) -> np.ndarray:
  """The variances of the best q, in closed form.

  Args:
    p: the target, event [L].
    direction: one of `DIRECTIONS`.

  Returns:
    float32 [L].

  Raises:
    ValueError: a direction that does not exist.
  """
  _check_direction(direction)
  if direction == 'forward':
    return p.variance().numpy()
  # S^-1 = T^-T T^-1, so that its diagonal sums the squares of columns of T^-1.
  # S itself may be singular in float32 where T is not.
  inverse = p.scale.solve(tf.eye(p.event_shape[0]))
  return (1.0 / tf.reduce_sum(inverse**2, axis=0)).numpy()


def fit(
  p: tfd.MultivariateNormalTriL,
  direction: str,
  learning_rate: float,
  num_steps: int,
) -> Trajectory:
  """Fits q = N(loc, diag(scale^2)) to p by gradient descent from N(0, I).

  What descends is loc and log(scale), without noise: both KLs have closed
  forms.

  Args:
    p: the target, event [L].
    direction: one of `DIRECTIONS`, what is minimised.
    learning_rate: of each step. One that is too large makes q diverge, up to
      values that are not finite.
    num_steps: K, the number of updates.

  Raises:
    ValueError: a direction that does not exist.
  """
  _check_direction(direction)
  size = p.event_shape[0]
  loc = tf.Variable(tf.zeros([size]))
  log_scale = tf.Variable(tf.zeros([size]))
  parameters = [loc, log_scale]
  optimizer = snt.optimizers.SGD(learning_rate)

  @tf.function(autograph=False)
  def descend():
    def body(step, table):
      with tf.GradientTape() as tape:
        q = tfd.MultivariateNormalDiag(loc, tf.exp(log_scale))
        kls = {name: kl(q, p) for name, kl in DIRECTIONS.items()}
      row = [loc, tf.exp(log_scale), [kls['reverse'], kls['forward']]]
      table = table.write(step, tf.concat(row, axis=0))
      optimizer.apply(tape.gradient(kls[direction], parameters), parameters)
      return step + 1, table

    # One more update than is seen, so that the last one asked for is measured.
    table = tf.TensorArray(tf.float32, num_steps + 1)
    _, table = tf.while_loop(
      lambda step, table: step <= num_steps, body, [tf.constant(0), table]
    )
    return table.stack()

  rows = descend().numpy()  # [K + 1, 2 L + 2]
  return Trajectory(
    rows[:, :size], rows[:, size : 2 * size], rows[:, -2], rows[:, -1]
  )
