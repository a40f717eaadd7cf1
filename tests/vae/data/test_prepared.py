import errno
import os

import numpy as np
import PIL.Image
import pytest

from vae.data import bits, datasets, images, prepared, sources


def quiet(line):
  del line


def test_what_is_mapped_is_allocated(tmp_path):
  array = prepared._allocated(tmp_path / 'x.npy', np.uint8, (1000, 1000))
  status = (tmp_path / 'x.npy').stat()
  assert status.st_blocks * 512 >= status.st_size > array.nbytes == 10**6


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
  def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(
    datasets.DatasetError, match=r'^--data_dir=\S+: .*No space left'
  ):
    datasets.load('mnist_5k', tmp_path, quiet)
  assert not [p for p in (tmp_path / 'prepared').iterdir() if p.is_dir()]


def test_files_are_hashed_again_only_where_they_were_touched(
  tmp_path, monkeypatch
):
  datasets.load('mnist_5k', tmp_path, quiet)
  hashed = []
  digest = prepared._sha256
  monkeypatch.setattr(
    prepared,
    '_sha256',
    lambda path, images: hashed.append(path.name) or digest(path, images),
  )
  datasets.load('mnist_5k', tmp_path, quiet)
  assert not hashed
  os.utime(tmp_path / 'prepared' / 'mnist_5k@2' / 'test_images.npy')
  datasets.load('mnist_5k', tmp_path, quiet)
  assert hashed == ['test_images.npy']


def test_black_and_white_images_are_packed_and_keep_their_factors(tmp_path):
  factors = np.stack(np.unravel_index(np.arange(60), (3, 20)), axis=-1)
  images = np.random.default_rng(0).random([60, 5, 3, 1]) < 0.5
  data = sources.SourceData(
    '1',
    'test',
    {'train': sources.in_memory(images, factors=factors)},
    factors={'shape': 3, 'x': 20},
  )
  prepared.write('test', data, tmp_path, sources.OPTIONS, sources.CUT)
  splits, provenance = prepared.read(tmp_path)
  assert provenance['factors'] == [['shape', 3], ['x', 20]]
  assert provenance['num_images'] == {'train': 54, 'test': 6}
  seen = []
  for split in splits.values():
    assert isinstance(split['examples'], bits.PackedImages)
    rows = np.ravel_multi_index(tuple(split['factors'].T), (3, 20))
    np.testing.assert_array_equal(split['examples'], images[rows] * 255)
    seen += [*rows]
  assert sorted(seen) == [*range(60)]


def write_masks(path, masks):
  if path.suffix == '.npy':
    np.save(path, masks)
  elif path.suffix == '.npz':
    np.savez(path, images=masks)
  else:
    path.mkdir()
    for number, mask in enumerate(masks):
      PIL.Image.fromarray(mask).save(path / f'{number:02}.png')


@pytest.mark.parametrize('kind', ['npy', 'npz', 'folder'])
@pytest.mark.parametrize('white', [1, 255])
def test_images_of_two_values_are_binary_and_said_to_be(tmp_path, kind, white):
  masks = np.random.default_rng(0).integers(0, 2, [20, 5, 6], np.uint8)
  path = tmp_path / f'masks.{kind}'
  write_masks(path, masks * np.uint8(white))
  found = datasets.load(str(path), tmp_path / 'data', quiet)
  assert found.provenance['pixels'] == 'binary'
  said = f'0 or {white}, taken as black and white'
  assert said in found.provenance['source']
  held = np.concatenate([np.asarray(s.examples) for s in found.splits.values()])
  assert sorted(map(bytes, held)) == sorted(map(bytes, masks * np.uint8(255)))
  # A run that an older version started finds its data as they were.
  older = datasets.load(str(path), tmp_path / 'data', quiet, cut=2)
  assert 'pixels' not in older.provenance
  np.testing.assert_array_equal(
    older.splits['test'].examples, found.splits['test'].examples
  )


@pytest.mark.parametrize('kind', ['npy', 'npz', 'folder'])
@pytest.mark.parametrize('white', [True, 1, 255])
def test_images_of_two_values_keep_them_at_another_size(tmp_path, kind, white):
  squares = np.zeros([20, 9, 9], np.uint8)
  for number, square in enumerate(squares):
    square[: number // 5 + 4, : number % 5 + 4] = 1
  path = tmp_path / f'masks.{kind}'
  write_masks(path, squares.astype(bool) if white is True else squares * white)
  options = sources.Options(image_size=6)
  found = datasets.load(str(path), tmp_path / 'data', quiet, options)
  assert found.provenance['pixels'] == 'binary'
  expected = [
    np.where(images.fitted(square[..., None] * np.uint8(255), 6) > 127, 255, 0)
    for square in squares
  ]
  held = np.concatenate([np.asarray(s.examples) for s in found.splits.values()])
  assert sorted(map(bytes, held)) == sorted(
    image.astype(np.uint8).tobytes() for image in expected
  )


def test_a_given_split_that_lacks_a_class_says_so(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, [9, 4, 4, 1], np.uint8)
  labels = np.arange(9) % 3
  splits = {
    'train': sources.in_memory(images, labels),
    'test': sources.in_memory(images[:2], labels[:2]),
  }
  data = sources.SourceData('1', 'here', splits, label_names=('a', 'b', 'c'))
  prepared.write('test', data, tmp_path, sources.OPTIONS, sources.CUT)
  _, provenance = prepared.read(tmp_path)
  assert provenance['source'] == (
    'here; WARNING: its test split lacks 1 of 3 classes, such as c'
  )
