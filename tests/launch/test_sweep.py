import contextlib
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import ClassVar

import pytest

from analysis import frames
from launch import files, records
from launch.rundir import checkpoints
from launch.settings import config, parts, presets
from launch.settings.config import Config
from launch.sweeps import coordinator, executors, grid, worker
from launch.sweeps.worker import Outcome
from tests.launch import faults

SMALL = ('--dataset=mnist_5k', '--hidden_sizes=8', '--latent_size=3')


def start(folder, data_dir, *arguments, **environment):
  """Starts a small `launch.sweep` in a process of its own."""
  return subprocess.Popen(
    [
      *(sys.executable, '-m', 'launch.sweep', *SMALL),
      *(f'--data_dir={data_dir}', f'--sweep_dir={folder}', *arguments),
    ],
    cwd=faults.ROOT,
    env=os.environ | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def end(process, code=0):
  """What a process printed, once it has ended as it should."""
  output, _ = process.communicate(timeout=300)
  assert process.returncode == code, output
  return output


def wait_for(condition, process):
  deadline = time.monotonic() + 200
  while not condition():
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < deadline
    time.sleep(0.05)


def rows(folder):
  """The rows of sweep.csv by run."""
  header, *lines = records.read_lines(folder / records.SWEEP)
  return {line[0]: dict(zip(header, line, strict=True)) for line in lines}


def train_alone(folder, data_dir, *arguments):
  subprocess.run(
    [
      *(sys.executable, '-m', 'launch.train', *SMALL, '--threads=1'),
      *(f'--data_dir={data_dir}', f'--run_dir={folder}', *arguments),
    ],
    cwd=faults.ROOT,
    check=True,
    capture_output=True,
  )
  return folder


# -- Plans --------------------------------------------------------------------


def plan(**axes):
  return grid.plan([axes], lambda given: config.Config(**given))


def test_axes_multiply_and_runs_of_one_program_stay_together():
  axes, runs = plan(
    beta=[0.0, 0.5], latent_size=[2, 5], seed=[0, 7], threads=[1]
  )
  assert axes == ('beta', 'latent_size', 'seed')
  assert {tuple(run.values.values()) for run in runs} == {
    (beta, latents, seed)
    for beta in (0.0, 0.5)
    for latents in (2, 5)
    for seed in (0, 7)
  }
  assert len(runs) == 8
  assert [run.config.latent_size for run in runs] == [2] * 4 + [5] * 4
  assert runs[0].name == 'beta=0_latent_size=2_seed=0'
  assert all(run.config.beta == run.values['beta'] for run in runs)
  assert all(run.config.threads == 1 for run in runs)


def test_names_are_folders_whatever_the_values():
  _, runs = plan(
    dataset=['/data/a', '/data-a', '../a'],
    hidden_sizes=[(100, 100), (200,)],
  )
  names = [run.name for run in runs]
  assert len(set(names)) == 6
  assert names[0] == 'dataset=-data-a_hidden_sizes=100,100'
  assert not any('/' in name or name.startswith('.') for name in names)


def test_a_combination_that_cannot_be_refuses_the_sweep_before_any_run():
  with pytest.raises(config.ConfigError, match='batch_size'):
    plan(beta=[0.0, 1.0], batch_size=[64, 0])


def named(name, **given):
  """The plan of a named sweep, overridden."""

  def make(settings):
    return config.Config(**{'training_steps': None} | settings)

  return grid.plan(grid.SWEEPS[name].grids(given), make)


@pytest.mark.parametrize(
  ('name', 'num_runs', 'num_seeds'),
  [
    ('beta', 21, 3),
    ('latent_size', 18, 3),
    ('rate_distortion', 27, 3),
    ('disentanglement', 80, 5),
    ('locatello', 1800, 50),
  ],
)
def test_named_sweeps_can_be(name, num_runs, num_seeds):
  assert name in grid.SWEEPS
  _, runs = named(name)
  assert len({run.name for run in runs}) == len(runs) == num_runs
  assert {run.values['seed'] for run in runs} == {*range(num_seeds)}


def test_each_objective_of_a_union_has_strengths_of_its_own():
  _, runs = named('locatello', seed=[3])
  strengths = {}
  for run in runs:
    assert [*run.values] == ['objective', 'strength', 'seed']
    assert run.values['objective'] == run.config.objective
    strengths.setdefault(run.config.objective, []).append(
      run.values['strength']
    )
  # Locatello et al. 2019, table 4.
  assert strengths == {
    'elbo': [1, 2, 4, 6, 8, 16],
    'annealed': [5, 10, 25, 50, 75, 100],
    'factor': [10, 20, 30, 40, 50, 100],
    'dip_i': [1, 2, 5, 10, 20, 50],
    'dip_ii': [1, 2, 5, 10, 20, 50],
    'beta_tc': [1, 2, 4, 6, 8, 10],
  }
  by_name = {run.name: run.config for run in runs}
  assert by_name['objective=dip_i_dip_weight=5'].dip_weight == 5
  assert by_name['objective=annealed_capacity=25'].gamma == 1000
  assert by_name['objective=factor_gamma=30'].gamma == 30


def test_a_part_of_a_union_may_have_steps_of_its_own():
  steps = lambda **given: {
    run.config.objective: (run.config.training_steps, run.config.num_epochs)
    for run in named('locatello', seed=[0], **given)[1]
  }
  # As of the preset of each objective.
  presets_of = {'elbo': 'locatello_beta_vae'}
  for objective, (found, _) in steps().items():
    preset = presets.PRESETS[
      presets_of.get(objective, f'locatello_{objective}')
    ]
    assert found == preset.settings['training_steps'], objective
  assert set(steps(training_steps=[200_000]).values()) == {(200_000, None)}
  assert set(steps(num_epochs=[20.0]).values()) == {(None, 20.0)}


def test_what_overrides_a_union_reaches_the_parts_that_have_it():
  axes, runs = named(
    'disentanglement',
    beta=[3.0],
    gamma=[7.0, 9.0],
    image_size=[16],
    seed=[0],
  )
  found = {
    (run.config.objective, run.values['strength'])
    for run in runs
    if run.config.objective != 'dip_ii'
  }
  assert found == {
    ('elbo', 3.0), ('beta_tc', 3.0), ('factor', 7.0), ('factor', 9.0),
  }  # fmt: skip
  assert {run.config.image_size for run in runs} == {16}
  assert 'image_size' not in axes
  # One part left is a sweep over its own setting.
  axes, runs = named('disentanglement', objective=['elbo'], beta=[1.0, 2.0])
  assert axes == ('beta', 'seed')
  assert runs[0].values == {'beta': 1.0, 'seed': 0}
  with pytest.raises(config.ConfigError, match='--objective=info: must be one'):
    named('disentanglement', objective=['elbo', 'info'])


def test_strengths_are_settings_of_their_objectives():
  assert set(grid.STRENGTHS) <= set(parts.find('objective'))
  for objective, setting in grid.STRENGTHS.items():
    assert setting in parts.settings('objective', objective)


def test_the_frontier_is_swept_at_the_published_betas():
  assert grid.SWEEPS['rate_distortion'].axes['beta'] == (
    0.1, 0.25, 0.5, 0.784, 1.0, 1.5, 2.0, 4.0, 8.0,
  )  # fmt: skip


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--beta=0,x', 'must be a comma-separated list of float'),
    ('--beta=0.1,0.10', 'a value is twice'),
    ('--threads=1,2', 'all runs of a sweep have as many'),
    ('--devices=2', 'a sweep trains each run on one device'),
    ('--sweep=all', 'must be list, or one of beta, latent_size'),
    ('--run_dir=x', 'a sweep makes its own run folders'),
    ('--likelihood=normal,uniform', 'must be one of'),
    ('--beta=', 'give a value'),
  ],
)
def test_what_cannot_be_swept_is_refused_in_a_line(tmp_path, flag, message):
  folder = tmp_path / 'sweep'
  output = end(start(folder, tmp_path, flag), code=1)
  assert output.count('\n') == 1
  assert message in output
  assert not folder.exists()


def test_a_dry_run_prints_the_runs_and_trains_none(tmp_path, data_dir):
  folder = tmp_path / 'sweep'
  output = end(
    start(
      folder,
      data_dir,
      *('--sweep=beta', '--beta=0.5,1', '--seed=3', '--training_steps=10'),
      # Would diverge where it trained.
      *('--hidden_sizes=4,4', '--learning_rate=1e30', '--dry_run'),
    )
  )
  lines = output.splitlines()
  assert lines[:4] == [
    'beta=0.5_hidden_sizes=8',
    'beta=1_hidden_sizes=8',
    'beta=0.5_hidden_sizes=4,4',
    'beta=1_hidden_sizes=4,4',
  ]
  assert '4 runs, 2 programs; this machine trains ' in output
  assert not folder.exists()
  slurm = '--executor=slurm', '--dry_run'
  output = end(start(folder, data_dir, '--beta=1', *slurm))
  assert '1 run, 1 program; SLURM gets a job for each run\n' in output


# -- Carrying out -------------------------------------------------------------


def finish(tasks, threads, is_stopping):
  """An executor that trains nothing."""
  del threads, is_stopping
  for task in tasks:
    yield 1
    yield Outcome(task.name, 'finished', '', {'elbo_nats': -task.config.beta})


def carry_out(folder, executor, **axes):
  return coordinator.train_all(folder, plan(**axes), executor, 1, 'nowhere')


def test_the_table_holds_settings_ends_and_results(tmp_path, capsys):
  def executor(tasks, threads, is_stopping):
    assert threads == 1
    assert not is_stopping()
    yield Outcome(tasks[1].name, 'failed', 'rate is nan,\nat step 3', {})
    yield 1
    yield Outcome(tasks[0].name, 'finished', '', {'elbo_nats': -1.5})

  assert carry_out(tmp_path, executor, beta=[0.5, 2.0], seed=[4]) == 1
  assert rows(tmp_path) == {
    'beta=2': {
      'run_dir': 'beta=2',
      'status': 'failed',
      'error': 'rate is nan,\\nat step 3',
      'beta': '2',
      'seed': '4',
      'elbo_nats': '',
    },
    'beta=0.5': {
      'run_dir': 'beta=0.5',
      'status': 'finished',
      'error': '',
      'beta': '0.5',
      'seed': '4',
      'elbo_nats': '-1.5',
    },
  }
  printed = capsys.readouterr()
  assert '1 of 2 ended, 1 running, 1 failed' in printed.out
  assert '1 of 2 runs failed' in printed.err


@pytest.mark.parametrize(
  ('axes', 'message'),
  [
    ({'latent_size': [2, 3]}, 'axes: beta -> latent_size'),
    ({'beta': [0.5, 2.0], 'seed': [0, 1]}, 'axes: beta -> beta,seed'),
    ({'beta': [4.0, 8.0], 'latent_size': [20]}, 'latent_size: 10 -> 20'),
  ],
)
def test_another_sweep_in_the_folder_is_refused(tmp_path, axes, message):
  carry_out(tmp_path, finish, beta=[0.5, 2.0])
  before = (tmp_path / records.SWEEP).read_bytes()
  with pytest.raises(records.RecordError, match=message):
    carry_out(tmp_path, finish, **axes)
  assert (tmp_path / records.SWEEP).read_bytes() == before


def test_strength_is_a_column_that_analysis_takes_for_an_axis(tmp_path):
  """Also where other values of it extend the sweep."""

  def executor(tasks, threads, is_stopping):
    del threads, is_stopping
    for task in tasks:
      shutil.copytree(older, task.path)
      (task.path / records.CONFIG).write_text(task.config.to_json())
      yield Outcome(task.name, 'finished', '', {'elbo_nats': -1.0})

  older = faults.ROOT / 'tests/data/run_format_1'
  few = {'seed': [0], 'beta': [1.0, 2.0], 'dip_weight': [5.0]}
  for strengths in ([2.0, 4.0], [8.0]):
    plan = named('disentanglement', gamma=strengths, **few)
    assert coordinator.train_all(tmp_path, plan, executor, 1, 'nowhere') == 0
  swept = frames.read_sweep(tmp_path)
  assert swept.varying == ['strength', 'objective']
  factor = swept.table[swept.table['objective'] == 'factor']
  assert sorted(factor['strength']) == [2, 4, 8]
  assert 'strength' not in swept.metrics


def test_a_sweep_that_is_older_than_a_setting_goes_on(tmp_path):
  carry_out(tmp_path, finish, beta=[0.5, 2.0])
  path = tmp_path / records.SWEEP_PLAN
  noted = records.read_object(path)
  del noted['hidden_sizes'], noted['dropout']
  path.write_text(json.dumps(noted))
  assert carry_out(tmp_path, finish, beta=[0.5, 4.0]) == 0
  with pytest.raises(records.RecordError, match=r'dropout: 0\S* -> 0\.5'):
    carry_out(tmp_path, finish, beta=[0.5, 4.0], dropout=[0.5])


@pytest.mark.parametrize('content', ['place,time\nhere,1\n', '', '\0'])
def test_a_table_that_no_sweep_wrote_is_kept(tmp_path, content):
  (tmp_path / records.SWEEP).write_text(content)
  with pytest.raises(records.RecordError, match=records.SWEEP):
    carry_out(tmp_path, finish, beta=[0.5, 2.0])
  assert (tmp_path / records.SWEEP).read_text() == content
  assert not (tmp_path / records.SWEEP_PLAN).exists()


def test_one_process_writes_a_sweep(tmp_path):
  with (
    files.locked(tmp_path / '.lock'),
    pytest.raises(files.LockedError, match='another process'),
  ):
    carry_out(tmp_path, finish, beta=[0.5, 2.0])


# -- On this machine ----------------------------------------------------------

BETAS = ('--beta=0.01,1e30', '--latent_size=3,2', '--learning_rate=1e-3')


@pytest.fixture(scope='module')
def swept(tmp_path_factory, data_dir):
  """A sweep of two programs in which the runs of one beta fail."""
  folder = tmp_path_factory.mktemp('swept') / 'sweep'
  output = end(start(folder, data_dir, *BETAS, '--training_steps=40'), code=1)
  return folder, output


def test_a_failed_run_stops_no_other(swept):
  folder, output = swept
  statuses = {name: row['status'] for name, row in rows(folder).items()}
  assert statuses == {
    'beta=0.01_latent_size=3': 'finished',
    'beta=1e+30_latent_size=3': 'failed',
    'beta=0.01_latent_size=2': 'finished',
    'beta=1e+30_latent_size=2': 'failed',
  }
  run = folder / 'beta=0.01_latent_size=2'
  command = records.read_manifest(run)['command']
  assert command.startswith('python -m launch.sweep --dataset=mnist_5k')
  assert 'at step' in rows(folder)['beta=1e+30_latent_size=2']['error']
  assert '2 of 4 runs failed' in output
  log = (folder / 'beta=1e+30_latent_size=2' / records.LOG).read_text()
  assert 'the run is marked failed' in log


def test_a_run_of_a_sweep_is_the_run_alone(swept, tmp_path, data_dir):
  folder, _ = swept
  alone = train_alone(
    tmp_path / 'run', data_dir, '--latent_size=2', '--training_steps=40'
  )
  faults.assert_same_run(folder / 'beta=0.01_latent_size=2', alone)


def test_a_program_that_is_taken_over_gives_the_same_bits(tmp_path, data_dir):
  shared = (
    '--threads=0',  # One process trains all.
    '--training_steps=40',
    '--likelihood=normal',
    '--data_placement=host',
    '--prior=mixture',
    '--kl=monte_carlo',
    '--clip_norm=100',
  )
  folder = tmp_path / 'sweep'
  decays = '--weight_decay=0.1,20'
  sweep = (*shared, '--learning_rate=1e12,1e-3', decays, '--seed=0,1')
  output = end(start(folder, data_dir, *sweep), code=1)
  assert '4 of 8 runs failed' in output  # Before the others.
  last = ('--learning_rate=1e-3', '--weight_decay=20', '--seed=1')
  alone = train_alone(tmp_path / 'run', data_dir, *shared, *last)
  name = 'learning_rate=0.001_weight_decay=20_seed=1'
  faults.assert_same_run(folder / name, alone)
  # A damaged table is made anew; so is one with the scale that was fitted.
  (folder / records.SWEEP).write_text('nonsense')
  assert ', 4 finished before' in end(start(folder, data_dir, *sweep), code=1)
  table = rows(folder)[name]
  assert float(table['fitted_scale']) > 0


def test_figures_read_the_sweep(swept):
  folder, _ = swept
  sweep = frames.read_sweep(folder)
  assert sweep.varying == ['beta', 'latent_size']
  assert 'elbo_nats' in sweep.metrics
  done = sweep.table[sweep.table['status'] == 'finished']
  assert len(done) == 2
  for name, value in zip(done['run'], done['elbo_nats'], strict=True):
    frame = records.read_table(folder / name, records.EVAL)
    assert frame.set_index('metric').loc['elbo_nats', 'value'] == value


def test_a_sweep_that_is_finished_trains_nothing_again(swept, data_dir):
  folder, _ = swept
  before = {
    p: p.stat().st_mtime_ns for p in folder.glob('beta=0.01*/checkpoints/*')
  }
  output = end(start(folder, data_dir, *BETAS, '--training_steps=40'), code=1)
  assert ', 2 finished before' in output
  assert {p: p.stat().st_mtime_ns for p in before} == before
  assert len(rows(folder)) == 4


LONG = ('--seed=0,1,2', '--training_steps=12000', '--checkpoint_every=500')


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_goes_on_where_it_was_stopped(tmp_path, data_dir, number):
  folder = tmp_path / 'sweep'
  process = start(folder, data_dir, *LONG)
  wait_for(lambda: [*folder.glob('*/checkpoints/*00.safetensors')], process)
  process.send_signal(number)
  output, _ = process.communicate(timeout=100)
  assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM)
  if number == signal.SIGTERM:
    assert 'To go on:' in output
    started = [*folder.glob('*/manifest.json')]
    statuses = [json.loads(p.read_text())['status'] for p in started]
    assert 'interrupted' in statuses
  end(start(folder, data_dir, *LONG))
  assert [row['status'] for row in rows(folder).values()] == ['finished'] * 3
  logs = [p.read_text() for p in folder.glob(f'*/{records.LOG}')]
  assert any('resuming' in log for log in logs)
  alone = train_alone(tmp_path / 'run', data_dir, '--seed=0', *LONG[1:])
  faults.assert_same_run(folder / 'seed=0', alone)


def test_a_sweep_that_is_stopped_at_its_start_fails_no_run(tmp_path, data_dir):
  folder = tmp_path / 'sweep'
  process = start(folder, data_dir, *LONG)
  wait_for(lambda: workers_of(process), process)
  process.send_signal(signal.SIGINT)
  end(process, code=130)
  assert rows(folder) == {}


def test_a_run_that_is_stopped_alone_goes_on(tmp_path, data_dir):
  folder = tmp_path / 'sweep'
  end(strike_the_first_worker(folder, data_dir, signal.SIGTERM))
  assert [row['status'] for row in rows(folder).values()] == ['finished'] * 3
  assert 'resumed' in records.read_manifest(folder / 'seed=0')


def test_another_part_of_a_sweep_keeps_the_rows_of_the_first(
  tmp_path, data_dir
):
  folder = tmp_path / 'sweep'
  for seeds in ('0,1', '1,2'):
    end(start(folder, data_dir, f'--seed={seeds}', '--training_steps=5'))
  assert sorted(rows(folder)) == ['seed=0', 'seed=1', 'seed=2']


def workers_of(process):
  """The processes that train for a sweep."""
  found = []
  for child in map(int, children(process.pid)):
    with open(f'/proc/{child}/cmdline', 'rb') as file:
      if b'spawn_main' in file.read():
        found.append(child)
  return found


def strike_the_first_worker(folder, data_dir, number):
  """A sweep whose process of the seed 0 gets a signal once it has saved."""
  process = start(folder, data_dir, *LONG)
  first = folder / 'seed=0' / records.CHECKPOINTS
  wait_for(lambda: [*first.glob('*.safetensors')], process)
  os.kill(workers_of(process)[0], number)
  return process


def children(pid):
  with open(f'/proc/{pid}/task/{pid}/children') as file:
    return file.read().split()


def test_a_process_that_dies_fails_its_run_and_is_replaced(tmp_path, data_dir):
  folder = tmp_path / 'sweep'
  end(strike_the_first_worker(folder, data_dir, signal.SIGKILL), code=1)
  ends = {name: row['status'] for name, row in rows(folder).items()}
  assert ends == {
    'seed=0': 'failed',
    'seed=1': 'finished',
    'seed=2': 'finished',
  }
  assert 'its process died (SIGKILL)' in rows(folder)['seed=0']['error']
  assert 'finished' in end(start(folder, data_dir, *LONG))
  assert rows(folder)['seed=0']['status'] == 'finished'


# -- On a cluster -------------------------------------------------------------


@pytest.fixture
def one_cluster(tmp_path_factory):
  """One test of Ray at a time: a sweep joins any cluster of the machine."""
  pytest.importorskip('ray')
  with files.locked(tmp_path_factory.getbasetemp().parent / 'ray.lock'):
    yield


@pytest.mark.usefixtures('one_cluster')
def test_the_runs_of_a_lost_node_go_on_elsewhere(tmp_path, data_dir):
  from ray import cluster_utils

  folder = tmp_path / 'sweep'
  cluster = cluster_utils.Cluster()
  try:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    arguments, address = (*LONG, '--executor=ray'), cluster.address
    process = start(folder, data_dir, *arguments, RAY_ADDRESS=address)

    def both_train():
      training = [
        run
        for run in folder.glob('seed=*')
        if [*run.glob('checkpoints/*.safetensors')]
        and records.read_manifest(run)['status'] == 'running'
      ]
      return len(training) == 2

    wait_for(both_train, process)
    cluster.remove_node(nodes[1], allow_graceful=False)
    output = end(process)
  finally:
    cluster.shutdown()
  assert output.count(' elbo ') == 3
  assert f'joined the cluster at {address}: 2 nodes' in output
  assert [row['status'] for row in rows(folder).values()] == ['finished'] * 3
  resumed = []
  for seed in range(3):
    run = folder / f'seed={seed}'
    assert records.read_manifest(run)['status'] == 'finished'
    resumed += records.read_manifest(run).get('resumed', [])
    steps = [row['step'] for row in records.read_rows(run, records.TRAIN)]
    assert len(steps) == len(set(steps))
  assert resumed
  lost = next(
    seed
    for seed in range(3)
    if 'resumed' in records.read_manifest(folder / f'seed={seed}')
  )
  alone = train_alone(tmp_path / 'run', data_dir, f'--seed={lost}', *LONG[1:])
  faults.assert_same_run(folder / f'seed={lost}', alone)


@pytest.mark.usefixtures('one_cluster')
def test_a_sweep_on_a_cluster_saves_on_a_signal(tmp_path, data_dir):
  from ray import cluster_utils

  folder = tmp_path / 'sweep'
  cluster = cluster_utils.Cluster()
  try:
    cluster.add_node(num_cpus=1)
    process = start(
      folder,
      data_dir,
      *(*LONG, '--executor=ray', '--checkpoint_every=100000'),
      RAY_ADDRESS=cluster.address,
    )
    wait_for(lambda: [*folder.glob('seed=0/train.csv')], process)
    rows_of = lambda: records.read_rows(folder / 'seed=0', records.TRAIN)
    wait_for(lambda: len(rows_of()) > 9, process)
    process.send_signal(signal.SIGTERM)
    output = end(process, code=143)
  finally:
    cluster.shutdown()
  assert 'To go on:' in output
  assert rows(folder) == {}
  manifest = records.read_manifest(folder / 'seed=0')
  assert manifest['status'] == 'interrupted'
  assert checkpoints.paths(folder / 'seed=0')


def family(pid):
  """A process and its descendants: their folders in /proc."""
  children = {}
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      parent = int((path / 'stat').read_text().rsplit(')', 1)[1].split()[1])
      children.setdefault(parent, []).append(int(path.name))
  found = [pid]
  for one in found:
    found += children.get(one, [])
  return [pathlib.Path('/proc', str(one)) for one in found]


def listening(pid):
  """The addresses on which a process and its descendants listen, in hex."""
  sockets = set()
  for path in family(pid):
    for one in (path / 'fd').iterdir():
      with contextlib.suppress(OSError):
        sockets.add(os.readlink(one))
  lines = [
    line.split()
    for name in ('tcp', 'tcp6')
    for line in pathlib.Path('/proc/net', name).read_text().splitlines()[1:]
  ]
  return {
    words[1].split(':')[0]
    for words in lines
    if words[3] == '0A' and f'socket:[{words[9]}]' in sockets
  }


@pytest.mark.usefixtures('one_cluster')
def test_ray_on_one_machine_hears_only_this_machine_and_ends_in_a_line(
  tmp_path, data_dir
):
  folder = tmp_path / 'sweep'
  arguments = (*LONG, '--executor=ray')
  process = start(folder, data_dir, *arguments, RAY_ADDRESS='')
  wait_for(lambda: [*folder.glob('seed=*/train.csv')], process)
  loopback = {'0100007F', '0000000000000000FFFF00000100007F'}
  heard = listening(process.pid)
  assert heard and heard <= loopback
  (control,) = [
    path
    for path in family(process.pid)
    if (path / 'cmdline').read_text().split('\0')[0].endswith('gcs_server')
  ]
  os.kill(int(control.name), signal.SIGKILL)
  output = end(process, code=1)
  errors = [line for line in output.splitlines() if 'error' in line]
  assert len(errors) == 1
  assert "Ray's control process" in errors[0]
  assert 'a cluster of its own at 127.0.0.1:' in output
  assert 'Traceback' not in output


@pytest.mark.parametrize(
  ('nodes', 'threads', 'per_gpu', 'runs'),
  [
    ([{'CPU': 8.0}], 2, 0, 4),
    ([{'CPU': 8.0, 'GPU': 2.0}], 2, 2, 4),
    ([{'CPU': 5.0, 'GPU': 2.0}], 1, 3, 5),
    ([{'CPU': 2.0, 'GPU': 8.0}], 1, 1, 2),  # A run takes one at most.
    # Runs go where GPUs are.
    ([{'CPU': 4.0, 'GPU': 4.0}, {'CPU': 64.0}], 1, 1, 4),
    ([{'CPU': 8.0, 'GPU': 1.0}, {'CPU': 4.0, 'GPU': 3.0}], 1, 3, 7),
  ],
)
def test_runs_of_a_cluster_are_spread_over_its_gpus(
  nodes, threads, per_gpu, runs
):
  nodes = [{'Alive': True, 'Resources': resources} for resources in nodes]
  nodes.append({'Alive': False, 'Resources': {'CPU': 100.0, 'GPU': 100.0}})
  assert executors._runs_per_gpu(nodes, threads) == per_gpu
  assert executors._capacity(nodes, threads, per_gpu) == runs


def test_processes_are_spread_over_gpus(monkeypatch):
  for given, expected in (
    ('', ['']),
    ('-1', ['-1']),
    ('0', ['0']),
    ('2,5', ['2', '5']),
    ('GPU-1a,GPU-2b', ['GPU-1a', 'GPU-2b']),
  ):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', given)
    assert executors.gpus() == expected
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
  monkeypatch.setattr(pathlib.Path, 'glob', lambda self, pattern: iter('abc'))
  assert executors.gpus() == ['0', '1', '2']
  monkeypatch.setattr(pathlib.Path, 'glob', lambda self, pattern: iter(''))
  assert executors.gpus() == ['']


class FakeWorker:
  """Ends what it is given, and notes on which GPU."""

  started: ClassVar[list] = []

  def __init__(self, cores, gpu):
    self.started.append((tuple(cores), gpu))
    self.cores, self.gpu, self.task, self.is_alive = cores, gpu, None, True
    self.pipe, self.theirs = multiprocessing.Pipe()

  def start(self, task):
    self.task = task
    self.theirs.send('done')

  def take(self):
    task, self.task = self.task, None
    self.pipe.recv()
    return task, Outcome(task.name, 'finished', '', {})

  def close(self):
    pass


def test_every_gpu_gets_as_many_processes(monkeypatch):
  monkeypatch.setattr(FakeWorker, 'started', [])
  monkeypatch.setattr(executors, '_Worker', FakeWorker)
  monkeypatch.setattr(executors, 'gpus', lambda: ['0', '1'])
  groups = [[0], [1], [2], [3], [4]]
  monkeypatch.setattr(executors, 'core_groups', lambda threads: groups)
  tasks = [
    worker.RunTask(str(n), pathlib.Path(), Config(), '', '', '')
    for n in range(7)
  ]
  events = [*executors.local(tasks, 1, lambda: False)]
  assert sum(isinstance(event, Outcome) for event in events) == 7
  assert [gpu for _, gpu in FakeWorker.started] == ['0', '1', '0', '1', '0']


def test_cores_are_shared_out_once():
  cores = os.sched_getaffinity(0)
  for threads in (1, 2, len(cores), 2 * len(cores)):
    groups = executors.core_groups(threads)
    shared = [core for group in groups for core in group]
    assert len(shared) == len(set(shared))
    assert set(shared) <= cores
    assert len(groups) == max(1, len(cores) // threads)
    assert all(groups)
