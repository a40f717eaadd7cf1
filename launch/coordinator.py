"""Carries out a plan of runs: who trains what next, and what came of it."""

import csv
import io
import math
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from launch import cli, executors, grid, records, rundir, stop, worker
from launch import config as config_lib
from launch.worker import Ended

# -- The table ----------------------------------------------------------------


class Table:
  """The rows of sweep.csv: a run each, with its settings, end and results."""

  def __init__(self, folder: pathlib.Path, settings: Sequence[str]):
    """Starts from the rows that are there.

    Args:
      folder: of the sweep.
      settings: the columns of settings.

    Raises:
      RecordError: a damaged table, or one with other settings.
    """
    self._path = folder / records.SWEEP
    self._columns = ['run_dir', 'status', 'error', *settings]
    self._rows: dict[str, dict[str, str]] = {}
    if not self._path.exists():
      return
    header, *lines = records.read_lines(self._path) or [self._columns]
    before = [
      name
      for name in header[3:]
      if name in {field.name for field in config_lib.fields()}
    ]
    if before != [*settings]:
      raise records.RecordError(
        f'{self._path} holds a sweep over {", ".join(before)}, not over '
        f'{", ".join(settings)}; give another --sweep_dir'
      )
    self._columns = header
    for line in lines:
      self._rows[line[0]] = dict(zip(header, line, strict=True))

  def replace(
    self, ended: Sequence[tuple[Mapping[str, Any], Ended]], planned: set[str]
  ) -> None:
    """Writes the table anew, with the rows of runs that are not in the plan.

    Args:
      ended: settings and end of the planned runs that need not be trained.
      planned: names of all runs of the plan.
    """
    self._rows = {k: row for k, row in self._rows.items() if k not in planned}
    for values, end in ended:
      self._rows[end.name] = self._row(values, end)
    self._write()

  def add(self, values: Mapping[str, Any], ended: Ended) -> None:
    """Adds a run that ended."""
    row = self._row(values, ended)
    columns = len(self._columns)
    self._rows[ended.name] = row
    self._add_columns(row)
    if len(self._columns) > columns:
      self._write()
      return
    with self._path.open('a') as file:
      file.write(self._text([[row.get(name, '') for name in self._columns]]))

  @staticmethod
  def _row(values: Mapping[str, Any], ended: Ended) -> dict[str, str]:
    return {
      'run_dir': ended.name,
      'status': ended.status,
      'error': cli.printable(ended.error),
      **{name: grid.text(value) for name, value in values.items()},
      **{
        name: '' if math.isnan(value) else str(value)
        for name, value in ended.results.items()
      },
    }

  def _add_columns(self, row: Mapping[str, str]) -> None:
    self._columns += [name for name in row if name not in self._columns]

  def _write(self) -> None:
    for row in self._rows.values():
      self._add_columns(row)
    lines = [
      [row.get(name, '') for name in self._columns]
      for row in self._rows.values()
    ]
    content = self._text([self._columns, *lines])
    records.replace_file(self._path, content.encode())

  @staticmethod
  def _text(lines: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(lines)
    return buffer.getvalue()


# -- Carrying out -------------------------------------------------------------


def _read_finished(path: pathlib.Path, planned: grid.Planned) -> Ended | None:
  """How a run ended that need not be trained; None for one that must."""
  if not (path / records.CONFIG).exists():
    return None
  try:
    manifest = records.read_manifest(path)
    stored = rundir.load_config(path)
    asked = config_lib.with_steps(
      config_lib.decided(planned.config, stored),
      manifest['dataset']['num_images'].get('train', 0),
    )
    if manifest['status'] != 'finished' or asked != stored:
      return None
    return worker.read_ended(planned.name, path)
  except (records.RecordError, config_lib.ConfigError):
    return None  # Whoever trains it says what is wrong.


def carry_out(
  folder: pathlib.Path,
  plan: Sequence[grid.Planned],
  executor: executors.Executor,
  threads: int,
  data_dir: str,
  tensorboard: bool = False,
) -> int:
  """Trains what is not finished of a plan, and writes sweep.csv.

  Args:
    folder: of the sweep.
    plan: its runs.
    executor: trains them.
    threads: of each run.
    data_dir: TFDS's data folder.
    tensorboard: whether each run writes event files too.

  Returns:
    The exit code: 0 all finished, 1 some failed, 130 or 143 stopped by a
    signal.

  Raises:
    RecordError: another process writes the sweep, or its table is damaged.
  """
  folder.mkdir(parents=True, exist_ok=True)
  with records.locked(folder / '.lock', wait=False):
    table = Table(folder, [*plan[0].values])
    finished = {
      planned.name: ended
      for planned in plan
      if (ended := _read_finished(folder / planned.name, planned))
    }
    table.replace(
      [(p.values, finished[p.name]) for p in plan if p.name in finished],
      {planned.name for planned in plan},
    )
    tasks = [
      worker.Task(
        planned.name,
        folder.resolve() / planned.name,
        planned.config,
        os.path.abspath(os.path.expanduser(data_dir)),
        cli.command_line(),
        tensorboard,
      )
      for planned in plan
      if planned.name not in finished
    ]
    print(
      f'sweep    {folder}: {len(plan)} runs'
      + (f', of which {len(finished)} are finished' if finished else ''),
      flush=True,
    )
    values = {planned.name: planned.values for planned in plan}
    with stop.Stop() as stopping:
      progress = _Progress(len(plan), len(tasks))
      asked_to_stop = lambda: stopping.signal is not None
      for event in executor(tasks, threads, asked_to_stop):
        if isinstance(event, int):
          progress.print(event)
          continue
        progress.ended.append(event)
        if event.status != 'interrupted':
          table.add(values[event.name], event)
      progress.print(0)
    statuses = [ended.status for ended in progress.ended]
    return _end(folder, plan, statuses, stopping.signal)


class _Progress:
  """A line for each run that ends: how many did, and when all will have.

  Attributes:
    ended: so far, in this process.
  """

  def __init__(self, num_planned: int, num_tasks: int):
    self._num_planned = num_planned
    self._num_tasks = num_tasks
    self._num_printed = 0
    self._started = time.monotonic()
    self.ended: list[Ended] = []

  def print(self, num_running: int) -> None:
    """Prints what ended since the last call."""
    done = self._num_planned - self._num_tasks + len(self.ended)
    failed = sum(ended.status == 'failed' for ended in self.ended)
    new = self.ended[self._num_printed :]
    if not new:
      return
    self._num_printed = len(self.ended)
    for ended in new:
      print(_describe(ended))
    seconds = time.monotonic() - self._started
    left = seconds / len(self.ended) * (self._num_planned - done)
    print(
      f'  {done} of {self._num_planned} ended, {num_running} running, '
      f'{failed} failed, about {left // 60:.0f} min {left % 60:.0f} s left',
      flush=True,
    )


def _describe(ended: Ended) -> str:
  """A run's end in a few words."""
  if ended.status != 'finished':
    line = f'{ended.name} {ended.status}'
    return cli.printable(f'{line}: {ended.error}' if ended.error else line)
  metrics = ('elbo_nats', 'distortion_nats', 'rate_nats', 'squared_error')
  return f'{ended.name} ' + ', '.join(
    f'{name.removesuffix("_nats").replace("_", " ")} {ended.results[name]:.5g}'
    for name in metrics
    if name in ended.results
  )


def _end(
  folder: pathlib.Path,
  plan: Sequence[grid.Planned],
  statuses: Sequence[str],
  signal: int | None,
) -> int:
  """Prints what came out and what to do next; returns the exit code."""
  quoted = shlex.quote(str(folder))
  if signal is not None:
    given = any(a.startswith('--sweep_dir') for a in sys.argv)
    line = cli.command_line() + ('' if given else f' --sweep_dir={quoted}')
    print(f'{folder} stopped. To go on:\n{line}')
    return 128 + signal
  failed = statuses.count('failed')
  if failed:
    print(
      f'{failed} of {len(plan)} runs failed; {folder / records.SWEEP}, and the '
      f'{records.LOG} of each, say why',
      file=sys.stderr,
    )
  print(f'next: python -m analysis.report --sweep_dir={quoted}')
  return 1 if failed else 0
