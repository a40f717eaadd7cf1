"""Files of data that the tests share."""

import numpy as np
import PIL.Image


def quiet(line):
  del line


def write_images(folder, count, size=(6, 5), mode='RGB'):
  folder.mkdir(parents=True, exist_ok=True)
  generator = np.random.default_rng(0)
  arrays = []
  for number in range(count):
    shape = (*size, 3) if mode == 'RGB' else size
    array = generator.integers(0, 256, shape, np.uint8)
    PIL.Image.fromarray(array, mode).save(folder / f'{number:03d}.png')
    arrays.append(array)
  return arrays


def classes(dataset):
  return {
    name: tuple(np.bincount(split.labels))
    for name, split in dataset.splits.items()
  }
