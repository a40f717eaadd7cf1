import os

import hypothesis
import pytest

# Sets TensorFlow up, so it must come before anything imports that.
import vae  # isort: split

from launch import files

vae.check_installed()

# The same examples everywhere, however slow the machine.
hypothesis.settings.register_profile(
  'here',
  deadline=None,
  derandomize=True,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile('here')


def pytest_configure(config):
  if config.getoption('numprocesses', None):
    return  # Only starts the processes that run the tests.
  import tensorflow as tf

  threads = len(os.sched_getaffinity(0))
  tf.config.threading.set_intra_op_parallelism_threads(threads)
  tf.config.threading.set_inter_op_parallelism_threads(threads)
  # Four that stand in for GPUs in the tests of several devices.
  tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
  )


@pytest.fixture(scope='session')
def made_once(tmp_path_factory):
  """Makes a folder that all processes of the session share: the first does."""

  def make(name, fill):
    base = tmp_path_factory.getbasetemp()
    parallel = 'PYTEST_XDIST_WORKER' in os.environ
    folder = (base.parent if parallel else base) / f'once-{name}'
    done = folder.with_suffix('.done')
    with files.locked(folder.with_suffix('.lock')):
      if not done.exists():
        folder.mkdir()
        fill(folder)
        done.touch()
    return folder

  return make


@pytest.fixture(scope='session')
def data_dir(made_once):
  """A data folder that the whole session shares; mnist_5k is prepared once."""
  from vae.data import datasets

  return made_once(
    'data', lambda folder: datasets.load('mnist_5k', folder, lambda line: None)
  )


@pytest.fixture(scope='module')
def window(tmp_path_factory):
  """A window of a headless browser."""
  from tests.analysis import browser

  if not (browser.CHROMIUM and browser.DRIVER):
    pytest.skip('chromium and chromium-driver are not installed')
  with browser.opened(tmp_path_factory.mktemp('browser')) as opened:
    yield opened
