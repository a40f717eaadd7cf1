"""Folders that are made once, whole or not at all."""

import contextlib
import fcntl
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
  """Keeps other processes that want to make a folder waiting.

  Args:
    folder: whose parent is made too.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  # Locks end with their process, so that none can be stale.
  with folder.with_name(f'.{folder.name}.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def making(folder: pathlib.Path) -> Iterator[pathlib.Path | None]:
  """Yields an empty folder, which then becomes `folder`.

  Other processes that want to make it wait meanwhile. Where the body raises,
  nothing stays; what killed processes left beside it is cleared.

  Args:
    folder: whose parent is made too.

  Yields:
    The folder to fill, or None where `folder` is there already.
  """
  with locked(folder):
    _clear(folder.parent)
    if folder.is_dir():
      yield None
      return
    partial = folder.with_name(f'.{folder.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
      yield partial
      partial.replace(folder)
    finally:
      shutil.rmtree(partial, ignore_errors=True)


def _clear(parent: pathlib.Path) -> None:
  """Deletes what processes left that were killed while they made a folder."""
  for partial in parent.glob('.*.partial'):
    with contextlib.suppress(OSError), partial.with_suffix('.lock').open() as f:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
      shutil.rmtree(partial, ignore_errors=True)
