"""Trains a grid of runs: `python -m launch.sweep --beta=0.1,1 --seed=0,1,2`."""

import os
from typing import Any

from absl import flags

from launch import cli, process, records
from launch.rundir import opening
from launch.settings import config as config_lib
from launch.settings import flags as setting_flags
from launch.settings import presets
from launch.sweeps import coordinator, executors, grid, slurm

setting_flags.define(axes=True)

_SWEEP_DIR = flags.DEFINE_string(
  'sweep_dir',
  None,
  'folder of the sweep, which goes on where it holds one; by default a new one '
  'under sweeps/',
)
_SWEEP = flags.DEFINE_string(
  'sweep',
  None,
  'a known sweep, whose values other flags override; list prints them all',
)
_EXECUTOR = flags.DEFINE_enum(
  'executor',
  'local',
  [*executors.EXECUTORS, 'slurm'],
  'who trains; local: a process for each core, or for each --threads of them; '
  'ray or slurm: a cluster of it, with folders that all of its nodes share',
)
# By the names of submitit's parameters.
_SLURM: dict[str, flags.FlagHolder[Any]] = {
  'partition': flags.DEFINE_string(
    'slurm_partition', None, 'of SLURM: where jobs run'
  ),
  'account': flags.DEFINE_string(
    'slurm_account', None, 'of SLURM: who is charged'
  ),
  'time': flags.DEFINE_string(
    'slurm_time',
    None,
    'of SLURM: limit of a job, in minutes or as 4:00:00; a run that takes '
    'longer is saved, queued again and goes on',
  ),
  'mem': flags.DEFINE_string(
    'slurm_mem', None, 'of SLURM: memory of a run, as 8G'
  ),
  'gres': flags.DEFINE_string(
    'slurm_gpus', None, 'of SLURM: GPUs of a run, as 1 or a100:1'
  ),
  'array_parallelism': flags.DEFINE_integer(
    'slurm_parallel',
    None,
    'of SLURM: the most runs of an array at once; up to 1,000 make one',
    lower_bound=1,
  ),
}
_DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'print the runs, and how many programs they compile, and end',
)

_SUMMARY = f"""
Trains a run for every combination of settings, and writes each into an ordinary
run directory and all of them into {records.SWEEP}. A comma between values makes
an axis (--beta=0,0.01 --seed=0,1,2); a list's flag makes one when repeated
(--hidden_sizes=100,100 --hidden_sizes=200). Each run has one thread unless
--threads says otherwise. Killed and started again, a sweep goes on: finished
runs are kept, the others resume.
Usage: python -m launch.sweep --beta=0.001,0.01,0.1 [any flag below]
"""


def _grids() -> list[grid.Grid]:
  """The grids of --sweep, and over them the values of the command line."""
  sweep = grid.Sweep('', {})
  if _SWEEP.value is not None:
    if _SWEEP.value not in grid.SWEEPS:
      raise config_lib.ConfigError(
        f'--sweep={_SWEEP.value}: must be list, or one of '
        f'{", ".join(grid.SWEEPS)}'
      )
    sweep = grid.SWEEPS[_SWEEP.value]
  given = setting_flags.read_axes()
  if len(given.setdefault('threads', [1])) > 1:
    raise config_lib.ConfigError(
      '--threads: all runs of a sweep have as many; give one number'
    )
  if given.get('devices', [1]) != [1]:
    raise config_lib.ConfigError(
      f'--devices={records.text(given["devices"])}: a sweep trains each run on '
      'one device; launch.train trains one on several'
    )
  if not given['threads'][0]:
    given['threads'] = [len(os.sched_getaffinity(0))]
  return sweep.grids(given)


def _executor() -> executors.Executor:
  """The executor of --executor, with the options of SLURM."""
  options = {
    name: flag.value for name, flag in _SLURM.items() if flag.value is not None
  }
  if _EXECUTOR.value == 'slurm':
    if 'gres' in options:
      options['gres'] = f'gpu:{options["gres"]}'
    return slurm.executor(options)
  for name in options:
    raise config_lib.ConfigError(
      f'--{_SLURM[name].name}: only --executor=slurm takes it'
    )
  return executors.EXECUTORS[_EXECUTOR.value]


def main() -> int:
  """Sweeps as the flags say and returns the exit code."""
  if _SWEEP.value == 'list':
    for name, sweep in grid.SWEEPS.items():
      print(f'{name}: {sweep.summary}')
    return 0
  if flags.FLAGS.preset == 'list':
    print(presets.listing())
    return 0
  if cli.RUN_DIR.value is not None:
    raise config_lib.ConfigError(
      '--run_dir: a sweep makes its own run folders, in --sweep_dir'
    )
  plan = grid.plan(_grids(), setting_flags.make)
  threads = plan.runs[0].config.threads
  if _DRY_RUN.value:
    for planned in plan.runs:
      print(planned.name)
    programs = {config_lib.compiled_settings(run.config) for run in plan.runs}
    at_once = f'this machine trains {len(executors.core_groups(threads))}'
    who = {
      'local': f'{at_once} at a time',
      'ray': 'Ray trains as many at a time as its nodes have room for',
      'slurm': 'SLURM gets a job for each run',
    }
    print(
      f'{process.counted(len(plan.runs), "run")}, '
      f'{process.counted(len(programs), "program")}; {who[_EXECUTOR.value]}'
    )
    return 0
  executor = _executor()
  if _SWEEP_DIR.value:
    folder = process.user_path(_SWEEP_DIR.value)
  else:
    folder = opening.make_new('sweeps', _SWEEP.value or 'sweep')
  return coordinator.train_all(
    folder,
    plan,
    executor,
    threads,
    cli.data_dir(),
    'leaving the jobs to SLURM' if _EXECUTOR.value == 'slurm' else 'saving',
  )


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
