"""Files of studies, of their layout and few pixels, written by the tests."""

import h5py
import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from vae.data import bits, datasets, drawn, sprites
from vae.data import tfds as tfds_source

# In dSprites' order of columns, of which the colour never changes.
_SIZES = {'shape': 3, 'scale': 2, 'orientation': 4, 'x': 5, 'y': 2}
_FACTORS = drawn.grid(tuple(_SIZES.values()))
_CLASSES = np.insert(_FACTORS, 0, 0, axis=1)


def load(path, data_dir):
  return datasets.load(str(path), data_dir, lambda line: None)


def assert_holds(dataset, images, factors, sizes):
  """Every image is in one split, beside its own factors."""
  assert list(dataset.factors.items()) == list(sizes.items())
  assert len(dataset.splits['test'].examples) == round(len(images) / 10)
  expected = {
    (*row, image.tobytes())
    for row, image in zip(factors.tolist(), images, strict=True)
  }
  found = [
    (*row, image.tobytes())
    for split in dataset.splits.values()
    for row, image in zip(
      split.factors.tolist(), np.asarray(split.examples), strict=True
    )
  ]
  assert len(found) == len(images) and set(found) == expected


# Matthey et al. 2017: "shape: square, ellipse, heart".
SHAPES = ['square', 'ellipse', 'heart']


def colours(count, *shape):
  generator = np.random.default_rng(0)
  return generator.integers(0, 256, [count, *shape], np.uint8)


@pytest.mark.parametrize('suffix', ['.npz', '.hdf5'])
def test_dsprites(tmp_path, suffix):
  images = sprites.images(_FACTORS, 16)
  binary = (images[..., 0] > 0).astype(np.uint8)
  path = tmp_path / f'dsprites{suffix}'
  if suffix == '.npz':
    metadata = np.array({'pickled': True}, dtype=object)
    np.savez_compressed(
      path, imgs=binary, latents_classes=_CLASSES, metadata=metadata
    )
  else:
    with h5py.File(path, 'w') as file:
      file['imgs'], file['latents/classes'] = binary, _CLASSES
  dataset = load(path, tmp_path)
  assert_holds(dataset, images, _FACTORS, _SIZES)
  assert dataset.provenance['value_names'] == {'shape': SHAPES}
  assert isinstance(dataset.splits['train'].examples, bits.PackedImages)


def test_shapes3d(tmp_path):
  names = ['floor_hue', 'wall_hue', 'object_hue', 'scale', 'shape']
  sizes = dict(zip([*names, 'orientation'], (2, 3, 2, 2, 2, 3), strict=True))
  factors = drawn.grid(tuple(sizes.values()))
  images = colours(len(factors), 4, 4, 3)
  with h5py.File(tmp_path / '3dshapes.h5', 'w') as file:
    # Values, not indices: hues in [0, 1), degrees, scales.
    file['images'], file['labels'] = images, factors * 0.1 - 0.3
  assert_holds(load(tmp_path / '3dshapes.h5', tmp_path), images, factors, sizes)


@pytest.mark.parametrize('colours_and_shapes', [4, 6])
def test_mpi3d(tmp_path, colours_and_shapes):
  sizes = {
    'object_color': colours_and_shapes,
    'object_shape': colours_and_shapes,
    'object_size': 2,
    'camera_height': 3,
    'background_color': 3,
    'horizontal_axis': 40,
    'vertical_axis': 40,
  }
  factors = drawn.grid(tuple(sizes.values()))
  number = np.arange(len(factors), dtype='<u4')
  images = number.view(np.uint8).reshape(-1, 4)[:, None, None, :3]
  np.savez(tmp_path / 'mpi3d_toy.npz', images=images)
  dataset = load(tmp_path / 'mpi3d_toy.npz', tmp_path)
  assert dict(dataset.factors) == sizes
  for split in dataset.splits.values():
    shown = split.examples.reshape(-1, 3) @ (2 ** np.array([0, 8, 16]))
    np.testing.assert_array_equal(factors[shown], split.factors)


def test_cars3d(tmp_path):
  folder = tmp_path / 'cars'
  folder.mkdir()
  cars = colours(3, 6, 6, 3, 5, 2)  # Azimuths, then elevations.
  for number, car in enumerate(cars):
    scipy.io.savemat(folder / f'car_{number:03d}_mesh.mat', {'im': car})
  (folder / 'list.txt').write_text('car_000_mesh\n')
  sizes = {'elevation': 2, 'azimuth': 5, 'object': 3}
  factors = drawn.grid(tuple(sizes.values()))
  images = np.array([cars[o, ..., a, e] for e, a, o in factors])
  assert_holds(load(folder, tmp_path), images, factors, sizes)


def test_cars3d_in_one_file(tmp_path):
  sizes = {'elevation': 4, 'azimuth': 24, 'object': 183}
  factors = drawn.grid(tuple(sizes.values()))
  images = colours(len(factors), 2, 2, 3)
  np.savez(tmp_path / 'cars3d.npz', imgs=images)
  assert_holds(load(tmp_path / 'cars3d.npz', tmp_path), images, factors, sizes)


def damage_truncate(path):
  path.write_bytes(path.read_bytes()[:-100])


def damage_length(path):
  np.savez(path, imgs=np.zeros([3, 2, 2], np.uint8), latents_classes=_CLASSES)


def damage_kind(path):
  np.savez(path, weights=np.zeros([3, 2, 2]))


def damage_pickle(path):
  np.savez(
    path,
    imgs=np.zeros([1, 2, 2], np.uint8),
    latents_classes=np.array([[{}]], dtype=object),
  )


@pytest.mark.parametrize(
  ('damage', 'reason'),
  [
    (damage_truncate, 'cannot be read'),
    (damage_length, 'do not go with'),
    (damage_kind, 'found weights'),
    (damage_pickle, 'cannot be read'),
  ],
)
def test_other_files_are_refused(tmp_path, damage, reason):
  path = tmp_path / 'dsprites.npz'
  np.savez(path, imgs=np.ones([240, 2, 2], 'u1'), latents_classes=_CLASSES)
  damage(path)
  with pytest.raises(datasets.DatasetError, match=reason):
    load(path, tmp_path)
  path = path.with_suffix('.h5')
  path.write_bytes(b'no HDF5')
  with pytest.raises(datasets.DatasetError, match='cannot be read'):
    load(path, tmp_path)


# -- TFDS ---------------------------------------------------------------------


def prepare(monkeypatch, data_dir, name, splits):
  """Has TFDS's own builder prepare records, in place of its download."""
  monkeypatch.setattr(tfds_source, '_bucket_answers', lambda: False)
  builder = tfds.builder(name, data_dir=data_dir)
  monkeypatch.setattr(
    builder,
    '_split_generators',
    lambda manager: {s: enumerate(records) for s, records in splits.items()},
  )
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )
  return builder


@pytest.mark.parametrize('name', ['dsprites', 'shapes3d'])
def test_tfds_labels_are_factors_without_a_test_split(
  monkeypatch, tmp_path, name
):
  features = tfds.builder(name, data_dir=tmp_path).info.features
  labels = [f for f in features if f.startswith('label_')]
  sizes = {
    label.removeprefix('label_'): features[label].num_classes
    for label in labels
  }
  factors = np.random.default_rng(0).integers(
    [*sizes.values()], size=[30, len(sizes)]
  )
  images = colours(30, *features['image'].shape)
  if name == 'dsprites':
    images &= 1
  records = [
    {f: 0.0 for f in features if f.startswith('value_')}
    | dict(zip(labels, row, strict=True))
    | {'image': image}
    for row, image in zip(factors, images, strict=True)
  ]
  prepare(monkeypatch, tmp_path, name, {'train': records})
  dataset = load(name, tmp_path)
  if name == 'dsprites':
    assert isinstance(dataset.splits['train'].examples, bits.PackedImages)
    assert dataset.provenance['value_names'] == {'shape': SHAPES}
    images *= 255
  else:  # TFDS numbers the values.
    assert 'value_names' not in dataset.provenance
  assert_holds(dataset, images, factors, sizes)


def test_smallnorb_keeps_its_test_split(monkeypatch, tmp_path):
  names = [
    'label_category',
    'instance',
    'label_elevation',
    'label_azimuth',
    'label_lighting',
  ]
  factors = np.random.default_rng(0).integers([5, 10, 9, 18, 6], size=[8, 5])
  images = colours(8, 96, 96, 1)
  records = [
    dict(zip(names, row, strict=True)) | {'image': image, 'image2': image}
    for row, image in zip(factors, images, strict=True)
  ]
  prepare(
    monkeypatch,
    tmp_path,
    'smallnorb',
    {'train': records[:5], 'test': records[5:]},
  )
  dataset = load('smallnorb', tmp_path)
  assert dict(dataset.factors) == {
    'category': 5,
    'instance': 10,
    'elevation': 9,
    'azimuth': 18,
    'lighting': 6,
  }
  assert 'test_share' not in dataset.provenance
  test = dataset.splits['test']
  assert len(test.examples) == 3
  for image, row in zip(test.examples, test.factors, strict=True):
    index = next(i for i in range(8) if (images[i] == image).all())
    assert index >= 5
    np.testing.assert_array_equal(row, factors[index])
