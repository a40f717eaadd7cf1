"""Reads and writes files so that nothing is lost, hangs, or lands elsewhere.

A file is replaced whole or grows by whole lines, under locks that end with
their process. What is no regular file (a pipe, a device) is not waited for,
and links that lie where a file or a folder should be are not followed.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator


class LockedError(ValueError):
  """Another process writes a run."""


def _open(path: str | os.PathLike, flags: int) -> int:
  """Opens a regular file and returns its descriptor; waits for no other end."""
  handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
  if not stat.S_ISREG(os.fstat(handle).st_mode):
    os.close(handle)
    raise OSError(errno.EINVAL, 'is no regular file', os.fspath(path))
  return handle


def read_bytes(path: str | os.PathLike) -> bytes:
  """Returns what a regular file holds."""
  with open(_open(path, os.O_RDONLY), 'rb') as file:
    return file.read()


def check_regular(path: str | os.PathLike) -> None:
  """Checks that a file can be read to an end by whoever opens it next."""
  os.close(_open(path, os.O_RDONLY))


def open_to_append(path: pathlib.Path) -> int:
  """Opens a file to add to, made where it is missing; no link is followed."""
  return _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW)


def make_folder(path: pathlib.Path) -> pathlib.Path:
  """Makes a folder where it is missing, and returns it.

  Raises:
    OSError: a link lies there, through which others' files would be written.
  """
  if path.is_symlink():
    raise OSError(errno.ELOOP, 'is a symbolic link', os.fspath(path))
  path.mkdir(exist_ok=True)
  return path


def replace_file(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file in one step: readers see the old one or the new one."""
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with open(handle, 'wb') as file:
      fcntl.flock(file, fcntl.LOCK_EX)  # Says that its writer lives.
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


def delete_unfinished(folder: pathlib.Path, pattern: str) -> None:
  """Deletes what kills left of replacing the files that match a pattern."""
  for path in folder.glob(f'.{pattern}.' + '[a-z0-9_]' * 8):
    with contextlib.suppress(OSError):  # Of another user, or gone.
      handle = _open(path, os.O_RDONLY | os.O_NOFOLLOW)
      try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
      finally:
        os.close(handle)


def append_text(path: pathlib.Path, text: str) -> None:
  """Appends to a file in one write, so that a kill leaves whole lines."""
  content = text.encode()
  handle = _open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
  try:
    if os.write(handle, content) != len(content):
      raise OSError(errno.ENOSPC, 'took only part of a row', os.fspath(path))
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
  handle = open_to_append(path)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      raise LockedError(
        f'{path.parent} is being written by another process'
      ) from None
    yield
  finally:
    os.close(handle)
