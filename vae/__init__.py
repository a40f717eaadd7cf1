"""beta-VAEs: Sonnet 2 modules, TensorFlow Probability distributions.

The modules are the interface: `vae.models`, `vae.architectures`,
`vae.objectives`, `vae.training`, `vae.data.datasets`, `vae.metrics.evaluation`
and the others that vae/README.md shows.
"""

import contextlib
import importlib.metadata
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# No part of the project uses Keras, and importing Keras 3 with TensorFlow
# takes seconds; this makes TensorFlow load tf-keras lazily instead.
os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
# Hides what TensorFlow logs about the CPU's instruction set; errors still show.
_IS_QUIET = os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2') >= '2'

# Else the first process takes all memory of a GPU, and a run could not be
# evaluated while another trains.
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')

# What its libraries print before they read that, and that there is no driver.
_NOISE = re.compile(
  rb'[IW]0000 |WARNING: All log messages before'
  rb'|E0000 .* failed call to cuInit.*(ERROR \(303\)|CUDA_ERROR_NO_DEVICE)'
)


def check_installed() -> None:
  """Checks that the installed packages fit together, without importing them.

  Raises:
    ImportError: in one line that names the cure, where a package is missing or
      where TensorFlow's and tf-keras's versions differ (TensorFlow Probability
      would otherwise fail deep inside its own imports).
  """
  cure = 'install the tested set: pip install -c requirements.lock -e .'
  versions = {}
  for package in (
    'tensorflow',
    'tf-keras',
    'tensorflow-probability',
    'dm-sonnet',
  ):
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      raise ImportError(f'{package} is not installed; {cure}') from None
  tensorflow = versions['tensorflow'].split('.')[:2]
  if versions['tf-keras'].split('.')[:2] != tensorflow:
    raise ImportError(
      f'tf-keras {versions["tf-keras"]} does not fit '
      f'tensorflow {versions["tensorflow"]} (the first two numbers must '
      f'agree, or TensorFlow Probability cannot be imported); {cure}'
    )


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
  """Keeps `_NOISE` off standard error, where the rest comes afterwards."""
  sys.stderr.flush()
  with tempfile.TemporaryFile() as captured:
    stderr = os.dup(2)
    os.dup2(captured.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(stderr, 2)
      os.close(stderr)
      captured.seek(0)
      for line in captured:
        if not _NOISE.match(line):
          sys.stderr.write(line.decode(errors='replace'))


check_installed()
with _without_noise() if _IS_QUIET else contextlib.nullcontext():
  import tensorflow as tf

  tf.config.list_physical_devices()  # Its first use says more.
