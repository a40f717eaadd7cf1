import io
import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis import figures, frames, rate_distortion, scores, study, table
from launch import records
from tests.analysis import builders


def runs_table(seeds=4, betas=(0.1, 1.0), effect=2.0, noise=0.1):
  random = np.random.default_rng(0)
  shared = random.normal(scale=50, size=seeds)  # What pairing removes.
  return pd.DataFrame(
    [
      {
        'seed': seed,
        'beta': beta,
        'elbo_nats': shared[seed] + effect * k + noise * random.normal(),
      }
      for k, beta in enumerate(betas)
      for seed in range(seeds)
    ]
  )


def test_means_and_errors_are_those_of_numpy():
  frame = runs_table()
  result = table.summarise(frame, ['beta'])
  for _, row in result.iterrows():
    values = frame[frame['beta'] == float(row['configuration'].split()[1])]
    values = values['elbo_nats'].to_numpy()
    assert row['value'] == pytest.approx(values.mean())
    assert row['se'] == pytest.approx(values.std(ddof=1) / 2)
    assert row['num_seeds'] == 4


def test_differences_are_paired_by_seed():
  frame = runs_table().sample(frac=1, random_state=0)
  result = table.differences(frame, ['beta']).iloc[0]
  wide = frame.pivot_table(index='seed', columns='beta', values='elbo_nats')
  first, second = (float(result[k].split()[1]) for k in ('first', 'second'))
  expected = scipy.stats.ttest_rel(wide[first], wide[second])
  assert result['p'] == pytest.approx(expected.pvalue)
  assert result['value'] == pytest.approx((wide[first] - wide[second]).mean())
  assert result['larger_than_chance']
  # Unpaired, the seeds' own spread would hide it.
  assert scipy.stats.ttest_ind(wide[first], wide[second]).pvalue > 0.5


def test_pairs_differ_in_one_setting_alone():
  frame = pd.DataFrame(
    [
      {
        'seed': seed,
        'beta': beta,
        'latent_size': size,
        'elbo_nats': seed * beta,
      }
      for seed in range(3)
      for beta in (1.0, 2.0)
      for size in (5, 10)
    ]
  )
  result = table.differences(frame, ['beta', 'latent_size'])
  assert len(result) == 4
  assert not any(
    ('beta 1' in row['first']) != ('beta 1' in row['second'])
    and ('size 5' in row['first']) != ('size 5' in row['second'])
    for _, row in result.iterrows()
  )


def test_chance_alone_is_rarely_called_a_difference():
  random = np.random.default_rng(0)
  wrong = 0
  for _ in range(200):
    frame = runs_table(betas=(1.0, 2.0, 3.0), effect=0.0)
    frame['elbo_nats'] = random.normal(size=len(frame))
    wrong += table.differences(frame, ['beta'])['larger_than_chance'].any()
  assert wrong / 200 < 0.09  # 5% for all pairs together.


def test_holm_is_that_of_its_paper():
  # The example of the definition: sorted, times 4, 3, 2, 1, never falling.
  for given, corrected in (
    ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
    ([0.6, 0.7], [1.0, 1.0]),
    ([np.nan, 0.02, 0.03], [np.nan, 0.04, 0.04]),
    ([], []),
  ):
    result = table.holm(pd.Series(given, dtype=float)).tolist()
    assert result == pytest.approx(corrected, nan_ok=True)


def test_equal_differences_are_not_called_larger_than_chance():
  frame = runs_table(noise=0.0)
  # Equal to the bit, and but for how they are rounded.
  for elbos in (frame['beta'], frame['beta'] / 10 + frame['seed'] / 3):
    frame['elbo_nats'] = elbos
    result = table.differences(frame, ['beta'])
    assert result['p'].isna().all()
    assert not result['larger_than_chance'].any()


def test_one_seed_has_no_error_and_no_test():
  frame = runs_table(seeds=1)
  assert table.summarise(frame, ['beta'])['se'].isna().all()
  assert table.differences(frame, ['beta']).empty


def test_one_configuration_has_nothing_to_differ_from():
  frame = runs_table(betas=(0.1,)).drop(columns='beta')
  assert table.differences(frame, []).empty


def test_missing_results_are_left_out():
  frame = runs_table()
  frame.loc[0, 'elbo_nats'] = np.nan
  assert table.summarise(frame, ['beta'])['num_seeds'].tolist() == [3, 4]
  assert table.differences(frame, ['beta'])['num_seeds'].tolist() == [3]
  frame['elbo_nats'] = np.nan
  with pytest.raises(figures.FigureError, match='no run has a result'):
    table.summarise(frame, ['beta'])


@pytest.mark.parametrize(
  ('value', 'se', 'text'),
  [
    (-135.194, 0.378, '−135.19 ± 0.38'),
    (-135.194, 12.0, '−135 ± 12'),
    (0.29361, 0.00091, '0.29361 ± 0.00091'),
    (7.0, 0.0, '7 ± 0'),
    (-0.001, 0.3, '0.00 ± 0.30'),
    (-7.5, 0.0, '−7.5 ± 0'),
    (-1.5, np.nan, '−1.50'),
    (0.03837, np.nan, '0.0384'),
    (-205.704, np.nan, '−205.70'),
    (-1e308, np.inf, '−1e+308 ± inf'),
    (np.inf, np.nan, 'inf'),
    (1e300, 0.0, '1e+300 ± 0'),
    (-12345678.0, 0.0, '−12345678 ± 0'),
    (0.5, 3e-9, '0.500000 ± <0.000001'),
  ],
)
def test_numbers_are_as_long_as_their_error_allows(value, se, text):
  assert table.show(value, se) == text


@pytest.mark.parametrize(
  ('value', 'se', 'text'),
  [
    (-135.194, 0.378, '−135.2 ± 0.4'),
    (-135.194, 0.138, '−135.2 ± 0.1'),
    (-135.194, 0.0938, '−135.2 ± <0.1'),
    (-12345.6, 13.0, '−12350 ± 10'),
    (-1354.0, 120.0, '−1350 ± 120'),
    (-13.5194, 0.138, '−13.52 ± 0.14'),
    (-13.5194, 0.196, '−13.52 ± 0.20'),
    (0.29361, 0.00091, '0.2936 ± 0.0009'),
    (0.995097, 0.000059, '0.9951 ± <0.0001'),
    (0.99999, 1e-7, '1.000 ± <0.001'),
    (0.02, 0.0960, '0.02 ± 0.10'),
    (-135.194, 12.0, '−135 ± 12'),
    (-12345.6, 0.5, '−12350 ± <10'),
    (0.0, 0.3, '0.0 ± 0.3'),
    (0.8441172, 0.0, '0.8441 ± 0'),
    (12345.0, np.nan, '12345'),
    (-1351.94, np.nan, '−1352'),
    (0.25361, np.nan, '0.254'),
    (-1e308, np.inf, '−1e+308 ± inf'),
  ],
)
def test_numbers_in_figures_have_four_digits_at_most(value, se, text):
  assert table.show(value, se, in_figure=True) == text


def test_metrics_of_fewer_seeds_are_told():
  frame = runs_table(seeds=3).assign(log_p_nats=[np.nan, 1.0, 2.0] * 2)
  means = table.cells(table.summarise(frame, ['beta']), ['configuration'])
  assert means['seeds'].tolist() == ['2–3', '2–3']
  assert list(means.columns)[1:] == ['seeds', 'elbo_nats', 'log_p_nats']


@pytest.fixture
def runs(tmp_path):
  for seed in range(3):
    for beta in (0.5, 1.0):
      builders.write_run(
        tmp_path / f'{beta}-{seed}',
        beta=beta,
        seed=seed,
        with_arrays=False,
      )
  return frames.read_runs([str(tmp_path / '*')])


def test_markdown_has_both_tables(runs):
  text = table.render(runs, ['elbo_nats'], 'markdown')
  means, caption, pairs, note = text.split('\n\n')
  assert caption == (
    'MNIST, 6 runs over beta. Mean over seeds; elbo in nats per image. ± is '
    'one standard error over seeds.'
  )
  assert means.splitlines()[0] == '| configuration | seeds | elbo_nats |'
  assert means.splitlines()[2].startswith('| beta 0.5 | 3 | −98.')
  assert pairs.splitlines()[2].startswith('| beta 0.5 | beta 1 | 3 | ')
  assert 'paired by seed' in note


def test_csv_is_one_tidy_table(runs):
  frame = pd.read_csv(io.StringIO(table.render(runs, [], 'csv')))
  assert set(frame['kind']) == {'mean', 'difference'}
  assert len(frame) == 4 * 3
  assert frame['se'].notna().all()


def test_latex_escapes_what_it_must(runs):
  text = table.render(runs, ['elbo_nats', 'rate_nats'], 'latex')
  header = ' & '.join(
    rf'\multicolumn{{1}}{{c}}{{{name}}}' for name in ('seeds', 'elbo', 'rate')
  )
  assert rf'configuration & {header} \\' in text
  assert (
    r'\caption{MNIST, 6 runs over beta. Mean over seeds; elbo, rate in nats'
    in text
  )
  assert r'$-98.' in text
  assert text.count(r'\begin{table}') == text.count(r'\end{tabular}') == 2
  assert not set('±−†_') & set(text.replace('{_', ''))


def test_latex_aligns_at_decimal_points():
  cells = ['−208.5 ± 1.8 *', '18.462 ± 0.063', '7 ± 0', '−1.50', '9 ± 12 †', '']
  aligned = table._aligned(cells)
  assert aligned == [
    r'$-208.5\phantom{62} \pm \phantom{1}1.8\phantom{63}$\rlap{$^{*}$}',
    r'$18.462 \pm \phantom{1}0.063$',
    r'$7\phantom{.462} \pm \phantom{1}0\phantom{.063}$',
    r'$-1.50\phantom{2}\phantom{{} \pm 12.063}$',
    r'$9\phantom{.462} \pm 12\phantom{.063}$\rlap{$^{\dagger}$}',
    '',
  ]
  # Every cell is as wide as every other after its point, marks apart.
  ink = [re.sub(r'\\rlap{.*}|\\phantom|[{}$ ]', '', cell) for cell in aligned]
  widths = {len(re.sub(r'^-?\d+', '', cell)) for cell in ink[:-1]}
  assert len(widths) == 1
  assert table._aligned(['1.0', 'nan']) is None
  assert table._aligned(['0.5 ± <0.1', '12345 ± 0']) == [
    r'$0.5 \pm <0.1$',
    r'$12345\phantom{.5} \pm \phantom{<}0\phantom{.1}$',
  ]


def test_one_seed_shows_its_own_error_marked_as_such(tmp_path):
  for beta, seeds in ((0.5, (0,)), (1.0, (0, 1))):
    for seed in seeds:
      builders.write_run(
        tmp_path / f'{beta}-{seed}', beta=beta, seed=seed, with_arrays=False
      )
  runs = frames.read_runs([str(tmp_path / '*')])
  means = table.means(runs, ['elbo_nats']).set_index('configuration')
  rows = records.read_table(tmp_path / '0.5-0', records.EVAL)
  expected = rows[rows['metric'] == 'elbo_nats'].iloc[-1]['se']
  assert means.loc['beta 0.5', 'se'] == expected > 0
  assert means['mark'].tolist() == [' †', '']
  text = table.render(runs, ['elbo_nats'], 'markdown')
  assert ' † |' in text and 'where marked †, of one seed over images.' in text


@pytest.mark.parametrize(
  ('se', 'expected'),
  [
    (0.25, '± is one standard error over images.'),
    (None, 'elbo in nats per image.'),
  ],
)
def test_errors_of_one_seed_alone_are_said_to_be_over_images(
  tmp_path, se, expected
):
  builders.write_run(tmp_path / 'run', with_arrays=False)
  rows = records.read_table(tmp_path / 'run', records.EVAL)
  records.write_table(
    tmp_path / 'run', records.EVAL, rows.assign(se=se).to_dict('records')
  )
  runs = frames.read_runs([str(tmp_path / 'run')])
  text = table.render(runs, ['elbo_nats'], 'markdown')
  assert 'One seed' in text and text.endswith(expected)
  assert '†' not in text and 'over seeds' not in text


def test_what_all_seeds_share_is_said_not_to_be_tested(tmp_path):
  for seed in range(3):
    for beta in (0.5, 1.0):
      builders.write_run(tmp_path / f'{beta}-{seed}', beta=beta, seed=seed)
  runs = frames.read_runs([str(tmp_path / '*')])
  _, caption = table.both(runs, ['active_units'])[1]
  assert 'the same for every seed' not in caption  # Nor is it larger.
  runs.table['active_units'] += runs.table['beta']
  (shown, caption) = table.both(runs, ['active_units'])[1]
  assert shown['active_units'].tolist() == ['−0.5 ± 0']
  assert 'the same for every seed (± 0) has no such test' in caption


def test_repeats_of_a_run_are_one_seed(tmp_path):
  for name, seed, threads in (('a', 0, 1), ('b', 0, 2), ('c', 1, 1)):
    builders.write_run(tmp_path / name, seed=seed, threads=threads)
  runs = frames.read_runs([str(tmp_path / '*')])
  runs.table.loc[runs.table['run'] == 'b', 'elbo_nats'] += 1.0
  values = runs.table.set_index('run')['elbo_nats']
  seeds = pd.Series([values['a'] + 0.5, values['c']])
  (row,) = table.means(runs, ['elbo_nats']).to_dict('records')
  assert row['num_seeds'] == 2
  assert row['value'] == pytest.approx(seeds.mean())
  assert row['se'] == pytest.approx(seeds.sem())


def test_what_has_not_finished_has_no_result_among_others(tmp_path):
  for seed in range(3):
    status = {'status': 'running' if seed == 2 else 'finished'}
    builders.write_run(tmp_path / f'{seed}', status, seed=seed)
  runs = frames.read_runs([str(tmp_path / '*')])
  (row,) = table.means(runs, ['elbo_nats']).to_dict('records')
  assert row['num_seeds'] == 2
  (_, caption), _ = table.both(runs, ['elbo_nats'])
  assert caption.endswith('Left out, as not finished: 1 running.')
  (alone,) = frames.read_runs([str(tmp_path / '2')]).table['elbo_nats']
  assert alone == alone
  assert 'Left out' not in table.render(
    frames.read_runs([str(tmp_path / '2')]), [], 'markdown'
  )


def test_an_error_over_images_is_that_of_the_run_that_counts(tmp_path):
  for seed, status in enumerate(('finished', 'interrupted')):
    builders.write_run(tmp_path / f'{seed}', {'status': status}, seed=seed)
  rows = records.read_rows(tmp_path / '1', records.EVAL)
  records.write_table(
    tmp_path / '1', records.EVAL, [row | {'se': '9.0'} for row in rows]
  )
  runs = frames.read_runs([str(tmp_path / '*')])
  assert table.means(runs, ['elbo_nats'])['se'].tolist() == [0.25]


def test_runs_none_of_which_has_finished_are_named(tmp_path):
  for seed in range(2):
    path = tmp_path / f'{seed}'
    builders.write_run(path, {'status': 'interrupted'}, seed=seed)
  runs = frames.read_runs([str(tmp_path / '*')])
  for draw in (
    lambda: table.means(runs, ['elbo_nats']),
    lambda: rate_distortion.read_frame(runs),
    lambda: scores.read_frame(runs),
    lambda: study.read_frame(runs),
  ):
    with pytest.raises(figures.FigureError, match=r'\(2 interrupted\); each'):
      draw()


def test_unknown_metrics_are_refused(runs):
  with pytest.raises(figures.FigureError, match='there are: elbo_nats'):
    table.render(runs, ['accuracy'], 'csv')


def test_a_hostile_status_is_text_alone(tmp_path):
  folder = tmp_path / 'sweep'
  lines = ['run_dir,status,error,beta,elbo_nats']
  hostile = '"bad\n\\input{/etc/passwd}"'
  for beta, status in ((0.5, 'finished'), (1.0, hostile)):
    for seed in (0, 1):  # No column holds it.
      name = f'{beta}-{seed}'
      builders.write_run(folder / name, beta=beta, seed=seed)
      lines.append(f'{name},{status},x,{beta},-{seed + 90}')
  (folder / 'sweep.csv').write_text('\n'.join([*lines, '']))
  runs = frames.read_sweep(folder)
  assert sorted(runs.table['seed']) == [0, 0, 1, 1]
  text = table.render(runs, [], 'latex')
  (line,) = [line for line in text.splitlines() if 'passwd' in line]
  assert r'bad\textbackslash{}n\textbackslash{}input\{/etc' in line
  assert r'bad\n' in table.render(runs, [], 'markdown')
