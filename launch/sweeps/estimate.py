"""How long a sweep takes, from a few steps of each of its programs."""

import time
from typing import NamedTuple

import numpy as np

from launch import process
from launch.settings import config as config_lib
from launch.settings.config import Config
from launch.sweeps import executors, grid

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
    # Nothing that is learned could diverge.
    program.engine.run(1, np.zeros(count, 'f4'), np.zeros(count, 'f4'))

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


def describe(plan: grid.Plan, threads: int, data_dir: str) -> str:
  """How many runs a sweep has, and about how long they take on this machine.

  Args:
    plan: the runs.
    threads: of each.
    data_dir: TFDS's data folder.

  Raises:
    ConfigError, DatasetError: settings or data that cannot be.
  """
  process.import_tensorflow()
  from launch.experiment import programs

  bench = programs.Workbench()
  processes = min(len(executors.core_groups(threads)), len(plan.runs))
  by_program: dict[object, list[Config]] = {}
  for planned in plan.runs:
    key = config_lib.compiled_settings(planned.config)
    by_program.setdefault(key, []).append(planned.config)
  seconds = 0.0
  for configs in by_program.values():
    prepared = bench.prepare(configs[0], data_dir, None, lambda line: None)
    measured = _measure(prepared)
    seconds += measured.to_compile * min(processes, len(configs))
    num_train = len(prepared.dataset.splits['train'].examples)
    for config in configs:
      steps = config_lib.with_steps(config, num_train).training_steps
      assert steps is not None
      evaluations = 1 + (steps // config.eval_every if config.eval_every else 0)
      seconds += measured.per_step * steps
      seconds += measured.per_evaluation * evaluations
  minutes, rest = divmod(seconds / processes, 60)
  return (
    f'{len(plan.runs)} runs, {len(by_program)} programs: about '
    f'{minutes:.0f} min {rest:.0f} s with {processes} processes of {threads} '
    f'threads on this machine, by {_SECONDS:g} s of each program'
  )
