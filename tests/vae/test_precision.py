import ml_dtypes
import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

from launch.experiment import build, programs
from launch.settings.config import Config
from vae import architectures, precision, randomness, terms

SHAPE = (16, 16, 1)
SMALL = {
  'hidden_sizes': (6,),
  'channels': (2,),
  'latent_size': 3,
  'posterior_scale': 'softplus',  # Whose gradients are no quotients of 0.
  'batch_size': 4,
  'jit': 'off',
  'data_placement': 'device',
  'discriminator_sizes': (5,),
}
PRODUCTS = ('MatMul', 'Conv2D', 'Conv2DBackpropFilter', 'Conv2DBackpropInput')


def rounded(values):
  return np.asarray(values).astype(ml_dtypes.bfloat16).astype(np.float64)


# -- One layer beside NumPy ---------------------------------------------------


def product(x, w):
  return x @ w


def convolution(x, w):
  """Cross-correlation with stride 2 and no padding."""
  size, count = w.shape[0], (x.shape[1] - w.shape[0]) // 2 + 1
  at = lambda i: slice(2 * i, 2 * i + size)
  outputs = [
    [np.einsum('bhwi,hwio->bo', x[:, at(i), at(j)], w) for j in range(count)]
    for i in range(count)
  ]
  return np.transpose(outputs, [2, 0, 1, 3])


@pytest.mark.parametrize(
  ('layer', 'shape', 'reference'),
  [
    (snt.Linear(7), [5, 64], product),
    (snt.Conv2D(7, 4, 2, padding='VALID'), [5, 10, 10, 6], convolution),
  ],
  ids=lambda value: getattr(value, 'name', None),
)
@pytest.mark.parametrize('jit', [False, True])
def test_a_layer_is_that_of_rounded_numbers(layer, shape, reference, jit):
  generator = np.random.default_rng(0)
  x = tf.constant(generator.normal(size=shape), tf.float32)
  layer(x)
  layer.b.assign(generator.normal(size=7))
  exact = layer(x)

  mixed = precision.in_bfloat16(lambda x: layer(x))

  @tf.function(jit_compile=jit, autograph=False)
  def differentiated(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      outputs = mixed(x)
      loss = tf.reduce_sum(outputs**2)
    return outputs, tape.gradient(loss, (x, layer.w, layer.b))

  outputs, gradients = differentiated(x)
  expected = reference(rounded(x), rounded(layer.w)) + layer.b.numpy()
  # A unit in the last of 8 bits of the product.
  np.testing.assert_allclose(outputs, expected, rtol=2**-8, atol=2**-6)
  for values in (outputs, *gradients):
    assert values.dtype == tf.float32
  if not jit:  # XLA leaves out rounding that is followed by float32.
    for values in gradients[:2]:
      np.testing.assert_array_equal(values, rounded(values))
    products = outputs - layer.b
    np.testing.assert_allclose(products, rounded(products), 1e-6, 1e-6)
  assert (np.abs(outputs - exact) > 1e-4).any()
  # Of the loss by b: the sum of what it is by each output.
  by_b = 2 * np.asarray(outputs, np.float64).reshape(-1, 7).sum(0)
  np.testing.assert_allclose(gradients[2], by_b, rtol=1e-5, atol=1e-4)
  # Nothing is left behind: the layer is as it was.
  np.testing.assert_array_equal(layer(x), exact)


@pytest.mark.parametrize('kind', precision.LAYERS)
def test_every_layer_is_mixed_from_its_first_call_on(kind):
  sides = {'1': 1, '2': 2, '3': 3}.get(kind.__name__[4:5], 0)
  layer = kind(4, 3) if sides else kind(4)
  x = tf.random.stateless_normal([2, *[6] * sides, 3], [0, 0])
  outputs = precision.in_bfloat16(layer)(x)
  assert {v.dtype for v in layer.trainable_variables} == {tf.float32}
  np.testing.assert_array_equal(outputs, rounded(outputs))
  assert (outputs != layer(x)).numpy().any()
  np.testing.assert_allclose(outputs, layer(x), atol=0.1)


# -- A step -------------------------------------------------------------------


def step_graph(config):
  """The operations of one step: (kind, type) of each, and its gradients."""
  model = build.model(config, SHAPE)
  objective = build.objective(config, model)
  own = objective.module.trainable_variables if objective.module else ()

  @tf.function(autograph=False)
  def step(images):
    key = randomness.key(0, randomness.Purpose.POSTERIOR, 1)
    batch = terms.Batch(images, key, tf.constant(1, tf.int64), 100)
    weights = {name: tf.constant(0.5) for name in objective.weights}
    with tf.GradientTape(persistent=True) as tape:
      loss = objective.loss(model, batch, **weights)
    gradients = tape.gradient(loss.value, model.trainable_variables)
    if own:
      gradients += tape.gradient(loss.adversary, own)
    return loss.value, gradients

  images = tf.constant(np.random.default_rng(0).random([4, *SHAPE]), tf.float32)
  operations = step.get_concrete_function(images).graph.get_operations()
  value, gradients = step(images)
  for variable in (*model.variables, *own):
    assert variable.dtype == tf.float32
  kinds = [(o.type, o.outputs[0].dtype) for o in operations if o.outputs]
  return kinds, value, gradients


@pytest.mark.parametrize(
  ('settings', 'num_layers'),
  [
    ({}, 4),
    ({'network': 'strided_conv'}, 7),
    # The discriminator's two layers are called twice.
    ({'objective': 'factor', 'reduction': 'sum'}, 8),
    ({'objective': 'dreg', 'binarize': 'dynamic', 'num_samples': 2}, 4),
  ],
  ids=str,
)
def test_every_product_of_a_step_is_bfloat16_and_nothing_else(
  settings, num_layers
):
  config = Config(**SMALL | settings)
  mixed = Config(**SMALL | settings | {'precision': 'bfloat16'})
  before, expected, exact = step_graph(config)
  kinds, value, gradients = step_graph(mixed)
  assert not [kind for kind in before if kind[1] == tf.bfloat16]
  of_products = [kind for kind in before if kind[0] in PRODUCTS]
  # Forwards, by weights, and (but of the first layer) by inputs.
  assert len(of_products) >= 3 * num_layers - 1
  assert [kind for kind in kinds if kind[0] in PRODUCTS] == [
    (name, tf.bfloat16) for name, _ in of_products
  ]
  # Biases, sums and means are float32.
  mixed_kinds = {name for name, dtype in kinds if dtype == tf.bfloat16}
  assert mixed_kinds <= {*PRODUCTS, 'Cast'}
  assert value.dtype == tf.float32
  np.testing.assert_allclose(value, expected, rtol=1e-2)
  assert value != expected
  assert {gradient.dtype for gradient in gradients} == {tf.float32}
  error = tf.linalg.global_norm(
    [a - b for a, b in zip(gradients, exact, strict=True)]
  )
  assert 0 < error < 0.03 * tf.linalg.global_norm(exact)


def user_encoder(output_shape, w_init=None, **unused):
  """One that a user adds, with a norm and numbers that are float32."""
  return snt.Sequential(
    [
      snt.Conv2D(4, 5, stride=2, w_init=w_init),
      lambda images: images * tf.constant(2.0),
      snt.LayerNorm(-1, create_scale=True, create_offset=True),
      lambda images: tf.reduce_mean(images, axis=[1, 2]),
      snt.Linear(output_shape[0], w_init=w_init),
    ]
  )


def test_a_part_that_a_user_adds_is_mixed_too(monkeypatch):
  monkeypatch.setattr(architectures, 'mlp_encoder', user_encoder)
  kinds, _, _ = step_graph(Config(**SMALL, precision='bfloat16'))
  products = [dtype for name, dtype in kinds if name in PRODUCTS]
  assert set(products) == {tf.bfloat16}
  assert 'Conv2D' in {name for name, _ in kinds}
  assert {d for name, d in kinds if name in ('Mean', 'Rsqrt', 'Mul')} == {
    tf.float32
  }


def test_what_bfloat16_has_trained_is_float32_and_so_is_its_evaluation():
  config = Config(**SMALL, precision='bfloat16')
  images = np.random.default_rng(0).integers(0, 256, [20, *SHAPE], np.uint8)
  model = build.model(config, SHAPE)
  program = programs.Program(config, model, images)
  rates = np.full(3, 1e-2, np.float32)
  program.engine.run(1, {'beta': rates}, rates)
  assert {v.dtype for v in program.variables.values()} <= {
    *(tf.float32, tf.int32, tf.int64)
  }
  reference = build.model(Config(**SMALL), SHAPE)
  build.assign(
    build.named_variables(model=reference),
    build.values(build.named_variables(model=model)),
  )
  one, two = (m.encode(images / np.float32(255)) for m in (model, reference))
  np.testing.assert_array_equal(one.mean(), two.mean())
