"""Scores and the matrices behind them, from files to frames and figures."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis import axis, factors, figures, frames, scores, sweep, traversals
from launch import records
from tests.analysis import builders, test_approved, test_frames
from vae.metrics import disentanglement


def runs_of(*paths):
  return frames.read_runs([str(path) for path in paths])


@pytest.fixture
def run(tmp_path):
  builders.write_run(tmp_path / 'run', latent_size=3)
  builders.write_scores(tmp_path / 'run')
  return tmp_path / 'run'


@pytest.mark.parametrize('name', ['factors', 'scores'])
def test_a_run_that_was_scored_is_drawn_and_another_says_how(
  run, tmp_path, name
):
  arguments = (f'--run_dir={run}', '--format=png')
  code, stdout, stderr = builders.analyse(name, *arguments)
  assert code == 0, stderr
  assert stdout.strip() == str(run / f'figures/{name}.png')
  builders.write_run(tmp_path / 'other')
  code, _, stderr = builders.analyse(name, f'--run_dir={tmp_path}/other')
  assert code == 1 and len(stderr.splitlines()) == 1
  assert 'was scored' in stderr or 'was not scored' in stderr
  assert 'python -m launch.evaluate' in stderr and '--scores=all' in stderr


# -- Scores -------------------------------------------------------------------


def test_rows_are_those_of_the_result(run):
  frame = scores.read_frame(runs_of(run))
  assert dict(zip(frame['panel'], frame['value'], strict=True)) == {
    'MIG': 0.2,
    'DCI forest completeness': 0.3,
    'DCI completeness': 0.4,
    'Gaussian total correlation, nats': 3.0,
  }
  one = frame.set_index('panel').loc['DCI completeness']
  assert np.isnan(one['se']) and (one['floor'], one['exact']) == (0.05, 0.9)


def write_grid(folder, seeds=3):
  """Two objectives at two strengths, one of them by gamma."""
  values = {}
  for objective, beta, gamma in (
    ('elbo', 1.0, 0.0),
    ('elbo', 4.0, 0.0),
    ('factor', 1.0, 10.0),
    ('factor', 1.0, 40.0),
  ):
    for seed in range(seeds):
      path = folder / f'{objective}-{beta}-{gamma}-{seed}'
      value = 0.1 * beta + 0.01 * gamma + [0.0, 0.02, 0.07][seed]
      builders.write_run(
        path, False, objective=objective, beta=beta, gamma=gamma, seed=seed
      )
      builders.write_scores(path, {('mig', ''): value})
      values.setdefault((objective, beta, gamma), []).append(value)
  return values


def test_intervals_are_those_of_the_mean_over_seeds(tmp_path):
  values = write_grid(tmp_path)
  frame = scores.read_frame(runs_of(tmp_path / '*-*'), 'beta')
  drawn = scores.over_seeds(frame.assign(place=frame['x']))
  assert len(drawn) == len(values)
  expected = sorted(
    (np.mean(v) - scipy.stats.sem(v), np.mean(v) + scipy.stats.sem(v))
    for v in values.values()
  )
  np.testing.assert_allclose(
    sorted(zip(drawn['low'], drawn['high'], strict=True)), expected
  )


def seeds_of(values):
  frame = test_approved.scores_frame(('1',), seeds=len(values), panels=1)
  return frame.assign(value=values, place=0.0)


def test_one_seed_has_no_error():
  assert scores.over_seeds(seeds_of([0.3]))[['low', 'high']].isna().all(None)


@pytest.mark.parametrize(
  'values', [[0, 1], [0, 0, 0, 0, 0.9], [0.001, 0.3, 0.002], [0, 0, 0]]
)
def test_no_error_bar_of_a_score_above_zero_goes_below_it(values):
  assert scores.over_seeds(seeds_of(values))['low'].item() >= -1e-12


@pytest.mark.parametrize(
  ('count', 'width', 'across'),
  [
    (13, 'double', 5),
    (8, 'double', 4),
    (12, 'double', 4),
    (6, 'double', 3),
    (13, 'single', 2),
    (9, 'single', 3),
    (2, 'double', 2),
    (1, 'single', 1),
  ],
)
def test_panels_leave_few_holes(count, width, across):
  page = figures.STYLES['paper'][width]
  plot = scores.plot_scores(
    test_approved.scores_frame(panels=count), 'beta', '', '', page
  )
  assert plot.facet._ncol == across


def test_wide_names_of_panels_have_fewer_columns():
  frame = test_approved.scores_frame(panels=13)
  frame['panel'] = 'a score with a long name ' + frame['panel']
  assert scores.plot_scores(frame, 'beta').facet._ncol == 3


def test_a_union_of_grids_has_a_line_for_each_objective(tmp_path):
  write_grid(tmp_path)
  runs = runs_of(tmp_path / '*-*')
  strength = runs.table['beta'] + runs.table['gamma']
  swept = dataclasses.replace(
    runs,
    table=runs.table.assign(strength=strength),
    settings=(*runs.settings, 'strength'),
  )
  frame = scores.read_frame(swept, 'strength', 'objective')
  assert set(frame['series']) == {'β-VAE', 'FactorVAE'}
  assert set(frame['x']) == {'1', '4', '11', '41'}
  # Where they are not what x and color say, others stay apart.
  frame = scores.read_frame(runs, 'beta', 'objective')
  assert set(frame['series']) == {
    'β-VAE, gamma 0',
    'FactorVAE, gamma 10',
    'FactorVAE, gamma 40',
  }
  for name in ('colour', 'elbo_nats'):
    with pytest.raises(figures.FigureError, match=f'{name} is no setting'):
      scores.read_frame(runs, 'beta', name)


def test_udr_of_a_sweep_is_drawn_without_an_interval(tmp_path):
  folder = test_frames.write_sweep(tmp_path / 'sweep', ['finished'] * 3)
  rows = [
    {
      'run_dir': f'beta=1/seed={seed}',
      'step': 4,
      'split': 'test',
      'n': 10,
      'score': 'udr',
      'variant': 'lasso',
      'draw_seed': 0,
      'value': 0.5 + seed / 10,
      'group': '',
      'num_models': 3,
      'settings': '',
    }
    for seed in (0, 1, 2)
  ]
  records.write_table(folder, records.SWEEP_SCORES, rows)
  for seed in (0, 1, 2):
    builders.write_scores(folder / f'beta=1/seed={seed}', {('mig', ''): seed})
  frame = scores.read_frame(frames.read_sweep(folder), 'beta')
  udr = frame[frame['panel'] == 'UDR Lasso']
  assert udr['value'].tolist() == [0.5, 0.6, 0.7] and udr['joint'].all()
  means = scores.over_seeds(frame.dropna(subset='value').assign(place=1.0))
  means = means.set_index('panel')
  assert means['mean'].to_dict() == pytest.approx(
    {'UDR Lasso': 0.6, 'MIG': 1.0}
  )
  assert means['low'].isna().to_dict() == {'UDR Lasso': True, 'MIG': False}
  caption = scores.plot_scores(frame, 'beta').labels.caption
  assert 'UDR compares seeds' in caption.replace('\n', ' ')
  code, _, stderr = builders.analyse('scores', f'--sweep_dir={folder}')
  assert code == 0, stderr


def test_numbers_beside_scores_are_as_short_as_in_figures():
  frame = pd.DataFrame(
    {
      'panel': ['probe', 'mig', 'total correlation, nats'],
      'value': [0.995097, 0.29361, 3.14159],
      'se': [0.000059, 0.0042, 0.0161],
      'floor': [0.1, 0.1, np.nan],
      'exact': [1.0, 0.98765, 0.123456],
    }
  )
  plot = scores.plot_run_scores(frame)
  figure = plot.draw()
  words = {text.get_text() for axes in figure.axes for text in axes.texts}
  figures.close(figure)
  assert words >= {'0.9951 ± <0.0001', '0.294 ± 0.004'}
  caption = plot.labels.caption.replace('\n', ' ')
  assert 'total correlation 3.142 ± 0.016 nats (exact 0.123)' in caption


def caption_of(plot):
  return plot.labels.caption.replace('\n', ' ')


def test_runs_without_scores_are_counted(tmp_path):
  write_grid(tmp_path, seeds=1)
  (tmp_path / 'elbo-1.0-0.0-0' / records.SCORES).unlink()
  frame = scores.read_frame(runs_of(tmp_path / '*-*'), 'beta')
  frame = pd.concat([frame, frame])  # Of two scores each.
  assert 'without scores: 1 run.' in caption_of(scores.plot_scores(frame, 'x'))
  nothing = frame.assign(value=np.nan)
  for plot in (lambda f: scores.plot_scores(f, 'x'), scores.plot_run_scores):
    with pytest.raises(figures.FigureError, match='no run was scored'):
      plot(nothing)


def test_captions_count_the_seeds():
  frame = test_approved.scores_frame(seeds=3)
  draw = lambda frame: caption_of(scores.plot_scores(frame, 'x'))
  assert 'Small points: the 3 seeds;' in draw(frame)
  assert 'the 2 to 3 seeds;' in draw(frame[frame['run'] != '4--1'])
  alone = scores.plot_scores(test_approved.scores_frame(seeds=1), 'x')
  assert 'One seed each.' in caption_of(alone)
  drawn = test_approved.sweep_frame(seeds=3)
  draw = lambda frame: caption_of(sweep.plot_sweep(frame, 'x', 'y'))
  assert 'over 3 seeds, the small points.' in draw(drawn)
  assert 'over 1 to 3 seeds,' in draw(drawn.iloc[2:])


def test_what_is_far_from_the_scores_is_at_the_edge():
  frame = test_approved.scores_frame(seeds=2, panels=1)
  values = np.linspace(0.2, 0.4, len(frame))

  def drawn(floor, exact, values=values):
    plot = scores.plot_scores(
      frame.assign(value=values, floor=floor, exact=exact), 'x'
    )
    figure = plot.draw()
    (low, high), words = figure.axes[0].get_ylim(), figure.axes[0].texts
    assert low < min(values) and high > max(values)
    assert ('far beyond' in caption_of(plot)) == bool(words)
    figures.close(figure)
    marks = [mark for mark in (floor, exact) if low < mark < high]
    return marks, {text.get_text().strip() for text in words}

  assert drawn(0.11, 0.49) == ([0.11, 0.49], set())
  assert drawn(0.08, 0.52) == ([], {'floor 0.0800 ↓', 'exact 0.520 ↑'})
  assert drawn(0.6, 0.45) == ([0.45], {'floor 0.600 ↑'})
  assert drawn(0.01, 0.02) == ([], {'floor 0.0100 ↓', 'exact 0.0200 ↓'})
  # Where none differ, none are squeezed.
  assert drawn(0.1, 0.9, np.full(len(frame), 0.5)) == ([0.1, 0.9], set())


def test_colours_do_not_repeat_the_axis(tmp_path):
  write_grid(tmp_path, seeds=1)
  runs = runs_of(tmp_path / '*-*')
  assert axis.settings(runs, None, None) == ('gamma', '')
  assert axis.settings(runs, None, 'gamma') == ('beta', 'gamma')
  for name in ('scores', 'sweep'):
    code, _, stderr = builders.analyse(
      name, f'--run_dir={tmp_path}/*-*', '--x=gamma', '--color=gamma'
    )
    assert code == 1 and 'give --color=beta' in stderr
  alone = runs_of(tmp_path / 'elbo-*')
  assert axis.settings(alone, None, None) == ('beta', '')
  with pytest.raises(figures.FigureError, match='leave it out'):
    axis.settings(alone, None, 'beta')


def test_strengths_are_placed_by_their_logarithm_and_zero_before_them():
  for levels, expected, name in (
    (['0', '1', '10', '1000'], [-1, 0, 1, 3], 'x (log scale; 0 apart)'),
    (['1', '10', '100'], [0, 1, 2], 'x (log scale)'),
    (['0.5', '2'], [0.5, 2], 'x'),
    (['-1', '2'], [0, 1], 'x (not to scale)'),
    (['a', 'b'], [0, 1], 'x'),
  ):
    places, scale = axis.places(pd.Series(levels[::-1]), levels, 'x')
    assert scale.name == name
    np.testing.assert_allclose(places, expected[::-1], atol=1e-12)
    np.testing.assert_allclose(scale.breaks, expected, atol=1e-12)
    assert list(scale.labels) == levels


def test_every_strength_has_a_tick_and_its_number_where_there_is_room():
  levels = ['0.5', '1', '2', '3', '4', '5', '8', '10', '20']
  for across in (1, 4):
    places, scale = axis.places(
      pd.Series(levels), levels, 'x', figures.SINGLE_COLUMN, across
    )
    np.testing.assert_allclose(scale.breaks, places)
    shown = [label for label in scale.labels if label]
    assert (shown == levels) == (across == 1)
    assert set(shown) <= set(levels)
    assert shown[0] == '0.5'
    at = np.log10([float(label) for label in shown])
    inches = 3.35 / across / np.log10(40) * np.diff(at)
    assert (inches > figures.text_width('8', figures.SINGLE_COLUMN)).all()


# -- Matrices -----------------------------------------------------------------


def test_shares_are_information_over_entropy(run):
  frame = factors.read_frame(runs_of(run).runs[0])
  shares = frame[frame['measure'] == factors.INFORMATION]
  np.testing.assert_allclose(
    shares.pivot_table('value', 'latent', 'factor'),
    np.arange(1, 7).reshape(3, 2) / 12,
  )
  assert frame['panel'].unique().tolist() == [
    'information / entropy of the factor',
    'importance, DCI forest',
  ]
  # The scores that they belong to, and no others.
  assert frame['scores'].unique().tolist() == [
    'MIG 0.200 ± 0.010, DCI forest completeness 0.300 ± 0.010'
  ]
  assert frame.groupby('latent')['active'].first().tolist() == [
    False,
    True,
    True,
  ]


def test_the_gaps_that_are_drawn_have_mig_as_their_mean():
  generator = np.random.default_rng(0)
  known = generator.integers(4, size=(500, 3))
  codes = known @ generator.normal(size=(3, 6)) + generator.normal(size=6)
  found = disentanglement.mig(codes, known)
  entropies = -np.sum(
    [[p * np.log(p) for p in np.bincount(column) / 500] for column in known.T],
    axis=1,
  )
  shares = found.matrix / entropies
  frame = pd.DataFrame(
    {
      'measure': factors.INFORMATION,
      'panel': 'information',
      'latent': np.repeat(np.arange(6), 3),
      'factor': np.tile(['a', 'b', 'c'], 6),
      'value': shares.ravel(),
      'rate_nats': 1.0,
      'active': True,
      'scores': '',
    }
  )
  cells = factors.plot_factors(frame).data
  gaps = cells[cells['row'] == cells['row'].max()]
  np.testing.assert_allclose(gaps['value'], found.by_factor)
  assert gaps['value'].mean() == pytest.approx(found.value)
  # The rows: by the factor that is told most of, and then by how much.
  order = sorted(range(6), key=lambda u: (shares[u].argmax(), -shares[u].max()))
  rows = cells.drop(gaps.index).pivot_table('value', 'row', 'x')
  np.testing.assert_allclose(rows, shares[order])


def test_inactive_latents_are_one_row_of_their_highest_values():
  frame = test_approved.factors_frame(6, inactive=3)
  cells = factors.plot_factors(frame).data
  information = cells[cells['panel'].cat.codes == 0]
  assert set(information['row']) == {0, 1, 2, 3, 4.4}
  folded = information[information['row'] == 3].sort_values('x')
  inactive = frame[~frame['active'] & (frame['measure'] == factors.INFORMATION)]
  np.testing.assert_allclose(
    folded['value'], inactive.groupby('factor', sort=False)['value'].max()
  )


def test_inactive_latents_that_are_framed_are_named():
  frame = test_approved.factors_frame(6, inactive=3)
  draw = lambda frame: caption_of(factors.plot_factors(frame))
  assert 'framed that of z3 (shape), z4 (scale), z5 (x).' in draw(frame)
  tells_most = frame['latent'].eq(5) & (frame['factor'] == 'scale')
  frame.loc[tells_most, 'value'] = 0.95
  assert 'framed that of z3 (shape), z5 (scale, x).' in draw(frame)
  assert 'framed that' not in draw(test_approved.factors_frame(6))
  assert 'framed that' not in draw(frame.assign(value=frame['active'] * 1.0))


def test_traversals_name_the_factor_where_their_weights_were_scored(run):
  loaded = runs_of(run).runs[0]
  frame = traversals.read_frame(loaded)
  assert frame['factor'].unique().tolist() == ['x']
  shares = dict(zip(frame['latent'], frame['share'], strict=True))
  assert shares == pytest.approx({0: 2 / 12, 1: 4 / 12, 2: 6 / 12})
  # Those of other weights say nothing of these.
  arrays = records.read_arrays(run, 'scores')
  del arrays['step']
  records.write_arrays(run, 'scores', 5, arrays)
  assert 'factor' not in traversals.read_frame(loaded)
  (run / 'arrays/scores.npz').unlink()
  assert 'factor' not in traversals.read_frame(loaded)


def test_factors_without_entropy_are_damage(run):
  arrays = records.read_arrays(run, 'scores')
  del arrays['step']
  arrays['entropy_nats'][0] = 0.0
  records.write_arrays(run, 'scores', 4, arrays)
  code, _, stderr = builders.analyse('factors', f'--run_dir={run}')
  assert code == 1 and 'scores.npz is damaged' in stderr


def test_series_stand_side_by_side_within_their_level():
  series = pd.Series(['2', '10', '1'] * 3)
  where = pd.Series(np.repeat([-1.0, 0.0, 2.0], 3))  # Logarithms, say.
  places, apart = axis.side_by_side(where, series)
  np.testing.assert_allclose(
    (places - where) / apart, [0, 1, -1] * 3, atol=1e-9
  )
  assert apart > 0 and (places - where).abs().max() < 0.2
  # Where two of them are, and where one is.
  some, apart = axis.side_by_side(where[:4], series[:4].replace('10', '2'))
  np.testing.assert_allclose(
    (some - where[:4]) / apart, [0.5, 0.5, -0.5, 0], atol=1e-9
  )
  alone, _ = axis.side_by_side(where, pd.Series(['1'] * 9))
  pd.testing.assert_series_equal(alone, where)


def test_points_of_a_sweep_do_not_lie_on_each_other():
  frame = test_approved.sweep_frame((0.01, 0.1, 10.0), series=('a', 'b', 'c'))
  plot = sweep.plot_sweep(frame, 'beta', 'elbo', 'objective')
  places = plot.data.groupby('series')['place'].unique()
  assert len(set(np.concatenate([*places]).round(6))) == 9
  for found in places:
    np.testing.assert_allclose(np.diff(found), [1.0, 2.0])
  assert 'side by side' in plot.labels.caption.replace('\n', ' ')
