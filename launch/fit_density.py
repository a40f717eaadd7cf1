"""Fits a diagonal Gaussian to another: `python -m launch.fit_density`.

Both directions of the KL are minimised: KL(q||p), as in variational inference,
and KL(p||q), as in maximum likelihood. At the optimum q has the mean of p, and
the variances 1 / diag(S^-1) or diag(S), S being the covariance of p (Bishop
2006, Pattern Recognition and Machine Learning, section 10.1.2). The first are
never larger than the second: KL(q||p) underestimates the variance.
"""

import json
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from launch import cli, files, process, records
from launch.rundir import provenance
from launch.settings import config

# What each minimises: KL(q||p), or KL(p||q).
DIRECTIONS = ('reverse', 'forward')

_MOST_STEPS = 100_000

# A fitted variance further than this from the closed form gets a warning.
_TOLERANCE = 0.01

_SCALE_TRIL = flags.DEFINE_list(
  'scale_tril',
  '-0.5,1.25,1.0',
  'three numbers from which FillScaleTriL builds the lower triangle T of the '
  "target N(0, T T'): a,b,c make [[softplus(c), 0], [b, softplus(a)]]",
)
_LEARNING_RATE = flags.DEFINE_float(
  'fit_learning_rate',
  0.1,
  'of gradient descent on the mean and the logarithm of the scale',
)
_STEPS = flags.DEFINE_integer(
  'fit_steps', 200, 'updates by gradient descent, for each direction'
)
_OUTPUT_DIR = flags.DEFINE_string(
  'output_dir', 'runs/density_fit', 'folder that gets the trajectories'
)

_SUMMARY = """
Fits a diagonal Gaussian q to a Gaussian p of full covariance by gradient
descent from N(0, I), once on KL(q||p) and once on KL(p||q), and writes both
trajectories. python -m analysis.density_fit draws them.
Usage: python -m launch.fit_density [--scale_tril=-0.5,1.25,1.0]
"""


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


def target(parameters: Sequence[float]) -> Any:
  """Makes p = N(0, T T'), with T the `FillScaleTriL` of its parameters.

  The parameters fill T in a clockwise spiral that starts at the lower right;
  the diagonal is their softplus, shifted by 1e-5. For three of them, a, b, c:

    T = [[softplus(c), 0], [b, softplus(a)]]

  Args:
    parameters: L (L + 1) / 2 numbers.

  Returns:
    A `tfd.MultivariateNormalTriL`, event [L].

  Raises:
    ValueError: another number of them.
  """
  import tensorflow_probability as tfp

  triangle = tfp.bijectors.FillScaleTriL(diag_shift=1e-5).forward(
    np.asarray(parameters, np.float32)
  )
  return tfp.distributions.MultivariateNormalTriL(
    np.zeros(triangle.shape[-1], np.float32), triangle
  )


def best_variances(p: Any, direction: str) -> np.ndarray:
  """Returns the variances of the best q in closed form, float32 [L]."""
  if direction == 'forward':
    return p.variance().numpy()
  # S^-1 = T^-T T^-1, so that its diagonal sums the squares of columns of T^-1.
  # S itself may be singular in float32 where T is not.
  inverse = p.scale.solve(np.eye(p.event_shape[0], dtype=np.float32)).numpy()
  return 1.0 / (inverse**2).sum(axis=0)


def fit(
  p: Any, direction: str, learning_rate: float, num_steps: int
) -> Trajectory:
  """Fits q = N(loc, diag(scale^2)) to p by gradient descent from N(0, I).

  What descends is loc and log(scale), without noise: both KLs have closed
  forms.

  Args:
    p: the target, a `tfd.MultivariateNormalTriL`, event [L].
    direction: one of `DIRECTIONS`, what is minimised.
    learning_rate: of each step. One that is too large makes q diverge, up to
      values that are not finite.
    num_steps: K, the number of updates.
  """
  import tensorflow as tf
  import tensorflow_probability as tfp

  tfd = tfp.distributions
  size, which = p.event_shape[0], DIRECTIONS.index(direction)

  def body(step, loc, log_scale, table):
    with tf.GradientTape() as tape:
      tape.watch([loc, log_scale])
      q = tfd.MultivariateNormalDiag(loc, tf.exp(log_scale))
      kls = tfd.kl_divergence(q, p), tfd.kl_divergence(p, q)
    gradients = tape.gradient(kls[which], [loc, log_scale])
    table = table.write(step, tf.concat([loc, tf.exp(log_scale), kls], axis=0))
    loc, log_scale = (
      parameter - learning_rate * gradient
      for parameter, gradient in zip([loc, log_scale], gradients, strict=True)
    )
    return step + 1, loc, log_scale, table

  @tf.function(autograph=False)
  def descend():
    # One more update than is seen, so that the last one asked for is measured.
    start = [tf.constant(0), tf.zeros([size]), tf.zeros([size])]
    table = tf.TensorArray(tf.float32, num_steps + 1)
    *_, table = tf.while_loop(
      lambda step, *_: step <= num_steps, body, [*start, table]
    )
    return table.stack()

  rows = descend().numpy()  # [K + 1, 2 L + 2]
  return Trajectory(
    rows[:, :size], rows[:, size : 2 * size], rows[:, -2], rows[:, -1]
  )


def _check_flags() -> list[float]:
  """Returns the numbers of --scale_tril.

  Raises:
    ConfigError: a flag whose value cannot be.
  """
  items, rate, steps = _SCALE_TRIL.value, _LEARNING_RATE.value, _STEPS.value
  try:
    numbers = [float(item) for item in items]
  except ValueError:
    numbers = []
  for is_right, problem in (
    (
      len(numbers) == 3 and all(map(math.isfinite, numbers)),
      f'--scale_tril={",".join(items)}: must be three finite numbers',
    ),
    (
      0 < rate < math.inf,
      f'--fit_learning_rate={rate:g}: must be finite and greater than 0',
    ),
    (
      1 <= steps <= _MOST_STEPS,
      f'--fit_steps={steps}: must be at least 1 and at most {_MOST_STEPS:,}',
    ),
    (_OUTPUT_DIR.value, '--output_dir=: must name a folder'),
    (
      cli.RUN_DIR.value is None,
      f'--run_dir={cli.RUN_DIR.value}: a fit is no run; give --output_dir',
    ),
  ):
    if not is_right:
      raise config.ConfigError(problem)
  return numbers


def _check_finite(direction: str, trajectory: Trajectory) -> None:
  """Raises ConfigError where a KL is not finite."""
  for step, pair in enumerate(zip(*trajectory[2:], strict=True)):
    if not np.isfinite(pair).all():
      raise config.ConfigError(
        f'--fit_learning_rate={_LEARNING_RATE.value:g}: the {direction} fit '
        f'has KLs of {pair[0]} and {pair[1]} at step {step}; give a smaller '
        'one, or a --scale_tril nearer to zero'
      )


def _in_words(variances: np.ndarray, *kls: float) -> str:
  words = 'variances ' + ', '.join(f'{variance:.4g}' for variance in variances)
  if kls:
    words += '; KL(q||p) {:.4f}, KL(p||q) {:.4f} nats'.format(*kls)
  return words


def main() -> int:
  """Fits as the flags say and returns the exit code."""
  parameters = _check_flags()
  folder = process.user_path(_OUTPUT_DIR.value)
  if {records.CONFIG, records.MANIFEST} & {p.name for p in folder.glob('*')}:
    raise config.ConfigError(
      f'--output_dir={folder}: holds a run; give another folder'
    )
  folder.mkdir(parents=True, exist_ok=True)
  process.import_tensorflow()
  p = target(parameters)
  fits = {
    direction: fit(p, direction, _LEARNING_RATE.value, _STEPS.value)
    for direction in DIRECTIONS
  }
  for direction, trajectory in fits.items():
    _check_finite(direction, trajectory)

  # A table beside the target of another fit would mislead.
  (folder / records.DENSITY_FIT).unlink(missing_ok=True)
  content = {
    'scale_tril_parameters': parameters,
    'loc': p.loc.numpy().tolist(),
    'scale_tril': p.scale.to_dense().numpy().tolist(),
    'learning_rate': _LEARNING_RATE.value,
    'source': provenance.source(),
    'versions': provenance.package_versions(),
  }
  text = json.dumps(content, indent=2, sort_keys=True) + '\n'
  files.replace_file(folder / records.DENSITY_FIT_TARGET, text.encode())
  columns = records.COLUMNS[records.DENSITY_FIT]
  rows = [
    dict(zip(columns, [step, direction, *loc, *scale, *kls], strict=True))
    for direction, trajectory in fits.items()
    for step, (loc, scale, *kls) in enumerate(zip(*trajectory, strict=True))
  ]
  records.write_table(folder, records.DENSITY_FIT, rows)

  print(f'target   {_in_words(p.variance().numpy())}')
  start = [values[0] for values in fits['reverse']]
  print(f'start    {_in_words(start[1] ** 2, *start[2:])}')
  for direction, trajectory in fits.items():
    _, scale, *kls = [values[-1] for values in trajectory]
    best = best_variances(p, direction)
    print(
      f'{direction}  {_in_words(scale**2, *kls)}; closed form of the '
      + _in_words(best)
    )
    if max(abs(scale**2 / best - 1.0)) > _TOLERANCE:
      print(
        f'warning: the {direction} fit has not converged; give more '
        '--fit_steps, or another --fit_learning_rate',
        file=sys.stderr,
      )
  print(f'The fits are in {folder}')
  print(f'next: python -m analysis.density_fit --run_dir={folder}')
  return 0


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
