"""Provenance: what a manifest says of where a run's numbers come from."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

_PACKAGES = (
  'tensorflow',
  'tf-keras',
  'tensorflow-probability',
  'dm-sonnet',
  'tensorflow-datasets',
  'numpy',
  'scipy',
)


def now() -> str:
  """Returns the time, in UTC, to the second."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def package_versions() -> dict[str, str]:
  """Versions of Python and of the packages that make the numbers."""
  versions = {
    package: importlib.metadata.version(package) for package in _PACKAGES
  }
  return {'python': platform.python_version(), **versions}


def _git(root: pathlib.Path, *arguments: str) -> str | None:
  try:
    process = subprocess.run(
      ['git', '-C', str(root), *arguments],
      capture_output=True,
      text=True,
      timeout=10,
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return process.stdout.strip() if process.returncode == 0 else None


def source() -> dict[str, Any]:
  """Returns this code's git commit, and whether it was changed; or None."""
  root = pathlib.Path(__file__).parents[2]
  if not (root / '.git').exists():
    return {'commit': None, 'dirty': None}
  status = _git(root, 'status', '--porcelain')
  return {
    'commit': _git(root, 'rev-parse', 'HEAD'),
    'dirty': None if status is None else bool(status),
  }


def _cpu(entry: str) -> str:
  """Returns what Linux says of the first processor; nothing elsewhere."""
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as lines:
      for line in lines:  # Of which Linux writes as many as are read.
        if line.startswith(entry):
          return line.split(':', 1)[1].strip()
  except OSError:
    pass
  return ''


def cpu_name() -> str:
  """Returns the processor's name."""
  return _cpu('model name') or platform.processor() or platform.machine()


def _is_ampere(details: Mapping[str, Any]) -> bool:
  """Returns whether a GPU is of that generation or a later one."""
  return details.get('compute_capability', (0, 0)) >= (8, 0)


def device() -> dict[str, Any]:
  """Returns the device that trains: the first GPU, else the CPU.

  Of a GPU with `tf32`, whether products of float32 are those of TF32.
  """
  import tensorflow as tf

  gpus = tf.config.list_physical_devices('GPU')
  if gpus:
    details = tf.config.experimental.get_device_details(gpus[0])
    return {
      'type': 'GPU',
      'name': details.get('device_name', gpus[0].name),
      'tf32': _is_ampere(details)
      and tf.config.experimental.tensor_float_32_execution_enabled(),
    }
  return {'type': 'CPU', 'name': cpu_name()}


def precision(asked: str, device: Mapping[str, Any]) -> dict[str, str]:
  """Returns in what products are computed, in training and in evaluation.

  Args:
    asked: of training, as of the setting.
    device: as of `device`.
  """
  plain = 'TF32' if device.get('tf32') else 'float32'
  training = plain if asked == 'float32' else asked
  return {'training': training, 'evaluation': plain}


def has_idle_gpu() -> bool:
  """Returns whether TensorFlow finds none of the NVIDIA GPUs that are there."""
  import tensorflow as tf

  is_hidden = os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1')
  is_there = any(pathlib.Path('/dev').glob('nvidia[0-9]*'))
  return (
    is_there and not is_hidden and not tf.config.list_physical_devices('GPU')
  )


def has_bfloat16() -> bool:
  """Returns whether the device that trains is known to multiply bfloat16."""
  import tensorflow as tf

  gpus = tf.config.list_physical_devices('GPU')
  if gpus:
    details = tf.config.experimental.get_device_details(gpus[0])
    return _is_ampere(details)
  return not {'avx512_bf16', 'amx_bf16'}.isdisjoint(_cpu('flags').split())


def session() -> dict[str, Any]:
  """Returns versions, commit and device of this process."""
  return {
    'packages': package_versions(),
    'source': source(),
    'device': device(),
  }
