"""Runs of each format, kept as they were written, still do all that runs do."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from launch import records, runs
from launch.settings import config
from tests.analysis import builders
from tests.launch import conftest

DATA = pathlib.Path(__file__).parents[1] / 'data'
KEPT = sorted(DATA.glob('run_format_*'))


def test_a_run_of_each_format_is_kept():
  kept = [records.read_manifest(run)['format'] for run in KEPT]
  assert kept == list(range(1, records.FORMAT + 1))


@pytest.mark.parametrize('kept', KEPT, ids=lambda path: path.name)
def test_a_kept_run_loads_and_gives_its_numbers(kept, data_dir):
  settings = records.read_config(kept)
  assert settings.keys() < {field.name for field in config.fields()}
  run = runs.load(kept, data_dir)
  recorded = run.eval.set_index('metric')['value']
  elbo = run.evaluate().result.elbo.value
  assert elbo == pytest.approx(recorded['elbo_nats'], rel=1e-4)


@pytest.mark.parametrize('kept', KEPT, ids=lambda path: path.name)
def test_a_kept_run_goes_on_and_is_drawn(kept, data_dir, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(kept, run)
  before = records.read_table(run, records.TRAIN)
  steps = int(before['step'].max())
  # A process of its own, for the number of threads is the run's.
  result = subprocess.run(
    [
      *(sys.executable, '-m', 'launch.train'),
      f'--run_dir={run}',
      f'--data_dir={data_dir}',
      f'--training_steps={steps + 20}',
    ],
    cwd=conftest.ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  assert f'resuming {run} after step {steps}' in result.stdout
  after = records.read_table(run, records.TRAIN)
  assert after['step'].max() == steps + 20
  assert after['total'].iloc[-1] < before['total'].iloc[0]
  for figure in ('loss_curves', 'rate_per_latent'):
    code, _, stderr = builders.analyse(
      figure, f'--run_dir={run}', '--format=png'
    )
    assert (code, stderr) == (0, '')
    assert (run / 'figures' / f'{figure}.png').stat().st_size
  # What the older run did not keep was written by the newer version.
  for figure in ('reconstructions', 'traversals'):
    code, _, stderr = builders.analyse(figure, f'--run_dir={run}')
    assert (code, stderr) == (0, '')
