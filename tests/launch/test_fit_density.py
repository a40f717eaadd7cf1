import json
import subprocess
import sys

import numpy as np
import pytest

from launch import fit_density, records
from tests.launch import conftest, test_records


def fit(folder, *arguments):
  return conftest.call(fit_density.main, [f'--output_dir={folder}', *arguments])


def test_a_fit_comes_back_from_its_files(tmp_path):
  from vae import density_fit

  folder = tmp_path / 'new' / 'fit'
  result = fit(folder, '--fit_steps=5', '--fit_learning_rate=0.05')
  assert result.code == 0, result.stderr
  frame = records.read_table(folder, records.DENSITY_FIT)
  assert list(frame.columns) == list(records.COLUMNS[records.DENSITY_FIT])
  p = density_fit.target([-0.5, 1.25, 1.0])
  for direction in ('reverse', 'forward'):
    rows = frame[frame['direction'] == direction]
    assert rows['step'].tolist() == [0, 1, 2, 3, 4, 5]
    want = density_fit.fit(p, direction, 0.05, 5)
    for columns, values in (
      (['loc_0', 'loc_1'], want.loc),
      (['scale_0', 'scale_1'], want.scale),
      ('kl_q_p_nats', want.kl_q_p),
      ('kl_p_q_nats', want.kl_p_q),
    ):
      np.testing.assert_array_equal(rows[columns].astype('f4'), values)
  target = records.read_density_fit_target(folder)
  np.testing.assert_array_equal(target['scale_tril'], p.scale.to_dense())
  assert target['loc'] == [0.0, 0.0]
  assert target['scale_tril_parameters'] == [-0.5, 1.25, 1.0]
  assert target['versions']['numpy'] == np.__version__


def test_the_numbers_are_printed_beside_their_closed_forms(tmp_path):
  result = fit(tmp_path)
  assert result.code == 0, result.stderr
  assert result.stderr == ''
  lines = {line.split()[0]: line for line in result.stdout.splitlines()}
  assert 'KL(q||p) 3.0561, KL(p||q) 1.2298 nats' in lines['start']
  for direction, variances in (
    ('reverse', '0.2169, 0.2248'),
    ('forward', '1.725, 1.787'),
  ):
    assert lines[direction].count(variances) == 2
  assert f'python -m analysis.density_fit --run_dir={tmp_path}' in result.stdout


def test_another_fit_replaces_the_first(tmp_path):
  assert fit(tmp_path, '--fit_steps=9').code == 0
  assert fit(tmp_path, '--fit_steps=2', '--scale_tril=0,0,0').code == 0
  assert len(records.read_rows(tmp_path, records.DENSITY_FIT)) == 2 * 3
  target = records.read_density_fit_target(tmp_path)
  assert target['scale_tril_parameters'] == [0, 0, 0]


def test_a_fit_that_has_not_converged_says_so(tmp_path):
  result = fit(tmp_path, '--fit_steps=3')
  assert result.code == 0
  assert result.stderr.count('has not converged') == 2


def test_a_fit_is_no_run(tmp_path):
  assert fit(tmp_path / 'fit', '--fit_steps=1').code == 0
  with pytest.raises(records.RecordError, match='no runs under'):
    records.newest_run(tmp_path)


def test_a_run_gets_no_table_of_a_fit(tmp_path, launch_train):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run, training_steps=1).code == 0
  assert {path.name for path in run.glob('*.csv')} == set(records.RUN_TABLES)
  assert records.DENSITY_FIT not in records.RUN_TABLES


@pytest.mark.parametrize(
  'argument, problem',
  [
    ('--scale_tril=1,2', 'must be three finite numbers'),
    ('--scale_tril=1,2,3,4', 'must be three finite numbers'),
    ('--scale_tril=', 'must be three finite numbers'),
    ('--scale_tril=1,2,x', 'must be three finite numbers'),
    ('--scale_tril=1,2,nan', 'must be three finite numbers'),
    ('--scale_tril=1,2,1e30', 'nearer to zero'),
    ('--fit_learning_rate=0', 'must be finite and greater than 0'),
    ('--fit_learning_rate=-1', 'must be finite and greater than 0'),
    ('--fit_learning_rate=inf', 'must be finite and greater than 0'),
    ('--fit_learning_rate=nan', 'must be finite and greater than 0'),
    ('--fit_learning_rate=fast', 'fit_learning_rate'),
    ('--fit_learning_rate=1e9', 'give a smaller one'),
    ('--fit_steps=0', 'must be at least 1'),
    ('--fit_steps=100001', 'at most 100,000'),
    ('--fit_steps=1.5', 'fit_steps'),
    ('--output_dir=', 'must name a folder'),
    ('--run_dir=runs/a', 'give --output_dir'),
  ],
)
def test_bad_flags_are_refused_in_one_line(tmp_path, argument, problem):
  assert fit(tmp_path, '--fit_steps=2').code == 0
  before = {path: path.read_bytes() for path in tmp_path.iterdir()}
  result = fit(tmp_path, argument)
  assert result.code in (1, 2)
  assert result.stderr.count('\n') == 1, result.stderr
  assert problem in result.stderr
  name = argument.split('=')[0]
  assert name in result.stderr
  assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folders_that_hold_something_else_are_refused(tmp_path):
  file = tmp_path / 'file'
  file.write_text('mine')
  run = tmp_path / 'run'
  run.mkdir()
  records.write_manifest(run, test_records.MANIFEST)
  for folder in (file, file / 'below', run, 'x' * 300, '~no-one/fit'):
    result = fit(folder)
    assert result.code == 1
    assert result.stderr.count('\n') == 1
    assert f'--output_dir={folder}: ' in result.stderr
  assert file.read_text() == 'mine'
  assert [path.name for path in run.iterdir()] == [records.MANIFEST]


def test_a_damaged_target_is_refused(tmp_path):
  with pytest.raises(records.RecordError, match=r'launch\.fit_density'):
    records.read_density_fit_target(tmp_path)
  good = {
    'loc': [0, 0],
    'scale_tril': [[1, 0], [0, 1]],
    'source': {'commit': None},
  }
  path = tmp_path / records.DENSITY_FIT_TARGET
  path.write_text(json.dumps(good))
  assert records.read_density_fit_target(tmp_path) == good
  for bad in (
    {'loc': None},
    {'loc': [0, 'x']},
    {'source': None},
    {'scale_tril': [[1], [0, 1]]},
    {'scale_tril': [1, 0]},
  ):
    path.write_text(json.dumps(good | bad))
    with pytest.raises(records.RecordError, match='is damaged'):
      records.read_density_fit_target(tmp_path)


def test_help_and_errors_of_the_command_need_no_tensorflow():
  script = (
    'import runpy, sys\n'
    'sys.argv = ["fit_density", sys.argv[1]]\n'
    'try:\n'
    '  runpy.run_module("launch.fit_density", run_name="__main__",'
    ' alter_sys=True)\n'
    'finally:\n'
    '  assert "tensorflow" not in sys.modules\n'
  )
  for argument, code in (('--help', 0), ('--scale_tril=1', 1)):
    result = subprocess.run(
      [sys.executable, '-c', script, argument],
      cwd=conftest.ROOT,
      capture_output=True,
      text=True,
    )
    assert result.returncode == code, result.stderr
    assert result.stderr.count('\n') == code
    assert 'scale_tril' in result.stdout + result.stderr
