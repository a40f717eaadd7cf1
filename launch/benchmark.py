"""Speed beside the loops a user would write: `python -m launch.benchmark`."""

import contextlib
import dataclasses
import importlib.util
import io
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from launch import cli, records
from launch.benchmarks import contest
from launch.rundir import provenance
from launch.settings import presets
from launch.settings.config import Config
from launch.sweeps import coordinator, grid, worker

PARTS = (
  'mlp',
  'conv',
  'evaluation',
  'importance',
  'startup',
  'memory',
  'sweep',
)

_REPEATS = flags.DEFINE_integer(
  'repeats', 5, 'timings of each contestant, taken in turn', lower_bound=1
)
_ONLY = flags.DEFINE_list(
  'only', ','.join(PARTS), 'which parts to measure, comma-separated'
)
flags.register_validator(
  _ONLY,
  lambda parts: bool(parts) and set(parts) <= set(PARTS),
  f'must be some of {", ".join(PARTS)}',
)
_BLOCK_SECONDS = flags.DEFINE_float(
  'block_seconds', 1.0, 'about how long one timing takes', lower_bound=1e-3
)
_DATASET = flags.DEFINE_string(
  # launch.train's flag in the same process would clash with `dataset`.
  'benchmark_dataset',
  'auto',
  'whose training images are used, as in launch.train',
)
_BENCHMARK_DIR = flags.DEFINE_string(
  'benchmark_dir', 'runs/benchmark', f'folder of {records.BENCHMARK}'
)

_SUMMARY = f"""
Measures this project beside loops that compute the same in other frameworks,
on this machine, and writes every timing to {records.BENCHMARK}. Contestants are
processes that take turns; tables show medians and quartiles. Parts:
  mlp         steps per second of the default model at three batch sizes
  conv        the same of two convolutional networks
  evaluation  10,000 images, one posterior sample each
  importance  the importance-weighted bound of Burda et al.'s network, 200
              samples for each of 500 images, beside its decoder's products
  startup     whole commands beside the bare import of their libraries
  memory      the most memory that training takes
  sweep       eight betas by launch.sweep beside eight launches of launch.train,
              its speed at 16,384 steps beside that of one run, and what it
              takes to schedule a run
Draw it with python -m analysis.benchmark.
"""

PEERS_DIR = pathlib.Path(__file__).parent / 'benchmarks' / 'peers'


# -- What is measured ---------------------------------------------------------


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
  networks: tuple[str, ...]
  package: str | None = None


def _own(name: str, which: str, *networks: str) -> Entrant:
  return Entrant(name, ('-m', 'launch.benchmarks.contestants', which), networks)


def _peer(
  name: str, script: str, *kind: str, conv: bool, package: str | None = None
) -> Entrant:
  networks = ('mlp', 'strided_conv', 'pooled_conv') if conv else ('mlp',)
  path = str(PEERS_DIR / script)
  return Entrant(name, (path, *kind), networks, package)


_OURS = 'this project'
_OWN = (
  _own(_OURS, 'ours', 'mlp', 'strided_conv', 'pooled_conv'),
  _own('matrix products alone', 'products', 'mlp'),
)
PEERS = (
  _peer('founding loop (TF eager)', 'founding_loop.py', 'eager', conv=False),
  _peer('tf.function', 'founding_loop.py', 'function', conv=False),
  _peer('tf.function, XLA', 'founding_loop.py', 'xla', conv=False),
  _peer('Keras fit', 'keras_fit.py', '1', conv=True),
  _peer('Keras fit, 32 a call', 'keras_fit.py', '32', conv=True),
  _peer('PyTorch', 'torch_loop.py', 'eager', conv=True, package='torch'),
  _peer(
    'PyTorch, compiled', 'torch_loop.py', 'compiled', conv=True, package='torch'
  ),
  _peer('JAX jit', 'jax_loop.py', 'jit', conv=False, package='jax'),
  _peer('JAX scan', 'jax_loop.py', 'scan', conv=False, package='jax'),
)


def _preset(name: str) -> Config:
  settings = dict(presets.PRESETS[name].settings)
  return Config(**settings | {'training_steps': None, 'num_epochs': 1.0})


# The tasks of each part, by the name of their file.
TASKS: Mapping[str, Mapping[str, Config]] = {
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


# -- Contests -----------------------------------------------------------------


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def installed_peers() -> list[Entrant]:
  """The peers that can run here; says what the others lack."""
  if not PEERS_DIR.exists():
    _say(
      f'no peers: {PEERS_DIR} does not exist; they come with the source, not '
      'with the installed package'
    )
    return []
  found, missing = [], {}
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
  return found


def _entrants(part: str) -> list[Entrant]:
  if part == 'evaluation':
    return [_own(_OURS, 'evaluation', 'mlp')]
  if part == 'importance':
    return [
      _own(_OURS, 'importance', 'mlp'),
      _own('matrix products alone', 'importance_products', 'mlp'),
    ]
  networks = {config.network for config in TASKS[part].values()}
  return [
    entrant
    for entrant in (*_OWN, *installed_peers())
    if networks & set(entrant.networks)
  ]


def _make_tasks(folder: pathlib.Path, parts: Sequence[str]) -> None:
  """Writes the tasks of some parts, NAME.npz each, into a folder.

  Raises:
    ContestError: the data cannot be had.
  """
  for part in parts:
    for name, config in TASKS[part].items():
      (folder / f'{name}.json').write_text(config.to_json())
  contest.measure(
    [
      *('-m', 'launch.benchmarks.contestants', 'tasks', str(folder)),
      *(_DATASET.value, cli.DATA_DIR.value),
    ]
  )


@dataclasses.dataclass
class _Racer:
  """A contestant, its steps in one timing, and its speeds so far."""

  contestant: contest.Contestant
  version: str = ''
  steps: int = 1
  steps_per_second: list[float] = dataclasses.field(default_factory=list)

  def load(self, task: pathlib.Path) -> None:
    """Waits until the contestant has started and has the task."""
    self.version = self.contestant.load(task)

  def warm_up(self) -> None:
    """Finds how many steps one timing is to take."""
    while True:
      self.contestant.run(self.steps)  # May compile.
      seconds = min(self.contestant.run(self.steps)[0] for _ in range(2))
      factor = _BLOCK_SECONDS.value / seconds
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
  task: pathlib.Path, contestants: Sequence[contest.Contestant]
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

  _say(f'{task.stem}: {", ".join(c.name for c in contestants)}')
  each(lambda racer: racer.load(task))
  # All have started by now: none disturbs another.
  each(_Racer.warm_up)
  for _ in range(_REPEATS.value):
    each(_Racer.time)
  return racers


def _compete(part: str, folder: pathlib.Path, recorder: '_Recorder') -> None:
  """Races the tasks of a part, records every timing and prints tables."""
  entrants = _entrants(part)
  trains = part in ('mlp', 'conv')
  metric = 'steps_per_second' if trains else 'seconds'
  with contextlib.ExitStack() as stack:
    contestants = [
      stack.enter_context(contest.start(entrant.name, entrant.arguments))
      for entrant in entrants
    ]
    for name, config in TASKS[part].items():
      racers = _race(
        folder / f'{name}.npz',
        [
          contestant
          for entrant, contestant in zip(entrants, contestants, strict=True)
          if config.network in entrant.networks
        ],
      )
      measured = {}
      for racer in racers:
        values = racer.steps_per_second
        if not trains:
          values = [1 / value for value in values]
        measured[racer.contestant.name] = values
        recorder.write(
          part, racer.contestant.name, metric, values, racer.version, config
        )
      title = f'{config.network}, batch {config.batch_size}'
      _print_table(
        title if trains else part,
        metric,
        measured,
        f'{_OURS} {"is" if trains else "takes"}',
        _OURS,
      )


# -- Whole commands -----------------------------------------------------------

IMPORTS = 'import of the libraries'
_IMPORT_THEM = ('-c', 'import tensorflow, sonnet, tensorflow_probability')
TRAIN = ('-m', 'launch.train', '--beta=0.01')
COMMANDS: Mapping[str, Mapping[str, Sequence[str]]] = {
  'startup': {
    IMPORTS: _IMPORT_THEM,
    'launch.train --beta=0.01': TRAIN,
    'launch.train --help': ('-m', 'launch.train', '--help'),
    'analysis.loss_curves --help': ('-m', 'analysis.loss_curves', '--help'),
  },
  'memory': {
    IMPORTS: _IMPORT_THEM,
    '1,024 steps': TRAIN,
    '16,384 steps': (*TRAIN, '--training_steps=16384'),
    '5,000 images, by the host': (
      *(*TRAIN, '--data_placement=host', '--dataset=mnist_5k'),
    ),
    'all images, by the host': (*TRAIN, '--data_placement=host'),
  },
}


def _measure(
  name: str, arguments: Sequence[str], folder: pathlib.Path
) -> contest.Measured:
  """Runs a command of Python; one that trains does so into a new folder."""
  _say(name)
  output = {TRAIN[1]: 'run_dir', _SWEEP[1]: 'sweep_dir'}.get(arguments[1])
  if output and '--help' not in arguments:
    arguments = [
      *(*arguments[:2], f'--dataset={_DATASET.value}', *arguments[2:]),
      f'--data_dir={cli.DATA_DIR.value}',
      f'--{output}={tempfile.mkdtemp(dir=folder)}',
    ]
  return contest.measure(arguments)


def _run_commands(
  part: str, folder: pathlib.Path, recorder: '_Recorder'
) -> None:
  """Measures whole commands, records what they take and prints tables."""
  # Prepares the data, and has the files read once.
  _measure('once before', (*TRAIN, '--training_steps=1'), folder)
  # Peaks of memory hardly vary.
  repeats = 1 if part == 'memory' else _REPEATS.value
  commands = COMMANDS[part]
  measured: dict[str, list[contest.Measured]] = {name: [] for name in commands}
  for _ in range(repeats):
    for name, arguments in commands.items():
      measured[name].append(_measure(name, arguments, folder))
  for metric in contest.Measured._fields:
    if part == 'memory' and metric == 'seconds':
      continue
    values = {
      name: [getattr(m, metric) for m in measured[name]] for name in commands
    }
    for name in commands:
      recorder.write(part, name, metric, values[name])
    _print_table(part, metric, values, 'of the import', IMPORTS)


# -- Sweeps -------------------------------------------------------------------

_SWEEP = ('-m', 'launch.sweep')
BETAS = ('0', '0.001', '0.003', '0.01', '0.03', '0.1', '0.3', '1')
SWEEP_STEPS = 1024
LONG_SWEEP_STEPS = 16_384
NUM_SCHEDULED = 1000

_LAUNCHES = 'eight launches of launch.train'
_SWEPT = 'launch.sweep of eight betas'
_ALONE = 'one run alone'


def _finish(
  tasks: Sequence[worker.RunTask], threads: int, is_stopping: Callable[[], bool]
) -> Iterator[worker.Outcome | int]:
  """An executor that trains nothing."""
  del threads, is_stopping
  for task in tasks:
    yield 1
    results = dict.fromkeys(('elbo_nats', 'distortion_nats', 'rate_nats'), 0.5)
    yield worker.Outcome(task.name, 'finished', '', results)


def _seconds_to_schedule(folder: pathlib.Path) -> float:
  """What a run costs a sweep that has many and trains none."""
  axes = {'seed': range(NUM_SCHEDULED)}
  started = time.perf_counter()
  plan = grid.plan(axes, lambda given: Config(**given))
  with contextlib.redirect_stdout(io.StringIO()):
    coordinator.carry_out(
      pathlib.Path(tempfile.mkdtemp(dir=folder)), plan, _finish, 1, ''
    )
  return (time.perf_counter() - started) / NUM_SCHEDULED


def _run_sweeps(part: str, folder: pathlib.Path, recorder: '_Recorder') -> None:
  """Measures sweeps beside launches, records what they take, prints tables."""
  _measure('once before', (*TRAIN, '--training_steps=1'), folder)
  sweep = (*_SWEEP, f'--beta={",".join(BETAS)}')
  steps = f'--training_steps={SWEEP_STEPS}'
  long_steps = f'--training_steps={LONG_SWEEP_STEPS}'
  seconds: dict[str, list[float]] = {_LAUNCHES: [], _SWEPT: []}
  speeds: dict[str, list[float]] = {_ALONE: [], _SWEPT: []}
  peaks: list[float] = []
  scheduling: list[float] = []
  for _ in range(_REPEATS.value):
    launches = [
      _measure(f'beta {beta}', (*TRAIN[:2], f'--beta={beta}', steps), folder)
      for beta in BETAS
    ]
    seconds[_LAUNCHES].append(sum(launch.seconds for launch in launches))
    swept = _measure(_SWEPT, (*sweep, steps), folder)
    seconds[_SWEPT].append(swept.seconds)
    peaks.append(swept.peak_mib)
    alone = _measure(_ALONE, (*TRAIN, long_steps), folder)
    speeds[_ALONE].append(LONG_SWEEP_STEPS / alone.seconds)
    swept = _measure(f'{_SWEPT}, long', (*sweep, long_steps), folder)
    speeds[_SWEPT].append(len(BETAS) * LONG_SWEEP_STEPS / swept.seconds)
    scheduling.append(_seconds_to_schedule(folder))
  for title, metric, values, reference in (
    (f'{SWEEP_STEPS:,} steps', 'seconds', seconds, _LAUNCHES),
    (f'{LONG_SWEEP_STEPS:,} steps', 'model_steps_per_second', speeds, _ALONE),
    ('memory', 'peak_mib_of_a_process', {_SWEPT: peaks}, _SWEPT),
    ('scheduling', 'seconds_per_run', {_SWEPT: scheduling}, _SWEPT),
  ):
    for name in values:
      recorder.write(part, name, metric, values[name])
    _print_table(
      f'{part}, {title}', metric, values, f'of {reference}', reference
    )


# -- Results ------------------------------------------------------------------


class _Recorder:
  """Writes rows of the benchmark's table."""

  def __init__(self, folder: pathlib.Path):
    """Starts the table anew, in a folder that is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    records.create_table(folder, records.BENCHMARK)
    self._folder = folder
    self.device = f'{provenance.cpu_name()}, {contest.threads()} threads'

  def write(
    self,
    part: str,
    contestant: str,
    metric: str,
    values: Sequence[float],
    version: str = '',
    config: Config | None = None,
  ) -> None:
    """Writes a row for each repeat.

    Args:
      part: one of `PARTS`.
      contestant: what was measured.
      metric: what of it; the name ends in its unit.
      values: of the repeats, in turn.
      version: of the package that was measured.
      config: what was trained or evaluated.
    """
    for repeat, value in enumerate(values):
      records.append(
        self._folder,
        records.BENCHMARK,
        {
          'part': part,
          'network': config.network if config else '',
          'batch_size': config.batch_size if config else None,
          'contestant': contestant,
          'version': version,
          'device': self.device,
          'repeat': repeat,
          'metric': metric,
          'value': value,
        },
      )


def _number(value: float) -> str:
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def _print_table(
  title: str,
  metric: str,
  measured: Mapping[str, Sequence[float]],
  header: str,
  reference: str,
) -> None:
  """Prints medians, quartiles and ratios.

  Args:
    title: of the table.
    metric: what was measured.
    measured: the values of the repeats, by name.
    header: of the ratios.
    reference: the name that ratios are taken with, repeat by repeat: of it to
      the others for the speeds of a contest, of the others to it for commands.
  """
  print(f'\n{title:28} {metric:>16}   {"quartiles":20} {header}')
  for name, values in measured.items():
    low, median, high = np.percentile(values, [25, 50, 75])
    ratio = ''
    if name != reference and reference in measured:
      ratios = np.divide(measured[reference], values)
      if reference != _OURS:
        ratios = 1 / ratios
      ratio = f'{np.median(ratios):.2f} ×'
    quartiles = f'{_number(low)} to {_number(high)}'
    print(f'{name:28} {_number(median):>16}   {quartiles:20} {ratio}')
  sys.stdout.flush()


def main() -> int:
  """Measures as the flags say and prints tables."""
  parts = [part for part in PARTS if part in _ONLY.value]
  folder = pathlib.Path(_BENCHMARK_DIR.value)
  recorder = _Recorder(folder)
  print(recorder.device)
  if (load := os.getloadavg()[0]) > 0.5:
    _say(
      f'WARNING: other processes keep {load:.1f} cores busy, which slows '
      'contestants unequally (most of all PyTorch, whose threads wait for each '
      'other); measure again on an idle machine'
    )
  with tempfile.TemporaryDirectory() as name:
    scratch = pathlib.Path(name)
    contests = [part for part in parts if part in TASKS]
    if contests:
      _say('making the tasks')
      _make_tasks(scratch, contests)
    for part in parts:
      run = _compete
      if part not in TASKS:
        run = _run_sweeps if part == 'sweep' else _run_commands
      run(part, scratch, recorder)
  print(f'\nEvery timing is in {folder / records.BENCHMARK}')
  print(f'next: python -m analysis.benchmark --benchmark_dir={folder}')
  return 0


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
