"""From what a person says of some settings to the config of a run."""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launch import records
from launch.settings import config as config_lib
from launch.settings import parts, presets
from launch.settings.config import Config, ConfigError


def make(
  given: Mapping[str, Any],
  stored: Config | None = None,
  preset: str | None = None,
  original: str | None = None,
) -> Config:
  """Returns a config from what is said of some settings.

  Where nothing is said, the original or the preset decides, else the stored
  config, else the defaults.

  Args:
    given: settings by name.
    stored: the config of the run that goes on.
    preset: its name.
    original: the config.json of a run that is run again.

  Raises:
    ConfigError: a value that is not allowed, or settings that contradict.
    RecordError: an original that cannot be read.
  """
  if original is not None and preset is not None:
    raise ConfigError('give one of --config and --preset')
  settings: dict[str, Any] = {}
  if preset is not None:
    settings = dict(_preset_settings(preset))
  elif original is not None:
    settings = dataclasses.asdict(config_lib.load(os.path.expanduser(original)))
  elif stored is not None:
    settings = dataclasses.asdict(stored)
  objective = given.get('objective', settings.get('objective'))
  if objective in parts.find('objective') and (
    objective != settings.get('objective', Config.objective)
    and 'reduction' not in parts.settings('objective', objective)
  ):
    settings |= {'reduction': 'sum', 'beta': 1.0}  # Another, in nats.
  for name in config_lib.moved(settings, {**settings, **given}):
    settings.pop(name, None)
  # Steps or epochs: what is said wins over all else.
  if {'training_steps', 'num_epochs'} <= given.keys():
    raise ConfigError('give one of --training_steps and --num_epochs')
  settings |= given
  if 'training_steps' in given:
    settings['num_epochs'] = None
  elif settings.get('num_epochs') is not None:
    settings['training_steps'] = None
  config = Config(**settings)
  offs = {field.name: field.metadata['off'] for field in config_lib.fields()}
  for name, instead in config.unused().items():
    value = given.get(name, offs[name])
    if value != offs[name]:
      raise ConfigError(
        f'--{name}={records.text(value)}: does nothing in this run; it goes '
        f'with {instead}'
      )
  return config


def _preset_settings(name: str) -> Mapping[str, Any]:
  if name not in presets.PRESETS:
    raise ConfigError(
      f'--preset={name}: must be list, or one of {", ".join(presets.PRESETS)}'
    )
  return presets.PRESETS[name].settings


def parse_list(
  field: dataclasses.Field, items: Sequence[str]
) -> tuple[Any, ...]:
  """Returns the value of a setting that is a list, from its items as text.

  Raises:
    ConfigError: text that is none.
  """
  kind, _ = config_lib.base_type(field)
  try:
    return tuple(kind(item) for item in items)
  except ValueError:
    raise ConfigError(
      f'--{field.name}={",".join(items)}: must be a comma-separated list of '
      f'{kind.__name__}'
    ) from None


# -- From Python --------------------------------------------------------------


def from_python(
  values: Mapping[str, Any], others: Iterable[str] = ()
) -> dict[str, Any]:
  """Returns settings as flags would give them, from values of Python's types.

  NumPy's scalars and arrays stand for numbers and lists, lists for tuples, 1
  for 1.0 and 1e3 for 1000, a number or a path for its text, true and false for
  on and off. What is None is not given.

  Args:
    values: by the name of the setting.
    others: names that the caller takes besides, to be suggested too.

  Raises:
    ConfigError: a name that is no setting, with the one that was meant.
  """
  by_name = {field.name: field for field in config_lib.fields()}
  for name in values:
    if name not in by_name:
      near = difflib.get_close_matches(name, [*by_name, *others], 1)
      cure = f'; did you mean {near[0]}?' if near else ''
      raise ConfigError(f'{name} is no setting{cure}')
  return {
    name: _from_python(by_name[name], value)
    for name, value in values.items()
    if value is not None
  }


def _from_python(field: dataclasses.Field, value: Any) -> Any:
  value = _plain(value)
  if not config_lib.is_list(field):
    return _scalar(field, value)
  if isinstance(value, str):
    return parse_list(field, value.split(',') if value else [])
  items = value if isinstance(value, Iterable) else [value]
  return tuple(_scalar(field, _plain(item)) for item in items)


def _plain(value: Any) -> Any:
  """A value of NumPy's as one of Python's own."""
  return value.tolist() if hasattr(value, 'tolist') else value


def _scalar(field: dataclasses.Field, value: Any) -> Any:
  """A value as a flag would have it; what cannot be one stays as it is."""
  kind, _ = config_lib.base_type(field)
  if isinstance(value, bool):
    switch = {'on', 'off'} <= {*(field.metadata['choices'] or ())}
    return ('off', 'on')[value] if switch else value
  if kind is float and isinstance(value, int) and abs(value) < 2**63:
    return float(value)
  if kind is int and isinstance(value, float) and value.is_integer():
    return int(value)
  if kind is str and isinstance(value, int | float | os.PathLike):
    return str(value)
  return value
