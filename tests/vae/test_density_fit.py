import numpy as np
import pytest
import tensorflow_probability as tfp

from vae import density_fit

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


# -- The tutorial's number ----------------------------------------------------


def test_the_target_is_what_fill_scale_tril_makes():
  p = density_fit.target(PARAMETERS)
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
  start = density_fit.fit(density_fit.target(PARAMETERS), 'reverse', 0.1, 1)
  assert start.kl_q_p[0] == pytest.approx(closed, rel=1e-5)


def test_monte_carlo_says_3_056_and_rules_0_428_out():
  triangle = reference_triangle()
  points = np.random.default_rng(0).normal(size=(200_000, 2))
  ratios = normal_log_prob(points, np.eye(2)) - normal_log_prob(
    points, triangle @ triangle.T
  )
  se = ratios.std(ddof=1) / np.sqrt(len(ratios))
  assert se < 0.02
  start = density_fit.fit(density_fit.target(PARAMETERS), 'reverse', 0.1, 1)
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
    fitted = density_fit.fit(p, direction, 0.1, 300)
    np.testing.assert_allclose(fitted.scale[-1] ** 2, variances, atol=1e-3)
    np.testing.assert_allclose(fitted.loc[-1], LOC, atol=1e-3)
    np.testing.assert_allclose(
      density_fit.best_variances(p, direction), variances, rtol=1e-5
    )
  assert (best['reverse'] < best['forward']).all()


def test_the_reverse_fit_underestimates_the_variance():
  p = density_fit.target(PARAMETERS)
  reverse = density_fit.fit(p, 'reverse', 0.1, 200).scale[-1]
  # In two dimensions by the factor 1 - correlation^2.
  triangle = reference_triangle()
  covariance = triangle @ triangle.T
  correlation = covariance[0, 1] / np.sqrt(np.diag(covariance).prod())
  np.testing.assert_allclose(
    reverse**2 / np.diag(covariance), 1 - correlation**2, rtol=1e-4
  )


def test_a_target_without_correlation_is_fitted_the_same_both_ways():
  p = density_fit.target([0.2, 0.0, -0.4])
  for direction in density_fit.DIRECTIONS:
    last = density_fit.fit(p, direction, 0.1, 300)
    np.testing.assert_allclose(last.scale[-1], p.stddev(), atol=1e-4)
    assert last.kl_q_p[-1] == pytest.approx(0.0, abs=1e-5)


def test_best_variances_stand_where_the_covariance_is_singular_in_float32():
  parameters = (-8.0, 3.0, 1.0)
  covariance = np.matmul(
    reference_triangle(parameters), reference_triangle(parameters).T
  )
  np.testing.assert_allclose(
    density_fit.best_variances(density_fit.target(parameters), 'reverse'),
    1.0 / np.diag(np.linalg.inv(covariance)),
    rtol=1e-3,
  )


# -- The way there ------------------------------------------------------------


@pytest.mark.parametrize('direction', density_fit.DIRECTIONS)
def test_every_row_has_the_kls_of_its_own_q(direction):
  fitted = density_fit.fit(shifted(), direction, 0.1, 5)
  triangle = reference_triangle()
  p = (LOC, triangle @ triangle.T)
  for loc, scale, kl_q_p, kl_p_q in zip(*fitted, strict=True):
    q = (loc, np.diag(scale**2))
    assert kl_q_p == pytest.approx(reference_kl(*q, *p), rel=1e-4)
    assert kl_p_q == pytest.approx(reference_kl(*p, *q), rel=1e-4)


@pytest.mark.parametrize('direction', density_fit.DIRECTIONS)
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
  fitted = density_fit.fit(shifted(), direction, rate, 3)
  np.testing.assert_allclose(fitted.loc[3], x[:2], rtol=1e-3)
  np.testing.assert_allclose(fitted.scale[3], np.exp(x[2:]), rtol=1e-3)


def test_a_trajectory_starts_at_the_standard_normal_and_has_every_step():
  fitted = density_fit.fit(density_fit.target(PARAMETERS), 'forward', 0.1, 7)
  assert [part.shape for part in fitted] == [(8, 2), (8, 2), (8,), (8,)]
  np.testing.assert_array_equal(fitted.loc[0], 0.0)
  np.testing.assert_array_equal(fitted.scale[0], 1.0)
  longer = density_fit.fit(density_fit.target(PARAMETERS), 'forward', 0.1, 9)
  np.testing.assert_array_equal(longer.scale[:8], fitted.scale)


def test_three_dimensions_fit_too():
  p = density_fit.target([0.1, 0.4, -0.3, 0.2, 0.5, -0.1])
  fitted = density_fit.fit(p, 'reverse', 0.1, 300)
  precision = np.linalg.inv(p.covariance())
  np.testing.assert_allclose(
    fitted.scale[-1] ** 2, 1 / np.diag(precision), atol=1e-3
  )


def test_what_does_not_exist_is_refused():
  p = density_fit.target(PARAMETERS)
  with pytest.raises(ValueError, match=r"one of .*, got 'sideways'"):
    density_fit.fit(p, 'sideways', 0.1, 1)
  with pytest.raises(ValueError, match=r"one of .*, got 'sideways'"):
    density_fit.best_variances(p, 'sideways')
  with pytest.raises(ValueError):
    density_fit.target([1.0, 2.0])


def test_a_rate_too_large_shows_in_the_trajectory():
  fitted = density_fit.fit(shifted((-5.0, 3.0, 5.0)), 'reverse', 0.1, 200)
  assert not np.isfinite(fitted.kl_q_p).all()
