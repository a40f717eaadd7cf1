import os

import hypothesis
import pytest

# Sets TensorFlow up, so it must come before anything imports that.
import vae  # isort: split

import tensorflow as tf

vae.check_installed()

# The same examples everywhere, however slow the machine.
hypothesis.settings.register_profile(
  'here',
  deadline=None,
  derandomize=True,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile('here')

_THREADS = len(os.sched_getaffinity(0))
tf.config.threading.set_intra_op_parallelism_threads(_THREADS)
tf.config.threading.set_inter_op_parallelism_threads(_THREADS)


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  """A data folder that the whole session shares; mnist_5k is prepared once."""
  from vae.data import datasets

  folder = tmp_path_factory.mktemp('data')
  datasets.load('mnist_5k', folder, lambda line: None)
  return folder
