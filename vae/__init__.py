"""beta-VAEs: Sonnet 2 modules, TensorFlow Probability distributions.

The modules are the interface: `vae.models`, `vae.architectures`,
`vae.objectives`, `vae.training`, `vae.data.datasets`, `vae.metrics.evaluation`
and the others that vae/README.md shows.
"""

import importlib.metadata
import os

# No part of the project uses Keras, and importing Keras 3 with TensorFlow
# takes seconds; this makes TensorFlow load tf-keras lazily instead.
os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
# Hides what TensorFlow logs about the CPU's instruction set; errors still show.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')


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


check_installed()
