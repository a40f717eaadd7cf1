"""This project's loops beside those of other frameworks, in turn."""

import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launch import records
from launch.benchmarks import contest, results
from launch.settings import presets
from launch.settings.config import Config

_OURS = 'launch.benchmarks.ours'
_PEERS = 'launch.benchmarks.peers'


class Peer(NamedTuple):
  """A loop of another framework, or one of this project's of another kind.

  Attributes:
    name: in tables and figures.
    module: that has it.
    kind: which of the module's loops.
    parts: of the benchmark, whose problems it can train.
  """

  name: str
  module: str
  kind: str
  parts: tuple[str, ...] = ('mlp',)


_KERAS = ('mlp', 'conv')
_TORCH = ('mlp', 'conv', 'study')

PEERS = (
  Peer(f'{records.OURS}, bfloat16', _OURS, 'bfloat16', _TORCH),
  Peer('founding loop (TF eager)', f'{_PEERS}.founding_loop', 'eager'),
  Peer('tf.function', f'{_PEERS}.founding_loop', 'function'),
  Peer('tf.function, XLA', f'{_PEERS}.founding_loop', 'xla'),
  Peer('Keras fit', f'{_PEERS}.keras_fit', '1', _KERAS),
  Peer('Keras fit, 32 a call', f'{_PEERS}.keras_fit', '32', _KERAS),
  Peer('PyTorch', f'{_PEERS}.torch_loop', 'eager', _TORCH),
  Peer('PyTorch, compiled', f'{_PEERS}.torch_loop', 'compiled', _TORCH),
  Peer(
    'PyTorch, compiled, bfloat16',
    f'{_PEERS}.torch_loop',
    'compiled, bfloat16',
    _TORCH,
  ),
  Peer('JAX jit', f'{_PEERS}.jax_loop', 'jit'),
  Peer('JAX scan', f'{_PEERS}.jax_loop', 'scan'),
)


def _preset(name: str) -> Config:
  settings = dict(presets.PRESETS[name].settings)
  return Config(**settings | {'training_steps': None, 'num_epochs': 1.0})


_STUDY = Config(
  dataset='sprites',
  network='burgess_conv',
  init='he_uniform',
  posterior_scale='log_variance',
  reduction='sum',
  beta=4.0,
)

# The problems of each part, by their name in tables and figures.
PROBLEMS: Mapping[str, Mapping[str, Config]] = {
  'mlp': {
    f'mlp, batch {size:,}': Config(batch_size=size) for size in (64, 256, 1024)
  },
  'conv': {
    'strided_conv, batch 64': _preset('conv_vae'),
    'pooled_conv, batch 128': _preset('conv_vae_dropout'),
  },
  'study': {
    'burgess_conv, batch 64': _STUDY,
    'burgess_conv, FactorVAE, batch 64': dataclasses.replace(
      _STUDY, objective='factor', beta=1.0, gamma=10.0
    ),
  },
  'evaluation': {'10,000 images': Config()},
  'importance': {
    '200 samples for 500 images': Config(
      objective='iwae',
      reduction='sum',
      beta=1.0,
      hidden_sizes=(200, 200),
      latent_size=50,
      num_samples=200,
      activation='tanh',
      posterior_scale='exp',
      binarize='dynamic',
    )
  },
}

# Those that train.
TRAINING = ('mlp', 'conv', 'study')


def _steps_of(contestant: contest.Contestant, block_seconds: float) -> int:
  """Returns how many steps take so long, once compiled."""
  steps = 1
  while True:
    # The first may compile.
    seconds = min(contestant.run(steps)[0] for _ in range(3))
    if seconds > block_seconds / 4:
      return max(1, round(steps * block_seconds / seconds))
    steps *= min(10, int(block_seconds / seconds))


def _race(
  problem: contest.Problem,
  contestants: Sequence[contest.Contestant],
  repeats: int,
  block_seconds: float,
) -> tuple[dict[str, list[float]], dict[str, str]]:
  """Times contestants in turn; leaves out peers that fail.

  Returns:
    Of each, the steps per second of the repeats, and the version.
  """
  speeds: dict[str, list[float]] = {c.name: [] for c in contestants}
  versions: dict[str, str] = {}
  steps: dict[str, int] = {}

  def load(one: contest.Contestant) -> None:
    versions[one.name] = one.load(problem)

  def warm_up(one: contest.Contestant) -> None:
    steps[one.name] = _steps_of(one, block_seconds)
    one.run(steps[one.name])  # May compile, for so many.

  def take_turn(one: contest.Contestant) -> None:
    seconds, _ = one.run(steps[one.name])
    speeds[one.name].append(steps[one.name] / seconds)

  # Nobody is timed before all have started: none disturbs another.
  for turn in (load, warm_up, *[take_turn] * repeats):
    for one in contestants:
      if one.name not in speeds:
        continue
      try:
        turn(one)
      except Exception as error:  # A framework's own, of any kind.
        if one.name == records.OURS:
          raise
        cure = ''
        if isinstance(error, ModuleNotFoundError):
          cure = "; pip install -e '.[benchmark]' installs it"
        lines = str(error).strip().splitlines() or [repr(error)]
        _say(f'without {one.name}: {lines[-1]}{cure}')
        del speeds[one.name]
  return speeds, versions


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def compete(
  part: str,
  data: tuple[str, str],
  table: results.Measurements,
  repeats: int,
  block_seconds: float,
) -> None:
  """Races the problems of a part; leaves out contestants that fail.

  Args:
    part: one of `PROBLEMS`.
    data: the dataset where a problem names none, and TFDS's data folder.
    table: gets every timing.
    repeats: timings of each contestant.
    block_seconds: about how long one timing takes.
  """
  with contextlib.ExitStack() as stack:
    enter = lambda *who: stack.enter_context(contest.Contestant(*who))
    ours = enter(records.OURS, _OURS, 'training' if part in TRAINING else part)
    rivals = [ours, *(enter(*peer[:3]) for peer in PEERS if part in peer.parts)]
    for task, config in PROBLEMS[part].items():
      if config.dataset == 'auto':
        config = dataclasses.replace(config, dataset=data[0])
      problem = ours.call('open_problem', config, data[1])
      _say(f'{task}: {", ".join(one.name for one in rivals)}')
      speeds, versions = _race(problem, rivals, repeats, block_seconds)
      metric = 'steps_per_second'
      if part not in TRAINING:
        metric = 'seconds'
        speeds = {name: [1 / s for s in speeds[name]] for name in speeds}
      table.add(part, metric, speeds, records.OURS, versions, task)
