"""Opening a run directory: fresh, to be resumed, or refused. No TensorFlow."""

import contextlib
import datetime
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator

from launch import files, process, records
from launch.rundir import contents
from launch.settings import config as config_lib
from launch.settings.config import Config


class RunError(ValueError):
  """A run cannot start, resume or go on; one line that says why."""


def make_new(root: str, label: str) -> pathlib.Path:
  """Makes a folder under `root` whose name tells when, and what it is."""
  stem = f'{datetime.datetime.now():%Y%m%d-%H%M%S}-{label}'
  for number in itertools.count(1):
    path = pathlib.Path(root, stem if number == 1 else f'{stem}-{number}')
    try:
      path.mkdir(parents=True)
    except FileExistsError:
      if not path.exists():  # A file stands where `root` should be.
        raise
    else:
      return path
  raise AssertionError


@contextlib.contextmanager
def opened(
  run_dir: str | None,
  overwrite: bool,
  make_config: Callable[[Config | None], Config],
) -> Iterator[tuple[pathlib.Path, Config]]:
  """Makes or finds the run directory, and holds it against other writers.

  Args:
    run_dir: the flag; None for a new folder under runs/.
    overwrite: whether the run that the folder holds is to be replaced, so that
      its settings do not count. Nothing is deleted here.
    make_config: from the config of the run that the folder holds, or None, the
      config that is asked for.

  Yields:
    The folder and the config. A folder that was made here is removed again
    where nothing was written to it.

  Raises:
    RunError: a folder that cannot be written or that holds something else.
    ConfigError: flags or a config.json that cannot be.
    LockedError: another process writes the run.
  """
  config = make_config(None)
  made = False
  try:
    if run_dir is None:
      path, made = make_new('runs', _label(config)), True
    else:
      path = process.user_path(run_dir)
      if not path.exists():
        path.mkdir(parents=True)
        made = True
    holds_run = os.path.lexists(path / records.CONFIG)
    if not holds_run:
      contents.check_free(path)
    elif overwrite:
      contents.check_is_run(path)
    contents.check_no_links(path)
    if not os.access(path, os.W_OK):
      raise PermissionError(13, 'permission denied')
  except OSError as error:
    raise RunError(
      f'--run_dir={run_dir or "runs/..."}: cannot be written: {error.strerror}'
    ) from error
  with files.locked(path / contents.LOCK, wait=False):
    try:
      contents.clear_litter(path)
      if holds_run and not overwrite:
        config = make_config(load_config(path))
      yield path, config
    finally:
      if made and not (path / records.CONFIG).exists():
        (path / contents.LOCK).unlink()
        with contextlib.suppress(OSError):
          path.rmdir()


def _label(config: Config) -> str:
  """Says what a run is, as the name of a folder."""
  words = [f'{name}{getattr(config, name):g}' for name in config.weights]
  if config.objective != Config.objective:
    words.insert(0, config.objective)
  return '-'.join(
    [*words, f'latents{config.latent_size}', f'seed{config.seed}']
  )


def find(run_dir: str | None) -> pathlib.Path:
  """Returns the run directory of a flag; None for the newest under runs/.

  Raises:
    RecordError: no such run.
  """
  path = process.user_path(run_dir) if run_dir else records.newest_run()
  records.read_manifest(path)
  return path


def load_config(path: pathlib.Path) -> Config:
  """Returns the config of a run, all of it resolved.

  Raises:
    ConfigError: a config.json that is damaged or left anything open.
  """
  config = config_lib.load(path / records.CONFIG)
  if config.training_steps is None:
    raise config_lib.ConfigError(
      f'{path / records.CONFIG}: training_steps must be a number'
    )
  return config


def check_same(path: pathlib.Path, stored: Config, config: Config) -> None:
  """Checks that a run may go on under a config.

  Args:
    path: the run.
    stored: its config.
    config: what was asked for, resolved.

  Raises:
    RunError: they differ in more than devices, and a number of training steps
      that grew.
  """
  may_differ = config_lib.moved(vars(stored), vars(config))
  may_differ.add('training_steps')
  differing = [
    line
    for line in config_lib.differences(vars(stored), vars(config))
    if line.split(':')[0] not in may_differ
  ]
  if differing:
    raise RunError(
      f'--run_dir={path} holds a run with other settings '
      f'({"; ".join(differing)}); give another folder, or --overwrite'
    )
  assert stored.training_steps and config.training_steps
  if config.training_steps < stored.training_steps:
    raise RunError(
      f'--run_dir={path} holds a run of {stored.training_steps} training '
      f'steps; it cannot be cut to {config.training_steps}'
    )
  if config.training_steps > stored.training_steps and (
    config.ends_with_last_step
  ):
    raise RunError(
      f'--run_dir={path}: '
      f'{config.flag_of("learning_rate_schedule")} falls until the last step, '
      f'which is {stored.training_steps} in this run: one of '
      f'{config.training_steps} differs from its first step on; give another '
      'folder'
    )
