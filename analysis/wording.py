"""The wording of figures: numbers, and names of columns and settings."""

import math
import pathlib
import re
from collections.abc import Hashable, Mapping, Sequence

from launch import records


def with_minus(text: str) -> str:
  """Returns a number as text, with a proper minus sign."""
  return text.replace('-', '−')


def number(value: float, digits: int = 1) -> str:
  """Returns a number with a proper minus sign, and none before zero."""
  return with_minus(f'{value:z.{digits}f}')


def tick_labels(breaks: Sequence[float]) -> list[str]:
  """Returns numbers along an axis, with a proper minus sign."""
  return [with_minus(f'{value:z,.7g}') for value in breaks]


# What papers write otherwise than columns are called.
_SPELLED: Mapping[str, str] = {
  **{name.lower(): name for name in ('DCI', 'IRS', 'KL', 'MIG', 'SAP', 'UDR')},
  'beta vae': 'BetaVAE score',
  'dimension wise': 'dimension-wise',
  'factor vae': 'FactorVAE score',
  'lasso': 'Lasso',
  'spearman': 'Spearman',
  'gaussian': 'Gaussian',
  'infomec': 'InfoMEC',
  'r2': 'R²',
}
_TO_SPELL = re.compile(rf'\b({"|".join(_SPELLED)})\b')


def name(column: str) -> str:
  """Returns what a column, metric or setting is called, without its unit."""
  text = column.removesuffix('_nats').replace('_', ' ')
  return _TO_SPELL.sub(lambda found: _SPELLED[found[0]], text)


def unit(column: str, example: str = 'image') -> str:
  """Returns the unit of a column or metric; empty for none.

  Args:
    column: its name.
    example: what the data are made of, as of `frames.RunFiles.example`.
  """
  return f'nats per {example}' if column.endswith('_nats') else ''


def with_unit(column: str, example: str = 'image') -> str:
  """Returns what a column or metric is called, with its unit (`unit`)."""
  return ', '.join(filter(None, [name(column), unit(column, example)]))


# What the rows of `latent` are.
LATENTS = 'latent (its rate, nats)'


def latent(index: Hashable, rate: float, *said: str) -> str:
  """Returns what the row of a latent is called.

  Args:
    index: of the latent.
    rate: in nats; NaN for none.
    *said: what else there is to say of it.
  """
  words = [*([] if math.isnan(rate) else [number(rate, 2)]), *said]
  return f'z{index}' + (f' ({"; ".join(words)})' if words else '')


# Values of settings that papers have names for, which say what they are of.
_NAMED: Mapping[str, Mapping[str, str]] = {
  'dataset': {
    'cars3d': 'Cars3D',
    'celeb_a': 'CelebA',
    'cifar10': 'CIFAR-10',
    'dsprites': 'dSprites',
    'fashion_mnist': 'Fashion-MNIST',
    'kmnist': 'KMNIST',
    'mnist': 'MNIST',
    'mnist_5k': '5,000 images of MNIST',
    'shapes3d': '3D Shapes',
    'smallnorb': 'SmallNORB',
    'svhn_cropped': 'SVHN',
  },
  'objective': {
    'annealed': 'AnnealedVAE',
    'beta_tc': 'β-TCVAE',
    'dip_i': 'DIP-VAE-I',
    'dip_ii': 'DIP-VAE-II',
    'dreg': 'DReG',
    'elbo': 'β-VAE',
    'factor': 'FactorVAE',
    'info': 'InfoVAE',
    'iwae': 'IWAE',
  },
}

# Names of data that were given to Python as arrays, by their digest.
_GIVEN = re.compile('arrays-[0-9a-f]{16}')


# What a figure of a setting must say.
_NOTES: Mapping[str, str] = {
  records.STRENGTH: "Strength: each objective's own weight, on no common scale."
}


def note(*settings: str) -> str:
  """Returns what a figure of these settings must say; empty for most."""
  return ' '.join(_NOTES[name] for name in settings if name in _NOTES)


def value(setting: str, text: str) -> str:
  """Returns a setting's value as papers write it; of a path the last part.

  One that is not set, or an empty list, is none.
  """
  if setting == 'dataset' and _GIVEN.fullmatch(text):
    return 'given arrays'
  path = pathlib.PurePath(text)
  if setting == 'dataset' and path.is_absolute():
    return path.name
  return _NAMED.get(setting, {}).get(text, _said(text))


def assigned(setting: str, text: str) -> str:
  """Returns a setting with its value, or a name that says both.

  Other values have other words, as paths of one last part have not in `value`.
  """
  named = _NAMED.get(setting, {})
  return named.get(text, f'{name(setting)} {_said(text)}')


def _said(text: str) -> str:
  return 'none' if text in ('', 'None') else text
