"""Fits one density to another: `python -m launch.fit_density`."""

import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from launch import cli, files, process, records
from launch.rundir import provenance
from launch.settings import config

if TYPE_CHECKING:
  from vae import density_fit

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

_MOST_STEPS = 100_000

# A fitted variance further than this from the closed form gets a warning.
_TOLERANCE = 0.01

_SUMMARY = """
Fits a diagonal Gaussian q to a Gaussian p of full covariance by gradient
descent from N(0, I), once on KL(q||p) and once on KL(p||q), and writes both
trajectories. python -m analysis.density_fit draws them.
Usage: python -m launch.fit_density [--scale_tril=-0.5,1.25,1.0]
"""


def _parameters() -> list[float]:
  """The numbers of --scale_tril.

  Raises:
    ConfigError: they are not three finite numbers.
  """
  items = _SCALE_TRIL.value
  try:
    numbers = [float(item) for item in items]
  except ValueError:
    numbers = []
  if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
    raise config.ConfigError(
      f'--scale_tril={",".join(items)}: must be three finite numbers'
    )
  return numbers


def _check_descent() -> None:
  """Raises ConfigError unless the descent can be made."""
  rate, steps = _LEARNING_RATE.value, _STEPS.value
  if not 0 < rate < math.inf:
    raise config.ConfigError(
      f'--fit_learning_rate={rate:g}: must be finite and greater than 0'
    )
  if not 1 <= steps <= _MOST_STEPS:
    raise config.ConfigError(
      f'--fit_steps={steps}: must be at least 1 and at most {_MOST_STEPS:,}'
    )


def _make_folder() -> pathlib.Path:
  """Makes the folder of --output_dir.

  Raises:
    ConfigError: it cannot be written, or holds a run.
  """
  if cli.RUN_DIR.value is not None:
    raise config.ConfigError(
      f'--run_dir={cli.RUN_DIR.value}: a fit is no run; give --output_dir'
    )
  name = _OUTPUT_DIR.value
  if not name:
    raise config.ConfigError('--output_dir=: must name a folder')
  try:
    path = pathlib.Path(name).expanduser()
    if (path / records.CONFIG).exists() or (path / records.MANIFEST).exists():
      raise config.ConfigError(
        f'--output_dir={name}: holds a run; give another folder'
      )
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
      raise PermissionError(13, 'permission denied')
  except (OSError, RuntimeError) as error:  # A home that is not known.
    raise config.ConfigError(
      f'--output_dir={name}: cannot be written: '
      f'{getattr(error, "strerror", None) or error}'
    ) from error
  return path


def _rows(
  direction: str, trajectory: 'density_fit.Trajectory'
) -> Iterator[dict[str, Any]]:
  """The rows of density_fit.csv."""
  columns = zip(*trajectory, strict=True)
  for step, (loc, scale, kl_q_p, kl_p_q) in enumerate(columns):
    yield {
      'step': step,
      'direction': direction,
      'loc_0': loc[0],
      'loc_1': loc[1],
      'scale_0': scale[0],
      'scale_1': scale[1],
      'kl_q_p_nats': kl_q_p,
      'kl_p_q_nats': kl_p_q,
    }


def _check_finite(direction: str, trajectory: 'density_fit.Trajectory') -> None:
  """Raises ConfigError where a KL is not finite."""
  kls = zip(trajectory.kl_q_p, trajectory.kl_p_q, strict=True)
  for step, pair in enumerate(kls):
    if not all(map(math.isfinite, pair)):
      raise config.ConfigError(
        f'--fit_learning_rate={_LEARNING_RATE.value:g}: the {direction} fit '
        f'has KLs of {pair[0]} and {pair[1]} at step {step}; give a smaller '
        'one, or a --scale_tril nearer to zero'
      )


def _show(values: np.ndarray) -> str:
  return ', '.join(f'{value:.4g}' for value in values)


def main() -> int:
  """Fits as the flags say and returns the exit code."""
  parameters = _parameters()
  _check_descent()
  folder = _make_folder()
  process.import_tensorflow()
  from vae import density_fit

  p = density_fit.target(parameters)
  fits = {
    direction: density_fit.fit(p, direction, _LEARNING_RATE.value, _STEPS.value)
    for direction in density_fit.DIRECTIONS
  }
  for direction, trajectory in fits.items():
    _check_finite(direction, trajectory)

  # A table beside the target of another fit would mislead.
  (folder / records.DENSITY_FIT).unlink(missing_ok=True)
  target = {
    'scale_tril_parameters': parameters,
    'loc': p.loc.numpy().tolist(),
    'scale_tril': p.scale.to_dense().numpy().tolist(),
    'learning_rate': _LEARNING_RATE.value,
    'source': provenance.source(),
    'versions': provenance.package_versions(),
  }
  text = json.dumps(target, indent=2, sort_keys=True) + '\n'
  files.replace_file(folder / records.DENSITY_FIT_TARGET, text.encode())
  records.write_table(
    folder,
    records.DENSITY_FIT,
    [row for item in fits.items() for row in _rows(*item)],
  )

  start = fits['reverse']
  print(f'target   variances {_show(p.variance().numpy())}')
  print(
    f'start    variances {_show(start.scale[0] ** 2)}; '
    f'KL(q||p) {start.kl_q_p[0]:.4f}, KL(p||q) {start.kl_p_q[0]:.4f} nats'
  )
  for direction, trajectory in fits.items():
    variances = trajectory.scale[-1] ** 2
    best = density_fit.best_variances(p, direction)
    print(
      f'{direction}  variances {_show(variances)}; '
      f'KL(q||p) {trajectory.kl_q_p[-1]:.4f}, '
      f'KL(p||q) {trajectory.kl_p_q[-1]:.4f} nats; '
      f'closed form of the variances {_show(best)}'
    )
    if max(abs(variances / best - 1.0)) > _TOLERANCE:
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
