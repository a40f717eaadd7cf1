"""What the builder makes of parts, and of what they say they are."""

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

from launch.experiment import build, programs
from launch.rundir import checkpoints
from launch.settings import config as config_lib
from launch.settings import parts, presets
from launch.settings.config import Config
from vae import objectives, randomness, terms, training

SHAPE = (4, 4, 1)
SMALL = {'hidden_sizes': (4,), 'latent_size': 2}
AUTOENCODER = {
  'objective': 'reconstruction',
  'posterior': 'deterministic',
  'likelihood': 'squared_error',
}


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'posterior': 'deterministic'}, 'has no rate, and so no --objective=elbo'),
    ({'likelihood': 'squared_error'}, 'is no density'),
    ({'objective': 'reconstruction'}, '--objective=elbo --beta=0'),
    ({**AUTOENCODER, 'prior': 'mixture'}, '--prior=mixture'),
    (
      {'likelihood': 'continuous_bernoulli', 'binarize': 'dynamic'},
      'is a density of grey pixels',
    ),
    ({'objective': 'iwae'}, '--objective=iwae: needs --binarize=dynamic'),
    (
      {'likelihood': 'normal', 'output_bias': 'data_mean'},
      '--output_bias=data_mean: needs --decoder=mlp',
    ),
  ],
)
def test_parts_that_do_not_go_together_are_refused(settings, message):
  with pytest.raises(config_lib.ConfigError) as error:
    build.model(Config(**SMALL, **settings), SHAPE)
  assert message in str(error.value)


def test_weights_of_no_checkpoint_are_not_made():
  variables = build.named_variables(model=build.model(Config(**SMALL), SHAPE))
  tensors = build.values(variables)
  same = build.model(Config(**SMALL), SHAPE, tensors=tensors)
  build.assign(build.named_variables(model=same), tensors)
  # Terabytes.
  for settings, shape in (
    ({}, (2**20,)),
    ({'hidden_sizes': (4, 2**20, 2**20)}, SHAPE),
  ):
    with pytest.raises(checkpoints.CheckpointError, match='of another model'):
      build.model(Config(**SMALL | settings), shape, tensors=tensors)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (
      {},
      '--objective=elbo: no closed form of the KL from Independent to '
      'MixtureSameFamily is known; kl=monte_carlo estimates it',
    ),
    (
      {'objective': 'info', 'kl': 'monte_carlo'},
      '--objective=info: compares with draws from the prior, which have no '
      "gradient in the weights of a mixture's components; prior=standard needs "
      'none',
    ),
  ],
)
def test_objectives_refuse_a_prior_before_training(settings, message):
  config = Config(**SMALL, prior='mixture', **settings)
  model = build.model(config, SHAPE)
  with pytest.raises(config_lib.ConfigError) as error:
    build.objective(config, model)
  assert str(error.value) == message


@pytest.mark.parametrize(
  ('settings', 'expected'),
  [
    ({}, (True, False, True, 0.01 * 16 / 2)),
    ({'binarize': 'dynamic'}, (True, True, True, 0.08)),
    ({'likelihood': 'normal'}, (True, True, True, 0.08)),
    ({'reduction': 'sum', 'beta': 3.0}, (True, False, True, 3.0)),
    ({'objective': 'iwae', 'binarize': 'static'}, (True, True, False, 1.0)),
    (AUTOENCODER, (False, False, False, None)),
  ],
)
def test_a_run_is_what_its_parts_say(settings, expected):
  examples = np.zeros([3, *SHAPE], np.uint8)
  found = build.properties(Config(**SMALL, **settings), examples)
  assert (found.has_elbo, found.has_density, found.takes_beta) == expected[:3]
  assert found.effective_beta == pytest.approx(expected[3])


def test_a_learned_prior_is_counted():
  config = Config(**SMALL, prior='mixture', prior_components=3)
  counted = build.num_parameters(build.model(config, SHAPE))
  assert counted['prior'] == 3 + 3 * 2 + 3 * 2
  assert counted['decoder'] == 2 * 4 + 4 + 4 * 16 + 16
  fixed = build.num_parameters(build.model(Config(**SMALL), SHAPE))
  assert fixed.keys() == {'encoder', 'decoder'}


@pytest.mark.parametrize(
  ('name', 'published'),
  [
    ('burgess_vae', {'encoder': 252_052, 'decoder': 249_953}),
    (
      'locatello_factor',
      {'encoder': 309_204, 'decoder': 381_313, 'objective': 5_018_002},
    ),
    ('higgins_vae', {'encoder': 6_381_620, 'decoder': 7_814_896}),
  ],
)
def test_presets_have_the_numbers_of_parameters_that_are_published(
  name, published
):
  settings = dict(presets.PRESETS[name].settings)
  if 'num_epochs' in settings:
    settings['training_steps'] = None
  config = Config(**settings)
  model = build.model(config, (64, 64, 1))
  module = build.objective(config, model).module
  assert build.num_parameters(model, module) == published


def test_every_part_takes_settings_or_what_it_is_provided_with():
  names = {field.name for field in config_lib.fields()}
  for kind, (_, _, provided) in parts.KINDS.items():
    for value in parts.find(kind):
      assert parts.parameters(kind, value) <= names | provided, value


def test_settings_that_a_part_keeps_make_another_program(monkeypatch):
  one, two = Config(training_steps=5), Config(training_steps=6)
  assert config_lib.compiled_settings(one) == config_lib.compiled_settings(two)
  monkeypatch.setattr(parts, 'parameters', lambda *part: {'training_steps'})
  assert config_lib.compiled_settings(one) != config_lib.compiled_settings(two)


@pytest.mark.parametrize('name', ['clip_norm', 'weight_decay'])
def test_whether_a_setting_is_on_makes_another_program_not_its_value(name):
  off, one, two = (
    config_lib.compiled_settings(Config(**{name: value}))
    for value in (0.0, 0.5, 1.0)
  )
  assert off != one == two


def test_a_weight_that_is_left_to_the_objective_makes_another_program():
  left, one, two = (
    config_lib.compiled_settings(
      Config(objective='dip_i', dip_diagonal_weight=weight)
    )
    for weight in (None, 50.0, 60.0)
  )
  assert left != one == two


def test_matrices_and_kernels_of_the_networks_decay():
  config = Config(
    hidden_sizes=(4,),
    latent_size=2,
    prior='mixture',
    kl='monte_carlo',
    weight_decay=0.5,
  )
  model = build.model(config, SHAPE)
  optimizer = build.optimizer(config, model)
  names = [v.name for v in optimizer.variables]
  assert not any(names.count(name) > 1 for name in ('learning_rate:0',))
  before = [v.numpy() for v in model.trainable_variables]
  parameters = model.trainable_variables
  optimizer.apply([tf.zeros_like(p) for p in parameters], parameters)
  decayed = 0
  for old, new in zip(before, parameters, strict=True):
    is_weight = new.name.split('/')[-1] == 'w:0'
    share = 1.0 - 1e-3 * 0.5 if is_weight else 1.0
    np.testing.assert_allclose(new, share * old, rtol=1e-6)
    decayed += is_weight
  assert decayed == 4


def test_the_gradients_of_each_network_are_clipped_on_their_own():
  config = Config(
    objective='factor',
    reduction='sum',
    hidden_sizes=(4,),
    latent_size=2,
    discriminator_sizes=(3,),
    clip_norm=0.5,
    optimizer='sgd',
  )
  model = build.model(config, SHAPE)
  objective = build.objective(config, model)
  assert isinstance(objective.optimizer, training.Clipped)
  owned = objective.module.trainable_variables
  before = [tf.identity(v) for v in (*model.trainable_variables, *owned)]
  batch = terms.Batch(
    tf.ones([8, *SHAPE]),
    randomness.key(0, randomness.Purpose.POSTERIOR, 1),
    tf.constant(1, tf.int64),
    8,
  )
  weights = {name: tf.constant(1e4) for name in objective.weights}
  optimizer = build.optimizer(config, model)
  training.train_step(model, optimizer, objective, batch, weights)
  count = len(model.trainable_variables)
  after = (*model.trainable_variables, *owned)
  moved = [new - old for new, old in zip(after, before, strict=True)]
  # A norm of both together would leave the model less.
  assert float(tf.linalg.global_norm(moved[:count])) == pytest.approx(
    1e-3 * 0.5, rel=1e-3
  )
  assert float(tf.linalg.global_norm(moved[count:])) > 0.0


class Critic(snt.Module):
  """An elbo with variables of its own."""

  def __init__(self, **settings):
    super().__init__()
    self._settings = {k: v for k, v in settings.items() if k != 'beta'}
    self._size = tf.Variable(1.0)

  def make_optimizer(self):
    return snt.optimizers.Momentum(0.1, 0.9)

  def __call__(self, model, batch, beta):
    loss = _ELBO(model, batch, beta, **self._settings)
    away = tf.stop_gradient(tf.reduce_mean(loss.terms.rate)) - self._size
    return loss._replace(measured={'size': self._size}, adversary=away**2)


_ELBO = objectives.elbo


def test_a_program_that_is_reused_starts_anew_in_every_variable(monkeypatch):
  monkeypatch.setattr(objectives, 'elbo', Critic)
  images = np.arange(20 * 16, dtype=np.uint8).reshape(20, *SHAPE)

  def make(seed):
    config = Config(
      **SMALL, seed=seed, batch_size=4, jit='off', data_placement='device'
    )
    return programs.Program(config, build.model(config, SHAPE), images)

  def train(program):
    rates = np.full(3, 1e-2, np.float32)
    metrics = program.engine.run(1, {'beta': rates}, rates)
    return metrics, build.values(program.variables)

  metrics, expected = train(make(1))
  assert metrics.measured.keys() == {'size'}
  program = make(0)
  assert {'objective', 'objective_optimizer'} <= {
    name.split('/')[0] for name in program.variables
  }
  train(program)
  program.restart(make(1))
  again, found = train(program)
  assert again == metrics
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
  ('settings', 'jit'),
  [
    ({}, 'on'),
    ({'batch_size': 256}, 'on'),
    ({'precision': 'bfloat16'}, 'on'),
    ({'precision': 'bfloat16', 'batch_size': 256}, 'off'),
    ({'precision': 'bfloat16', 'batch_size': 256, 'jit': 'on'}, 'on'),
    ({'encoder': 'strided_conv', 'channels': (2,)}, 'off'),
  ],
  ids=str,
)
def test_who_compiles_is_a_rule(settings, jit):
  config = Config(**SMALL, **settings)
  shape = (16, 16, 1)
  assert programs.resolve_jit(config, build.model(config, shape)) == jit


def test_variables_without_a_loss_of_their_own_are_a_fault(monkeypatch):
  class Idle(Critic):
    def __call__(self, model, batch, beta):
      return super().__call__(model, batch, beta)._replace(adversary=None)

  monkeypatch.setattr(objectives, 'elbo', Idle)
  config = Config(**SMALL)
  with pytest.raises(TypeError, match='Idle owns variables'):
    build.objective(config, build.model(config, SHAPE))


def test_a_module_may_own_nothing_and_an_optimizer_keep_nothing(monkeypatch):
  class Plain(snt.Module):
    def __init__(self, **settings):
      super().__init__()

    def __call__(self, model, batch, beta):
      return _ELBO(model, batch, beta)

  class Simple(Critic):
    def make_optimizer(self):
      return snt.optimizers.SGD(0.1)

  config = Config(**SMALL)
  for part, owned in ((Plain, {}), (Simple, {'objective/000/simple/Variable'})):
    monkeypatch.setattr(objectives, 'elbo', part)
    made = build.objective(config, build.model(config, SHAPE))
    assert build.named_variables(**made.owned).keys() == set(owned)


def test_an_objective_says_what_it_is_by_a_decorator_or_not_at_all():
  assert terms.traits_of(_ELBO) == terms.Traits('beta', ('rate',))
  assert terms.traits_of(lambda model, batch: None) == terms.Traits()
