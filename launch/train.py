"""Trains a beta-VAE: `python -m launch.train --beta=0.01`."""

import importlib.util

from absl import flags

from launch import cli, config, presets, rundir

config.define_flags()

_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'delete the run that --run_dir holds and start anew'
)

_TENSORBOARD = flags.DEFINE_bool(
  'tensorboard',
  False,
  "also write the run's tables, pictures and settings as event files for "
  'TensorBoard, into tensorboard/ in the run; of a finished run too',
)

_SUMMARY = """
Trains a beta-VAE and evaluates it on the test split. Where --run_dir holds a
run, that run resumes, or goes on where --training_steps grew. --config runs one
again.
Usage: python -m launch.train [--beta=0.01] [any flag below]
"""


def main() -> int:
  """Trains as the flags say and returns the exit code."""
  if flags.FLAGS.preset == 'list':
    for name, preset in presets.PRESETS.items():
      print(f'{name}: {preset.summary} ({preset.source})')
    return 0
  if _TENSORBOARD.value and importlib.util.find_spec('tensorboard') is None:
    raise rundir.RunError(
      '--tensorboard: the package tensorboard is missing; pip install -c '
      "requirements.lock -e '.[tensorboard]'"
    )
  with rundir.opened(cli.RUN_DIR.value, _OVERWRITE.value) as (path, settings):
    # TensorFlow takes seconds to import: only now that the flags are good.
    cli.import_tensorflow()
    from launch import experiment

    return experiment.run(
      path,
      settings,
      cli.DATA_DIR.value,
      _OVERWRITE.value,
      flags.FLAGS.config,
      _TENSORBOARD.value,
    )


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
