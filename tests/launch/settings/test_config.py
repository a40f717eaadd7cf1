import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import pytest
from absl import flags
from absl.testing import flagsaver

from launch import records
from launch.settings import asked, config, presets
from launch.settings import flags as setting_flags
from launch.sweeps import grid
from tests.launch.conftest import call_train


def test_config_survives_json():
  original = config.Config(beta=4.0, hidden_sizes=(7, 5), training_steps=3)
  settings = json.loads(original.to_json())
  assert config.from_dict(settings, 'x') == original
  assert list(settings) == sorted(settings)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'beta': -1.0}, '--beta=-1: must be at least 0'),
    ({'beta': float('nan')}, '--beta=nan: must be finite'),
    ({'beta': True}, '--beta=True: must be of type float'),
    ({'beta': 10**400}, '000: must be finite'),
    ({'learning_rate': 1e300}, 'must be finite, and fit into 32 bits'),
    ({'batch_size': 0}, '--batch_size=0: must be at least 1'),
    ({'latent_size': 2**21}, '--latent_size=2097152: must be at most'),
    ({'checkpoint_every': '9' * 400}, 'must be a number of steps'),
    ({'seed': 2**63}, 'must fit into 63 bits'),
    ({'hidden_sizes': (5, 0)}, '--hidden_sizes=5,0: must be at least 1'),
    ({'hidden_sizes': 5}, '--hidden_sizes=5: must be a list of int'),
    ({'reduction': 'max'}, '--reduction=max: must be one of mean, sum'),
    ({'learning_rate': 0.0}, '--learning_rate=0: must be greater than 0'),
    ({'checkpoint_every': '5m'}, '--checkpoint_every=5m: must be a number of'),
    ({'checkpoint_every': '0s'}, '--checkpoint_every=0s: must be a number of'),
    ({'training_steps': None}, 'give one of --training_steps and'),
    ({'num_epochs': 1.0}, 'give one of --training_steps and'),
  ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
  with pytest.raises(config.ConfigError) as error:
    config.Config(**settings)
  assert message in str(error.value)


def test_whole_numbers_are_taken_as_the_floats_that_settings_are():
  given = {'beta': 1, 'num_epochs': 2, 'training_steps': None}
  read = config.from_dict(json.loads(json.dumps(given)), 'x')
  for made in (read, config.Config(**given)):
    assert isinstance(made.beta, float) and made.beta == 1.0
    assert isinstance(made.num_epochs, float) and made.num_epochs == 2.0
    assert isinstance(made.seed, int)


def test_unknown_settings_are_named_and_missing_ones_are_defaults():
  settings = dataclasses.asdict(config.Config(seed=5))
  with pytest.raises(config.ConfigError, match='x: unknown settings gamut'):
    config.from_dict({**settings, 'gamut': 1}, 'x')
  del settings['beta']
  assert config.from_dict(settings, 'x') == config.Config(seed=5)


@pytest.mark.parametrize('settings', [{'kl': '\x1b[2J\n'}, {'\x1b[2J\n': 1}])
def test_what_a_file_holds_cannot_steer_the_terminal(settings):
  with pytest.raises(config.ConfigError) as error:
    config.from_dict(settings, 'x')
  assert str(error.value).isprintable()


@pytest.mark.parametrize('name', presets.PRESETS)
def test_every_preset_is_a_config(name):
  settings = dict(presets.PRESETS[name].settings)
  if settings.get('num_epochs'):
    settings['training_steps'] = None
  config.Config(**settings)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (
      {'beta_warmup_steps': 2000},
      '--beta_warmup_steps=2000: training would end before, after 1024 steps',
    ),
    (
      {'learning_rate_warmup_steps': 2000},
      '--learning_rate_warmup_steps=2000: training would end before',
    ),
    (
      {'learning_rate_schedule': 'cosine', 'patience': 3},
      '--patience=3: would end training before '
      '--learning_rate_schedule=cosine does',
    ),
    ({'encoder': 'transformer'}, '--encoder=transformer: must be one of mlp'),
  ],
)
def test_settings_that_contradict_are_refused(settings, message):
  with pytest.raises(config.ConfigError) as error:
    config.Config(**settings)
  assert message in str(error.value)


@hypothesis.given(
  st.dictionaries(
    st.sampled_from([field.name for field in config.fields()]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.integers() | st.text(), max_size=3)
    | st.dictionaries(st.text(), st.integers(), max_size=2),
    max_size=4,
  )
)
def test_damaged_settings_make_a_config_or_one_clear_line(changes):
  settings = json.loads(config.Config().to_json()) | changes
  try:
    made = config.from_dict(settings, 'x')
  except config.ConfigError as error:
    assert str(error).startswith('x: ')
  else:
    assert json.loads(made.to_json())


@pytest.mark.parametrize('content', [b'', b'{', b'\xff', b'[' * 100_000, b'3'])
def test_files_that_are_no_config_are_refused(tmp_path, content):
  path = tmp_path / 'config.json'
  path.write_bytes(content)
  with pytest.raises(records.RecordError, match=r'config\.json'):
    config.load(path)


def test_a_name_that_older_runs_have_is_read_as_todays():
  settings = json.loads(config.Config().to_json()) | {'posterior': 'diagonal'}
  assert config.from_dict(settings, 'x') == config.Config()


def test_what_is_recorded_and_how_it_runs_tells_no_results_apart():
  watched = {'log_every': 7, 'eval_every': 7, 'eval_images': 7, 'threads': 7}
  watched |= {'eval_scores': ('mig',), 'checkpoint_every': '7s', 'jit': 'off'}
  watched |= {'devices': 2}
  watched |= {'data_placement': 'host'}
  made = {'beta': 7.0, 'channels': (7,), 'seed': 7}
  settings = dataclasses.asdict(config.Config()) | watched | made
  assert config.changed(settings) == made
  read = json.loads(config.Config(**watched, **made).to_json())
  unknown = {'idea': 7}  # Of a run that was made elsewhere.
  assert config.changed(read | unknown) == made | {'channels': [7]} | unknown
  assert {name for name in settings if not config.makes_results(name)} == {
    *watched
  }


def test_differences_name_the_setting_and_both_values():
  one, two = config.Config(), config.Config(beta=4.0)
  assert config.differences(vars(one), vars(two)) == ['beta: 0.01 -> 4']
  assert config.differences(vars(one), vars(one)) == []


def test_whether_xla_compiles_is_decided_anew_for_other_devices():
  stored = config.Config(jit='on', threads=3)
  same = config.decided(asked.make({'devices': 1}, stored), stored)
  assert (same.jit, same.threads) == ('on', 3)
  several = config.decided(asked.make({'devices': 2}, stored), stored)
  assert (several.jit, several.threads, several.devices) == ('auto', 3, 2)


def test_intervals():
  assert config.parse_interval('500') == (500.0, 'steps')
  assert config.parse_interval('2.5s') == (2.5, 'seconds')


# -- Settings that do nothing -------------------------------------------------


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--dropout=0.5'], '--dropout=0.5: does nothing in this run; it goes with'
                        ' --network=pooled_conv'),
    (['--channels=4'], '--channels=4: does nothing'),
    (['--network=pooled_conv', '--hidden_sizes=8'], '--hidden_sizes=8:'),
    (['--network=deep_conv', '--hidden_sizes=100,100'], '--hidden_sizes=100,1'),
    (['--posterior=full_covariance', '--posterior_scale=exp'], 'posterior=n'),
    (['--likelihood_scale=0.1'], 'it goes with --likelihood=normal'),
    (['--prior_components=3'], 'it goes with --prior=mixture'),
    (['--kl_samples=3'], 'it goes with --kl=monte_carlo'),
    (['--momentum=0.5'], 'it goes with --optimizer=momentum'),
    (['--optimizer=sgd', '--adam_epsilon=0.1'], 'with --optimizer=adam'),
    (['--code_activation=tanh'], 'it goes with --posterior=deterministic'),
    (['--output_activation=tanh'], '--likelihood=normal or --likelihood=squar'),
    (['--network=strided_conv', '--output_bias=data_mean'], '--network=mlp'),
    (['--preset=autoencoder', '--beta=2'], 'it goes with --objective=elbo'),
    (['--preset=autoencoder', '--beta_warmup_steps=2'], 'a --beta'),
    (['--preset=iwae', '--beta=2'], '--beta=2: does nothing'),
    (['--preset=iwae', '--reduction=mean'], '--reduction=mean: does nothing'),
    (['--preset=iwae', '--kl=exact'], 'it goes with --objective=elbo'),
    (['--preset=autoencoder', '--num_samples=2'], '--num_samples=2:'),
    (['--network=mlp', '--encoder=mlp', '--decoder=mlp'], '--network=mlp:'),
    (['--preset=conv_vae_dropout', '--network=mlp', '--dropout=0.2'],
     '--dropout=0.2:'),
  ],
)  # fmt: skip
def test_a_setting_that_was_typed_and_does_nothing_is_refused(
  arguments, message
):
  result = call_train(*arguments)
  assert result.code == 1
  assert message in result.stderr
  assert result.stderr.count('\n') == 1


@pytest.mark.parametrize('value', [2**31, 2**63 - 1])
@pytest.mark.parametrize(
  'name',
  [
    field.name
    for field in config.fields()
    if 'int' in str(field.type) and field.name != 'seed'
  ],
)
def test_every_count_has_a_largest(name, value):
  listed = isinstance(getattr(config.Config(), name), tuple)
  with pytest.raises(config.ConfigError, match=f'{name}.*at most'):
    config.Config(**{name: (value,) if listed else value})


@pytest.mark.parametrize(
  'arguments',
  [
    ['--dropout=0'],  # It says what holds anyway.
    ['--preset=conv_vae_dropout', '--network=mlp'],  # Nobody typed a dropout.
    ['--preset=iwae', '--reduction=sum'],
  ],
)
def test_what_was_not_typed_or_says_to_do_without_is_let_be(arguments):
  with flagsaver.flagsaver():
    flags.FLAGS.unparse_flags()
    flags.FLAGS(['train', *arguments])
    setting_flags.read()


def test_another_objective_in_nats_has_sum_and_beta_one():
  with flagsaver.flagsaver():
    flags.FLAGS.unparse_flags()
    flags.FLAGS(['train', '--objective=iwae'])
    made = setting_flags.read()
    assert (made.reduction, made.beta) == ('sum', 1.0)
    # A run that goes on keeps what it has.
    stored = dataclasses.replace(made, reduction='mean', beta=0.01)
    assert setting_flags.read(stored) == stored


def test_an_axis_that_a_combination_does_not_take_is_refused_by_name():
  axes = {'network': ['mlp', 'pooled_conv'], 'dropout': [0.0, 0.5]}
  with flagsaver.flagsaver():
    flags.FLAGS.unparse_flags()
    flags.FLAGS(['train'])
    with pytest.raises(config.ConfigError) as error:
      grid.plan([axes], setting_flags.make)
    assert '(with --network=mlp --dropout=0.5)' in str(error.value)
    assert (
      len(
        grid.plan(
          [axes | {'network': ['pooled_conv']}], setting_flags.make
        ).runs
      )
      == 2
    )
    # One value that a combination does not take does not vanish either.
    with pytest.raises(config.ConfigError, match=r'--dropout=0\.5: does noth'):
      grid.plan([axes | {'dropout': [0.5]}], setting_flags.make)
