"""Exports a run's model: `python -m launch.export --run_dir=R`."""

import os
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags

from launch import cli, process, records
from launch.rundir import opening

_EXPORT_DIR = flags.DEFINE_string(
  'export_dir',
  None,
  'new folder that becomes the SavedModel; by default RUN_DIR/'
  f'{records.SAVED_MODEL}',
)

_SUMMARY = """
Writes the model of a run, with its best or newest weights, as a TensorFlow
SavedModel, which is loaded and called without this package.
Usage: python -m launch.export [--run_dir=RUN]
"""


def _describe(name: str, function: Any) -> str:
  """A signature as text, with the shapes that it takes and gives."""
  concrete = function.get_concrete_function()
  shown = lambda spec: f'{spec.name} {spec.shape}'
  (taken,) = function.input_signature
  given = ', '.join(
    f'{key} {value.shape}' for key, value in concrete.structured_outputs.items()
  )
  return f'  {name}: {shown(taken)} -> {given}'


def main() -> int:
  """Exports as the flags say and returns the exit code."""
  run_dir = opening.find(cli.RUN_DIR.value)
  path = process.user_path(
    _EXPORT_DIR.value or os.fspath(run_dir / records.SAVED_MODEL)
  )
  if os.path.lexists(path):
    raise opening.RunError(
      f'--export_dir={path}: exists; delete it or give another'
    )
  process.import_tensorflow()
  import tensorflow as tf

  from launch import runs
  from launch.experiment import signatures as signatures_lib

  run = runs.load(run_dir, warn=lambda line: print(line, file=sys.stderr))
  signatures = signatures_lib.of(
    run.model, run.manifest['dataset']['shape'], run.config.latent_size
  )
  module = tf.Module()
  # What is saved are the variables alone, not the modules that made them.
  module.model_variables = list(run.model.variables)
  for name, function in signatures.items():
    setattr(module, name, function)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Written beside and then renamed, so that it is whole where it is.
  with tempfile.TemporaryDirectory(dir=path.parent) as folder:
    complete = pathlib.Path(folder, 'complete')
    try:
      tf.saved_model.save(module, os.fspath(complete), signatures)
    except tf.errors.OpError as error:  # Also of a disk that is full.
      reason = error.message.split(';')[-1].strip()
      raise opening.RunError(
        f'--export_dir={path}: cannot be written: {reason}'
      ) from error
    complete.replace(path)
  print(f'step {run.step:,} of {run_dir} is now a SavedModel in {path}:')
  for name, function in signatures.items():
    print(_describe(name, function))
  return 0


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
