"""The benchmark's results: rows of its file, and tables to read."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from launch import records
from launch.benchmarks import contest
from launch.rundir import provenance


class Measurements:
  """The benchmark's table, in its file and on the terminal.

  Attributes:
    device: that everything is measured on.
  """

  def __init__(self, folder: pathlib.Path):
    """Starts the file anew, in a folder that is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    records.write_table(folder, records.BENCHMARK)
    self._folder = folder
    self.device = f'{provenance.cpu_name()}, {contest.threads()} threads'

  def add(
    self,
    part: str,
    metric: str,
    measured: Mapping[str, Sequence[float]],
    reference: str,
    versions: Mapping[str, str] | None = None,
    task: str = '',
  ) -> None:
    """Appends a row for each value; prints medians and ratios with quartiles.

    Args:
      part: of the benchmark.
      metric: what was measured; the name ends in its unit.
      measured: the values of the repeats, by contestant.
      reference: the contestant beside which the others are shown, each repeat
        beside the same one of its own.
      versions: of the packages that were measured, by contestant.
      task: of the part, where it has several.
    """
    print(f'\n{f"{part}: {task}" if task else part}, {metric}:')
    for name, values in measured.items():
      for repeat, value in enumerate(values):
        row = {
          'part': part,
          'task': task,
          'contestant': name,
          'version': (versions or {}).get(name, ''),
          'device': self.device,
          'repeat': repeat,
          'metric': metric,
          'value': value,
        }
        records.append(self._folder, records.BENCHMARK, row)
      line = f'{name:28} {_quartiles(values)}'
      if name != reference and reference in measured:
        ratios = np.divide(values, measured[reference])
        line += f' {_quartiles(ratios.tolist())} × {reference}'
      print(line, flush=True)


def _quartiles(values: Sequence[float]) -> str:
  low, median, high = (
    f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
    for value in np.percentile(values, [25, 50, 75])
  )
  return f'{median:>8} {f"({low} to {high})":20}'
