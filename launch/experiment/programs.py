"""From a config to its data and to a program that is ready to train."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from launch.experiment import build, scores
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae import models, replicas, training
from vae.data import batches, datasets
from vae.metrics import evaluation

# Larger data stay with the host, which sends each block's images.
_DEVICE_BYTES = 2**30

# From here on dense networks train in bfloat16 by TensorFlow's own kernels as
# fast as in float32 by XLA, or faster: 784-100-100, 200-200 and 512-512 at
# batches of 64 0.6, 0.8 and 0.9 times as fast, of 256 1.0, 1.1 and 1.4 times.
_LARGE_BATCH = 256


def set_threads(threads: int) -> int:
  """Sets TensorFlow's threads before its first operation.

  Args:
    threads: how many; 0 for as many as there are cores.

  Returns:
    How many there are.

  Raises:
    ConfigError: an operation came before, with another number.
  """
  cores = len(os.sched_getaffinity(0))
  threads = threads or cores
  threading = tf.config.threading
  before = threading.get_intra_op_parallelism_threads()
  if before == threads:
    return threads
  try:
    threading.set_intra_op_parallelism_threads(threads)
    threading.set_inter_op_parallelism_threads(threads)
  except RuntimeError as error:
    if (before or cores) != threads:  # By itself it takes all cores.
      raise config_lib.ConfigError(
        f'--threads={threads}: this process computes with {before or cores} '
        'already; give that, or start another'
      ) from error
  return threads


def _strategy(devices: int) -> tf.distribute.Strategy:
  """Returns what trains on so many devices.

  Raises:
    ConfigError: there are fewer.
  """
  found = len(replicas.available())
  if devices > found:
    gpus = tf.config.list_logical_devices('GPU')
    here = f'{found} GPU{"s" if found > 1 else ""}' if gpus else 'no GPU'
    raise config_lib.ConfigError(
      f'--devices={devices}: TensorFlow finds {here} on this machine'
    )
  return replicas.strategy(devices)


class Program:
  """A model, and what trains and evaluates it once compiled.

  Attributes:
    model: the VAE.
    optimizer: with its slots.
    objective: what it minimises.
    variables: of all three, by name.
    properties: what it is.
    evaluator: of the model.
  """

  def __init__(
    self,
    config: Config,
    model: models.VAE,
    examples: batches.Examples,
    strategy: tf.distribute.Strategy | None = None,
  ):
    """Initializes the program; nothing is compiled before it is used.

    Args:
      config: all resolved, of its first run. Those of others agree in their
        `config.compiled_settings`.
      model: with its variables made.
      examples: of the training split, [N, ...].
      strategy: in whose scope this is, and the model was made; None for one
        device.
    """
    self._config, self._strategy = config, strategy
    self.model = model
    self.optimizer = build.optimizer(config, model)
    self.objective = build.objective(config, model)
    self.variables = build.named_variables(
      model=model, optimizer=self.optimizer, **self.objective.owned
    )
    self.properties = build.properties(config, examples)
    self.evaluator = evaluation.Evaluator(
      model, has_elbo=self.properties.has_elbo
    )
    self._examples = examples

  @functools.cached_property
  def engine(self) -> training.Engine:
    """Trains the model."""
    config = self._config
    return training.Engine(
      self.model,
      self.optimizer,
      self.objective,
      self._examples,
      seed=config.seed,
      batch_size=config.batch_size,
      binarize=config.binarize,
      jit=config.jit == 'on',
      on_device=config.data_placement == 'device',
      strategy=self._strategy,
    )

  def restart(self, other: 'Program') -> None:
    """Makes it another run's program, which is as before its first step."""
    pairs = zip(self.variables.values(), other.variables.values(), strict=True)
    for variable, value in pairs:
      variable.assign(value)
    self.properties = other.properties  # Beta is none of what is compiled.
    self.engine.seed = other._config.seed


class Prepared(NamedTuple):
  """A run that is ready to train: its config, data and compiled program."""

  config: Config
  dataset: datasets.Dataset
  program: Program


class ProgramCache:
  """Prepares runs; one that is like the last takes over its compiled program.

  Only the last is kept, so that memory does not grow with the runs.
  """

  def __init__(self):
    """Initializes a cache without data or program."""
    self._dataset: tuple[Any, datasets.Dataset] | None = None
    self._program: tuple[Any, Program] | None = None
    self._sized: Any = None  # What `build.check_sizes` has passed last.

  def prepare(
    self,
    config: Config,
    data_dir: str,
    manifest: Mapping[str, Any] | None,
    report: Callable[[str], None],
    given: Mapping[str, np.ndarray] | None = None,
  ) -> Prepared:
    """Opens a run's data and makes its program.

    Args:
      config: the settings, of which some may be left open.
      data_dir: TFDS's data folder.
      manifest: of the run that goes on; None for a new run.
      report: is told what is being tried to get the data.
      given: as in `build.open_dataset`.

    Raises:
      ConfigError, DatasetError: settings or data that cannot be.
    """
    threads = set_threads(config.threads)
    tf.config.experimental.enable_op_determinism()
    strategy = _strategy(config.devices)
    data = (
      os.path.abspath(data_dir),
      datasets.key_of(config.dataset),  # Of a file: it may have changed since.
      build.cut_of(manifest),
      config_lib.data_settings(config),
    )
    if not self._dataset or self._dataset[0] != data:
      self._dataset = self._program = None
      dataset = build.open_dataset(config, data_dir, report, manifest, given)
      self._dataset = data, dataset
    dataset = self._dataset[1]
    if manifest:
      build.check_dataset(dataset, manifest, data_dir)
    config = _resolve(dataclasses.replace(config, threads=threads), dataset)
    examples = dataset.splits['train'].examples
    sizes = dataset.shape, config_lib.compiled_settings(config)
    if self._sized != sizes:
      build.check_sizes(config, dataset.shape)
      self._sized = sizes
    mean_image = None
    if config.output_bias == 'data_mean':
      mean_image = batches.mean_image(examples)
    with strategy.scope():
      model = build.model(config, dataset.shape, mean_image)
    _check_range(model, dataset, config.likelihood)
    config = dataclasses.replace(config, jit=resolve_jit(config, model))
    key = id(dataset), config_lib.compiled_settings(config)
    if self._program and self._program[0] != key:
      self._program = None  # Its memory, before the next one takes as much.
    with strategy.scope():
      program = Program(config, model, examples, strategy)
    if self._program:
      self._program[1].restart(program)
    else:
      self._program = key, program
    return Prepared(config, dataset, self._program[1])


def _resolve(config: Config, dataset: datasets.Dataset) -> Config:
  """Decides what the flags left open, but for `--jit`.

  Raises:
    ConfigError, ScoreError: settings that do not fit the data.
  """
  num_train = len(dataset.splits['train'].examples)
  if config.batch_size > num_train:
    raise config_lib.ConfigError(
      f'--batch_size={config.batch_size}: must be at most the {num_train:,} '
      f'training {"images" if dataset.has_images else "rows"} of '
      f'{dataset.name}'
    )
  if not dataset.has_images and config.binarize != 'none':
    raise config_lib.ConfigError(
      f'--binarize={config.binarize}: {dataset.name} is a table; only images '
      'can be made binary'
    )
  if config.patience and 'validation' not in dataset.splits:
    raise config_lib.ConfigError(
      f'--patience={config.patience}: needs a validation split; give '
      '--num_validation'
    )
  tested = dataset.splits.get('test', dataset.splits['train'])
  scores.check(
    config.eval_scores,
    {'dataset': dataset.provenance},
    tested.factors is not None or tested.labels is not None,
    '--eval_scores',
  )
  placement = config.data_placement
  if placement == 'auto':
    small = dataset.splits['train'].examples.nbytes <= _DEVICE_BYTES
    placement = 'device' if small else 'host'
  return dataclasses.replace(
    config_lib.with_steps(config, num_train),
    dataset=dataset.name,
    data_placement=placement,
  )


def resolve_jit(config: Config, model: models.VAE) -> str:
  """Returns whether XLA compiles the training loop, 'on' or 'off'."""
  if config.jit != 'auto':
    return config.jit
  if config.devices > 1:
    return 'off'  # XLA compiles a program of one device.
  if tf.config.list_physical_devices('GPU'):
    return 'on'
  # XLA doubles the speed of dense networks and, on CPUs, halves that of
  # convolutions. There it also has no products of bfloat16, which gain more
  # than it does where batches are large.
  convolutions = any(len(v.shape) > 2 for v in model.trainable_variables)
  is_large = config.batch_size >= _LARGE_BATCH
  multiplies = config.precision == 'bfloat16' and is_large
  return 'off' if convolutions or multiplies else 'on'


def _check_range(
  model: models.VAE, dataset: datasets.Dataset, likelihood: str
) -> None:
  """Refuses values that a likelihood cannot explain, rather than clip them."""
  assert isinstance(model.decode, models.Decoder)
  support = getattr(model.decode.likelihood, 'support', None)
  if support is None or dataset.has_images:  # Whose values lie in [0, 1].
    return
  for name, split in dataset.splits.items():
    rows = np.asarray(split.examples)
    low, high = float(rows.min()), float(rows.max())
    if low < support[0] or high > support[1]:
      raise config_lib.ConfigError(
        f'--likelihood={likelihood}: {dataset.name} has values from '
        f'{low:.4g} to {high:.4g} in its {name} split, outside of '
        f'[{support[0]:g}, {support[1]:g}]; give --likelihood=normal'
      )
