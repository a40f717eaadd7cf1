"""Between a run directory and its model: building, loading, evaluating."""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.special
import sonnet as snt
import tensorflow as tf

from launch import checkpoints, cli, records, rundir
from launch import config as config_lib
from launch.config import Config
from vae import (
  aggregate,
  convolutions,
  datasets,
  distributions,
  evaluation,
  importance,
  losses,
  models,
  networks,
  randomness,
  training,
)

if TYPE_CHECKING:
  import pandas as pd


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
  posterior = _posterior(config)
  likelihood = _likelihood(config, data_shape)
  output_bias = None
  if config.output_bias == 'data_mean' and mean_image is not None:
    # Burda et al. 2015: logits of the mean, kept off the ends.
    output_bias = scipy.special.logit(np.clip(mean_image, 0.001, 0.999))
  try:
    encoder, decoder = _networks(
      config,
      data_shape,
      posterior.parameter_shape,
      likelihood.parameter_shape,
      output_bias,
    )
  except ValueError as error:
    raise config_lib.ConfigError(f'--network={config.network}: {error}') from (
      error
    )
  model = models.VAE(
    models.Encoder(encoder, posterior),
    models.Decoder(decoder, likelihood),
    _prior(config),
  )
  model.decode(model.encode(tf.zeros([1, *data_shape])).mean())
  return model


def _networks(
  config: Config,
  data_shape: Sequence[int],
  encoder_shape: Sequence[int],
  decoder_shape: Sequence[int],
  output_bias: np.ndarray | None,
) -> tuple[snt.Module, snt.Module]:
  """Encoder and decoder, from data to parameters and from latents to them.

  Raises:
    ValueError: an image size that does not fit the convolutions.
  """
  init = networks.Initializer(config.init, config.seed)
  activation = getattr(tf.nn, config.activation)
  channels, hidden = config.channels, config.hidden_sizes
  if config.network == 'mlp':
    return (
      networks.MLP(hidden, encoder_shape, activation, init),
      networks.MLP(hidden[::-1], decoder_shape, activation, init, output_bias),
    )
  if config.network == 'strided_conv':
    return (
      convolutions.strided_conv_encoder(
        data_shape, channels, hidden, encoder_shape, activation, init
      ),
      convolutions.strided_conv_decoder(
        channels, hidden[::-1], decoder_shape, activation, init
      ),
    )
  if config.network == 'pooled_conv':
    return (
      convolutions.pooled_conv_encoder(
        data_shape, channels, encoder_shape, activation, config.dropout, init
      ),
      convolutions.upsampled_conv_decoder(
        channels, decoder_shape, activation, init
      ),
    )
  return (
    convolutions.deep_conv_encoder(
      data_shape, channels, encoder_shape, activation, init
    ),
    convolutions.deep_conv_decoder(channels, decoder_shape, activation, init),
  )


def _posterior(config: Config):
  if config.posterior == 'full_covariance':
    return distributions.FullCovariancePosterior(config.latent_size)
  families = {
    'normal': distributions.NormalPosterior,
    'diagonal': distributions.DiagonalPosterior,
  }
  return families[config.posterior](config.latent_size, config.posterior_scale)


def _prior(config: Config):
  if config.prior == 'mixture':
    key = randomness.key(config.seed, randomness.Purpose.WEIGHTS, 0)
    return distributions.normal_mixture(
      config.latent_size, config.prior_components, key
    )
  return distributions.standard_normal(
    config.latent_size, multivariate=config.posterior != 'normal'
  )


def _likelihood(config: Config, data_shape: Sequence[int]):
  if config.likelihood == 'bernoulli':
    return distributions.BernoulliLikelihood(data_shape)
  if config.likelihood == 'continuous_bernoulli':
    return distributions.ContinuousBernoulliLikelihood(data_shape)
  return distributions.NormalLikelihood(
    data_shape, config.parse_likelihood_scale()
  )


def evaluator(config: Config, model: models.VAE) -> evaluation.Evaluator:
  """Evaluates a config's model, with the exact KL where there is one."""
  kl = 'monte_carlo' if config.prior == 'mixture' else 'exact'
  return evaluation.Evaluator(model, kl=kl)


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


@dataclasses.dataclass(frozen=True)
class Run:
  """A run, read from its directory alone.

  Attributes:
    path: the run directory.
    config: its settings.
    manifest: where its numbers come from.
    step: of the checkpoint that `model` holds.
    model: the VAE, with the checkpoint's variables.
    data_dir: where its dataset is looked for.
  """

  path: pathlib.Path
  config: Config
  manifest: Mapping[str, Any]
  step: int
  model: models.VAE
  data_dir: str

  @property
  def train(self) -> 'pd.DataFrame':
    """The rows of train.csv."""
    return records.read_table(self.path, records.TRAIN)

  @property
  def eval(self) -> 'pd.DataFrame':
    """The rows of eval.csv."""
    return records.read_table(self.path, records.EVAL)

  @property
  def rate_per_latent(self) -> 'pd.DataFrame':
    """The rows of rate_per_latent.csv."""
    return records.read_table(self.path, records.RATE_PER_LATENT)

  @functools.cached_property
  def dataset(self) -> datasets.Dataset:
    """The data of the run, as it was trained on.

    Raises:
      DatasetError: data that cannot be had, or that are not the run's.
    """
    return open_dataset(self.config, self.data_dir, self.manifest)

  def images(self, split: str) -> np.ndarray:
    """The uint8 images of a split, [N, H, W, C].

    Raises:
      RunError: a split that does not exist.
    """
    splits = self.dataset.splits
    if split not in splits:
      raise rundir.RunError(
        f'--split={split}: {self.config.dataset} has the splits '
        f'{", ".join(sorted(splits))}'
      )
    return splits[split].images

  def evaluate(self, split: str = 'test') -> evaluation.Evaluation:
    """Elbo, rate, distortion and posterior moments over a split."""
    return evaluator(self.config, self.model)(
      self.images(split), self.config.binarize, self.config.seed
    )

  def importance_weighted_bounds(
    self,
    split: str = 'test',
    num_samples: int = 5000,
    progress: Callable[[int], None] = lambda num_images: None,
  ) -> list[importance.Bound]:
    """Lower bounds on log p(x) over a split, up to `num_samples` samples.

    Raises:
      ValueError: grey targets under a Bernoulli, or no samples.
    """
    if not self.config.has_density:
      raise ValueError(
        'grey pixels have no log-density under a Bernoulli; their '
        'importance-weighted bound bounds nothing'
      )
    estimator = importance.Estimator(self.model, self.config.jit == 'on')
    return estimator(
      self.images(split),
      self.config.binarize,
      self.config.seed,
      importance.sample_counts(num_samples),
      progress,
    )

  def decompose_rate(
    self,
    split: str = 'test',
    progress: Callable[[int], None] = lambda num_images: None,
  ) -> aggregate.Decomposition:
    """The rate over a split as information, total correlation and the rest."""
    posterior = aggregate.aggregate_posterior(
      self.model, self.images(split), self.config.binarize, self.config.seed
    )
    return aggregate.decompose(
      posterior, self.model.prior, self.config.seed, progress
    )


def load(
  run_dir: str | os.PathLike,
  data_dir: str | None = None,
  warn: Callable[[str], None] = print,
) -> Run:
  """Reads a run with its newest whole checkpoint, also while it trains.

  Args:
    run_dir: the run directory.
    data_dir: TFDS's data folder; None for the default.
    warn: is told about damaged checkpoints.

  Raises:
    RecordError, ConfigError, CheckpointError: a directory that is no run, or is
      damaged, or has no checkpoint yet.
  """
  path = pathlib.Path(run_dir)
  manifest = records.read_manifest(path)
  config = config_lib.load(path / records.CONFIG)
  newest = checkpoints.load_newest(path, warn)
  if newest is None:
    raise checkpoints.CheckpointError(
      f'{path} has no checkpoint yet (its status: {manifest["status"]})'
    )
  step, tensors = newest
  try:
    model = build(config, tuple(manifest['dataset']['shape']))
  except (KeyError, TypeError, ValueError) as error:
    raise records.RecordError(
      f'{path / records.MANIFEST} is damaged: {error!r}'
    ) from error
  variables = named_variables(model=model)
  assign(
    variables, {k: v for k, v in tensors.items() if k.startswith('model/')}
  )
  data_dir = cli.default_data_dir() if data_dir is None else data_dir
  return Run(path, config, manifest, step, model, data_dir)


def open_dataset(
  config: Config,
  data_dir: str,
  manifest: Mapping[str, Any] | None = None,
  report: Callable[[str], None] = print,
) -> datasets.Dataset:
  """Opens the data of a config: validation cut, statically binarised.

  Args:
    config: the settings.
    data_dir: TFDS's data folder.
    manifest: of the run whose data they must be; None for a new run.
    report: is told what is being tried.

  Raises:
    DatasetError: data that cannot be had, or that are not the run's.
    ConfigError: more validation images than training images.
  """
  dataset = datasets.load(config.dataset, data_dir, report)
  if manifest and manifest['dataset']['sha256'] != dataset.provenance['sha256']:
    raise datasets.DatasetError(
      f'--data_dir={data_dir}: the images of {config.dataset} are not those '
      'that the run was started with: their SHA-256 differ'
    )
  if config.binarize == 'static':
    dataset = dataset.statically_binarised()
  try:
    return dataset.with_validation(config.num_validation)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--num_validation={config.num_validation}: {error}'
    ) from error


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
