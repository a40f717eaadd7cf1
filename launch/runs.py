"""Between a run directory and its model: building, loading, evaluating."""

# ruff: noqa: E402

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from launch import process, records

# Before those that use it: as `vae` sets it up, without its chatter.
process.import_tensorflow()  # isort: split

from launch.experiment import build, metrics
from launch.rundir import checkpoints, opening
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae import models
from vae.data import datasets
from vae.metrics import evaluation


def _table(name: str) -> property:
  """A table of a run as a data frame, read when it is asked for."""
  read = lambda run: records.read_table(run.path, name)
  return property(read, doc=f'The rows of {name}.')


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
    train, terms, eval, rate_per_latent, scores: the rows of these tables, data
      frames.
  """

  path: pathlib.Path
  config: Config
  manifest: Mapping[str, Any]
  step: int
  model: models.VAE
  data_dir: str

  train = _table(records.TRAIN)
  terms = _table(records.TERMS)
  eval = _table(records.EVAL)
  rate_per_latent = _table(records.RATE_PER_LATENT)
  scores = _table(records.SCORES)

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

  def split(self, name: str | None = None) -> tuple[str, datasets.Split]:
    """Returns the name and the examples of a split that can be evaluated.

    Args:
      name: train, validation or test; None for that of `records.result_split`.

    Raises:
      RunError: a split that does not exist, or has too few images for an error.
    """
    splits = self.dataset.splits
    name = name or records.result_split(self.manifest)
    if name not in splits:
      raise opening.RunError(
        f'--split={name}: {self.config.dataset} has the splits '
        f'{", ".join(sorted(splits))}'
      )
    if len(splits[name].examples) < 2:
      raise opening.RunError(
        f'--split={name}: has {len(splits[name].examples)} example; a standard '
        'error needs at least 2'
      )
    return name, splits[name]

  def evaluate(
    self,
    split: str | None = None,
    num_importance_samples: int = 0,
    progress: Callable[[str, int], Callable[[int], None]] | None = None,
  ) -> metrics.Evaluated:
    """Evaluates a split, as all metrics take it.

    Args:
      split: train, validation or test; None for that of `records.result_split`.
      num_importance_samples: for the bound on log p(x); 0 for none.
      progress: from a label and a number of images, a function that is told how
        many of them are done; None shows nothing.

    Returns:
      `result` with the elbo, rate, distortion and the latents' moments;
      `rate_parts` and `bounds`, which are measured when they are asked for.

    Raises:
      RunError: a split that does not exist, or has too few images for an error.
    """
    split, data = self.split(split)
    evaluator = evaluation.Evaluator(
      self.model, has_elbo=self.manifest['has_elbo']
    )
    return metrics.Evaluated(
      self.config,
      self.manifest,
      self.step,
      self.model,
      split,
      data,
      evaluator(data.examples, self.config.binarize, self.config.seed),
      num_importance_samples,
      *([progress] if progress else []),
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
  manifest, (step, tensors) = _read_weights(path, warn)
  config = config_lib.load(path / records.CONFIG)
  model = build.model(config, tuple(manifest['dataset']['shape']))
  variables = build.named_variables(model=model)
  build.assign(
    variables, {k: v for k, v in tensors.items() if k.startswith('model/')}
  )
  data_dir = process.default_data_dir() if data_dir is None else data_dir
  return Run(path, config, manifest, step, model, data_dir)


def _read_weights(
  path: pathlib.Path, warn: Callable[[str], None]
) -> tuple[dict[str, Any], tuple[int, dict[str, np.ndarray]]]:
  """Returns a run's manifest, and the best or newest checkpoint."""
  manifest = records.read_manifest(path)
  if 'best_step' not in manifest:
    newest = checkpoints.load_newest(path, warn)
    if newest is None:
      raise checkpoints.CheckpointError(
        f'{path} has no checkpoint yet (its status: {manifest["status"]})'
      )
    return manifest, newest
  try:
    best = checkpoints.path_of(path, manifest['best_step'])
    return manifest, checkpoints.load(best)
  except checkpoints.CheckpointError:
    now = records.read_manifest(path)
    if now.get('best_step') == manifest['best_step']:
      raise
    # The process that trains found a better one, and deleted this one, since.
    return _read_weights(path, warn)
