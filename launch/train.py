"""Trains a beta-VAE: `python -m launch.train --beta=0.01`."""

from absl import flags

from launch import cli, process
from launch.rundir import opening
from launch.settings import flags as setting_flags
from launch.settings import presets

setting_flags.define()

_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'delete the run that --run_dir holds and start anew'
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
    print(presets.listing())
    return 0
  run_dir, overwrite = cli.RUN_DIR.value, _OVERWRITE.value
  # The flags, over --preset or --config, over what a run in --run_dir has.
  settings = setting_flags.read
  with opening.opened(run_dir, overwrite, settings) as (path, config):
    # TensorFlow takes seconds to import: only now that the flags are good.
    process.import_tensorflow()
    from launch.experiment import loop

    end = loop.run(
      path,
      config,
      cli.data_dir(),
      process.command_line(),
      overwrite=overwrite,
      original=flags.FLAGS.config,
    )
  return 0 if end.is_finished else 128 + (end.stopped_by or 0)


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
