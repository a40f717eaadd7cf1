import dataclasses
import json
import types

import numpy as np
import pytest

from vae.data import bits, datasets, drawn, sources, xy_squares

SMALL = sources.Options(image_size=8)


@pytest.fixture(scope='module')
def squares(data_dir):
  return datasets.load('xy_squares', data_dir, lambda line: None, SMALL)


def test_every_combination_of_factors_is_in_one_split(squares):
  assert dict(squares.factors) == xy_squares.FACTORS
  assert len(squares.splits['test'].examples) == 26_214  # One in ten.
  factors = np.concatenate([s.factors for s in squares.splits.values()])
  index = np.ravel_multi_index(tuple(factors.T), (8,) * 6)
  np.testing.assert_array_equal(np.bincount(index), np.ones(8**6))


def test_images_are_those_of_their_factors(squares):
  assert squares.has_images and squares.shape == (8, 8, 3)
  for split in squares.splits.values():
    assert isinstance(split.examples, bits.PackedImages)
    some = split[:: len(split.examples) // 500]
    np.testing.assert_array_equal(
      some.examples, xy_squares.images(some.factors, 8)
    )


def test_images_are_found_by_their_factors(squares):
  factors = np.random.default_rng(0).integers(8, size=(300, 6))
  for dataset in (squares, squares.with_validation(20_000)):
    np.testing.assert_array_equal(
      dataset.images_of(factors), xy_squares.images(factors, 8)
    )
  with pytest.raises(ValueError, match='invalid entry'):
    squares.images_of(np.full((1, 6), 8))
  part = dataclasses.replace(squares, splits={'train': squares.splits['train']})
  assert squares.has_grid and not part.has_grid
  with pytest.raises(ValueError, match='does not hold every combination'):
    part.images_of(factors)


def test_any_stretch_of_a_split_is_a_sample(squares):
  means = squares.splits['test'].factors[:5000].mean(axis=0)
  np.testing.assert_allclose(means, 3.5, atol=0.15)  # 4.6 standard errors.


def test_static_binarisation_and_validation_keep_images_packed(squares):
  cut = squares.statically_binarised().with_validation(1000)
  assert len(cut.splits['validation'].examples) == 1000
  for split in cut.splits.values():
    assert isinstance(split.examples, bits.PackedImages)
  assert np.shares_memory(
    cut.splits['train'].examples.packed,
    squares.splits['train'].examples.packed,
  )


def test_sizes_that_cannot_be_drawn_are_refused(tmp_path):
  with pytest.raises(datasets.DatasetError, match='--image_size=12: image_si'):
    datasets.load('xy_squares', tmp_path, print, sources.Options(image_size=12))


def test_what_is_prepared_is_described_by_the_words_of_now(
  tmp_path, monkeypatch
):
  module = types.SimpleNamespace(
    SOURCE='drawn',
    FACTORS={'row': 4, 'colour': 6},
    VALUE_NAMES={'row': ('a', 'b', 'c', 'd')},
    images=lambda factors: np.zeros([len(factors), 4, 4, 1], np.uint8),
  )
  monkeypatch.setattr(drawn, 'MODULES', {'dots': module})
  load = lambda: datasets.load('dots', tmp_path, lambda line: None).provenance
  first = load()
  (path,) = tmp_path.glob('prepared/dots*/provenance.json')
  assert json.loads(path.read_text()) == first
  module.SOURCE = 'drawn, see Paper'
  module.FACTORS = {'height': 4, 'colour': 6}
  module.VALUE_NAMES = {'colour': ('r', 'o', 'y', 'g', 'b', 'v')}
  assert load() == first | {
    'source': 'drawn, see Paper',
    'factors': [['height', 4], ['colour', 6]],
    'value_names': {'colour': ['r', 'o', 'y', 'g', 'b', 'v']},
  }
  module.VALUE_NAMES = {}
  assert 'value_names' not in load()
  # Of images of another version they say nothing.
  path.write_text(json.dumps(first | {'version': '0'}))
  assert load() == first | {'version': '0'}
