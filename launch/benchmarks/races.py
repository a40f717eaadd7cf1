"""This project's loops beside those of other frameworks, in turn."""

import contextlib
import dataclasses
import importlib.util
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from launch import records
from launch.benchmarks import contest, results
from launch.settings import presets
from launch.settings.config import Config

PEERS_DIR = pathlib.Path(__file__).parent / 'peers'


class Entrant(NamedTuple):
  """A loop that may take part.

  Attributes:
    name: in tables and figures.
    arguments: of Python, which run the contestant.
    networks: that it can train.
    package: that it needs beyond this project's own; None for none.
  """

  name: str
  arguments: tuple[str, ...]
  networks: tuple[str, ...] = ('mlp',)
  package: str | None = None


_ALL = ('mlp', 'strided_conv', 'pooled_conv')


def _own(which: str, *networks: str) -> Entrant:
  name = records.PRODUCTS if which.endswith('products') else records.OURS
  arguments = '-m', 'launch.benchmarks.contestants', which
  return Entrant(name, arguments, networks or ('mlp',))


def _peer(
  name: str,
  script: str,
  kind: str,
  networks: tuple[str, ...] = ('mlp',),
  package: str | None = None,
) -> Entrant:
  return Entrant(name, (str(PEERS_DIR / script), kind), networks, package)


PEERS = (
  _peer('founding loop (TF eager)', 'founding_loop.py', 'eager'),
  _peer('tf.function', 'founding_loop.py', 'function'),
  _peer('tf.function, XLA', 'founding_loop.py', 'xla'),
  _peer('Keras fit', 'keras_fit.py', '1', _ALL),
  _peer('Keras fit, 32 a call', 'keras_fit.py', '32', _ALL),
  _peer('PyTorch', 'torch_loop.py', 'eager', _ALL, 'torch'),
  _peer('PyTorch, compiled', 'torch_loop.py', 'compiled', _ALL, 'torch'),
  _peer('JAX jit', 'jax_loop.py', 'jit', package='jax'),
  _peer('JAX scan', 'jax_loop.py', 'scan', package='jax'),
)


def _preset(name: str) -> Config:
  settings = dict(presets.PRESETS[name].settings)
  return Config(**settings | {'training_steps': None, 'num_epochs': 1.0})


# The problems of each part, by the name of their file.
PROBLEMS: Mapping[str, Mapping[str, Config]] = {
  'mlp': {f'mlp{size}': Config(batch_size=size) for size in (64, 256, 1024)},
  'conv': {
    'strided_conv': _preset('conv_vae'),
    'pooled_conv': _preset('conv_vae_dropout'),
  },
  'evaluation': {'evaluation': Config()},
  'importance': {
    'importance': Config(
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


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _entrants(part: str) -> list[Entrant]:
  """Returns who takes part and can run here; says what the others lack."""
  if part == 'evaluation':
    return [_own('evaluation')]
  if part == 'importance':
    return [_own('importance'), _own('importance_products')]
  found = [_own('ours', *_ALL), _own('products')]
  missing: dict[str, list[str]] = {}
  for peer in PEERS:
    if peer.package and not importlib.util.find_spec(peer.package):
      missing.setdefault(peer.package, []).append(peer.name)
    else:
      found.append(peer)
  for package, names in missing.items():
    _say(
      f'without {", ".join(names)}: {package} is not installed; '
      "pip install -e '.[benchmark]' does so"
    )
  networks = {config.network for config in PROBLEMS[part].values()}
  return [one for one in found if networks & set(one.networks)]


@dataclasses.dataclass
class _Racer:
  """A contestant, its steps in one timing, and its speeds so far."""

  contestant: contest.Contestant
  version: str = ''
  steps: int = 1
  steps_per_second: list[float] = dataclasses.field(default_factory=list)

  def load(self, problem: pathlib.Path) -> None:
    """Waits until the contestant has started and has the problem."""
    self.version = self.contestant.load(problem)

  def warm_up(self, block_seconds: float) -> None:
    """Finds how many steps one timing is to take."""
    while True:
      self.contestant.run(self.steps)  # May compile.
      seconds = min(self.contestant.run(self.steps)[0] for _ in range(2))
      factor = block_seconds / seconds
      if factor < 4:
        break
      self.steps *= min(10, int(factor))
    self.steps = max(1, round(self.steps * factor))
    self.contestant.run(self.steps)

  def time(self) -> None:
    """Adds one timing."""
    seconds, _ = self.contestant.run(self.steps)
    self.steps_per_second.append(self.steps / seconds)


def _race(
  problem: pathlib.Path,
  contestants: Sequence[contest.Contestant],
  repeats: int,
  block_seconds: float,
) -> list[_Racer]:
  """Times contestants in turn; leaves out those that fail."""
  racers = [_Racer(contestant) for contestant in contestants]

  def each(function: Callable[[_Racer], None]) -> None:
    for racer in list(racers):
      try:
        function(racer)
      except contest.ContestError as error:
        _say(f'without {error}')
        racers.remove(racer)

  _say(f'{problem.stem}: {", ".join(c.name for c in contestants)}')
  each(lambda racer: racer.load(problem))
  # All have started by now: none disturbs another.
  each(lambda racer: racer.warm_up(block_seconds))
  for _ in range(repeats):
    each(_Racer.time)
  return racers


def compete(
  part: str,
  data: tuple[str, str],
  table: results.Measurements,
  repeats: int,
  block_seconds: float,
) -> None:
  """Races the problems of a part.

  Args:
    part: one of `PROBLEMS`.
    data: name of the dataset, and TFDS's data folder.
    table: gets every timing.
    repeats: timings of each contestant.
    block_seconds: about how long one timing takes.

  Raises:
    ContestError: the data cannot be had.
  """
  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for name, config in PROBLEMS[part].items():
      (folder / f'{name}.json').write_text(config.to_json())
    make = '-m', 'launch.benchmarks.contestants', 'problems', str(folder)
    contest.measure([*make, *data])
    contestants = [
      (entrant, stack.enter_context(contest.start(*entrant[:2])))
      for entrant in _entrants(part)
    ]
    for name, config in PROBLEMS[part].items():
      able = [one for who, one in contestants if config.network in who.networks]
      racers = _race(folder / f'{name}.npz', able, repeats, block_seconds)
      speeds = {r.contestant.name: r.steps_per_second for r in racers}
      metric = 'steps_per_second'
      if part not in ('mlp', 'conv'):
        metric = 'seconds'
        speeds = {name: [1 / s for s in speeds[name]] for name in speeds}
      versions = {racer.contestant.name: racer.version for racer in racers}
      table.add(part, metric, speeds, records.OURS, versions, config)
