import subprocess
import sys

import numpy as np
import pytest
import tensorflow_probability as tfp

from launch import fit_density, records
from tests.launch import conftest, test_records

tfd = tfp.distributions

PARAMETERS = (-0.5, 1.25, 1.0)
LOC = np.array([0.5, -2.0])


def reference_triangle(parameters=PARAMETERS):
  a, b, c = parameters
  softplus = lambda x: np.log1p(np.exp(x)) + 1e-5
  return np.array([[softplus(c), 0.0], [b, softplus(a)]])


def reference_kl(loc, covariance, other_loc, other_covariance):
  """KL(N(loc, covariance) || N(other_loc, other_covariance)), nats."""
  precision = np.linalg.inv(other_covariance)
  shift = other_loc - loc
  ratio = np.linalg.det(other_covariance) / np.linalg.det(covariance)
  return 0.5 * (
    np.trace(precision @ covariance)
    + shift @ precision @ shift
    - len(loc)
    + np.log(ratio)
  )


def normal_log_prob(points, covariance):
  solved = np.linalg.solve(covariance, points.T).T
  return -0.5 * (
    (points * solved).sum(-1)
    + np.log(np.linalg.det(covariance))
    + points.shape[-1] * np.log(2 * np.pi)
  )


def shifted(parameters=PARAMETERS):
  """A target whose mean is not where the descent starts."""
  triangle = reference_triangle(parameters).astype(np.float32)
  return tfd.MultivariateNormalTriL(LOC.astype(np.float32), triangle)


def fit(folder, *arguments):
  return conftest.call(fit_density.main, [f'--output_dir={folder}', *arguments])


def read_target(folder):
  return records.read_object(folder / records.DENSITY_FIT_TARGET)


# -- The command --------------------------------------------------------------


def test_a_fit_comes_back_from_its_files(tmp_path):
  folder = tmp_path / 'new' / 'fit'
  result = fit(folder, '--fit_steps=5', '--fit_learning_rate=0.05')
  assert result.code == 0, result.stderr
  frame = records.read_table(folder, records.DENSITY_FIT)
  assert list(frame.columns) == list(records.COLUMNS[records.DENSITY_FIT])
  p = fit_density.target([-0.5, 1.25, 1.0])
  for direction in ('reverse', 'forward'):
    rows = frame[frame['direction'] == direction]
    assert rows['step'].tolist() == [0, 1, 2, 3, 4, 5]
    want = fit_density.fit(p, direction, 0.05, 5)
    for columns, values in (
      (['loc_0', 'loc_1'], want.loc),
      (['scale_0', 'scale_1'], want.scale),
      ('kl_q_p_nats', want.kl_q_p),
      ('kl_p_q_nats', want.kl_p_q),
    ):
      np.testing.assert_array_equal(rows[columns].astype('f4'), values)
  target = read_target(folder)
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
  target = read_target(tmp_path)
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
    assert str(folder) in result.stderr
  assert file.read_text() == 'mine'
  assert [path.name for path in run.iterdir()] == [records.MANIFEST]


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


# -- The tutorial's number ----------------------------------------------------


def test_the_target_is_what_fill_scale_tril_makes():
  p = fit_density.target(PARAMETERS)
  np.testing.assert_allclose(
    p.scale.to_dense(), reference_triangle(), rtol=1e-6
  )
  np.testing.assert_array_equal(p.loc, [0.0, 0.0])


def test_the_first_kl_is_3_056_by_tfp_and_by_numpy():
  triangle = reference_triangle()
  closed = reference_kl(
    np.zeros(2), np.eye(2), np.zeros(2), triangle @ triangle.T
  )
  assert closed == pytest.approx(3.056, abs=5e-4)
  start = fit_density.fit(fit_density.target(PARAMETERS), 'reverse', 0.1, 1)
  assert start.kl_q_p[0] == pytest.approx(closed, rel=1e-5)


def test_monte_carlo_says_3_056_and_rules_0_428_out():
  triangle = reference_triangle()
  points = np.random.default_rng(0).normal(size=(200_000, 2))
  ratios = normal_log_prob(points, np.eye(2)) - normal_log_prob(
    points, triangle @ triangle.T
  )
  se = ratios.std(ddof=1) / np.sqrt(len(ratios))
  assert se < 0.02
  start = fit_density.fit(fit_density.target(PARAMETERS), 'reverse', 0.1, 1)
  assert ratios.mean() == pytest.approx(start.kl_q_p[0], abs=4 * se)
  assert abs(ratios.mean() - 0.428) > 100 * se


# -- The optimum --------------------------------------------------------------


@pytest.mark.parametrize('parameters', [PARAMETERS, (0.3, -0.7, -0.2)])
def test_the_fits_reach_the_closed_forms(parameters):
  triangle = reference_triangle(parameters)
  covariance = triangle @ triangle.T
  best = {
    'reverse': 1.0 / np.diag(np.linalg.inv(covariance)),
    'forward': np.diag(covariance),
  }
  p = shifted(parameters)
  for direction, variances in best.items():
    fitted = fit_density.fit(p, direction, 0.1, 300)
    np.testing.assert_allclose(fitted.scale[-1] ** 2, variances, atol=1e-3)
    np.testing.assert_allclose(fitted.loc[-1], LOC, atol=1e-3)
    np.testing.assert_allclose(
      fit_density.best_variances(p, direction), variances, rtol=1e-5
    )
  assert (best['reverse'] < best['forward']).all()


def test_the_reverse_fit_underestimates_the_variance():
  p = fit_density.target(PARAMETERS)
  reverse = fit_density.fit(p, 'reverse', 0.1, 200).scale[-1]
  # In two dimensions by the factor 1 - correlation^2.
  triangle = reference_triangle()
  covariance = triangle @ triangle.T
  correlation = covariance[0, 1] / np.sqrt(np.diag(covariance).prod())
  np.testing.assert_allclose(
    reverse**2 / np.diag(covariance), 1 - correlation**2, rtol=1e-4
  )


def test_a_target_without_correlation_is_fitted_the_same_both_ways():
  p = fit_density.target([0.2, 0.0, -0.4])
  for direction in fit_density.DIRECTIONS:
    last = fit_density.fit(p, direction, 0.1, 300)
    np.testing.assert_allclose(last.scale[-1], p.stddev(), atol=1e-4)
    assert last.kl_q_p[-1] == pytest.approx(0.0, abs=1e-5)


def test_best_variances_stand_where_the_covariance_is_singular_in_float32():
  parameters = (-8.0, 3.0, 1.0)
  covariance = np.matmul(
    reference_triangle(parameters), reference_triangle(parameters).T
  )
  np.testing.assert_allclose(
    fit_density.best_variances(fit_density.target(parameters), 'reverse'),
    1.0 / np.diag(np.linalg.inv(covariance)),
    rtol=1e-3,
  )


# -- The way there ------------------------------------------------------------


@pytest.mark.parametrize('direction', fit_density.DIRECTIONS)
def test_every_row_has_the_kls_of_its_own_q(direction):
  fitted = fit_density.fit(shifted(), direction, 0.1, 5)
  triangle = reference_triangle()
  p = (LOC, triangle @ triangle.T)
  for loc, scale, kl_q_p, kl_p_q in zip(*fitted, strict=True):
    q = (loc, np.diag(scale**2))
    assert kl_q_p == pytest.approx(reference_kl(*q, *p), rel=1e-4)
    assert kl_p_q == pytest.approx(reference_kl(*p, *q), rel=1e-4)


@pytest.mark.parametrize('direction', fit_density.DIRECTIONS)
def test_steps_go_down_the_gradient(direction):
  rate, step = 0.1, 1e-6
  triangle = reference_triangle()
  p = (LOC, triangle @ triangle.T)

  def loss(x):
    q = (x[:2], np.diag(np.exp(2 * x[2:])))
    return (
      reference_kl(*q, *p) if direction == 'reverse' else reference_kl(*p, *q)
    )

  x = np.zeros(4)
  for _ in range(3):
    gradient = [
      (loss(x + step * unit) - loss(x - step * unit)) / (2 * step)
      for unit in np.eye(4)
    ]
    x = x - rate * np.array(gradient)
  fitted = fit_density.fit(shifted(), direction, rate, 3)
  np.testing.assert_allclose(fitted.loc[3], x[:2], rtol=1e-3)
  np.testing.assert_allclose(fitted.scale[3], np.exp(x[2:]), rtol=1e-3)


def test_a_trajectory_starts_at_the_standard_normal_and_has_every_step():
  fitted = fit_density.fit(fit_density.target(PARAMETERS), 'forward', 0.1, 7)
  assert [part.shape for part in fitted] == [(8, 2), (8, 2), (8,), (8,)]
  np.testing.assert_array_equal(fitted.loc[0], 0.0)
  np.testing.assert_array_equal(fitted.scale[0], 1.0)
  longer = fit_density.fit(fit_density.target(PARAMETERS), 'forward', 0.1, 9)
  np.testing.assert_array_equal(longer.scale[:8], fitted.scale)


def test_three_dimensions_fit_too():
  p = fit_density.target([0.1, 0.4, -0.3, 0.2, 0.5, -0.1])
  fitted = fit_density.fit(p, 'reverse', 0.1, 300)
  precision = np.linalg.inv(p.covariance())
  np.testing.assert_allclose(
    fitted.scale[-1] ** 2, 1 / np.diag(precision), atol=1e-3
  )


def test_a_rate_too_large_shows_in_the_trajectory():
  fitted = fit_density.fit(shifted((-5.0, 3.0, 5.0)), 'reverse', 0.1, 200)
  assert not np.isfinite(fitted.kl_q_p).all()
