"""This project's own loops, and the problems that all contestants share."""

import dataclasses
import json
from collections.abc import Callable

import vae  # isort: split

import numpy as np
import sonnet as snt
import tensorflow as tf

from launch.benchmarks import contest
from launch.experiment import build, programs
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae import randomness
from vae.data import batches
from vae.metrics import evaluation, importance

vae.check_installed()

VERSION = f'tensorflow {tf.__version__}'

# Images of a problem at most: drawn images may be a million.
_MOST_IMAGES = 60_000

_NUM_EVALUATED = 10_000
_NUM_BOUNDED = 500


# -- Problems ----------------------------------------------------------------


def _layers(module: snt.Module) -> list[contest.Layer]:
  """The initial values of a network's layers, from its inputs on."""
  values = iter(module.trainable_variables)
  return [
    contest.Layer(w=w.numpy(), b=b.numpy())
    for b, w in zip(values, values, strict=True)
  ]


def open_problem(config: Config, data_dir: str) -> contest.Problem:
  """Opens a config's training images and makes its problem of them."""
  programs.set_threads(contest.threads())
  data = build.open_dataset(config, data_dir, report=lambda line: None)
  examples = data.splits['train'].examples
  # Evenly, as drawn images come in the order of their factors.
  every = -(-len(examples) // _MOST_IMAGES)
  return make_problem(config, np.asarray(examples[::every]))


def make_problem(
  config: Config, images: np.ndarray, record_steps: int = 0
) -> contest.Problem:
  """Makes of a config the problem that loops in any framework train.

  Args:
    config: the settings.
    images: uint8 [N, H, W, C].
    record_steps: K, how many steps' draws to record; 0 for none.
  """
  model = build.model(config, images.shape[1:])
  encoder, decoder = _layers(model.encode), _layers(model.decode)
  own = build.objective(config, model).module
  problem = contest.Problem(
    json.loads(config.to_json()),
    images,
    encoder,
    decoder,
    _layers(own) if own else (),
    None,
  )
  if not record_steps:
    return problem

  def draws(
    draw: Callable, purpose: randomness.Purpose, size: int, fold: int = 0
  ) -> np.ndarray:
    keys = (
      randomness.fold(randomness.key(config.seed, purpose, step), fold)
      for step in range(1, record_steps + 1)
    )
    return np.stack([draw(key, [config.batch_size, size]) for key in keys])

  latents, posterior = config.latent_size, randomness.Purpose.POSTERIOR
  return problem._replace(
    recorded=contest.Recorded(
      batches.indices(
        config.seed, len(images), config.batch_size, 1, record_steps
      ),
      draws(randomness.normal, posterior, latents),
      # Dropout precedes the encoder's last layer.
      draws(randomness.uniform, randomness.Purpose.DROPOUT, len(encoder[-1].w)),
      draws(randomness.uniform, posterior, latents, fold=3),
    )
  )


# -- Loops --------------------------------------------------------------------


def load(problem: contest.Problem, kind: str) -> contest.Loop:
  """Returns the loop of `launch.train`, of evaluation or of the bound."""
  config = config_lib.from_dict(problem.settings, 'the problem')
  if kind == 'bfloat16':
    config = dataclasses.replace(config, precision='bfloat16')
  load_kind = {
    'training': _training,
    'bfloat16': _training,
    'evaluation': _evaluation,
    'importance': _importance,
  }[kind]
  return load_kind(problem, config)


def _training(problem: contest.Problem, config: Config) -> contest.Loop:
  model = build.model(config, problem.images.shape[1:])
  config = dataclasses.replace(
    config, jit=programs.resolve_jit(config, model), data_placement='device'
  )
  engine = programs.Program(config, model, problem.images).engine
  # A block tells the loss of its last step alone.
  block_steps = 1 if problem.recorded else engine.max_steps
  done = 0

  def loop(steps: int) -> list[float]:
    nonlocal done
    losses = []
    end = done + steps
    while done < end:
      count = min(block_steps, end - done)
      constant = lambda value, count=count: np.full(count, value, np.float32)
      metrics = engine.run(
        done + 1,
        {name: constant(getattr(config, name)) for name in config.weights},
        constant(config.learning_rate),
      )
      done += count
      losses.append(metrics.loss)
    return losses

  return loop


def _evaluation(problem: contest.Problem, config: Config) -> contest.Loop:
  """Evaluates 10,000 images a step, with one sample for each."""
  evaluator = evaluation.Evaluator(
    build.model(config, problem.images.shape[1:])
  )
  images = problem.images[:_NUM_EVALUATED]
  return lambda steps: [
    -evaluator(images, config.binarize, config.seed).elbo.value
    for _ in range(steps)
  ]


def _importance(problem: contest.Problem, config: Config) -> contest.Loop:
  """Bounds log p(x) of 500 images a step, by many samples."""
  estimator = importance.Estimator(
    build.model(config, problem.images.shape[1:]), jit=True
  )
  images = problem.images[:_NUM_BOUNDED]
  samples = [config.num_samples]
  return lambda steps: [
    -estimator(images, config.binarize, config.seed, samples)[0].log_p.value
    for _ in range(steps)
  ]
