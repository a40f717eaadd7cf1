"""The rooms of the project and which way they look."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from launch.settings import config

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ('vae', 'launch', 'analysis', 'tests')


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


@pytest.mark.parametrize('path', files('vae'), ids=str)
def test_vae_imports_neither_launch_nor_analysis_nor_flags_nor_plots(path):
  for name in imported(path):
    assert name.split('.')[0] not in ('launch', 'analysis', 'plotnine', 'tests')
    assert not name.startswith('absl.flags')
    assert 'keras' not in name


@pytest.mark.parametrize('path', files('launch'), ids=str)
def test_launch_does_not_import_analysis(path):
  for name in imported(path):
    assert name.split('.')[0] not in ('analysis', 'plotnine', 'tests')


@pytest.mark.parametrize('path', files('analysis'), ids=str)
def test_analysis_imports_only_the_records_from_outside(path):
  for name in imported(path):
    room = name.split('.')[0]
    assert room not in ('vae', 'tensorflow', 'sonnet', 'tests')
    assert room != 'launch' or name == 'launch.records'


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


def loaded_after(statement):
  script = f'import sys\n{statement}\nprint(*sys.modules)'
  return subprocess.run(
    [sys.executable, '-c', script],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()


@pytest.mark.parametrize(
  'statement',
  [
    *(
      f'import analysis.{path.stem}'
      for path in files('analysis')
      if path.stem != '__init__'
    ),
    'import launch.train',
    'import launch.compare',
    'import launch.export',
    'import launch.fit_density',
    'import launch.records, launch.rundir.opening, launch.settings.config',
  ],
)
def test_importing_loads_no_tensorflow(statement):
  loaded = loaded_after(statement)
  assert 'tensorflow' not in loaded
  assert 'vae' not in loaded


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


# -- The README ---------------------------------------------------------------


def readme_commands():
  text = (ROOT / 'README.md').read_text()
  blocks = re.findall(r'```(?:sh|bash)\n(.*?)```', text, re.DOTALL)
  joined = '\n'.join(blocks).replace('\\\n', ' ')
  return re.findall(r'python -m ((?:launch|analysis)\.\w+)(.*)', joined)


def test_the_commands_of_the_readme_exist_and_take_the_flags_shown():
  commands = readme_commands()
  assert commands
  for module, arguments in commands:
    help_text = subprocess.run(
      [sys.executable, '-m', module, '--help'],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for flag in re.findall(r'--(\w+)', arguments):
      assert f'--{flag}' in help_text, f'{module} has no --{flag}'


def test_choices_of_the_config_are_those_of_the_library():
  from vae import losses, networks, posteriors
  from vae.data import datasets

  choices = {f.name: f.metadata['choices'] for f in config.fields()}
  assert set(choices['binarize']) == set(datasets.BINARISATIONS)
  assert set(choices['posterior_scale']) == set(posteriors.SCALES)
  assert set(choices['reduction']) == set(losses.REDUCTIONS)
  assert set(choices['init']) == set(networks.Initializer.SCHEMES)


def test_every_module_has_a_docstring():
  for room in ('vae', 'launch', 'analysis'):
    for path in files(room):
      assert ast.get_docstring(ast.parse(path.read_text())), path
