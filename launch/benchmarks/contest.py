"""Loops that run in turn, each in a process of its own.

Frameworks that share a process fight over its threads, and nobody uses them so.
A contestant reads one JSON object from each line of its standard input, and
answers it with one line:

    {"problem": PATH}  ->  {"version": "torch 2.13.0"}
    {"steps": 200}  ->  {"seconds": 0.31, "losses": [..., 0.2538]}

and waits idly between its turns. No TensorFlow here: contestants import this
module beside whatever they time.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

# Does some steps and returns the losses of all of them, or of the last alone.
Loop = Callable[[int], Sequence[Any]]


class ContestError(ValueError):
  """A process that was to be timed failed; one line that says which and why."""


class Layer(NamedTuple):
  """Initial values of a layer.

  Attributes:
    w: [inputs, outputs]; [H, W, inputs, outputs] of a convolution, and
      [H, W, outputs, inputs] of a transposed one.
    b: [outputs].
  """

  w: np.ndarray
  b: np.ndarray


class Recorded(NamedTuple):
  """The draws of K steps, for loops that are to do the same to the digit.

  Attributes:
    batches: which images, int [K, B].
    noise: standard normal draws of the posterior, [K, B, L].
    dropout: uniform draws, [K, B, features]; a feature is kept where its draw
      is at least the rate.
  """

  batches: np.ndarray
  noise: np.ndarray
  dropout: np.ndarray


class Problem(NamedTuple):
  """A problem that every contestant computes.

  The loss is the mean over the batch of
  `distortion_weight * distortion + rate_weight * rate`, both in nats.

  Attributes:
    settings: those of `launch.settings.config.Config`.
    images: uint8 [N, H, W, C].
    encoder: initial values of its layers, from images to parameters.
    decoder: of its layers, from latents to logits.
    recorded: None where a loop draws for itself.
  """

  settings: Mapping[str, Any]
  images: np.ndarray
  encoder: Sequence[Layer]
  decoder: Sequence[Layer]
  recorded: Recorded | None

  @property
  def distortion_weight(self) -> float:
    """Under `mean`, the distortion is a mean over pixels."""
    mean = self.settings['reduction'] == 'mean'
    return 1.0 / self.images[0].size if mean else 1.0

  @property
  def rate_weight(self) -> float:
    """Under `mean`, beta times a mean over latents."""
    mean = self.settings['reduction'] == 'mean'
    latents = self.settings['latent_size'] if mean else 1
    return self.settings['beta'] / latents

  def float_images(self) -> np.ndarray:
    """Returns the images in [0, 1], float32 [N, H, W, C]."""
    return self.images.astype(np.float32) / np.float32(255)

  def batches(self) -> Iterator[np.ndarray]:
    """Yields the indices of each batch, [B]: recorded, or permuted for ever."""
    if self.recorded:
      yield from self.recorded.batches
      return
    size = self.settings['batch_size']
    generator = np.random.default_rng(self.settings['seed'])
    while True:
      order = generator.permutation(len(self.images))
      yield from order[: len(order) // size * size].reshape(-1, size)


def write_problem(path: pathlib.Path, problem: Problem) -> None:
  """Writes a problem as .npz."""
  arrays = {
    'images': problem.images,
    'settings': json.dumps(dict(problem.settings)),
  }
  for name, layers in (
    ('encoder', problem.encoder),
    ('decoder', problem.decoder),
  ):
    for index, layer in enumerate(layers):
      arrays[f'{name}/{index}/w'], arrays[f'{name}/{index}/b'] = layer
  if problem.recorded:
    arrays |= problem.recorded._asdict()
  np.savez(path, allow_pickle=False, **arrays)


def read_problem(path: str | os.PathLike) -> Problem:
  """Reads what `write_problem` wrote."""
  with np.load(path, allow_pickle=False) as file:
    arrays = {name: file[name] for name in file.files}

  def layers(name: str) -> list[Layer]:
    count = sum(key.startswith(f'{name}/') for key in arrays) // 2
    return [
      Layer(arrays[f'{name}/{index}/w'], arrays[f'{name}/{index}/b'])
      for index in range(count)
    ]

  recorded = None
  if 'batches' in arrays:
    recorded = Recorded(*(arrays[name] for name in Recorded._fields))
  settings = json.loads(str(arrays['settings']))
  return Problem(
    settings, arrays['images'], layers('encoder'), layers('decoder'), recorded
  )


def threads() -> int:
  """Returns how many threads contestants use: one for each core there is."""
  return len(os.sched_getaffinity(0))


# -- The contestant's side ----------------------------------------------------


def serve(
  load: Callable[[Problem], Loop],
  version: str,
  seconds_of_last: Callable[[], float] | None = None,
) -> None:
  """Answers requests until there are no more.

  Args:
    load: makes the loop of a problem.
    version: of what is timed, such as 'torch 2.13.0'.
    seconds_of_last: what the steps of the last call took, for a loop that also
      does what comes once in a training; None to time whole calls.
  """
  # What frameworks print must not get between the answers.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  loop: Loop | None = None
  for line in sys.stdin:
    request = json.loads(line)
    if 'problem' in request:
      loop = None  # Its memory, before the next one takes as much.
      loop = load(read_problem(request['problem']))
      answer: dict[str, Any] = {'version': version}
    else:
      assert loop is not None
      started = time.perf_counter()
      losses = loop(request['steps'])
      seconds = time.perf_counter() - started
      if seconds_of_last:
        seconds = seconds_of_last()
      answer = {'seconds': seconds, 'losses': [float(loss) for loss in losses]}
    print(json.dumps(answer), file=answers, flush=True)


# -- The benchmark's side -----------------------------------------------------


def _environment() -> dict[str, str]:
  """The environment of a process that is timed.

  This package is found from anywhere, and nothing that `vae` sets for
  TensorFlow is handed down.
  """
  root = str(pathlib.Path(__file__).parents[2])
  paths = [root, os.environ.get('PYTHONPATH', '')]
  result = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
  result.pop('TF_USE_LEGACY_KERAS', None)
  return result


def _failure(name: str, errors: IO[str]) -> ContestError:
  """Tells what a process said last before it failed."""
  errors.seek(0)
  said = errors.read().strip().splitlines() or ['nothing']
  return ContestError(f'{name}: failed, and said last: {said[-1]}')


class Measured(NamedTuple):
  """The time and memory that a process took.

  Attributes:
    seconds: from its start to its end.
    peak_mib: the most memory it had, in MiB.
  """

  seconds: float
  peak_mib: float


def measure(arguments: Sequence[str]) -> Measured:
  """Runs Python with some arguments, to the end.

  The caller must be small: what it holds itself is the least that Linux says
  about the peak of the process that it starts.

  Raises:
    ContestError: it failed.
  """
  with tempfile.TemporaryFile('w+', errors='replace') as errors:
    started = time.perf_counter()
    process = subprocess.Popen(
      [sys.executable, *arguments],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=errors,
      env=_environment(),
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      raise _failure(' '.join(arguments), errors)
  return Measured(seconds, usage.ru_maxrss / 1024)


class Contestant:
  """A process that waits for its turn; made by `start`."""

  def __init__(
    self, name: str, process: subprocess.Popen[str], errors: IO[str]
  ):
    """Initializes the contestant.

    Args:
      name: for messages.
      process: runs `serve`.
      errors: where its standard error goes.
    """
    self.name = name
    self._process = process
    self._errors = errors

  def load(self, problem: pathlib.Path) -> str:
    """Has it make the loop of a problem; returns the version of what is timed.

    Raises:
      ContestError: it failed.
    """
    return self._ask(problem=str(problem))['version']

  def run(self, steps: int) -> tuple[float, list[float]]:
    """Has it do some steps; returns the seconds, and losses up to the last.

    Raises:
      ContestError: it failed.
    """
    answer = self._ask(steps=steps)
    return answer['seconds'], answer['losses']

  def _ask(self, **request: Any) -> dict[str, Any]:
    assert self._process.stdin and self._process.stdout
    line = ''
    with contextlib.suppress(BrokenPipeError):
      print(json.dumps(request), file=self._process.stdin, flush=True)
      line = self._process.stdout.readline()
    if not line:
      self._process.wait()
      raise _failure(self.name, self._errors)
    return json.loads(line)


@contextlib.contextmanager
def start(name: str, arguments: Sequence[str]) -> Iterator[Contestant]:
  """Starts a contestant, which ends where the `with` does.

  Args:
    name: for messages.
    arguments: of Python.
  """
  with (
    tempfile.TemporaryFile('w+', errors='replace') as errors,
    subprocess.Popen(
      [sys.executable, *arguments],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
      env=_environment(),
    ) as process,
  ):
    try:
      yield Contestant(name, process, errors)
    finally:
      process.kill()
      assert process.stdin
      # What a dead contestant could not be asked any more.
      with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
