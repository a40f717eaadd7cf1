import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import pytest

from launch import records
from launch.settings import config, presets


def test_config_survives_json():
  original = config.Config(beta=4.0, hidden_sizes=(7, 5), training_steps=3)
  settings = json.loads(original.to_json())
  assert config.from_dict(settings, 'x') == original
  assert list(settings) == sorted(settings)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'beta': -1.0}, '--beta=-1.0: must be at least 0'),
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
    ({'learning_rate': 0.0}, '--learning_rate=0.0: must be greater than 0'),
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


def test_unknown_settings_are_named_and_missing_ones_are_defaults():
  settings = dataclasses.asdict(config.Config(seed=5))
  with pytest.raises(config.ConfigError, match='x: unknown settings gamma'):
    config.from_dict({**settings, 'gamma': 1}, 'x')
  del settings['beta']
  assert config.from_dict(settings, 'x') == config.Config(seed=5)


@pytest.mark.parametrize('name', presets.PRESETS)
def test_every_preset_is_a_config(name):
  settings = dict(presets.PRESETS[name].settings)
  if settings.get('num_epochs'):
    settings['training_steps'] = None
  config.Config(**settings)


@pytest.mark.parametrize(
  'settings',
  [{'beta': 2.0}, {'reduction': 'mean'}, {'binarize': 'none'}],
)
def test_the_importance_weighted_bound_is_refused_where_it_is_none(settings):
  good = {
    'objective': 'iwae',
    'beta': 1.0,
    'reduction': 'sum',
    'binarize': 'dynamic',
  }
  config.Config(**good)
  with pytest.raises(config.ConfigError, match='--objective=iwae'):
    config.Config(**good | settings)


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
    ({**AUTOENCODER, 'beta_warmup_steps': 3}, 'no rate for beta to weigh'),
    ({**AUTOENCODER, 'prior': 'mixture'}, '--prior=mixture'),
    (
      {'likelihood': 'continuous_bernoulli', 'binarize': 'dynamic'},
      'is a density of grey pixels',
    ),
    ({'code_activation': 'sigmoid'}, 'needs --posterior=deterministic'),
    ({'output_activation': 'sigmoid'}, 'needs --likelihood=normal'),
    (
      {'beta_warmup_steps': 2000},
      '--beta_warmup_steps=2000: training would end before, after 1024 steps',
    ),
    ({'encoder': 'transformer'}, '--encoder=transformer: must be one of mlp'),
  ],
)
def test_parts_that_do_not_go_together_are_refused(settings, message):
  with pytest.raises(config.ConfigError) as error:
    config.Config(**settings)
  assert message in str(error.value)


def test_an_autoencoder_has_no_elbo_and_no_beta():
  made = config.Config(**AUTOENCODER)
  assert not made.has_elbo
  assert not made.has_effective_beta
  assert not made.has_density
  assert config.Config().has_elbo


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


def test_differences_name_the_setting_and_both_values():
  one, two = config.Config(), config.Config(beta=4.0)
  assert config.differences(one, two) == ['beta: 0.01 -> 4.0']
  assert config.differences(one, one) == []


def test_intervals():
  assert config.parse_interval('500') == (500.0, 'steps')
  assert config.parse_interval('2.5s') == (2.5, 'seconds')
