import os
import subprocess
import sys

import numpy as np
import pytest

from launch import benchmark, records
from launch.benchmarks import commands, contest, races, results
from launch.settings.config import Config
from tests.launch import conftest

# A module that echoes what it is asked, and sleeps a millisecond a step.
COUNTER = """
import os, time
VERSION = 'counter 1.0'
def load(problem, kind):
  print('noise on the standard output')
  def loop(steps):
    if kind == 'mortal':
      os._exit(1)
    if steps > 9000:
      raise RuntimeError('too many')
    time.sleep(1e-3 * steps)
    return [problem.settings['beta'], steps]
  return loop
"""


@pytest.fixture
def counter(tmp_path, monkeypatch):
  """The name of a module that contestants can import."""
  (tmp_path / 'modules').mkdir()
  (tmp_path / 'modules' / 'bench_counter.py').write_text(COUNTER)
  monkeypatch.syspath_prepend(tmp_path / 'modules')
  return 'bench_counter'


def small_problem(recorded=None):
  layer = contest.Layer(np.ones((4, 2), np.float32), np.zeros(2, np.float32))
  return contest.Problem(
    {'beta': 0.5, 'reduction': 'mean', 'latent_size': 2, 'batch_size': 2}
    | {'seed': 0},
    np.arange(20, dtype=np.uint8).reshape(5, 2, 2, 1),
    [layer],
    [layer, layer],
    [],
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


# -- Contestants -------------------------------------------------------------


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


def test_a_contestant_answers_and_says_why_it_failed(counter):
  with contest.Contestant('counter', counter, '') as contestant:
    assert contestant.load(small_problem()) == 'counter 1.0'
    seconds, losses = contestant.run(20)
    assert seconds >= 0.02
    assert losses == [0.5, 20.0]
    for _ in range(2):
      with pytest.raises(RuntimeError, match='too many'):
        contestant.run(9001)
  with contest.Contestant('counter', counter, 'mortal') as contestant:
    contestant.load(small_problem())
    with pytest.raises(Exception, match='terminated abruptly'):
      contestant.run(1)


def measured(code):
  # By a small process, as Linux counts what the caller holds.
  script = (
    'from launch.benchmarks import commands\n'
    f'print(*commands.measure(["-c", {code!r}]))'
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
  with pytest.raises(commands.CommandError, match='said last: no'):
    commands.measure(['-c', 'import sys; sys.exit("no")'])


# -- The command --------------------------------------------------------------


def test_contestants_are_measured_beside_ours(
  counter, monkeypatch, tmp_path, data_dir
):
  peers = (
    races.Peer('counter', counter, ''),
    races.Peer('mortal', counter, 'mortal'),
    races.Peer('elsewhere', 'no_such_package', ''),
    races.Peer('of another part', counter, '', ('conv',)),
  )
  monkeypatch.setattr(races, 'PEERS', peers)
  config = Config(hidden_sizes=(8,), latent_size=3)
  monkeypatch.setattr(races, 'PROBLEMS', {'mlp': {'tiny': config}})
  result = conftest.call(
    benchmark.main, flags(tmp_path, data_dir, '--only=mlp', '--repeats=2')
  )
  assert result.code == 0, result.stderr
  assert (
    "without elsewhere: No module named 'no_such_package'; pip install"
    in (result.stderr)
  )
  assert 'without mortal: A process in the process pool was' in result.stderr
  lines = {line[:28].strip(): line for line in result.stdout.splitlines()}
  assert 'x this project' not in lines['this project']
  assert lines['counter'].endswith('× this project')
  frame = records.read_table(tmp_path, records.BENCHMARK)
  assert frame['contestant'].value_counts().to_dict() == {
    'this project': 2,
    'counter': 2,
  }
  assert set(frame['metric']) == {'steps_per_second'}
  assert (frame['value'] > 0).all()
  assert set(frame['task']) == {'tiny'}
  version = frame.set_index('contestant')['version']
  assert set(version['counter']) == {'counter 1.0'}


def test_gpus_are_hidden_from_all_that_is_timed(
  tmp_path, data_dir, monkeypatch
):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
  visible = []
  monkeypatch.setattr(
    races,
    'compete',
    lambda *arguments: visible.append(os.environ['CUDA_VISIBLE_DEVICES']),
  )
  arguments = flags(tmp_path, data_dir, '--only=mlp')
  assert conftest.call(benchmark.main, arguments).code == 0
  assert visible == ['']


def test_ratios_are_of_turns_and_their_quartiles_are_shown(tmp_path, capsys):
  table = results.Measurements(tmp_path)
  values = {'a': [1.0, 2.0, 4.0], 'b': [2.0, 2.0, 12.0]}
  table.add('mlp', 'seconds', values, 'a')
  *_, a, b = capsys.readouterr().out.splitlines()
  assert a.split() == ['a', '2', '(1.5', 'to', '3)']
  assert ' '.join(b.split()) == 'b 2 (2 to 7) 2 (1.5 to 2.5) × a'


def test_commands_are_measured_beside_the_import(
  monkeypatch, tmp_path, data_dir
):
  few = {
    commands.IMPORTS: ('-c', 'import json'),
    'training': (*commands.TRAIN, '--training_steps=2', '--hidden_sizes=4'),
  }
  monkeypatch.setattr(commands, 'COMMANDS', few)
  result = conftest.call(
    benchmark.main,
    flags(tmp_path, data_dir, '--only=startup', '--repeats=1'),
  )
  assert result.code == 0, result.stderr
  frame = records.read_table(tmp_path, records.BENCHMARK)
  assert frame[['contestant', 'metric']].to_numpy().tolist() == [
    [commands.IMPORTS, 'seconds'],
    ['training', 'seconds'],
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
  assert 'evaluation: 10,000 images, seconds:' in result.stdout
  frame = records.read_table(tmp_path / 'out', records.BENCHMARK)
  assert frame['contestant'].tolist() == ['this project']


def test_a_part_that_does_not_exist_is_refused(tmp_path, data_dir):
  result = conftest.call(
    benchmark.main, flags(tmp_path, data_dir, '--only=speed')
  )
  assert result.code == 2
  assert 'must be some of mlp' in result.stderr
