"""Trains the runs of a sweep as jobs of SLURM, for which nobody need wait.

Each run is a job of an array that submitit submits. A job that is out of time
saves, is queued again and goes on, and so does one whose process died. It notes
how it ended in the sweep's folder, for the command that waits, or the next one.
"""

import contextlib
import importlib.util
import io
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from launch import process, records
from launch.sweeps import executors, worker
from launch.sweeps.executors import ExecutorError
from launch.sweeps.worker import Outcome, RunTask

# Of an array: most clusters take 1,001.
_MAX_JOBS = 1000

# How often SLURM, which all of a cluster share, is asked for the queue, and how
# long after a job left it the note of its end may be on its way.
_QUEUE_SECONDS = 15.0
_NOTE_SECONDS = 90.0

# States of jobs that will not run, or not again.
_OVER = {
  'BOOT_FAIL', 'CANCELLED', 'COMPLETED', 'DEADLINE', 'FAILED', 'NODE_FAIL',
  'OUT_OF_MEMORY', 'PREEMPTED', 'REVOKED', 'TIMEOUT',
}  # fmt: skip

# Ends a job's script. What a signal ended goes on: its time was up, or its
# process died. An array and its last job share a number, so that this is not
# the job's name.
_QUEUE_AGAIN = f"""\
code=$?
if [ $code -gt 128 ] && [ ${{SLURM_RESTART_COUNT:-0}} -lt {executors.RETRIES} ]
then
  job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}
  scontrol requeue $job${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
fi
exit $code
"""


def _train(task: RunTask, note: pathlib.Path) -> None:
  """Trains a run in a job, and notes how it ended unless it is to go on."""
  # submitit would ignore the first, and at the second, which comes before the
  # time is up, not wait for the run to be saved.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
  ended = worker.train(task)
  if ended.status == 'interrupted':
    sys.exit(128 + signal.SIGTERM)
  records.write_object(note, ended._asdict())
  if ended.status == 'failed':
    sys.exit(1)


# -- Jobs ---------------------------------------------------------------------


class _Job(NamedTuple):
  """A job as SLURM lists it, for instance 12_3 and RUNNING."""

  id: str
  state: str


class _Jobs:
  """The jobs of a sweep, each from its submission until its end is told.

  Attributes:
    queue: those that wait or run, by run.
    over: those that lately did, and how they ended.
  """

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._file = folder / 'jobs.json'
    self._notes = folder / 'ended'
    self._notes.mkdir(parents=True, exist_ok=True)
    # For each run the name of its array, its place there, and its steps.
    self._submitted: dict[str, list[Any]] = {}
    if self._file.exists():
      self._submitted = records.read_object(self._file)
    self.look()

  def look(self) -> None:
    """Asks SLURM for the queue.

    Raises:
      ExecutorError: it does not answer.
    """
    listed = subprocess.run(
      [
        *('squeue', '--me', '--array', '--states=all', '--noheader'),
        '--format=%j|%K|%i|%T',
      ],
      # Without SQUEUE_PARTITION and the like, which would hide some.
      env={n: v for n, v in os.environ.items() if not n.startswith('SQUEUE_')},
      capture_output=True,
      text=True,
    )
    if listed.returncode:
      raise ExecutorError(f'squeue: {_one_line(listed.stderr)}')
    found = {}
    for line in listed.stdout.splitlines():
      name, place, *job = line.rsplit('|', 3)
      found[name, place] = _Job(*job)
    self.queue: dict[str, _Job] = {}
    self.over: dict[str, _Job] = {}
    for run, (name, place, _) in self._submitted.items():
      # One alone is no array.
      job = found.get((name, str(place))) or found.get((name, 'N/A'))
      if job:
        (self.over if job.state in _OVER else self.queue)[run] = job

  def numbers(self, runs: Iterable[str]) -> str:
    """The numbers of the arrays in which runs wait or run."""
    ids = [self.queue[run].id for run in runs if run in self.queue]
    return ' '.join(dict.fromkeys(one.split('_')[0] for one in ids))

  def has(self, task: RunTask) -> bool:
    """Returns whether a run has a job: queued, or failed and nobody was told.

    Raises:
      ExecutorError: its job trains it for another number of steps.
    """
    if task.name not in self.queue:
      note = self._notes / f'{task.name}.json'
      return (
        task.name in self._submitted
        and note.exists()
        and records.read_object(note)['status'] == 'failed'
      )
    if self._submitted[task.name][2] != _steps(task):
      raise ExecutorError(
        f'{task.name} is in the queue for another number of steps; let its job '
        f'end, or: scancel {self.queue[task.name].id}'
      )
    return True

  def submit(
    self, tasks: Sequence[RunTask], threads: int, options: Mapping[str, Any]
  ) -> str:
    """Submits an array of jobs, and returns its number.

    Raises:
      ExecutorError: SLURM refuses it.
    """
    import submitit

    # Noted first: wherever this process is killed, none is submitted twice.
    name = f'{self._folder.parent.name}-{secrets.token_hex(4)}'
    notes = [self._notes / f'{task.name}.json' for task in tasks]
    for place, (task, note) in enumerate(zip(tasks, notes, strict=True)):
      note.unlink(missing_ok=True)
      self._submitted[task.name] = [name, place, _steps(task)]
    records.write_object(self._file, self._submitted)
    executor = submitit.SlurmExecutor(self._folder)
    executor.update_parameters(
      **{'time': None, 'array_parallelism': len(tasks), **options},
      job_name=name,
      cpus_per_task=threads,
      srun_args=[f'--cpus-per-task={threads}'],  # srun does not ask sbatch.
      teardown=[_QUEUE_AGAIN],
      additional_parameters={'requeue': True},
    )
    try:
      with contextlib.redirect_stderr(io.StringIO()):
        first, *_ = executor.map_array(_train, tasks, notes)
    except submitit.core.utils.FailedJobError as error:
      raise ExecutorError(
        f'sbatch: {_one_line(str(error)) or "interrupted"}'
      ) from None
    self.look()
    return first.job_id.split('_')[0]

  def noted(self) -> set[str]:
    """The runs whose jobs noted how they ended."""
    return {path.stem for path in self._notes.glob('*.json')}

  def take(self, run: str) -> Outcome:
    """Returns how the job of a run ended, and forgets it."""
    note = self._notes / f'{run}.json'
    ended = Outcome(**records.read_object(note))
    del self._submitted[run]
    records.write_object(self._file, self._submitted)
    note.unlink()
    return ended


def _steps(task: RunTask) -> list[float | None]:
  return [task.config.training_steps, task.config.num_epochs]


def _one_line(errors: str) -> str:
  """Returns an error of a SLURM command without its name on every line."""
  lines = (line.split('error: ', 1)[-1] for line in errors.splitlines())
  return '; '.join(line.strip() for line in lines)


# -- The executor -------------------------------------------------------------


def executor(options: Mapping[str, Any]) -> executors.Executor:
  """Returns an executor that submits runs as jobs, and waits for them.

  Asked to stop, it leaves them to SLURM. What an earlier one has left is waited
  for, and what failed meanwhile is told, instead of being submitted again.

  Args:
    options: as submitit's SlurmExecutor names them.

  Raises:
    ExecutorError: SLURM's commands or submitit are missing.
  """
  if not shutil.which('sbatch'):
    raise ExecutorError(
      '--executor=slurm: no sbatch here; type this on a machine of the cluster'
    )
  if not importlib.util.find_spec('submitit'):
    raise ExecutorError(
      "--executor=slurm: submitit is not installed; pip install -e '.[slurm]' "
      'does so'
    )

  def execute(
    tasks: Sequence[RunTask], threads: int, is_stopping: Callable[[], bool]
  ) -> Iterator[Outcome | int]:
    if not tasks:
      return
    jobs = _Jobs(tasks[0].path.parent / 'slurm')
    if queued := [task.name for task in tasks if task.name in jobs.queue]:
      numbers = jobs.numbers(queued)
      runs = process.counted(len(queued), 'run')
      print(f'slurm    job {numbers}: {runs}, submitted before')
    new = [task for task in tasks if not jobs.has(task)]
    for start in range(0, len(new), _MAX_JOBS):
      part = new[start : start + _MAX_JOBS]
      number = jobs.submit(part, threads, options)
      runs = process.counted(len(part), 'run')
      print(f'slurm    job {number}: {runs} submitted', flush=True)
    yield from _wait(jobs, {task.name for task in tasks}, is_stopping)

  return execute


def _wait(
  jobs: _Jobs, waiting: set[str], is_stopping: Callable[[], bool]
) -> Iterator[Outcome | int]:
  """Yields how each job ended, and how many run, as an executor does."""
  gone: dict[str, float] = {}  # Since when jobs are not in the queue.
  looked, answers = time.monotonic(), True
  while waiting and not is_stopping():
    noted = waiting & jobs.noted()
    now = time.monotonic()
    if now - looked > (executors.SECONDS if noted else _QUEUE_SECONDS):
      looked = now
      try:
        jobs.look()
        answers = True
      except ExecutorError as error:
        if answers:
          print(f'{error}; asking again', file=sys.stderr, flush=True)
        answers = False
      gone = {run: gone.get(run, now) for run in waiting - jobs.queue.keys()}
    for run in sorted(noted):
      yield jobs.take(run)
    lost = {run for run, since in gone.items() if now - since > _NOTE_SECONDS}
    for run in sorted(lost & waiting - noted):
      job = jobs.over.get(run)
      how = f'{job.id} ended: {job.state}' if job else 'is gone'
      error = f'its job {how}; the same command goes on with it'
      yield Outcome(run, 'failed', error, {})
    waiting -= noted | lost
    yield sum(
      job.state == 'RUNNING'
      for run, job in jobs.queue.items()
      if run in waiting
    )
    time.sleep(executors.SECONDS)
  if numbers := jobs.numbers(sorted(waiting)):
    print(
      f'slurm    job {numbers}: left to SLURM, with '
      f'{process.counted(len(waiting), "run")}. To save and end:\n'
      f'scancel {numbers}'
    )
