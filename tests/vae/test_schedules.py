import numpy as np
import pytest

from vae import schedules

STEPS = np.arange(1, 13)


def test_linear_reaches_one_at_its_last_step():
  np.testing.assert_array_equal(
    schedules.linear(STEPS, 4), np.minimum(1, STEPS / 4)
  )


def test_cosine_rises_along_half_a_period():
  shares = schedules.cosine(STEPS, 4)
  np.testing.assert_allclose(
    shares[:4], [0.146447, 0.5, 0.853553, 1], rtol=1e-5
  )
  np.testing.assert_array_equal(shares[4:], 1.0)


def test_cyclical_rises_four_times_and_stays():
  shares = schedules.cyclical(np.arange(1, 19), 16)
  one = [0.5, 1, 1, 1]
  np.testing.assert_allclose(shares, [*one, *one, *one, *one, 1, 1])


@pytest.mark.parametrize('name', ['constant', 'linear', 'cosine', 'cyclical'])
def test_without_steps_the_share_is_one(name):
  np.testing.assert_array_equal(getattr(schedules, name)(STEPS, 0), 1.0)
