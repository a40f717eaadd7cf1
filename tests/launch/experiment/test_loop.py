"""A run's status is true and its files can be read at every moment."""

import errno
import os

import numpy as np
import pytest

from launch import records, runs
from launch.experiment import metrics, pictures, programs
from launch.rundir import checkpoints
from launch.settings.config import Config
from tests.launch import faults
from tests.launch.test_train import assert_one_line_error
from vae import training
from vae.metrics import evaluation

# What a run calls in each of its phases.
PHASES = {
  'step': (training.Engine, 'run'),
  'log': (records, 'append'),
  'evaluate': (evaluation.Evaluator, '__call__'),
  'record': (metrics, 'record'),
  'save': (checkpoints, 'save'),
  'pictures': (pictures, 'write'),
}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_in(patch, phase, error):
  def fail(*arguments, **options):
    raise error

  patch.setattr(*PHASES[phase], fail)


@pytest.mark.parametrize('phase', PHASES)
def test_an_error_in_any_phase_is_in_the_manifest(
  launch_train, tmp_path, monkeypatch, phase
):
  run = tmp_path / 'run'
  settings = {'run_dir': run, 'training_steps': 2, 'jit': 'off'}
  with monkeypatch.context() as patch:
    fail_in(patch, phase, FULL)
    result = launch_train(**settings)
  assert_one_line_error(result, f'{run}: No space left on device')
  assert f'python -m launch.train --run_dir={run}' in result.stderr
  manifest = records.read_manifest(run)
  assert manifest['status'] == 'failed'
  assert manifest['error'] == f'{run}: No space left on device'

  with monkeypatch.context() as patch:
    fail_in(patch, phase, MemoryError('Unable to allocate 9 TiB'))
    result = launch_train(**settings)
  assert_one_line_error(result, 'out of memory', '--batch_size=64')
  assert records.read_manifest(run)['error'] == 'out of memory'

  # A mistake of ours keeps its traceback, but the run is not "running".
  run = tmp_path / 'other'
  with monkeypatch.context() as patch:
    fail_in(patch, phase, ValueError('all is wrong'))
    with pytest.raises(ValueError, match='all is wrong'):
      launch_train(**settings | {'run_dir': run})
  manifest = records.read_manifest(run)
  assert manifest['status'] == 'failed'
  assert manifest['error'] == 'ValueError: all is wrong'
  assert launch_train(**settings | {'run_dir': run}).code == 0
  manifest = records.read_manifest(run)
  assert manifest['status'] == 'finished'
  assert 'error' not in manifest


def test_a_pipe_that_is_closed_is_no_full_disk(
  launch_train, tmp_path, monkeypatch
):
  run = tmp_path / 'run'
  with monkeypatch.context() as patch:
    fail_in(patch, 'log', BrokenPipeError(errno.EPIPE, 'Broken pipe'))
    result = launch_train(run_dir=run, jit='off')
  assert_one_line_error(result, 'nobody reads its output')
  assert records.read_manifest(run)['status'] == 'failed'


# -- Early stopping -----------------------------------------------------------

EARLY = {
  'num_validation': 3900,
  'batch_size': 50,
  'jit': 'off',
}


def test_the_best_weights_can_be_read_whenever_a_file_changes(
  launch_train, tmp_path, monkeypatch
):
  run = tmp_path / 'run'
  named = []

  def then_look(function):
    def call(*arguments, **options):
      function(*arguments, **options)
      if (run / records.CONFIG).exists():
        best = records.read_manifest(run).get('best_step')
        if best is not None:
          checkpoints.load(checkpoints.path_of(run, best))
          named.append(best)

    return call

  with monkeypatch.context() as patch:
    for name in ('replace', 'unlink'):
      patch.setattr(os, name, then_look(getattr(os, name)))
    result = launch_train(
      run_dir=run, patience=9, training_steps=9, checkpoint_every=1, **EARLY
    )
  assert result.code == 0, result.stderr
  assert sorted(set(named)) == [2, 4, 6, 8]
  assert len(checkpoints.paths(run)) == checkpoints.KEPT


def test_weights_are_read_that_were_deleted_for_better_ones_meanwhile(
  launch_train, tmp_path, monkeypatch
):
  run = tmp_path / 'run'
  settings = EARLY | {'patience': 9, 'training_steps': 2}
  assert launch_train(run_dir=run, **settings).code == 0
  found = checkpoints.path_of(run, 2)
  _, tensors = checkpoints.load(found)
  load = checkpoints.load

  def overtaken(path):  # The manifest was read; now training goes on.
    if path == found and found.exists():
      checkpoints.save(run, 4, tensors)
      manifest = records.read_manifest(run) | {'best_step': 4}
      records.write_manifest(run, manifest)
      found.unlink()
    return load(path)

  monkeypatch.setattr(checkpoints, 'load', overtaken)
  assert runs.load(run).step == 4
  # Also the newest, of a run that keeps no best one.
  manifest = records.read_manifest(run)
  del manifest['best_step']
  records.write_manifest(run, manifest)
  found = checkpoints.path_of(run, 4)

  def overtaken_again(path):
    if path == found and found.exists():
      checkpoints.save(run, 5, tensors)
      found.unlink()
    return load(path)

  monkeypatch.setattr(checkpoints, 'load', overtaken_again)
  warnings = []
  assert runs.load(run, warn=warnings.append).step == 5
  assert not warnings


def test_patience_in_less_than_an_epoch_keeps_the_last_weights(
  launch_train, tmp_path
):
  run, whole = tmp_path / 'run', tmp_path / 'whole'
  settings = EARLY | {'batch_size': 20, 'patience': 2}
  result = launch_train(run_dir=run, training_steps=3, **settings)
  assert result.code == 0, result.stderr
  assert 'are those after step 3' in result.stdout
  manifest = records.read_manifest(run)
  assert (manifest['status'], manifest['best_step']) == ('finished', 3)
  assert not manifest['stopped_early']
  evaluated = records.read_rows(run, records.EVAL)
  assert {row['split'] for row in evaluated} == {'test', 'validation'}
  # A longer run is validated by its epochs alone.
  for path in (run, whole):
    result = launch_train(run_dir=path, training_steps=12, **settings)
    assert result.code == 0, result.stderr
  faults.assert_same_run(whole, run)


def test_weights_are_the_best_once_every_weight_has_its_value(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  result = launch_train(
    run_dir=run,
    objective='annealed',
    gamma=1000,
    capacity=500,
    capacity_steps=7,
    learning_rate=0.1,
    training_steps=9,
    patience=1,
    **EARLY,
  )
  assert result.code == 0, result.stderr
  rows = records.read_rows(run, records.EVAL)
  elbos = {
    int(row['step']): float(row['value'])
    for row in rows
    if row['split'] == 'validation' and row['metric'] == 'elbo_nats'
  }
  assert max(elbos, key=elbos.get) < 7 <= max(elbos)
  best = max((elbo, step) for step, elbo in elbos.items() if step >= 7)[1]
  assert records.read_manifest(run)['best_step'] == best


def test_the_preset_that_stops_early_may_be_short(launch_train, tmp_path):
  result = launch_train(
    preset='conv_vae_dropout',
    run_dir=tmp_path / 'run',
    hidden_sizes=None,
    latent_size=None,
    training_steps=2,
    num_validation=100,
  )
  assert result.code == 0, result.stderr
  assert 'are those after step 2' in result.stdout


def test_a_program_that_is_taken_over_is_its_new_runs(data_dir):
  bench = programs.ProgramCache()

  def prepare(beta):
    settings = {'dataset': 'mnist_5k', 'hidden_sizes': (8,), 'jit': 'off'}
    config = Config(**settings, reduction='sum', beta=beta)
    return bench.prepare(config, data_dir, None, print).program

  first = prepare(0.5)
  assert first.properties.effective_beta == 0.5
  assert prepare(2.0) is first
  assert first.properties.effective_beta == 2.0


def test_a_file_that_was_rewritten_is_opened_anew(tmp_path, monkeypatch):
  cache = programs.ProgramCache()
  monkeypatch.chdir(tmp_path)
  data_dir = str(tmp_path / 'data')

  def sha256():
    settings = {'dataset': './own.npz', 'hidden_sizes': (8,), 'jit': 'off'}
    config = Config(**settings, batch_size=8, test_share=0.0)
    prepared = cache.prepare(config, data_dir, None, lambda line: None)
    return prepared.dataset.provenance['sha256']['train']

  images = np.zeros([16, 8, 8], np.uint8)
  np.savez('own.npz', images=images)
  first = sha256()
  assert sha256() == first
  np.savez('own.npz', images=images + 1)
  second = sha256()
  assert second != first
  (tmp_path / 'other').mkdir()
  monkeypatch.chdir('other')
  np.savez('own.npz', images=images + 2)
  assert sha256() not in (first, second)
