"""Peers compute what this project computes, to the digits of float32."""

import dataclasses

import numpy as np
import pytest

from launch.benchmarks import contest, contestants, races
from launch.experiment import build
from launch.settings.config import Config

STEPS = 12
TOLERANCE = 1e-4

# Where a posterior scale comes near zero, the pole of the rate multiplies what
# rounding does by ten at a step, also between our own loop with and without
# XLA. It does not under this seed.
MLP = Config(seed=1)
# Keras's epsilon is not quite Adam's. Where gradients are those of nats, 784
# times as large, neither counts.
MLP_IN_NATS = dataclasses.replace(MLP, reduction='sum', beta=0.784)
CONFIGS = {
  'mlp': MLP,
  'mlp_in_nats': MLP_IN_NATS,
  **races.PROBLEMS['conv'],
}


@pytest.fixture(scope='module')
def problems(tmp_path_factory, data_dir):
  """Each config's problem with recorded draws, and our own losses."""
  folder = tmp_path_factory.mktemp('problems')
  data = build.open_dataset(
    Config(dataset='mnist_5k'), data_dir, report=lambda line: None
  )
  made = {}
  for name, config in CONFIGS.items():
    problem = contestants.make_problem(
      config, data.splits['train'].examples, STEPS
    )
    contest.write_problem(folder / f'{name}.npz', problem)
    losses = contestants.load_ours(problem)(STEPS)
    assert len(losses) == STEPS
    assert losses[-1] < 0.97 * losses[0]
    made[name] = folder / f'{name}.npz', losses
  return made


def problems_of(peer):
  names = list(peer.networks)
  if peer.name.startswith('Keras'):
    names[0] = 'mlp_in_nats'
  return names


@pytest.mark.parametrize('peer', races.PEERS, ids=lambda peer: peer.name)
def test_a_peer_has_our_losses(peer, problems):
  if peer.package:
    pytest.importorskip(peer.package)
  with contest.start(peer.name, peer.arguments) as contestant:
    for name in problems_of(peer):
      path, ours = problems[name]
      assert contestant.load(path)
      _, losses = contestant.run(STEPS)
      # Keras tells the last loss alone of the steps that one call runs.
      told = STEPS // len(losses)
      np.testing.assert_allclose(
        losses, ours[told - 1 :: told], rtol=TOLERANCE, err_msg=name
      )
