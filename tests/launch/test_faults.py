"""No work is lost: kills, signals, full disks, and losses that explode."""

import errno
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from launch import records
from launch.rundir import checkpoints
from tests.launch import conftest, faults
from tests.launch.test_train import assert_one_line_error
from vae import training


@pytest.mark.parametrize('kind', faults.KINDS)
def test_a_killed_run_resumes_to_the_bits_of_one_left_alone(
  launch_train, tmp_path, data_dir, kind
):
  settings = faults.SMALL | faults.KINDS[kind]
  killed, whole = tmp_path / 'killed', tmp_path / 'whole'
  moment = random.Random(kind).uniform(0.2, 2.0)
  faults.kill_after(moment, faults.flags(killed, data_dir, settings))
  assert launch_train(run_dir=killed, **settings).code == 0
  assert launch_train(run_dir=whole, **settings).code == 0
  faults.assert_same_run(whole, killed)


WRITTEN = faults.SMALL | {'training_steps': 1000, 'eval_every': 300}


@pytest.fixture(scope='module')
def left_alone(made_once, data_dir):
  def train(folder):
    flags = faults.flags(folder / 'run', data_dir, WRITTEN)
    result = conftest.call_train(*flags)
    assert result.code == 0, result.stderr

  return made_once('left_alone', train) / 'run'


@pytest.mark.parametrize(
  ('function', 'count'),
  [
    ('write', 12),  # Half a row of a table.
    ('fsync', 3),  # The start, before config.json.
    ('fsync', 31),  # A checkpoint or a table, before its rename.
    ('replace', 24),
  ],
)
def test_a_run_that_dies_inside_a_write_loses_nothing(
  launch_train, left_alone, tmp_path, data_dir, function, count
):
  killed = tmp_path / 'killed'
  faults.kill_inside(function, count, faults.flags(killed, data_dir, WRITTEN))
  assert launch_train(run_dir=killed, **WRITTEN).code == 0
  faults.assert_same_run(left_alone, killed)


def test_a_second_signal_ends_at_once(tmp_path, data_dir):
  # Blocks of convolutions take about a second, and XLA longer to compile.
  settings = {
    'network': 'deep_conv',
    'hidden_sizes': None,
    'channels': '8,8',
    'jit': 'on',
  }
  process = subprocess.Popen(
    [
      sys.executable,
      '-m',
      'launch.train',
      *faults.flags(tmp_path / 'run', data_dir, settings),
    ],
    cwd=faults.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout is not None
  assert any(line.startswith('device') for line in process.stdout)
  time.sleep(0.5)  # Inside the compiler.
  process.send_signal(signal.SIGINT)
  time.sleep(0.2)
  process.send_signal(signal.SIGINT)
  _, stderr = process.communicate(timeout=30)
  assert process.returncode == 130
  assert 'once more ends at once' in stderr
  # The first was not yet obeyed.
  assert records.read_manifest(tmp_path / 'run')['status'] == 'running'


def test_a_loss_that_explodes_keeps_what_replays_it(
  launch_train, tmp_path, data_dir
):
  run = tmp_path / 'run'
  settings = {'learning_rate': 1e12, 'log_every': 1}
  assert launch_train(run_dir=run, **settings).code == 1
  manifest = records.read_manifest(run)
  assert manifest['status'] == 'failed'
  term, _, value, *_, step = manifest['error'].split()
  assert (term, value) in (('distortion', 'nan'), ('distortion', 'inf'))
  # The weights are those before the step, and the batch is that of the step.
  assert checkpoints.load(checkpoints.paths(run)[0])[0] == int(step) - 1
  failed = records.read_arrays(run, 'failed_batch')
  assert int(failed['step']) == int(step)
  assert failed['images'].shape == (64, 28, 28, 1)
  # It fails again, at once and in the same place.
  result = launch_train(run_dir=run, **settings)
  assert_one_line_error(result, f'is {value} at step {step}')


# -- The disk -----------------------------------------------------------------


def test_a_disk_that_takes_no_more_stops_the_run_which_resumes(
  launch_train, tmp_path, data_dir
):
  run, whole = tmp_path / 'run', tmp_path / 'whole'
  settings = faults.SMALL | {'hidden_sizes': '64', 'training_steps': 600}

  def limit():  # Larger files fail as on a full disk: in the middle of a write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

  stopped = subprocess.run(
    [
      sys.executable,
      '-m',
      'launch.train',
      *faults.flags(run, data_dir, settings),
    ],
    cwd=faults.ROOT,
    capture_output=True,
    text=True,
    preexec_fn=limit,
  )
  assert stopped.returncode == 1
  assert os.strerror(errno.EFBIG) in stopped.stderr
  assert 'Traceback' not in stopped.stderr
  assert f'python -m launch.train --run_dir={run}' in stopped.stderr
  for path in checkpoints.paths(run):
    checkpoints.load(path)
  assert records.read_manifest(run)['status'] == 'failed'
  assert launch_train(run_dir=run, **settings).code == 0
  assert launch_train(run_dir=whole, **settings).code == 0
  faults.assert_same_run(whole, run)


def test_a_folder_that_cannot_be_written_any_more_is_named(
  launch_train, tmp_path, monkeypatch
):
  run = tmp_path / 'run'

  def refuse(*arguments, **options):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(run))

  with monkeypatch.context() as patch:
    patch.setattr(checkpoints, 'save', refuse)
    result = launch_train(run_dir=run)
  assert_one_line_error(result, str(run), 'Permission denied')
  assert launch_train(run_dir=run).code == 0


# -- Memory -------------------------------------------------------------------


def test_too_little_memory_names_the_batch_size(
  launch_train, tmp_path, monkeypatch
):
  def allocate(self, *arguments):
    raise tf.errors.ResourceExhaustedError(
      None, None, 'OOM when allocating tensor with shape[64,99] and type float'
    )

  monkeypatch.setattr(training.Engine, 'run', allocate)
  result = launch_train(run_dir=tmp_path / 'run')
  assert_one_line_error(
    result, 'out of memory for a tensor of shape[64,99]', '--batch_size=64'
  )
  assert records.read_manifest(tmp_path / 'run')['status'] == 'failed'


def test_a_step_that_fits_into_no_memory_ends_in_one_line(
  launch_train, tmp_path
):
  if pathlib.Path('/proc/sys/vm/overcommit_memory').read_text() == '1\n':
    pytest.skip('this system grants any memory')
  result = launch_train(
    run_dir=tmp_path / 'run',
    batch_size=160,
    num_samples=16_384,  # Of 784 units each: 8 GB a layer.
    hidden_sizes=','.join(['784'] * 40),
    latent_size=1,
    jit='on',
  )
  assert_one_line_error(result, 'out of memory', '--batch_size=160')
  assert records.read_manifest(tmp_path / 'run')['status'] == 'failed'


# -- Damage -------------------------------------------------------------------


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
  launch_train, tmp_path
):
  run, whole = tmp_path / 'run', tmp_path / 'whole'
  settings = {'checkpoint_every': 10, 'training_steps': 40}
  assert launch_train(run_dir=whole, **settings).code == 0
  short = settings | {'training_steps': 30}
  assert launch_train(run_dir=run, **short).code == 0
  newest = checkpoints.paths(run)[0]
  content = bytearray(newest.read_bytes())
  content[-1] ^= 1
  newest.write_bytes(content)
  result = launch_train(run_dir=run, **settings)
  assert result.code == 0, result.stderr
  assert 'WARNING' in result.stderr
  assert 'is damaged: its digest differs' in result.stderr
  faults.assert_same_run(whole, run)


def test_checkpoints_that_are_all_damaged_are_an_error_and_stay(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  settings = {'checkpoint_every': 10, 'training_steps': 40}
  assert launch_train(run_dir=run, **settings).code == 0
  for path in checkpoints.paths(run):
    path.write_bytes(b'')
  before = sorted(run.rglob('*'))
  result = launch_train(run_dir=run, training_steps=50)
  assert_one_line_error(result, 'every checkpoint in', 'is damaged')
  assert sorted(run.rglob('*')) == before
  assert np.all([not path.read_bytes() for path in checkpoints.paths(run)])
