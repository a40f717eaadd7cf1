"""What a run may delete, replace and write through."""

import json
import os
import threading

import numpy as np
import pytest

from launch import files, records
from launch.rundir import checkpoints, contents, opening
from launch.settings import config
from tests.launch import test_records

MINE = b'mine'


def write_run(run, **manifest):
  """Writes one file of each kind that a run holds."""
  run.mkdir(exist_ok=True)
  for name in records.RUN_TABLES:
    records.write_table(run, name)
  checkpoints.save(run, 4, {'x': np.zeros(2)})
  records.write_arrays(run, 'latents', 4, {'means': np.zeros(2)})
  for name, origin in (('a.png', b'\0latin '), ('b.pdf', b''), ('c.html', b'')):
    drawn = origin + records.DRAWN_BY.encode() + b'loss_curves'
    if name == 'b.pdf':
      drawn = drawn.decode().encode('utf-16-be')
    records.write_figure(run / records.FIGURES / name, drawn)
  for name in (
    'saved_model/variables/variables.index',
    'saved_model/assets/x',
    'saved_model/saved_model.pb',
    'tensorboard/events.out.tfevents.1',
  ):
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name != 'x':
      path.touch()
  records.write_manifest(run, test_records.MANIFEST | manifest)
  stored = config.with_steps(config.Config(training_steps=4), 10)
  files.replace_file(run / records.CONFIG, stored.to_json().encode())
  return run


def tree(folder):
  """The contents of a folder by path, but for locks."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file() and not path.name.endswith('.lock')
  }


def test_clearing_deletes_the_run_and_nothing_else(tmp_path):
  run = write_run(tmp_path / 'run')
  foreign = (
    'notes.txt', 'figures/own.png', 'figures/x.txt', 'arrays/own.npz',
    'checkpoints/model.safetensors', 'checkpoints/step_best.safetensors',
    'saved_model/mine.pb', 'tensorboard/x',
    'log.txt',
  )  # fmt: skip
  for name in foreign:
    (run / name).write_bytes(MINE)
  contents.clear(run)
  assert tree(run) == dict.fromkeys(foreign, MINE)
  assert not (run / 'saved_model/variables').exists()


def huggingface(run):
  run.mkdir()
  (run / 'config.json').write_text('{"model_type": "vit", "beta": 0.5}')
  checkpoints.save(run, 4, {'x': np.zeros(2)})


def with_manifest_of_others(run):
  huggingface(run)
  (run / 'manifest.json').write_text('{"format": 1, "name": "an extension"}')


def with_link_to_folder(name):
  def make(run):
    write_run(run)
    real = run / name
    real.rename(run.parent / 'elsewhere')
    real.symlink_to(run.parent / 'elsewhere')

  return make


@pytest.mark.parametrize(
  'make',
  [
    huggingface,
    with_manifest_of_others,
    *(
      with_link_to_folder(name)
      for name in ('checkpoints', 'arrays', 'figures', 'saved_model',
                   'tensorboard', 'train.csv', 'config.json')
    ),
  ],
)  # fmt: skip
def test_what_is_not_provably_a_run_is_not_overwritten(tmp_path, make):
  run = tmp_path / 'run'
  make(run)
  before = tree(tmp_path)
  with (
    pytest.raises(contents.ContentsError),
    opening.opened(str(run), True, lambda stored: config.Config()),
  ):
    pass
  with pytest.raises(contents.ContentsError):
    contents.clear(run)
  assert tree(tmp_path) == before


def test_what_cannot_be_deleted_keeps_all(tmp_path, monkeypatch):
  run = write_run(tmp_path / 'run')
  before = tree(run)
  real = os.rename

  def rename(source, target):
    if str(source).endswith('.csv'):
      raise PermissionError(1, 'Operation not permitted', str(source))
    real(source, target)

  monkeypatch.setattr(os, 'rename', rename)
  with pytest.raises(contents.ContentsError, match='nothing was deleted'):
    contents.clear(run)
  assert tree(run) == before


@pytest.mark.parametrize(
  'name',
  [
    'checkpoints', 'arrays', 'figures', 'tensorboard', 'log.txt', '.lock',
    'train.csv', 'eval.csv', 'manifest.json',
  ],
)  # fmt: skip
@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
def test_a_run_writes_through_nothing_that_lies_in_its_place(
  tmp_path, name, kind
):
  run = write_run(tmp_path / 'run')
  path, elsewhere = run / name, tmp_path / 'elsewhere'
  if path.exists():
    path.rename(elsewhere)
  elif kind == 'link':
    elsewhere.write_bytes(MINE)
  if kind == 'pipe':
    os.mkfifo(path)
  else:
    path.symlink_to(elsewhere if kind == 'link' else tmp_path / 'nowhere')
  before = tree(tmp_path)
  ended = threading.Event()

  def start():
    for stored in (True, False):
      with (
        pytest.raises((ValueError, OSError)) as error,
        opening.opened(str(run), stored, lambda stored: config.Config()),
      ):
        pass
      assert '\n' not in str(error.value)
      assert type(error.value) is not ValueError
    ended.set()

  threading.Thread(target=start, daemon=True).start()
  assert ended.wait(20)
  assert tree(tmp_path) == before
  assert not (tmp_path / 'nowhere').exists()


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('train.csv', b'loss\n0.5\n'),
    ('eval.csv', b''),
    ('timing.csv', b'step,seconds\n1,0.5\n'),
    ('manifest.json', b'{"format": 1}'),
    ('notes.txt', MINE),
    ('checkpoints', None),
  ],
)
def test_files_that_no_start_left_are_kept(tmp_path, name, content):
  if content is None:
    (tmp_path / name).mkdir()
  else:
    (tmp_path / name).write_bytes(content)
  before = tree(tmp_path)
  with (
    pytest.raises(contents.ContentsError, match='holds other files'),
    opening.opened(str(tmp_path), False, lambda stored: config.Config()),
  ):
    pass
  assert tree(tmp_path) == before


def test_a_start_that_was_cut_short_is_begun_again(tmp_path):
  for name in (*records.RUN_TABLES, None):
    with opening.opened(str(tmp_path), False, lambda _: config.Config()):
      pass
    if name:
      records.write_table(tmp_path, name)
  records.write_manifest(tmp_path, test_records.MANIFEST)
  (tmp_path / records.LOG).write_text('a line')
  with opening.opened(str(tmp_path), False, lambda _: config.Config()):
    pass


def test_the_next_owner_clears_what_kills_left(tmp_path):
  run = write_run(tmp_path / 'run')
  before = tree(run)
  litter = (
    '.train.csv.abcdefgh',
    'checkpoints/.step_000000000008.safetensors.x_y1z2w3',
    'arrays/.latents.npz.abcdefgh', 'figures/.loss.png.abcdefgh',
    '.overwritten.abcdefgh/0',
  )  # fmt: skip
  for name in litter:
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_bytes(b'x' * 100)
  (run / '.mine.settings').write_bytes(MINE)
  with open(run / '.eval.csv.abcdefgh', 'wb') as living:
    files.fcntl.flock(living, files.fcntl.LOCK_EX)
    contents.clear_litter(run)
    assert tree(run) == before | {
      '.mine.settings': MINE,
      '.eval.csv.abcdefgh': b'',
    }


def test_results_are_not_added_to_another_run(tmp_path):
  row = test_records.eval_row()
  for old, new in (
    ({'id': 'a'}, {'id': 'b'}),
    ({}, {'started': '2026-01-02'}),
    ({}, {'id': 'a'}),
  ):
    run = write_run(tmp_path / 'run', **old)
    loaded = records.read_manifest(run)
    records.upsert(run, records.EVAL, [row], loaded)
    records.write_arrays(run, 'x', 1, {}, loaded)
    contents.clear(run)
    for _ in range(2):  # None there yet, and then another.
      with pytest.raises(records.RecordError, match='holds another run'):
        records.upsert(run, records.EVAL, [row], loaded)
      with pytest.raises(records.RecordError, match='holds another run'):
        records.write_arrays(run, 'x', 1, {}, loaded)
      write_run(run, **new)
    assert json.loads((run / records.MANIFEST).read_text())
    assert records.read_rows(run, records.EVAL) == []
