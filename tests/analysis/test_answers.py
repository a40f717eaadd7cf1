"""The page of answers says what the kept sweeps measured."""

import re

import numpy as np
import pytest

from analysis import frames, table
from tests.launch import conftest

FOLDER = conftest.ROOT / 'analysis' / 'results'
PAGE = (FOLDER / 'answers.md').read_text('utf-8')
SWEEPS = ('rate_distortion', 'beta', 'latent_size')
METRICS = ('rate_nats', 'distortion_nats', 'elbo_nats', 'active_units')


@pytest.fixture(scope='module')
def means():
  """The mean of each metric over seeds, by the setting that varies."""
  frame = frames.read_sweep(FOLDER / 'sweeps' / 'rate_distortion').table
  return frame.groupby('beta')[['rate_nats', 'distortion_nats']].mean()


@pytest.mark.parametrize('name', SWEEPS)
def test_the_tables_are_those_of_the_sweeps(name):
  runs = frames.read_sweep(FOLDER / 'sweeps' / name)
  assert set(runs.table['status']) == {'finished'}
  assert runs.table.groupby(runs.varying)['seed'].nunique().eq(3).all()
  text = table.render(runs, METRICS, 'markdown').split('\n\n')[0]
  assert text in PAGE
  for run in runs.runs:
    assert run.manifest['source']['dirty'] is False
    assert run.manifest['dataset']['name'] == 'mnist'


def test_the_bound_is_best_at_beta_one(means):
  elbo = -means.sum(axis=1)
  assert elbo.idxmax() == 1.0
  assert means['rate_nats'].is_monotonic_decreasing
  assert means['distortion_nats'].is_monotonic_increasing


def test_the_slopes_of_the_page_are_those_of_the_frontier(means):
  changes = means.diff().dropna()
  slopes = -(changes['distortion_nats'] / changes['rate_nats'])
  shown = re.search(r'steepness .*?: ([\d., ]+)\.', PAGE.replace('\n', ' '))
  assert shown
  assert [f'{slope:.2f}' for slope in slopes] == shown[1].split(', ')
  # Between neighbours it is near both betas.
  betas = np.sqrt(means.index[1:] * means.index[:-1])
  assert np.all(np.abs(np.log(slopes / betas)) < np.log(1.6))
