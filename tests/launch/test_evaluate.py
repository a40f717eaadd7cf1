import json
import shutil
from unittest import mock

import numpy as np
import pytest

from launch import evaluate, records, runs
from launch.experiment import metrics
from launch.rundir import checkpoints, contents
from launch.settings import config
from tests.launch import conftest
from vae import likelihoods
from vae.metrics import aggregate, evaluation, importance


@pytest.fixture(scope='session')
def trained(made_once, data_dir):
  """A run on binary images, and one on grey ones, trained once."""

  def train(folder):
    for name, binarize in (('binary', 'dynamic'), ('grey', 'none')):
      result = conftest.call_train(
        f'--run_dir={folder / name}',
        f'--data_dir={data_dir}',
        f'--binarize={binarize}',
        '--dataset=mnist_5k',
        '--hidden_sizes=16',
        '--latent_size=3',
        '--training_steps=200',
        '--num_validation=500',
        '--reduction=sum',
        '--beta=1',
      )
      assert result.code == 0, result.stderr

  return made_once('trained', train)


@pytest.fixture
def run_dir(trained, tmp_path):
  shutil.copytree(trained / 'binary', tmp_path / 'run')
  return tmp_path / 'run'


@pytest.fixture
def launch_evaluate(data_dir):
  def run(*arguments):
    return conftest.call(evaluate.main, [f'--data_dir={data_dir}', *arguments])

  return run


def assert_one_line_error(result, *parts):
  assert result.code not in (0, None)
  lines = [line for line in result.stderr.splitlines() if 'error: ' in line]
  assert len(lines) == 1
  assert 'Traceback' not in result.stderr
  for part in parts:
    assert part in lines[0]


def measured(run_dir, split='test'):
  frame = records.read_table(run_dir, records.EVAL)
  frame = frame[frame['split'] == split]
  return frame.set_index(['metric', 'num_samples'])


def test_everything_is_measured_and_recorded(launch_evaluate, run_dir):
  before = measured(run_dir)
  result = launch_evaluate(
    f'--run_dir={run_dir}', '--num_importance_samples=50'
  )
  assert result.code == 0, result.stderr
  after = measured(run_dir)
  value = after['value']
  # Evaluating again at the same step gives the same numbers.
  assert value['elbo_nats', 1] == before['value']['elbo_nats', 1]
  assert set(after['n']) == {1000}
  assert value['elbo_bits_per_dimension', 1] == pytest.approx(
    -value['elbo_nats', 1] / 784 / np.log(2)
  )
  bounds = [value['log_p_nats', count] for count in (1, 10, 50)]
  assert bounds[0] < bounds[1] < bounds[2]
  assert 1 < value['effective_sample_size', 50] < 50
  parts = sum(
    value[f'{name}_nats', 1]
    for name in ('mutual_information', 'total_correlation', 'dimension_wise_kl')
  )
  assert parts == pytest.approx(value['rate_nats', 1], abs=0.3)
  two = value['mutual_information_nats', 1] + value['marginal_kl_nats', 1]
  assert two == pytest.approx(parts, abs=1e-4)
  assert 'at 50 samples will take about 0 min' in result.stdout
  assert value['mutual_information_nats', 1] <= np.log(1000) + 0.01
  latents = records.read_table(run_dir, records.RATE_PER_LATENT)
  assert len(latents) == 3
  active = (latents['mean_variance'] > 0.01).sum()
  assert value['active_units', 1] == active
  last = result.stdout.splitlines()[-1]
  assert last.startswith(f'{active} of 3 latents')
  assert 'the bound at 50 samples is −' in last
  arrays = records.read_arrays(run_dir, 'latents')
  assert arrays['means'].shape == (1000, 3)
  np.testing.assert_allclose(
    arrays['means'].astype('f8').var(0), latents['mean_variance'], rtol=1e-6
  )
  assert records.read_arrays(run_dir, 'traversals')['modes'].shape == (
    4, 3, 13, 28, 28, 1,
  )  # fmt: skip
  assert records.read_arrays(run_dir, 'samples')['modes'].shape == (
    64, 28, 28, 1,
  )  # fmt: skip


def test_traversals_of_any_image_are_added_and_stay(launch_evaluate, run_dir):
  tables = (run_dir / records.EVAL).read_bytes()
  before = records.read_arrays(run_dir, 'traversals')
  added = launch_evaluate(f'--run_dir={run_dir}', '--index=70,17,70')
  assert added.code == 0, added.stderr
  assert '--index=17,70' in added.stdout
  assert (run_dir / records.EVAL).read_bytes() == tables
  after = records.read_arrays(run_dir, 'traversals')
  assert after['indices'].tolist() == [0, 1, 2, 3, 17, 70]
  for name in before.keys() - {'step', 'values', 'quantiles'}:
    if name != 'quantile_values':
      np.testing.assert_array_equal(after[name][:4], before[name])
  run = runs.load(run_dir)
  kept = records.read_arrays(run_dir, 'reconstructions')['images']
  np.testing.assert_array_equal(after['images'][4], kept[17])
  for place in (4, 5):
    (code,) = run.model.encode(after['images'][[place]]).mean().numpy()
    np.testing.assert_allclose(after['codes'][place], code, atol=1e-5)
    for values, name in (
      (after['values'], 'means'),
      (after['quantile_values'][2], 'quantile_means'),
    ):
      codes = np.tile(code, (len(values), 1))
      codes[:, 2] = values
      np.testing.assert_allclose(
        after[name][place, 2], run.decode(codes), atol=1e-3
      )
  # Measuring again loses none of them.
  result = launch_evaluate(f'--run_dir={run_dir}', '--num_importance_samples=0')
  assert result.code == 0, result.stderr
  again = records.read_arrays(run_dir, 'traversals')
  np.testing.assert_array_equal(again['indices'], after['indices'])
  np.testing.assert_array_equal(again['samples'], after['samples'])


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--index=1000'], 'has the images 0 to 999'),
    (['--index=x'], 'must be a whole number'),
    (['--index=-1'], 'must be a whole number'),
    (['--index=1', '--split=train'], 'leave out --split'),
  ],
)
def test_images_that_are_not_there_are_one_line(
  launch_evaluate, trained, arguments, said
):
  run = trained / 'binary'
  assert_one_line_error(launch_evaluate(f'--run_dir={run}', *arguments), said)


def test_other_splits_are_added_beside(launch_evaluate, run_dir):
  arrays = (run_dir / 'arrays' / 'latents.npz').read_bytes()
  for split, count in (('validation', 500), ('train', 3500)):
    result = launch_evaluate(
      f'--run_dir={run_dir}', f'--split={split}', '--num_importance_samples=1'
    )
    assert result.code == 0, result.stderr
    assert set(measured(run_dir, split)['n']) == {count}
  assert set(measured(run_dir)['n']) == {1000}
  assert (run_dir / 'arrays' / 'latents.npz').read_bytes() == arrays


def test_grey_targets_have_no_importance_weighted_bound(
  launch_evaluate, trained, tmp_path
):
  run = tmp_path / 'run'
  shutil.copytree(trained / 'grey', run)
  result = launch_evaluate(f'--run_dir={run}')
  assert result.code == 0, result.stderr
  assert 'no importance-weighted bound: the targets are grey' in result.stdout
  found = set(records.read_table(run, records.EVAL)['metric'])
  # Neither a density nor a code length.
  assert found.isdisjoint({'log_p_nats', 'elbo_bits_per_dimension'})
  assert_one_line_error(
    launch_evaluate(f'--run_dir={run}', '--num_importance_samples=10'),
    'grey targets',
  )


@pytest.mark.parametrize(
  'flag', ['--num_importance_samples=0', '--scores=sap_r2']
)
def test_the_bound_may_be_left_out_and_a_choice_of_images_is_named(
  launch_evaluate, run_dir, monkeypatch, flag
):
  monkeypatch.setattr(aggregate, 'MOST_IMAGES', 100)
  result = launch_evaluate(f'--run_dir={run_dir}', flag)
  assert result.code == 0, result.stderr
  assert 'will take about' not in result.stdout
  after = measured(run_dir)
  assert 'log_p_nats' not in after.index
  assert after['n']['elbo_nats', 1] == 1000
  assert after['n']['mutual_information_nats', 1] == 100
  assert after['value']['mutual_information_nats', 1] <= np.log(100) + 0.01
  assert 'over 100 of the images' in result.stdout
  assert any('the elbo is −' in x for x in result.stdout.splitlines()[-3:])


def test_a_kill_in_the_bound_loses_nothing_before_it(
  launch_evaluate, run_dir, monkeypatch
):
  def fail(*arguments):
    raise KeyboardInterrupt

  monkeypatch.setattr(importance.Estimator, '__call__', fail)
  launch_evaluate(f'--run_dir={run_dir}', '--num_importance_samples=5')
  assert 'total_correlation_nats' in measured(run_dir).index


def _class_means(of):
  """A metric that needs labels: how far apart the classes lie."""
  labels, means = of.data.labels, of.result.means
  return np.var([means[labels == k].mean() for k in np.unique(labels)])


def test_a_metric_is_one_entry_and_is_measured_cut_and_resumed(
  launch_train, launch_evaluate, tmp_path, monkeypatch
):
  entries = {
    'class_variance': metrics.Metric(
      _class_means, ('elbo', 'labels'), in_training=True
    ),
    'late_one': metrics.Metric(lambda of: {1: 0.5, 7: of.result.rate}),
    'none': metrics.Metric(lambda of: 1.0, ('autoencoder',)),
  }
  monkeypatch.setattr(metrics, 'METRICS', metrics.METRICS | entries)
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  settings = {'eval_every': 5, 'checkpoint_every': 10, 'training_steps': 20}
  assert launch_train(run_dir=whole, **settings).code == 0
  evaluated = measured(whole).loc['class_variance']
  assert list(evaluated['step']) == [5, 10, 15, 20]
  assert (evaluated['value'] > 0).all()
  # Killed after an evaluation that no checkpoint holds.
  shutil.copytree(whole, killed)
  checkpoints.path_of(killed, 20).unlink()
  manifest = records.read_manifest(killed)
  records.write_manifest(killed, manifest | {'status': 'running'})
  late = launch_evaluate(f'--run_dir={killed}', '--num_importance_samples=0')
  assert late.code == 0, late.stderr
  assert 'late_one' in late.stdout
  result = launch_train(run_dir=killed, **settings)
  assert 'after step 10' in result.stdout, result.stderr
  lines = (killed / records.EVAL).read_text().splitlines()
  of_evaluate = [
    line
    for line in lines
    if any(
      f',{name},' in line
      for name, metric in metrics.METRICS.items()
      if not metric.in_training
    )
  ]
  # What launch.evaluate measured stays; all else is to the bit what it is in
  # the run that was never killed.
  assert {line.split(',')[4] for line in of_evaluate if 'late_one' in line} == {
    '1',
    '7',
  }
  rest = [line for line in lines if line not in of_evaluate]
  assert rest == (whole / records.EVAL).read_text().splitlines()
  table = (records.RATE_PER_LATENT,)
  for name in table:
    assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_every_metric_that_training_writes_is_known_as_such(trained):
  frame = records.read_table(trained / 'binary', records.EVAL)
  for name in frame['metric']:
    assert metrics.METRICS[name].in_training
    row = {'split': 'test', 'metric': name}
    assert metrics.is_written_by_training(row, config.Config())
  for name in ('log_p_nats', 'an_idea'):
    row = {'split': 'test', 'metric': name}
    assert not metrics.is_written_by_training(row, config.Config())


@pytest.mark.parametrize(
  ('family', 'is_code_length'),
  [
    (likelihoods.Bernoulli, True),
    (likelihoods.ContinuousBernoulli, False),
    (likelihoods.Normal, False),
  ],
)
def test_likelihoods_of_ones_own_have_code_lengths_by_what_they_are(
  family, is_code_length
):
  own = type('Own', (family,), {})((2, 2, 1))
  of = mock.Mock()
  of.manifest = {'has_density': True}
  of.config.likelihood = 'own'
  of.model.decode.likelihood = own
  assert metrics.NEEDS['probability'](of) == is_code_length


@pytest.mark.parametrize(
  ('settings', 'warned'),
  [
    ({'likelihood': 'normal', 'likelihood_scale': 'optimal'}, True),
    ({'likelihood': 'continuous_bernoulli'}, True),
    ({'likelihood': 'normal', 'likelihood_scale': '0.1'}, False),
    ({'binarize': 'dynamic'}, False),
    ({}, False),
  ],
)
def test_a_density_without_bound_is_warned_about_where_it_is_printed(
  launch_train, launch_evaluate, tmp_path, settings, warned
):
  run = tmp_path / 'run'
  trained = launch_train(run_dir=run, training_steps=2, jit='off', **settings)
  assert trained.code == 0, trained.stderr
  assert ('no upper bound' in trained.stdout) == warned
  found = set(measured(run).index.get_level_values('metric'))
  is_code_length = settings.get('binarize') == 'dynamic'
  assert ('elbo_bits_per_dimension' in found) == is_code_length
  if 'continuous_bernoulli' in settings.values():
    result = launch_evaluate(f'--run_dir={run}', '--num_importance_samples=0')
    assert 'no upper bound' in result.stdout


def test_a_notebook_gets_the_same(run_dir, data_dir, launch_evaluate):
  launch_evaluate(f'--run_dir={run_dir}', '--num_importance_samples=10')
  run = runs.load(run_dir, data_dir)
  assert run.step == 200
  assert run.config.latent_size == 3
  assert run.train['step'].max() == 200
  recorded = measured(run_dir)['value']
  evaluated = run.evaluate(num_importance_samples=10)
  assert evaluated.result.elbo.value == recorded['elbo_nats', 1]
  assert evaluated.bounds[1].log_p.value == recorded['log_p_nats', 10]
  total_correlation = evaluated.rate_parts.total_correlation.value
  assert total_correlation == recorded['total_correlation_nats', 1]
  assert run.model.sample is not None
  assert len(run.rate_per_latent) == 3
  assert len(run.eval) == len(recorded)


def test_bad_input_is_one_line_and_loses_nothing(
  launch_evaluate, run_dir, tmp_path
):
  before = (run_dir / records.EVAL).read_bytes()
  run = f'--run_dir={run_dir}'
  for arguments, parts in (
    ([f'--run_dir={tmp_path / "none"}'], ('is no run directory',)),
    ([run, '--split=tset'], ('--split=tset', 'test, train, validation')),
    ([run, '--num_importance_samples=-1'], ('=-1', 'at least 0')),
    ([run, '--num_importance_samples=x'], ('num_importance_samples',)),
  ):
    assert_one_line_error(launch_evaluate(*arguments), *parts)
  manifest = records.read_manifest(run_dir)
  records.write_manifest(run_dir, manifest | {'format': 0})
  assert_one_line_error(launch_evaluate(run), 'has format 0')
  manifest['dataset']['sha256']['test'] = '0' * 64
  records.write_manifest(run_dir, manifest)
  assert_one_line_error(launch_evaluate(run), 'SHA-256 differ')
  for path in checkpoints.paths(run_dir):
    path.write_bytes(b'x')
  assert_one_line_error(launch_evaluate(run), 'every checkpoint')
  shutil.rmtree(run_dir / records.CHECKPOINTS)
  assert_one_line_error(launch_evaluate(run), 'has no checkpoint yet')
  (run_dir / records.CONFIG).write_text(json.dumps({'latent_size': 'x'}))
  assert_one_line_error(launch_evaluate(run), 'config.json')
  assert (run_dir / records.EVAL).read_bytes() == before


@pytest.mark.parametrize('content', [{}, {'dataset': {}}, {'status': None}])
def test_a_damaged_manifest_is_named(launch_evaluate, run_dir, content):
  records.write_manifest(run_dir, {'format': records.FORMAT, **content})
  assert_one_line_error(
    launch_evaluate(f'--run_dir={run_dir}'), 'manifest.json is damaged'
  )


def test_an_old_checkpoint_does_not_replace_newer_arrays(
  launch_evaluate, run_dir
):
  path = run_dir / 'arrays' / 'samples.npz'
  newer_modes = {'modes': np.zeros((3, 2, 2, 1))}
  records.write_arrays(run_dir, 'samples', 500, newer_modes)
  newer = path.read_bytes()
  launch_evaluate(f'--run_dir={run_dir}', '--num_importance_samples=1')
  assert path.read_bytes() == newer
  assert records.read_arrays(run_dir, 'latents')['step'] == 200


def test_uneven_weights_are_warned_about(launch_evaluate, run_dir):
  result = launch_evaluate(f'--run_dir={run_dir}', '--num_importance_samples=5')
  assert 'WARNING: 100% of the images have an effective' in result.stdout


def test_going_on_keeps_what_was_measured_in_between(
  launch_evaluate, run_dir, data_dir
):
  from launch import train

  launch_evaluate(f'--run_dir={run_dir}', '--num_importance_samples=2')
  launch_evaluate(
    f'--run_dir={run_dir}', '--num_importance_samples=1', '--split=validation'
  )
  result = conftest.call(
    train.main,
    [f'--run_dir={run_dir}', f'--data_dir={data_dir}', '--training_steps=220'],
  )
  assert result.code == 0, result.stderr
  frame = records.read_table(run_dir, records.EVAL)
  old = frame[frame['step'] == 200]
  assert 'log_p_nats' in set(old['metric'])
  assert 'elbo_nats' in set(old[old['split'] == 'validation']['metric'])
  assert 'elbo_nats' not in set(old[old['split'] == 'test']['metric'])
  assert 'elbo_nats' in set(frame[frame['step'] == 220]['metric'])


@pytest.mark.parametrize(
  ('owner', 'name'), [(runs.Run, 'evaluate'), (metrics, 'record')]
)
def test_a_run_that_takes_the_place_meanwhile_gets_no_results_of_the_old(
  launch_evaluate, run_dir, trained, monkeypatch, owner, name
):
  call = getattr(owner, name)

  def overtaken(*arguments, **options):
    found = call(*arguments, **options)
    contents.clear(run_dir)  # As --overwrite does.
    shutil.copytree(trained / 'grey', run_dir, dirs_exist_ok=True)
    return found

  monkeypatch.setattr(owner, name, overtaken)
  result = launch_evaluate(f'--run_dir={run_dir}', '--num_importance_samples=0')
  assert_one_line_error(result, 'holds another run than when it was read')
  for path in (trained / 'grey').rglob('*.*'):
    if path.is_file():
      own = run_dir / path.relative_to(trained / 'grey')
      assert own.read_bytes() == path.read_bytes(), path


def test_a_checkpoint_of_another_model_is_refused(launch_evaluate, run_dir):
  settings = records.read_config(run_dir)
  (run_dir / records.CONFIG).write_text(
    json.dumps(settings | {'latent_size': 5})
  )
  assert_one_line_error(
    launch_evaluate(f'--run_dir={run_dir}'), 'is of another model'
  )


@pytest.mark.parametrize(
  ('factor', 'words'),
  [
    (np.nan, 'every checkpoint in'),
    (1e30, 'by its weights after step 200 the elbo of the test split is '),
  ],
)
def test_weights_that_give_no_numbers_are_one_line_and_no_results(
  launch_evaluate, run_dir, factor, words
):
  before = (run_dir / records.EVAL).read_bytes()
  for path in checkpoints.paths(run_dir):
    step, tensors = checkpoints.load(path)
    tensors = {
      name: array * factor if name.startswith('model/') else array
      for name, array in tensors.items()
    }
    checkpoints.save(run_dir, step, tensors)
  result = launch_evaluate(f'--run_dir={run_dir}')
  assert_one_line_error(result, words)
  assert 'elbo' not in result.stdout
  assert (run_dir / records.EVAL).read_bytes() == before


# -- Words --------------------------------------------------------------------


def result_of(active, latents=4):
  means = np.zeros((100, latents), np.float32)
  means[:, :active] = np.linspace(-1, 1, 100)[:, None]
  estimate = evaluation.Estimate(-90.04, 0.3)
  return evaluation.Evaluation(
    100, estimate, estimate, estimate, estimate, means, np.ones_like(means)
  )


def test_words():
  bound = importance.Bound(
    5000, evaluation.Estimate(-86.91, 0.31), 340.4, 0.01, 0.0
  )
  assert metrics.in_words(result_of(3), [bound]) == (
    '3 of 4 latents are active; the bound at 5,000 samples is −86.9 ± 0.3 nats '
    '(ESS 340).'
  )
  assert metrics.in_words(result_of(1), []) == (
    '1 of 4 latents is active; the elbo is −90.0 ± 0.3 nats.'
  )
  assert metrics.in_words(result_of(0), []).startswith(
    'The model is collapsed: none of its 4 latents is active'
  )


def test_an_autoencoder_stands_once_all_of_its_images_are_measured(
  launch_evaluate, data_dir, tmp_path
):
  run = runs.train(
    'mnist_5k',
    data_dir=data_dir,
    run_dir=tmp_path / 'run',
    objective='reconstruction',
    posterior='deterministic',
    hidden_sizes=8,
    training_steps=2,
    eval_images=50,
    jit=False,
    verbose=0,
  )
  assert not metrics.stand(run.path, 0)
  assert launch_evaluate(f'--run_dir={run.path}').code == 0
  assert metrics.stand(run.path, 0)
  assert metrics.stand(run.path, 100)  # It has no bound.
