"""Starting a run, or taking it up where its files end."""

import dataclasses
import pathlib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from launch import records
from launch.experiment import build, metrics, programs, progress
from launch.experiment.schedule import Schedule
from launch.rundir import checkpoints, opening, provenance
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae.data import datasets


@dataclasses.dataclass
class State:
  """A run in this process: what it is made of, and how far it is.

  Attributes:
    path: the run directory.
    config: the settings, all resolved.
    dataset: the data.
    program: trains and evaluates the model, whose weights are those after
      `step`.
    schedule: the steps at which something happens.
    manifest: what manifest.json holds.
    console: is told what happens.
    step: the number of updates.
    best_step: the step that did best on the validation split; None where
      nothing was validated.
    evaluated: the last evaluation of `records.result_split`.
  """

  path: pathlib.Path
  config: Config
  dataset: datasets.Dataset
  program: programs.Program
  schedule: Schedule
  manifest: dict[str, Any]
  console: progress.Console
  step: int = 0
  best_step: int | None = None
  evaluated: metrics.Evaluated | None = None

  def __post_init__(self):
    """Starts the clock where the processes before this one stopped it."""
    before = float(self.manifest.get('seconds', 0.0))
    self._clock_zero = time.monotonic() - before

  @property
  def seconds(self) -> float:
    """Returns the seconds that all processes of this run have trained."""
    return time.monotonic() - self._clock_zero

  def write_status(self, status: str, **entries: Any) -> None:
    """Writes manifest.json with a status and new values of some entries."""
    assert status in records.STATUSES
    ended = None if status == 'running' else provenance.now()
    manifest = self.manifest | {'status': status, 'ended': ended} | entries
    records.write_manifest(self.path, manifest)
    self.manifest = manifest


def begin(
  path: pathlib.Path,
  prepared: programs.Prepared,
  command: str,
  console: progress.Console,
) -> State | None:
  """Makes a run's files, or loads the run that they hold.

  Args:
    path: the run directory.
    prepared: the config, data and program of the run.
    command: what a person typed, for the manifest.
    console: is told what happens.

  Returns:
    The run, ready to train; None where it is finished, which is said.

  Raises:
    RunError, RecordError, CheckpointError: files of another run, or damaged.
  """
  schedule = Schedule(
    prepared.config, len(prepared.dataset.splits['train'].examples)
  )
  session = {
    'started': provenance.now(),
    'command': command,
    **provenance.session(),
    'devices': prepared.config.devices,
  }
  if (path / records.CONFIG).exists():
    return _resume(path, prepared, schedule, session, console)
  return _begin(path, prepared, schedule, session, console)


def _begin(
  path: pathlib.Path,
  prepared: programs.Prepared,
  schedule: Schedule,
  session: Mapping[str, Any],
  console: progress.Console,
) -> State:
  """Makes the files of a new run; last config.json, which makes it one."""
  config, dataset, program = prepared
  manifest = {
    'format': records.FORMAT,
    'id': secrets.token_hex(8),  # Of this run, whatever its folder held.
    'status': 'running',
    'ended': None,
    'seconds': 0.0,
    **session,
    'threads': config.threads,
    'precision': provenance.precision(config.precision, session['device']),
    'dataset': dict(dataset.provenance),
    **program.properties._asdict(),
    'num_parameters': build.num_parameters(
      program.model, program.objective.module
    ),
    'training_steps': schedule.last,
  }
  for name in records.RUN_TABLES:
    records.write_table(path, name)
  records.write_manifest(path, manifest)
  records.write_object(path / records.CONFIG, dataclasses.asdict(config))
  return State(path, *prepared, schedule, manifest, console)


def _resume(
  path: pathlib.Path,
  prepared: programs.Prepared,
  schedule: Schedule,
  session: Mapping[str, Any],
  console: progress.Console,
) -> State | None:
  """Loads the newest checkpoint and cuts the tables back to it."""
  config = prepared.config
  stored = config_lib.load(path / records.CONFIG)
  opening.check_same(path, stored, config)
  manifest = records.read_manifest(path)
  state = State(path, *prepared, schedule, manifest, console)
  loaded = checkpoints.load_newest(path, console.report)
  if loaded is not None:
    state.step, tensors = loaded
    build.assign(state.program.variables, tensors)
  if manifest['status'] == 'finished' and (
    state.step >= schedule.last or manifest.get('stopped_early')
  ):
    longer = 'A larger --training_steps goes on, unless training stopped early'
    if config.ends_with_last_step:
      longer = 'Its learning rate has come to its end'
    console.say(
      f'{path} is finished ({state.step:,} steps). {longer}; --overwrite '
      'starts anew.'
    )
    return None
  tables = [*records.RUN_TABLES]
  if (path / records.SCORES).exists():
    tables.append(records.SCORES)
  for name in tables:
    records.keep_rows(path, name, _is_kept(name, state.step, stored, schedule))
  manifest.pop('error', None)
  # The images are the same. Where they came from is said as it was, but those
  # that go on are named as what they write now.
  manifest['dataset'] |= prepared.dataset.names
  if config.patience:
    state.best_step = metrics.best_validated(
      path, manifest['has_elbo'], schedule.settled
    )
    # The best of a shorter run may be none of the longer one's.
    if state.best_step is None:
      manifest.pop('best_step', None)
  manifest.setdefault('resumed', []).append({'step': state.step, **session})
  state.write_status('running', training_steps=schedule.last)
  records.write_object(path / records.CONFIG, dataclasses.asdict(config))
  console.say(f'resuming {path} after step {state.step:,}')
  return state


def _is_kept(
  name: str, step: int, stored: Config, schedule: Schedule
) -> Callable[[int, Mapping[str, str]], bool]:
  """Says which rows of a table a run that goes on after a step keeps.

  Those that it would have written by itself. A run that goes on had a last
  step that is nothing special to the longer one, whose files must come out as
  if it had never ended there. What `launch.evaluate` measured stays.
  """

  def keep(row_step: int, row: Mapping[str, str]) -> bool:
    if name == records.SCORES and (
      row['score'] not in stored.eval_scores or row['split'] == 'validation'
    ):
      return True
    evaluated = name in (
      records.EVAL,
      records.RATE_PER_LATENT,
      records.SCORES,
    )
    if evaluated and not metrics.is_written_by_training(row, stored):
      return True
    if row_step > step:
      return False
    if evaluated and row['split'] == 'validation':
      return schedule.is_validated(row_step)
    if row_step != stored.training_steps or row_step == schedule.last:
      return True
    if evaluated:
      return schedule.is_evaluated(row_step)
    return schedule.is_logged(row_step)

  return keep
