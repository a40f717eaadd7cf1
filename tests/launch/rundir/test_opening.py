import pytest

from launch.rundir import opening
from launch.settings.config import Config


@pytest.mark.parametrize(
  ('settings', 'label'),
  [
    ({}, 'beta0.01-latents10-seed0'),
    ({'objective': 'beta_tc', 'beta': 6.0}, 'beta_tc-beta6-latents10-seed0'),
    (
      {'objective': 'annealed', 'gamma': 1000.0},
      'annealed-gamma1000-capacity25-latents10-seed0',
    ),
    ({'objective': 'iwae'}, 'iwae-latents10-seed0'),
  ],
)
def test_a_new_folder_says_what_is_trained(
  tmp_path, monkeypatch, settings, label
):
  monkeypatch.chdir(tmp_path)
  config = Config(**settings)
  with opening.opened(None, False, lambda stored: config) as (path, _):
    assert path.name.split('-', 2)[2] == label
