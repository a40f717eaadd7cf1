import inspect

import numpy as np
import pytest

from launch.settings import parts
from vae import learning_rates

PROVIDED = {
  'steps': np.arange(40),
  'epochs': np.arange(40) / 3.0,
  'warmup': 4,
  'last': 40,
}


def test_the_ladder_climbs_after_3_to_the_i_epochs():
  epochs = np.array([0.0, 0.99, 1.0, 3.99, 4.0, 12.99, 13.0, 40.0, 3279.9])
  stages = np.array([0, 0, 1, 1, 2, 2, 3, 4, 7])
  np.testing.assert_allclose(
    learning_rates.ladder(epochs), 10.0 ** (-stages / 7), rtol=1e-6
  )


def test_the_cosine_falls_from_one_to_one_step_before_zero():
  shares = learning_rates.cosine(np.arange(4), warmup=0, last=4)
  np.testing.assert_allclose(shares, [1, 0.853553, 0.5, 0.146447], rtol=1e-5)


def test_the_cosine_begins_after_the_warm_up():
  shares = learning_rates.cosine(np.arange(7), warmup=3, last=7)
  later = learning_rates.cosine(np.arange(4), warmup=0, last=4)
  np.testing.assert_array_equal(shares, [1, 1, 1, *later])
  np.testing.assert_array_equal(
    learning_rates.cosine(np.arange(3), warmup=3, last=3), 1.0
  )


@pytest.mark.parametrize('name', parts.find('learning_rate_schedule'))
def test_every_schedule_falls_from_one(name):
  schedule = getattr(learning_rates, name)
  taken = inspect.signature(schedule).parameters
  shares = schedule(**{n: PROVIDED[n] for n in taken})
  assert shares.shape == (40,)
  assert shares[0] == 1.0
  assert (np.diff(shares) <= 0.0).all()
  assert (shares > 0.0).all()
