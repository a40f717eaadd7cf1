import gzip

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.vae.data import builders
from vae import randomness
from vae.data import batches, datasets, sources, tables

KEY = randomness.key(0, randomness.Purpose.BINARISATION, 0)

TABLE = np.arange(24.0).reshape(8, 3) ** 2 / 8


def rows(data):
  return np.concatenate([*data.splits['train'].batches()])


@pytest.mark.parametrize('compress', [False, True])
@pytest.mark.parametrize('header', [False, True])
@pytest.mark.parametrize('separator', [',', ';', '\t', '|'])
@pytest.mark.parametrize('decimal', ['.', ','])
def test_separators_decimals_and_headers_are_told_apart(
  tmp_path, separator, decimal, header, compress
):
  if separator == decimal:
    pytest.skip('cannot be told apart')
  text = pd.DataFrame(TABLE, columns=['a', 'b', 'c']).to_csv(
    sep=separator, decimal=decimal, header=header, index=False
  )
  path = tmp_path / ('table.tsv' if separator == '\t' else 'table.csv')
  content = text.encode()
  if compress:
    path, content = path.with_name(f'{path.name}.gz'), gzip.compress(content)
  path.write_bytes(content)
  data = tables.read(path, None)
  np.testing.assert_allclose(rows(data), TABLE)
  assert ('no header' in data.source) == (not header)


def test_the_names_of_rows_that_pandas_writes_are_left_out(tmp_path):
  path = tmp_path / 'table.csv'
  for index in (None, list('stuvwxyz'), [5, 3, 9, 1, 2, 8, 7, 0]):
    pd.DataFrame(TABLE, index, list('abc')).to_csv(path)
    data = tables.read(path, None)
    np.testing.assert_allclose(rows(data), TABLE)
    assert 'without the column of row names' in data.source


def test_a_column_that_counts_the_rows_is_said(tmp_path):
  path = tmp_path / 'table.csv'
  frame = pd.DataFrame(TABLE, columns=list('abc'))
  frame.insert(0, 'id', range(1, 9))
  frame.to_csv(path, index=False)
  data = tables.read(path, None)
  assert rows(data).shape == (8, 4)
  assert 'the column id, which counts the rows, is one of them' in data.source


@pytest.mark.parametrize('header', [False, True])
@pytest.mark.parametrize('names', [('x', 'y'), ('2', '7')])
def test_labels_are_a_column(tmp_path, header, names):
  path = tmp_path / 'table.csv'
  frame = pd.DataFrame(TABLE, columns=list('abc'))
  frame['kind'] = [names[n % 2] for n in range(8)]
  frame.to_csv(path, index=False, header=header)
  data = tables.read(path, 'kind' if header else '4')
  np.testing.assert_allclose(rows(data), TABLE)
  labels = data.splits['train'].labels
  if names == ('x', 'y'):
    assert data.label_names == names
    np.testing.assert_array_equal(labels, np.arange(8) % 2)
  else:
    np.testing.assert_array_equal(labels, [2, 7] * 4)


def test_labelled_tables_keep_their_shares(tmp_path):
  path = tmp_path / 'table.csv'
  lines = [f'{n},{"ab"[n >= 40]}' for n in range(60)]
  path.write_text('\n'.join(['x,kind', *lines]))
  dataset = datasets.load(
    str(path), tmp_path, builders.quiet, sources.Options(label_column='kind')
  )
  assert builders.classes(dataset) == {'train': (36, 18), 'test': (4, 2)}
  assert dataset.provenance['label_names'] == ['a', 'b']


def test_a_table_in_a_file_is_read(tmp_path):
  path = tmp_path / 'table.csv'
  lines = [f'{row},{row * row},3' for row in range(20)]
  path.write_text('\n'.join(['a,b,c', *lines]))
  dataset = datasets.load(str(path), tmp_path / 'data', builders.quiet)
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
  dataset = datasets.load(str(path), tmp_path / 'data', builders.quiet)
  for split in dataset.splits.values():
    rows = split.examples[:, 0]
    assert rows.min() < -0.5
    assert rows.max() > 0.5
    assert (np.diff(rows) < 0).any()


def test_large_numbers_are_standardised(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text('a,b\n' + ''.join(f'{r}e300,1e200\n' for r in range(100)))
  dataset = datasets.load(str(path), tmp_path / 'data', builders.quiet)
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
    ('0,1,2\n' + '5,6,7\n' * 9, 'Delete that line, or give'),
    ('a,b\n' + '1,2,3\n' * 9, 'names 2 columns, the row below has 3'),
    ('a,b,c\n' + '1,2\n' * 9, 'names 3 columns, the row below has 2'),
    ('a,b\n' + '1,2\n' * 9 + '1,2,3\n', 'line 11, saw 3'),
    ('a,b\n' + '1,2\n' * 9 + '1\n', "row 10, column 'b' is no finite"),
    ('a,a\n' + '1,2\n' * 9, "two columns called 'a'"),
    ('a,kind\n' + '1,x\n' * 9, 'give --label_column=kind where it holds'),
    ('a,b\n' + '1e999,2\n' * 9, "row 1, column 'a' is no finite"),
    ('a,b\n\0\0\n', 'table.csv'),
  ],
)
def test_files_that_are_no_table_are_refused(tmp_path, content, message):
  path = tmp_path / 'table.csv'
  path.write_text(content)
  with pytest.raises(datasets.DatasetError, match=message):
    datasets.load(str(path), tmp_path / 'data', builders.quiet)


def test_a_column_of_labels_that_is_none_is_refused(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text('a,b\n' + '1,2\n' * 9)
  with pytest.raises(
    sources.SourceError, match=r'--label_column=c: .* has the columns a, b'
  ):
    tables.read(path, 'c')


def test_text_that_is_none_is_refused(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_bytes(b'\xff\xfe\xff')
  with pytest.raises(sources.SourceError, match=r'table\.csv is no readable'):
    tables.read(path, None)
