"""The flags of a run's settings, and the config that they ask for."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from launch import records
from launch.settings import config as config_lib
from launch.settings import parts, presets
from launch.settings.config import Config, ConfigError


def define(axes: bool = False) -> None:
  """Defines --preset, and one absl flag for every setting.

  Args:
    axes: whether a setting may be given several values: a scalar's between
      commas, a list's by repeating its flag.
  """
  flags.DEFINE_string(
    'preset',
    'beta_vae',
    'settings of a known experiment, which other flags override; list prints '
    'them all',
  )
  flags.DEFINE_string(
    'config',
    None,
    'the config.json of a run, whose settings stand where --preset would: it '
    'is run again, in a new folder unless --run_dir is given',
  )
  for field in config_lib.fields():
    kind, _ = config_lib.base_type(field)
    default: Any = field.default
    help_text = field.metadata['help']
    if config_lib.is_list(field):
      define = flags.DEFINE_multi_string if axes else flags.DEFINE_list
      define(field.name, ','.join(map(str, default)), help_text)
    elif axes:
      shown = None if default is None else str(default)
      flags.DEFINE_list(field.name, shown, help_text)
    elif kind is int:
      flags.DEFINE_integer(field.name, default, help_text)
    elif kind is float:
      flags.DEFINE_float(field.name, default, help_text)
    else:
      flags.DEFINE_string(field.name, default, help_text)


def read(stored: Config | None = None) -> Config:
  """Returns the config that the command line asks for, as `make` says.

  Args:
    stored: the config of the run that goes on.

  Raises:
    ConfigError: a value that is not allowed, or flags that contradict.
    RecordError: a --config that cannot be read.
  """
  given = {}
  for field in config_lib.fields():
    flag = flags.FLAGS[field.name]
    if flag.present:
      value: Any = flag.value
      given[field.name] = (
        _parse_list(field, value) if config_lib.is_list(field) else value
      )
  return config_lib.decided(make(given, stored), stored)


def read_axes() -> dict[str, list[Any]]:
  """Returns the values that the command line gives to settings, all of each.

  Raises:
    ConfigError: text that is no value of a setting, or a value twice.
  """
  axes = {}
  for field in config_lib.fields():
    flag = flags.FLAGS[field.name]
    if not flag.present:
      continue
    texts: Any = flag.value
    values = [
      _parse_list(field, text.split(',') if text else [])
      if config_lib.is_list(field)
      else _parse_list(field, [text])[0]
      for text in texts
    ]
    if not values:
      raise ConfigError(f'--{field.name}=: give a value')
    if len(set(values)) < len(values):
      raise ConfigError(f'--{field.name}={",".join(texts)}: a value is twice')
    axes[field.name] = values
  return axes


def make(given: Mapping[str, Any], stored: Config | None = None) -> Config:
  """Returns a config from what the command line says of some settings.

  Where it says nothing, --config or --preset decides, else the stored config,
  else the defaults.

  Args:
    given: settings by name.
    stored: the config of the run that goes on.

  Raises:
    ConfigError: a value that is not allowed, or settings that contradict.
    RecordError: a --config that cannot be read.
  """
  path, preset = flags.FLAGS['config'].value, flags.FLAGS['preset']
  if path is not None and preset.present:
    raise ConfigError('give one of --config and --preset')
  settings: dict[str, Any] = dict(_preset_settings(str(preset.value)))
  if path is not None:
    settings = dataclasses.asdict(
      config_lib.load(os.path.expanduser(str(path)))
    )
  elif stored is not None and not preset.present:
    settings = dataclasses.asdict(stored)
  objective = given.get('objective', settings.get('objective'))
  if objective in parts.find('objective') and (
    objective != settings.get('objective', Config.objective)
    and 'reduction' not in parts.settings('objective', objective)
  ):
    settings |= {'reduction': 'sum', 'beta': 1.0}  # Another, in nats.
  # Steps or epochs: what the command line says wins over all else.
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


def _parse_list(
  field: dataclasses.Field, items: Sequence[str]
) -> tuple[Any, ...]:
  kind, _ = config_lib.base_type(field)
  try:
    return tuple(kind(item) for item in items)
  except ValueError:
    raise ConfigError(
      f'--{field.name}={",".join(items)}: must be a comma-separated list of '
      f'{kind.__name__}'
    ) from None
