"""The rooms of the project and which way they look."""

import ast
import collections
import graphlib
import os
import pathlib
import subprocess
import sys

import pytest

import vae
from launch.settings import config

ROOT = pathlib.Path(__file__).parents[1]


def imported(path):
  """The modules that a file names in its imports, anywhere in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def files(room):
  found = sorted((ROOT / room).rglob('*.py'))
  assert found
  return found


# What each room may use, beside itself and what is installed. `launch` is many
# rooms, one above the other: commands may use all of them, and none uses a
# command.
PROCESS = {'launch.files', 'launch.process'}
RECORDS = PROCESS | {'launch.records'}
SETTINGS = RECORDS | {'launch.settings'}
RUNDIR = SETTINGS | {'launch.rundir'}
EXPERIMENT = RUNDIR | {'launch.experiment', 'vae'}
RUNS = EXPERIMENT | {'launch.runs'}
PAGE = RUNS | {'launch.page'}
SWEEPS = RUNS | {'launch.sweeps'}
COMMANDS = SWEEPS | PAGE | {'launch.benchmarks', 'launch.cli'}
MAY_USE = {
  'vae': set(),
  'launch': PROCESS,
  'launch.files': PROCESS,
  'launch.process': PROCESS,
  'launch.records': PROCESS,
  'launch.settings': RECORDS,
  'launch.rundir': SETTINGS,
  'launch.experiment': RUNDIR | {'vae'},
  'launch.runs': EXPERIMENT,
  'launch.page': RUNS,
  'launch.sweeps': EXPERIMENT,
  'launch.benchmarks': SWEEPS,
  'launch.cli': SETTINGS,
  'launch command': COMMANDS,
  'analysis': {'launch.records', 'launch.process', 'launch.settings'},
}


def module(path):
  name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
  return name.removesuffix('.__init__')


def room(name):
  """The room of a module: 'vae', 'launch.sweeps', 'launch command', ..."""
  top, *rest = name.split('.')
  if top != 'launch' or not rest:
    return top
  place = f'launch.{rest[0]}'
  return place if place in MAY_USE else 'launch command'


OURS = {
  module(p): p for top in ('vae', 'launch', 'analysis') for p in files(top)
}


def uses(path):
  """The modules of this project that a file imports."""
  for name in imported(path):
    while name and name not in OURS:
      name = name.rpartition('.')[0]
    if name and name not in ('vae', 'launch', 'analysis'):
      yield name


@pytest.mark.parametrize('name', OURS)
def test_each_room_looks_down(name):
  for used in uses(OURS[name]):
    assert room(used) == room(name) or room(used) in MAY_USE[room(name)], used
    assert room(used) != 'launch command', f'{name} uses a command, {used}'


@pytest.mark.parametrize('name', [n for n in OURS if n.startswith('vae.')])
def test_data_know_no_model_and_no_model_knows_its_metrics(name):
  for used in uses(OURS[name]):
    if name.startswith('vae.data.'):
      assert used.startswith('vae.data.') or used == 'vae.randomness'
    if not name.startswith('vae.metrics.'):
      assert not used.startswith('vae.metrics.')


def test_no_module_uses_itself_by_way_of_others():
  graph = {name: set(uses(path)) for name, path in OURS.items()}
  graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize('name', OURS)
def test_rooms_use_no_more_of_what_is_installed_than_they_need(name):
  foreign = {
    'vae': ('absl', 'matplotlib', 'plotnine', 'tests'),
    'launch': ('matplotlib', 'plotnine', 'tests'),
    'analysis': ('tensorflow', 'sonnet', 'tests'),
  }[name.split('.')[0]]
  for used in imported(OURS[name]):
    assert used.split('.')[0] not in foreign
    assert 'keras' not in used or '.peers.' in name


@pytest.mark.parametrize('path', files('vae') + files('analysis'), ids=str)
def test_flags_are_defined_in_launch_alone(path):
  assert 'flags.DEFINE' not in path.read_text()


@pytest.mark.parametrize(
  'path', files('vae') + files('launch') + files('analysis'), ids=str
)
def test_files_that_are_read_are_data_and_never_code(path):
  for name in imported(path):
    assert name.split('.')[0] not in ('dill', 'joblib', 'marshal', 'shelve')
    assert 'pickle' not in name
  for node in ast.walk(ast.parse(path.read_text())):
    if not isinstance(node, ast.Call):
      continue
    called = ast.unparse(node.func)
    assert called not in ('eval', 'exec', 'compile', '__import__')
    assert 'pickle' not in called
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
    if called == 'np.load' or 'allow_pickle' in keywords:
      assert keywords.get('allow_pickle') == 'False', called


def test_importing_loads_no_tensorflow():
  """Commands each in a fork of their own: they define the same flags."""
  rooms = {'analysis', 'launch.cli', 'launch.rundir'} | SETTINGS
  light = [n for n in OURS if room(n) in rooms]
  commands = [n for n in OURS if room(n) == 'launch command']
  script = f"""
import importlib, os, sys
def load(name):
  importlib.import_module(name)
  loaded = {{'tensorflow', 'vae'}} & {{*sys.modules}}
  assert not loaded, f'{{name}} loads {{loaded}}'
for name in {light}:
  load(name)
for name in {commands}:
  if os.fork() == 0:
    load(name)
    os._exit(0)
  assert os.wait()[1] == 0, name
"""
  result = subprocess.run(
    [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True
  )
  assert not result.returncode, result.stderr


def test_a_wrong_combination_of_packages_is_one_line_with_the_cure():
  script = (
    'import importlib.metadata as metadata\n'
    'real = metadata.version\n'
    'def version(name):\n'
    '  return "2.19.0" if name == "tf-keras" else real(name)\n'
    'metadata.version = version\n'
    'import sys\n'
    'sys.argv = ["launch/train.py", "--training_steps=1"]\n'
    'from launch import cli, train\n'
    'cli.run(train.main, "")\n'
  )
  result = subprocess.run(
    [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 1
  assert result.stderr.count('\n') == 1
  assert 'tf-keras 2.19.0 does not fit tensorflow' in result.stderr
  assert 'pip install -c requirements.lock' in result.stderr


@pytest.mark.parametrize(
  ('script', 'level', 'is_silent'),
  [
    ('from launch import runs', None, True),
    ('import vae, tensorflow; tensorflow.constant(1)', None, True),
    ('import vae', '0', False),  # Who asks for every line gets it.
  ],
)
def test_a_notebook_imports_without_a_word(
  script, level, is_silent, monkeypatch
):
  monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL')
  if level is not None:
    monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', level)
  result = subprocess.run(
    [sys.executable, '-c', script],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stdout == ''
  assert (result.stderr == '') == is_silent, result.stderr


def test_processes_share_the_memory_of_a_gpu():
  assert os.environ['TF_FORCE_GPU_ALLOW_GROWTH'] == 'true'


def test_what_tensorflow_says_of_an_error_stays(capfd):
  lines = (
    'I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on.',
    'E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: INTERNAL: '
    'CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)',
    'E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: INTERNAL: '
    'CUDA error: Failed call to cuInit: system has unsupported driver (803)',
    'F0000 00:00:1.2 3 x.cc:1] dead',
  )
  with vae._without_noise():
    os.write(2, '\n'.join(lines).encode())
  assert capfd.readouterr().err.splitlines() == list(lines[2:])


def test_choices_of_the_config_are_those_of_the_library():
  from vae import networks, posteriors, terms
  from vae.data import batches

  choices = {f.name: f.metadata['choices'] for f in config.fields()}
  assert set(choices['binarize']) == set(batches.BINARISATIONS)
  assert set(choices['posterior_scale']) == set(posteriors.SCALES)
  assert set(choices['reduction']) == set(terms.REDUCTIONS)
  assert set(choices['init']) == set(networks.Initializer.SCHEMES)


def test_numbers_that_stand_where_tensorflow_is_not_imported_are_those_of_vae():
  from analysis import frames
  from launch import evaluate
  from vae import metrics
  from vae.metrics import importance

  assert frames.ACTIVE_VARIANCE == metrics.ACTIVE_VARIANCE
  assert evaluate._MOST_SAMPLES == importance.MOST_SAMPLES


@pytest.mark.parametrize('name', OURS)
def test_docstrings_say_what_a_thing_does(name):
  tree = ast.parse(OURS[name].read_text())
  assert ast.get_docstring(tree)
  for node in ast.walk(tree):
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
      first, *_ = (ast.get_docstring(node) or 'None').split(maxsplit=1)
      assert first not in (
        'How', 'Of', 'What', 'When', 'Where', 'Whether', 'Which', 'Who',
      ), ast.get_docstring(node)  # fmt: skip


def test_classes_of_one_name_are_one_thing():
  """But for parts, which flags tell apart, and loops as others write them."""
  parts = {'vae.posteriors', 'vae.likelihoods', 'vae.priors'}
  places = collections.defaultdict(list)
  for name, path in OURS.items():
    if '.peers.' in name or name in parts:
      continue
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
        places[node.name].append(name)
  assert not {k: v for k, v in places.items() if len(v) > 1}
