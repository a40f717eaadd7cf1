"""Between a run directory and its model: building, loading, evaluating."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from launch import process, records
from launch.experiment import build
from launch.rundir import checkpoints, opening
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae import models
from vae.data import batches, datasets
from vae.metrics import aggregate, evaluation, importance

if TYPE_CHECKING:
  import pandas as pd


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
    dataset = build.open_dataset(
      self.config, self.data_dir, manifest=self.manifest
    )
    build.check_dataset(dataset, self.manifest, self.data_dir)
    return dataset

  def examples(self, split: str) -> batches.Examples:
    """The images of a split, uint8 [N, H, W, C], or rows, float32 [N, F].

    Images that are held packed become an array by `np.asarray`.

    Raises:
      RunError: a split that does not exist.
    """
    splits = self.dataset.splits
    if split not in splits:
      raise opening.RunError(
        f'--split={split}: {self.config.dataset} has the splits '
        f'{", ".join(sorted(splits))}'
      )
    return splits[split].examples

  def evaluate(self, split: str = 'test') -> evaluation.Evaluation:
    """Elbo, rate, distortion and posterior moments over a split."""
    evaluator = evaluation.Evaluator(self.model, has_elbo=self.config.has_elbo)
    return evaluator(
      self.examples(split), self.config.binarize, self.config.seed
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
      self.examples(split),
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
      self.model, self.examples(split), self.config.binarize, self.config.seed
    )
    return aggregate.decompose(
      posterior, self.model.prior, self.config.seed, progress
    )


def load(
  run_dir: str | os.PathLike,
  data_dir: str | None = None,
  warn: Callable[[str], None] = print,
) -> Run:
  """Reads a run with its best or newest checkpoint, also while it trains.

  The best one of a run with `--patience`, by its validation split so far; else
  the newest that is whole.

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
  if 'best_step' in manifest:
    best = checkpoints.path_of(path, manifest['best_step'])
    step, tensors = checkpoints.load(best)
  else:
    newest = checkpoints.load_newest(path, warn)
    if newest is None:
      raise checkpoints.CheckpointError(
        f'{path} has no checkpoint yet (its status: {manifest["status"]})'
      )
    step, tensors = newest
  model = build.model(config, tuple(manifest['dataset']['shape']))
  variables = build.named_variables(model=model)
  build.assign(
    variables, {k: v for k, v in tensors.items() if k.startswith('model/')}
  )
  data_dir = process.default_data_dir() if data_dir is None else data_dir
  return Run(path, config, manifest, step, model, data_dir)
