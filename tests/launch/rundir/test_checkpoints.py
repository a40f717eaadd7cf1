import numpy as np
import pytest

from launch.rundir import checkpoints

TENSORS = {
  'model/w': np.arange(6, dtype=np.float32).reshape(2, 3),
  'optimizer/t': np.array(7, np.int64),
}


def test_tensors_come_back_bit_for_bit(tmp_path):
  path = checkpoints.save(tmp_path, 5, TENSORS)
  step, tensors = checkpoints.load(path)
  assert step == 5
  assert tensors.keys() == TENSORS.keys()
  for name, array in TENSORS.items():
    np.testing.assert_array_equal(tensors[name], array)
    assert tensors[name].dtype == array.dtype


def test_the_same_values_make_the_same_bytes(tmp_path):
  first = checkpoints.save(tmp_path, 5, TENSORS).read_bytes()
  assert checkpoints.save(tmp_path, 5, TENSORS).read_bytes() == first


def test_the_newest_few_are_kept(tmp_path):
  for step in (1, 30, 200):
    checkpoints.save(tmp_path, step, TENSORS)
    checkpoints.delete_old(tmp_path)
  steps = [checkpoints.load(path)[0] for path in checkpoints.paths(tmp_path)]
  assert steps == [200, 30]


@pytest.mark.parametrize('offset', [3, 40, -1])
def test_any_flipped_bit_is_found(tmp_path, offset):
  path = checkpoints.save(tmp_path, 5, TENSORS)
  content = bytearray(path.read_bytes())
  content[offset] ^= 4
  path.write_bytes(content)
  with pytest.raises(checkpoints.CheckpointError, match='is damaged'):
    checkpoints.load(path)


@pytest.mark.parametrize('length', [0, 7, 100, -1])
def test_truncation_is_found(tmp_path, length):
  path = checkpoints.save(tmp_path, 5, TENSORS)
  path.write_bytes(path.read_bytes()[:length])
  with pytest.raises(checkpoints.CheckpointError, match='is damaged'):
    checkpoints.load(path)


def test_a_damaged_newest_falls_back_with_a_warning(tmp_path):
  checkpoints.save(tmp_path, 1, TENSORS)
  checkpoints.save(tmp_path, 2, TENSORS).write_bytes(b'x')
  warnings = []
  step, _ = checkpoints.load_newest(tmp_path, warnings.append)
  assert step == 1
  assert len(warnings) == 1
  assert 'step_000000000002' in warnings[0]


def test_all_damaged_is_an_error_that_deletes_nothing(tmp_path):
  path = checkpoints.save(tmp_path, 2, TENSORS)
  path.write_bytes(b'x')
  with pytest.raises(checkpoints.CheckpointError, match='every checkpoint in'):
    checkpoints.load_newest(tmp_path, lambda line: None)
  assert path.exists()
  assert checkpoints.load_newest(tmp_path / 'empty', print) is None


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value):
  array = np.array([1.0, value], np.float32)
  path = checkpoints.save(tmp_path, 5, TENSORS | {'model/b': array})
  with pytest.raises(checkpoints.CheckpointError, match="'model/b' is not fin"):
    checkpoints.load(path)
