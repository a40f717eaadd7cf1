import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from vae.metrics import disentanglement

# Of sprites: shape, scale, orientation, x, y.
SIZES = (3, 6, 40, 32, 32)
N = 15_000


def draw(seed=0, num=N, sizes=SIZES):
  generator = np.random.default_rng(seed)
  return np.stack([generator.integers(s, size=num) for s in sizes], axis=1)


FACTORS = draw()
EXACT = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)
NOISE = np.random.default_rng(1).standard_normal((N, 10))
ROTATION = scipy.stats.ortho_group.rvs(5, random_state=3)
ROTATED = EXACT @ ROTATION
DUPLICATED = np.concatenate([EXACT, EXACT], axis=1)
DEAD = np.concatenate([EXACT, 1e-3 * NOISE[:, :5]], axis=1)
EXACT_SQUARED = FACTORS.astype(float) ** 2
NOISY = np.concatenate([EXACT + 0.1 * NOISE[:, 5:], DEAD[:, 5:]], axis=1)
# Scale, x and y alone.
PARTIAL = np.concatenate([EXACT[:, [1, 3, 4]], 1e-3 * NOISE[:, :7]], axis=1)
TRAIN = 10_000
# Rotations differ: the gap is 0.12 on average, from 0.035 to 0.26 over 40.
KNOWN_ROTATION = np.concatenate(
  [
    EXACT @ scipy.stats.special_ortho_group.rvs(5, random_state=0),
    1e-3 * NOISE[:, :5],
  ],
  axis=1,
)


def rng(seed=0):
  return np.random.default_rng(seed)


def test_mutual_information_is_that_of_a_histogram():
  codes, factors = NOISE[:2000, :2] + EXACT[:2000, :2], FACTORS[:2000, :3]
  information = disentanglement.mutual_information(codes, factors, bins=7)
  for i in range(2):
    edges = np.histogram(codes[:, i], 7)[1][:-1]
    binned = np.digitize(codes[:, i], edges)
    for k in range(3):
      expected = sklearn.metrics.mutual_info_score(binned, factors[:, k])
      assert information[i, k] == pytest.approx(expected, abs=1e-12)


def test_mig_of_the_factors_themselves_is_known():
  score = disentanglement.mig(EXACT[:TRAIN], FACTORS[:TRAIN])
  # With as many rows as one likes: 1, 1, log 20 / log 40 and .8500 twice. The
  # second code tells, by chance, a little.
  limits = [1, 1, np.log(20) / np.log(40), 0.85, 0.85]
  np.testing.assert_allclose(score.by_factor, limits, atol=0.015)
  assert score.value == pytest.approx(0.895, abs=0.003)
  assert np.mean(limits) == pytest.approx(0.9024, abs=1e-4)


def test_mig_grows_with_the_number_of_rows():
  values = [
    disentanglement.mig(EXACT[:n], FACTORS[:n]).value
    for n in (1000, 2000, 5000)
  ]
  np.testing.assert_allclose(values, [0.828, 0.865, 0.889], atol=0.006)


def test_mig_of_codes_that_do_not_disentangle():
  mig = lambda codes: disentanglement.mig(codes[:TRAIN], FACTORS[:TRAIN]).value
  assert mig(DUPLICATED) == 0.0
  assert mig(np.zeros((N, 4))) == 0.0
  assert mig(NOISE) < 0.002
  assert mig(ROTATED) < 0.2
  assert mig(KNOWN_ROTATION) == pytest.approx(0.047, abs=0.006)
  assert mig(EXACT[:, :1]) == pytest.approx(0.2, abs=0.01)  # Of one code.
  assert mig(NOISY) == pytest.approx(0.742, abs=0.006)
  assert mig(PARTIAL) == pytest.approx(0.536, abs=0.003)


def shares_entropy(*counts):
  shares = np.array(counts) / sum(counts)
  return -np.sum(shares * np.log(shares)) / np.log(sum(counts))


def test_one_outlier_leaves_few_bins_to_all_other_rows():
  # At 10 times the range, all others share two bins, [0, 1/2) and [1/2, 1) of
  # it, and its end has the third.
  codes = FACTORS[:TRAIN] / (np.array(SIZES) - 1)
  codes[0] = 10.0
  score = disentanglement.mig(codes, FACTORS[:TRAIN])
  position = shares_entropy(16, 15, 1)
  limits = [
    *(shares_entropy(1, 1, 1), shares_entropy(3, 2, 1)),
    *(shares_entropy(20, 19, 1), position, position),
  ]
  np.testing.assert_allclose(score.by_factor, limits, atol=0.01)
  assert score.value == pytest.approx(0.448, abs=0.003)
  # Far enough away, one bin.
  codes[0] = 1000.0
  assert disentanglement.mig(codes, FACTORS[:TRAIN]).value < 0.001


def modularities(codes, factors, **settings):
  return disentanglement.modularity(codes, factors, **settings)


def test_modularity_is_that_of_its_equation():
  # Information 1 and 0 in turn: two codes that tell of one factor each.
  factors = draw(sizes=(20, 20, 20), num=100_000)
  exact = modularities(factors, factors)
  assert exact.value == pytest.approx(1.0, abs=1e-4)
  empty = np.concatenate([factors[:, :2], np.zeros((100_000, 1))], axis=1)
  assert modularities(empty, factors).value == pytest.approx(2 / 3, abs=1e-4)
  active = modularities(empty, factors, active_only=True)
  assert active.value == pytest.approx(1.0, abs=1e-4)
  # One code for two of three factors: 1 - 1 / (K - 1).
  factors = draw(sizes=(4, 4, 4), num=100_000)
  both = (factors[:, 0] + 4 * factors[:, 1])[:, None]
  score = modularities(both, factors, bins=16)
  assert score.value == pytest.approx(0.5, abs=1e-3)
  assert modularities(np.zeros((100_000, 2)), factors).value == 0.0


def test_noise_is_modular_by_the_sizes_of_the_factors_alone():
  noise = modularities(NOISE[:TRAIN], FACTORS[:TRAIN])
  assert noise.value == pytest.approx(0.65, abs=0.05)
  dead = modularities(DEAD[:TRAIN], FACTORS[:TRAIN])
  assert dead.value == pytest.approx(0.841, abs=0.03)
  rotated = modularities(KNOWN_ROTATION[:TRAIN], FACTORS[:TRAIN])
  assert rotated.value == pytest.approx(0.740, abs=0.03)
  noisy = modularities(NOISY[:TRAIN], FACTORS[:TRAIN])
  assert noisy.value == pytest.approx(0.836, abs=0.03)
  partial = modularities(PARTIAL[:TRAIN], FACTORS[:TRAIN])
  assert partial.value == pytest.approx(0.773, abs=0.03)
  alive = modularities(DEAD[:TRAIN], FACTORS[:TRAIN], active_only=True)
  assert alive.value > 0.99


def beta_vae_score(codes, seed=0):
  return disentanglement.beta_vae_score(
    codes, FACTORS, rng(seed), num_train=3000, num_test=1500
  ).value


def factor_vae_score(codes, seed=0):
  return disentanglement.factor_vae_score(
    codes, FACTORS, rng(seed), num_train=3000, num_test=1500
  ).value


def test_scores_that_fix_a_factor_know_exact_codes_and_noise():
  assert beta_vae_score(DEAD) == 1.0
  assert factor_vae_score(DEAD) == 1.0
  assert beta_vae_score(NOISE) == pytest.approx(0.2, abs=0.04)
  assert factor_vae_score(NOISE) == pytest.approx(0.2, abs=0.04)
  assert beta_vae_score(np.zeros((N, 3))) == pytest.approx(0.2, abs=0.04)
  assert factor_vae_score(np.zeros((N, 3))) == 0.0
  assert factor_vae_score(0.01 * EXACT) == 0.0  # All below 0.05.
  assert beta_vae_score(NOISY) == 1.0
  assert factor_vae_score(NOISY) == 1.0
  assert beta_vae_score(PARTIAL) == pytest.approx(0.797, abs=0.05)
  assert factor_vae_score(PARTIAL) == pytest.approx(0.607, abs=0.05)


def test_scores_that_fix_a_factor_fall_under_rotations():
  rotations = [
    EXACT @ scipy.stats.ortho_group.rvs(5, random_state=seed)
    for seed in range(4)
  ]
  beta = np.mean([beta_vae_score(codes) for codes in rotations])
  factor = np.mean([factor_vae_score(codes) for codes in rotations])
  assert 0.85 < beta < 0.99
  assert 0.6 < factor < 0.85
  assert beta_vae_score(KNOWN_ROTATION) == pytest.approx(0.926, abs=0.03)
  assert factor_vae_score(KNOWN_ROTATION) == pytest.approx(0.745, abs=0.05)


def test_the_factor_vae_score_is_free_of_scale_and_the_beta_vae_score_is_not():
  # Powers of two, so that no rounding differs.
  scales = np.array([2.0, 0.5, 4.0, 1.0, 8.0])
  assert factor_vae_score(ROTATED * scales) == factor_vae_score(ROTATED)
  assert beta_vae_score(ROTATED * 0.01) != beta_vae_score(ROTATED)


def test_a_vote_goes_to_the_code_of_least_relative_variance():
  factors = draw(sizes=(2, 2), num=400)
  codes = factors + 0.01 * rng().standard_normal((400, 2))
  score = disentanglement.factor_vae_score(
    codes, factors, rng(), num_train=100, num_test=50
  )
  assert score.value == 1.0
  assert score.matrix[0, 1] == score.matrix[1, 0] == 0
  assert score.matrix.sum() == 100
  np.testing.assert_array_equal(score.by_factor, [1, 1])


@pytest.mark.parametrize('k', range(5))
def test_partners_share_the_value_of_the_factor(k):
  rows = rng().integers(N, size=1000)
  others = disentanglement._Partners(FACTORS)(k, rows, rng(1))
  np.testing.assert_array_equal(FACTORS[rows, k], FACTORS[others, k])
  assert np.mean(rows != others) > 0.95
  different = [j for j in range(5) if j != k]
  assert (
    np.mean(FACTORS[rows][:, different] != FACTORS[others][:, different]) > 0.5
  )


def entropy_score(importances):
  shares = importances / importances.sum(0)
  with np.errstate(divide='ignore', invalid='ignore'):
    terms = np.where(shares > 0, shares * np.log(shares), 0)
  scores = 1 + terms.sum(0) / np.log(len(shares))
  return np.average(scores, weights=importances.sum(0))


def test_disentanglement_and_completeness_of_known_importances():
  eye, k = np.eye(5), 5
  assert disentanglement.disentanglement(eye) == pytest.approx(1)
  assert disentanglement.completeness(eye) == pytest.approx(1)
  twice = np.concatenate([eye, eye]) / 2
  assert disentanglement.disentanglement(twice) == pytest.approx(1)
  expected = 1 - np.log(2) / np.log(2 * k)
  assert expected == pytest.approx(0.699, abs=5e-4)
  assert disentanglement.completeness(twice) == pytest.approx(expected)
  pairs = np.kron(np.eye(3), np.ones((1, 2)))[:, :5]
  pairs[2] = [0, 0, 0, 0, 1]
  weights = pairs.sum(1) / pairs.sum()
  scores = [1 - np.log(2) / np.log(5)] * 2 + [1]
  expected = weights @ scores
  assert disentanglement.disentanglement(pairs) == pytest.approx(expected)
  assert disentanglement.disentanglement(np.zeros((4, 5))) == 0.0
  assert disentanglement.completeness(np.zeros((4, 5))) == 0.0
  dense = rng().random((6, 4))
  assert disentanglement.completeness(dense) == pytest.approx(
    entropy_score(dense)
  )
  assert disentanglement.disentanglement(dense) == pytest.approx(
    entropy_score(dense.T)
  )
  # Codes that do nothing raise completeness, whose logarithm has their number
  # as its base.
  padded = np.concatenate([dense, np.zeros((6, 4))])
  assert disentanglement.completeness(padded) > disentanglement.completeness(
    dense
  )


@pytest.mark.parametrize(
  'dci', [disentanglement.dci, disentanglement.dci_forest]
)
def test_dci_of_exact_and_duplicated_codes(dci):
  factors = draw(sizes=(3, 4), num=1500)
  exact = dci(factors.astype(float), factors, 0, num_train=1000)
  assert exact.disentanglement > 0.95
  assert exact.completeness > 0.95
  assert exact.informativeness == exact.train_accuracy == 1.0
  np.testing.assert_allclose(exact.importances.sum(0), 1)
  twice = np.concatenate([factors, factors], axis=1).astype(float)
  duplicated = dci(twice, factors, 0, num_train=1000)
  assert duplicated.disentanglement > 0.9
  # Boosted trees may take one of two equal codes and leave the other.
  limit = 1 - np.log(2) / np.log(4)
  assert limit - 0.1 < duplicated.completeness <= 1.0
  if dci is disentanglement.dci_forest:
    assert duplicated.completeness == pytest.approx(limit, abs=0.1)
  dead = np.concatenate([factors, np.zeros((1500, 2))], axis=1)
  alive = dci(dead, factors, 0, num_train=1000)
  assert not alive.importances[2:].any()
  assert alive.disentanglement > 0.95
  noise = dci(NOISE[:1500, :4], factors, 0, num_train=1000)
  assert noise.informativeness == pytest.approx((1 / 3 + 1 / 4) / 2, abs=0.08)
  assert noise.disentanglement < 0.2


def test_sap_of_exact_codes_is_a_mark_and_no_ceiling():
  # Orientation and position have too many values for one line to tell apart.
  score = disentanglement.sap(EXACT, FACTORS, 0)
  known = [0.658, 0.496, 0.021, 0.031, 0.022]
  np.testing.assert_allclose(score.by_factor, known, atol=0.03)
  assert score.value == pytest.approx(0.246, abs=0.01)
  squared = disentanglement.sap(EXACT_SQUARED, FACTORS, 0)
  assert squared.value == pytest.approx(0.32, abs=0.05)
  assert squared.value > score.value
  assert disentanglement.sap(NOISE, FACTORS, 0).value < 0.01
  partial = disentanglement.sap(PARTIAL[:, :4], FACTORS, 0)
  assert partial.value == pytest.approx(0.116, abs=0.015)
  assert disentanglement.sap(np.zeros((N, 2)), FACTORS[:, :2], 0).value == 0.0
  twice = np.concatenate([EXACT[:, :1]] * 2, axis=1)
  assert disentanglement.sap(twice, FACTORS[:, :1], 0).value == 0.0


def test_sap_by_squared_correlation():
  score = disentanglement.sap_r2(EXACT[:TRAIN], FACTORS[:TRAIN])
  assert score.value == pytest.approx(0.9995, abs=4e-4)
  expected = np.corrcoef(ROTATED.T, FACTORS.T)[:5, 5:] ** 2
  matrix = disentanglement.sap_r2(ROTATED, FACTORS).matrix
  np.testing.assert_allclose(matrix, expected, atol=1e-12)
  assert disentanglement.sap_r2(DUPLICATED, FACTORS).value == pytest.approx(0)
  assert disentanglement.sap_r2(np.zeros((N, 2)), FACTORS).value == 0.0


def test_explicitness_of_exact_codes_noise_and_dead_codes():
  factors = draw(sizes=(3, 6), num=3000)
  run = lambda codes: disentanglement.explicitness(
    codes, factors, num_train=2000
  )
  noise = run(NOISE[:3000, :4])
  assert noise.value == pytest.approx(0.5, abs=0.03)
  assert run(np.zeros((3000, 2))).value == 0.5
  onehot = np.concatenate(
    [np.eye(3)[factors[:, 0]], np.eye(6)[factors[:, 1]]], 1
  )
  assert run(onehot).value == pytest.approx(1.0)
  dead = np.concatenate([onehot, np.zeros((3000, 2))], 1)
  assert run(dead).value == pytest.approx(1.0)


def test_explicitness_refuses_rows_that_lack_a_value():
  factors = draw(sizes=(3, 2), num=40)
  factors[:20, 0] = np.minimum(factors[:20, 0], 1)
  factors[-1, 0] = 2
  with pytest.raises(ValueError, match='factor 0: the value 2 is missing'):
    disentanglement.explicitness(NOISE[:40], factors, num_train=20)


@pytest.mark.parametrize('num_labels', [100, 1000])
def test_a_probe_of_exact_codes_noise_and_dead_codes(num_labels):
  factors = draw(sizes=(3, 6), num=3000)
  run = lambda codes: disentanglement.probe(
    codes, factors, num_labels=num_labels, num_train=2000
  )
  onehot = np.concatenate(
    [np.eye(3)[factors[:, 0]], np.eye(6)[factors[:, 1]]], 1
  )
  assert run(onehot).value == pytest.approx(1.0)
  assert (
    run(onehot @ scipy.stats.ortho_group.rvs(9, random_state=0)).value > 0.99
  )
  noise = run(NOISE[:3000, :4])
  np.testing.assert_allclose(noise.by_factor, [1 / 3, 1 / 6], atol=0.05)
  # Of codes that tell nothing, the commonest value among the labels.
  dead = run(np.zeros((3000, 2)))
  for k in range(2):
    commonest = np.bincount(factors[:num_labels, k]).argmax()
    expected = np.mean(factors[2000:, k] == commonest)
    assert dead.by_factor[k] == pytest.approx(expected)
  # The scale of a code does not matter, and neither do rows between those that
  # are fitted and those that are tested.
  changed = onehot * np.arange(1, 10)
  changed[num_labels:2000] = 7.0
  assert run(changed).by_factor == pytest.approx(run(onehot).by_factor)


def test_a_probe_of_a_value_without_label_is_wrong():
  factors = np.array([[0], [0], [0], [1], [0]])
  codes = np.arange(5.0)[:, None]
  score = disentanglement.probe(codes, factors, num_labels=2, num_train=3)
  assert score.value == 0.5
  with pytest.raises(ValueError, match='num_labels must be'):
    disentanglement.probe(codes, factors, num_labels=4, num_train=3)


def test_irs_of_known_codes():
  codes = lambda codes: disentanglement.irs(codes[:TRAIN], FACTORS[:TRAIN])
  assert codes(EXACT).value == pytest.approx(1.0)
  assert codes(DEAD).value == pytest.approx(1.0, abs=0.005)
  assert codes(ROTATED).value == pytest.approx(0.516, abs=0.06)
  assert codes(np.zeros((N, 3))).value == 0.0
  assert codes(NOISE).value == pytest.approx(0.375, abs=0.03)
  uniform = rng(5).random((TRAIN, 10))
  score = disentanglement.irs(uniform, FACTORS[:TRAIN])
  assert score.value == pytest.approx(0.014, abs=0.01)
  paper = disentanglement.irs(NOISE[:TRAIN], FACTORS[:TRAIN], quantile=1.0)
  assert paper.value == pytest.approx(0.228, abs=0.04)


def test_irs_weighs_codes_by_how_far_they_stray():
  codes = np.concatenate([EXACT[:, :1], NOISE[:, :1]], axis=1)[:TRAIN]
  irs = lambda codes: disentanglement.irs(codes, FACTORS[:TRAIN])
  each = irs(codes).by_factor
  assert irs(codes[:, ::-1]).value == pytest.approx(irs(codes).value)
  assert irs(-codes).value == pytest.approx(irs(codes).value)
  assert irs(codes * [1e6, 1]).value == pytest.approx(each[0], abs=1e-4)
  assert irs(codes * [1, 1e6]).value == pytest.approx(each[1], abs=1e-4)


def test_infomec_of_known_codes():
  factors = FACTORS[:4000]
  run = lambda codes: disentanglement.infomec(codes[:4000], factors, 0)
  exact = run(DEAD)
  assert exact.modularity == pytest.approx(0.999, abs=0.005)
  assert exact.compactness == pytest.approx(0.999, abs=0.005)
  assert exact.explicitness == pytest.approx(1.0, abs=2e-3)
  assert np.all(exact.information[5:] == 0)  # Dead.
  twice = run(DUPLICATED)
  assert twice.modularity == pytest.approx(1.0, abs=0.005)
  limit = (1 / 2 - 1 / 10) / (1 - 1 / 10)
  assert twice.compactness == pytest.approx(limit, abs=0.005)
  assert limit == pytest.approx(0.444, abs=5e-4)
  assert twice.explicitness == pytest.approx(1.0, abs=2e-3)
  rotated = run(ROTATED)
  assert rotated.modularity == pytest.approx(0.561, abs=0.05)
  assert rotated.compactness == pytest.approx(0.519, abs=0.05)
  # Fitted and scored on the same rows: it grows with the number of codes.
  assert run(NOISE[:, :5]).explicitness == pytest.approx(0.004, abs=0.002)
  noise = run(NOISE)
  # Estimates are about 0, and half of them, below it, are clipped; the shares
  # of the others make a score, and only codes and factors that have none left
  # count as 0.
  assert noise.information.max() < 0.02
  assert np.mean(noise.information == 0) == pytest.approx(0.5, abs=0.2)
  for value, rows in (
    (noise.modularity, noise.information),
    (noise.compactness, noise.information.T),
  ):
    shares = [row.max() / row.sum() if row.any() else 0.0 for row in rows]
    even = 1 / rows.shape[1]
    assert value == pytest.approx((np.mean(shares) - even) / (1 - even))
  assert noise.modularity > 0.2
  dead = run(np.zeros((N, 3)))
  assert dead[:3] == (0.0, 0.0, 0.0)


def test_linear_explicitness_does_not_see_a_rotation():
  factors = FACTORS[:3000, :2]
  rotated = EXACT[:3000, :2] @ ROTATION[:2, :2]
  score = disentanglement.infomec(rotated, factors, 0)
  assert score.explicitness == pytest.approx(1.0, abs=2e-3)


def test_the_gaussian_total_correlation_is_the_closed_form():
  covariance = np.array([[1.0, 0.8, 0], [0.8, 1.0, 0], [0, 0, 2.0]])
  codes = rng().multivariate_normal(np.zeros(3), covariance, 200_000)
  expected = -0.5 * np.log(1 - 0.8**2)
  value = disentanglement.gaussian_total_correlation(codes)
  assert value == pytest.approx(expected, abs=0.01)
  padded = np.concatenate([codes, np.zeros((200_000, 1))], axis=1)
  assert disentanglement.gaussian_total_correlation(padded) == value
  assert disentanglement.gaussian_total_correlation(codes[:, :1]) == 0.0


def test_mean_pairwise_information():
  assert disentanglement.mean_pairwise_information(NOISE) < 0.02
  same = np.concatenate([NOISE[:, :1]] * 2, axis=1)
  binned = np.histogram(NOISE[:, 0], 20)[0] / N
  entropy = -np.sum(binned[binned > 0] * np.log(binned[binned > 0]))
  value = disentanglement.mean_pairwise_information(same)
  assert value == pytest.approx(entropy)
  assert disentanglement.mean_pairwise_information(np.zeros((9, 3))) == 0.0


def whitened(codes):
  codes = codes - codes.mean(0)
  return codes @ np.linalg.inv(np.linalg.cholesky(np.cov(codes.T))).T


def test_udr_of_identical_models_is_known():
  codes = whitened(NOISE[:1000, :5])
  changed = -codes[:, ::-1]
  rates = [np.ones(5)] * 3
  scores, pairs = disentanglement.udr([codes, changed, codes], rates)
  # Lasso shrinks the one weight of 1 by alpha.
  np.testing.assert_allclose(scores, 0.9, atol=1e-6)
  assert np.isnan(np.diag(pairs)).all()
  ranked, _ = disentanglement.udr([codes, changed], rates[:2], 'spearman')
  assert ranked.min() > 0.75
  rotated = codes @ ROTATION
  low, _ = disentanglement.udr([codes, rotated], rates[:2])
  assert low.max() < 0.7


def test_udr_leaves_out_latents_without_rate():
  codes = whitened(NOISE[:1000, :6])
  noisy = codes.copy()
  noisy[:, 4:] = NOISE[:1000, 6:8]
  rates = np.array([1, 1, 1, 1, 0.001, 0.001])
  scores, _ = disentanglement.udr([codes, noisy], [rates, rates])
  np.testing.assert_allclose(scores, 0.9, atol=0.01)
  dead = [np.zeros(6), np.zeros(6)]
  assert disentanglement.udr([codes, noisy], dead)[0].tolist() == [0, 0]


@pytest.mark.parametrize(
  'score',
  [
    lambda c, f: disentanglement.mig(c, f).value,
    lambda c, f: disentanglement.modularity(c, f).value,
    lambda c, f: disentanglement.sap_r2(c, f).value,
    lambda c, f: disentanglement.gaussian_total_correlation(c),
    lambda c, f: disentanglement.mean_pairwise_information(c),
  ],
)
def test_order_sign_and_scale_of_codes_do_not_matter(score):
  order = [3, 0, 4, 2, 1]
  codes = (ROTATED + 0.3 * NOISE[:, :5])[:TRAIN]
  changed = (codes * [1, 2, 4, 1, 2])[:, order]
  factors = FACTORS[:TRAIN]
  assert score(changed, factors) == pytest.approx(score(codes, factors))
  # Signs move the edges of bins by the one value that lies on an edge.
  assert score(-codes, factors) == pytest.approx(
    score(codes, factors), abs=1e-3
  )


def test_what_cannot_be_scored_is_refused():
  with pytest.raises(ValueError, match='same N'):
    disentanglement.mig(EXACT[:5], FACTORS[:4])
  with pytest.raises(ValueError, match='factor 0 has the same value'):
    disentanglement.mig(EXACT[:5], np.zeros((5, 1), int))
  with pytest.raises(ValueError, match='integers'):
    disentanglement.mig(EXACT[:5], EXACT[:5])
  with pytest.raises(ValueError, match='finite'):
    disentanglement.mig(EXACT[:5] * np.nan, FACTORS[:5])
  with pytest.raises(ValueError, match='num_train'):
    disentanglement.sap(EXACT[:5], FACTORS[:5], 0)
  with pytest.raises(ValueError, match='two models'):
    disentanglement.udr([EXACT], [np.ones(5)])
