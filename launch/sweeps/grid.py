"""A sweep as data: grids of settings, and the runs that they span.

No TensorFlow.
"""

import itertools
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from launch import records
from launch.settings import config as config_lib
from launch.settings.config import Config

# Values of settings; those of several values multiply.
Grid = Mapping[str, Sequence[Any]]

# The setting by which an objective departs from the elbo.
STRENGTHS: Mapping[str, str] = types.MappingProxyType(
  {
    'elbo': 'beta',
    'annealed': 'capacity',
    'factor': 'gamma',
    'beta_tc': 'beta',
    'dip_i': 'dip_weight',
    'dip_ii': 'dip_weight',
    'info': 'mmd_weight',
  }
)


class Sweep(NamedTuple):
  """A named sweep.

  Attributes:
    summary: one line that says what it asks.
    axes: what all of its runs share.
    parts: grids over it, whose runs are those of the sweep.
  """

  summary: str
  axes: Grid
  parts: Sequence[Grid] = (types.MappingProxyType({}),)

  def grids(self, given: Grid) -> list[Grid]:
    """Returns the grids of the sweep where some settings are overridden.

    A setting that parts have, and the sweep itself has not, is overridden in
    these alone, but --objective chooses among the parts that each have one.

    Args:
      given: values by setting.

    Raises:
      ConfigError: an objective that no part has.
    """
    parts = self.parts
    if any('objective' in part for part in parts):
      objectives = [*given.get('objective', [])]
      given = {n: v for n, v in given.items() if n != 'objective'}
      known = [part['objective'][0] for part in parts]
      for objective in objectives:
        if objective not in known:
          raise config_lib.ConfigError(
            f'--objective={objective}: must be one of the sweep, '
            f'{", ".join(known)}'
          )
      if objectives:
        parts = [part for part in parts if part['objective'][0] in objectives]
    in_parts = {name for part in parts for name in part} - {*self.axes}
    shared = {**self.axes}
    shared |= {n: v for n, v in given.items() if n not in in_parts}
    replaced = {
      other
      for name, other in (
        ('training_steps', 'num_epochs'),
        ('num_epochs', 'training_steps'),
      )
      if name in given and other not in given
    }
    return [
      {
        name: given.get(name, part.get(name, values))
        for name, values in {**part, **shared}.items()
        if name not in replaced
      }
      for part in parts
    ]


def _sweep(summary: str, *objectives: Grid, **axes: Sequence[Any]) -> Sweep:
  parts = objectives or (types.MappingProxyType({}),)
  return Sweep(summary, types.MappingProxyType(axes), parts)


def _objective(name: str, strengths: Sequence[float], **axes: Any) -> Grid:
  """The grid of an objective in a sweep over several."""
  strength = {'objective': (name,), STRENGTHS[name]: strengths}
  return types.MappingProxyType(strength | axes)


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
    'disentanglement': _sweep(
      'what objective, strength and seed do to disentanglement: sprites of 32 '
      'x 32 pixels, the default MLP, a small discriminator',
      _objective('elbo', (0.5, 1.0, 2.0, 4.0)),
      _objective('beta_tc', (2.0, 3.0, 5.0, 8.0)),
      _objective(
        'factor',
        (2.0, 5.0, 10.0, 20.0),
        discriminator_sizes=((100, 100, 100),),
        discriminator_learning_rate=(1e-3,),
      ),
      _objective('dip_ii', (1.0, 2.0, 5.0, 10.0)),
      dataset=('sprites',),
      image_size=(32,),
      test_share=(0.03,),
      reduction=('sum',),
      training_steps=(30_000,),
      log_every=(1_000,),
      eval_every=(5_000,),
      eval_images=(0,),  # Scores are made of the codes of all.
      seed=(0, 1, 2, 3, 4),
    ),
    'locatello': _sweep(
      'the study of Locatello et al. 2019, https://arxiv.org/abs/1811.12359, '
      'on sprites: 1,800 runs of 300,000 steps (FactorVAE of 150,000, as it '
      'ran there), for a cluster',
      _objective('elbo', (1.0, 2.0, 4.0, 6.0, 8.0, 16.0)),
      _objective(
        'annealed',
        (5.0, 10.0, 25.0, 50.0, 75.0, 100.0),
        capacity_steps=(100_000,),
        gamma=(1000.0,),
      ),
      _objective(
        'factor',
        (10.0, 20.0, 30.0, 40.0, 50.0, 100.0),
        training_steps=(150_000,),
      ),
      _objective('dip_i', (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)),
      _objective('dip_ii', (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)),
      _objective('beta_tc', (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)),
      dataset=('sprites',),
      test_share=(0.0,),
      reduction=('sum',),
      network=('locatello_conv',),
      posterior_scale=('log_variance',),
      init=('glorot_uniform',),
      learning_rate=(1e-4,),
      training_steps=(300_000,),
      log_every=(5_000,),
      eval_images=(0,),
      seed=tuple(range(50)),
    ),
  }
)


class Planned(NamedTuple):
  """A run of a sweep.

  Attributes:
    name: of its folder in the sweep's.
    values: of the settings that vary, and of the seed; where objectives have
      grids of their own, the strength of each stands for its setting.
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


def value(config: Config, name: str) -> Any:
  """Returns what a config has in a column of a sweep's record."""
  if name == records.STRENGTH:
    name = STRENGTHS[config.objective]
  return getattr(config, name)


def plan(
  grids: Sequence[Grid],
  make: Callable[[Mapping[str, Any]], Config],
) -> Plan:
  """Returns the runs of a sweep: every combination of values in each grid.

  Args:
    grids: values by setting; where there are several, each has an objective.
    make: a config from some settings; decides on the others.

  Raises:
    ConfigError: a combination that cannot be.
  """
  varying = [
    name
    for name in dict.fromkeys(name for axes in grids for name in axes)
    if len(grids[0].get(name, ())) > 1
    or len({tuple(axes.get(name, ())) for axes in grids}) > 1
  ]
  common = [
    name
    for name in varying
    if all(name in axes for axes in grids)
    # What follows from the objective is not an axis besides it.
    and (name == 'objective' or any(len(axes[name]) > 1 for axes in grids))
  ]
  columns = common
  if len(grids) > 1:
    columns = [n for n in common if n not in STRENGTHS.values()]
    columns.insert(1, records.STRENGTH)
  planned: dict[Any, list[Planned]] = {}
  names = set()
  for axes in grids:
    named = [
      name for name, values in axes.items() if name in common or len(values) > 1
    ]
    for combination in itertools.product(*axes.values()):
      given = dict(zip(axes, combination, strict=True))
      try:
        config = make(given)
      except config_lib.ConfigError as error:
        if not named:
          raise
        which = ' '.join(f'--{n}={records.text(given[n])}' for n in named)
        raise config_lib.ConfigError(f'{error} (with {which})') from error
      values = {name: value(config, name) for name in [*columns, 'seed']}
      name = (
        '_'.join(f'{key}={records.text(given[key])}' for key in named) or 'run'
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
