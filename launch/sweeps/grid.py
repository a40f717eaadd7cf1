"""A sweep as data: axes, and the runs that they span. No TensorFlow."""

import itertools
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from launch import records
from launch.settings import config as config_lib
from launch.settings.config import Config


class Sweep(NamedTuple):
  """A named sweep.

  Attributes:
    summary: one line that says what it asks.
    axes: values of settings; those of several values multiply.
  """

  summary: str
  axes: Mapping[str, Sequence[Any]]


def _sweep(summary: str, **axes: Sequence[Any]) -> Sweep:
  return Sweep(summary, types.MappingProxyType(axes))


_SEEDS = (0, 1, 2)

SWEEPS: Mapping[str, Sweep] = types.MappingProxyType(
  {
    'beta': _sweep(
      'what the VAE gains over an autoencoder whose noise costs nothing '
      '(beta 0), in nats on dynamically binarised data',
      reduction=('sum',),
      binarize=('dynamic',),
      num_epochs=(20.0,),
      beta=(0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0),
      seed=_SEEDS,
    ),
    'latent_size': _sweep(
      'how many latents are needed at beta 1',
      reduction=('sum',),
      beta=(1.0,),
      binarize=('dynamic',),
      num_epochs=(20.0,),
      latent_size=(1, 2, 5, 10, 20, 50),
      seed=_SEEDS,
    ),
    'rate_distortion': _sweep(
      'the frontier of Alemi et al. 2018, https://arxiv.org/abs/1711.00464',
      reduction=('sum',),
      binarize=('dynamic',),
      num_epochs=(20.0,),
      beta=(0.1, 0.25, 0.5, 0.784, 1.0, 1.5, 2.0, 4.0, 8.0),
      seed=_SEEDS,
    ),
  }
)


class Planned(NamedTuple):
  """A run of a sweep.

  Attributes:
    name: of its folder in the sweep's.
    values: of the settings that vary, and of the seed.
    config: its settings, of which some may be left open.
  """

  name: str
  values: Mapping[str, Any]
  config: Config


class Plan(NamedTuple):
  """The runs of a sweep.

  Attributes:
    axes: the settings that vary.
    runs: those that one compiled program can train come one after the other.
  """

  axes: tuple[str, ...]
  runs: Sequence[Planned]


def plan(
  axes: Mapping[str, Sequence[Any]],
  make: Callable[[Mapping[str, Any]], Config],
) -> Plan:
  """Returns the runs of a sweep: every combination of the axes' values.

  Args:
    axes: values by setting.
    make: a config from some settings; decides on the others.

  Raises:
    ConfigError: a combination that cannot be.
  """
  varying = [name for name, values in axes.items() if len(values) > 1]
  planned: dict[Any, list[Planned]] = {}
  names = set()
  for combination in itertools.product(*axes.values()):
    given = dict(zip(axes, combination, strict=True))
    try:
      config = make(given)
    except config_lib.ConfigError as error:
      if not varying:
        raise
      which = ' '.join(f'--{n}={records.text(given[n])}' for n in varying)
      raise config_lib.ConfigError(f'{error} (with {which})') from error
    values = {name: given[name] for name in varying} | {'seed': config.seed}
    name = (
      '_'.join(f'{key}={records.text(given[key])}' for key in varying) or 'run'
    )
    name = re.sub(r'[^\w.,=+-]', '-', name)
    while name in names:  # Values that differ in such characters alone.
      name += '-'
    names.add(name)
    program = config_lib.compiled_settings(config)
    planned.setdefault(program, []).append(Planned(name, values, config))
  return Plan(
    tuple(varying), [run for runs in planned.values() for run in runs]
  )
