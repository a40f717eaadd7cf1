import pytest
import tensorflow as tf


@pytest.fixture(autouse=True)
def _seed():
  """Initial values that no test draws by a seed of its own.

  A test of whole runs, in the same process, may have asked TensorFlow to refuse
  what has none.
  """
  tf.random.set_seed(0)
