import os
import subprocess
import sys

import pytest

from launch import files


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'x'
  files.replace_file(path, b'old')

  def fail(handle):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(OSError, match='No space'):
    files.replace_file(path, b'new')
  assert path.read_bytes() == b'old'
  assert [p.name for p in tmp_path.iterdir()] == ['x']


def test_a_lock_is_refused_while_its_process_lives_and_ends_with_it(tmp_path):
  script = (
    'import pathlib, sys; from launch import files\n'
    'with files.locked(pathlib.Path(sys.argv[1])):\n'
    '  print("held", flush=True); input()'
  )
  lock = tmp_path / 'lock'
  process = subprocess.Popen(
    [sys.executable, '-c', script, lock],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  try:
    assert process.stdout.readline() == b'held\n'
    with (
      pytest.raises(files.LockedError, match='by another process'),
      files.locked(lock, wait=False),
    ):
      pass
  finally:
    process.kill()
    process.communicate()
  with files.locked(lock, wait=False):
    pass
