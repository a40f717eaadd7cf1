"""Several devices, which here share the cores, compute what one does."""

import functools

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

from tests.vae import builders, test_training
from vae import (
  likelihoods,
  models,
  networks,
  objectives,
  optimizers,
  posteriors,
  precision,
  priors,
  replicas,
  training,
)
from vae.data import bits


class Network(snt.Module):
  """An encoder's network with dropout."""

  takes_key = True

  def __init__(self, output_shape, w_init):
    super().__init__()
    self._hidden = snt.Linear(8, w_init=w_init)
    self._dropout = networks.Dropout(0.4)
    self._output = networks.MLP([], output_shape, w_init=w_init)

  def __call__(self, images, key=None):
    hidden = tf.nn.relu(self._hidden(snt.flatten(images)))
    return self._output(self._dropout(hidden, key))


def make_model(posterior, likelihood, prior):
  w_init = networks.Initializer('sonnet', 0)
  model = models.VAE(
    models.Encoder(Network(posterior.parameter_shape, w_init), posterior),
    models.Decoder(
      networks.MLP([8], likelihood.parameter_shape, w_init=w_init), likelihood
    ),
    prior(),
  )
  model.decode(model.encode(tf.zeros([1, *builders.SHAPE])).mean())
  return model


normal = posteriors.Normal(3)
full = posteriors.FullCovariance(3)
bernoulli = lambda: likelihoods.Bernoulli(builders.SHAPE)
scaled = lambda kind: lambda: likelihoods.Normal(builders.SHAPE, kind)
standard = lambda: priors.standard(3)
mixture = lambda: priors.mixture(3, 4, tf.constant([1, 2], tf.int64))
w_init = lambda: networks.Initializer('sonnet', 1)
factor = lambda **settings: (
  lambda: objectives.Factor(3, w_init(), discriminator_sizes=(6, 6), **settings)
)
function = lambda name, **settings: (
  lambda: functools.partial(getattr(objectives, name), **settings)
)

# By name: the objective, its weights, and posterior, likelihood and prior.
USUAL = normal, bernoulli, standard
CASES = {
  'elbo': (function('elbo'), {'beta': 2.0}, USUAL),
  'elbo of a mixture': (
    function('elbo', kl='monte_carlo', kl_samples=3, num_samples=2),
    {'beta': 2.0},
    (full, scaled('global'), mixture),
  ),
  'elbo with the optimal scale': (
    function('elbo', num_samples=2),
    {'beta': 2.0},
    (normal, scaled('optimal'), standard),
  ),
  'reconstruction': (
    function('reconstruction'),
    {},
    (posteriors.Deterministic(3), bernoulli, standard),
  ),
  'iwae': (function('iwae', num_samples=3), {}, USUAL),
  'dreg': (function('dreg', num_samples=3), {}, (full, bernoulli, mixture)),
  'dreg with the optimal scale': (
    function('dreg', num_samples=3),
    {},
    (normal, scaled('optimal'), standard),
  ),
  'annealed': (function('annealed'), {'gamma': 5.0, 'capacity': 0.3}, USUAL),
  'beta_tc': (function('beta_tc'), {'beta': 4.0}, (full, bernoulli, standard)),
  'dip_i': (function('dip_i'), {'beta': 1.0, 'dip_weight': 0.02}, USUAL),
  'dip_ii': (
    function('dip_ii'),
    {'beta': 1.0, 'dip_weight': 0.5},
    (full, bernoulli, standard),
  ),
  'info': (function('info'), {'beta': 0.5, 'mmd_weight': 50.0}, USUAL),
  'factor': (factor(), {'beta': 1.0, 'gamma': 9.0}, USUAL),
  'factor of halves': (
    factor(permutation='second_batch'),
    {'beta': 1.0, 'gamma': 9.0},
    USUAL,
  ),
}


def make(
  case, num_devices, on_device=True, images=None, clip_norm=None, bfloat16=False
):
  """Returns an engine, its variables and the weights of its objective.

  It descends by plain gradients, so that what a step moves is a gradient.
  """
  make_loss, weights, (posterior, likelihood, prior) = CASES[case]
  strategy = replicas.strategy(num_devices)
  with strategy.scope():
    model = make_model(posterior, likelihood(), prior)
    optimizer = test_training.make_optimizer(
      model.trainable_variables, optimizers.sgd, 0.1
    )
    if clip_norm:
      optimizer = training.Clipped(optimizer, tf.Variable(clip_norm))
    loss, module, own = make_loss(), None, None
    if isinstance(loss, objectives.Factor):
      module = loss
      own = training.with_slots(
        optimizers.sgd(tf.Variable(0.1)), module.trainable_variables
      )
  engine = training.Engine(
    model,
    optimizer,
    training.Objective(
      precision.in_bfloat16(loss) if bfloat16 else loss,
      tuple(weights),
      (),
      module,
      own,
    ),
    builders.byte_images(30) if images is None else images,
    seed=0,
    batch_size=8,
    binarize='dynamic',
    jit=False,
    on_device=on_device,
    strategy=strategy,
  )
  variables = [*model.variables, *(module.variables if module else ())]
  return engine, variables, weights


def run(engine, weights, steps=1):
  return engine.run(
    1,
    {
      name: np.broadcast_to(np.float32(value), steps)
      for name, value in weights.items()
    },
    test_training.constant(0.1, steps),
  )


def values(variables):
  return [variable.numpy() for variable in variables]


def train(case, num_devices, **options):
  """Returns the variables before and after three steps, and the metrics."""
  engine, variables, weights = make(case, num_devices, **options)
  before = values(variables)
  metrics = run(engine, weights, steps=3)
  return before, variables, metrics


def assert_same_steps(before, one, several, tolerance=1e-5):
  for start, a, b in zip(before, one, several, strict=True):
    moved = np.abs(a.numpy() - start).max()
    assert moved > 0.0, a.name
    # Beside what was learned, and the rounding of what it was added to.
    atol = tolerance * moved + 3e-7 * np.abs(start).max()
    np.testing.assert_allclose(b.numpy(), a, rtol=0, atol=atol, err_msg=a.name)


@pytest.mark.parametrize('case', CASES)
def test_two_devices_take_the_steps_that_one_does(case):
  before, one, expected = train(case, 1)
  same, two, metrics = train(case, 2)
  test_training.assert_same_bits(before, same)
  assert_same_steps(before, one, two)
  np.testing.assert_allclose(metrics[:4], expected[:4], rtol=1e-5)


def test_two_devices_clip_the_norm_of_the_whole_gradient():
  before, one, _ = train('elbo', 1, clip_norm=0.5)
  _, two, _ = train('elbo', 2, clip_norm=0.5)
  assert_same_steps(before, one, two)
  _, free, _ = train('elbo', 1)
  length = lambda after: np.sqrt(
    sum(
      ((a - b) ** 2).sum() for a, b in zip(values(after), before, strict=True)
    )
  )
  # Three steps of at most 0.5 by a rate of 0.1; each replica's own gradient
  # would be as long, and so would their mean.
  assert length(one) <= 0.15 + 1e-6 < length(free)


@pytest.mark.parametrize('on_device', [True, False])
def test_two_devices_unpack_the_images_that_one_does(on_device):
  images = (builders.byte_images(30) > 127) * np.uint8(255)
  packed = bits.PackedImages(bits.pack(images), images.shape[1:])
  before, one, expected = train('elbo', 1, images=images)
  _, two, metrics = train('elbo', 2, images=packed, on_device=on_device)
  assert_same_steps(before, one, two)
  np.testing.assert_allclose(metrics[:4], expected[:4], rtol=1e-5)


@pytest.mark.parametrize('case', ['elbo', 'factor'])
def test_two_devices_in_bfloat16_differ_by_its_rounding(case):
  """Each rounds the gradient of its part of a batch to 8 bits."""
  before, one, expected = train(case, 1, bfloat16=True)
  _, two, metrics = train(case, 2, bfloat16=True)
  assert_same_steps(before, one, two, tolerance=2**-5)
  np.testing.assert_allclose(metrics[:2], expected[:2], rtol=2**-8)
  for variable in two:
    np.testing.assert_array_equal(*[copy.numpy() for copy in variable.values])


def test_four_devices_take_the_same_steps_and_repeat_their_bits():
  """Whoever gathers the images."""
  before, one, _ = train('factor of halves', 1)
  _, four, _ = train('factor of halves', 4)
  assert_same_steps(before, one, four)
  _, again, _ = train('factor of halves', 4, on_device=False)
  test_training.assert_same_bits(values(four), values(again))
  for variable in four:
    for copy in variable.values:  # That each device has.
      np.testing.assert_array_equal(copy, variable.numpy())


def test_a_loss_that_is_not_finite_stops_all_devices_before_its_update():
  engine, variables, weights = make('elbo', 2)
  run(engine, weights)
  expected = values(variables)
  engine, variables, _ = make('elbo', 2)
  with pytest.raises(training.NonFiniteError, match='loss is nan at step 2'):
    run(engine, {'beta': [2.0, np.nan, 2.0]}, steps=3)
  for number in range(2):
    copies = [variable.values[number] for variable in variables]
    test_training.assert_same_bits(expected, values(copies))
