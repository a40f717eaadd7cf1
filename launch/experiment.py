"""One run, from its config to its last file."""

import contextlib
import dataclasses
import math
import os
import pathlib
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from launch import (
  arrays,
  checkpoints,
  compare,
  measure,
  progress,
  provenance,
  records,
  rundir,
  runs,
  schedule,
  summary,
)
from launch import config as config_lib
from launch.config import Config
from vae import datasets, evaluation, losses, models, training

# A block of steps takes about this long, so that Ctrl-C, progress and the
# check for finite losses are never far.
_BLOCK_SECONDS = 1.0

# Larger data stay with the host, which sends each block's images.
_DEVICE_BYTES = 2**30


def _report(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def set_threads(threads: int) -> int:
  """Sets TensorFlow's threads before its first operation; 0 for all cores."""
  threads = threads or len(os.sched_getaffinity(0))
  threading = tf.config.threading
  if threading.get_intra_op_parallelism_threads() != threads:
    threading.set_intra_op_parallelism_threads(threads)
    threading.set_inter_op_parallelism_threads(threads)
  return threads


def _resolve(config: Config, dataset: datasets.Dataset) -> Config:
  """Decides what the flags left open, but for `--jit`.

  Raises:
    ConfigError: settings that do not fit the data.
  """
  num_train = len(dataset.splits['train'].examples)
  if config.batch_size > num_train:
    raise config_lib.ConfigError(
      f'--batch_size={config.batch_size}: must be at most the {num_train:,} '
      f'training images of {dataset.name}'
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
  steps, epochs = config.training_steps, config.num_epochs
  if epochs is not None:
    steps = math.ceil(epochs * num_train / config.batch_size)
  placement = config.data_placement
  if placement == 'auto':
    small = dataset.splits['train'].examples.nbytes <= _DEVICE_BYTES
    placement = 'device' if small else 'host'
  return dataclasses.replace(
    config,
    dataset=dataset.name,
    training_steps=steps,
    num_epochs=None,
    data_placement=placement,
  )


def resolve_jit(config: Config, model: models.VAE) -> str:
  """Whether XLA compiles the training loop, 'on' or 'off'."""
  if config.jit != 'auto':
    return config.jit
  # XLA doubles the speed of dense networks and, on CPUs, halves that of
  # convolutions.
  convolutions = any(len(v.shape) > 2 for v in model.trainable_variables)
  gpu = bool(tf.config.list_physical_devices('GPU'))
  return 'on' if gpu or not convolutions else 'off'


def _check_range(model: models.VAE, dataset: datasets.Dataset) -> None:
  """Refuses values that a likelihood cannot explain, rather than clip them."""
  assert isinstance(model.decode, models.Decoder)
  support = getattr(model.decode.likelihood, 'support', None)
  if support is None or dataset.has_images:  # Whose values lie in [0, 1].
    return
  for name, split in dataset.splits.items():
    low, high = float(split.examples.min()), float(split.examples.max())
    if low < support[0] or high > support[1]:
      raise config_lib.ConfigError(
        f'--likelihood: {dataset.name} has values from {low:.4g} to '
        f'{high:.4g} in its {name} split, outside of '
        f'[{support[0]:g}, {support[1]:g}]; give --likelihood=normal'
      )


def run(
  path: pathlib.Path,
  config: Config,
  data_dir: str,
  overwrite: bool = False,
  original: str | None = None,
  tensorboard: bool = False,
) -> int:
  """Trains, evaluates and writes a run directory; resumes where one exists.

  Args:
    path: the run directory, locked by this process.
    config: the settings, of which some may be left open.
    data_dir: TFDS's data folder.
    overwrite: whether to delete the run that the folder holds, once it is
      known that the new one can start.
    original: the config.json of the run that is repeated.
    tensorboard: whether to write event files too.

  Returns:
    The exit code: 0 finished, 1 failed, 130 or 143 stopped by a signal.

  Raises:
    RunError, ConfigError, DatasetError, RecordError, CheckpointError: with one
      line that says what is wrong and what to do.
  """
  threads = set_threads(config.threads)
  manifest = None
  if (path / records.CONFIG).exists() and not overwrite:
    manifest = records.read_manifest(path)
  dataset = runs.open_dataset(config, data_dir, manifest, _report)
  config = _resolve(dataclasses.replace(config, threads=threads), dataset)
  tf.config.experimental.enable_op_determinism()
  mean_image = None
  if config.output_bias == 'data_mean':
    mean_image = dataset.splits['train'].examples.mean(axis=0) / 255.0
  model = runs.build(config, dataset.shape, mean_image)
  _check_range(model, dataset)
  config = dataclasses.replace(config, jit=resolve_jit(config, model))
  if original is not None:
    here = {**provenance.session(), 'dataset': dataset.provenance}
    print(compare.with_original(original, config, here), flush=True)
  experiment = _Experiment(path, config, dataset, model)
  if overwrite:
    records.clear(path)
  started = experiment.start_or_resume()
  if not tensorboard:
    return experiment.train() if started else 0
  from launch import tensorboard as event_files  # Not everyone has it.

  with event_files.watching(path) as look:
    return experiment.train(look) if started else 0


class _Stop:
  """Turns the first SIGINT or SIGTERM into a wish, the second into an end.

  A thread listens, since Python's handlers wait for the main thread, which may
  be inside a compiled program for seconds.
  """

  def __init__(self):
    self.signal: signal.Signals | None = None

  def __enter__(self):
    self._read_end, self._write_end = os.pipe()
    os.set_blocking(self._write_end, False)
    self._before_fd = signal.set_wakeup_fd(self._write_end)
    # The bytes in the pipe are what counts; a handler must be there for it.
    self._before = {
      number: signal.signal(number, lambda number, frame: None)
      for number in (signal.SIGINT, signal.SIGTERM)
    }
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *exception):
    signal.set_wakeup_fd(self._before_fd)
    for number, handler in self._before.items():
      signal.signal(number, handler)
    os.close(self._write_end)  # Which ends the thread.
    self._thread.join()
    os.close(self._read_end)

  def _listen(self):
    while numbers := os.read(self._read_end, 1):
      if numbers[0] not in self._before:
        continue
      if self.signal is not None:
        os._exit(128 + numbers[0])
      self.signal = signal.Signals(numbers[0])
      _report(f'{self.signal.name}: saving; once more ends at once')


class _Experiment:
  """The state of one run in this process."""

  def __init__(
    self,
    path: pathlib.Path,
    config: Config,
    dataset: datasets.Dataset,
    model: models.VAE,
  ):
    self._path = path
    self._config = config
    self._dataset = dataset
    self._model = model
    self._step = 0
    self._num_values = math.prod(dataset.shape)
    self._splits = dataset.splits
    number, unit = config_lib.parse_interval(config.checkpoint_every)
    self._checkpoint_seconds = number if unit == 'seconds' else math.inf
    self._schedule = schedule.Schedule(
      config,
      num_train=len(dataset.splits['train'].examples),
      checkpoint_steps=int(number) if unit == 'steps' else 0,
    )
    self._optimizer = training.make_optimizer(
      config.optimizer,
      config.learning_rate,
      list(model.trainable_variables),
      config.adam_epsilon,
      config.momentum,
    )
    self._variables = runs.named_variables(
      model=model, optimizer=self._optimizer
    )
    self._evaluator = runs.evaluator(config, model, dataset.shape)
    # On the test split, after step `_step`.
    self._evaluated: evaluation.Evaluation | None = None
    self._best_step: int | None = None
    self._seconds_before = 0.0

  # -- Starting ---------------------------------------------------------------

  def start_or_resume(self) -> bool:
    """Makes the run's files or takes up where they end; False if finished."""
    config, path = self._config, self._path
    if not (path / records.CONFIG).exists():
      self._manifest = self._new_manifest()
      for name in records.RUN_TABLES:
        records.create_table(path, name)
      records.write_manifest(path, self._manifest)
      records.replace_file(path / records.CONFIG, config.to_json().encode())
      return True
    stored = config_lib.load(path / records.CONFIG)
    rundir.check_same(path, stored, config)
    self._manifest = records.read_manifest(path)
    loaded = checkpoints.load_newest(path, _report)
    if loaded is not None:
      self._step, tensors = loaded
      runs.assign(self._variables, tensors)
    finished = self._manifest['status'] == 'finished'
    if finished and (
      self._step >= self._schedule.last or self._manifest.get('stopped_early')
    ):
      print(
        f'{path} is finished ({self._step:,} steps). A larger '
        '--training_steps goes on, unless training stopped early; --overwrite '
        'starts anew.'
      )
      return False
    for name in records.RUN_TABLES:
      records.keep_rows(path, name, self._is_kept(name, stored))
    if config.patience:
      self._best_step = self._find_best()
    self._seconds_before = float(self._manifest.get('seconds', 0.0))
    self._manifest.pop('error', None)
    self._manifest.setdefault('resumed', []).append(
      {'step': self._step, **self._session()}
    )
    self._update_manifest('running', training_steps=self._schedule.last)
    records.replace_file(path / records.CONFIG, config.to_json().encode())
    print(f'resuming {path} after step {self._step:,}')
    return True

  def _is_kept(self, name: str, stored: Config):
    """Which rows stay: those up to the checkpoint that this run would write.

    A run that goes on had a last step that is nothing special to the longer
    one, whose files must come out as if it had never ended there. What
    `launch.evaluate` measured stays.
    """
    step = self._step

    def keep(row_step: int, row: Mapping[str, str]) -> bool:
      evaluated = name in (records.EVAL, records.RATE_PER_LATENT)
      if evaluated and not measure.is_written_by_training(row, stored):
        return True
      if row_step > step:
        return False
      if evaluated and row['split'] == 'validation':
        return self._schedule.is_validated(row_step)
      if row_step != stored.training_steps or row_step == self._schedule.last:
        return True
      if evaluated:
        return self._schedule.is_evaluated(row_step)
      return self._schedule.is_logged(row_step)

    return keep

  def _session(self) -> dict[str, Any]:
    """What this process is."""
    return {
      'started': provenance.now(),
      'command': shlex.join(['python', '-m', 'launch.train', *sys.argv[1:]]),
      **provenance.session(),
    }

  def _new_manifest(self) -> dict[str, Any]:
    config = self._config
    return {
      'format': records.FORMAT,
      'status': 'running',
      'ended': None,
      'seconds': 0.0,
      **self._session(),
      'threads': config.threads,
      'dataset': dict(self._dataset.provenance),
      'targets': summary.targets(config),
      'num_parameters': {
        'encoder': runs.num_parameters(self._model.encode),
        'decoder': runs.num_parameters(self._model.decode),
      },
      'effective_beta': losses.effective_beta(
        config.beta, config.reduction, self._num_values, config.latent_size
      )
      if config.has_effective_beta
      else None,
      'training_steps': self._schedule.last,
    }

  def _update_manifest(self, status: str, **entries: Any) -> None:
    assert status in records.STATUSES
    ended = None if status == 'running' else provenance.now()
    self._manifest.update(status=status, ended=ended, **entries)
    records.write_manifest(self._path, self._manifest)

  # -- Training ---------------------------------------------------------------

  def train(self, watch: Callable[[], None] = lambda: None) -> int:
    """Trains to the last step and evaluates.

    Args:
      watch: is called whenever the tables may have got new rows.

    Returns:
      The exit code.
    """
    config, schedule = self._config, self._schedule
    print(
      summary.start(
        self._path, config, self._manifest, runs.num_parameters(self._model)
      ),
      flush=True,
    )
    engine = training.Engine(
      self._model,
      self._optimizer,
      runs.objective(config),
      self._splits['train'].examples,
      seed=config.seed,
      batch_size=config.batch_size,
      binarize=config.binarize,
      jit=config.jit == 'on',
      on_device=config.data_placement == 'device',
    )
    shown = progress.Progress(self._step, schedule.last)
    self._started = saved = time.monotonic()
    block_steps: int | None = None
    with _Stop() as stop:
      last = self._is_last()
      while not last:
        first = self._step + 1
        count = min(
          schedule.next_stop(self._step) - self._step,
          block_steps or 1,
          engine.max_steps,
        )
        block_started = time.monotonic()
        try:
          try:
            metrics = engine.run(
              first,
              schedule.betas(first, count),
              schedule.learning_rates(first, count),
            )
          except training.NonFiniteError as error:
            self._keep_replay(error, engine)
            raise
          # The first block compiles, and says nothing about the speed.
          if block_steps is None:
            block_steps = 1
          else:
            speed = count / (time.monotonic() - block_started)
            block_steps = max(1, int(speed * _BLOCK_SECONDS))
          self._step += count
          improved = schedule.is_validated(self._step) and self._validate()
          last = self._is_last()
          if last or schedule.is_logged(self._step):
            self._log(metrics, shown, last)
          if schedule.is_evaluated(self._step):
            self._evaluate()
          watch()
          every = schedule.checkpoint_steps
          due = (every and self._step % every == 0) or (
            time.monotonic() - saved > self._checkpoint_seconds
          )
          if last or due or improved or stop.signal:
            self._save()
            saved = time.monotonic()
        except training.NonFiniteError as error:
          shown.close()
          return self._fail(error)
        except tf.errors.ResourceExhaustedError as error:
          shown.close()
          return self._run_out_of_memory(error)
        except OSError as error:
          shown.close()
          return self._lose_disk(error)
        shown.update(self._step)
        if stop.signal is not None and not last:
          shown.close()
          self._update_manifest('interrupted')
          print(
            f'{self._path} stopped after step {self._step:,}. To resume:\n'
            f'python -m launch.train --run_dir={shlex.quote(str(self._path))}'
          )
          return 128 + stop.signal
      shown.close()
      self._finish()
    return 0

  @property
  def _seconds(self) -> float:
    """How long all processes of this run have trained."""
    return self._seconds_before + time.monotonic() - self._started

  def _save(self) -> None:
    """Writes a checkpoint and how long training took up to it.

    Raises:
      NonFiniteError: a variable is not finite; nothing is written.
    """
    values = runs.values(self._variables)
    for name, value in values.items():
      if not np.isfinite(value).all():
        # The loss is measured before the update, and so does not show it yet.
        raise training.NonFiniteError(self._step + 1, name, math.nan)
    checkpoints.save(self._path, self._step, values, self._best_step)
    best = {} if self._best_step is None else {'best_step': self._best_step}
    self._update_manifest('running', seconds=round(self._seconds, 3), **best)

  def _log(
    self, metrics: training.Metrics, shown: progress.Progress, last: bool
  ) -> None:
    config, step = self._config, self._step
    reconstruction, kl = metrics.distortion, metrics.rate
    if config.reduction == 'mean':
      reconstruction /= self._num_values
      kl /= config.latent_size
    # float32 prints in as many digits as it has.
    row = {'total': np.float32(metrics.loss)}
    nats: dict[str, Any] = {
      'beta': None,
      'kl': None,
      'distortion_nats': None,
      'rate_nats': None,
      'elbo_nats': None,
    }
    if config.has_elbo:
      row['kl'] = np.float32(kl)
      nats = {
        'beta': float(self._schedule.betas(step, 1)[0])
        if config.beta_warmup_steps
        else config.beta,
        'distortion_nats': np.float32(metrics.distortion),
        'rate_nats': np.float32(metrics.rate),
        'elbo_nats': -np.float32(metrics.distortion + metrics.rate),
      }
    row['reconstruction'] = np.float32(reconstruction)
    if last or self._schedule.is_printed(step):
      shown.print(
        str({'step': step} | {name: float(str(v)) for name, v in row.items()})
      )
    epoch = step * config.batch_size / self._schedule.num_train
    records.append(
      self._path,
      records.TRAIN,
      nats
      | row
      | {
        'step': step,
        'epoch': f'{epoch:.6g}',
        'learning_rate': self._schedule.learning_rates(step, 1)[0],
      },
    )
    records.append(
      self._path,
      records.TIMING,
      {'step': step, 'seconds': f'{self._seconds:.3f}'},
    )

  # -- Evaluating -------------------------------------------------------------

  def _measure(self, split: str) -> evaluation.Evaluation:
    """Evaluates a split and writes what comes out.

    Raises:
      NonFiniteError: it is not finite; nothing is written.
    """
    result = self._evaluator(
      self._splits[split].examples, self._config.binarize, self._config.seed
    )
    name, estimate = (
      ('elbo', result.elbo)
      if self._config.has_elbo
      else ('squared error', result.squared_error)
    )
    if not math.isfinite(estimate.value):
      raise training.NonFiniteError(
        self._step + 1, f'{name} of the {split} split', estimate.value
      )
    measure.record(
      self._path,
      self._step,
      split,
      result,
      self._num_values,
      self._likelihood_scale(),
    )
    return result

  def _likelihood_scale(self) -> dict[str, float]:
    return measure.likelihood_scale(
      self._model, self._manifest['effective_beta']
    )

  def _evaluate(self) -> None:
    self._evaluated = self._measure('test')

  def _validate(self) -> bool:
    """Evaluates the validation split; whether these weights are the best."""
    self._measure('validation')
    self._best_step = self._find_best()
    return self._best_step == self._step

  def _find_best(self) -> int | None:
    best = measure.best_validated(self._path, self._config.has_elbo)
    return None if best is None else best[0]

  def _is_stopped_early(self) -> bool:
    """Whether patience is at its end, not before beta is at its own."""
    patience, schedule = self._config.patience, self._schedule
    if not patience or self._best_step is None:
      return False
    waited = schedule.epochs(self._step) - schedule.epochs(self._best_step)
    return waited >= patience and self._step >= self._config.beta_warmup_steps

  def _is_last(self) -> bool:
    return self._step >= self._schedule.last or self._is_stopped_early()

  # -- Ending -----------------------------------------------------------------

  def _keep_replay(
    self, error: training.NonFiniteError, engine: training.Engine
  ) -> None:
    """Keeps what shows the fault: the weights and the batch of that step."""
    self._step = error.step - 1  # The model is as before the bad step.
    if self._step:
      with contextlib.suppress(training.NonFiniteError):
        self._save()
    records.write_arrays(
      self._path,
      'failed_batch',
      error.step,
      {
        'images': engine.batch(error.step),
        'beta': self._schedule.betas(error.step, 1)[0],
        'learning_rate': self._schedule.learning_rates(error.step, 1)[0],
      },
    )

  def _fail(self, error: training.NonFiniteError) -> int:
    newest = checkpoints.paths(self._path)
    kept = (
      f'the last good checkpoint is {newest[0]}'
      if newest
      else ('no checkpoint had been written')
    )
    self._update_manifest('failed', error=str(error))
    _report(
      f'launch.train: error: {error}; the run is marked failed; {kept}. A '
      'smaller --learning_rate often helps.'
    )
    return 1

  def _run_out_of_memory(self, error: tf.errors.ResourceExhaustedError) -> int:
    what = re.search(r'shape ?\[[\d,]*\]', error.message)
    where = f' for a tensor of {what[0]}' if what else ''
    self._update_manifest('failed', error='out of memory')
    _report(
      f'launch.train: error: out of memory{where} after step {self._step:,}, '
      f'with --batch_size={self._config.batch_size}; a smaller one, or a '
      'smaller network, needs less'
    )
    return 1

  def _lose_disk(self, error: OSError) -> int:
    reason = f'{error.filename or self._path}: {error.strerror or error}'
    # The manifest may be as impossible to write as what failed.
    with contextlib.suppress(OSError):
      self._update_manifest('failed', error=reason)
    _report(
      f'launch.train: error: {reason}. {self._path} holds whole files up to '
      'its last checkpoint; once it can be written again, resume with:\n'
      f'python -m launch.train --run_dir={shlex.quote(str(self._path))}'
    )
    return 1

  def _finish(self) -> None:
    last_step = self._step
    if self._best_step is not None and self._best_step != self._step:
      self._step, tensors = checkpoints.load(
        checkpoints.path_of(self._path, self._best_step)
      )
      runs.assign(self._variables, tensors)
      self._evaluated = None
    # Also where a kill came between the last checkpoint and this line.
    if self._evaluated is None:
      self._evaluate()
    assert self._evaluated is not None
    arrays.write(
      self._path,
      self._step,
      self._model,
      self._splits['test'],
      self._config,
      self._evaluated,
    )
    stopped = {}
    if self._config.patience:
      stopped = {'stopped_early': last_step < self._schedule.last}
    self._update_manifest('finished', **stopped)
    print(
      summary.end(
        self._path,
        self._config,
        self._manifest,
        self._evaluated,
        last_step,
        self._likelihood_scale(),
      )
    )
