import pathlib

import numpy as np
import pandas as pd
import pytest

from analysis import (
  frames,
  rate_per_latent,
  report,
  table,
  traversals,
  wording,
)
from launch import records
from tests.analysis import builders
from tests.launch import test_records
from vae.data import arrays


def write_sweep(folder, statuses=('finished', 'finished', 'failed')):
  folder.mkdir()
  header = 'run_dir,status,error,beta,hidden_sizes,seed,elbo_nats,rate_nats'
  lines = [f'{header},distortion_nats']
  for seed, status in enumerate(statuses):
    name = f'beta=1/seed={seed}'
    if status == 'finished':
      builders.write_run(folder / name, beta=1.0, seed=seed)
      lines.append(
        f'{name},finished,,1.0,"100,100",{seed},-9{seed}.5,1{seed},80.5'
      )
    else:
      lines.append(f'{name},{status},no such data,1.0,"100,100",{seed},,,')
  (folder / records.SWEEP).write_text('\n'.join(lines) + '\n')
  return folder


def test_runs_become_rows_of_settings_and_last_results(tmp_path):
  for seed in (0, 1):
    builders.write_run(tmp_path / f'r{seed}', seed=seed, beta=0.5)
  builders.write_run(tmp_path / 'r2', beta=2.0, hidden_sizes=[5])
  # An older result, one at fewer samples, and another split do not count.
  old = {'split': 'test', 'n': 10, 'metric': 'log_p_nats', 'se': None}
  records.upsert(
    tmp_path / 'r0',
    records.EVAL,
    [
      old | {'step': 4, 'num_samples': 100, 'value': -80.0},
      old | {'step': 4, 'num_samples': 1, 'value': -85.0},
      old | {'step': 2, 'num_samples': 5000, 'value': -99.0},
      old | {'step': 9, 'split': 'train', 'num_samples': 9, 'value': -1.0},
    ],
  )
  runs = frames.read_runs([str(tmp_path / '*')])
  assert runs.table['run'].tolist() == ['r0', 'r1', 'r2']
  assert runs.table['log_p_nats'].tolist()[0] == -80.0
  assert runs.table['log_p_nats'].isna().tolist() == [False, True, True]
  assert runs.table['effective_beta'].tolist() == [0.5, 0.5, 2.0]
  assert runs.varying == ['beta', 'hidden_sizes']  # Not seed.
  assert set(runs.metrics) == {
    'elbo_nats',
    'rate_nats',
    'distortion_nats',
    'active_units',
    'log_p_nats',
  }
  assert runs.folder == tmp_path
  assert 'over beta and hidden sizes' in runs.describe()


def test_what_an_older_run_lacks_is_no_other_setting(tmp_path):
  builders.write_run(tmp_path / 'old', posterior='diagonal')
  builders.write_run(tmp_path / 'new', optimizer='adam', seed=1)
  runs = frames.read_runs([str(tmp_path / '*')])
  assert runs.varying == []
  assert len(table.means(runs, ['elbo_nats'])) == 1


def test_rows_of_a_table_are_no_images(tmp_path, capsys):
  dataset = test_records.MANIFEST['dataset'] | {'shape': [13], 'name': 'wine'}
  for seed in range(2):
    builders.write_run(tmp_path / f'{seed}', {'dataset': dataset}, seed=seed)
  chosen = str(tmp_path / '*')
  page = report.render(frames.read_runs([chosen]), '', tmp_path)
  assert 'elbo, nats per row' in page
  assert 'error over seeds' in page.split('class="lead"')[1].split('</p>')[0]
  figures = page.split('<h2 id="section-0">Figures')[1].split('<h2')[0]
  assert 'per image' not in page.replace(figures, '')
  alone = report.render(frames.read_runs([str(tmp_path / '0')]), '', tmp_path)
  assert 'nats per row' in alone
  assert 'per image' not in alone
  assert 'images of a split' not in alone


def test_what_is_not_set_is_none(tmp_path):
  builders.write_run(tmp_path / 'a', image_size=None, hidden_sizes=[])
  builders.write_run(tmp_path / 'b', image_size=32, hidden_sizes=[5])
  runs = frames.read_runs([str(tmp_path / '*')])
  assert frames.configuration(runs.table, runs.varying).tolist() == [
    'hidden sizes none, image size none',
    'hidden sizes 5, image size 32',
  ]
  assert runs.rows(records.TRAIN)['image_size'].unique().tolist() == [
    'None',
    '32',
  ]
  assert frames.levels(runs.table['hidden_sizes']) == ['', '5']


@pytest.mark.parametrize(
  ('manifest', 'settings', 'line'),
  [
    ({}, {'beta': 0.5}, 'beta 0.5'),
    (
      {'effective_beta': 39.2},
      {'beta': 0.5},
      'effective beta 39.2',
    ),
    (
      {'effective_beta': 1.0, 'weights': {'beta': 1.0, 'gamma': 40.0}},
      {'objective': 'factor'},
      'FactorVAE with beta 1, gamma 40',
    ),
    (
      {'effective_beta': None, 'weights': {'gamma': 1e3, 'capacity': 25.0}},
      {'objective': 'annealed'},
      'AnnealedVAE with capacity 25, gamma 1000',
    ),
    (
      {'effective_beta': None, 'weights': {'beta': 4.0}, 'takes_beta': True},
      {'objective': 'beta_tc', 'beta': 4.0},
      'β-TCVAE with beta 4',
    ),
  ],
)
def test_a_run_is_described_by_what_its_objective_weighs(
  tmp_path, manifest, settings, line
):
  builders.write_run(tmp_path / 'run', manifest, **settings)
  (run,) = frames.read_runs([str(tmp_path / 'run')]).runs
  assert run.describe().endswith(f', {line}')


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('mnist', 'MNIST'),
    ('mnist_corrupted/fog:1.0.0', 'mnist_corrupted/fog:1.0.0'),
    ('/home/me/data/faces', 'faces'),
    ('/home/me/x.npy', 'x.npy'),
    (arrays.given(np.zeros([2, 4, 4]))[0], 'given arrays'),
  ],
)
def test_titles_name_data_as_one_says_it(tmp_path, name, words):
  for seed in range(2):
    builders.write_run(tmp_path / f'run{seed}', seed=seed)
    manifest = records.read_manifest(tmp_path / f'run{seed}')
    manifest['dataset']['name'] = name
    records.write_manifest(tmp_path / f'run{seed}', manifest)
  both = frames.read_runs([str(tmp_path / '*')])
  assert both.describe().startswith(f'{words}, 2 runs')
  assert both.runs[0].describe().startswith(f'{words}, ')


def test_titles_list_what_varies_as_one_says_it(tmp_path):
  for k, size in enumerate((3, 4, 5)):
    builders.write_run(
      tmp_path / f'run{k}',
      beta=1.0 + k % 2,
      gamma=1.0 + k // 2,
      latent_size=size,
    )
  runs = lambda *names: frames.read_runs([str(tmp_path / n) for n in names])
  assert runs('run*').describe().endswith('over latent size, beta and gamma')
  assert runs('run0', 'run1').describe().endswith('over beta and latent size')


def test_training_rows_say_which_configuration_they_are_of(tmp_path):
  builders.write_run(tmp_path / 'a' / 'run', latent_size=3)
  builders.write_run(tmp_path / 'b' / 'run', latent_size=5, steps=(1,))
  frame = frames.read_runs([f'{tmp_path}/*/run']).rows(records.TRAIN)
  assert frame['run'].tolist() == ['a/run'] * 3 + ['b/run']
  assert frame['configuration'].tolist() == (
    ['latent size 3'] * 3 + ['latent size 5']
  )
  assert frame['hidden_sizes'].unique().tolist() == ['100,100']


def test_a_run_is_read_once(tmp_path):
  builders.write_run(tmp_path / 'run')
  runs = frames.read_runs([str(tmp_path / 'run'), str(tmp_path / 'r*')])
  assert len(runs.runs) == 1


def test_folders_whose_names_look_like_globs_are_read(tmp_path):
  builders.write_run(tmp_path / 'run[1]')
  assert frames.read_runs([str(tmp_path / 'run[1]')]).runs[0].name == 'run[1]'


@pytest.mark.parametrize('pattern', ['nothing', 'no*'])
def test_patterns_without_a_run_are_refused(tmp_path, pattern):
  with pytest.raises(records.RecordError, match='is no run directory'):
    frames.read_runs([str(tmp_path / pattern)])


@pytest.mark.parametrize(
  ('objective', 'effective', 'takes_beta', 'said'),
  [
    ('elbo', 4.0, True, 'beta 4'),
    ('factor', 4.0, True, 'FactorVAE, beta 4'),
    ('iwae', 1.0, False, 'IWAE, effective beta 1'),
    ('beta_tc', None, True, 'β-TCVAE with beta 4'),
    ('annealed', None, False, 'AnnealedVAE: no beta'),
  ],
)
def test_a_title_says_the_objective_and_its_beta(
  tmp_path, objective, effective, takes_beta, said
):
  builders.write_run(
    tmp_path / 'run',
    {'effective_beta': effective, 'has_elbo': True, 'has_density': True}
    | {'takes_beta': takes_beta},
    beta=4.0,
    reduction='sum',
    objective=objective,
  )
  runs = frames.read_runs([str(tmp_path / 'run')])
  assert runs.describe().endswith(f', 2 latents, {said}')


def test_a_run_that_was_killed_at_once_has_a_row(tmp_path):
  builders.write_run(tmp_path / 'run', with_arrays=False)
  (tmp_path / 'run' / records.EVAL).unlink()
  table = frames.read_runs([str(tmp_path / 'run')]).table
  assert len(table) == 1
  records.write_table(tmp_path / 'run', records.EVAL)
  assert frames.read_runs([str(tmp_path / 'run')]).metrics == []


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    (records.CONFIG, '{"beta": 0.1'),
    (records.CONFIG, '{"beta": 0.1}'),
    (records.CONFIG, '[]'),
    (records.MANIFEST, '{"format": 1}'),
    (records.EVAL, 'step,split\n1,test\n'),
    (records.EVAL, None),
  ],
)
def test_damaged_files_are_named(tmp_path, name, content):
  run = tmp_path / 'run'
  builders.write_run(run)
  if content is None:  # A row that is not numbers.
    content = (run / name).read_text() + 'x,test,1,elbo_nats,1,two,\n'
  (run / name).write_text(content)
  with pytest.raises(records.RecordError, match=name):
    frames.read_runs([str(run)])


def test_a_half_written_row_does_not_count(tmp_path):
  run = tmp_path / 'run'
  builders.write_run(run)
  before = frames.read_runs([str(run)]).rows(records.TRAIN)
  with (run / records.TRAIN).open('a') as file:
    file.write('8,0.1,0.0')
  pd.testing.assert_frame_equal(
    frames.read_runs([str(run)]).rows(records.TRAIN), before
  )


# -- Sweeps -------------------------------------------------------------------


def test_a_sweep_keeps_runs_that_failed(tmp_path):
  runs = frames.read_sweep(write_sweep(tmp_path / 'sweep'))
  assert [run.name for run in runs.runs] == ['beta=1/seed=0', 'beta=1/seed=1']
  assert runs.table['status'].tolist() == ['finished', 'finished', 'failed']
  assert runs.table['elbo_nats'].tolist()[:2] == [-90.5, -91.5]
  assert np.isnan(runs.table['elbo_nats'][2])
  assert runs.table['effective_beta'].tolist()[:2] == [1.0, 1.0]
  assert set(runs.settings) == {'beta', 'hidden_sizes', 'seed'}
  assert runs.metrics == ['elbo_nats', 'rate_nats', 'distortion_nats']
  assert runs.varying == []
  assert len(runs.rows(records.TRAIN)) == 6


def test_a_half_written_row_of_a_sweep_does_not_count(tmp_path):
  sweep = write_sweep(tmp_path / 'sweep')
  with (sweep / records.SWEEP).open('a') as file:
    file.write('beta=1/seed=3,fini')
  assert len(frames.read_sweep(sweep).table) == 3


@pytest.mark.parametrize(
  ('content', 'match'),
  [
    (None, 'cannot be read'),
    ('', 'no rows yet'),
    ('run_dir,status\n', 'no rows yet'),
    ('run_dir,status\na,b,c\n', 'damaged at line 2'),
    ('name,status\na,finished\n', 'lacks run_dir'),
    ('run_dir,status\nnone,failed\n', 'no run of .* has started'),
    ('run_dir,status\n"a,finished\n', 'cannot be read'),
    ('run_dir,status\n../a,finished\n', 'outside'),
    ('run_dir,status\n/a,finished\n', 'outside'),
  ],
)
def test_damaged_sweeps_are_refused(tmp_path, content, match):
  if content is not None:
    (tmp_path / records.SWEEP).write_text(content)
  with pytest.raises(records.RecordError, match=match):
    frames.read_sweep(tmp_path)


def test_a_result_of_a_sweep_that_is_no_number_is_refused(tmp_path):
  folder = write_sweep(tmp_path / 'sweep')
  path = folder / records.SWEEP
  path.write_text(path.read_text().replace('-91.5', 'x'))
  with pytest.raises(
    records.RecordError, match='elbo_nats holds what is no nu'
  ):
    frames.read_sweep(folder)


def write_early_stopped(run, **manifest):
  """The tables of `--patience --eval_every`: the best weights are of step 2."""
  manifest = {'best_step': 2, **manifest}
  builders.write_run(run, manifest, False, latent_size=2)
  for name in (records.EVAL, records.RATE_PER_LATENT):
    records.write_table(run, name)
  for step in (1, 2, 3, 4):
    for split in ('test', 'validation'):
      common = {'step': step, 'split': split}
      elbo = {'metric': 'elbo_nats', 'n': 9, 'num_samples': 1, 'se': 0.1}
      elbo['value'] = -100.0 - step - (split == 'validation') / 2
      records.upsert(run, records.EVAL, [common | elbo])
      # Only after step 2 has latent 0 the higher rate, and is active.
      rates = [5.0, 0.5] if step == 2 else [0.25, 7.0]
      latents = [
        {'latent': u, 'rate_nats': rate, 'mean_variance': rate / 1000}
        for u, rate in enumerate(rates)
      ]
      records.upsert(
        run, records.RATE_PER_LATENT, [common | row for row in latents]
      )
  builders.write_arrays(run, 2, step=2)


@pytest.mark.parametrize('status', ['finished', 'running', 'interrupted'])
def test_the_result_of_an_early_stop_is_that_of_the_best_weights(
  tmp_path, status
):
  run = tmp_path / 'run'
  write_early_stopped(run, status=status)
  runs = frames.read_runs([str(run)])
  assert runs.table['elbo_nats'].tolist() == [-102.0]
  rates = frames.rates(runs.runs[0])
  assert rates['latent'].tolist() == [0, 1]
  assert rates['rate_nats'].tolist() == [5.0, 0.5]
  moved = traversals.read_frame(runs.runs[0])
  assert moved['latent'].unique().tolist() == [0, 1]
  result = rate_per_latent.read_frame(runs.runs[0]).query('is_result')
  assert result['step'].unique().tolist() == [2]
  page = report.render(runs, '', tmp_path)
  assert 'After step 2,' in page
  assert '−102.00 ± 0.10' in page
  assert '−104' not in page


def test_traversals_are_ordered_by_the_rates_of_the_weights_that_made_them(
  tmp_path,
):
  builders.write_run(tmp_path / 'run', latent_size=2)
  run = frames.read_runs([str(tmp_path / 'run')]).runs[0]
  rows = records.read_rows(run.path, records.RATE_PER_LATENT)
  later = [
    row | {'step': 8, 'rate_nats': 1 - int(row['latent'])} for row in rows
  ]
  records.upsert(run.path, records.RATE_PER_LATENT, later)
  assert frames.rates(run)['latent'].tolist() == [0, 1]
  assert traversals.read_frame(run)['latent'].unique().tolist() == [1, 0]


def test_the_kept_run_that_stopped_early_shows_its_result():
  kept = pathlib.Path(records.__file__).parents[1] / 'analysis/results/runs'
  runs = frames.read_runs([str(kept / 'conv_vae_dropout')])
  rows = frames.result_rows(runs.runs[0], records.EVAL)
  assert rows['step'].unique().tolist() == [16016]
  assert set(rows['split']) == {'test', 'validation'}
  elbo = runs.table['elbo_nats'].item()
  test = rows[(rows['split'] == 'test') & (rows['metric'] == 'elbo_nats')]
  assert elbo == test['value'].item()
  page = report._numbers(runs.runs[0])
  assert 'After step 16,016' in page
  assert wording.number(elbo, 2) in page


def test_categories_keep_their_own_order():
  shapes = pd.Categorical(['heart', 'square'], ['square', 'ellipse', 'heart'])
  assert frames.levels(pd.Series(shapes)) == ['square', 'heart']
