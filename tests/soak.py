"""Kills runs at random moments, many times, and compares their bits.

`python -m tests.soak --kills=50 --output=analysis/results/soak.csv` takes about
ten minutes. Each kind of run is killed, resumed and killed again until all
kills are spent, and then compared, byte for byte, with one left alone.
"""

import argparse
import csv
import pathlib
import random
import subprocess
import sys
import tempfile

from launch.rundir import checkpoints
from tests.launch import faults
from vae.data import datasets

# More steps than a run does between two kills, so that one meets many.
_STEPS_FACTOR = 4


def _finish(arguments: list[str]) -> None:
  subprocess.run(
    [sys.executable, '-m', 'launch.train', *arguments],
    cwd=faults.ROOT,
    check=True,
    capture_output=True,
  )


def soak(kills: int, seed: int, folder: pathlib.Path, writer) -> None:
  """Spends a number of kills evenly over the kinds of runs.

  Args:
    kills: how many.
    seed: of the moments.
    folder: for runs and data.
    writer: of CSV rows: kind, kill, seconds, step, same_bits.
  """
  moments = random.Random(seed)
  data_dir = folder / 'data'
  datasets.load('mnist_5k', data_dir, lambda line: None)
  for index, (kind, settings) in enumerate(faults.KINDS.items()):
    steps = (faults.SMALL | settings)['training_steps'] * _STEPS_FACTOR
    settings = settings | {'training_steps': steps, 'checkpoint_every': '0.2s'}
    killed, whole = folder / f'{kind}-killed', folder / f'{kind}-whole'
    arguments = faults.flags(killed, data_dir, settings)
    rows = []
    share = kills // len(faults.KINDS) + (index < kills % len(faults.KINDS))
    for number in range(1, share + 1):
      # Every third while it starts and compiles, the others while it trains.
      starting = number % 3 == 0
      seconds = moments.uniform(0.0, 2.5 if starting else 1.0)
      since = None if starting else killed
      if not faults.kill_after(seconds, arguments, since):
        print(f'{kind}: finished before kill {number}')
      newest = checkpoints.paths(killed)
      step = checkpoints.load(newest[0])[0] if newest else 0
      rows.append([kind, number, f'{seconds:.3f}', step])
      print(*rows[-1], flush=True)
    _finish(arguments)
    _finish(faults.flags(whole, data_dir, settings))
    faults.assert_same_run(whole, killed)
    writer.writerows([*row, True] for row in rows)


def main() -> None:
  """Parses the command line."""
  parser = argparse.ArgumentParser(prog='python -m tests.soak')
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', type=pathlib.Path, default='soak.csv')
  arguments = parser.parse_args()
  with (
    tempfile.TemporaryDirectory() as folder,
    arguments.output.open('w', newline='') as file,
  ):
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['kind', 'kill', 'seconds', 'step', 'same_bits'])
    soak(arguments.kills, arguments.seed, pathlib.Path(folder), writer)
  print(f'{arguments.kills} kills, and every byte is the same')


if __name__ == '__main__':
  main()
