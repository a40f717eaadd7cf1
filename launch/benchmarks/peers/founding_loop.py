"""The loop that this project starts from, and the same step compiled.

Sonnet modules and TensorFlow Probability distributions over tf.data batches,
one Python call for each step.
"""

import itertools

import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

VERSION = f'tensorflow {tf.__version__}'


class VAE(snt.Module):
  def __init__(self, latent_size):
    super().__init__()
    self.encoder = snt.nets.MLP([100, 100, 2 * latent_size])
    self.decoder = snt.nets.MLP([100, 100, 28 * 28])
    self.prior = tfd.Independent(
      tfd.Normal(tf.zeros(latent_size), tf.ones(latent_size)), 1
    )

  def __call__(self, images, noise=None):
    loc, raw_scale = tf.split(self.encoder(snt.flatten(images)), 2, axis=-1)
    scale = tf.square(raw_scale) + 1e-6
    posterior = tfd.Independent(tfd.Normal(loc, scale), 1)
    latents = posterior.sample() if noise is None else loc + scale * noise
    logits = tf.reshape(self.decoder(latents), [-1, 28, 28, 1])
    likelihood = tfd.Independent(tfd.Bernoulli(logits), 3)
    return (
      -likelihood.log_prob(images),
      tfd.kl_divergence(posterior, self.prior),
    )


def batches(problem):
  if problem.recorded:
    images = problem.float_images()[problem.recorded.batches]
    return tf.data.Dataset.from_tensor_slices((images, problem.recorded.noise))
  return (
    tf.data.Dataset.from_tensor_slices(problem.images)
    .shuffle(len(problem.images), seed=problem.settings['seed'])
    .repeat()
    .batch(problem.settings['batch_size'], drop_remainder=True)
    .map(lambda images: (tf.cast(images, tf.float32) / 255.0,))
    .prefetch(tf.data.AUTOTUNE)
  )


def load(problem, kind):
  model = VAE(problem.settings['latent_size'])
  optimizer = snt.optimizers.Adam(problem.settings['learning_rate'])

  def step(images, noise=None):
    with tf.GradientTape() as tape:
      distortion, rate = model(images, noise)
      loss = tf.reduce_mean(
        problem.distortion_weight * distortion + problem.rate_weight * rate
      )
    parameters = model.trainable_variables
    optimizer.apply(tape.gradient(loss, parameters), parameters)
    return loss

  if kind != 'eager':
    step = tf.function(step, jit_compile=kind == 'xla')

  model(tf.zeros([1, 28, 28, 1]))  # Makes the variables.
  for network, layers in (
    (model.encoder, problem.encoder),
    (model.decoder, problem.decoder),
  ):
    linears = [m for m in network.submodules if isinstance(m, snt.Linear)]
    for linear, layer in zip(linears, layers, strict=True):
      linear.w.assign(layer.w)
      linear.b.assign(layer.b)

  data = iter(batches(problem))
  return lambda steps: [step(*b) for b in itertools.islice(data, steps)]
