import math

import numpy as np
import pytest
import tensorflow as tf

from vae import architectures, networks

# Of the studies' own code, for one channel and ten latents at 64x64.
COUNTS = {
  'burgess_conv': (252_052, 249_953),
  'locatello_conv': (309_204, 381_313),
  # 4096-1200-1200-20, and 10-1200-1200-1200-4096.
  'higgins_mlp': (
    4097 * 1200 + 1201 * 1200 + 1201 * 20,
    11 * 1200 + 2 * 1201 * 1200 + 1201 * 4096,
  ),
}


def pair(name, shape=(64, 64, 1), scheme='he_uniform'):
  w_init = networks.Initializer(scheme, 0)
  encoder = getattr(architectures, f'{name}_encoder')
  decoder = getattr(architectures, f'{name}_decoder')
  data = {} if name == 'higgins_mlp' else {'data_shape': shape}
  return (
    encoder(output_shape=(20,), w_init=w_init, **data),
    decoder(output_shape=shape, w_init=w_init),
  )


@pytest.mark.parametrize('name', COUNTS)
def test_networks_of_studies_have_their_number_of_parameters(name):
  encoder, decoder = pair(name)
  assert encoder(tf.zeros([2, 64, 64, 1])).shape == (2, 20)
  assert decoder(tf.zeros([2, 10])).shape == (2, 64, 64, 1)
  counts = tuple(
    sum(math.prod(variable.shape) for variable in module.trainable_variables)
    for module in (encoder, decoder)
  )
  assert counts == COUNTS[name]


@pytest.mark.parametrize('name', ['burgess_conv', 'locatello_conv'])
def test_every_pixel_counts(name):
  encoder, decoder = pair(name, (32, 32, 3))
  image = tf.random.stateless_uniform([1, 32, 32, 3], [0, 1])
  with tf.GradientTape() as tape:
    tape.watch(image)
    output = tf.reduce_sum(encoder(image))
  gradient = tape.gradient(output, image).numpy()
  assert np.mean(gradient != 0) > 0.9
  assert decoder(tf.zeros([1, 7])).shape == (1, 32, 32, 3)


def test_the_first_convolution_is_that_of_its_equation():
  encoder, _ = pair('burgess_conv', (8, 8, 1))
  image = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32)
  encoder(tf.constant(image))
  weights = encoder.trainable_variables[1].numpy()
  assert weights.shape == (4, 4, 1, 32)
  padded = np.pad(image[0, :, :, 0], 1)
  expected = np.zeros((4, 4, 32))
  for i in range(4):
    for j in range(4):
      window = padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
      expected[i, j] = np.tensordot(window, weights[:, :, 0], 2)
  features = encoder._layers[0](image)[0].numpy()
  np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(
  ('name', 'shape', 'message'),
  [
    ('burgess_conv', (28, 28, 1), 'images of 28×28 do not fit halving'),
    ('burgess_conv', (4, 4, 1), 'images of 4×4'),
    ('burgess_conv', (64, 72, 1), 'images of 64×72'),
    ('locatello_conv', (28, 28, 1), 'must be multiples of 16'),
    ('locatello_conv', (13,), 'data of shape'),
  ],
)
def test_sizes_that_do_not_fit_are_refused(name, shape, message):
  with pytest.raises(ValueError, match=message):
    pair(name, shape)
