"""Writes files so that nothing is lost: whole, by whole lines, under locks."""

import contextlib
import fcntl
import os
import pathlib
import tempfile
from collections.abc import Iterator


class LockedError(ValueError):
  """Another process writes a run."""


def replace_file(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file in one step: readers see the old one or the new one."""
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with open(handle, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(name, 0o644)
    os.replace(name, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(name)
    raise
  folder = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(folder)
  finally:
    os.close(folder)


def append_text(path: pathlib.Path, text: str) -> None:
  """Appends to a file in one write, so that a kill leaves whole lines."""
  content = text.encode()
  handle = os.open(path, os.O_WRONLY | os.O_APPEND)
  try:
    if os.write(handle, content) != len(content):
      raise OSError(f'{path}: the disk took only part of a row')
  finally:
    os.close(handle)


@contextlib.contextmanager
def locked(path: pathlib.Path, wait: bool = True) -> Iterator[None]:
  """Holds a lock that the system ends with the process; none can be stale.

  Args:
    path: the lock's file, made where it is missing.
    wait: whether to wait for another holder.

  Raises:
    LockedError: another process holds the lock and `wait` is false.
  """
  with path.open('a') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      raise LockedError(
        f'{path.parent} is being written by another process'
      ) from None
    yield
