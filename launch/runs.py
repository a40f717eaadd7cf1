"""Between a config and its model: building, saving and restoring variables."""

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.special
import sonnet as snt
import tensorflow as tf

from launch import checkpoints
from launch.config import Config
from vae import distributions, losses, models, networks, training


def build(
  config: Config,
  data_shape: Sequence[int],
  mean_image: np.ndarray | None = None,
) -> models.VAE:
  """Makes the model of a config, with its variables.

  Args:
    config: the run's settings.
    data_shape: the shape of one example, [H, W, C].
    mean_image: mean of the training images in [0, 1], [H, W, C], from which
      `--output_bias=data_mean` starts; not needed where a checkpoint follows.
  """
  w_init = networks.Initializer(config.init, config.seed)
  activation = getattr(tf.nn, config.activation)
  posterior = distributions.NormalPosterior(
    config.latent_size, config.posterior_scale
  )
  likelihood = distributions.BernoulliLikelihood(data_shape)
  output_bias = None
  if config.output_bias == 'data_mean' and mean_image is not None:
    # Burda et al. 2015: logits of the mean, kept off the ends.
    output_bias = scipy.special.logit(np.clip(mean_image, 0.001, 0.999))
  encoder = networks.MLP(
    config.hidden_sizes, posterior.parameter_shape, activation, w_init
  )
  decoder = networks.MLP(
    config.hidden_sizes[::-1],
    likelihood.parameter_shape,
    activation,
    w_init,
    output_bias,
  )
  model = models.VAE(
    models.Encoder(encoder, posterior),
    models.Decoder(decoder, likelihood),
    distributions.standard_normal(config.latent_size),
  )
  model.decode(model.encode(tf.zeros([1, *data_shape])).mean())
  return model


def objective(config: Config) -> training.Objective:
  """What the config minimises."""
  if config.objective == 'elbo':
    return functools.partial(
      losses.beta_elbo,
      reduction=config.reduction,
      num_samples=config.num_samples,
      kl=config.kl,
    )
  importance_weighted = {'iwae': losses.iwae, 'dreg': losses.dreg}
  return functools.partial(
    importance_weighted[config.objective], num_samples=config.num_samples
  )


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


def values(variables: Mapping[str, tf.Variable]) -> dict[str, np.ndarray]:
  """The variables' values by name."""
  return {name: np.asarray(v.numpy()) for name, v in variables.items()}


def assign(
  variables: Mapping[str, tf.Variable], tensors: Mapping[str, np.ndarray]
) -> None:
  """Gives variables the values of a checkpoint.

  Raises:
    checkpoints.CheckpointError: names or shapes that differ; nothing is
      assigned.
  """
  if variables.keys() != tensors.keys():
    differing = sorted(variables.keys() ^ tensors.keys())
    raise checkpoints.CheckpointError(
      f'the checkpoint is of another model: they differ in {differing[0]}'
    )
  for name, variable in variables.items():
    if tuple(variable.shape) != tensors[name].shape:
      raise checkpoints.CheckpointError(
        f'the checkpoint is of another model: {name} has shape '
        f'{tensors[name].shape}, expected {tuple(variable.shape)}'
      )
  for name, variable in variables.items():
    variable.assign(tensors[name])
