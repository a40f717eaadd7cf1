"""The flags of a run's settings, and the config that they ask for."""

from collections.abc import Mapping
from typing import Any

from absl import flags

from launch.settings import asked
from launch.settings import config as config_lib
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
        asked.parse_list(field, value) if config_lib.is_list(field) else value
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
      asked.parse_list(field, text.split(',') if text else [])
      if config_lib.is_list(field)
      else asked.parse_list(field, [text])[0]
      for text in texts
    ]
    if not values:
      raise ConfigError(f'--{field.name}=: give a value')
    if len(set(values)) < len(values):
      raise ConfigError(f'--{field.name}={",".join(texts)}: a value is twice')
    axes[field.name] = values
  return axes


def make(given: Mapping[str, Any], stored: Config | None = None) -> Config:
  """Returns the config of some settings and of --preset or --config.

  Args:
    given: settings by name.
    stored: the config of the run that goes on.

  Raises:
    ConfigError, RecordError: as `asked.make` says.
  """
  preset = flags.FLAGS['preset']
  name = str(preset.value) if preset.present else None
  return asked.make(given, stored, name, flags.FLAGS['config'].value)
