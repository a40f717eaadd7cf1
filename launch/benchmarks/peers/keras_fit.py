"""Keras: a model with a `train_step` of its own, trained by `fit`."""

import itertools
import time

import keras
import numpy as np
import tensorflow as tf
from keras import layers

VERSION = f'keras {keras.__version__}'


def mlp(latents):
  encoder = [
    layers.Flatten(),
    layers.Dense(100, 'relu'),
    layers.Dense(100, 'relu'),
  ]
  decoder = [
    layers.Dense(100, 'relu'),
    layers.Dense(100, 'relu'),
    layers.Dense(784),
    layers.Reshape((28, 28, 1)),
  ]
  return encoder, decoder, tf.square


def strided_conv(latents):
  transposed = [
    layers.Conv2DTranspose(8, 5, 2, activation='tanh', output_padding=1)
    for _ in range(2)
  ]
  encoder = [
    layers.Conv2D(8, 5, 2, activation='tanh'),
    layers.Conv2D(8, 5, 2, activation='tanh'),
    layers.Flatten(),
    layers.Dense(64, 'tanh'),
  ]
  decoder = [
    layers.Dense(64, 'tanh'),
    layers.Dense(128, 'tanh'),
    layers.Reshape((4, 4, 8)),
    *transposed,
    layers.Conv2D(1, 3, padding='same'),
  ]
  return encoder, decoder, tf.exp


def pooled_conv(latents):
  encoder = [
    layers.Conv2D(32, 3, activation='relu'),
    layers.MaxPooling2D(),
    layers.Conv2D(64, 3, activation='relu'),
    layers.MaxPooling2D(),
    layers.Flatten(),
  ]
  decoder = [
    layers.Dense(1600),
    layers.Reshape((5, 5, 64)),
    layers.UpSampling2D(),
    layers.Conv2DTranspose(64, 3, activation='relu'),
    layers.UpSampling2D(),
    layers.Conv2DTranspose(32, 3, activation='relu'),
    layers.Conv2DTranspose(1, 3),
  ]
  return encoder, decoder, lambda raw: tf.exp(0.5 * raw)


NETWORKS = {
  'mlp': mlp,
  'strided_conv': strided_conv,
  'pooled_conv': pooled_conv,
}


class VAE(keras.Model):
  def __init__(self, problem):
    super().__init__()
    latents = problem.settings['latent_size']
    encoder, decoder, self.to_scale = NETWORKS[problem.settings['network']](
      latents
    )
    self.encoder = keras.Sequential([keras.Input((28, 28, 1)), *encoder])
    self.head = layers.Dense(2 * latents)
    self.decoder = keras.Sequential([keras.Input((latents,)), *decoder])
    self.dropout = layers.Dropout(problem.settings['dropout'])
    self.rate = problem.settings['dropout']
    self.distortion_weight = problem.distortion_weight
    self.rate_weight = problem.rate_weight

  def loss_of(self, images, noise, uniform):
    features = self.encoder(images, training=True)
    if uniform is None:
      features = self.dropout(features, training=True)
    elif self.rate:
      kept = tf.cast(uniform >= self.rate, tf.float32)
      features = features * kept / (1.0 - self.rate)
    loc, raw = tf.split(self.head(features), 2, axis=-1)
    scale = self.to_scale(raw) + 1e-6
    if noise is None:
      noise = tf.random.normal(tf.shape(loc))
    logits = self.decoder(loc + scale * noise, training=True)
    distortion = tf.reduce_sum(
      tf.nn.sigmoid_cross_entropy_with_logits(images, logits), axis=[1, 2, 3]
    )
    rate = 0.5 * tf.reduce_sum(
      scale**2 + loc**2 - 1.0 - 2.0 * tf.math.log(scale), axis=-1
    )
    return tf.reduce_mean(
      self.distortion_weight * distortion + self.rate_weight * rate
    )

  def train_step(self, data):
    images, noise, uniform = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
      loss = self.loss_of(images, noise, uniform)
    gradients = tape.gradient(loss, self.trainable_variables)
    self.optimizer.apply(gradients, self.trainable_variables)
    return {'loss': loss}


def copy_weights(model, problem):
  values = problem.encoder[:-1], problem.encoder[-1:], problem.decoder
  parts = model.encoder.layers, [model.head], model.decoder.layers
  for modules, given in zip(parts, values, strict=True):
    with_weights = [module for module in modules if module.weights]
    for module, layer in zip(with_weights, given, strict=True):
      module.set_weights(layer)


class Fit(keras.callbacks.Callback):
  """The loop; times an epoch, without what `fit` does before the first."""

  def __init__(self, problem, steps_per_execution):
    super().__init__()
    keras.backend.clear_session()
    self.problem = problem
    self.images = problem.float_images()
    self.vae = VAE(problem)
    if problem.recorded:
      steps_per_execution = min(steps_per_execution, 4)
    self.vae.compile(
      # Keras adds epsilon before the bias correction, Kingma & Ba's epsilon
      # hat.
      keras.optimizers.Adam(problem.settings['learning_rate'], epsilon=1e-8),
      steps_per_execution=steps_per_execution,
    )
    self.vae.head.build((None, *self.vae.encoder.output_shape[1:]))
    copy_weights(self.vae, problem)

  def on_epoch_begin(self, epoch, logs=None):
    self.began = time.perf_counter()

  def on_epoch_end(self, epoch, logs=None):
    self.seconds = time.perf_counter() - self.began

  def on_train_batch_end(self, batch, logs=None):
    if logs and self.problem.recorded:
      self.losses.append(logs['loss'])

  def __call__(self, steps):
    self.losses = []
    if self.problem.recorded:
      _, noise, uniform, _ = self.problem.recorded
      batches = self.images[self.problem.recorded.batches]
      data = tf.data.Dataset.from_tensor_slices((batches, noise, uniform))
      self.vae.fit(data, callbacks=[self], verbose=0)
    else:
      # One epoch that is as long as asked for.
      rows = np.concatenate([*itertools.islice(self.problem.batches(), steps)])
      size = self.problem.settings['batch_size']
      self.vae.fit(
        self.images[rows], batch_size=size, callbacks=[self], verbose=0
      )
    return self.losses


def load(problem, kind):
  return Fit(problem, int(kind))
