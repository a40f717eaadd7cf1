"""Between a config and its model: building, saving and restoring variables."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import sonnet as snt
import tensorflow as tf

from launch import checkpoints
from launch.config import Config
from vae import distributions, losses, models, networks


def build(config: Config, data_shape: Sequence[int]) -> models.VAE:
  """Makes the model of a config, with its variables.

  Args:
    config: the run's settings.
    data_shape: the shape of one example, [H, W, C].
  """
  w_init = networks.Initializer(config.init, config.seed)
  activation = getattr(tf.nn, config.activation)
  posterior = distributions.NormalPosterior(
    config.latent_size, config.posterior_scale
  )
  likelihood = distributions.BernoulliLikelihood(data_shape)
  mlp = lambda sizes, shape: networks.MLP(sizes, shape, activation, w_init)
  model = models.VAE(
    models.Encoder(
      mlp(config.hidden_sizes, posterior.parameter_shape), posterior
    ),
    models.Decoder(
      mlp(config.hidden_sizes[::-1], likelihood.parameter_shape), likelihood
    ),
    distributions.standard_normal(config.latent_size),
  )
  model.decode(model.encode(tf.zeros([1, *data_shape])).mean())
  return model


def objective(config: Config, data_shape: Sequence[int]):
  """What the config minimises, as `vae.training.Objective`."""
  num_values = math.prod(data_shape)

  def elbo_objective(model, images, key, beta):
    terms = losses.terms(model, images, key)
    loss = losses.beta_loss(
      terms, beta, config.reduction, num_values, config.latent_size
    )
    return loss, terms

  return elbo_objective


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
