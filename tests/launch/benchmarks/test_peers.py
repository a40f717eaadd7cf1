"""Peers compute what this project computes, to the digits of float32."""

import dataclasses

import numpy as np
import pytest

from launch.benchmarks import contest, ours, races
from launch.experiment import build
from launch.settings.config import Config

STEPS = 12
TOLERANCE = 1e-4
# Of layers whose numbers have 8 bits.
ROUGH_TOLERANCE = 2e-2

# Where a posterior scale comes near zero, the pole of the rate multiplies what
# rounding does by ten at a step, also between our own loop with and without
# XLA. It does not under this seed.
MLP = Config(seed=1)
# Keras's epsilon is not quite Adam's. Where gradients are those of nats, 784
# times as large, neither counts.
MLP_IN_NATS = dataclasses.replace(MLP, reduction='sum', beta=0.784)
CONFIGS = {
  'mlp': {'mlp': MLP},
  'mlp_in_nats': {'mlp_in_nats': MLP_IN_NATS},
  'conv': races.PROBLEMS['conv'],
  # Larger steps multiply what rounding does, likewise.
  'study': {
    name: dataclasses.replace(config, learning_rate=1e-4)
    for name, config in races.PROBLEMS['study'].items()
  },
}


@pytest.fixture(scope='module')
def problems(data_dir):
  """Of each part, its problems with recorded draws, and our own losses."""
  data = build.open_dataset(
    Config(dataset='mnist_5k'), data_dir, report=lambda line: None
  )
  digits = np.asarray(data.splits['train'].examples)
  # Binary, of 64x64, as in the studies.
  sprites = np.pad(
    digits[:1000] // 128 * 255, [(0, 0), (18, 18), (18, 18), (0, 0)]
  )
  made = {}
  for part, configs in CONFIGS.items():
    images = sprites if part == 'study' else digits
    made[part] = []
    for config in configs.values():
      problem = ours.make_problem(config, images, STEPS)
      losses = ours.load(problem, 'training')(STEPS)
      assert len(losses) == STEPS
      assert losses[-1] < 0.99 * losses[0]
      made[part].append((problem, losses))
  return made


def parts_of(peer):
  parts = list(peer.parts)
  if peer.name.startswith('Keras'):
    parts[0] = 'mlp_in_nats'
  return parts


@pytest.mark.parametrize('peer', races.PEERS, ids=lambda peer: peer.name)
def test_a_peer_has_our_losses(peer, problems):
  for package in ('torch', 'jax'):
    if package in peer.module:
      pytest.importorskip(package)
  with contest.Contestant(*peer[:3]) as contestant:
    for part in parts_of(peer):
      for problem, own in problems[part]:
        assert contestant.load(problem)
        _, losses = contestant.run(STEPS)
        # Keras tells the last loss alone of the steps that one call runs.
        told = STEPS // len(losses)
        expected = own[told - 1 :: told]
        is_rough = 'bfloat16' in peer.name
        np.testing.assert_allclose(
          losses,
          expected,
          rtol=ROUGH_TOLERANCE if is_rough else TOLERANCE,
          err_msg=part,
        )
        assert not (is_rough and np.array_equal(losses, expected))


def test_the_study_has_the_parameters_of_its_papers(problems):
  count = lambda layers: sum(w.size + b.size for w, b in layers)
  (vae, _), (factor, _) = problems['study']
  for problem in (vae, factor):
    assert count([*problem.encoder, *problem.decoder]) == 502_005
  assert count(vae.discriminator) == 0
  assert count(factor.discriminator) == 5_018_002
