"""Ending a run: its result and pictures, or how to resume it."""

from launch import records
from launch.experiment import build, messages, metrics, pictures, writing
from launch.experiment.starting import State
from launch.rundir import checkpoints


def finish(state: State) -> str:
  """Evaluates the weights that are kept, writes pictures, and is finished.

  Returns:
    The lines that say what came out.
  """
  last_step = state.step
  if state.best_step is not None and state.best_step != last_step:
    state.step, tensors = checkpoints.load(
      checkpoints.path_of(state.path, state.best_step)
    )
    build.assign(state.program.variables, tensors)
  # Also where a kill came between the last checkpoint and this line.
  if state.evaluated is None or state.evaluated.step != state.step:
    split = records.result_split(state.manifest)
    state.evaluated = writing.evaluate(state, split)
  pictures.write(state.path, state.evaluated, state.dataset, in_training=True)
  stopped = {}
  if state.config.patience:
    stopped = {'stopped_early': last_step < state.schedule.last}
  state.write_status('finished', **stopped)
  lines = messages.end(
    state.path,
    state.config,
    state.manifest,
    state.evaluated.result,
    last_step,
    metrics.likelihood_scale(
      state.program.model, state.manifest['effective_beta']
    ),
  )
  warnings = metrics.unbounded(
    state.manifest, state.program.model, state.evaluated.data
  )
  return '\n'.join([lines, *warnings])


def interrupt(state: State) -> str:
  """Marks a run interrupted that was saved after its last step.

  Returns:
    The lines that say how to resume it.
  """
  state.write_status('interrupted')
  return (
    f'{state.path} stopped after step {state.step:,}. To resume:\n'
    f'{messages.how_to_resume(state.path)}'
  )
