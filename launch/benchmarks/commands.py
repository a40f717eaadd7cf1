"""Times whole commands, beside the import of their libraries."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launch.benchmarks import results

IMPORTS = 'import of the libraries'
TRAIN = ('-m', 'launch.train', '--beta=0.01')
_SWEEP = ('-m', 'launch.sweep')

# What Python is called with, by name.
COMMANDS: Mapping[str, Sequence[str]] = {
  IMPORTS: ('-c', 'import tensorflow, sonnet, tensorflow_probability'),
  'launch.train --beta=0.01': TRAIN,
  'launch.train --help': ('-m', 'launch.train', '--help'),
  'analysis.loss_curves --help': ('-m', 'analysis.loss_curves', '--help'),
}


class CommandError(ValueError):
  """A command that was to be timed failed; one line says which and why."""


class Measured(NamedTuple):
  """The time and memory that a process took.

  Attributes:
    seconds: from its start to its end.
    peak_mib: the most memory it had, in MiB.
  """

  seconds: float
  peak_mib: float


def measure(arguments: Sequence[str]) -> Measured:
  """Runs Python with some arguments, to the end.

  The caller must be small: what it holds itself is the least that Linux says
  about the peak of the process that it starts.

  Raises:
    CommandError: it failed.
  """
  with tempfile.TemporaryFile('w+', errors='replace') as errors:
    started = time.perf_counter()
    process = subprocess.Popen(
      [sys.executable, *arguments],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=errors,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      errors.seek(0)
      said = errors.read().strip().splitlines() or ['nothing']
      raise CommandError(
        f'{" ".join(arguments)}: failed, and said last: {said[-1]}'
      )
  return Measured(seconds, usage.ru_maxrss / 1024)


class Runner:
  """Runs commands of Python; those that train do so into new folders."""

  def __init__(self, folder: pathlib.Path, dataset: str, data_dir: str):
    self._folder = folder
    self._data = f'--dataset={dataset}', f'--data_dir={data_dir}'
    self._is_prepared = False

  def run(self, name: str, arguments: Sequence[str]) -> Measured:
    """Returns what a command takes.

    Raises:
      CommandError: it failed.
    """
    if not self._is_prepared:
      # Prepares the data, and has the files read once.
      self._is_prepared = True
      self.run('once before', (*TRAIN, '--training_steps=1'))
    print(name, file=sys.stderr, flush=True)
    output = {TRAIN[1]: 'run_dir', _SWEEP[1]: 'sweep_dir'}.get(arguments[1])
    if output and '--help' not in arguments:
      folder = tempfile.mkdtemp(dir=self._folder)
      arguments = [
        *(*arguments[:2], *self._data, *arguments[2:]),
        f'--{output}={folder}',
      ]
    return measure(arguments)


def measure_commands(
  runner: Runner, table: results.Measurements, repeats: int
) -> None:
  """Measures the commands in turn.

  Args:
    runner: runs them.
    table: gets what they take.
    repeats: how often each is run.

  Raises:
    CommandError: one of them failed.
  """
  measured: dict[str, list[Measured]] = {name: [] for name in COMMANDS}
  for _ in range(repeats):
    for name, arguments in COMMANDS.items():
      measured[name].append(runner.run(name, arguments))
  for metric in Measured._fields:
    values = {
      name: [getattr(one, metric) for one in ones]
      for name, ones in measured.items()
    }
    table.add('startup', metric, values, next(iter(COMMANDS)))


# -- Sweeps -------------------------------------------------------------------

BETAS = ('0', '0.001', '0.003', '0.01', '0.03', '0.1', '0.3', '1')
SWEEP_STEPS = 1024
LONG_SWEEP_STEPS = 16_384

_LAUNCHES = 'eight launches of launch.train'
_SWEPT = 'launch.sweep of eight betas'
_ALONE = 'one run alone'


def measure_sweeps(
  runner: Runner, table: results.Measurements, repeats: int
) -> None:
  """Measures sweeps beside launches of their runs, as `measure_commands`."""
  sweep = (*_SWEEP, f'--beta={",".join(BETAS)}')
  steps = f'--training_steps={SWEEP_STEPS}'
  long_steps = f'--training_steps={LONG_SWEEP_STEPS}'
  seconds: dict[str, list[float]] = {_LAUNCHES: [], _SWEPT: []}
  speeds: dict[str, list[float]] = {_ALONE: [], _SWEPT: []}
  peaks: list[float] = []
  for _ in range(repeats):
    launches = [
      runner.run(f'beta {beta}', (*TRAIN[:2], f'--beta={beta}', steps))
      for beta in BETAS
    ]
    seconds[_LAUNCHES].append(sum(launch.seconds for launch in launches))
    swept = runner.run(_SWEPT, (*sweep, steps))
    seconds[_SWEPT].append(swept.seconds)
    peaks.append(swept.peak_mib)
    alone = runner.run(_ALONE, (*TRAIN, long_steps))
    speeds[_ALONE].append(LONG_SWEEP_STEPS / alone.seconds)
    swept = runner.run(f'{_SWEPT}, long', (*sweep, long_steps))
    speeds[_SWEPT].append(len(BETAS) * LONG_SWEEP_STEPS / swept.seconds)
  table.add('sweep', 'seconds', seconds, _LAUNCHES)
  table.add('sweep', 'model_steps_per_second', speeds, _ALONE)
  table.add('sweep', 'peak_mib_of_a_process', {_SWEPT: peaks}, _SWEPT)
