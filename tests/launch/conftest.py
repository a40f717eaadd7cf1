import contextlib
import io
import pathlib
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from launch import cli, train

ROOT = pathlib.Path(__file__).parents[2]


class Result:
  """What a command did: its exit code and what it printed."""

  def __init__(self, code, stdout, stderr):
    self.code = code
    self.stdout = stdout
    self.stderr = stderr


def call(main, arguments, names=()):
  """Runs a command's main in this process, as its command line would."""
  stdout, stderr = io.StringIO(), io.StringIO()
  argv, sys.argv = sys.argv, ['launch/train.py', *map(str, arguments)]
  flags.FLAGS.unparse_flags()
  try:
    with (
      flagsaver.flagsaver(),
      contextlib.redirect_stdout(stdout),
      contextlib.redirect_stderr(stderr),
      pytest.raises(SystemExit) as stop,
    ):
      cli.run(main, 'A summary.', names)
  finally:
    sys.argv = argv
  code = stop.value.code
  return Result(
    0 if code is None else code, stdout.getvalue(), stderr.getvalue()
  )


def call_train(*arguments):
  """Runs `launch.train` with nothing but the arguments."""
  return call(train.main, arguments)


@pytest.fixture
def launch_train(data_dir):
  """Runs `launch.train` with small settings, which arguments override."""

  def run(*arguments, **settings):
    settings = {
      'dataset': 'mnist_5k',
      'data_dir': data_dir,
      'hidden_sizes': '8',
      'latent_size': 3,
      'training_steps': 20,
      'jit': 'off',  # XLA compiles for longer than such a run trains.
    } | settings
    given = [f'--{k}={v}' for k, v in settings.items() if v is not None]
    return call(train.main, [*given, *arguments])

  run.data_dir = data_dir
  return run
