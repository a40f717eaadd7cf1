"""What a source of data gives: splits with their provenance, or one reason.

`vae.data.chain` asks the sources, each of which is one file: `tfds`, `idx`,
`npm`, `local`. `vae.data.datasets` prepares what they give, once, into
memory-mapped files.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from vae import randomness

SPLITS = ('train', 'validation', 'test')

Report = Callable[[str], None]


class SourceError(ValueError):
  """A source cannot serve; the message is one sentence that says why."""


class DamagedError(ValueError):
  """Files that are there are not what they should be: no source replaces them.

  Going on with another source would hide the damage.
  """


class SourceSplit(NamedTuple):
  """One split: its images in batches, and how many there are.

  Attributes:
    num_examples: N.
    shape: [H, W, C], or [F] for a table.
    batches: yields (images [n, H, W, C] or rows [n, F], int64 labels [n] or
      None).
    dtype: uint8 for images, float32 for a table.
  """

  num_examples: int
  shape: tuple[int, ...]
  batches: Callable[[], Iterator[tuple[np.ndarray, np.ndarray | None]]]
  dtype: type = np.uint8


class SourceData(NamedTuple):
  """A dataset as its source gives it."""

  version: str
  source: str
  splits: Mapping[str, SourceSplit]


def in_memory(examples: np.ndarray, labels: np.ndarray | None) -> SourceSplit:
  return SourceSplit(
    len(examples),
    examples.shape[1:],
    lambda: iter([(examples, labels)]),
    examples.dtype.type,
  )


def cut(
  groups: list[np.ndarray], num_test: Callable[[int], int]
) -> tuple[np.ndarray, np.ndarray]:
  """A fixed, seeded cut of each group of indices into train and test."""
  train, test = [], []
  for step, group in enumerate(groups):
    generator = randomness.host_generator(0, randomness.Purpose.SPLIT, step)
    order = generator.permutation(group)
    cut = num_test(len(group))
    test.append(order[:cut])
    train.append(order[cut:])
  return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))
