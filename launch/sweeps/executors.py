"""Trains the runs of a sweep: by processes of this machine, or a cluster.

An executor is a generator function of tasks, threads for each of them, and a
function that tells whether to stop. It yields how each task ended, as they do,
and now and then how many are being trained. Asked to stop, it lets these save,
and starts no other.
"""

import collections
import itertools
import logging
import math
import multiprocessing
import os
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, Protocol

from launch import process
from launch.sweeps import worker
from launch.sweeps.worker import Outcome, RunTask

# How often an executor looks whether it is to stop, and a process whether it
# still works for anyone.
SECONDS = 0.5

# How often a run is begun again whose process or node was lost.
RETRIES = 10


class ExecutorError(ValueError):
  """An executor cannot start; one line that says what it needs."""


class Executor(Protocol):
  """Trains the runs of a sweep."""

  def __call__(
    self,
    tasks: Sequence[RunTask],
    threads: int,
    is_stopping: Callable[[], bool],
  ) -> Iterator[Outcome | int]:
    """Yields how each task ended, and how many are being trained."""
    ...


# -- This machine -------------------------------------------------------------


def core_groups(threads: int) -> list[list[int]]:
  """Returns the cores that each process is pinned to, at most `threads`."""
  cores = sorted(os.sched_getaffinity(0))
  count = max(1, len(cores) // threads)
  return [
    cores[index * threads : (index + 1) * threads] for index in range(count)
  ]


def gpus() -> list[str]:
  """Returns CUDA_VISIBLE_DEVICES for each GPU alone; one empty for none."""
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is None:
    found = pathlib.Path('/dev').glob('nvidia[0-9]*')
    visible = ','.join(str(index) for index, _ in enumerate(found))
  return visible.split(',')


def _serve(
  pipe: connection.Connection, cores: Sequence[int], gpu: str, parent: int
) -> None:
  """The process of a `_Worker`: trains what comes through the pipe."""
  if gpu:
    os.environ['CUDA_VISIBLE_DEVICES'] = gpu
  # A Ctrl-C goes to the sweep alone, which hands it on once.
  os.setsid()
  os.sched_setaffinity(0, cores)

  def leave_with_the_sweep() -> None:
    while os.getppid() == parent:
      time.sleep(SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)  # As by hand: the run is saved.

  threading.Thread(target=leave_with_the_sweep, daemon=True).start()
  while True:
    try:
      task = pipe.recv()
    except EOFError:
      os._exit(0)  # Taking TensorFlow apart takes a second.
    pipe.send(worker.train(task))


class _Worker:
  """A process that trains one run at a time, as the sweep sees it."""

  def __init__(self, cores: Sequence[int], gpu: str):
    context = multiprocessing.get_context('spawn')
    self.pipe, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(theirs, cores, gpu, os.getpid()), daemon=True
    )
    self._process.start()
    theirs.close()  # So that its end is the end of the pipe.
    self.cores, self.gpu = cores, gpu
    self.task: RunTask | None = None

  def start(self, task: RunTask) -> None:
    self.task = task
    self.pipe.send(task)

  def take(self) -> tuple[RunTask, Outcome]:
    """Its task, and how it ended; a process that died ends it too."""
    assert self.task is not None
    task, self.task = self.task, None
    try:
      return task, self.pipe.recv()
    except (EOFError, ConnectionResetError):
      self._process.join()
      code = self._process.exitcode or 0
      how = signal.Signals(-code).name if code < 0 else f'exit code {code}'
      return task, Outcome(task.name, 'failed', f'its process died ({how})', {})

  @property
  def is_alive(self) -> bool:
    return self._process.is_alive()

  def interrupt(self) -> None:
    self._process.terminate()

  def close(self) -> None:
    """Lets the process end."""
    self.pipe.close()
    self._process.join()


def local(
  tasks: Sequence[RunTask], threads: int, is_stopping: Callable[[], bool]
) -> Iterator[Outcome | int]:
  """Trains in a process for every `threads` cores, pinned to them and a GPU."""
  waiting = collections.deque(tasks)
  groups = core_groups(threads)[: len(tasks)]
  workers = [*map(_Worker, groups, itertools.cycle(gpus()))]
  interrupted = False
  try:
    while True:
      for index, one in enumerate(workers):
        if one.task is None and waiting and not is_stopping():
          if not one.is_alive:
            one.close()
            workers[index] = one = _Worker(one.cores, one.gpu)
          one.start(waiting.popleft())
      busy = [one for one in workers if one.task is not None]
      if not busy:
        return
      if is_stopping() and not interrupted:
        interrupted = True
        for one in busy:
          one.interrupt()
      yield len(busy)
      ready = connection.wait([one.pipe for one in busy], SECONDS)
      for one in busy:
        if one.pipe not in ready:
          continue
        task, ended = one.take()
        if interrupted and not one.is_alive:
          # It had nothing to save yet, or had saved all.
          ended = Outcome(ended.name, 'interrupted', '', {})
        elif ended.status == 'interrupted' and not is_stopping():
          waiting.append(task)  # Somebody stopped it alone.
          continue
        yield ended
  finally:
    for one in workers:
      if one.task is not None:  # An error of the sweep: its run is saved.
        one.interrupt()
      one.close()


# -- A cluster ----------------------------------------------------------------


def ray(
  tasks: Sequence[RunTask], threads: int, is_stopping: Callable[[], bool]
) -> Iterator[Outcome | int]:
  """Trains on Ray's cluster: that of `ray start` here, or a new one.

  Run and data folders must be on a file system that all nodes share. The runs
  of a node that is lost go on elsewhere from their checkpoints.
  """
  try:
    import ray
  except ImportError:
    raise ExecutorError(
      "--executor=ray: Ray is not installed; pip install -e '.[ray]' does so"
    ) from None
  root = str(pathlib.Path(__file__).parents[2])
  paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
  handler = signal.getsignal(signal.SIGTERM)
  options: dict[str, Any] = {
    'log_to_driver': False,
    'logging_level': logging.ERROR,
    'runtime_env': {'env_vars': {'PYTHONPATH': os.pathsep.join(paths)}},
  }
  where = 'joined the cluster'
  try:
    ray.init(address='auto', **options)
  except ConnectionError:  # No cluster was started.
    from ray._private import ray_constants

    # Anyone who reaches Ray's ports can run code. It hears this machine alone
    # where its node is the loopback address, which it takes only so.
    ray_constants.ENABLE_RAY_CLUSTER = False
    options |= {'_node_ip_address': '127.0.0.1', 'include_dashboard': False}
    where = 'a cluster of its own'
    ray.init(address='local', **options)
  signal.signal(signal.SIGTERM, handler)  # Ray puts one of its own.
  control = ray.get_runtime_context().gcs_address
  nodes = process.counted(sum(n['Alive'] for n in ray.nodes()), 'node')
  print(f'ray      {where} at {control}: {nodes}', flush=True)
  try:
    per_gpu = _runs_per_gpu(ray.nodes(), threads)
    if not _capacity(ray.nodes(), threads, per_gpu):
      raise ExecutorError(
        f'--threads={threads}: no node of the cluster has as many cores'
      )
    # Ray keeps a process for the next task of the same kind, which so finds
    # what the last one compiled, but with a GPU. It retries what lost its
    # process or node, and counts GPUs in units of 1e-4.
    train = ray.remote(
      num_cpus=threads,
      num_gpus=per_gpu and 10_000 // per_gpu / 10_000,
      max_retries=RETRIES,
    )(worker.train)
    pending = {train.remote(task): task for task in tasks}
    interrupted = False
    while pending:
      if is_stopping() and not interrupted:
        interrupted = True
        for reference in pending:
          ray.cancel(reference)
      _check_control(control)  # Ray itself would wait a minute, and abort.
      yield min(len(pending), _capacity(ray.nodes(), threads, per_gpu))
      ready, _ = ray.wait([*pending], num_returns=1, timeout=SECONDS)
      for reference in ready:
        task = pending.pop(reference)
        try:
          ended = ray.get(reference)
        except ray.exceptions.TaskCancelledError:
          ended = Outcome(task.name, 'interrupted', '', {})
        except ray.exceptions.RayError as error:
          line = ' '.join(str(error).split())
          ended = Outcome(task.name, 'failed', line[:300], {})
        if ended.status == 'interrupted' and not is_stopping():
          pending[train.remote(task)] = task  # Its node is leaving.
          continue
        yield ended
  finally:
    ray.shutdown()


def _check_control(address: str) -> None:
  """Raises ExecutorError where a cluster's control process has ended."""
  host, port = address.rsplit(':', 1)
  try:
    socket.create_connection((host.strip('[]'), int(port)), 30).close()
  except OSError as error:
    raise ExecutorError(
      f"Ray's control process at {address} is gone ({error}); started again, "
      'the sweep goes on'
    ) from error


def _runs_per_gpu(nodes: Sequence[dict[str, Any]], threads: int) -> int:
  """Counts the runs that share a GPU where the cores beside GPUs all train.

  None without GPUs; else nodes that lack them train nothing.
  """
  found = [node['Resources'] for node in nodes if node['Alive']]
  found = [resources for resources in found if resources.get('GPU')]
  runs = sum(int(resources.get('CPU', 0)) // threads for resources in found)
  return math.ceil(runs / sum(each['GPU'] for each in found)) if found else 0


def _capacity(
  nodes: Sequence[dict[str, Any]], threads: int, per_gpu: int
) -> int:
  """Counts the runs that the nodes of a cluster can train at once."""
  total = 0
  for node in nodes:
    if node['Alive']:
      runs = int(node['Resources'].get('CPU', 0)) // threads
      if per_gpu:
        runs = min(runs, int(node['Resources'].get('GPU', 0)) * per_gpu)
      total += runs
  return total


EXECUTORS: dict[str, Executor] = {'local': local, 'ray': ray}
