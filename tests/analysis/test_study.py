"""The study's numbers, beside closed forms and SciPy."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis import figures, frames, study
from launch import records
from tests.analysis import builders


def nested(objective=1.0, strength=0.5, seed=0.25):
  """Scores whose parts are known: each level adds its size, or takes it."""
  signs = (-1, 1)
  return pd.DataFrame(
    [
      {
        'objective': f'o{a}',
        'strength': str(10 * a + b),  # Of one objective alone.
        'seed': c,
        'mig': 0.3 + objective * a + strength * b + seed * c,
      }
      for a, b, c in itertools.product(signs, signs, signs)
    ]
  )


def test_shares_are_those_that_the_scores_were_made_of():
  parts = study.variance(nested(), ['objective', 'strength'], ['mig'])
  assert list(parts['level']) == ['objective', 'strength', 'seed']
  squares = np.array([1.0, 0.25, 0.0625])
  np.testing.assert_allclose(parts['share'], squares / squares.sum())
  # Of 7 degrees of freedom.
  np.testing.assert_allclose(parts['chance'], np.array([1, 2, 4]) / 7)
  # F = (8 / 1) / (0.5 / 4) and (2 / 2) / (0.5 / 4).
  np.testing.assert_allclose(
    parts['p'], [*scipy.stats.f.sf([64, 8], [1, 2], 4), np.nan]
  )


def test_one_setting_is_a_one_way_analysis_of_unequal_groups():
  random = np.random.default_rng(0)
  frame = pd.DataFrame(
    {
      'beta': ['1'] * 3 + ['4'] * 5 + ['16'] * 4,
      'mig': random.normal(size=12),
      'sap': random.normal(size=12),
    }
  )
  parts = study.variance(frame, ['beta'], ['mig', 'sap'])
  p = [
    scipy.stats.f_oneway(*(g[name] for _, g in frame.groupby('beta'))).pvalue
    for name in ('mig', 'sap')
  ]
  # Holm's correction of two: the smaller counts twice.
  corrected = np.maximum(p, 2 * min(p)).clip(max=1)
  found = parts[parts['level'] == 'beta']['p']
  np.testing.assert_allclose(found, corrected)


def test_many_settings_have_a_colour_each():
  levels = [*(f'setting {k}' for k in range(11)), 'seed']
  frame = pd.DataFrame({'level': levels, 'measure': 'mig', 'share': 1 / 12})
  study.plot_variance(frame.assign(chance=0.1, p=np.nan)).draw()
  plt.close('all')


def test_noise_has_the_shares_of_chance():
  random = np.random.default_rng(1)
  frame = nested()[['objective', 'strength']]
  frame = pd.concat([frame] * 3, ignore_index=True)
  names = [f'score {k}' for k in range(300)]
  noise = pd.DataFrame(random.normal(size=(len(frame), 300)), columns=names)
  frame = pd.concat([frame, noise], axis=1)
  parts = study.variance(frame, ['objective', 'strength'], names)
  means = parts.groupby('level')[['share', 'chance']].mean()
  np.testing.assert_allclose(means['share'], means['chance'], atol=0.02)
  assert (parts['p'] < 0.05).mean() < 0.01


def test_without_seeds_nothing_is_said():
  frame = nested()[::2]
  with pytest.raises(figures.FigureError, match='several'):
    study.variance(frame, ['objective', 'strength'], ['mig'])


def test_a_score_that_does_not_vary_has_no_shares():
  parts = study.variance(nested(0, 0, 0), ['objective', 'strength'], ['mig'])
  assert parts['share'].isna().all()
  assert parts['p'].isna().all()


def test_correlations_are_spearmans_with_ties():
  random = np.random.default_rng(2)
  frame = pd.DataFrame(
    random.integers(0, 4, size=(30, 3)).astype(float), columns=['a', 'b', 'c']
  )
  frame.loc[3, 'a'] = np.nan
  frame['c'] = 1.0
  found = study.correlations(frame, ['a', 'c'], ['a', 'b'])
  found = found.set_index(['first', 'second'])
  known = frame.dropna()
  expected = scipy.stats.spearmanr(known['a'], known['b']).statistic
  assert found.loc[('a', 'b'), 'value'] == pytest.approx(expected)
  assert found.loc[('a', 'b'), 'num_runs'] == 29
  assert found.loc[('a', 'a'), 'value'] == pytest.approx(1)
  assert np.isnan(found.loc[('c', 'b'), 'value'])


@pytest.fixture(scope='module')
def scored(tmp_path_factory):
  """Runs of two betas and three seeds, of which all but one are scored."""
  folder = tmp_path_factory.mktemp('scored')
  lines = ['run_dir,status,beta,seed,elbo_nats,rate_nats']
  for beta, seed in itertools.product((1.0, 4.0), range(3)):
    run = folder / f'beta={beta:g}_seed={seed}'
    builders.write_run(run, with_arrays=False, beta=beta, seed=seed)
    lines.append(
      f'{run.name},finished,{beta:g},{seed},-{90 + seed},{10 + seed}'
    )
    if (beta, seed) == (4.0, 2):
      continue
    common = {
      'step': 4,
      'split': 'test',
      'n': 10,
      'draw_seed': 0,
      'se': 0.01,
      'exact': 1.0,
      'active': 2,
      'settings': '',
    }
    values = {
      ('mig', ''): 0.1 * beta + 0.01 * seed,
      ('dci', 'completeness'): 0.5 - 0.01 * seed,
      ('gaussian_total_correlation_nats', ''): 0.2,
    }
    rows = [
      common
      | {'score': score, 'variant': variant, 'value': value}
      | {'floor': None if score.endswith('nats') else 0.0}
      for (score, variant), value in values.items()
    ]
    # Of the weights of an earlier step.
    rows.append(rows[0] | {'step': 2, 'value': 0.9})
    records.upsert(run, records.SCORES, rows)
    ranked = {
      'run_dir': run.name,
      'step': 4,
      'split': 'test',
      'n': 10,
      'score': 'udr',
      'variant': 'lasso',
      'draw_seed': 0,
      'settings': '',
      'value': 0.3 + 0.01 * seed,
      'group': '',
      'num_models': 3,
    }
    records.upsert(folder, records.SWEEP_SCORES, [ranked])
  (folder / records.SWEEP).write_text('\n'.join(lines) + '\n')
  return folder


def test_measures_are_read_with_what_they_need(scored):
  runs = frames.read_sweep(scored)
  frame, unlabelled, labelled = study.read_frame(runs)
  assert unlabelled == [
    *('elbo_nats', 'rate_nats', 'gaussian_total_correlation_nats', 'udr lasso')
  ]
  assert list(frame['udr lasso']) == pytest.approx([0.3, 0.31, 0.32, 0.3, 0.31])
  assert labelled == ['mig', 'dci completeness']
  assert len(frame) == 5
  assert list(frame['mig']) == pytest.approx([0.1, 0.11, 0.12, 0.4, 0.41])
  assert list(frame['beta']) == ['1', '1', '1', '4', '4']


def test_the_command_draws_both_figures_and_prints_the_tables(scored, tmp_path):
  chosen = f'--sweep_dir={scored}'
  code, output, _ = builders.analyse('study', chosen, '--tables')
  assert code == 0
  assert '| mig | 0.228 | 0.162 | 100% * | 0% |' in output
  assert '| gaussian_total_correlation_nats | nan | nan |' in output
  for flags, name in (((), 'study'), (('--correlations',), 'correlations')):
    code, output, errors = builders.analyse(
      'study', chosen, *flags, '--format=png', f'--output={tmp_path}/{name}'
    )
    assert (code, errors) == (0, '')
    assert (tmp_path / f'{name}.png').exists()
  flags = ('--tables', '--metric=elbo_nats')  # Which needs no factors.
  code, output, errors = builders.analyse('study', chosen, *flags)
  assert (code, errors) == (0, '')
  assert output.startswith('| configuration | seeds | elbo_nats |')
  assert 'Spearman' not in output
  assert 'noise' not in output
  code, _, errors = builders.analyse('study', chosen, '--tables', '--metric=x')
  assert code == 1
  assert 'no run has the score x; there are: elbo_nats' in errors


def test_the_report_has_it_where_seeds_tell_what_is_chance(scored, tmp_path):
  output = f'--output={tmp_path}/report'
  code, _, errors = builders.analyse('report', f'--sweep_dir={scored}', output)
  assert code == 0, errors
  page = (tmp_path / 'report.html').read_text()
  for heading in ('Scores', 'Study', 'Correlations'):
    assert f'<h3>{heading}</h3>' in page
  names = [run.name for run in frames.read_sweep(scored).runs]
  read = lambda *names: frames.read_runs([str(scored / n) for n in names])
  assert study.applies(read(*names))
  assert not study.applies(read(names[0]))
  assert not study.applies(read(names[0], names[1]))  # Nothing varies.
  assert not study.applies(read(names[0], names[3]))  # One seed of each.
  assert not study.applies(read(names[0], names[4], names[5]))


def test_runs_without_scores_are_refused(tmp_path):
  builders.write_run(tmp_path / 'run', with_arrays=False)
  code, _, errors = builders.analyse('study', f'--run_dir={tmp_path}/run')
  assert code == 1
  assert 'launch.evaluate --scores=all' in errors
