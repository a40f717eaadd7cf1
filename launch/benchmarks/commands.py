"""Times whole commands, beside the import of their libraries."""

import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence

from launch.benchmarks import contest, results

IMPORTS = 'import of the libraries'
TRAIN = ('-m', 'launch.train', '--beta=0.01')
_SWEEP = ('-m', 'launch.sweep')

# What Python is called with, by part and by name.
COMMANDS: Mapping[str, Mapping[str, Sequence[str]]] = {
  'startup': {
    IMPORTS: ('-c', 'import tensorflow, sonnet, tensorflow_probability'),
    'launch.train --beta=0.01': TRAIN,
    'launch.train --help': ('-m', 'launch.train', '--help'),
    'analysis.loss_curves --help': ('-m', 'analysis.loss_curves', '--help'),
  },
  'memory': {
    '1,024 steps': TRAIN,
    '16,384 steps': (*TRAIN, '--training_steps=16384'),
    'all images, by the host': (*TRAIN, '--data_placement=host'),
  },
}


class Runner:
  """Runs commands of Python; those that train do so into new folders."""

  def __init__(self, folder: pathlib.Path, dataset: str, data_dir: str):
    self._folder = folder
    self._data = f'--dataset={dataset}', f'--data_dir={data_dir}'
    self._is_prepared = False

  def run(self, name: str, arguments: Sequence[str]) -> contest.Measured:
    """Returns what a command takes.

    Raises:
      ContestError: it failed.
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
    return contest.measure(arguments)


def measure_commands(
  part: str, runner: Runner, table: results.Measurements, repeats: int
) -> None:
  """Measures the commands of a part in turn.

  Args:
    part: one of `COMMANDS`.
    runner: runs them.
    table: gets what they take.
    repeats: how often each is run.

  Raises:
    ContestError: one of them failed.
  """
  commands = COMMANDS[part]
  measured: dict[str, list[contest.Measured]] = {name: [] for name in commands}
  for _ in range(repeats):
    for name, arguments in commands.items():
      measured[name].append(runner.run(name, arguments))
  metrics = ('peak_mib',) if part == 'memory' else contest.Measured._fields
  for metric in metrics:
    values = {
      name: [getattr(one, metric) for one in ones]
      for name, ones in measured.items()
    }
    table.add(part, metric, values, next(iter(commands)))


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
