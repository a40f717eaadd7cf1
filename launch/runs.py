"""Runs in Python: training them, loading them, and calling their models."""

# ruff: noqa: E402

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from launch import files, process, records

# Before those that use it: as `vae` sets it up, without its chatter.
process.import_tensorflow()  # isort: split

import tensorflow as tf
import tensorflow_probability as tfp

from launch.experiment import (
  build,
  inputs,
  loop,
  metrics,
  programs,
  progress,
)
from launch.rundir import checkpoints, opening
from launch.settings import asked
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae import distributions, models, randomness
from vae.data import arrays as array_data
from vae.data import datasets, sources
from vae.metrics import evaluation

tfd = tfp.distributions

_DECODED = 1024  # Codes that are decoded at once.

# What is raised where a run cannot be.
ConfigError = config_lib.ConfigError
DatasetError = datasets.DatasetError
RunError = opening.RunError
LockedError = files.LockedError


def _table(name: str) -> property:
  """A table of a run as a data frame, read when it is asked for."""
  read = lambda run: records.read_table(run.path, name)
  return property(read, doc=f'The rows of {name}.')


@dataclasses.dataclass(frozen=True, repr=False)
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

  def __repr__(self) -> str:
    """Returns one line that says what it is."""
    weights = [f'{n} {getattr(self.config, n):g}' for n in self.config.weights]
    latents = f'{self.config.latent_size} latents'
    what = ', '.join([self.config.dataset, latents, *weights])
    return (
      f'<Run {str(self.path)!r}: {what}; {self.manifest["status"]}, weights '
      f'after step {self.step:,}>'
    )

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

  def posterior(self, images: Any) -> tfd.Distribution:
    """Returns q(z|x) of examples, batch [N], event [L], in one call.

    Args:
      images: as in `encode`.
    """
    parts = [*inputs.floats(images, self.config, self.manifest['dataset'])]
    none = np.zeros([0, *self.manifest['dataset']['shape']], np.float32)
    return self.model.encode(np.concatenate([none, *parts]))

  def encode(self, images: Any) -> np.ndarray:
    """Returns the posterior means of examples, float32 [N, L].

    Examples are prepared as in training: see `inputs.floats`.

    Args:
      images: uint8, bool, or floats in [0, 1], [N, H, W] or [N, H, W, C], any
        number of them; of a table, rows [N, F] in the units of its columns.

    Raises:
      InputError: examples of another shape or kind than the run's.
    """
    parts = [
      self.model.encode(floats).mean().numpy()
      for floats in inputs.floats(images, self.config, self.manifest['dataset'])
    ]
    none = np.zeros([0, self.config.latent_size], np.float32)
    return np.concatenate([none, *parts])

  def decode(self, codes: Any, mode: bool = False) -> np.ndarray:
    """Returns what latents are decoded to, float32 [..., H, W, C].

    Args:
      codes: latents [..., L].
      mode: whether the likelihood's modes are returned, which are black and
        white under a Bernoulli; else its means.

    Returns:
      Images, or rows [..., F] in the units of a table's columns.

    Raises:
      InputError: codes of another shape.
    """
    codes = np.asarray(codes, np.float32)
    data, size = self.manifest['dataset'], self.config.latent_size
    if codes.shape[-1:] != (size,):
      raise inputs.InputError(
        f'got codes of the shape {codes.shape}; the run takes [..., {size}]'
      )
    flat = codes.reshape(-1, size)
    parts = [np.zeros([0, *data['shape']], np.float32)]
    for start in range(0, len(flat), _DECODED):
      likelihood = self.model.decode(flat[start : start + _DECODED])
      images = likelihood.mode() if mode else likelihood.mean()
      parts.append(inputs.in_units(images.numpy(), data))
    return np.concatenate(parts).reshape(*codes.shape[:-1], *data['shape'])

  def reconstruct(self, images: Any, mode: bool = False) -> np.ndarray:
    """Returns what the posterior means of examples are decoded to.

    Args:
      images: as in `encode`.
      mode: as in `decode`.
    """
    return self.decode(self.encode(images), mode)

  def sample(
    self, num_samples: int, seed: int = 0, mode: bool = False
  ) -> np.ndarray:
    """Returns what draws from the prior are decoded to.

    Args:
      num_samples: N.
      seed: of the draws; the run's own gives those of its files.
      mode: as in `decode`.

    Raises:
      RunError: an autoencoder, whose codes follow no prior.
    """
    if not self.manifest['has_elbo']:
      raise opening.RunError(
        f'{self.path} is a plain autoencoder, whose codes follow no prior'
      )
    key = randomness.key(seed, randomness.Purpose.PRIOR, 0)
    latents = distributions.sample(self.model.prior, num_samples, key)
    return self.decode(latents, mode)

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
      RunError: a split that does not exist, or has too few images for an error,
        or weights by which a result is not finite.
    """
    split, data = self.split(split)
    has_elbo = self.manifest['has_elbo']
    evaluator = evaluation.Evaluator(self.model, has_elbo=has_elbo)
    result = evaluator(data.examples, self.config.binarize, self.config.seed)
    name = 'elbo' if has_elbo else 'squared_error'
    value = getattr(result, name).value
    if not math.isfinite(value):
      raise opening.RunError(
        f'{self.path}: by its weights after step {self.step:,} the {name} of '
        f'the {split} split is {value}'
      )
    return metrics.Evaluated(
      self.config,
      self.manifest,
      self.step,
      self.model,
      split,
      data,
      result,
      num_importance_samples,
      *([progress] if progress else []),
    )


def train(
  dataset: Any = None,
  *,
  run_dir: str | os.PathLike | None = None,
  preset: str | None = None,
  overwrite: bool = False,
  data_dir: str | os.PathLike | None = None,
  callback: Callable[[progress.Row], None] | None = None,
  verbose: int = 1,
  **settings: Any,
) -> Run:
  """Trains a run as `launch.train` does, to the same files and the same bits.

  A run directory that holds a run resumes, or goes on where `training_steps`
  grew; a run that is finished is returned as it is.

  Example::

      run = runs.train(images, beta=4.0, reduction='sum', training_steps=2000)
      run.eval, run.encode(images), run.sample(16)

  Args:
    dataset: name or path of a dataset, as of `--dataset`; or the data, of which
      the run keeps a copy in the data folder, named by their digest: images
      (uint8, bool, or floats in [0, 1], [N, H, W] or [N, H, W, 1 or 3]) or rows
      of a table [N, F], or a tuple of them and their labels, or a mapping from
      'train' and 'test' to such; or what a .npz file would hold, by name.
    run_dir: folder of the run; None for a new one under runs/.
    preset: name of a known experiment, over whose settings others stand.
    overwrite: whether the run that `run_dir` holds is deleted first.
    data_dir: TFDS's data folder, where prepared data are kept; None for its
      default.
    callback: is called with each row of train.csv, a mapping from the names of
      its columns to numbers, None where a column is empty.
    verbose: 0 shows nothing, 1 a progress bar, 2 all that the command prints.
    **settings: any other setting of a run, by the name of its flag; None for
      one that is not given.

  Returns:
    The run, with its best or last weights.

  Raises:
    ConfigError: settings that cannot be.
    DatasetError: data that cannot be had.
    RunError: a run that cannot start, resume, or go on, as when its loss is no
      longer finite or memory runs out; the files say so too.
    LockedError: another process trains it.
    KeyboardInterrupt: the run was stopped and saved; the same call resumes it
      where `run_dir` names it.
  """
  arrays = None
  if not isinstance(dataset, str | os.PathLike | None):
    try:
      dataset, arrays = array_data.given(dataset)
    except sources.SourceError as error:
      raise DatasetError(f'dataset: {error}') from error
  settings = {'dataset': dataset, **settings}
  parameters = ('run_dir', 'preset', 'overwrite', 'data_dir', 'verbose')
  given = asked.from_python(settings, (*parameters, 'callback'))
  data_dir = process.default_data_dir() if data_dir is None else data_dir
  data_dir = str(process.user_path(data_dir))
  console = progress.Console(
    is_terminal=verbose > 1,
    has_bar=verbose > 0,
    row=callback or (lambda row: None),
  )

  def make_config(stored: Config | None) -> Config:
    if stored and arrays and stored.dataset != dataset and not overwrite:
      raise RunError(
        f'--run_dir={folder} holds a run on other data ({stored.dataset}) than '
        'the arrays that are given; give those, or another folder'
      )
    return config_lib.decided(asked.make(given, stored, preset), stored)

  folder = None if run_dir is None else os.fspath(run_dir)
  with (
    _program_cache() as cache,
    opening.opened(folder, overwrite, make_config) as (path, config),
  ):
    end = loop.run(
      path,
      config,
      data_dir,
      _call(given | {'preset': preset} if preset else given),
      overwrite=overwrite,
      cache=cache,
      console=console,
      given=arrays,
    )
  if end.stopped_by:
    _stop(path, end.stopped_by)
  return load(path, data_dir)


@functools.cache
def _shared_programs() -> programs.ProgramCache:
  # Operations are deterministic once a run was trained, and those that are
  # random, as `posterior(images).sample()`, then need a seed.
  tf.random.set_seed(0)
  return programs.ProgramCache()


_SHARED = threading.Lock()


@contextlib.contextmanager
def _program_cache() -> Iterator[programs.ProgramCache]:
  """Yields the programs that the runs of this process share.

  But to one run at a time: what trains meanwhile, in another thread or called
  back, has its own.
  """
  if not _SHARED.acquire(blocking=False):
    yield programs.ProgramCache()
    return
  try:
    yield _shared_programs()
  finally:
    _SHARED.release()


def _call(given: Mapping[str, Any]) -> str:
  """Returns a call of `train` as text."""
  arguments = [f'{name}={value!r}' for name, value in given.items()]
  return f'runs.train({", ".join(arguments)})'


def _stop(path: pathlib.Path, number: signal.Signals) -> NoReturn:
  """Ends as a signal would have ended what called `train`."""
  if number != signal.SIGINT:
    signal.raise_signal(number)
  raise KeyboardInterrupt(
    f'{path} is saved; runs.train(run_dir={str(path)!r}) goes on with it'
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
  tensors = {k: v for k, v in tensors.items() if k.startswith('model/')}
  shape = tuple(manifest['dataset']['shape'])
  model = build.model(config, shape, tensors=tensors)
  build.assign(build.named_variables(model=model), tensors)
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
