import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import PIL.Image
import pytest
import scipy.stats
import tensorflow as tf

from launch import files, records, runs
from launch.experiment import build, pictures
from launch.rundir import checkpoints
from launch.settings import config, presets
from tests.launch import conftest, faults
from vae.data import drawn, xy_squares
from vae.metrics import evaluation


def assert_one_line_error(result, *parts):
  assert result.code not in (0, None)
  lines = [
    line
    for line in result.stderr.splitlines()
    if line.startswith('launch.train: error: ')
  ]
  assert len(lines) == 1
  assert 'Traceback' not in result.stderr
  for part in parts:
    assert part in lines[0]


# -- A run --------------------------------------------------------------------


def test_a_run_writes_everything_it_promises(launch_train, tmp_path):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, beta=0.5, eval_every=10)
  assert result.code == 0, result.stderr
  assert "{'step': 16, 'total':" in result.stdout
  assert 'effective beta 130.7' in result.stdout  # 0.5 * 784 / 3
  assert f'python -m analysis.loss_curves --run_dir={run}' in result.stdout
  assert 'not comparable' in result.stdout

  train = records.read_table(run, records.TRAIN)
  assert train['step'].tolist() == [1, 2, 4, 8, 16, 20]
  np.testing.assert_allclose(
    train['total'], train['reconstruction'] + 0.5 * train['kl'], rtol=1e-5
  )
  np.testing.assert_allclose(
    train['distortion_nats'], train['reconstruction'] * 784, rtol=1e-5
  )
  np.testing.assert_allclose(train['rate_nats'], train['kl'] * 3, rtol=1e-5)
  np.testing.assert_allclose(
    train['elbo_nats'],
    -train['distortion_nats'] - train['rate_nats'],
    rtol=1e-5,
  )
  np.testing.assert_allclose(train['epoch'], train['step'] * 64 / 4000)

  evaluated = records.read_table(run, records.EVAL)
  assert sorted(set(evaluated['step'])) == [10, 20]
  assert set(evaluated['metric']) == {
    'elbo_nats',
    'distortion_nats',
    'rate_nats',
    'active_units',
  }
  last = evaluated[evaluated['step'] == 20].set_index('metric')['value']
  assert last['elbo_nats'] == pytest.approx(
    -last['distortion_nats'] - last['rate_nats']
  )
  latents = records.read_table(run, records.RATE_PER_LATENT)
  assert latents.groupby('step')['rate_nats'].sum()[20] == pytest.approx(
    last['rate_nats'], rel=1e-5
  )

  manifest = records.read_manifest(run)
  assert manifest['status'] == 'finished'
  assert manifest['effective_beta'] == pytest.approx(0.5 * 784 / 3)
  assert manifest['dataset']['num_images'] == {'train': 4000, 'test': 1000}
  assert manifest['targets'].startswith('grey')
  assert manifest['num_parameters']['encoder'] == 784 * 8 + 8 + 8 * 6 + 6
  settings = json.loads((run / records.CONFIG).read_text())
  assert 'auto' not in settings.values()
  assert settings['threads'] == len(os.sched_getaffinity(0))

  arrays = records.read_arrays(run, 'reconstructions')
  assert arrays['images'].shape == arrays['modes'].shape == (64, 28, 28, 1)
  grid = records.read_arrays(run, 'latent_grid')
  assert grid['modes'].shape == (13, 13, 28, 28, 1)
  order = latents[latents['step'] == 20].sort_values('rate_nats')
  assert grid['latents'].tolist() == order['latent'].tolist()[::-1][:2]


def test_the_checkpoint_holds_the_model_that_was_evaluated(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run).code == 0
  settings = config.load(run / records.CONFIG)
  model = build.model(settings, (28, 28, 1))
  step, tensors = checkpoints.load(checkpoints.paths(run)[0])
  assert step == 20
  model_tensors = {k: v for k, v in tensors.items() if k.startswith('model/')}
  build.assign(build.named_variables(model=model), model_tensors)
  arrays = records.read_arrays(run, 'reconstructions')
  np.testing.assert_array_equal(
    model.reconstruct(tf.constant(arrays['images'])), arrays['modes']
  )


def test_static_binarisation_trains_on_zeros_and_ones(launch_train, tmp_path):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run, binarize='static').code == 0
  images = records.read_arrays(run, 'reconstructions')['images']
  assert set(np.unique(images)) == {0.0, 1.0}
  assert records.read_manifest(run)['targets'] == 'binary, static (own draw)'


def test_a_preset_is_overridden_by_flags_and_its_settings_are_recorded(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, preset='iwae', num_samples=3, seed=2)
  assert result.code == 0, result.stderr
  settings = config.load(run / records.CONFIG)
  assert settings.objective == 'iwae'
  assert settings.hidden_sizes == (8,)  # The flag wins over the preset,
  assert settings.training_steps == 20  # and the length with it.
  assert settings.num_epochs is None
  train = records.read_table(run, records.TRAIN)
  assert train['learning_rate'][0] == 1e-3
  # A bound on three samples is at least the elbo of the same samples.
  assert (train['total'] <= -train['elbo_nats'] + 1e-3).all()


@pytest.mark.parametrize(
  'settings',
  [
    {'preset': 'conv_vae', 'kl': 'monte_carlo'},
    {
      'preset': 'full_covariance_vae',
      'channels': '4,4',
      'hidden_sizes': None,
    },
    {
      'network': 'pooled_conv',
      'channels': '4,4',
      'dropout': 0.5,
      'hidden_sizes': None,
    },
    {'likelihood': 'normal', 'prior': 'mixture', 'kl': 'monte_carlo'},
    {
      'likelihood': 'normal',
      'likelihood_scale': 'per_output',
      'posterior_scale': 'softplus',
    },
    {'likelihood': 'continuous_bernoulli', 'posterior': 'full_covariance'},
    {'preset': 'autoencoder', 'num_epochs': None},
    {'encoder': 'strided_conv', 'channels': '4', 'optimizer': 'momentum'},
    {
      'precision': 'bfloat16',
      'encoder': 'strided_conv',
      'channels': '4',
      'objective': 'factor',
      'discriminator_sizes': '4',
    },
    {'optimizer': 'sgd', 'kl': 'monte_carlo', 'kl_samples': 3},
    {'beta_warmup_steps': 2, 'likelihood': 'normal'},
    {
      'optimizer': 'adagrad',
      'learning_rate_warmup_steps': 2,
      'clip_norm': 0.1,
      'weight_decay': 0.1,
    },
  ],
  ids=str,
)
def test_parts_mix_and_go_on_to_the_bits_of_one_long_run(
  launch_train, tmp_path, settings
):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  settings = {'batch_size': 8, 'jit': 'auto'} | settings
  for path, steps in ((whole, 6), (parts, 3), (parts, 6)):
    result = launch_train(run_dir=path, **settings, training_steps=steps)
    assert result.code == 0, result.stderr
  faults.assert_same_run(whole, parts)
  convolutional = {'network', 'encoder', 'preset'} & settings.keys() and (
    settings.get('preset') != 'autoencoder'
  )
  stored = config.load(whole / records.CONFIG)
  assert stored.jit == ('off' if convolutional else 'on')


def test_a_rate_that_falls_to_the_last_step_fixes_where_it_is(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  settings = {'run_dir': run, 'learning_rate_schedule': 'cosine'}
  assert launch_train(**settings, training_steps=4, log_every=1).code == 0
  rates = records.read_table(run, records.TRAIN)['learning_rate']
  np.testing.assert_allclose(
    rates, 1e-3 * np.array([1, 0.853553, 0.5, 0.146447]), rtol=1e-5
  )
  result = launch_train(run_dir=run, training_steps=4)
  assert 'Its learning rate has come to its end' in result.stdout
  result = launch_train(run_dir=run, training_steps=8)
  assert result.code == 1
  assert (
    '--learning_rate_schedule=cosine falls until the last step, which is 4'
  ) in result.stderr


@pytest.fixture(scope='module')
def colour_images(tmp_path_factory):
  """A folder of 20 colour images of 32×24 pixels."""
  folder = tmp_path_factory.mktemp('colour')
  generator = np.random.default_rng(0)
  for index in range(20):
    pixels = generator.integers(0, 256, (24, 32, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / f'{index}.png')
  return folder


@pytest.mark.parametrize(
  ('network', 'sizes'),
  [
    ('mlp', {}),
    ('strided_conv', {'channels': '4,4'}),
    ('pooled_conv', {'channels': '4,4', 'hidden_sizes': None}),
    ('deep_conv', {'channels': '4,4', 'hidden_sizes': None}),
  ],
)
def test_colour_images_of_another_size_go_through_each_network(
  launch_train, tmp_path, colour_images, network, sizes
):
  run = tmp_path / 'run'
  result = launch_train(
    run_dir=run,
    dataset=colour_images,
    network=network,
    **sizes,
    batch_size=8,
    training_steps=2,
  )
  assert result.code == 0, result.stderr
  modes = records.read_arrays(run, 'reconstructions')['modes']
  assert modes.shape == (2, 24, 32, 3)
  assert '24×32×3, colour' in result.stdout
  assert 'grey' not in result.stdout
  assert records.read_manifest(run)['targets'].startswith('colour: ')


def test_presets_are_listed(launch_train):
  result = launch_train(preset='list')
  assert result.code == 0
  for name in presets.PRESETS:
    assert f'{name}: ' in result.stdout


def test_one_latent_has_a_grid_of_one_row(launch_train, tmp_path):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run, latent_size=1).code == 0
  grid = records.read_arrays(run, 'latent_grid')
  assert grid['modes'].shape == (1, 13, 28, 28, 1)


def test_epochs_count_passes_over_the_training_images(launch_train, tmp_path):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, training_steps=None, num_epochs=0.5)
  assert result.code == 0, result.stderr
  train = records.read_table(run, records.TRAIN)
  assert train['step'].max() == 32  # 2,000 images in batches of 64.


def test_evaluations_in_training_take_a_choice_of_the_test_images(
  launch_train, tmp_path
):
  path = tmp_path / 'some'
  some = launch_train(f'--run_dir={path}', eval_images=100)
  assert 'test split of mnist_5k, 100 of its 1,000 images (--eval_images)' in (
    some.stdout
  )
  assert {row['n'] for row in records.read_rows(path, records.EVAL)} == {'100'}

  whole = launch_train(f'--run_dir={tmp_path / "all"}', eval_images=0)
  assert 'test split of mnist_5k, 1,000 images, ' in whole.stdout
  chosen = evaluation.choose(1000, 100)
  assert (np.diff(chosen) > 0).all() and chosen[-1] < 1000
  ours, theirs = (
    records.read_arrays(tmp_path / name, 'latents') for name in ('some', 'all')
  )
  np.testing.assert_array_equal(ours['labels'], theirs['labels'][chosen])
  np.testing.assert_allclose(
    ours['means'], theirs['means'][chosen], rtol=1e-5, atol=1e-6
  )

  run = runs.load(path, launch_train.data_dir)
  assert run.evaluate().result.num_images == 1000  # Never silently fewer.


def test_scores_in_training_take_all_test_images(launch_train, tmp_path):
  launch_train(f'--run_dir={tmp_path}', eval_images=100, eval_scores='mig')
  for name in (records.EVAL, records.SCORES):
    assert {row['n'] for row in records.read_rows(tmp_path, name)} == {'1000'}


def test_runs_that_are_older_than_a_choice_of_images_keep_to_all(
  launch_train, tmp_path
):
  result = launch_train(f'--run_dir={tmp_path}')
  stored = json.loads((tmp_path / records.CONFIG).read_text())
  assert stored.pop('eval_images') == 10_000
  (tmp_path / records.CONFIG).write_text(json.dumps(stored))
  result = launch_train(f'--run_dir={tmp_path}', training_steps=30)
  assert result.code == 0, result.stderr
  stored = json.loads((tmp_path / records.CONFIG).read_text())
  assert stored['eval_images'] == 0


def test_a_run_without_a_folder_gets_a_fresh_one(
  launch_train, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  for _ in range(2):
    assert launch_train(training_steps=1).code == 0
  names = sorted(path.name for path in (tmp_path / 'runs').iterdir())
  assert len(names) == 2
  assert all('beta0.01-latents3-seed0' in name for name in names)


# -- Autoencoders, tables, scales ---------------------------------------------


def test_an_autoencoder_reports_squared_error_and_no_nats(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, preset='autoencoder', latent_size=2)
  assert result.code == 0, result.stderr
  assert 'beta     none: an autoencoder has no rate' in result.stdout
  assert 'nats' not in result.stdout
  train = records.read_table(run, records.TRAIN)
  empty = ['beta', 'kl', 'distortion_nats', 'rate_nats', 'elbo_nats']
  assert train[empty].isna().all(axis=None)
  np.testing.assert_allclose(train['total'], train['reconstruction'], rtol=1e-5)
  evaluated = records.read_table(run, records.EVAL)
  assert evaluated['metric'].tolist() == ['squared_error']
  assert records.read_manifest(run)['effective_beta'] is None
  loaded = runs.load(run, None)
  codes = records.read_arrays(run, 'latents')['means']
  assert 0.0 < codes.min() < codes.max() < 1.0  # Sigmoids.
  arrays = records.read_arrays(run, 'reconstructions')
  np.testing.assert_array_equal(
    np.float16(loaded.model.reconstruct(tf.constant(arrays['images']))),
    arrays['modes'],  # In half precision.
  )
  assert records.read_arrays(run, 'manifold')['modes'].shape[:2] == (20, 20)
  assert not (run / records.ARRAYS / 'samples.npz').exists()


def test_two_latents_have_a_manifold_at_quantiles_of_the_prior(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run, latent_size=2).code == 0
  values = records.read_arrays(run, 'manifold')['values']
  np.testing.assert_allclose(
    scipy.stats.norm.cdf(values), (np.arange(20) + 0.5) / 20, atol=1e-6
  )
  latents = records.read_arrays(run, 'latents')
  assert latents['pixels_pca'].shape == (1000, 50)
  assert latents['labels'].shape == (1000,)


def test_drawn_data_keep_their_factors(launch_train, tmp_path, monkeypatch):
  monkeypatch.setattr(pictures, 'NUM_VALUES', 5)
  run = tmp_path / 'run'
  result = launch_train(
    run_dir=run,
    dataset='xy_squares',
    image_size=8,
    training_steps=3,
    eval_images=0,
  )
  assert result.code == 0, result.stderr
  manifest = records.read_manifest(run)
  # Black and white by nature: no grey, whose nats would bound nothing.
  assert '8×8×3, binary' in result.stdout
  assert (manifest['targets'], manifest['has_density']) == ('binary', True)
  metrics = {row['metric'] for row in records.read_rows(run, records.EVAL)}
  assert 'elbo_bits_per_dimension' in metrics
  data = manifest['dataset']
  assert dict(data['factors']) == xy_squares.FACTORS
  assert [name for name, _ in data['factors']] == [*xy_squares.FACTORS]
  assert (data['test_share'], data['shape']) == (0.1, [8, 8, 3])
  latents = records.read_arrays(run, 'latents')
  assert latents['factors'].shape == (26_214, 6)
  assert latents['pixels_pca'].shape == (10_000, 50)
  images = records.read_arrays(run, 'reconstructions')['images']
  np.testing.assert_array_equal(
    images * 255, xy_squares.images(latents['factors'][:64], 8)
  )
  # Each factor over five of its values, the others in the middle of theirs.
  varied = records.read_arrays(run, 'by_factor')
  names = [name for name in xy_squares.FACTORS for _ in range(5)]
  assert list(varied['labels']) == names
  assert list(varied['values']) == 6 * [0, 2, 4, 5, 7]
  assert set(varied['num_values']) == {8}
  expected = np.full((30, 6), 4)
  for row in range(30):
    expected[row, row // 5] = [0, 2, 4, 5, 7][row % 5]
  np.testing.assert_array_equal(
    varied['images'] * 255, xy_squares.images(expected, 8)
  )
  model = runs.load(run, data_dir=launch_train.data_dir).model
  means = model.decode(model.encode(varied['images']).mean()).mean()
  np.testing.assert_allclose(
    varied['means'], means, atol=5e-4
  )  # Half precision.


def test_a_table_is_trained_on_and_measured_in_nats_per_row(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, preset='dense_vae', dataset='wine')
  assert result.code == 0, result.stderr
  assert '143 training, 35 test rows, 13 columns' in result.stdout
  assert 'nats per row' in result.stdout
  assert records.read_arrays(run, 'reconstructions')['modes'].shape == (35, 13)


def test_values_outside_of_a_likelihoods_range_are_refused(
  launch_train, tmp_path
):
  for likelihood in ('bernoulli', 'continuous_bernoulli'):
    result = launch_train(
      run_dir=tmp_path / 'run', dataset='wine', likelihood=likelihood
    )
    assert_one_line_error(result, 'wine has values from', 'outside of [0, 1]')
  result = launch_train(
    run_dir=tmp_path / 'run', dataset='wine', binarize='dynamic'
  )
  assert_one_line_error(result, '--binarize=dynamic', 'is a table')
  result = launch_train(
    run_dir=tmp_path / 'run',
    dataset='wine',
    network='deep_conv',
    hidden_sizes=None,
  )
  assert_one_line_error(result, '--network=deep_conv', 'shape [H, W, C]')


def test_the_optimal_scale_is_reported_with_the_beta_that_it_equals(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  settings = {'likelihood': 'normal', 'reduction': 'sum', 'beta': 2}
  result = launch_train(run_dir=run, **settings)
  assert result.code == 0, result.stderr
  evaluated = records.read_table(run, records.EVAL).set_index('metric')['value']
  model = runs.load(run, None).model
  scale = float(model.decode.likelihood.scale)
  assert 0.05 < scale < 0.5
  assert evaluated['fitted_scale'] == pytest.approx(scale)
  assert evaluated['equivalent_beta'] == pytest.approx(2 * scale**2)
  assert f'has the scale {scale:.4g}' in result.stdout


def test_a_prior_without_a_closed_form_is_evaluated_by_samples(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, prior='mixture', kl='monte_carlo')
  assert result.code == 0, result.stderr
  assert records.read_table(run, records.EVAL)['value'].notna().all()


# -- Schedules ----------------------------------------------------------------


def test_beta_warms_up_and_each_row_says_its_own(launch_train, tmp_path):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, beta=0.8, beta_warmup_steps=16)
  assert result.code == 0, result.stderr
  train = records.read_table(run, records.TRAIN)
  expected = [0.8 * min(1.0, step / 16) for step in train['step']]
  np.testing.assert_allclose(train['beta'], expected, rtol=1e-6)
  np.testing.assert_allclose(
    train['total'],
    train['reconstruction'] + train['beta'] * train['kl'],
    rtol=1e-5,
  )
  assert_one_line_error(
    launch_train(run_dir=tmp_path / 'b', beta_warmup_steps=21),
    'training would end before',
  )
  assert_one_line_error(
    launch_train(
      run_dir=tmp_path / 'b',
      beta_warmup_steps=64,
      training_steps=None,
      num_epochs=1,
    ),
    'training would end before, after 63 steps',
  )


EARLY = {
  'num_validation': 3900,  # 100 images are over-fitted soon.
  'batch_size': 50,
  'hidden_sizes': '100',
  'learning_rate': 0.01,
  'patience': 3,
  'training_steps': 400,
}


def test_training_stops_early_and_keeps_the_best_weights(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, **EARLY)
  assert result.code == 0, result.stderr
  evaluated = records.read_table(run, records.EVAL)
  validated = evaluated[
    (evaluated['split'] == 'validation') & (evaluated['metric'] == 'elbo_nats')
  ].set_index('step')['value']
  best, last = validated.idxmax(), validated.index.max()
  assert last - best == 2 * 3 < 400  # Two steps an epoch.
  assert f'stopped early after step {last}' in result.stdout
  train = records.read_table(run, records.TRAIN)
  assert train['step'].max() == last
  manifest = records.read_manifest(run)
  assert manifest['stopped_early']
  assert manifest['best_step'] == best
  tested = evaluated[evaluated['split'] == 'test']
  assert set(tested['step']) == {best}
  # What is loaded is the best, and gives the numbers that were written.
  loaded = runs.load(run, None)
  assert loaded.step == best
  assert int(records.read_arrays(run, 'latents')['step']) == best
  validation = validated[best]
  loaded = dataclasses.replace(loaded, data_dir=launch_train.data_dir)
  result = loaded.evaluate('validation').result
  assert result.elbo.value == pytest.approx(validation)
  # It is over, however many more steps are asked for.
  result = launch_train(run_dir=run, **EARLY | {'training_steps': 500})
  assert 'is finished' in result.stdout


@pytest.mark.parametrize('kept', [2, 7, 12])
def test_a_run_that_stops_early_resumes_to_the_same_bits(
  launch_train, tmp_path, monkeypatch, kept
):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  assert launch_train(run_dir=whole, checkpoint_every=5, **EARLY).code == 0
  # A process that dies in the evaluation after some step.
  evaluate = evaluation.Evaluator.__call__
  calls = []

  def dies(self, *arguments):
    calls.append(1)
    if len(calls) == kept:
      raise OSError('killed')
    return evaluate(self, *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(evaluation.Evaluator, '__call__', dies)
    result = launch_train(run_dir=parts, checkpoint_every=5, **EARLY)
    assert result.code == 1
  assert launch_train(run_dir=parts, checkpoint_every=5, **EARLY).code == 0
  faults.assert_same_run(whole, parts)


def test_patience_needs_a_validation_split(launch_train, tmp_path):
  assert_one_line_error(
    launch_train(run_dir=tmp_path / 'run', patience=2), '--num_validation'
  )


# -- Repeating, resuming, going on --------------------------------------------


def test_a_run_repeats_to_the_bit(launch_train, tmp_path):
  for name in ('one', 'two'):
    assert launch_train(run_dir=tmp_path / name).code == 0
  faults.assert_same_run(tmp_path / 'one', tmp_path / 'two')


@pytest.mark.parametrize('more', [{}, {'eval_every': 5, 'log_every': 3}])
def test_a_finished_run_goes_on_to_the_bits_of_one_long_run(
  launch_train, tmp_path, more
):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  assert launch_train(run_dir=whole, training_steps=40, **more).code == 0
  for steps in (10, 25, 40):
    result = launch_train(run_dir=parts, training_steps=steps, **more)
    assert result.code == 0, result.stderr
  faults.assert_same_run(whole, parts)


def test_a_finished_run_says_so_and_is_left_alone(launch_train, tmp_path):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run).code == 0
  before = {p: p.stat().st_mtime_ns for p in run.iterdir() if p.is_file()}
  del before[run / '.lock']
  result = launch_train(run_dir=run)
  assert result.code == 0
  assert 'is finished (20 steps)' in result.stdout
  assert before == {p: p.stat().st_mtime_ns for p in before}


def test_flags_that_are_not_given_stay_as_the_run_has_them(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run, beta=4).code == 0
  result = launch_train(run_dir=run, training_steps=30)
  assert result.code == 0, result.stderr
  assert config.load(run / records.CONFIG).beta == 4.0


def test_another_config_is_refused_and_nothing_is_overwritten(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run).code == 0
  before = (run / records.TRAIN).read_bytes()
  assert_one_line_error(
    launch_train(run_dir=run, beta=4, seed=1),
    'beta: 0.01 -> 4; seed: 0 -> 1',
    '--overwrite',
  )
  assert_one_line_error(
    launch_train(run_dir=run, training_steps=10), 'cannot be cut to 10'
  )
  assert (run / records.TRAIN).read_bytes() == before
  for bad in ({'dataset': '/nowhere'}, {'batch_size': 5000}):
    assert_one_line_error(launch_train('--overwrite', run_dir=run, **bad))
    assert (run / records.TRAIN).read_bytes() == before
  assert launch_train('--overwrite', run_dir=run, beta=4).code == 0
  assert config.load(run / records.CONFIG).beta == 4.0


def command(run, data_dir, *arguments):
  return [
    sys.executable,
    '-m',
    'launch.train',
    f'--run_dir={run}',
    f'--data_dir={data_dir}',
    *arguments,
  ]


SMALL = ('--dataset=mnist_5k', '--hidden_sizes=8', '--latent_size=3')


LONG = ('--training_steps=6000', '--log_every=100', '--checkpoint_every=256')


@pytest.fixture(scope='module')
def never_stopped(made_once, data_dir):
  def train(folder):
    flags = command(folder / 'run', data_dir, *SMALL, *LONG)[3:]
    result = conftest.call_train(*flags)
    assert result.code == 0, result.stderr

  return made_once('never_stopped', train) / 'run'


@pytest.mark.parametrize(
  ('number', 'code'),
  [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
)
def test_a_stopped_run_resumes_to_the_bits_of_one_never_stopped(
  never_stopped, tmp_path, data_dir, number, code
):
  run = tmp_path / 'stopped'
  process = subprocess.Popen(
    command(run, data_dir, *SMALL, *LONG),
    cwd=conftest.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  deadline = time.monotonic() + 120
  while not list(run.glob('checkpoints/*')) and time.monotonic() < deadline:
    time.sleep(0.01)
  process.send_signal(number)
  stdout, stderr = process.communicate(timeout=60)
  assert process.returncode == code, stderr
  status = records.read_manifest(run)['status']
  if number == signal.SIGKILL:
    assert status == 'running'
  else:
    assert status == 'interrupted'
    assert f'python -m launch.train --run_dir={run}' in stdout
  resumed = subprocess.run(
    command(run, data_dir),
    cwd=conftest.ROOT,
    capture_output=True,
    text=True,
  )
  assert resumed.returncode == 0, resumed.stderr
  assert 'resuming' in resumed.stdout
  faults.assert_same_run(never_stopped, run)


def test_the_same_preset_resumes_with_what_was_decided(launch_train, tmp_path):
  run = tmp_path / 'run'
  settings = {
    'run_dir': run,
    'preset': 'mlp_vae',
    'num_validation': 100,
    'jit': 'auto',
  }
  assert launch_train(**settings).code == 0
  result = launch_train(**settings, training_steps=30, dataset=None)
  assert result.code == 0, result.stderr
  stored = config.load(run / records.CONFIG)
  assert stored.dataset == 'mnist_5k'
  assert (stored.jit, stored.data_placement) == ('on', 'device')


def test_resuming_is_recorded(launch_train, tmp_path):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run).code == 0
  before = records.read_manifest(run)
  assert launch_train(run_dir=run, training_steps=30).code == 0
  after = records.read_manifest(run)
  assert after['seconds'] > before['seconds'] > 0
  assert [session['step'] for session in after['resumed']] == [20]
  assert after['resumed'][0]['packages'] == after['packages']


def test_a_run_that_goes_on_takes_names_and_keeps_its_origin(
  launch_train, tmp_path, monkeypatch
):
  module = types.SimpleNamespace(
    SOURCE='drawn',
    FACTORS={'row': 4, 'colour': 40},
    images=lambda factors: np.zeros([len(factors), 4, 4, 1], np.uint8),
  )
  monkeypatch.setattr(drawn, 'MODULES', {'dots': module})
  run = tmp_path / 'run'
  settings = {'run_dir': run, 'dataset': 'dots', 'data_dir': tmp_path}
  result = launch_train(**settings, training_steps=2, batch_size=16)
  assert result.code == 0, result.stderr
  before = records.read_manifest(run)['dataset']
  module.SOURCE = 'drawn otherwise'
  module.VALUE_NAMES = {'row': tuple('abcd')}
  result = launch_train(**settings, training_steps=4, batch_size=16)
  assert result.code == 0, result.stderr
  after = records.read_manifest(run)['dataset']
  assert after == before | {'value_names': {'row': [*'abcd']}}


def test_a_run_goes_on_on_another_number_of_devices(launch_train, tmp_path):
  tables = []
  for name, devices in (('one', (1,)), ('several', (2, 4))):
    run = tmp_path / name
    for number, last in zip(devices, (3, 6)[-len(devices) :], strict=True):
      result = launch_train(
        run_dir=run,
        devices=number,
        training_steps=last,
        batch_size=32,
        log_every=1,
      )
      assert result.code == 0, result.stderr
    tables.append(records.read_table(run, records.TRAIN))
  np.testing.assert_allclose(*tables, rtol=1e-5)
  assert '4 × ' in result.stdout
  manifest = records.read_manifest(run)
  assert manifest['devices'] == 2
  assert [session['devices'] for session in manifest['resumed']] == [4]


def test_a_run_on_two_devices_stops_early_where_one_does(
  launch_train, tmp_path
):
  folders = [tmp_path / 'one', tmp_path / 'two']
  # Soon, before what rounding does has grown.
  early = EARLY | {'patience': 1, 'learning_rate': 0.1}
  for number, folder in enumerate(folders, 1):
    result = launch_train(
      run_dir=folder, devices=number, posterior_scale='softplus', **early
    )
    assert result.code == 0, result.stderr
  one, two = map(records.read_manifest, folders)
  assert one['stopped_early']
  assert two['stopped_early']
  assert one['best_step'] == two['best_step']
  one, two = (records.read_table(f, records.EVAL) for f in folders)
  assert one['metric'].tolist() == two['metric'].tolist()
  is_elbo = one['metric'] == 'elbo_nats'
  np.testing.assert_allclose(
    two.loc[is_elbo, 'value'], one.loc[is_elbo, 'value'], rtol=1e-3
  )


def test_weights_that_are_not_finite_are_not_saved(
  launch_train, tmp_path, monkeypatch
):
  run = tmp_path / 'run'
  result = launch_train(
    run_dir=run, learning_rate=1e38, training_steps=1, checkpoint_every='1'
  )
  assert_one_line_error(
    result, 'elbo of the test split is', 'no checkpoint had'
  )
  assert records.read_manifest(run)['status'] == 'failed'
  assert not checkpoints.paths(run)


def test_a_second_writer_is_refused(launch_train, tmp_path):
  run = tmp_path / 'run'
  run.mkdir()
  with files.locked(run / '.lock'):
    assert_one_line_error(
      launch_train(run_dir=run), 'is being written by another process'
    )


def test_a_loss_that_explodes_marks_the_run_failed(launch_train, tmp_path):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, learning_rate=1e12, checkpoint_every=1)
  assert result.code == 1
  assert_one_line_error(result, 'at step', 'the last good checkpoint is')
  manifest = records.read_manifest(run)
  assert manifest['status'] == 'failed'
  failed_at = int(manifest['error'].split()[-1])
  assert checkpoints.load(checkpoints.paths(run)[0])[0] == failed_at - 1
  assert records.read_table(run, records.TRAIN)['step'].max() < failed_at


# -- Bad input ----------------------------------------------------------------


@pytest.mark.parametrize(
  ('settings', 'parts'),
  [
    ({'beta': '-1'}, ('--beta=-1', 'at least 0')),
    ({'beta': 'x'}, ('--beta=x',)),
    ({'threads': '5000'}, ('--threads=5000', 'at most 4096')),
    ({'devices': '3', 'batch_size': '32'}, ('--devices=3', 'batch_size=32')),
    ({'devices': '8', 'batch_size': '32'}, ('--devices=8', 'finds no GPU')),
    ({'devices': '2', 'jit': 'on'}, ('--jit=on --devices=2', 'one device')),
    (
      {
        'devices': '4',
        'batch_size': '12',
        'objective': 'factor',
        'permutation': 'second_batch',
      },
      ('--devices=4', 'batch_size=12'),
    ),
    ({'batch_size': '0'}, ('--batch_size=0', 'at least 1')),
    ({'batch_size': '5000'}, ('--batch_size=5000', 'at most the 4,000')),
    ({'reduction': 'max'}, ('--reduction=max', 'mean, sum')),
    ({'hidden_sizes': 'a'}, ('--hidden_sizes=a', 'list of int')),
    ({'dataset': 'mnits'}, ('mnits',)),
    ({'dataset': '/nowhere'}, ('/nowhere', 'no such folder')),
    ({'checkpoint_every': '1h'}, ('--checkpoint_every=1h', '60s')),
    ({'no_such_flag': '1'}, ('no_such_flag',)),
    ({'preset': 'none'}, ('--preset=none', 'beta_vae, mlp_vae, conv_vae')),
    ({'likelihood_scale': 'big'}, ('--likelihood_scale=big', 'optimal')),
    ({'prior': 'mixture'}, ('no closed form of the KL', 'kl=monte_carlo')),
    (
      {'network': 'deep_conv', 'channels': '4,4,4', 'hidden_sizes': None},
      ('--network=deep_conv', '28×28', 'multiples of 8'),
    ),
    (
      {
        'network': 'deep_conv',
        'output_bias': 'data_mean',
        'hidden_sizes': None,
      },
      ('--output_bias=data_mean', '--decoder=mlp'),
    ),
    ({'num_validation': '4000'}, ('--num_validation=4000', 'less than')),
    ({'num_epochs': '1'}, ('--training_steps and --num_epochs',)),
  ],
)
def test_bad_settings_end_in_one_line(launch_train, tmp_path, settings, parts):
  run = tmp_path / 'run'
  assert_one_line_error(launch_train(run_dir=run, **settings), *parts)
  assert not run.exists()


def test_stray_arguments_are_refused(launch_train):
  assert_one_line_error(launch_train('beta=4'), "'beta=4'")


def test_folders_that_are_no_run_are_refused(launch_train, tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  assert_one_line_error(launch_train(run_dir=tmp_path), 'holds other files')
  assert_one_line_error(
    launch_train(run_dir=tmp_path / 'notes.txt' / 'run'), 'cannot be written'
  )
  assert (tmp_path / 'notes.txt').read_text() == 'mine'
  assert [p.name for p in tmp_path.iterdir()] == ['notes.txt']


def test_a_damaged_config_is_named(launch_train, tmp_path):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run).code == 0
  (run / records.CONFIG).write_text('{')
  assert_one_line_error(launch_train(run_dir=run), 'config.json')


def test_help_groups_the_flags_and_exits_0(launch_train):
  result = launch_train('--help')
  assert result.code == 0
  for group in config.GROUPS:
    assert f'{group}:' in result.stdout
  for field in config.fields():
    assert f'--{field.name}' in result.stdout


@pytest.mark.parametrize(
  ('settings', 'named'),
  [
    (
      {'batch_size': 4000, 'num_samples': 16384},
      '--num_samples=16384: would make a tensor of the shape',
    ),
    ({'batch_size': 2048, 'latent_size': 2**20}, '--latent_size=1048576'),
    ({'batch_size': 2048, 'hidden_sizes': 2**20}, '--hidden_sizes=1048576'),
    ({'hidden_sizes': '4,50000,50000'}, '[50000, 50000]'),
    (
      {
        'prior': 'mixture', 'kl': 'monte_carlo', 'kl_samples': 100,
        'prior_components': 2**20,
      },
      '--prior_components=1048576',
    ),
    (
      {'posterior': 'full_covariance', 'latent_size': 2000, 'batch_size': 600},
      '--latent_size=2000',
    ),
    (
      {'objective': 'beta_tc', 'latent_size': 256, 'batch_size': 4000},
      '--batch_size=4000: would make a tensor of the shape [4000, 4000, 256]',
    ),
    (
      {
        'encoder': 'strided_conv', 'channels': '5000', 'batch_size': 4000,
      },
      '--channels=5000',
    ),
  ],
)  # fmt: skip
def test_counts_too_large_together_are_one_line(
  launch_train, tmp_path, settings, named
):
  run = tmp_path / 'run'
  result = launch_train(run_dir=run, **settings)
  assert result.code == 1
  assert result.stderr.count('\n') == 1
  assert named in result.stderr
  assert '2,147,483,647' in result.stderr
  assert not run.exists()
