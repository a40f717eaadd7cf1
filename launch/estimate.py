"""How long a sweep takes, from a few steps of each of its programs."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from launch import cli, executors, grid
from launch import config as config_lib

# How long the steps are that are timed.
_SECONDS = 1.0


class _Measured(NamedTuple):
  """Seconds that a program takes."""

  to_compile: float
  per_step: float
  per_evaluation: float


def _timed(function, *arguments) -> float:
  started = time.perf_counter()
  function(*arguments)
  return time.perf_counter() - started


def _measure(prepared) -> _Measured:
  config, dataset, program = prepared

  def train(count: int) -> None:
    rate = config.learning_rate
    program.engine.run(
      1, np.full(count, config.beta, 'f4'), np.full(count, rate, 'f4')
    )

  def evaluate() -> None:
    examples = dataset.splits['test'].examples
    program.evaluator(examples, config.binarize, config.seed)

  to_compile = _timed(train, 1) + _timed(evaluate)
  count = 1
  while (seconds := _timed(train, count)) < _SECONDS / 2:
    if count == program.engine.max_steps:
      break
    count = min(2 * count, program.engine.max_steps)
  return _Measured(to_compile, seconds / count, _timed(evaluate))


def describe(plan: Sequence[grid.Planned], threads: int, data_dir: str) -> str:
  """How many runs a sweep has, and about how long they take on this machine.

  Args:
    plan: the runs.
    threads: of each.
    data_dir: TFDS's data folder.

  Raises:
    ConfigError, DatasetError: settings or data that cannot be.
  """
  cli.import_tensorflow()
  from launch import programs

  bench = programs.Workbench()
  processes = min(len(executors.core_groups(threads)), len(plan))
  measured: dict[object, _Measured] = {}
  seconds = 0.0
  for planned in plan:
    prepared = bench.prepare(planned.config, data_dir, None, lambda line: None)
    key = config_lib.compiled_settings(planned.config)
    if key not in measured:
      measured[key] = _measure(prepared)
      seconds += measured[key].to_compile * processes
    config = prepared.config
    assert config.training_steps is not None
    evaluations = 1
    if config.eval_every:
      evaluations += config.training_steps // config.eval_every
    seconds += measured[key].per_step * config.training_steps
    seconds += measured[key].per_evaluation * evaluations
  minutes, rest = divmod(seconds / processes, 60)
  return (
    f'{len(plan)} runs, {len(measured)} programs: about {minutes:.0f} min '
    f'{rest:.0f} s with {processes} processes of {threads} threads on this '
    f'machine, by {_SECONDS:g} s of each program'
  )
