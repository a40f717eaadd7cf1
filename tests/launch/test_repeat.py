"""`--config` runs a run again."""

import json
import os
import subprocess
import sys

import pytest

from launch import records
from launch.rundir import provenance
from launch.settings import config
from tests.launch import conftest
from tests.launch.faults import assert_same_run
from tests.launch.test_train import assert_one_line_error

SOURCE = {'commit': 'c0ffee' * 6, 'dirty': False}


@pytest.fixture(autouse=True)
def clean_tree(monkeypatch):
  """The tree under test may hold changes, which are in doubt by design."""
  monkeypatch.setattr(provenance, 'source', lambda: SOURCE)


def before_the_start(result):
  return result.stdout.split('\nrun      ')[0]


def test_the_command_repeats_a_run_to_the_bit(launch_train, tmp_path):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, binarize='dynamic', beta=0.5, seed=3)
  assert result.code == 0, result.stderr
  repeated = subprocess.run(
    [
      *(sys.executable, '-m', 'launch.train'),
      f'--config={run / records.CONFIG}',
      f'--data_dir={launch_train.data_dir}',
    ],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(conftest.ROOT)},
    capture_output=True,
    text=True,
  )
  assert repeated.returncode == 0, repeated.stderr
  assert repeated.stdout.startswith(f'repeats  {run / records.CONFIG}')
  (fresh,) = (tmp_path / 'runs').iterdir()
  assert_same_run(run, fresh)


@pytest.mark.parametrize(
  'settings',
  [
    {'network': 'strided_conv', 'channels': '4', 'data_placement': 'host'},
    {'num_validation': 3900, 'batch_size': 50, 'patience': 2, 'jit': 'off'},
    {
      'preset': 'mlp_vae',
      'num_validation': 3000,
      'num_epochs': 2,
      'training_steps': None,
    },
  ],
  ids=str,
)
def test_every_recorded_byte_comes_again(launch_train, tmp_path, settings):
  one, two = tmp_path / 'one', tmp_path / 'two'
  result = launch_train(run_dir=one, **settings)
  assert result.code == 0, result.stderr
  result = conftest.call_train(
    f'--config={one / records.CONFIG}',
    f'--run_dir={two}',
    f'--data_dir={launch_train.data_dir}',
  )
  assert result.code == 0, result.stderr
  assert before_the_start(result) == (
    f'repeats  {one / records.CONFIG}, by the same versions, on the same '
    'device and data'
  )
  assert_same_run(one, two)


@pytest.fixture
def repeat(launch_train, tmp_path):
  """Trains a run in `original` and runs it again with more arguments."""
  original = tmp_path / 'original'
  settings = {'training_steps': 2, 'jit': 'off'}  # XLA compiles for seconds.
  assert launch_train(run_dir=original, **settings).code == 0

  def run(*arguments):
    return conftest.call_train(
      f'--data_dir={launch_train.data_dir}',
      f'--run_dir={tmp_path / "again"}',
      f'--config={original / records.CONFIG}',
      *arguments,
    )

  run.original, run.again = original, tmp_path / 'again'
  return run


def test_what_differs_is_listed_first(repeat, monkeypatch):
  manifest = records.read_manifest(repeat.original)
  manifest['packages']['numpy'] = '1.0'
  manifest['device']['name'] = 'another'
  manifest['dataset']['sha256']['test'] = '0' * 64
  records.write_manifest(repeat.original, manifest)
  changed = {'commit': 'beef' * 10, 'dirty': False}
  monkeypatch.setattr(provenance, 'source', lambda: changed)
  result = repeat('--beta=0.25')
  assert result.code == 0, result.stderr
  lines = [line.split() for line in before_the_start(result).splitlines()]
  assert ['that', 'run', 'this', 'run'] in lines
  assert ['beta', '0.01', '0.25'] in lines
  assert ['numpy', '1.0', provenance.package_versions()['numpy']] in lines
  assert ['commit', 'c0ffeec0ffee', 'beefbeefbeef'] in lines
  named = {line[0] for line in lines}
  assert named >= {'device', 'sha256'}
  assert 'tensorflow' not in named


def test_flags_override_the_file(repeat):
  assert repeat('--beta=0.25', '--num_epochs=0.1', '--jit=on').code == 0
  original, again = (
    config.load(run / records.CONFIG) for run in (repeat.original, repeat.again)
  )
  assert config.differences(vars(original), vars(again)) == [
    'beta: 0.01 -> 0.25',
    'training_steps: 2 -> 7',  # A tenth of 4,000 images in batches of 64.
    'jit: off -> on',
  ]


def test_a_folder_that_holds_a_run_must_hold_that_one(repeat):
  assert repeat().code == 0
  assert 'is finished (2 steps)' in repeat().stdout
  assert_one_line_error(repeat('--beta=4'), 'beta: 0.01 -> 4')
  (repeat.original / records.CONFIG).write_text('{"seed": 7}')
  assert_one_line_error(repeat(), 'holds a run with other settings')


def test_a_file_by_hand_may_give_epochs_and_little_else(repeat):
  path = repeat.original / records.CONFIG
  settings = {'dataset': 'mnist_5k', 'hidden_sizes': [8], 'num_epochs': 0.1}
  path.write_text(json.dumps(settings))
  (repeat.original / records.MANIFEST).unlink()
  result = repeat()
  assert result.code == 0, result.stderr
  assert 'with no manifest.json beside it' in before_the_start(result)
  again = config.load(repeat.again / records.CONFIG)
  assert (again.training_steps, again.num_epochs) == (7, None)


def test_files_that_cannot_be_repeated_end_in_one_line(repeat):
  assert_one_line_error(
    repeat('--preset=mlp_vae'), 'give one of --config and --preset'
  )
  assert_one_line_error(repeat('--config=/nowhere/config.json'), '/nowhere')
  assert_one_line_error(repeat(f'--config={repeat.original}'), 'cannot be read')
  manifest = (repeat.original / records.MANIFEST).read_text()
  (repeat.original / records.MANIFEST).write_text('{')
  assert_one_line_error(repeat(), 'manifest.json')
  (repeat.original / records.MANIFEST).write_text(manifest)
  path = repeat.original / records.CONFIG
  for content, message in (
    ('{', 'cannot be read'),
    ('[]', 'must hold one JSON object'),
    ('{"gamut": 1}', 'unknown settings gamut'),
    ('{"beta": "x"}', '--beta=x'),
    ('{"num_epochs": 1, "training_steps": 3}', 'give one of'),
  ):
    path.write_text(content)
    assert_one_line_error(repeat(), 'config.json', message)
  assert not repeat.again.exists()
