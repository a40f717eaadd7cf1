import math
import pathlib

import matplotlib.colors
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow_probability as tfp

from analysis import colours, density_fit
from tests.analysis import builders, test_figures

tfd = tfp.distributions

PARAMETERS = (-0.5, 1.25, 1.0)
OTHERS = (0.3, -0.7, -0.2)
LOC = ['loc_0', 'loc_1']
SCALE = ['scale_0', 'scale_1']
KLS = ['kl_q_p_nats', 'kl_p_q_nats']


def reference(parameters):
  """p, by TensorFlow Probability."""
  triangle = tfp.bijectors.FillScaleTriL(diag_shift=np.float64(1e-5)).forward(
    np.array(parameters)
  )
  return tfd.MultivariateNormalTriL(np.zeros(2), triangle)


def reference_kls(parameters, loc, scale):
  p, q = reference(parameters), tfd.MultivariateNormalDiag(loc, scale)
  return float(tfd.kl_divergence(q, p)), float(tfd.kl_divergence(p, q))


def both(parameters=PARAMETERS, rate=0.1, steps=300):
  triangle = density_fit.triangle(parameters)
  return triangle, {
    direction: density_fit.fit(triangle, direction, rate, steps)
    for direction in density_fit.FITS
  }


# -- The fit ------------------------------------------------------------------


@pytest.mark.parametrize('parameters', [PARAMETERS, OTHERS])
def test_the_target_is_what_fill_scale_tril_makes(parameters):
  np.testing.assert_allclose(
    density_fit.triangle(parameters),
    reference(parameters).scale.to_dense(),
    rtol=1e-12,
  )


def test_the_first_kl_is_3_056_and_not_the_tutorials_0_428():
  triangle = density_fit.triangle(PARAMETERS)
  found, _ = density_fit.kls(triangle, np.zeros(2), np.ones(2))
  assert found == pytest.approx(3.056, abs=5e-4)
  points = np.random.default_rng(0).normal(size=(200_000, 2))
  q = tfd.MultivariateNormalDiag(np.zeros(2), np.ones(2))
  ratios = np.asarray(
    q.log_prob(points) - reference(PARAMETERS).log_prob(points)
  )
  se = ratios.std(ddof=1) / np.sqrt(len(ratios))
  assert se < 0.02
  assert ratios.mean() == pytest.approx(found, abs=4 * se)
  assert abs(ratios.mean() - 0.428) > 100 * se


@pytest.mark.parametrize('direction', density_fit.FITS)
def test_every_row_has_the_kls_of_its_own_q(direction):
  fitted = both(OTHERS, steps=5)[1][direction]
  assert fitted['step'].tolist() == [0, 1, 2, 3, 4, 5]
  assert set(fitted['direction']) == {direction}
  assert fitted.loc[0, [*LOC, *SCALE]].tolist() == [0, 0, 1, 1]
  for _, row in fitted.iterrows():
    want = reference_kls(
      OTHERS, row[LOC].to_numpy(float), row[SCALE].to_numpy(float)
    )
    np.testing.assert_allclose(row[KLS].to_numpy(float), want, rtol=1e-9)
  # Where the mean is not yet that of p.
  loc, scale = np.array([0.5, -2.0]), np.array([0.3, 1.7])
  np.testing.assert_allclose(
    density_fit.kls(density_fit.triangle(OTHERS), loc, scale),
    reference_kls(OTHERS, loc, scale),
    rtol=1e-9,
  )


@pytest.mark.parametrize('direction', density_fit.FITS)
def test_steps_go_down_the_gradient(direction):
  which, rate, step = list(density_fit.FITS).index(direction), 0.1, 1e-6

  def loss(x):
    return reference_kls(OTHERS, x[:2], np.exp(x[2:]))[which]

  x = np.zeros(4)
  for _ in range(3):
    gradient = [
      (loss(x + step * unit) - loss(x - step * unit)) / (2 * step)
      for unit in np.eye(4)
    ]
    x = x - rate * np.array(gradient)
  last = both(OTHERS, rate, 3)[1][direction].iloc[-1]
  np.testing.assert_allclose(last[LOC].to_numpy(float), x[:2], atol=1e-7)
  np.testing.assert_allclose(
    last[SCALE].to_numpy(float), np.exp(x[2:]), rtol=1e-6
  )


@pytest.mark.parametrize('parameters', [PARAMETERS, OTHERS])
def test_the_fits_reach_the_closed_forms(parameters):
  covariance = reference(parameters).covariance().numpy()
  best = {
    'reverse': 1.0 / np.diag(np.linalg.inv(covariance)),
    'forward': np.diag(covariance),
  }
  triangle, fits = both(parameters)
  for direction, fitted in fits.items():
    last = fitted.iloc[-1]
    variances = last[SCALE].to_numpy(float) ** 2
    np.testing.assert_allclose(variances, best[direction], atol=1e-3)
    np.testing.assert_allclose(last[LOC].to_numpy(float), 0.0, atol=1e-3)
    np.testing.assert_allclose(
      density_fit.best_variances(triangle, direction),
      best[direction],
      rtol=1e-9,
    )
  # In two dimensions by the factor 1 - correlation^2.
  correlation = covariance[0, 1] / np.sqrt(np.diag(covariance).prod())
  np.testing.assert_allclose(
    best['reverse'] / best['forward'], 1 - correlation**2
  )


def test_a_target_without_correlation_is_fitted_the_same_both_ways():
  triangle, fits = both((0.2, 0.0, -0.4))
  for fitted in fits.values():
    last = fitted.iloc[-1]
    np.testing.assert_allclose(
      last[SCALE].to_numpy(float), np.diag(triangle), atol=1e-4
    )
    assert last['kl_q_p_nats'] == pytest.approx(0.0, abs=1e-6)


# -- The figure ---------------------------------------------------------------


def plotted():
  triangle, fits = both()
  frame = pd.concat(fits.values())
  return triangle, frame, density_fit.plot_density_fit(frame, triangle, 'A fit')


def test_the_figure_draws_and_leaves_its_frame_alone(tmp_path):
  _, frame, plot = plotted()
  picture = test_figures.draw(plot, tmp_path / 'x.png')[..., :3]
  for colour in (colours.PALETTE[6], *colours.PALETTE[:2]):
    near = np.abs(picture - matplotlib.colors.to_rgb(colour)).max(-1) < 0.02
    # Inside the panel, where no text is.
    assert near[100:800, 200:900].sum() > 50, colour
  pd.testing.assert_frame_equal(frame, plotted()[1])


def test_contours_lie_one_and_two_standard_deviations_from_the_mean():
  triangle, _, plot = plotted()
  want = {
    'target p: variances 1.72, 1.79': triangle @ triangle.T,
    'q by KL(q‖p): variances 0.22, 0.22': np.diag([0.2169, 0.2248]),
    'q by KL(p‖q): variances 1.72, 1.79': np.diag([1.7247, 1.7872]),
  }
  assert list(plot.data['density'].cat.categories) == list(want)
  for label, covariance in want.items():
    for radius in (1, 2):
      data = plot.data
      rows = data[(data['density'] == label) & (data['radius'] == radius)]
      points = rows[['x', 'y']].to_numpy()
      distance = (points * np.linalg.solve(covariance, points.T).T).sum(-1)
      np.testing.assert_allclose(np.sqrt(distance), radius, rtol=1e-3)
      turned = np.unwrap(np.arctan2(points[:, 1], points[:, 0]))
      assert abs(turned[-1] - turned[0]) == pytest.approx(2 * math.pi)


# -- The command --------------------------------------------------------------


def fit(stem, *arguments):
  return builders.analyse('density_fit', f'--output={stem}', *arguments)


def test_numbers_stand_beside_their_closed_forms_in_files_too(tmp_path):
  stem = tmp_path / 'new' / 'fit'
  drawn = []
  for _ in range(2):
    code, stdout, stderr = fit(stem)
    assert (code, stderr) == (0, '')
    *told, png, pdf, table = stdout.splitlines()
    assert [png, pdf, table] == [
      f'{stem}.{end}' for end in ('png', 'pdf', 'csv')
    ]
    drawn.append(
      [pathlib.Path(path).read_bytes() for path in (png, pdf, table)]
    )
  assert drawn[0] == drawn[1]
  lines = {line.split()[0]: line for line in told}
  assert 'KL(q||p) 3.0561, KL(p||q) 1.2298 nats' in lines['start']
  assert lines['reverse'].count('0.2169, 0.2248') == 2
  assert lines['forward'].count('1.725, 1.787') == 2
  description = PIL.Image.open(png).text['Description']
  for part in ('--scale_tril=-0.5,1.25,1', 'python -m analysis.density_fit'):
    assert part in description
  frame = pd.read_csv(table)
  pd.testing.assert_frame_equal(
    frame,
    pd.concat(both(steps=200)[1].values(), ignore_index=True),
    check_exact=False,
  )


def test_a_fit_that_has_not_converged_says_so(tmp_path):
  code, _, stderr = fit(tmp_path / 'x', '--fit_steps=3', '--format=png')
  assert code == 0
  assert stderr.count('has not converged') == 2


@pytest.mark.parametrize(
  'argument, problem',
  [
    ('--scale_tril=1,2', 'must be three numbers from'),
    ('--scale_tril=1,2,3,4', 'must be three numbers from'),
    ('--scale_tril=', 'scale_tril'),
    ('--scale_tril=1,2,x', 'scale_tril'),
    ('--scale_tril=1,2,nan', 'must be three numbers from'),
    ('--scale_tril=1,2,1e30', 'must be three numbers from'),
    ('--scale_tril=1,2,1e6', 'nearer to zero'),
    ('--scale_tril=-1e6,1e6,-1e6', 'nearer to zero'),
    ('--fit_learning_rate=0', 'must be finite and greater than 0'),
    ('--fit_learning_rate=nan', 'must be finite and greater than 0'),
    ('--fit_learning_rate=inf', 'must be finite and greater than 0'),
    ('--fit_learning_rate=1e9', 'give a smaller one'),
    ('--fit_steps=0', 'must be at least 1'),
    ('--fit_steps=100001', 'at most 100,000'),
    ('--fit_steps=1.5', 'fit_steps'),
  ],
)
def test_bad_flags_are_refused_in_one_line(tmp_path, argument, problem):
  code, _, stderr = fit(tmp_path / 'x', argument)
  assert code in (1, 2)
  assert stderr.count('\n') == 1, stderr
  assert problem in stderr
  assert argument.split('=')[0] in stderr
  assert not list(tmp_path.iterdir())
