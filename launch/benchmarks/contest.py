"""Loops that take turns, each in a process of its own.

Frameworks that share a process fight over its threads, and nobody uses them so.
A contestant is a module that its process alone imports. It has a `VERSION`, of
what is timed, and a function `load`, which makes the `Loop` of a `Problem`. No
TensorFlow here: contestants import this module beside whatever they time.
"""

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

# Does some steps and returns the losses of all of them, or of the last alone.
# One that also does what comes once in a training has an attribute `seconds`:
# what the steps of its last call took.
Loop = Callable[[int], Sequence[Any]]


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
    permutation: uniform draws, [K, B, L]; FactorVAE puts each latent of a batch
      in the order of its draws.
  """

  batches: np.ndarray
  noise: np.ndarray
  dropout: np.ndarray
  permutation: np.ndarray


class Problem(NamedTuple):
  """A problem that every contestant computes.

  The loss is the mean over the batch of
  `distortion_weight * distortion + rate_weight * rate`, both in nats, and what
  the objective adds.

  Attributes:
    settings: those of `launch.settings.config.Config`.
    images: uint8 [N, H, W, C].
    encoder: initial values of its layers, from images to parameters.
    decoder: of its layers, from latents to logits.
    discriminator: of FactorVAE's, from latents to two logits; else empty.
    recorded: None where a loop draws for itself.
  """

  settings: Mapping[str, Any]
  images: np.ndarray
  encoder: Sequence[Layer]
  decoder: Sequence[Layer]
  discriminator: Sequence[Layer]
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


def threads() -> int:
  """Returns how many threads contestants use: one for each core there is."""
  return len(os.sched_getaffinity(0))


class Contestant:
  """A loop in a process that waits idly between its turns."""

  def __init__(self, name: str, module: str, kind: str):
    """Initializes the contestant, whose process starts when it is first needed.

    Args:
      name: in tables and figures.
      module: that its process imports.
      kind: which of the module's loops.
    """
    self.name = name
    self._module, self._kind = module, kind
    self._process = futures.ProcessPoolExecutor(
      1, multiprocessing.get_context('spawn'), _silence
    )

  def __enter__(self) -> 'Contestant':
    return self

  def __exit__(self, *error: object) -> None:
    self._process.shutdown()

  def call(self, function: str, *arguments: Any) -> Any:
    """Returns what a function of its module does, or raises its error."""
    return self._call(_call, self._module, function, *arguments)

  def load(self, problem: Problem) -> str:
    """Has it make the loop of a problem; returns the version of what is timed.

    Raises:
      Exception: what its module raises, or an error that says that it died.
    """
    return self._call(_load, self._module, self._kind, problem)

  def run(self, steps: int) -> tuple[float, list[float]]:
    """Has it do some steps; returns the seconds, and losses up to the last.

    Raises:
      Exception: as `load`.
    """
    return self._call(_run, steps)

  def _call(self, function: Callable, *arguments: Any) -> Any:
    return self._process.submit(function, *arguments).result()


# -- In a contestant's process ------------------------------------------------

_loop: Loop | None = None


def _silence() -> None:
  """Keeps what frameworks print from the tables; errors come back as such."""
  null = os.open(os.devnull, os.O_WRONLY)
  os.dup2(null, 1)
  os.dup2(null, 2)


def _call(module: str, function: str, *arguments: Any) -> Any:
  return getattr(importlib.import_module(module), function)(*arguments)


def _load(module: str, kind: str, problem: Problem) -> str:
  global _loop
  _loop = None  # Its memory, before the next one takes as much.
  _loop = _call(module, 'load', problem, kind)
  return importlib.import_module(module).VERSION


def _run(steps: int) -> tuple[float, list[float]]:
  assert _loop is not None
  started = time.perf_counter()
  losses = _loop(steps)
  seconds = time.perf_counter() - started
  return getattr(_loop, 'seconds', seconds), [float(loss) for loss in losses]
