"""Sources of data, which give splits with their provenance, or a reason.

`vae.data.chain` asks the sources, each of which is one file. What they give,
`vae.data.prepared` writes once into memory-mapped files.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vae import randomness

# Of the examples, where the source has no test split and no other is asked for.
TEST_SHARE = 0.1

SPLITS = ('train', 'validation', 'test')

# How splits are cut and mixed; part of what a prepared dataset is. 1, before
# there was a number: in the source's order, so that the last of the training
# examples, which became the validation split, were often of one class. 2: in
# which people's own images of two values were grey ones.
CUT = 3

Report = Callable[[str], None]


class SourceError(ValueError):
  """A source cannot serve; the message is one sentence that says why."""


class DamagedError(ValueError):
  """Files that are there are not what they should be: no source replaces them.

  Going on with another source would hide the damage.
  """


def one_line(error: Exception | str) -> str:
  """Returns what an error says, on one line of at most 200 characters."""
  return ' '.join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
  """Turns whatever goes wrong while a file is read into a `DamagedError`.

  Readers of NumPy, zip, HDF5 and MATLAB files raise dozens of kinds where bytes
  are damaged.

  Args:
    path: of the file, which the error names.
  """
  try:
    yield
  except (SourceError, DamagedError):
    raise
  except Exception as error:
    raise DamagedError(f'{path} cannot be read: {one_line(error)}') from error


class Options(NamedTuple):
  """The ways to read a dataset that its source leaves open.

  Attributes:
    test_share: of the examples that are cut for testing, in [0, 1); where it is
      0, there is no test split. None for `TEST_SHARE`.
    image_size: height and width; None for the data's own.
    label_column: of a table; None for none.
  """

  test_share: float | None = None
  image_size: int | None = None
  label_column: str | None = None


OPTIONS = Options()


class SourceSplit(NamedTuple):
  """One split: its examples in batches, and what is known of each.

  Attributes:
    num_examples: N.
    shape: [H, W, C], or [F] for a table.
    batches: yields images [n, H, W, C], or rows [n, F], in order.
    labels: int64 [N], or None where there are none.
    factors: int64 [N, K], or None where they are not known.
    dtype: uint8 for images; bool for those of black and white, whose pixels
      are white where they are not 0; float64 for a table.
  """

  num_examples: int
  shape: tuple[int, ...]
  batches: Callable[[], Iterator[np.ndarray]]
  labels: np.ndarray | None = None
  factors: np.ndarray | None = None
  dtype: type = np.uint8


class SourceData(NamedTuple):
  """A dataset as its source gives it.

  Attributes:
    version: of the dataset.
    source: where it comes from, in words.
    splits: by name. Where there is no 'test', it is cut from 'train'.
    factors: number of values of each factor, by name, in their order.
    value_names: of the values of factors whose values have names, by theirs.
    label_names: of the labels 0, 1, ...; None where they have none.
    in_order: whether the examples keep their order, because the source has
      mixed them already; else they are mixed when they are prepared.
  """

  version: str
  source: str
  splits: Mapping[str, SourceSplit]
  factors: Mapping[str, int] = {}
  value_names: Mapping[str, tuple[str, ...]] = {}
  label_names: tuple[str, ...] | None = None
  in_order: bool = False


def in_memory(
  examples: np.ndarray,
  labels: np.ndarray | None = None,
  factors: np.ndarray | None = None,
) -> SourceSplit:
  """Returns a split of arrays [N, ...]; see `SourceSplit`."""
  return SourceSplit(
    len(examples),
    examples.shape[1:],
    lambda: iter([examples]),
    labels,
    factors,
    examples.dtype.type,
  )


def coded(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...] | None]:
  """Returns labels as integers, and their names where they had other values.

  Args:
    values: integers, or anything that becomes text, [N].

  Returns:
    int64 [N], and the names of 0, 1, ...; None where values were integers.
  """
  try:
    numbers = values.astype(np.float64)
    if (numbers == numbers.astype(np.int64)).all():
      return numbers.astype(np.int64), None
  except (ValueError, OverflowError):
    pass
  names, codes = np.unique(values.astype(str), return_inverse=True)
  return codes.astype(np.int64), tuple(map(str, names))


def mixed(num_examples: int, labels: np.ndarray | None = None) -> np.ndarray:
  """Returns a fixed permutation; any stretch of it has each class's share.

  No run's seed changes it. The members of a class, permuted, are laid out
  evenly over the whole: n following ones of N hold n / N of each class, up to
  one example.

  Args:
    num_examples: N.
    labels: int64 [N]; without them all examples are of one class.

  Returns:
    int64 [N].
  """
  generator = randomness.host_generator(0, randomness.Purpose.SPLIT, 0)
  order = generator.permutation(num_examples)
  if labels is None:
    return order
  places = np.empty(num_examples)
  labels = labels[order]
  for label in np.unique(labels):
    members = np.flatnonzero(labels == label)
    places[members] = (np.arange(len(members)) + 0.5) / len(members)
  return order[np.argsort(places, kind='stable')]


def cut(
  num_examples: int, num_cut: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts examples in two, in shares of each class and a fixed, mixed order.

  Args:
    num_examples: N.
    num_cut: size of the second part.
    labels: int64 [N], or None.

  Returns:
    Which examples are of the first and of the second part.

  Raises:
    SourceError: a part would be empty, or lack a class.
  """
  if not 0 < num_cut < num_examples:
    raise SourceError(
      f'{num_examples:,} examples cannot be cut into '
      f'{num_examples - num_cut:,} and {num_cut:,}'
    )
  order = mixed(num_examples, labels)
  parts = order[:-num_cut], order[-num_cut:]
  if labels is not None:
    check_classes(labels, [labels[part] for part in parts])
  return parts


def check_classes(labels: np.ndarray, parts: Sequence[np.ndarray]) -> None:
  """Checks that each part of some labels holds every class.

  Raises:
    SourceError: one does not; the numbers are given.
  """
  classes, counts = np.unique(labels, return_counts=True)
  for part in parts:
    missing = np.setdiff1d(classes, part)
    if missing.size:
      raise SourceError(
        f'{len(part):,} of {len(labels):,} examples cannot hold each of the '
        f'{len(classes):,} classes in its share: class {missing[0]} has '
        f'{counts[classes == missing[0]][0]:,}'
      )
