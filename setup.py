"""Packaging of the beta-VAE research codebase."""

import setuptools

TENSORFLOW_VERSION = '~=2.21.0'

setuptools.setup(
  name='beta-vae',
  version='0.1.0',
  description=(
    'beta-VAEs in Sonnet 2 and TensorFlow Probability: compiled training, '
    'numbers in nats, figures drawn from files.'
  ),
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['vae*', 'launch*', 'analysis*']),
  package_data={'launch.page': ['page.html', 'page.css', 'page.js']},
  python_requires='>=3.11',
  install_requires=[
    'absl-py>=2.1',
    'dm-sonnet>=2.0.2',
    # TFDS imports it on Python 3.11 without declaring it.
    'importlib_resources',
    'matplotlib',
    'mizani',
    'mlxtend>=0.23',
    'numpy>=2.0',
    'pandas>=2.2',
    'pillow',
    'plotnine>=0.15',
    'requests',
    'safetensors>=0.5',
    'scikit-learn>=1.5',
    'scipy>=1.13',
    f'tensorflow{TENSORFLOW_VERSION}',
    'tensorflow-datasets>=4.9.10',
    'tensorflow-probability~=0.25.0',
    # TFP needs the Keras 2 that fits TensorFlow's version, but does not ask.
    'tf-keras~=2.21.0',
    'threadpoolctl',
    'tqdm',
  ],
  extras_require={
    'benchmark': ['jax', 'torch'],
    'cuda': [f'tensorflow[and-cuda]{TENSORFLOW_VERSION}'],
    'ray': ['ray>=2.9'],
    'slurm': ['submitit>=1.5.4'],
    'tensorboard': ['tensorboard'],
    'test': [
      'hypothesis',
      'ipykernel',
      'nbclient',
      'nbformat',
      'pyrefly',
      'pytest',
      'pytest-xdist',
      'ray>=2.9',
      'ruff',
      'submitit>=1.5.4',
      'tensorboard',
      # Its later versions leave the building of wheels to setuptools.
      'wheel<0.46',
    ],
  },
)
