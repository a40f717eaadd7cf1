"""The contestants of the benchmark that are this project's own.

Not a command for people: `launch.benchmark` starts a process of
`python -m launch.benchmarks.contestants NAME` for each of these.
"""

import dataclasses
import itertools
import json
import pathlib
import sys
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

_NUM_EVALUATED = 10_000


def _config(problem: contest.Problem) -> Config:
  return config_lib.from_dict(problem.settings, 'the problem')


# -- Problems ----------------------------------------------------------------


def _layers(module: snt.Module) -> list[contest.Layer]:
  """The initial values of a network's layers, from its inputs on."""
  values = iter(module.trainable_variables)
  return [
    contest.Layer(w=w.numpy(), b=b.numpy())
    for b, w in zip(values, values, strict=True)
  ]


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
  settings = json.loads(config.to_json())
  if not record_steps:
    return contest.Problem(settings, images, encoder, decoder, None)

  def draws(draw: Callable, purpose: randomness.Purpose, size: int):
    return np.stack(
      [
        draw(
          randomness.key(config.seed, purpose, step), [config.batch_size, size]
        )
        for step in range(1, record_steps + 1)
      ]
    )

  recorded = contest.Recorded(
    batches.indices(
      config.seed, len(images), config.batch_size, 1, record_steps
    ),
    draws(randomness.normal, randomness.Purpose.POSTERIOR, config.latent_size),
    # Dropout precedes the encoder's last layer.
    draws(
      randomness.uniform, randomness.Purpose.DROPOUT, encoder[-1].w.shape[0]
    ),
  )
  return contest.Problem(settings, images, encoder, decoder, recorded)


def _make_problems(folder: str, dataset: str, data_dir: str) -> None:
  """Makes NAME.npz of each NAME.json, a config, in a folder."""
  data = build.open_dataset(
    Config(dataset=dataset), data_dir, report=lambda line: None
  )
  images = np.asarray(data.splits['train'].examples)
  for path in pathlib.Path(folder).glob('*.json'):
    problem = make_problem(config_lib.load(path), images)
    contest.write_problem(path.with_suffix('.npz'), problem)


# -- Training -----------------------------------------------------------------


def load_ours(problem: contest.Problem) -> contest.Loop:
  """Returns the loop of `launch.train`."""
  config = _config(problem)
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
      metrics = engine.run(
        done + 1,
        {'beta': np.full(count, config.beta, np.float32)},
        np.full(count, config.learning_rate, np.float32),
      )
      done += count
      losses.append(metrics.loss)
    return losses

  return loop


def _orthonormal(
  generator: np.random.Generator, rows: int, columns: int
) -> np.ndarray:
  """A matrix with orthonormal rows or columns, whichever are fewer."""
  size = max(rows, columns), min(rows, columns)
  matrix = np.linalg.qr(generator.normal(size=size)).Q
  return np.ascontiguousarray(
    matrix if rows >= columns else matrix.T, np.float32
  )


def load_products(problem: contest.Problem) -> contest.Loop:
  """Returns the matrix products of the MLP: a floor under any loop's time.

  Forward through each layer, and backward to the gradients of its weights and
  inputs; no bias, activation, noise, loss or optimizer.
  """
  config = _config(problem)
  pixels, latents = problem.images[0].size, config.latent_size
  encoder_sizes = (pixels, *config.hidden_sizes, 2 * latents)
  decoder_sizes = (latents, *config.hidden_sizes[::-1], pixels)
  generator = np.random.default_rng(0)
  inputs = tf.constant(_orthonormal(generator, config.batch_size, pixels))
  # With orthonormal factors, the gradient of the first weights is a projection
  # of these weights. As the next step's weights it makes every step depend on
  # the one before, so that XLA can leave none out, at no cost; and no number
  # grows or vanishes.
  weights = [
    tf.constant(_orthonormal(generator, *shape))
    for sizes in (encoder_sizes, decoder_sizes)
    for shape in itertools.pairwise(sizes)
  ]
  middle = len(encoder_sizes) - 1

  def step(first: tf.Tensor) -> list[tf.Tensor]:
    layers = [first, *weights[1:]]
    hidden = [inputs]
    for index, weight in enumerate(layers):
      outputs = tf.matmul(hidden[-1], weight)
      # Half of the posterior's parameters is as many as there are latents.
      hidden.append(outputs[:, :latents] if index + 1 == middle else outputs)
    upstream = hidden.pop()
    gradients = []
    for index in reversed(range(len(layers))):
      if index + 1 == middle:
        upstream = tf.pad(upstream, [[0, 0], [0, latents]])
      gradients.append(tf.matmul(hidden[index], upstream, transpose_a=True))
      if index:
        upstream = tf.matmul(upstream, layers[index], transpose_b=True)
    return gradients[::-1]

  @tf.function(jit_compile=True, autograph=False)
  def products(steps: tf.Tensor) -> list[tf.Tensor]:
    _, *gradients = tf.while_loop(
      lambda done, *gradients: done < steps,
      lambda done, *gradients: [done + 1, *step(gradients[0])],
      [tf.constant(0), *weights],
    )
    return gradients

  def loop(steps: int) -> list[float]:
    return [float(tf.reduce_sum(products(tf.constant(steps))[0]))]

  return loop


# -- Evaluation ---------------------------------------------------------------


def load_evaluation(problem: contest.Problem) -> contest.Loop:
  """Returns what evaluates 10,000 images a step, with one sample for each."""
  config = _config(problem)
  evaluator = evaluation.Evaluator(
    build.model(config, problem.images.shape[1:])
  )
  images = problem.images[:_NUM_EVALUATED]
  return lambda steps: [
    -evaluator(images, config.binarize, config.seed).elbo.value
    for _ in range(steps)
  ]


_NUM_BOUNDED = 500


def load_importance(problem: contest.Problem) -> contest.Loop:
  """Returns what bounds log p(x) of 500 images a step, by many samples."""
  config = _config(problem)
  model = build.model(config, problem.images.shape[1:])
  estimator = importance.Estimator(model, jit=True)
  images = problem.images[:_NUM_BOUNDED]
  return lambda steps: [
    -estimator(images, config.binarize, config.seed, [config.num_samples])[
      0
    ].log_p.value
    for _ in range(steps)
  ]


def load_importance_products(problem: contest.Problem) -> contest.Loop:
  """Returns the matrix products of the decoder alone, for the same samples."""
  config = _config(problem)
  generator = np.random.default_rng(0)
  weights = [tf.constant(layer.w) for layer in problem.decoder]
  rows = 2000
  latents = tf.constant(
    generator.normal(size=(rows, config.latent_size)), tf.float32
  )
  blocks = -(-_NUM_BOUNDED * config.num_samples // rows)

  @tf.function(jit_compile=True, autograph=False)
  def products() -> tf.Tensor:
    def body(done, carried):
      # What is carried keeps XLA from taking the products out of the loop.
      hidden = latents + 1e-9 * carried
      for weight in weights:
        hidden = tf.matmul(hidden, weight)
      return done + 1, tf.reduce_max(hidden)

    return tf.while_loop(lambda done, _: done < blocks, body, [0, 0.0])[1]

  return lambda steps: [products().numpy() for _ in range(steps)]


_LOADERS = {
  'ours': load_ours,
  'products': load_products,
  'evaluation': load_evaluation,
  'importance': load_importance,
  'importance_products': load_importance_products,
}


if __name__ == '__main__':
  programs.set_threads(contest.threads())
  if sys.argv[1] == 'problems':
    _make_problems(*sys.argv[2:])
  else:
    contest.serve(_LOADERS[sys.argv[1]], f'tensorflow {tf.__version__}')
