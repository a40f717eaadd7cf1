"""Tells what in a folder a run wrote, and deletes that alone. No TensorFlow."""

import contextlib
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Iterator

from launch import files, records

LOCK = '.lock'

# What a run writes, by folder; the files that prove that it is one come last,
# since a kill may come between.
_WRITTEN = {
  records.CHECKPOINTS: (f'step_{12 * "[0-9]"}.safetensors',),
  records.ARRAYS: ('*.npz',),
  records.FIGURES: ('*.png', '*.pdf', '*.html'),
  f'{records.SAVED_MODEL}/variables': ('variables.*',),
  f'{records.SAVED_MODEL}/assets': (),
  records.SAVED_MODEL: ('saved_model.pb', 'fingerprint.pb'),
  records.TENSORBOARD: ('events.out.tfevents.*',),
  '': (
    records.EXPLORE,
    *records.RUN_TABLES,
    records.SCORES,
    records.CONFIG,
    records.MANIFEST,
  ),
}

# What the names alone do not prove, the bytes do; by folder or pattern.
_MARKS = {
  records.ARRAYS: 'step.npy',
  records.FIGURES: records.DRAWN_BY,
  records.EXPLORE: records.EXPLORED_BY,
}

_TRASH = '.overwritten.'


class ContentsError(ValueError):
  """A folder holds what a run cannot share it with; one line."""


def _is_marked(path: pathlib.Path, mark: str) -> bool:
  content = files.read_bytes(path)
  # A PDF holds what is not all ASCII in UTF-16.
  return any(mark.encode(code) in content for code in ('utf-8', 'utf-16-be'))


def _written(run_dir: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the files that a run wrote into its folder."""
  for folder, patterns in _WRITTEN.items():
    for pattern in patterns:
      mark = _MARKS.get(folder) or _MARKS.get(pattern)
      for path in sorted((run_dir / folder).glob(pattern)):
        if mark is None or _is_marked(path, mark):
          yield path


def check_no_links(run_dir: pathlib.Path) -> None:
  """Checks that what a run would write lands in its folder.

  Raises:
    ContentsError: a link lies where a run has a folder or a file, or what is
      neither.
  """
  for name in (*_WRITTEN, *_WRITTEN[''], records.LOG, LOCK):
    path = run_dir / name
    if not name or not os.path.lexists(path):
      continue
    is_right = stat.S_ISDIR if name in _WRITTEN else stat.S_ISREG
    if not is_right(path.lstat().st_mode):
      what = 'a symbolic link' if path.is_symlink() else 'of another kind'
      raise ContentsError(
        f'{path} is {what}; a run writes into folders and files of its own '
        'alone'
      )


def check_free(run_dir: pathlib.Path) -> None:
  """Checks that a run may start in a folder that has no config.json.

  What a start leaves that was cut short is known by more than its names, for
  the new run replaces it.

  Raises:
    ContentsError: the folder holds what no run left.
  """
  for path in sorted(run_dir.iterdir()):
    if path.name.startswith('.') or path.name == records.LOG:
      continue  # Never replaced.
    is_ours = False
    with contextlib.suppress(records.RecordError, OSError):
      if path.name in records.RUN_TABLES:
        header = ','.join(records.COLUMNS[path.name]) + '\n'
        is_ours = files.read_bytes(path) == header.encode()
      elif path.name == records.MANIFEST:
        is_ours = bool(records.read_manifest(run_dir))
    if not is_ours:
      raise ContentsError(
        f'{run_dir} holds other files ({path.name}) but no {records.CONFIG}; '
        'give an empty or a new folder'
      )


def clear_litter(run_dir: pathlib.Path) -> None:
  """Deletes what kills left of writes; nobody else may start the run."""
  for folder, patterns in _WRITTEN.items():
    for pattern in patterns:
      files.delete_unfinished(run_dir / folder, pattern)
  for trash in run_dir.glob(f'{_TRASH}*'):
    shutil.rmtree(trash, ignore_errors=True)


def check_is_run(run_dir: pathlib.Path) -> None:
  """Checks that what a folder holds may be deleted as a run of ours.

  Raises:
    ContentsError: nothing proves it.
  """
  try:
    records.read_manifest(run_dir)
  except records.RecordError as error:
    raise ContentsError(
      f'--overwrite: {error}, so that nothing proves that a run wrote '
      f'{run_dir}; nothing was deleted'
    ) from error


def clear(run_dir: pathlib.Path) -> None:
  """Deletes what a run wrote, all of it or nothing, and nothing beside it.

  Raises:
    ContentsError: the folder is not provably a run's, or something cannot be
      deleted; all is as it was.
  """
  check_is_run(run_dir)
  check_no_links(run_dir)
  with records.held(run_dir):
    trash = pathlib.Path(tempfile.mkdtemp(prefix=_TRASH, dir=run_dir))
    moved: list[pathlib.Path] = []
    try:
      for path in _written(run_dir):
        path.rename(trash / str(len(moved)))
        moved.append(path)
    except OSError as error:
      for number, path in enumerate(moved):
        (trash / str(number)).rename(path)
      trash.rmdir()
      raise ContentsError(
        f'--overwrite: {error.filename} cannot be deleted: {error.strerror}; '
        'nothing was deleted'
      ) from error
  shutil.rmtree(trash)
  for folder in filter(None, _WRITTEN):
    with contextlib.suppress(OSError):  # Others' files keep it.
      (run_dir / folder).rmdir()
