"""Exports a run's model: `python -m launch.export --run_dir=R`."""

import os
import pathlib
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import cli, process, records
from launch.rundir import opening

if TYPE_CHECKING:
  from launch import runs

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


def _signatures(run: 'runs.Run') -> dict[str, Any]:
  """Makes what the export can do, for any number of examples at once.

  Returns:
    `encode`: images (or rows) to the posterior's mean and standard deviations
    (of each latent by itself, where they are correlated); `decode`: latents to
    the likelihood's mode and mean; `reconstruct`: images to the mode at the
    posterior's mean.
  """
  import tensorflow as tf

  from launch.experiment import messages

  model, shape = run.model, run.manifest['dataset']['shape']
  examples = tf.TensorSpec(
    [None, *shape], tf.float32, name=messages.counted(shape)
  )
  latents = tf.TensorSpec(
    [None, run.config.latent_size], tf.float32, name='latents'
  )

  def encode(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    posterior = model.encode(examples)
    return {'mean': posterior.mean(), 'stddev': posterior.stddev()}

  def decode(latents: tf.Tensor) -> dict[str, tf.Tensor]:
    likelihood = model.decode(latents)
    return {'mode': likelihood.mode(), 'mean': likelihood.mean()}

  def reconstruct(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    return {'mode': model.reconstruct(examples)}

  return {
    function.__name__: tf.function(function, input_signature=[spec])
    for function, spec in (
      (encode, examples),
      (decode, latents),
      (reconstruct, examples),
    )
  }


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

  run = runs.load(run_dir, warn=lambda line: print(line, file=sys.stderr))
  signatures = _signatures(run)
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
