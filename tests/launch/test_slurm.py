import contextlib
import os
import pathlib
import signal
import time

import pytest

from launch import records
from launch.settings.config import Config
from launch.sweeps import executors, slurm, worker
from tests.launch import cluster, faults, test_sweep
from tests.launch.test_sweep import end, rows, wait_for

ARGUMENTS = ('--executor=slurm', '--jit=off')


@pytest.fixture(scope='module')
def nodes(tmp_path_factory):
  pytest.importorskip('submitit')
  if not cluster.IS_INSTALLED:
    pytest.skip('slurm-wlm and munge are not installed')
  with cluster.started(tmp_path_factory.mktemp('slurm')) as nodes:
    yield nodes


@pytest.fixture
def start(nodes, tmp_path, data_dir):
  """Starts a small sweep on the cluster."""

  def start(*arguments, **environment):
    return test_sweep.start(
      tmp_path / 'sweep',
      data_dir,
      *(*ARGUMENTS, *arguments),
      **nodes.environment | environment,
    )

  return start


def read_until(words, process):
  """Reads what a process prints, up to a line."""
  for line in process.stdout:
    if words in line:
      return line
  raise AssertionError(process.wait())


def wait_until(condition):
  deadline = time.monotonic() + 200
  while not (found := condition()):
    assert time.monotonic() < deadline
    time.sleep(0.1)
  return found


def trainer(folder):
  """The process of the job that trains the first run; None where none does."""
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      words = (path / 'cmdline').read_text().split('\0')
      variables = (path / 'environ').read_text().split('\0')
      if (
        words[2:5] == ['-m', 'submitit.core._submit', f'{folder}/slurm']
        and 'SLURM_ARRAY_TASK_ID=1' not in variables
      ):
        return int(path.name)
  return None


def has_saved(run):
  return [*run.glob('checkpoints/*.safetensors')]


LONG = ('--training_steps=6000', '--checkpoint_every=200')


@pytest.fixture(scope='module')
def alone(tmp_path_factory, data_dir):
  """The run of `LONG` by `launch.train`, which nothing stops."""
  folder = tmp_path_factory.mktemp('alone')
  return test_sweep.train_alone(folder / 'run', data_dir, '--jit=off', *LONG)


def test_what_ended_while_nobody_waited_is_told_once(nodes, start, tmp_path):
  folder = tmp_path / 'sweep'
  arguments = (
    *('--beta=0.01,1e30', '--learning_rate=1e-3', '--training_steps=40'),
    *('--slurm_parallel=1', '--slurm_mem=500M', '--slurm_time=0:03:00'),
  )
  process = start(*arguments)
  submitted = read_until('slurm ', process)
  process.kill()
  process.communicate()
  assert submitted.endswith(': 2 runs submitted\n')
  job = submitted.split()[2].strip(':')
  asked = nodes.call('scontrol', 'show', 'job', job)
  for words in ('ArrayTaskThrottle=1', 'MinMemoryNode=500M', '=00:03:00'):
    assert words in asked
  wait_until(lambda: not nodes.queue())
  output = end(start(*arguments), code=1)
  assert '2 runs, 1 finished before' in output
  assert 'submitted' not in output
  assert 'beta=1e+30 failed: ' in output
  assert {name: row['status'] for name, row in rows(folder).items()} == {
    'beta=0.01': 'finished',
    'beta=1e+30': 'failed',
  }
  assert 'at step' in rows(folder)['beta=1e+30']['error']
  # As everywhere, a sweep that is started again tries it again.
  process = start(*arguments)
  assert read_until('slurm ', process).endswith(': 1 run submitted\n')
  process.kill()
  process.communicate()
  nodes.call('scancel', *nodes.queue())


def test_jobs_outlive_the_command_and_their_processes(
  nodes, start, tmp_path, alone
):
  folder = tmp_path / 'sweep'
  process = start('--seed=0,1', *LONG)
  wait_for(lambda: has_saved(folder / 'seed=0'), process)
  process.send_signal(signal.SIGINT)
  output = end(process, code=130)
  before = nodes.queue()
  job = before[0].split('_')[0]
  assert f'job {job}: left to SLURM, with 2 runs.' in output
  assert f'\nscancel {job}\n' in output
  assert 'To go on:\npython -m launch.sweep' in output
  os.kill(trainer(folder), signal.SIGKILL)
  output = end(start('--seed=0,1', *LONG))
  assert f'slurm    job {job}: ' in output
  assert ' submitted\n' not in output
  assert '2 of 2 ended' in output
  assert [row['status'] for row in rows(folder).values()] == ['finished'] * 2
  assert sorted(before) == sorted(
    nodes.call(
      *('squeue', '--array', '--states=all', '--noheader', '--format=%i'),
      f'--jobs={job}',
    ).split()
  )
  run = folder / 'seed=0'
  assert 'resumed' in records.read_manifest(run)
  faults.assert_same_run(run, alone)


def test_a_run_that_is_out_of_time_is_saved_and_goes_on(
  nodes, start, tmp_path, alone
):
  folder = tmp_path / 'sweep'
  process = start(*LONG, '--slurm_time=30')
  run = folder / 'run'
  wait_for(lambda: has_saved(run), process)
  # So that it does not end meanwhile; SLURM's signal comes with SIGCONT.
  os.kill(trainer(folder), signal.SIGSTOP)
  (job,) = nodes.queue()

  def set_limit(minutes):
    nodes.call('scontrol', 'update', f'job={job}', f'TimeLimit={minutes}')

  elapsed = nodes.call('squeue', '--noheader', '--format=%M', f'--jobs={job}')
  set_limit(int(elapsed.split(':')[0]) + 2)  # In one or two minutes.
  log = run / records.LOG
  wait_until(lambda: 'stopped after step' in log.read_text())
  set_limit(30)
  output = end(process)
  assert '1 of 1 ended' in output
  assert records.read_manifest(run)['resumed']
  faults.assert_same_run(run, alone)


def test_a_job_that_ends_without_its_run_is_told(
  nodes, monkeypatch, tmp_path, capsys
):
  for name, value in nodes.environment.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv('SBATCH_BEGIN', 'now+1hour')
  monkeypatch.setattr(slurm, '_QUEUE_SECONDS', 0.2)
  monkeypatch.setattr(slurm, '_NOTE_SECONDS', 0.5)

  def execute(steps):
    task = worker.RunTask(
      *('run', tmp_path / 'run', Config(training_steps=steps)),
      *(str(tmp_path), 'a command', str(tmp_path)),
    )
    return slurm.executor({})([task], 1, lambda: False)

  def submitted():
    return capsys.readouterr().out.split()[2].strip(':')

  events = execute(100)
  assert next(events) == 0
  job = submitted()
  with pytest.raises(executors.ExecutorError, match=f'scancel {job}'):
    next(execute(200))
  nodes.call('scancel', job)
  ended = next(event for event in events if event != 0)
  assert (ended.name, ended.status) == ('run', 'failed')
  assert f'its job {job} ended: CANCELLED; the same command' in ended.error
  capsys.readouterr()
  assert next(execute(200)) == 0
  another = submitted()
  assert another in nodes.queue()
  nodes.call('scancel', another)


@pytest.mark.parametrize(
  ('flag', 'environment', 'message'),
  [
    ('--slurm_partition=nope', {}, 'sbatch: invalid partition specified: nope'),
    ('--slurm_time=long', {}, 'sbatch: Invalid --time specification'),
    ('--slurm_gpus=1', {}, 'sbatch: Invalid generic resource'),
    ('--seed=0,1', {'PATH': ''}, 'no sbatch here'),
    ('--executor=local', {}, '--slurm_mem: only --executor=slurm takes it'),
  ],
)
def test_what_slurm_refuses_is_one_line(start, flag, environment, message):
  output = end(start('--slurm_mem=1G', flag, **environment), code=1)
  (line,) = [
    line for line in output.splitlines() if not line.startswith('sweep ')
  ]
  assert line.startswith('launch.sweep: error: ')
  assert message in line


def test_a_controller_that_does_not_answer_is_one_line(nodes, start, tmp_path):
  squeue = tmp_path / 'squeue'
  squeue.write_text(
    '#!/bin/sh\necho "slurm_load_jobs error: Unable to contact" >&2\nexit 1\n'
  )
  squeue.chmod(0o755)
  path = f'{tmp_path}{os.pathsep}{nodes.environment["PATH"]}'
  output = end(start(PATH=path), code=1)
  assert output.splitlines()[1:] == [
    'launch.sweep: error: squeue: Unable to contact'
  ]
