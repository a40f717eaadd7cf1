"""Speed beside the loops a user would write: `python -m launch.benchmark`."""

import os
import pathlib
import sys
import tempfile

from absl import flags

from launch import cli, records
from launch.benchmarks import commands, races, results

PARTS = (*races.PROBLEMS, 'startup', 'sweep')

_REPEATS = flags.DEFINE_integer(
  'repeats', 5, 'timings of each contestant, taken in turn', 1, 10_000
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
on this machine's CPU, and writes every timing to {records.BENCHMARK}.
Contestants are processes that take turns; tables show medians, and the ratios
of the turns, with their quartiles in brackets. Parts:
  mlp         steps per second of the default model at three batch sizes
  conv        the same of two convolutional networks
  study       the same of the convolutions that studies of disentanglement
              train on sprites, and of FactorVAE with them
  evaluation  10,000 images, one posterior sample each
  importance  the importance-weighted bound of Burda et al.'s network, 200
              samples for each of 500 images
  startup     whole commands beside the bare import of their libraries
  sweep       eight betas by launch.sweep beside eight launches of launch.train,
              and its speed at 16,384 steps beside that of one run
Draw it with python -m analysis.benchmark.
Usage: python -m launch.benchmark [any flag below]
"""


def main() -> int:
  """Measures as the flags say and prints tables."""
  # Not every peer finds a GPU where this project does, and tables name the CPU.
  os.environ['CUDA_VISIBLE_DEVICES'] = ''
  folder = pathlib.Path(_BENCHMARK_DIR.value)
  table = results.Measurements(folder)
  print(table.device)
  if (load := os.getloadavg()[0]) > 0.5:
    print(
      f'WARNING: other processes keep {load:.1f} cores busy, which slows '
      'contestants unequally (most of all PyTorch, whose threads wait for each '
      'other); measure again on an idle machine',
      file=sys.stderr,
    )
  data = _DATASET.value, cli.data_dir()
  repeats = _REPEATS.value
  with tempfile.TemporaryDirectory() as name:
    runner = commands.Runner(pathlib.Path(name), *data)
    for part in PARTS:
      if part not in _ONLY.value:
        continue
      if part in races.PROBLEMS:
        races.compete(part, data, table, repeats, _BLOCK_SECONDS.value)
      elif part == 'sweep':
        commands.measure_sweeps(runner, table, repeats)
      else:
        commands.measure_commands(runner, table, repeats)
  print(f'\nEvery timing is in {folder / records.BENCHMARK}')
  print(f'next: python -m analysis.benchmark --benchmark_dir={folder}')
  return 0


if __name__ == '__main__':
  cli.start(main, _SUMMARY, without=('run_dir',))
