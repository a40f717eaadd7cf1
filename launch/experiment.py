"""One run, from its config to its last file."""

import dataclasses
import math
import os
import pathlib
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from launch import (
  arrays,
  checkpoints,
  measure,
  progress,
  provenance,
  records,
  rundir,
  runs,
)
from launch import config as config_lib
from launch.config import Config
from vae import datasets, evaluation, losses, training

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


def resolve_jit(config: Config) -> str:
  """Whether XLA compiles the training loop, 'on' or 'off'."""
  if config.jit != 'auto':
    return config.jit
  # XLA doubles the speed of dense networks and, on CPUs, halves that of
  # convolutions.
  gpu = bool(tf.config.list_physical_devices('GPU'))
  return 'on' if config.network == 'mlp' or gpu else 'off'


def _resolve(config: Config, dataset: datasets.Dataset) -> Config:
  """Decides what the flags left open.

  Raises:
    ConfigError: a batch larger than the data.
  """
  num_train = len(dataset.splits['train'].images)
  if config.batch_size > num_train:
    raise config_lib.ConfigError(
      f'--batch_size={config.batch_size}: must be at most the {num_train:,} '
      f'training images of {dataset.name}'
    )
  steps, epochs = config.training_steps, config.num_epochs
  if epochs is not None:
    steps = math.ceil(epochs * num_train / config.batch_size)
  placement = config.data_placement
  if placement == 'auto':
    small = dataset.splits['train'].images.nbytes <= _DEVICE_BYTES
    placement = 'device' if small else 'host'
  return dataclasses.replace(
    config,
    dataset=dataset.name,
    training_steps=steps,
    num_epochs=None,
    jit=resolve_jit(config),
    data_placement=placement,
  )


def run(
  path: pathlib.Path, config: Config, data_dir: str, overwrite: bool = False
) -> int:
  """Trains, evaluates and writes a run directory; resumes where one exists.

  Args:
    path: the run directory, locked by this process.
    config: the settings, of which some may be left open.
    data_dir: TFDS's data folder.
    overwrite: whether to delete the run that the folder holds, once it is
      known that the new one can start.

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
  experiment = _Experiment(path, config, dataset)
  if overwrite:
    records.clear(path)
  if not experiment.start_or_resume():
    return 0
  return experiment.train()


class _Stop:
  """Turns the first SIGINT or SIGTERM into a wish, the second into an end."""

  def __init__(self):
    self.signal: signal.Signals | None = None

  def __enter__(self):
    self._before = {
      number: signal.signal(number, self._handle)
      for number in (signal.SIGINT, signal.SIGTERM)
    }
    return self

  def __exit__(self, *exception):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _handle(self, number, frame):
    del frame
    if self.signal is not None:
      os._exit(128 + number)
    self.signal = signal.Signals(number)
    _report(f'{self.signal.name}: saving; once more ends at once')


class _Experiment:
  """The state of one run in this process."""

  def __init__(
    self, path: pathlib.Path, config: Config, dataset: datasets.Dataset
  ):
    self._path = path
    self._config = config
    self._dataset = dataset
    self._step = 0
    self._num_values = math.prod(dataset.shape)
    self._splits = dataset.splits
    assert config.training_steps is not None
    self._total_steps = config.training_steps
    mean_image = None
    if config.output_bias == 'data_mean':
      mean_image = self._splits['train'].images.mean(axis=0) / 255.0
    self._model = runs.build(config, dataset.shape, mean_image)
    self._optimizer = training.make_optimizer(
      config.learning_rate,
      list(self._model.trainable_variables),
      config.adam_epsilon,
    )
    self._variables = runs.named_variables(
      model=self._model, optimizer=self._optimizer
    )
    self._evaluator = runs.evaluator(config, self._model)
    self._last_evaluation: evaluation.Evaluation | None = None
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
    if finished and self._step >= self._total_steps:
      print(
        f'{path} is finished ({self._step:,} steps). A larger '
        '--training_steps goes on; --overwrite starts anew.'
      )
      return False
    for name in records.RUN_TABLES:
      records.keep_rows(path, name, self._is_kept(name, stored))
    self._seconds_before = float(self._manifest.get('seconds', 0.0))
    self._manifest.pop('error', None)
    self._manifest.setdefault('resumed', []).append(
      {'step': self._step, **self._session()}
    )
    self._update_manifest('running', training_steps=self._total_steps)
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
      if evaluated and not measure.is_written_by_training(row):
        return True
      if row_step > step:
        return False
      if row_step != stored.training_steps or row_step == self._total_steps:
        return True
      if evaluated:
        return self._is_evaluated(row_step)
      return self._is_logged(row_step)

    return keep

  def _session(self) -> dict[str, Any]:
    """What this process is."""
    return {
      'started': provenance.now(),
      'command': shlex.join(['python', '-m', 'launch.train', *sys.argv[1:]]),
      'packages': provenance.package_versions(),
      'source': provenance.source(),
      'device': provenance.device(),
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
      'targets': self._targets(),
      'num_parameters': {
        'encoder': runs.num_parameters(self._model.encode),
        'decoder': runs.num_parameters(self._model.decode),
      },
      'effective_beta': self._effective_beta(),
      'training_steps': self._total_steps,
    }

  def _targets(self) -> str:
    """What the likelihood is asked to explain."""
    if self._config.binarize == 'static':
      return 'binary, static (own draw)'
    if self._config.binarize != 'none':
      return f'binary, {self._config.binarize}'
    if self._config.has_density:
      return 'grey'
    return (
      'grey: the Bernoulli log-likelihood is a negative cross-entropy, no '
      'log-density of the image'
    )

  def _effective_beta(self) -> float:
    config = self._config
    return losses.effective_beta(
      config.beta, config.reduction, self._num_values, config.latent_size
    )

  def _update_manifest(self, status: str, **entries: Any) -> None:
    assert status in records.STATUSES
    ended = None if status == 'running' else provenance.now()
    self._manifest.update(status=status, ended=ended, **entries)
    records.write_manifest(self._path, self._manifest)

  # -- Training ---------------------------------------------------------------

  def _is_logged(self, step: int) -> bool:
    """Powers of two, every `log_every` steps, and the last step."""
    every = self._config.log_every
    return (
      step & (step - 1) == 0
      or (every > 0 and step % every == 0)
      or step == self._total_steps
    )

  def _is_evaluated(self, step: int) -> bool:
    every = self._config.eval_every
    return (every > 0 and step % every == 0) or step == self._total_steps

  def _next_stop(self, checkpoint_steps: int) -> int:
    """The next step at which something is logged, evaluated or saved."""
    config, step = self._config, self._step
    stops = [self._total_steps, 1 << step.bit_length()]
    stops += [
      (step // every + 1) * every
      for every in (config.log_every, config.eval_every, checkpoint_steps)
      if every
    ]
    return min(stops)

  def train(self) -> int:
    """Trains to the last step and evaluates; returns the exit code."""
    self._print_start()
    number, unit = config_lib.parse_interval(self._config.checkpoint_every)
    checkpoint_steps = int(number) if unit == 'steps' else 0
    checkpoint_seconds = number if unit == 'seconds' else math.inf
    engine = training.Engine(
      self._model,
      self._optimizer,
      runs.objective(self._config),
      self._splits['train'].images,
      seed=self._config.seed,
      batch_size=self._config.batch_size,
      binarize=self._config.binarize,
      jit=self._config.jit == 'on',
      on_device=self._config.data_placement == 'device',
    )
    shown = progress.Progress(self._step, self._total_steps)
    started = saved = time.monotonic()
    block_steps: int | None = None
    with _Stop() as stop:
      while self._step < self._total_steps:
        count = min(
          self._next_stop(checkpoint_steps) - self._step,
          block_steps or 1,
          engine.max_steps,
        )
        block_started = time.monotonic()
        try:
          metrics = engine.run(
            self._step + 1,
            np.full(count, self._config.beta, np.float32),
            self._learning_rates(self._step + 1, count),
          )
        except training.NonFiniteError as error:
          shown.close()
          return self._fail(error)
        now = time.monotonic()
        # The first block compiles, and says nothing about the speed.
        if block_steps is None:
          block_steps = 1
        else:
          speed = count / (now - block_started)
          block_steps = max(1, int(speed * _BLOCK_SECONDS))
        self._step += count
        if self._is_logged(self._step):
          seconds = self._seconds_before + now - started
          self._log(metrics, seconds, shown)
        last = self._step == self._total_steps
        due = checkpoint_steps and self._step % checkpoint_steps == 0
        try:
          if self._is_evaluated(self._step):
            self._evaluate()
          if last or due or stop.signal or now - saved > checkpoint_seconds:
            self._save(self._seconds_before + time.monotonic() - started)
            saved = time.monotonic()
        except training.NonFiniteError as error:
          shown.close()
          return self._fail(error)
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
      seconds = self._seconds_before + time.monotonic() - started
      self._finish(seconds)
    return 0

  def _learning_rates(self, first: int, count: int) -> np.ndarray:
    config = self._config
    if config.learning_rate_schedule == 'constant':
      return np.full(count, config.learning_rate, np.float32)
    steps = np.arange(first - 1, first - 1 + count)
    num_train = len(self._splits['train'].images)
    return training.ladder(
      config.learning_rate, steps * config.batch_size / num_train
    )

  def _save(self, seconds: float) -> None:
    """Writes a checkpoint and how long training took up to it.

    Raises:
      NonFiniteError: a variable is not finite; nothing is written.
    """
    values = runs.values(self._variables)
    for name, value in values.items():
      if not np.isfinite(value).all():
        # The loss is measured before the update, and so does not show it yet.
        raise training.NonFiniteError(self._step + 1, name, math.nan)
    checkpoints.save(self._path, self._step, values)
    self._update_manifest('running', seconds=round(seconds, 3))

  def _log(
    self, metrics: training.Metrics, seconds: float, shown: progress.Progress
  ) -> None:
    config, step = self._config, self._step
    reconstruction, kl = metrics.distortion, metrics.rate
    if config.reduction == 'mean':
      reconstruction /= self._num_values
      kl /= config.latent_size
    # float32 prints in as many digits as it has.
    row = {
      'total': np.float32(metrics.loss),
      'kl': np.float32(kl),
      'reconstruction': np.float32(reconstruction),
    }
    if step & (step - 1) == 0 or step == self._total_steps:
      shown.print(
        str({'step': step} | {name: float(str(v)) for name, v in row.items()})
      )
    num_train = len(self._splits['train'].images)
    records.append(
      self._path,
      records.TRAIN,
      row
      | {
        'step': step,
        'epoch': f'{step * config.batch_size / num_train:.6g}',
        'beta': config.beta,
        'learning_rate': self._learning_rates(step, 1)[0],
        'distortion_nats': np.float32(metrics.distortion),
        'rate_nats': np.float32(metrics.rate),
        'elbo_nats': -np.float32(metrics.distortion + metrics.rate),
      },
    )
    records.append(
      self._path,
      records.TIMING,
      {'step': step, 'seconds': f'{seconds:.3f}'},
    )

  def _evaluate(self) -> None:
    result = self._evaluator(
      self._splits['test'].images, self._config.binarize, self._config.seed
    )
    if not math.isfinite(result.elbo.value):
      raise training.NonFiniteError(
        self._step + 1, 'elbo of the test split', result.elbo.value
      )
    measure.record(self._path, self._step, 'test', result, self._num_values)
    self._last_evaluation = result

  # -- Ending -----------------------------------------------------------------

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

  def _finish(self, seconds: float) -> None:
    result = self._last_evaluation
    if result is None:  # Killed between the last checkpoint and this line.
      self._evaluate()
      result = self._last_evaluation
      assert result is not None
    arrays.write(
      self._path,
      self._step,
      self._model,
      self._splits['test'],
      self._config.binarize,
      self._config.seed,
      result,
    )
    self._update_manifest('finished')
    quoted = shlex.quote(str(self._path))
    print(
      f'test split of {self._config.dataset}, {result.num_images:,} images, '
      'nats per image (± standard error):\n'
      f'  elbo {result.elbo.value:.2f} ± {result.elbo.se:.2f}, '
      f'distortion {result.distortion.value:.2f} ± {result.distortion.se:.2f}, '
      f'rate {result.rate.value:.2f} ± {result.rate.se:.2f}\n'
      f'{self._step:,} steps in {seconds:.1f} s. The run is in {self._path}\n'
      f'next: python -m analysis.loss_curves --run_dir={quoted}'
    )
    if self._config.dataset == 'mnist_5k':
      print(
        'WARNING: these are 5,000 images of MNIST, not MNIST: the numbers are '
        'not comparable with published ones.'
      )

  def _print_start(self) -> None:
    config, data = self._config, self._dataset.provenance
    counts = data['num_images']
    size = '×'.join(map(str, data['shape']))
    device = self._manifest['device']
    print(
      f'run      {self._path}\n'
      f'data     {config.dataset} {data["version"]} from {data["source"]}: '
      f'{counts["train"]:,} training and {counts["test"]:,} test images, '
      f'{size}, {"grey" if config.binarize == "none" else config.binarize}\n'
      f'model    {runs.num_parameters(self._model):,} parameters, '
      f'{config.latent_size} latents\n'
      f'beta     {config.beta:g} under --reduction={config.reduction}: '
      f'effective beta {self._effective_beta():.4g} (1 weighs nats of rate and '
      'distortion alike)\n'
      f'device   {device["name"]}, {config.threads} threads, '
      f'XLA {config.jit}',
      flush=True,
    )
