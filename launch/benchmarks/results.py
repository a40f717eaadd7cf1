"""The benchmark's results: rows of its file, and tables to read."""

import pathlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from launch import records
from launch.benchmarks import contest
from launch.rundir import provenance
from launch.settings.config import Config


class Measurements:
  """The benchmark's table, in its file and on the terminal.

  Attributes:
    device: that everything is measured on.
  """

  def __init__(self, folder: pathlib.Path):
    """Starts the file anew, in a folder that is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    records.create_table(folder, records.BENCHMARK)
    self._folder = folder
    self.device = f'{provenance.cpu_name()}, {contest.threads()} threads'

  def add(
    self,
    part: str,
    metric: str,
    measured: Mapping[str, Sequence[float]],
    reference: str,
    versions: Mapping[str, str] | None = None,
    config: Config | None = None,
  ) -> None:
    """Appends a row for each value; prints medians, quartiles and ratios.

    Args:
      part: of the benchmark.
      metric: what was measured; the name ends in its unit.
      measured: the values of the repeats, by contestant.
      reference: the contestant beside which the others are shown, each repeat
        beside the same one of its own.
      versions: of the packages that were measured, by contestant.
      config: what was trained or evaluated.
    """
    title = part
    if config:
      title = f'{part}: {config.network}, batch {config.batch_size}'
    print(f'\n{title:28} {metric:>16}   {"quartiles":20} of {reference}')
    for name, values in measured.items():
      for repeat, value in enumerate(values):
        records.append(
          self._folder,
          records.BENCHMARK,
          {
            'part': part,
            'network': config.network if config else '',
            'batch_size': config.batch_size if config else None,
            'contestant': name,
            'version': (versions or {}).get(name, ''),
            'device': self.device,
            'repeat': repeat,
            'metric': metric,
            'value': value,
          },
        )
      low, median, high = map(_number, np.percentile(values, [25, 50, 75]))
      ratio = ''
      if name != reference and reference in measured:
        ratio = f'{np.median(np.divide(values, measured[reference])):.2f} ×'
      print(f'{name:28} {median:>16}   {f"{low} to {high}":20} {ratio}')
    sys.stdout.flush()


def _number(value: float) -> str:
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
