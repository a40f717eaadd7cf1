"""Trains runs of a sweep in one process, whoever sends them."""

import contextlib
import functools
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

from launch import files, process, records
from launch.rundir import opening
from launch.settings import config as config_lib
from launch.settings.config import Config

# A process whose sweep was killed gives up its run when it next looks around,
# and one on a lost node when that node's system does.
_ORPHAN_SECONDS = 180.0


class RunTask(NamedTuple):
  """A run that is to be trained to its end.

  Attributes:
    name: of the run in its sweep.
    path: its folder, absolute.
    config: its settings, of which some may be left open.
    data_dir: TFDS's data folder.
    command: what a person typed, for the manifest.
    cwd: where it was typed, for a dataset that is a path.
  """

  name: str
  path: pathlib.Path
  config: Config
  data_dir: str
  command: str
  cwd: str


class Outcome(NamedTuple):
  """The outcome of a run: its status and results.

  Attributes:
    name: of the run in its sweep.
    status: as in a manifest.
    error: why it failed, in one line.
    results: of the test split, by metric.
  """

  name: str
  status: str
  error: str
  results: dict[str, float]


def read_outcome(name: str, path: pathlib.Path) -> Outcome:
  """Reads from its folder how a run ended.

  Raises:
    RecordError: no run, or a damaged one.
  """
  manifest = records.read_manifest(path)
  return Outcome(
    name,
    manifest['status'],
    str(manifest.get('error', '')),
    records.read_results(path, manifest),
  )


@functools.cache
def _program_cache() -> Any:
  """Returns the programs that the runs of this process share."""
  process.import_tensorflow()
  from launch.experiment import programs

  return programs.ProgramCache()


@contextlib.contextmanager
def _output_to(path: pathlib.Path) -> Iterator[None]:
  """Appends to a file what is printed, by TensorFlow too."""
  sys.stdout.flush()
  sys.stderr.flush()
  before = os.dup(1), os.dup(2)
  try:
    log = files.open_to_append(path)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    yield
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    for number, descriptor in enumerate(before, 1):
      os.dup2(descriptor, number)
      os.close(descriptor)


def train(task: RunTask) -> Outcome:
  """Trains a run, or goes on with it; what it prints goes to its log.txt.

  The next task of the same process finds TensorFlow imported and, where it
  differs in nothing that is compiled, the program compiled.
  """
  try:
    os.chdir(task.cwd)
    task.path.mkdir(parents=True, exist_ok=True)
    with _output_to(task.path / records.LOG):
      try:
        _train(task)
      except BaseException:
        traceback.print_exc()
        raise
    return read_outcome(task.name, task.path)
  except KeyboardInterrupt:
    return Outcome(task.name, 'interrupted', '', {})
  except Exception as error:
    # The errors of users have a class of their own.
    message = str(error)
    if not isinstance(error, ValueError) or type(error) is ValueError:
      message = f'{type(error).__name__}: {error}'
    return Outcome(task.name, 'failed', ' '.join(message.split()), {})


def _train(task: RunTask) -> None:
  cache = _program_cache()
  from launch.experiment import failures, loop

  make_config = functools.partial(config_lib.decided, task.config)
  deadline = time.monotonic() + _ORPHAN_SECONDS
  while True:
    try:
      with opening.opened(str(task.path), False, make_config) as opened:
        loop.run(*opened, task.data_dir, task.command, cache=cache)
        return
    except failures.FailedError as error:
      process.print_error('launch.train', str(error))
      return  # The manifest says it too.
    except files.LockedError:
      if time.monotonic() > deadline:
        raise
      time.sleep(0.2)
