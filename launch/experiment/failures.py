"""Records that a run cannot go on, and why."""

import contextlib
import re
from collections.abc import Callable, Iterator

import tensorflow as tf

from launch import records
from launch.experiment import messages, writing
from launch.experiment.starting import State
from launch.rundir import checkpoints, opening
from vae import training


class FailedError(opening.RunError):
  """A run cannot go on, and its manifest says why."""


@contextlib.contextmanager
def recorded(state: State) -> Iterator[None]:
  """Marks a run failed where an error ends it.

  Raises:
    FailedError: one line that says why; an error that nobody expects is raised
      again, for its traceback.
  """
  try:
    yield
  except Exception as error:
    if state.manifest['status'] == 'finished':
      raise  # All is written, but its last lines could not be printed.
    explain = next(
      (explain for kind, explain in _FAILURES if isinstance(error, kind)), None
    )
    reason, words = f'{type(error).__name__}: {error}', ''
    if explain:
      reason, words = explain(state, error)
    # The manifest may be as impossible to write as what failed.
    with contextlib.suppress(OSError):
      state.write_status('failed', error=reason)
    if not explain:
      raise
    raise FailedError(words) from error


@contextlib.contextmanager
def replayable(state: State) -> Iterator[None]:
  """Keeps what shows a loss that is not finite: the weights and the batch."""
  try:
    yield
  except training.NonFiniteError as error:
    state.step = error.step - 1  # The model is as before the bad step.
    if state.step:
      with contextlib.suppress(training.NonFiniteError):
        writing.save(state)
    records.write_arrays(
      state.path,
      'failed_batch',
      error.step,
      {
        'images': state.program.engine.batch(error.step),
        **{
          name: values[0]
          for name, values in state.schedule.weights(error.step, 1).items()
        },
        'learning_rate': state.schedule.learning_rates(error.step, 1)[0],
      },
    )
    raise


def _explain_loss(
  state: State, error: training.NonFiniteError
) -> tuple[str, str]:
  newest = checkpoints.paths(state.path)
  kept = (
    f'the last good checkpoint is {newest[0]}'
    if newest
    else 'no checkpoint had been written'
  )
  return str(error), (
    f'{error}; the run is marked failed; {kept}. A smaller --learning_rate '
    'often helps.'
  )


def _explain_memory(
  state: State, error: tf.errors.ResourceExhaustedError | MemoryError
) -> tuple[str, str]:
  what = re.search(r'shape ?\[[\d,]*\]', str(error))
  where = f' for a tensor of {what[0]}' if what else ''
  return 'out of memory', (
    f'out of memory{where} after step {state.step:,}, with '
    f'--batch_size={state.config.batch_size}; a smaller one, or a smaller '
    'network, needs less'
  )


def _explain_pipe(state: State, error: BrokenPipeError) -> tuple[str, str]:
  del error
  reason = 'nobody reads its output any more'
  return reason, (
    f'{reason}; resume with: {messages.how_to_resume(state.path)}'
  )


def _explain_disk(state: State, error: OSError) -> tuple[str, str]:
  reason = f'{error.filename or state.path}: {error.strerror or error}'
  return reason, (
    f'{reason}. {state.path} holds whole files up to its last checkpoint; '
    'once it can be written again, resume with: '
    f'{messages.how_to_resume(state.path)}'
  )


# From an error to what manifest.json says of it, and the terminal; the first
# that fits.
_FAILURES: tuple[
  tuple[type[Exception], Callable[..., tuple[str, str]]], ...
] = (
  (training.NonFiniteError, _explain_loss),
  (tf.errors.ResourceExhaustedError, _explain_memory),
  (MemoryError, _explain_memory),
  (BrokenPipeError, _explain_pipe),
  (OSError, _explain_disk),
)
