"""Checkpoints: one safetensors file each, with a digest of all it holds."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from launch import files, records

# Checkpoints kept of each run: the newest, and one should it be damaged.
KEPT = 2

_HEADER = 'checkpoint'


class CheckpointError(ValueError):
  """A checkpoint is missing, damaged, or of another model."""


def _digest(step: int, tensors: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.sha256(f'step {step}\n'.encode())
  for name in sorted(tensors):
    array = np.ascontiguousarray(tensors[name])
    digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def paths(run_dir: pathlib.Path) -> list[pathlib.Path]:
  """Returns a run's checkpoints, the newest first."""
  folder = run_dir / records.CHECKPOINTS
  return sorted(folder.glob('step_*.safetensors'), reverse=True)


def path_of(run_dir: pathlib.Path, step: int) -> pathlib.Path:
  """Returns where the checkpoint of a step lies, or would."""
  return run_dir / records.CHECKPOINTS / f'step_{step:012d}.safetensors'


def save(
  run_dir: pathlib.Path,
  step: int,
  tensors: Mapping[str, np.ndarray],
) -> pathlib.Path:
  """Writes a checkpoint.

  Args:
    run_dir: the run.
    step: the number of updates that made these values.
    tensors: every variable by name.

  Returns:
    The file.
  """
  path = path_of(run_dir, step)
  files.make_folder(path.parent)
  # One entry: safetensors writes several in an order that varies.
  header = {'sha256': _digest(step, tensors), 'step': step}
  metadata = {_HEADER: json.dumps(header)}
  files.replace_file(path, safetensors.numpy.save(dict(tensors), metadata))
  return path


def delete_old(run_dir: pathlib.Path, best_step: int | None = None) -> None:
  """Deletes all checkpoints but the newest few and that of the best step."""
  for old in paths(run_dir)[KEPT:]:
    if best_step is None or old != path_of(run_dir, best_step):
      old.unlink()


def load(path: str | os.PathLike) -> tuple[int, dict[str, np.ndarray]]:
  """Reads a checkpoint and checks it against its digest.

  Returns:
    The step and every tensor by name.

  Raises:
    CheckpointError: a file that cannot be read, whose digest differs, or that
      holds what no run saves: weights that are not finite.
  """
  try:
    files.check_regular(path)
    with safetensors.safe_open(path, framework='numpy') as file:
      metadata = file.metadata() or {}
      tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata[_HEADER])
    step, expected = header['step'], header['sha256']
    if type(step) is not int or not 0 <= step < 2**63:
      raise ValueError(f'step {step!r}')
  except Exception as error:  # safetensors and JSON raise many kinds.
    raise CheckpointError(f'{path} is damaged: {error!r:.200}') from error
  if _digest(step, tensors) != expected:
    raise CheckpointError(f'{path} is damaged: its digest differs')
  for name, array in tensors.items():
    if not np.isfinite(array).all():
      raise CheckpointError(f'{path} is damaged: {name!r:.100} is not finite')
  return step, tensors


def load_newest(
  run_dir: pathlib.Path, warn: Callable[[str], None]
) -> tuple[int, dict[str, np.ndarray]] | None:
  """Returns the newest checkpoint that is whole.

  Args:
    run_dir: the run.
    warn: is told about damaged ones.

  Returns:
    The step and every tensor by name; None where the run has no checkpoint.

  Raises:
    CheckpointError: there are checkpoints and all are damaged.
  """
  found = paths(run_dir)
  for path in found:
    try:
      return load(path)
    except CheckpointError as error:
      if not path.exists():  # Deleted since by the process that trains.
        return load_newest(run_dir, warn)
      warn(f'WARNING: {error}')
  if found:
    raise CheckpointError(
      f'every checkpoint in {run_dir / records.CHECKPOINTS} is damaged; '
      'start again in another --run_dir, or with --overwrite'
    )
  return None
