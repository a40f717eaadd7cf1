"""Speed beside a floor: `python -m launch.benchmark`."""

import itertools
import statistics
import time
from collections.abc import Callable

from absl import flags

from launch import cli

_REPEATS = flags.DEFINE_integer(
  'repeats', 5, 'timings of each, taken in turn', lower_bound=1
)

_SUMMARY = """
Times the importance-weighted bound of the network of Burda et al. (2015),
784-200-200-50, at 200 samples for each of 500 images, beside the matrix
products of its decoder alone, in turn.
"""

_SIZES = (50, 200, 200, 784)
_NUM_IMAGES = 500
_NUM_SAMPLES = 200


def _contestants() -> dict[str, Callable[[], object]]:
  """What is timed, by name; each is compiled already."""
  import numpy as np
  import tensorflow as tf

  from launch import runs
  from launch.config import Config
  from vae import importance, randomness

  config = Config(
    hidden_sizes=(200, 200),
    latent_size=50,
    activation='tanh',
    posterior_scale='exp',
    binarize='dynamic',
  )
  model = runs.build(config, (28, 28, 1))
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (_NUM_IMAGES, 28, 28, 1), np.uint8)
  estimator = importance.Estimator(model, jit=True)
  weights = [
    tf.constant(generator.normal(size=shape) / 50, tf.float32)
    for shape in itertools.pairwise(_SIZES)
  ]
  rows = 2000
  latents = randomness.normal(
    randomness.key(0, randomness.Purpose.PRIOR, 0), [rows, _SIZES[0]]
  )
  loops = -(-_NUM_IMAGES * _NUM_SAMPLES // rows)

  @tf.function(jit_compile=True, autograph=False)
  def products(latents, *weights):
    def body(done, carried):
      # What is carried keeps XLA from taking the products out of the loop.
      hidden = latents + 1e-9 * carried
      for weight in weights:
        hidden = tf.matmul(hidden, weight)
      return done + 1, tf.reduce_max(hidden)

    return tf.while_loop(lambda done, _: done < loops, body, [0, 0.0])[1]

  timed = {
    'importance-weighted bound': lambda: estimator(
      images, 'dynamic', 0, [_NUM_SAMPLES]
    ),
    'matrix products alone': lambda: products(latents, *weights).numpy(),
  }
  for function in timed.values():
    function()
  return timed


def main() -> int:
  """Times as the flags say and prints a table."""
  cli.import_tensorflow()
  timed = _contestants()
  seconds: dict[str, list[float]] = {name: [] for name in timed}
  for _ in range(_REPEATS.value):
    for name, function in timed.items():
      started = time.perf_counter()
      function()
      seconds[name].append(time.perf_counter() - started)
  for name, values in seconds.items():
    print(
      f'{name:26} {statistics.median(values):8.3f} s '
      f'({min(values):.3f} to {max(values):.3f})'
    )
  ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
  print(
    f'{"ratio, pair by pair":26} {statistics.median(ratios):8.2f}   '
    f'({min(ratios):.2f} to {max(ratios):.2f})'
  )
  return 0


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
