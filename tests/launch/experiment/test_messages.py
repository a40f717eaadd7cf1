"""What a run says of itself before it trains."""

import pathlib

import numpy as np
import pytest

from launch.experiment import build, messages
from launch.settings.config import Config

IMAGES = np.zeros((100, 28, 28, 1), np.uint8)
COUNTS = {'encoder': 400, 'decoder': 500}


def start(counts=COUNTS, tf32=False, **settings):
  """The lines of a run, by their first word."""
  settings = {'reduction': 'sum', 'beta': 1.0} | settings
  config = Config(dataset='d', threads=1, jit='on', **settings)
  manifest = {
    'dataset': {
      'version': '1',
      'source': 's',
      'num_images': {'train': 100},
      'shape': [28, 28, 1],
    },
    'device': {'name': 'D', 'tf32': tf32},
    'num_parameters': counts,
    **build.properties(config, IMAGES)._asdict(),
  }
  text = messages.start(pathlib.Path('runs/a'), config, manifest)
  return dict(line.split(maxsplit=1) for line in text.splitlines())


@pytest.mark.parametrize(
  ('settings', 'beta', 'weights'),
  [
    (
      {'beta': 0.01, 'reduction': 'mean'},
      '0.01 under --reduction=mean: effective beta 0.784 (1 weighs nats of '
      'rate and distortion alike)',
      None,
    ),
    (
      {'objective': 'annealed', 'gamma': 1000.0, 'capacity_steps': 10},
      'none: --objective=annealed does not take it',
      'gamma 1000, capacity 25 from 0 over 10 steps (linear), in '
      '--objective=annealed',
    ),
    (
      {'objective': 'beta_tc', 'beta': 4.0, 'beta_warmup_steps': 10},
      '4, which weighs another term than the rate in --objective=beta_tc: no '
      'effective beta; from 0 over 10 steps (linear)',
      None,
    ),
    (
      {'objective': 'dip_i'},
      '1 under --reduction=sum: effective beta 1 (1 weighs nats of rate and '
      'distortion alike)',
      'dip_weight 10, dip_diagonal_weight 100, in --objective=dip_i',
    ),
    (
      {'objective': 'dip_ii', 'beta': 0.5, 'dip_weight': 3.0},
      '0.5 under --reduction=sum: effective beta 0.5 (1 weighs nats of rate '
      'and distortion alike)',
      'dip_weight 3, dip_diagonal_weight 3, in --objective=dip_ii',
    ),
    (
      {'objective': 'dip_ii', 'dip_diagonal_weight': 0.0},
      '1 under --reduction=sum: effective beta 1 (1 weighs nats of rate and '
      'distortion alike)',
      'dip_weight 10, dip_diagonal_weight 0, in --objective=dip_ii',
    ),
  ],
)
def test_what_weighs_the_terms_is_said(settings, beta, weights):
  lines = start(**settings)
  assert lines['beta'] == beta
  assert lines.get('weights') == weights
  assert lines['model'] == '900 parameters, 10 latents'


def test_a_run_says_in_what_precision_it_is_trained_and_evaluated():
  assert start()['device'] == 'D, 1 thread, XLA on'
  assert start(tf32=True)['device'] == 'D, 1 thread, XLA on, layers in TF32'
  assert start(precision='bfloat16')['device'] == (
    'D, 1 thread, XLA on, layers trained in bfloat16, evaluated in float32'
  )
  assert start(tf32=True, precision='bfloat16')['device'] == (
    'D, 1 thread, XLA on, layers trained in bfloat16, evaluated in TF32'
  )


@pytest.mark.parametrize(
  ('precision', 'jit', 'device', 'has_bfloat16', 'said'),
  [
    ('float32', 'on', 'CPU', False, ''),
    ('bfloat16', 'off', 'CPU', True, ''),
    ('bfloat16', 'on', 'GPU', True, ''),
    ('bfloat16', 'on', 'CPU', True, '--jit=off has them'),
    ('bfloat16', 'off', 'CPU', False, 'D is not known to multiply in bfloat16'),
    ('bfloat16', 'on', 'GPU', False, 'D is not known to multiply in bfloat16'),
  ],
)
def test_bfloat16_that_gains_nothing_is_said_in_a_line(
  precision, jit, device, has_bfloat16, said
):
  config = Config(precision=precision, jit=jit)
  manifest = {'device': {'type': device, 'name': 'D'}}
  warning = messages.no_gain(config, manifest, has_bfloat16)
  assert bool(warning) == bool(said)
  assert said in warning
  assert '\n' not in warning


def test_parameters_of_an_objective_are_none_of_the_model():
  lines = start(COUNTS | {'objective': 5000}, objective='factor')
  assert lines['model'] == (
    '900 parameters, 10 latents; 5,000 parameters of the objective itself'
  )
  assert lines['weights'] == 'gamma 1, in --objective=factor'
