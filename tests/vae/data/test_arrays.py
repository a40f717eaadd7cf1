import numpy as np
import pytest

from tests.vae.data import builders
from vae.data import arrays, bits, datasets, sources, studies

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (20, 5, 4), np.uint8)


def images(data, split='train'):
  return np.concatenate([*data.splits[split].batches()])


@pytest.mark.parametrize('shape', [(5, 4), (5, 4, 1), (5, 4, 3)])
@pytest.mark.parametrize('kind', ['uint8', 'float32', 'float64'])
def test_images_are_bytes_or_floats(tmp_path, shape, kind):
  pixels = GENERATOR.integers(0, 256, (2100, *shape), np.uint8)
  array = pixels if kind == 'uint8' else (pixels / 255).astype(kind)
  np.save(tmp_path / 'x.npy', array)
  np.savez(tmp_path / 'x.npz', images=array)
  for name in ('x.npy', 'x.npz'):
    found = images(arrays.read(tmp_path / name))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels.reshape(found.shape))
    assert found.ndim == 4


def test_black_and_white_images_are_packed(tmp_path):
  np.save(tmp_path / 'x.npy', IMAGES > 99)
  dataset = datasets.load(str(tmp_path / 'x.npy'), tmp_path, builders.quiet)
  assert isinstance(dataset.splits['train'].examples, bits.PackedImages)


def test_labels_and_factors_go_with_their_images(tmp_path):
  places = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=-1)
  np.savez(
    tmp_path / 'x.npz',
    images=IMAGES,
    labels=np.array(['cat', 'dog'])[places[:, 0] % 2],
    factors=places * 0.5,
    factor_names=['x', 'hue'],
  )
  dataset = datasets.load(str(tmp_path / 'x.npz'), tmp_path, builders.quiet)
  assert dataset.factors == {'x': 4, 'hue': 5}
  assert dataset.provenance['label_names'] == ['cat', 'dog']
  for split in dataset.splits.values():
    for image, label, factors in zip(
      split.examples, split.labels, split.factors, strict=True
    ):
      row = np.ravel_multi_index(tuple(factors), (4, 5))
      np.testing.assert_array_equal(image[..., 0], IMAGES[row])
      assert label == factors[0] % 2


def test_words_name_the_values_of_factors():
  words = np.array([['red', 'cube'], ['blue', 'ball'], ['red', 'ball']])
  data = arrays.parse(
    {
      'images': IMAGES[:3],
      'factors': words,
      'factor_names': np.array(['hue', 'shape']),
    },
    'here',
    'here',
  )
  assert data.value_names == {
    'hue': ('blue', 'red'),
    'shape': ('ball', 'cube'),
  }
  for row, word in zip(data.splits['train'].factors, words, strict=True):
    names = data.value_names['hue'][row[0]], data.value_names['shape'][row[1]]
    assert names == tuple(word)


@pytest.mark.parametrize(
  'names',
  [
    ('train_images', 'train_labels', 'test_images', 'test_labels'),
    ('x_train', 'y_train', 'x_test', 'y_test'),  # Keras.
  ],
)
def test_splits_are_kept(tmp_path, names):
  labels = np.arange(20)[:, None] % 3  # As in MedMNIST.
  held = (IMAGES[:15], labels[:15], IMAGES[15:], labels[15:])
  np.savez(tmp_path / 'x.npz', **dict(zip(names, held, strict=True)))
  dataset = datasets.load(str(tmp_path / 'x.npz'), tmp_path, builders.quiet)
  assert dataset.provenance['num_images'] == {'train': 15, 'test': 5}
  assert 'test_share' not in dataset.provenance
  assert builders.classes(dataset) == {'train': (5, 5, 5), 'test': (2, 2, 1)}


@pytest.mark.parametrize(
  ('held', 'message'),
  [
    ({'images': IMAGES[0]}, 'have the shape'),
    ({'images': np.zeros((9, 3, 8, 8))}, 'move the channels to the end'),
    ({'images': IMAGES.astype('i8')}, 'holds images of int64'),
    ({'images': IMAGES * 1.0}, r'values from 0 to 25\d; floats must lie'),
    ({'images': IMAGES * np.nan}, 'floats must lie in'),
    ({'images': IMAGES, 'labels': np.zeros(3)}, r'labels of the shapes \(3,\)'),
    ({'images': IMAGES, 'labels': np.zeros((20, 2))}, 'more than one label'),
    ({'images': IMAGES, 'factors': np.zeros((20, 2, 2))}, 'factors of the sh'),
    (
      {'images': IMAGES, 'factors': np.zeros((20, 2)), 'factor_names': ['a']},
      'with 1 factor_names',
    ),
    ({'images': IMAGES, 'other': IMAGES}, 'found other'),
    ({'test_images': IMAGES}, 'found nothing to train on'),
    ({'images': IMAGES, 'labels': np.array([{}] * 20)}, 'allow_pickle'),
    ({}, 'found nothing to train on'),
  ],
)
def test_arrays_that_are_none_are_refused(tmp_path, held, message):
  np.savez(tmp_path / 'x.npz', **held)
  with pytest.raises(
    (sources.SourceError, sources.DamagedError), match=message
  ):
    images(arrays.read(tmp_path / 'x.npz'))


@pytest.mark.parametrize('name', ['x.npy', 'x.npz'])
def test_damaged_files_are_refused(tmp_path, name):
  np.save(tmp_path / 'x.npy', IMAGES)
  np.savez(tmp_path / 'x.npz', images=IMAGES)
  content = (tmp_path / name).read_bytes()
  for damaged in (content[:90], content[:-50], b'', b'PK\x03\x04', b'\x80'):
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(sources.DamagedError, match=f'{name} cannot be read'):
      images(arrays.read(tmp_path / name))


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_any_damage_is_a_line_that_names_the_file(tmp_path, save):
  path = tmp_path / 'x.npz'
  save(path, images=IMAGES)
  whole = path.read_bytes()
  for _ in range(200):
    content = bytearray(whole)
    for at in GENERATOR.integers(len(content), size=3):
      content[at] = GENERATOR.integers(256)
    path.write_bytes(content)
    try:
      found = studies.find(path) or arrays.read(path)
      images(found)
    except (sources.SourceError, sources.DamagedError) as error:
      assert str(path) in str(error)
      assert '\n' not in str(error)


def test_other_files_are_refused_with_what_is_read(tmp_path):
  (tmp_path / 'x.pkl').write_bytes(b'')
  with pytest.raises(datasets.DatasetError, match=r'x\.pkl is none.*\.npz'):
    datasets.load(str(tmp_path / 'x.pkl'), tmp_path, builders.quiet)
