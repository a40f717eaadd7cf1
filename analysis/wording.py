"""The wording of figures: numbers, and names of columns and settings."""

import re
from collections.abc import Mapping, Sequence


def number(value: float, digits: int = 1) -> str:
  """Returns a number with a proper minus sign, and none before zero."""
  return f'{value:z.{digits}f}'.replace('-', '−')


def tick_labels(breaks: Sequence[float]) -> list[str]:
  """Returns numbers along an axis, with a proper minus sign."""
  return [f'{value:z,.7g}'.replace('-', '−') for value in breaks]


_NATS = 'nats per image'


# What papers write otherwise than columns are called.
_SPELLED: Mapping[str, str] = {
  **{name.lower(): name for name in ('DCI', 'IRS', 'KL', 'MIG', 'SAP', 'UDR')},
  'beta vae': 'BetaVAE score',
  'dimension wise': 'dimension-wise',
  'factor vae': 'FactorVAE score',
  'gaussian': 'Gaussian',
  'infomec': 'InfoMEC',
  'r2': 'R²',
}
_TO_SPELL = re.compile(rf'\b({"|".join(_SPELLED)})\b')


def name(column: str) -> str:
  """Returns what a column, metric or setting is called, without its unit."""
  text = column.removesuffix('_nats').replace('_', ' ')
  return _TO_SPELL.sub(lambda found: _SPELLED[found[0]], text)


def unit(column: str) -> str:
  """Returns the unit of a column or metric; empty for none."""
  return _NATS if column.endswith('_nats') else ''


def with_unit(column: str) -> str:
  """Returns what a column or metric is called, with its unit."""
  return ', '.join(filter(None, [name(column), unit(column)]))
