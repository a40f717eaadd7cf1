import os
import subprocess
import sys

import numpy as np
import pytest

from launch import benchmark, records
from launch.benchmarks import commands, contest, races
from launch.settings.config import Config
from tests.launch import conftest

# Echoes what it is asked, and sleeps a millisecond a step.
COUNTER = """
import sys, time
from launch.benchmarks import commands, contest, races
def load(problem):
  print('noise on the standard output')
  def loop(steps):
    if steps > 9000:
      raise RuntimeError('too many')
    time.sleep(1e-3 * steps)
    return [problem.settings['beta'], steps]
  return loop
contest.serve(load, 'counter 1.0')
"""


def small_problem(recorded=None):
  layer = contest.Layer(np.ones((4, 2), np.float32), np.zeros(2, np.float32))
  return contest.Problem(
    {'beta': 0.5, 'reduction': 'mean', 'latent_size': 2, 'batch_size': 2}
    | {'seed': 0},
    np.arange(20, dtype=np.uint8).reshape(5, 2, 2, 1),
    [layer],
    [layer, layer],
    recorded,
  )


def flags(folder, data_dir, *arguments):
  return [
    f'--benchmark_dir={folder}',
    f'--data_dir={data_dir}',
    '--benchmark_dataset=mnist_5k',
    '--block_seconds=0.001',
    *arguments,
  ]


# -- The protocol -------------------------------------------------------------


def test_a_task_comes_back_from_its_file(tmp_path):
  recorded = contest.Recorded(
    np.array([[0, 1], [4, 2]]), np.ones((2, 2, 2)), np.zeros((2, 2, 4))
  )
  problem = small_problem(recorded)
  contest.write_problem(tmp_path / 'a.npz', problem)
  read = contest.read_problem(tmp_path / 'a.npz')
  assert read.settings == problem.settings
  np.testing.assert_array_equal(read.images, problem.images)
  assert [len(read.encoder), len(read.decoder)] == [1, 2]
  np.testing.assert_array_equal(read.decoder[1].w, problem.decoder[1].w)
  np.testing.assert_array_equal([*read.batches()], recorded.batches)


def test_batches_hold_every_image_before_any_comes_again():
  batches = small_problem().batches()
  for _ in range(3):
    epoch = np.concatenate([next(batches), next(batches)])
    assert len(set(epoch)) == 4


def test_the_weights_of_the_terms_are_those_of_the_reduction():
  problem = small_problem()
  assert problem.distortion_weight == 1 / 4
  assert problem.rate_weight == 0.5 / 2
  problem = problem._replace(settings=problem.settings | {'reduction': 'sum'})
  assert problem.distortion_weight == 1.0
  assert problem.rate_weight == 0.5


def test_a_contestant_answers_and_says_why_it_failed(tmp_path):
  contest.write_problem(tmp_path / 'a.npz', small_problem())
  with contest.start('counter', ['-c', COUNTER]) as contestant:
    assert contestant.load(tmp_path / 'a.npz') == 'counter 1.0'
    seconds, losses = contestant.run(20)
    assert seconds >= 0.02
    assert losses == [0.5, 20.0]
    for _ in range(2):
      with pytest.raises(contest.ContestError, match='too many'):
        contestant.run(9001)


def measured(code):
  # By a small process, as Linux counts what the caller holds.
  script = (
    'from launch.benchmarks import contest\n'
    f'print(*contest.measure(["-c", {code!r}]))'
  )
  output = subprocess.run(
    [sys.executable, '-c', script],
    cwd=conftest.ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  return map(float, output.split())


def test_a_command_is_measured():
  seconds, small = measured('import time; time.sleep(0.05)')
  assert seconds > 0.05
  assert small < 200
  _, large = measured('b"x" * 2**29')
  assert large > 512
  with pytest.raises(contest.ContestError, match='said last: no'):
    contest.measure(['-c', 'import sys; sys.exit("no")'])


# -- The command --------------------------------------------------------------


def test_contestants_are_measured_beside_ours(monkeypatch, tmp_path, data_dir):
  def peer(name, script, package=None):
    return races.Entrant(name, ('-c', script), ('mlp',), package)

  monkeypatch.setattr(
    races,
    'PEERS',
    (
      peer('counter', COUNTER),
      peer('broken', 'raise SystemExit("broken")'),
      peer('elsewhere', '', 'no_such_package'),
    ),
  )
  config = Config(hidden_sizes=(8,), latent_size=3)
  monkeypatch.setattr(races, 'PROBLEMS', {'mlp': {'tiny': config}})
  result = conftest.call(
    benchmark.main, flags(tmp_path, data_dir, '--only=mlp', '--repeats=2')
  )
  assert result.code == 0, result.stderr
  assert 'elsewhere: no_such_package is not installed' in result.stderr
  assert 'without broken: failed, and said last: broken' in result.stderr
  for name in ('this project', 'matrix products alone', 'counter'):
    assert f'\n{name} ' in result.stdout
  frame = records.read_table(tmp_path, records.BENCHMARK)
  assert frame['contestant'].value_counts().to_dict() == {
    'this project': 2,
    'matrix products alone': 2,
    'counter': 2,
  }
  assert set(frame['metric']) == {'steps_per_second'}
  assert (frame['value'] > 0).all()
  assert set(frame['batch_size']) == {64}


def test_commands_are_measured_beside_the_import(
  monkeypatch, tmp_path, data_dir
):
  few = {
    commands.IMPORTS: ('-c', 'import json'),
    'training': (*commands.TRAIN, '--training_steps=2', '--hidden_sizes=4'),
  }
  monkeypatch.setattr(commands, 'COMMANDS', {'memory': few})
  result = conftest.call(
    benchmark.main, flags(tmp_path, data_dir, '--only=memory')
  )
  assert result.code == 0, result.stderr
  frame = records.read_table(tmp_path, records.BENCHMARK)
  assert frame[['contestant', 'metric']].to_numpy().tolist() == [
    [commands.IMPORTS, 'peak_mib'],
    ['training', 'peak_mib'],
  ]


def test_sweeps_are_measured_beside_launches(monkeypatch, tmp_path, data_dir):
  monkeypatch.setattr(commands, 'BETAS', ('0', '0.5'))
  monkeypatch.setattr(commands, 'SWEEP_STEPS', 2)
  monkeypatch.setattr(commands, 'LONG_SWEEP_STEPS', 3)
  result = conftest.call(
    benchmark.main,
    flags(tmp_path, data_dir, '--only=sweep', '--repeats=1'),
  )
  assert result.code == 0, result.stderr
  frame = records.read_table(tmp_path, records.BENCHMARK)
  assert frame[['contestant', 'metric']].to_numpy().tolist() == [
    ['eight launches of launch.train', 'seconds'],
    ['launch.sweep of eight betas', 'seconds'],
    ['one run alone', 'model_steps_per_second'],
    ['launch.sweep of eight betas', 'model_steps_per_second'],
    ['launch.sweep of eight betas', 'peak_mib_of_a_process'],
  ]
  assert (frame['value'] > 0).all()


def test_the_real_command_runs(tmp_path, data_dir):
  arguments = flags(
    tmp_path / 'out', data_dir, '--only=evaluation', '--repeats=1'
  )
  result = subprocess.run(
    [sys.executable, '-m', 'launch.benchmark', *arguments],
    cwd=conftest.ROOT,
    env={k: v for k, v in os.environ.items() if k != 'TF_USE_LEGACY_KERAS'},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  lines = result.stdout.splitlines()
  assert lines[2].split() == [
    *('evaluation:', 'mlp,', 'batch', '64', 'seconds', 'quartiles'),
    *('of', 'this', 'project'),
  ]
  frame = records.read_table(tmp_path / 'out', records.BENCHMARK)
  assert frame['contestant'].tolist() == ['this project']


def test_a_part_that_does_not_exist_is_refused(tmp_path, data_dir):
  result = conftest.call(
    benchmark.main, flags(tmp_path, data_dir, '--only=speed')
  )
  assert result.code == 2
  assert 'must be some of mlp' in result.stderr
