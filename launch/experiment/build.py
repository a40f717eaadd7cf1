"""From settings to a model, what it minimises, and its data."""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from launch.rundir import checkpoints
from launch.settings import config as config_lib
from launch.settings import parts
from launch.settings.config import Config
from vae import (
  architectures,
  likelihoods,
  losses,
  models,
  networks,
  objectives,
  posteriors,
  priors,
  randomness,
)
from vae.data import datasets, sources

tfd = tfp.distributions


def model(
  config: Config,
  data_shape: Sequence[int],
  mean_image: np.ndarray | None = None,
) -> models.VAE:
  """Makes the model of a config, with its variables.

  Args:
    config: the run's settings.
    data_shape: the shape of one example, [H, W, C] or [F].
    mean_image: mean of the training images in [0, 1], [H, W, C], from which
      `--output_bias=data_mean` starts; not needed where a checkpoint follows.

  Raises:
    ConfigError: data that do not fit a network, `--kl=exact` where no closed
      form is known, or a model that does not fit into memory.
  """
  try:
    return _model(config, data_shape, mean_image)
  except (MemoryError, tf.errors.ResourceExhaustedError) as error:
    raise config_lib.ConfigError(
      f'--hidden_sizes={",".join(map(str, config.hidden_sizes))} '
      f'--latent_size={config.latent_size}: the model does not fit into memory '
      f'for data of shape {tuple(data_shape)}'
    ) from error


def _model(
  config: Config, data_shape: Sequence[int], mean_image: np.ndarray | None
) -> models.VAE:
  output_bias = None
  if config.output_bias == 'data_mean' and mean_image is not None:
    # Burda et al. 2015: logits of the mean, kept off the ends.
    output_bias = scipy.special.logit(np.clip(mean_image, 0.001, 0.999))
  settings = dataclasses.asdict(config) | {
    'data_shape': tuple(data_shape),
    'w_init': networks.Initializer(config.init, config.seed),
    'activation': _activation(config.activation),
    'output_bias': output_bias,
    'key': randomness.key(config.seed, randomness.Purpose.WEIGHTS, 0),
  }
  posterior = _make(
    'posterior',
    posteriors,
    config.posterior,
    settings
    | {
      'scale': config.posterior_scale,
      'activation': _activation(config.code_activation),
    },
  )
  likelihood = _make(
    'likelihood',
    likelihoods,
    config.likelihood,
    settings
    | {
      'scale': config.parse_likelihood_scale(),
      'activation': _activation(config.output_activation),
    },
  )
  encoder = _make(
    'encoder' if config.encoder else 'network',
    architectures,
    config.encoder or config.network,
    settings | {'output_shape': posterior.parameter_shape},
    '_encoder',
  )
  decoder = _make(
    'decoder' if config.decoder else 'network',
    architectures,
    config.decoder or config.network,
    settings | {'output_shape': likelihood.parameter_shape},
    '_decoder',
  )
  encode = models.Encoder(encoder, posterior)
  decode = models.Decoder(decoder, likelihood)
  example = encode(tf.zeros([1, *data_shape]))
  decode(example.mean())
  multivariate = isinstance(example, tfd.MultivariateNormalLinearOperator)
  prior = _make(
    'prior', priors, config.prior, settings | {'multivariate': multivariate}
  )
  if config.objective == 'elbo' and config.kl == 'exact':
    _check_closed_form(config, example, prior)
  return models.VAE(encode, decode, prior)


def _activation(name: str) -> networks.Activation:
  return tf.identity if name == 'linear' else getattr(tf.nn, name)


def _find(module: types.ModuleType, value: str, suffix: str = '') -> Any:
  """The part that a flag's value names."""
  name = module.__name__.split('.')[-1]
  return getattr(module, parts.find(name, suffix)[value])


def _make(
  flag: str,
  module: types.ModuleType,
  value: str,
  settings: Mapping[str, Any],
  suffix: str = '',
) -> Any:
  """Calls the part that a flag's value names with the settings it asks for.

  Raises:
    ConfigError: the part refuses them.
  """
  part = _find(module, value, suffix)
  try:
    return part(**parts.wanted(part, settings))
  except ValueError as error:
    raise config_lib.ConfigError(f'--{flag}={value}: {error}') from error


def _check_closed_form(
  config: Config, posterior: tfd.Distribution, prior: tfd.Distribution
) -> None:
  if not losses.has_closed_form(posterior, prior):
    raise config_lib.ConfigError(
      f'--kl=exact: no closed form of the KL from --posterior='
      f'{config.posterior} to --prior={config.prior} is known; give '
      '--kl=monte_carlo'
    )


def objective(config: Config) -> functools.partial[Any]:
  """What the config minimises."""
  part = _find(objectives, config.objective)
  settings = parts.wanted(part, dataclasses.asdict(config))
  settings.pop('beta', None)  # Comes with every step.
  return functools.partial(part, **settings)


def settings_of_parts(config: Config) -> tuple[tuple[str, Any], ...]:
  """The settings that a config's parts ask for by name, which they may keep.

  But for an objective's beta, which comes with every step.
  """
  settings = dataclasses.asdict(config)
  chosen = (
    (posteriors, config.posterior, ''),
    (likelihoods, config.likelihood, ''),
    (priors, config.prior, ''),
    (architectures, config.encoder or config.network, '_encoder'),
    (architectures, config.decoder or config.network, '_decoder'),
  )
  names = set(objective(config).keywords)
  for module, value, suffix in chosen:
    names |= parts.wanted(_find(module, value, suffix), settings).keys()
  return tuple((name, settings[name]) for name in sorted(names))


def num_parameters(module: snt.Module) -> int:
  """The number of trainable numbers in a module."""
  return sum(math.prod(v.shape) for v in module.trainable_variables)


def named_variables(**modules: snt.Module) -> dict[str, tf.Variable]:
  """Every variable of some modules, under a unique name."""
  return {
    f'{prefix}/{index:03d}/{variable.name.split(":")[0]}': variable
    for prefix, module in modules.items()
    for index, variable in enumerate(module.variables)
  }


def open_dataset(
  config: Config,
  data_dir: str,
  report: Callable[[str], None] = print,
  manifest: Mapping[str, Any] | None = None,
) -> datasets.Dataset:
  """Opens the data of a config: validation cut, statically binarised.

  Args:
    config: the settings.
    data_dir: TFDS's data folder.
    report: is told what is being tried.
    manifest: of the run whose data they are, which may be cut as older
      versions did; None for a new run.

  Raises:
    DatasetError: data that cannot be had.
    ConfigError: more validation images than training images.
  """
  options = sources.Options(image_size=config.image_size)
  dataset = datasets.load(
    config.dataset, data_dir, report, options, cut(manifest)
  )
  if config.binarize == 'static':
    dataset = dataset.statically_binarised()
  try:
    return dataset.with_validation(config.num_validation)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--num_validation={config.num_validation}: {error}'
    ) from error


def cut(manifest: Mapping[str, Any] | None) -> int:
  """Returns `sources.CUT`, or as it was when a run was started."""
  return manifest['dataset'].get('cut', 1) if manifest else sources.CUT


def check_dataset(
  dataset: datasets.Dataset, manifest: Mapping[str, Any], data_dir: str
) -> None:
  """Checks that data are those that a run was started with.

  Args:
    dataset: from `open_dataset`.
    manifest: of the run.
    data_dir: where it was opened, for the error message.

  Raises:
    DatasetError: they are others.
  """
  if manifest['dataset']['sha256'] != dataset.provenance['sha256']:
    raise datasets.DatasetError(
      f'--data_dir={data_dir}: the images of {dataset.name} are not those '
      'that the run was started with: their SHA-256 differ'
    )


def values(variables: Mapping[str, tf.Variable]) -> dict[str, np.ndarray]:
  """The variables' values by name."""
  return {name: np.asarray(v.numpy()) for name, v in variables.items()}


def assign(
  variables: Mapping[str, tf.Variable], tensors: Mapping[str, np.ndarray]
) -> None:
  """Gives variables the values of a checkpoint.

  Raises:
    checkpoints.CheckpointError: names, shapes or types that differ; nothing is
      assigned.
  """
  if variables.keys() != tensors.keys():
    differing = sorted(variables.keys() ^ tensors.keys())
    raise checkpoints.CheckpointError(
      f'the checkpoint is of another model: they differ in {differing[0]}'
    )
  for name, variable in variables.items():
    found = (tensors[name].dtype.name, tensors[name].shape)
    expected = (variable.dtype.name, tuple(variable.shape))
    if found != expected:
      raise checkpoints.CheckpointError(
        f'the checkpoint is of another model: {name} has type and shape '
        f'{found}, expected {expected}'
      )
  for name, variable in variables.items():
    variable.assign(tensors[name])
