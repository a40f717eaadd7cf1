"""The package away from its repository, and its checks in foreign company."""

import os
import pathlib
import subprocess
import sys
import venv
import zipfile

import numpy as np
import pytest

from launch import records
from tests import documents

ROOT = documents.ROOT
ROOMS = ('vae', 'launch', 'analysis')


def run(*command, **options):
  result = subprocess.run(command, capture_output=True, text=True, **options)
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


@pytest.fixture
def empty_environment(tmp_path):
  """An environment that has what this package needs, and not the package."""
  venv.create(tmp_path / 'environment')
  python = tmp_path / 'environment' / 'bin' / 'python'
  site, *_ = tmp_path.glob('environment/lib/*/site-packages')
  # A path in a .pth file; what .pth files there would add is not looked at.
  installed = pathlib.Path(np.__file__).parents[1]
  (site / 'installed.pth').write_text(f'{installed}\n')
  return python


def test_a_wheel_trains_and_draws_anywhere(
  tmp_path, data_dir, empty_environment
):
  source = tmp_path / 'source'
  source.mkdir()
  for name in (*ROOMS, 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
    (source / name).symlink_to(ROOT / name)
  pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
  offline = ('--no-deps', '--no-index')
  run(*pip, 'wheel', *offline, '--no-build-isolation', source, cwd=tmp_path)
  (wheel,) = tmp_path.glob('*.whl')
  files = zipfile.ZipFile(wheel).namelist()
  for room in ROOMS:
    for folder in (ROOT / room).rglob('__init__.py'):
      for path in folder.parent.glob('*.py'):
        assert str(path.relative_to(ROOT)) in files
  run(*pip, f'--python={empty_environment}', 'install', *offline, wheel)

  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()

  def installed(*command):
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    return run(empty_environment, *command, cwd=elsewhere, env=environment)

  assert str(tmp_path) in installed('-c', 'import vae; print(vae.__file__)')
  installed(
    *('-m', 'launch.train', '--dataset=mnist_5k', f'--data_dir={data_dir}'),
    *('--training_steps=2', '--hidden_sizes=8', '--jit=off', '--run_dir=run'),
  )
  assert records.read_manifest(elsewhere / 'run')['status'] == 'finished'
  installed('-m', 'analysis.loss_curves', '--run_dir=run', '--format=png')
  assert (elsewhere / 'run' / 'figures' / 'loss_curves.png').exists()


def test_the_checks_run_whatever_else_is_active(tmp_path):
  venv.create(tmp_path / 'foreign')
  for name in ('launch', 'tests', 'pytest', 'numpy'):
    decoy = tmp_path / 'decoys' / name
    decoy.mkdir(parents=True)
    (decoy / '__init__.py').write_text('raise ImportError("a decoy")\n')
  run(
    *(ROOT / 'test.sh', '--version'),
    env=os.environ
    | {
      'PYTHON': sys.executable,
      'PATH': f'{tmp_path}/foreign/bin:{os.environ["PATH"]}',
      'VIRTUAL_ENV': f'{tmp_path}/foreign',
      'CONDA_PREFIX': f'{tmp_path}/foreign',
      'PYTHONPATH': f'{tmp_path}/decoys',
    },
  )
