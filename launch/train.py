"""Trains a beta-VAE: `python -m launch.train --beta=0.01`."""

from absl import flags

from launch import cli, config, presets, rundir

config.define_flags()

_RUN_DIR = flags.DEFINE_string(
  'run_dir',
  None,
  'folder of the run; new: starts, unfinished: resumes, finished: goes on '
  'where --training_steps grew. Default: a new folder under runs/',
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir',
  cli.default_data_dir(),
  "TFDS's data folder, where prepared data are kept",
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'delete the run that --run_dir holds and start anew'
)

_SUMMARY = """
Trains a beta-VAE and evaluates it on the test split.
Usage: python -m launch.train [--beta=0.01] [any flag below]
"""


def main() -> int:
  """Trains as the flags say and returns the exit code."""
  if flags.FLAGS.preset == 'list':
    for name, preset in presets.PRESETS.items():
      print(f'{name}: {preset.summary} ({preset.source})')
    return 0
  with rundir.opened(_RUN_DIR.value, _OVERWRITE.value) as (path, settings):
    # TensorFlow takes seconds to import: only now that the flags are good.
    cli.import_tensorflow()
    from launch import experiment

    return experiment.run(path, settings, _DATA_DIR.value)


if __name__ == '__main__':
  cli.run(main, _SUMMARY)
