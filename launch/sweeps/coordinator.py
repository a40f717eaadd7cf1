"""Carries out a plan of runs: who trains what next, and what came of it."""

import dataclasses
import itertools
import json
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from launch import files, process, records
from launch.experiment import stop
from launch.rundir import opening
from launch.settings import config as config_lib
from launch.settings.config import Config
from launch.sweeps import executors, grid, worker
from launch.sweeps.worker import Outcome

# -- The table ----------------------------------------------------------------

_COLUMNS = ('run_dir', 'status', 'error')


class SweepTable:
  """The rows of sweep.csv: a run each, with its settings, end and results."""

  def __init__(
    self,
    folder: pathlib.Path,
    settings: Sequence[str],
    ended: Sequence[tuple[Mapping[str, Any], Outcome]],
  ):
    """Writes the table anew; the run directories hold all that it says.

    Args:
      folder: of the sweep.
      settings: the columns of settings.
      ended: settings and end of the runs that need not be trained.
    """
    self._path = folder / records.SWEEP
    self._columns = [*_COLUMNS, *settings]
    self._rows = {end.name: _row(values, end) for values, end in ended}
    self._write()

  def add(self, values: Mapping[str, Any], ended: Outcome) -> None:
    """Adds a run that ended."""
    self._rows[ended.name] = _row(values, ended)
    self._write()

  def _write(self) -> None:
    rows = self._rows.values()
    columns = [*dict.fromkeys([*self._columns, *itertools.chain(*rows)])]
    lines = [columns, *([row.get(name) for name in columns] for row in rows)]
    files.replace_file(self._path, records.to_csv(lines).encode())


def _row(values: Mapping[str, Any], ended: Outcome) -> dict[str, Any]:
  return {
    'run_dir': ended.name,
    'status': ended.status,
    'error': process.printable(ended.error),
    **{name: records.text(value) for name, value in values.items()},
    **ended.results,
  }


# -- Carrying out -------------------------------------------------------------


def _check_same(folder: pathlib.Path, plan: grid.Plan) -> None:
  """Notes what all runs of a sweep share; refuses another sweep's folder.

  Raises:
    RecordError: the folder holds a sweep over other axes, or of other settings.
  """
  path, table = folder / records.SWEEP_PLAN, folder / records.SWEEP
  if table.exists() and not path.exists():  # As sweeps of older versions.
    header = records.read_lines(table)[:1]
    if not header or header[0][: len(_COLUMNS)] != [*_COLUMNS]:
      raise records.RecordError(
        f'{table} was written by no sweep; give another --sweep_dir'
      )
  free = {*plan.axes, 'training_steps', 'num_epochs'}
  shared = dataclasses.asdict(plan.runs[0].config)
  settings = {name: shared[name] for name in shared.keys() - free}
  # As it comes back from the file: with lists for tuples.
  content = json.loads(json.dumps({'axes': [*plan.axes], **settings}))
  if not path.exists():
    records.write_object(path, content)
    return
  # A setting that is newer than the sweep had its default there.
  defaults = json.loads(json.dumps(dataclasses.asdict(Config())))
  old = {n: defaults[n] for n in content.keys() & defaults.keys()}
  old |= records.read_object(path)
  if differing := config_lib.differences(old, content):
    raise records.RecordError(
      f'{folder} holds another sweep ({"; ".join(differing)}); give another '
      '--sweep_dir'
    )


def _read_finished(
  path: pathlib.Path, config: Config | None = None
) -> tuple[Config, Outcome] | None:
  """A run that need not be trained; None for one that must.

  Args:
    path: of the run.
    config: what is asked for; None for whatever the run did.
  """
  if not (path / records.CONFIG).exists():
    return None
  try:
    manifest = records.read_manifest(path)
    stored = opening.load_config(path)
    asked = stored
    if config is not None:
      asked = config_lib.with_steps(
        config_lib.decided(config, stored),
        manifest['dataset']['num_images'].get('train', 0),
      )
    if manifest['status'] != 'finished' or asked != stored:
      return None
    return stored, worker.read_outcome(path.name, path)
  except (records.RecordError, config_lib.ConfigError):
    return None  # Whoever trains it says what is wrong.


def train_all(
  folder: pathlib.Path,
  plan: grid.Plan,
  executor: executors.Executor,
  threads: int,
  data_dir: str,
  on_signal: str = 'saving',
) -> int:
  """Trains what is not finished of a plan, and writes sweep.csv.

  Args:
    folder: of the sweep.
    plan: its runs.
    executor: trains them.
    threads: of each run.
    data_dir: TFDS's data folder.
    on_signal: what the executor does at a signal, in a word.

  Returns:
    The exit code: 0 all finished, 1 some failed, 130 or 143 stopped by a
    signal.

  Raises:
    RecordError: another process writes the sweep, or the folder holds another.
  """
  folder.mkdir(parents=True, exist_ok=True)
  with files.locked(folder / '.lock', wait=False):
    _check_same(folder, plan)
    names = {planned.name for planned in plan.runs}
    settings = [*plan.runs[0].values]
    # Of runs that a larger or an other part of the same sweep has trained.
    ended: list[tuple[Mapping[str, Any], Outcome]] = [
      ({name: grid.value(config, name) for name in settings}, end)
      for path in sorted(folder.iterdir())
      if path.name not in names and (found := _read_finished(path))
      for config, end in [found]
    ]
    tasks = []
    for planned in plan.runs:
      path = folder / planned.name
      if found := _read_finished(path, planned.config):
        ended.append((planned.values, found[1]))
        continue
      tasks.append(
        worker.RunTask(
          planned.name,
          path.resolve(),
          planned.config,
          os.path.abspath(data_dir),
          process.command_line(),
          os.getcwd(),
        )
      )
    table = SweepTable(folder, settings, ended)
    finished = len(plan.runs) - len(tasks)
    print(
      f'sweep    {folder}: {process.counted(len(plan.runs), "run")}'
      + (f', {finished} finished before' if finished else ''),
      flush=True,
    )
    values = {planned.name: planned.values for planned in plan.runs}
    with stop.Stop(doing=on_signal) as stopping:
      progress = _Progress(len(plan.runs), len(tasks))
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
    return _end(folder, len(plan.runs), statuses, stopping.signal)


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
    self.ended: list[Outcome] = []

  def print(self, num_running: int) -> None:
    """Prints what ended since the last call."""
    new = self.ended[self._num_printed :]
    if not new:
      return
    self._num_printed = len(self.ended)
    done = self._num_planned - self._num_tasks + len(self.ended)
    failed = sum(ended.status == 'failed' for ended in self.ended)
    for ended in new:
      print(_describe(ended))
    seconds = time.monotonic() - self._started
    left = seconds / len(self.ended) * (self._num_planned - done)
    print(
      f'  {done} of {self._num_planned} ended, {num_running} running, '
      f'{failed} failed, about {left // 60:.0f} min {left % 60:.0f} s left',
      flush=True,
    )


def _describe(ended: Outcome) -> str:
  """A run's end in a few words."""
  if ended.status != 'finished':
    line = f'{ended.name} {ended.status}'
    return process.printable(f'{line}: {ended.error}' if ended.error else line)
  metrics = ('elbo_nats', 'distortion_nats', 'rate_nats', 'squared_error')
  return f'{ended.name} ' + ', '.join(
    f'{name.removesuffix("_nats").replace("_", " ")} {ended.results[name]:.5g}'
    for name in metrics
    if name in ended.results
  )


def _end(
  folder: pathlib.Path,
  num_runs: int,
  statuses: Sequence[str],
  signal: int | None,
) -> int:
  """Prints what came out and what to do next; returns the exit code."""
  quoted = shlex.quote(str(folder))
  if signal is not None:
    given = any(a.startswith('--sweep_dir') for a in sys.argv)
    line = process.command_line() + ('' if given else f' --sweep_dir={quoted}')
    print(f'{folder} is not finished. To go on:\n{line}')
    return 128 + signal
  failed = statuses.count('failed')
  if failed:
    print(
      f'{failed} of {num_runs} runs failed; {folder / records.SWEEP}, and the '
      f'{records.LOG} of each, say why',
      file=sys.stderr,
    )
  print(f'next: python -m analysis.report --sweep_dir={quoted}')
  return 1 if failed else 0
