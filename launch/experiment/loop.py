"""One run, from its config to its last file."""

import pathlib
import signal
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from launch import records
from launch.experiment import (
  ending,
  failures,
  messages,
  metrics,
  programs,
  progress,
  starting,
  stop,
  writing,
)
from launch.experiment.starting import State
from launch.rundir import contents, differences, provenance
from launch.settings.config import Config

# A block of steps takes about this long, so that Ctrl-C, progress and the
# check for finite losses are never far.
_BLOCK_SECONDS = 1.0


class End(NamedTuple):
  """The end of a run, for now or for good.

  Attributes:
    is_finished: whether nothing is left to train.
    stopped_by: the signal that came meanwhile, for which what is not finished
      ended.
  """

  is_finished: bool
  stopped_by: signal.Signals | None = None


def run(
  path: pathlib.Path,
  config: Config,
  data_dir: str,
  command: str,
  *,
  overwrite: bool = False,
  original: str | None = None,
  cache: programs.ProgramCache | None = None,
  console: progress.Console | None = None,
  given: Mapping[str, np.ndarray] | None = None,
) -> End:
  """Trains, evaluates and writes a run directory; resumes where one exists.

  Args:
    path: the run directory, locked by this process.
    config: the settings, of which some may be left open.
    data_dir: TFDS's data folder.
    command: what a person typed, for the manifest.
    overwrite: whether to delete the run that the folder holds, once it is
      known that the new one can start.
    original: the config.json of the run that is repeated.
    cache: of a process that trains several runs; None for a new one.
    console: is told what happens; None for the terminal.
    given: as in `build.open_dataset`.

  Raises:
    FailedError: training failed, and the manifest says so.
    RunError, ConfigError, DatasetError, RecordError, CheckpointError: with one
      line that says what is wrong and what to do.
  """
  manifest = None
  if (path / records.CONFIG).exists() and not overwrite:
    manifest = records.read_manifest(path)
  cache = cache or programs.ProgramCache()
  console = console or progress.Console()
  prepared = cache.prepare(config, data_dir, manifest, console.report, given)
  if original is not None:
    here = {**provenance.session(), 'dataset': prepared.dataset.provenance}
    console.say(differences.with_original(original, prepared.config, here))
  if overwrite and (path / records.CONFIG).exists():
    contents.clear(path)
  state = starting.begin(path, prepared, command, console)
  return _carry_out(state) if state else End(is_finished=True)


def _carry_out(state: State) -> End:
  """Trains a run to its end."""
  console = state.console
  console.say(messages.start(state.path, state.config, state.manifest))
  has_bfloat16 = provenance.has_bfloat16()
  if warning := messages.no_gain(state.config, state.manifest, has_bfloat16):
    console.report(warning)
  if provenance.has_idle_gpu():
    console.report(messages.IDLE_GPU)
  with (
    failures.recorded(state),
    stop.Stop(ends_process=console.is_terminal) as stopping,
  ):
    with console.progress(state.step, state.schedule.last) as shown:
      over = train(state, shown, stopping)
    console.say(ending.finish(state) if over else ending.interrupt(state))
  return End(over, stopping.signal)


def train(state: State, shown: progress.Progress, stopping: stop.Stop) -> bool:
  """Trains a run until its last step, the end of its patience, or a signal.

  Args:
    state: the run, which goes on after its step.
    shown: where progress is shown.
    stopping: says whether a signal came; training then stops once it is saved.

  Returns:
    Whether training is over; else a signal stopped it.

  Raises:
    NonFiniteError: a loss or a weight; the model is as before it.
    OSError: files that cannot be written.
  """
  schedule, engine = state.schedule, state.program.engine
  block_steps = None
  saved = time.monotonic()
  over = _is_over(state)
  while not over:
    first = state.step + 1
    count = min(
      schedule.next_stop(state.step) - state.step,
      block_steps or 1,
      engine.max_steps,
    )
    started = time.monotonic()
    with failures.replayable(state):
      measured = engine.run(
        first,
        schedule.weights(first, count),
        schedule.learning_rates(first, count),
      )
    state.step += count
    if block_steps is None:
      block_steps = 1  # The first compiles, and says nothing about the speed.
    else:
      speed = count / (time.monotonic() - started)
      block_steps = max(1, int(speed * _BLOCK_SECONDS))

    improved = schedule.is_validated(state.step) and _validate(state)
    over = _is_over(state)
    if over or schedule.is_logged(state.step):
      writing.log(state, measured, shown, over)
    if schedule.is_evaluated(state.step):
      split = records.result_split(state.manifest)
      state.evaluated = writing.evaluate(state, split)
    due = schedule.is_saved(state.step, time.monotonic() - saved)
    stopped = stopping.signal is not None
    if over or due or improved or stopped:
      # Last, so that rows up to a checkpoint are never missing.
      writing.save(state)
      saved = time.monotonic()
    shown.update(state.step)
    if stopped:
      break
  return over


def _validate(state: State) -> bool:
  """Evaluates the validation split; whether these weights are the best."""
  writing.evaluate(state, 'validation')
  state.best_step = metrics.best_validated(
    state.path, state.manifest['has_elbo'], state.schedule.settled
  )
  return state.best_step == state.step


def _is_over(state: State) -> bool:
  """Returns whether a run is at its last step, or out of patience.

  But not while the learning rate or a weight still rises, when no weights are
  the best yet.
  """
  patience, schedule = state.config.patience, state.schedule
  if state.step >= schedule.last:
    return True
  if not patience or state.best_step is None:
    return False
  waited = schedule.epochs(state.step) - schedule.epochs(state.best_step)
  return waited >= patience
