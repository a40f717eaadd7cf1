import numpy as np
import pytest
import tensorflow as tf

from tests.vae import builders
from vae import optimizers, randomness, training
from vae.data import batches, bits


def make_optimizer(parameters, make=optimizers.adam, rate=1e-2, **settings):
  variable = tf.Variable(rate, trainable=False, name='learning_rate')
  return training.with_slots(make(variable, **settings), parameters)


def make(
  jit=False,
  on_device=True,
  binarize='dynamic',
  seed=0,
  objective=builders.objective,
  images=None,
):
  model = builders.small_vae(seed=seed)
  optimizer = make_optimizer(model.trainable_variables)
  engine = training.Engine(
    model,
    optimizer,
    training.Objective(objective, ('beta',)),
    builders.byte_images(30) if images is None else images,
    seed=seed,
    batch_size=8,
    binarize=binarize,
    jit=jit,
    on_device=on_device,
  )
  return model, optimizer, engine


def constant(value, count):
  return np.full(count, value, np.float32)


def run(engine, first, count, beta=0.5, learning_rate=1e-2):
  return engine.run(
    first,
    {'beta': constant(beta, count)},
    constant(learning_rate, count),
  )


def state(model, optimizer):
  return [v.numpy() for v in (*model.variables, *optimizer.variables)]


def assert_same_bits(one, two):
  assert len(one) == len(two)
  for a, b in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b)


class NumpyAdam:
  """Kingma & Ba 2014, algorithm 1."""

  def __init__(self, parameters):
    self.parameters = [p.astype(np.float64) for p in parameters]
    self.m = [np.zeros_like(p) for p in self.parameters]
    self.v = [np.zeros_like(p) for p in self.parameters]
    self.t = 0

  def apply(self, gradients, learning_rate):
    self.t += 1
    for i, gradient in enumerate(gradients):
      self.m[i] = 0.9 * self.m[i] + 0.1 * gradient
      self.v[i] = 0.999 * self.v[i] + 0.001 * gradient**2
      m_hat = self.m[i] / (1 - 0.9**self.t)
      v_hat = self.v[i] / (1 - 0.999**self.t)
      self.parameters[i] -= learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)


@pytest.mark.parametrize('jit', [False, True])
def test_the_engine_does_what_a_plain_loop_does(jit):
  betas = np.linspace(0.0, 1.0, 12, dtype=np.float32)
  rates = np.linspace(1e-2, 1e-3, 12, dtype=np.float32)
  model, _, engine = make(jit=jit)
  metrics = engine.run(1, {'beta': betas}, rates)

  reference = builders.small_vae()
  variables = reference.trainable_variables
  adam = NumpyAdam([v.numpy() for v in variables])
  images = builders.byte_images(30)
  for step in range(1, 13):
    batch = images[batches.indices(0, 30, 8, step, 1)[0]]
    draw = lambda purpose, step=step: randomness.key(0, purpose, step)
    floats = batches.to_float(
      tf.constant(batch), 'dynamic', draw(randomness.Purpose.BINARISATION)
    )
    with tf.GradientTape() as tape:
      loss, terms, *_ = builders.objective(
        reference,
        builders.batch(floats, draw(randomness.Purpose.POSTERIOR)),
        betas[step - 1],
      )
    gradients = tape.gradient(loss, variables)
    adam.apply([g.numpy() for g in gradients], float(rates[step - 1]))
    for variable, value in zip(variables, adam.parameters, strict=True):
      variable.assign(value.astype(np.float32))

  for actual, expected in zip(
    model.trainable_variables, adam.parameters, strict=True
  ):
    np.testing.assert_allclose(actual, expected, atol=2e-4)
  # Row k holds the loss of batch k before update k.
  np.testing.assert_allclose(metrics.loss, loss, rtol=1e-3)
  np.testing.assert_allclose(
    metrics.distortion, np.mean(terms.distortion), rtol=1e-3
  )
  np.testing.assert_allclose(metrics.rate, np.mean(terms.rate), rtol=1e-2)


@pytest.mark.parametrize('jit', [False, True])
@pytest.mark.parametrize('on_device', [False, True])
def test_where_blocks_end_changes_no_bit(jit, on_device):
  model, optimizer, engine = make(jit, on_device)
  run(engine, 1, 10)
  together = state(model, optimizer)
  model, optimizer, engine = make(jit, on_device)
  first = 1
  for count in (1, 4, 2, 3):
    run(engine, first, count)
    first += count
  assert_same_bits(together, state(model, optimizer))


@pytest.mark.parametrize('jit', [False, True])
def test_who_gathers_the_images_changes_no_bit(jit):
  states = []
  for on_device in (False, True):
    model, optimizer, engine = make(jit, on_device)
    run(engine, 1, 10)
    states.append(state(model, optimizer))
  assert_same_bits(*states)


@pytest.mark.parametrize('jit', [False, True])
@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('binarize', ['none', 'dynamic'])
def test_packed_images_train_to_the_same_bits(jit, on_device, binarize):
  images = (builders.byte_images(30) > 127) * np.uint8(255)
  packed = bits.PackedImages(bits.pack(images), images.shape[1:])
  states = []
  for data in (images, packed):
    model, optimizer, engine = make(
      jit, on_device, images=data, binarize=binarize
    )
    run(engine, 1, 10)
    np.testing.assert_array_equal(
      engine.batch(3), images[batches.indices(0, 30, 8, 3, 1)[0]]
    )
    states.append(state(model, optimizer))
  assert_same_bits(*states)


def test_seeds_train_differently():
  states = []
  for seed in (0, 1):
    model, optimizer, engine = make(seed=seed)
    run(engine, 1, 2)
    states.append(state(model, optimizer))
  assert any((a != b).any() for a, b in zip(*states, strict=True))


def test_training_lowers_the_loss():
  _, _, engine = make(jit=True, binarize='none')
  before = run(engine, 1, 1).loss
  after = run(engine, 2, 500).loss
  assert after < 0.95 * before


@pytest.mark.parametrize('jit', [False, True])
@pytest.mark.parametrize('bad_step', [1, 6, 10])
def test_a_loss_that_is_not_finite_stops_before_its_update(jit, bad_step):
  # beta is a program input, so a bad one makes a bad loss at a known step.
  betas = constant(0.5, 10)
  betas[bad_step - 1] = np.nan
  model, optimizer, engine = make(jit)
  with pytest.raises(training.NonFiniteError) as error:
    engine.run(1, {'beta': betas}, constant(1e-2, 10))
  assert error.value.step == bad_step
  assert error.value.term == 'loss'
  stopped = state(model, optimizer)
  model, optimizer, engine = make(jit)
  if bad_step > 1:
    run(engine, 1, bad_step - 1)
  assert_same_bits(stopped, state(model, optimizer))


@pytest.mark.parametrize('term', ['distortion', 'rate'])
def test_the_term_that_is_not_finite_is_named(term):
  def broken(model, batch, beta):
    loss = builders.objective(model, batch, beta)
    infinite = loss.terms._replace(**{term: loss.terms.rate / 0.0})
    return loss._replace(terms=infinite)

  _, _, engine = make(objective=broken)
  with pytest.raises(training.NonFiniteError, match=f'{term} is inf at step 1'):
    run(engine, 1, 3)


def test_a_block_too_long_is_refused():
  _, _, engine = make()
  with pytest.raises(ValueError, match='a block has 1 to 1024 steps'):
    run(engine, 1, 1025)


def test_making_an_optimizer_leaves_no_trace():
  model = builders.small_vae()
  before = [v.numpy() for v in model.variables]
  optimizer = make_optimizer(model.trainable_variables)
  assert_same_bits(before, [v.numpy() for v in model.variables])
  slots = [v for v in optimizer.variables if 'learning_rate' not in v.name]
  assert len(slots) == 2 * len(model.trainable_variables) + 1
  assert not any(np.any(v.numpy()) for v in slots)


def numpy_updates(name, gradients, rate):
  """The values that a parameter which starts at one goes through."""
  value, first, second = 1.0, 0.0, 0.0
  for step, gradient in enumerate(gradients, 1):
    if name == 'sgd':
      value -= rate * gradient
    elif name == 'momentum':
      first = 0.7 * first + gradient
      value -= rate * first
    elif name == 'adagrad':
      second += gradient**2
      value -= rate * gradient / np.sqrt(0.1 + second)
    elif name == 'rmsprop':
      second = 0.9 * second + 0.1 * gradient**2
      value -= rate * gradient / np.sqrt(second + 1e-10)
    else:
      first = 0.9 * first + 0.1 * gradient
      second = 0.999 * second + 0.001 * gradient**2
      value -= (
        rate
        * (first / (1 - 0.9**step))
        / (np.sqrt(second / (1 - 0.999**step)) + 1e-3)
      )
    yield value


@pytest.mark.parametrize(
  ('name', 'settings'),
  [
    ('adagrad', {}),
    ('adam', {'adam_epsilon': 1e-3}),
    ('momentum', {'momentum': 0.7}),
    ('rmsprop', {}),
    ('sgd', {}),
  ],
)
def test_optimizers_do_what_their_papers_say(name, settings):
  parameter = tf.Variable(1.0)
  make = getattr(optimizers, name)
  optimizer = make_optimizer([parameter], make, 0.1, **settings)
  gradients = [0.5, -0.2, 0.03, 1.5]
  for gradient, expected in zip(
    gradients, numpy_updates(name, gradients, 0.1), strict=True
  ):
    optimizer.apply([tf.constant(gradient)], [parameter])
    assert float(parameter) == pytest.approx(expected, rel=1e-5)


def test_adagrad_does_what_that_of_tensorflow_does():
  start = [1.0, -2.0, 3.0]
  ours, theirs = tf.Variable(start), tf.Variable(start)
  optimizer = make_optimizer([ours], optimizers.adagrad, 0.1)
  sums = tf.Variable(tf.fill([3], 0.1))
  for gradient in np.random.default_rng(0).normal(size=(5, 3)):
    gradient = tf.constant(gradient, tf.float32)
    optimizer.apply([gradient], [ours])
    tf.raw_ops.ResourceApplyAdagrad(
      var=theirs.handle, accum=sums.handle, lr=0.1, grad=gradient
    )
  np.testing.assert_allclose(ours, theirs, rtol=1e-6)


# -- Clipped gradients and weights that decay ---------------------------------


@pytest.mark.parametrize(
  ('clip_norm', 'scale'), [(2.5, 0.5), (5.0, 1.0), (7.0, 1.0)]
)
def test_the_norm_of_all_gradients_together_is_clipped(clip_norm, scale):
  parameters = [tf.Variable([1.0, 1.0]), tf.Variable(1.0)]
  optimizer = training.Clipped(
    make_optimizer(parameters, optimizers.sgd, 1.0), tf.Variable(clip_norm)
  )
  # Of norm 5.
  optimizer.apply([tf.constant([3.0, 0.0]), tf.constant(4.0)], parameters)
  np.testing.assert_allclose(parameters[0], [1 - 3 * scale, 1], rtol=1e-6)
  np.testing.assert_allclose(parameters[1], 1 - 4 * scale, rtol=1e-6)


def test_adamw_does_what_its_paper_says():
  """Loshchilov & Hutter 2019, algorithm 2, with rates that change."""
  start = np.random.default_rng(0).normal(size=(3, 2))
  weight, bias = tf.Variable(start, dtype=tf.float32), tf.Variable([1.0, 2.0])
  optimizer = training.Decayed(
    make_optimizer([weight, bias]), tf.Variable(0.3), [True, False]
  )
  values, first, second = start.copy(), 0.0, 0.0
  plain = NumpyAdam([np.array([1.0, 2.0])])
  for step, rate in enumerate((1e-2, 5e-3, 1e-3), 1):
    gradient = np.random.default_rng(step).normal(size=(3, 2))
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    scaled = (first / (1 - 0.9**step)) / (
      np.sqrt(second / (1 - 0.999**step)) + 1e-8
    )
    values = values - (rate * scaled + rate * 0.3 * values)
    plain.apply([gradient[0]], rate)
    optimizer.learning_rate.assign(rate)
    optimizer.apply(
      [tf.constant(g, tf.float32) for g in (gradient, gradient[0])],
      [weight, bias],
    )
  np.testing.assert_allclose(weight, values, rtol=1e-5)
  np.testing.assert_allclose(bias, plain.parameters[0], rtol=1e-5)


def test_host_gathering_bounds_the_memory_of_a_block():
  images = np.zeros((8, 600, 600, 3), np.uint8)
  engine = training.Engine(
    builders.small_vae(),
    make_optimizer([tf.Variable([0.0])]),
    training.Objective(builders.objective),
    images,
    seed=0,
    batch_size=8,
    binarize='none',
    jit=False,
    on_device=False,
  )
  assert engine.max_steps * 8 * 600 * 600 * 3 <= 32 * 2**20
