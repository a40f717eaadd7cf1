"""Killing runs for real, and comparing what comes out with one left alone."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from launch import records
from launch.rundir import checkpoints

ROOT = pathlib.Path(__file__).parents[2]

SMALL = {
  'dataset': 'mnist_5k',
  'hidden_sizes': '8',
  'latent_size': 3,
  'training_steps': 3000,
  'checkpoint_every': 128,
  'log_every': 100,
  'eval_every': 700,
  'jit': 'auto',
}

# Everything that a resumed run could get wrong.
KINDS = {
  'mlp': {},
  'host': {'data_placement': 'host', 'binarize': 'dynamic'},
  'no-jit': {'jit': 'off', 'training_steps': 1500, 'optimizer': 'rmsprop'},
  'conv': {
    'network': 'pooled_conv',
    'hidden_sizes': None,
    'channels': '2,2',
    'dropout': 0.5,
    'batch_size': 8,
    'training_steps': 1000,
  },
  'early': {
    'num_validation': 3900,
    'batch_size': 50,
    'learning_rate': 0.001,
    'patience': 20,
    'training_steps': 160,
    'eval_every': 0,
  },
  'schedules': {
    'beta_warmup_steps': 2500,
    'learning_rate_schedule': 'cosine',
    'learning_rate_warmup_steps': 300,
    'clip_norm': 0.01,
    'weight_decay': 0.1,
    'likelihood': 'normal',
  },
}

RECORDED = (
  records.TRAIN,
  records.EVAL,
  records.RATE_PER_LATENT,
  records.CONFIG,
)

# A program that trains until it dies inside the n-th call of a function of
# `os`: half a row written, or a file not yet renamed.
_DEADLY = """
import os, signal, sys
name, count = sys.argv[1], int(sys.argv[2])
real = getattr(os, name)
def deadly(*arguments, **options):
  global count
  count -= 1
  if not count:
    if name == 'write':
      real(arguments[0], arguments[1][:len(arguments[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
  return real(*arguments, **options)
setattr(os, name, deadly)
sys.argv = ['launch/train.py', *sys.argv[3:]]
from launch import cli, train
cli.run(train.main, '')
"""


def flags(run, data_dir, settings):
  """The command line of a run."""
  settings = SMALL | settings
  return [
    f'--run_dir={run}',
    f'--data_dir={data_dir}',
    *(f'--{n}={value}' for n, value in settings.items() if value is not None),
  ]


def kill_after(seconds, arguments, new_checkpoint_in=None):
  """Trains in a process of its own, killed some time after its first line.

  Args:
    seconds: how long after.
    arguments: of `launch.train`.
    new_checkpoint_in: the run, where the time is to count from a checkpoint
      that this process writes, so that compiling does not take all of it.

  Returns:
    Whether it was killed; else it had finished.
  """
  run = new_checkpoint_in
  before = set(checkpoints.paths(run)) if run else set()
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.train', *arguments],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  assert process.stdout is not None
  process.stdout.readline()
  while (
    run and not set(checkpoints.paths(run)) - before and process.poll() is None
  ):
    time.sleep(0.005)
  time.sleep(seconds)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode in (0, -signal.SIGKILL), process.returncode
  return process.returncode != 0


def kill_inside(function, count, arguments):
  """Trains in a process of its own that dies inside a function of `os`."""
  process = subprocess.run(
    [sys.executable, '-c', _DEADLY, function, str(count), *arguments],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert process.returncode == -signal.SIGKILL, process.stderr


def assert_same_run(one, two):
  """Every recorded byte of two runs is the same."""
  for name in RECORDED:
    assert (one / name).read_text() == (two / name).read_text(), name
  newest = [checkpoints.paths(run)[0] for run in (one, two)]
  assert newest[0].name == newest[1].name
  assert newest[0].read_bytes() == newest[1].read_bytes()
  arrays = [
    sorted(p.name for p in (r / records.ARRAYS).iterdir()) for r in (one, two)
  ]
  assert arrays[0] == arrays[1]
  for name in arrays[0]:
    paths = [run / records.ARRAYS / name for run in (one, two)]
    assert paths[0].read_bytes() == paths[1].read_bytes(), name
