import multiprocessing
import os
import signal
import threading

import pytest

from vae.data import folders


def test_a_folder_is_made_once(tmp_path):
  with folders.making(tmp_path / 'deep' / 'a') as partial:
    (partial / 'file').write_text('1')
    assert not (tmp_path / 'deep' / 'a').exists()
  assert (tmp_path / 'deep' / 'a' / 'file').read_text() == '1'
  with folders.making(tmp_path / 'deep' / 'a') as partial:
    assert partial is None


def test_nothing_stays_of_a_folder_that_failed(tmp_path):
  with (
    pytest.raises(OSError, match='full'),
    folders.making(tmp_path / 'a') as partial,
  ):
    (partial / 'file').write_text('1')
    raise OSError('full')
  assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def _die_making(folder):
  with folders.making(folder) as partial:
    (partial / 'file').write_text('1')
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path):
  process = multiprocessing.get_context('fork').Process(
    target=_die_making, args=[tmp_path / 'a']
  )
  process.start()
  process.join()
  assert (tmp_path / '.a.partial').is_dir()
  # Also by one that makes another folder.
  with folders.making(tmp_path / 'b'):
    assert not (tmp_path / '.a.partial').exists()


def test_what_a_living_process_makes_is_left(tmp_path):
  making, go_on = threading.Event(), threading.Event()

  def make():
    with folders.making(tmp_path / 'a') as partial:
      (partial / 'file').write_text('1')
      making.set()
      go_on.wait(60)

  thread = threading.Thread(target=make)
  thread.start()
  assert making.wait(60)
  with folders.making(tmp_path / 'b'):
    pass
  go_on.set()
  thread.join()
  assert (tmp_path / 'a' / 'file').exists()
