import numpy as np
import pytest

from launch import records

ROW = {'step': 1, 'seconds': 0.5}


MANIFEST = {
  'format': records.FORMAT,
  'status': 'finished',
  'started': '2026-01-01',
  'effective_beta': 0.784,
  'source': {'commit': 'c0ffee', 'dirty': False},
  'packages': {'python': '3.11.7', 'numpy': '2.4.6'},
  'device': {'name': 'a processor', 'type': 'CPU'},
  'dataset': {
    'name': 'mnist',
    'version': '3.0.1',
    'source': 'a test',
    'shape': [28, 28, 1],
    'num_images': {'train': 2, 'test': 1},
    'sha256': {'train': '0', 'test': '1'},
  },
}


def eval_row(**changes):
  row = {
    'step': 4,
    'split': 'test',
    'n': 10,
    'metric': 'elbo_nats',
    'num_samples': 1,
    'value': -1.5,
    'se': 0.25,
  }
  return row | changes


def test_rows_come_back_with_their_types(tmp_path):
  records.write_table(tmp_path, records.EVAL)
  records.upsert(
    tmp_path, records.EVAL, [eval_row(), eval_row(step=8, se=None)]
  )
  frame = records.read_table(tmp_path, records.EVAL)
  assert list(frame.columns) == list(records.COLUMNS[records.EVAL])
  assert frame['step'].tolist() == [4, 8]
  assert frame['value'].tolist() == [-1.5, -1.5]
  assert np.isnan(frame['se'][1])


def test_float32_comes_back_exactly(tmp_path):
  value = np.float32(0.1)
  records.write_table(tmp_path, records.TIMING)
  records.append(tmp_path, records.TIMING, {'step': 1, 'seconds': value})
  frame = records.read_table(tmp_path, records.TIMING)
  assert np.float32(frame['seconds'][0]) == value


@pytest.mark.parametrize(
  'value', [None, np.nan, np.inf, -np.inf, np.float32(np.inf)]
)
def test_a_number_that_does_not_exist_is_an_empty_cell(tmp_path, value):
  records.write_table(tmp_path, records.TIMING)
  records.append(tmp_path, records.TIMING, {'step': 1, 'seconds': value})
  rows = records.read_rows(tmp_path, records.TIMING)
  assert rows == [{'step': '1', 'seconds': ''}]


@pytest.mark.parametrize(
  'entry',
  [
    {'num_images': {}},
    {'num_images': {'test': 9}},
    {'shape': [46340, 46340, 1]},
    {'cut': 'x'},
    {'pixels': 5},
    {'label_names': [3]},
    {'value_names': {'shape': ['square', 3]}},
    {'factors': 5},
    {'factors': [['x', -1]]},
    {'factors': [[1, 2]]},
    {'columns': 3},
    {'columns': {'mean': [0.0], 'deviation': ['x']}},
  ],
)
def test_what_a_dataset_may_hold_is_checked_where_it_is_there(tmp_path, entry):
  whole = {'cut': 2, 'pixels': 'binary', 'label_names': None, 'factors': None}
  whole['columns'] = {'mean': [1e200], 'deviation': [1.0]}
  dataset = MANIFEST['dataset'] | whole
  records.write_manifest(tmp_path, MANIFEST | {'dataset': dataset})
  assert records.read_manifest(tmp_path)['dataset'] == dataset
  records.write_manifest(tmp_path, MANIFEST | {'dataset': dataset | entry})
  with pytest.raises(records.RecordError, match='its dataset is'):
    records.read_manifest(tmp_path)


@pytest.mark.parametrize('row', [{'step': 1}, {**ROW, 'extra': 2}])
def test_unknown_and_missing_keys_raise(tmp_path, row):
  records.write_table(tmp_path, records.TIMING)
  with pytest.raises(ValueError, match='has the columns'):
    records.append(tmp_path, records.TIMING, row)
  assert records.read_rows(tmp_path, records.TIMING) == []


def test_a_half_written_row_is_left_out(tmp_path):
  records.write_table(tmp_path, records.TIMING)
  records.append(tmp_path, records.TIMING, ROW)
  with (tmp_path / records.TIMING).open('a') as file:
    file.write('2,0.')
  assert len(records.read_table(tmp_path, records.TIMING)) == 1


@pytest.mark.parametrize(
  'content',
  [
    b'', b'a,b\n', b'step,seconds\n1\n', b'step,seconds\n1,x\n', b'\xff',
    b'step,seconds\n1,nan\n', b'step,seconds\n1,-inf\n',
    b'step,seconds\n1,1e999\n',
  ],
)  # fmt: skip
def test_damaged_tables_are_refused(tmp_path, content):
  (tmp_path / records.TIMING).write_bytes(content)
  with pytest.raises(records.RecordError, match=r'timing\.csv'):
    records.read_table(tmp_path, records.TIMING)


def test_evaluating_again_replaces_the_row_of_the_same_key(tmp_path):
  records.write_table(tmp_path, records.EVAL)
  records.upsert(tmp_path, records.EVAL, [eval_row(), eval_row(split='train')])
  records.upsert(tmp_path, records.EVAL, [eval_row(value=-1.0)])
  frame = records.read_table(tmp_path, records.EVAL)
  assert frame['split'].tolist() == ['test', 'train']
  assert frame['value'].tolist() == [-1.0, -1.5]


@pytest.mark.parametrize(
  ('manifest', 'rows', 'step'),
  [
    ({}, [], None),
    ({}, [(4, 'test'), (8, 'test')], 8),
    # Evaluated on another split after a later checkpoint.
    ({}, [(4, 'test'), (8, 'train')], 4),
    ({}, [(8, 'validation')], 8),
    ({'best_step': 4}, [(4, 'test'), (8, 'validation'), (8, 'test')], 4),
    # Weights that are not kept are no result, though nothing else was tested.
    ({'best_step': 4}, [(8, 'test')], 4),
  ],
)
@pytest.mark.parametrize('status', records.STATUSES)
def test_one_rule_says_which_step_is_the_result(
  tmp_path, manifest, rows, step, status
):
  records.write_table(tmp_path, records.EVAL)
  manifest = {
    'status': status,
    'dataset': {'num_images': {'test': 9}},
  } | manifest
  rows = [eval_row(step=at, split=split, value=at) for at, split in rows]
  records.upsert(tmp_path, records.EVAL, rows)
  assert records.result_step(manifest, rows) == step
  tested = any(r['step'] == step and r['split'] == 'test' for r in rows)
  expected = {'elbo_nats': step} if tested else {}
  assert records.read_results(tmp_path, manifest) == expected


def test_keep_rows_cuts_what_comes_after(tmp_path):
  records.write_table(tmp_path, records.TIMING)
  for step in (1, 2, 4):
    records.append(tmp_path, records.TIMING, {'step': step, 'seconds': 0})
  records.keep_rows(tmp_path, records.TIMING, lambda step, row: step <= 2)
  assert records.read_table(tmp_path, records.TIMING)['step'].tolist() == [1, 2]


def test_a_table_with_steps_that_are_none_is_refused(tmp_path):
  (tmp_path / records.TIMING).write_text('step,seconds\nx,1\n')
  with pytest.raises(records.RecordError, match=r'timing\.csv is damaged'):
    records.keep_rows(tmp_path, records.TIMING, lambda step, row: True)


def test_arrays_of_a_later_step_are_not_replaced(tmp_path):
  for step in (3, 5, 4):
    records.write_arrays(tmp_path, 'x', step, {'y': np.array(step)})
  assert records.read_arrays(tmp_path, 'x')['y'] == 5


def test_arrays_come_back_and_repeat_byte_for_byte(tmp_path):
  arrays = {'modes': np.random.default_rng(0).random((3, 4)).astype('f4')}
  records.write_arrays(tmp_path, 'samples', 7, arrays)
  path = tmp_path / 'arrays' / 'samples.npz'
  first = path.read_bytes()
  records.write_arrays(tmp_path, 'samples', 7, arrays)
  assert path.read_bytes() == first
  np.testing.assert_array_equal(
    records.read_arrays(tmp_path, 'samples')['modes'], arrays['modes']
  )


def test_pickled_arrays_are_refused(tmp_path):
  (tmp_path / 'arrays').mkdir()
  path = tmp_path / 'arrays' / 'samples.npz'
  np.savez(path, modes=np.array([{}], dtype=object))
  with pytest.raises(records.RecordError, match='is damaged'):
    records.read_arrays(tmp_path, 'samples')
  path.write_bytes(b'PK')
  with pytest.raises(records.RecordError, match='is damaged'):
    records.read_arrays(tmp_path, 'samples')
  path.unlink()
  with pytest.raises(records.RecordError, match='does not exist'):
    records.read_arrays(tmp_path, 'samples')


@pytest.mark.parametrize(
  'content', [b'', b'{}', b'[]', b'{"format": 9}', b'{"format": 1}', b'\xff']
)
def test_manifests_of_other_formats_are_refused(tmp_path, content):
  (tmp_path / records.MANIFEST).write_bytes(content)
  with pytest.raises(records.RecordError, match=r'manifest\.json'):
    records.read_manifest(tmp_path)


def test_the_newest_run_is_the_one_started_last(tmp_path):
  for name, started in (
    ('b', '2026-01-01'),
    ('a', '2026-01-02'),
    ('c', '2025'),
  ):
    (tmp_path / name).mkdir()
    records.write_manifest(tmp_path / name, MANIFEST | {'started': started})
  (tmp_path / 'damaged').mkdir()
  (tmp_path / 'damaged' / records.MANIFEST).write_text('{')
  assert records.newest_run(tmp_path).name == 'a'
  with pytest.raises(records.RecordError, match='no runs under'):
    records.newest_run(tmp_path / 'none')


def test_arrays_that_unpack_to_more_than_a_run_has_are_refused(tmp_path):
  records.write_manifest(tmp_path, MANIFEST)
  settings = {'beta': 1, 'latent_size': 2, 'reduction': 'sum', 'seed': 0}
  records.write_object(tmp_path / records.CONFIG, settings)
  (tmp_path / 'arrays').mkdir()
  path = tmp_path / 'arrays' / 'x.npz'
  np.savez_compressed(path, step=3, y=np.zeros(2**24, 'i1'))
  assert records.read_arrays(tmp_path, 'x')['y'].shape == (2**24,)
  np.savez_compressed(path, step=3, y=np.zeros(2**27, 'i1'))
  assert path.stat().st_size < 2**18
  with pytest.raises(records.RecordError, match='damaged: it unpacks to 134,2'):
    records.read_arrays(tmp_path, 'x')


ARRAYS = {
  'reconstructions': {
    'images': np.zeros((3, 4, 4, 1)),
    'modes': np.zeros((3, 4, 4, 1)),
    'labels': np.arange(3),
  },
  'latents': {
    'means': np.zeros((5, 2)),
    'pixels_pca': np.zeros((4, 3)),
    'labels': np.array(['a'] * 5),
  },
  'traversals': {
    'values': np.arange(7.0),
    'modes': np.zeros((3, 2, 7, 4, 4, 1), np.float32),
    'quantile_values': np.zeros((2, 5)),
    'quantile_modes': np.zeros((3, 2, 5, 4, 4, 1)),
  },
  'latent_grid': {
    'latents': np.arange(2),
    'rates': np.zeros(2),
    'values': np.arange(6.0),
    'modes': np.zeros((6, 6, 4, 4, 1)),
  },
  'samples': {'modes': np.zeros((3, 12))},
  'embedding': {'images': np.zeros((4, 2)), 'inputs': np.array('digest')},
}
HOSTILE = {
  'words': lambda array: np.full(array.shape or (1,), '\x1b[2J', 'S'),
  'dates': lambda array: np.zeros(array.shape, 'datetime64[s]'),
  'complex': lambda array: (
    array.astype(complex)
    if array.dtype.kind != 'U'
    else np.zeros(array.shape, complex)
  ),
  'no axes': lambda array: np.array(0.5),
  'an axis more': lambda array: array[None],
  'empty': lambda array: array[:0] if array.ndim else np.zeros(0, int),
  'records': lambda array: np.zeros(array.shape, [('x', float)]),
}


@pytest.mark.parametrize('how', HOSTILE)
@pytest.mark.parametrize('name', ARRAYS)
def test_arrays_that_cannot_be_are_one_line(tmp_path, name, how):
  records.write_arrays(tmp_path, name, 4, ARRAYS[name])
  whole = records.read_arrays(tmp_path, name)
  for key in whole.keys() - {'inputs'}:
    changed = HOSTILE[how](whole[key])
    if (key, how) == ('modes', 'an axis more') and name != 'traversals':
      continue  # Of other examples.
    np.savez(tmp_path / f'arrays/{name}.npz', **whole | {key: changed})
    with pytest.raises(records.RecordError, match='is damaged: '):
      records.read_arrays(tmp_path, name)


@pytest.mark.parametrize(
  ('name', 'key', 'size'),
  [
    ('reconstructions', 'labels', 2),
    ('reconstructions', 'modes', 2),
    ('latents', 'labels', 4),
    ('traversals', 'values', 6),
    ('latent_grid', 'values', 5),
  ],
)
def test_arrays_that_do_not_match_are_one_line(tmp_path, name, key, size):
  arrays = ARRAYS[name] | {key: ARRAYS[name][key][:size]}
  records.write_arrays(tmp_path, name, 4, arrays)
  with pytest.raises(records.RecordError, match='is damaged'):
    records.read_arrays(tmp_path, name)


def test_commits_are_those_of_all_sessions_in_turn():
  first, other = 'a' * 40, 'b' * 40
  session = lambda commit, dirty: {'source': {'commit': commit, 'dirty': dirty}}
  run = session(first, False)
  assert records.commits(run) == first
  run['resumed'] = [session(first, False), session(other, True)]
  assert records.commits(run) == f'{first}, then {other} with changes'
  assert records.commits(session(None, None)) == 'unknown'
