"""This process: what was typed, what it prints, how it loads TensorFlow."""

import gc
import os
import pathlib
import re
import shlex
import sys
import tempfile
import typing


def command_line() -> str:
  """What was typed to start this process."""
  module = f'launch.{pathlib.Path(sys.argv[0]).stem}'
  return shlex.join(['python', '-m', module, *sys.argv[1:]])


def printable(text: str) -> str:
  """Text on one line that does not steer a terminal, whatever it was."""
  return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def default_data_dir() -> str:
  """Returns where TFDS keeps its data: $TFDS_DATA_DIR, or its default."""
  return os.environ.get('TFDS_DATA_DIR') or str(
    pathlib.Path.home() / 'tensorflow_datasets'
  )


# What TensorFlow's libraries print before they read how much to print.
_NOISE = re.compile(
  rb'[IW]0000 |E0000 .* failed call to cuInit|WARNING: All log messages before'
)


def import_tensorflow() -> None:
  """Imports TensorFlow as `vae` sets it up, without its start-up chatter.

  Raises:
    ImportError: packages that do not fit together, in one line with the cure.
  """
  import vae  # Before TensorFlow: says how that is to start.

  del vae
  sys.stderr.flush()
  stderr = os.dup(2)
  # A million objects that will all stay: looking for garbage among them, now
  # and at every later collection, costs about 0.7 s of a run.
  gc.disable()
  with tempfile.TemporaryFile() as captured:
    os.dup2(captured.fileno(), 2)
    try:
      import tensorflow as tf

      tf.config.list_physical_devices()
      import tensorflow_probability as tfp

      del tfp
      gc.freeze()
    finally:
      gc.enable()
      os.dup2(stderr, 2)
      os.close(stderr)
      captured.seek(0)
      for line in captured:
        if not _NOISE.match(line):
          sys.stderr.write(line.decode(errors='replace'))


def leave(code: int) -> typing.NoReturn:
  """Ends the process at once, with what it has printed and its exit code.

  Taking TensorFlow apart object by object takes a second. All files are closed
  by now, and the system takes the memory back at once.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
