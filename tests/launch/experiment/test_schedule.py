import numpy as np
import pytest

from launch.experiment import schedule
from launch.settings import config


def make(num_train=1000, **settings):
  return schedule.Schedule(
    config.Config(**{'training_steps': 100} | settings), num_train
  )


def test_powers_of_two_and_the_last_step_are_logged():
  plan = make()
  steps = [step for step in range(1, 101) if plan.is_logged(step)]
  assert steps == [1, 2, 4, 8, 16, 32, 64, 100]
  plan = make(log_every=30)
  steps = [step for step in range(1, 101) if plan.is_logged(step)]
  assert steps == [1, 2, 4, 8, 16, 30, 32, 60, 64, 90, 100]
  assert not plan.is_printed(30)


def test_the_loop_stops_wherever_something_happens():
  plan = make(
    num_train=70,
    batch_size=7,
    num_validation=1,
    patience=2,
    log_every=30,
    eval_every=45,
    checkpoint_every='37',
  )
  stops, step = [], 0
  while step < plan.last:
    step = plan.next_stop(step)
    stops.append(step)
  happens = [
    step
    for step in range(1, 101)
    if plan.is_logged(step)
    or plan.is_evaluated(step)
    or plan.is_validated(step)
    or plan.is_saved(step, 0.0)
  ]
  assert stops == happens
  assert {37, 74} < set(stops)


def test_checkpoints_are_due_by_steps_or_by_time():
  plan = make(checkpoint_every='37')
  due = [step for step in range(1, 101) if plan.is_saved(step, 1e9)]
  assert due == [37, 74]
  plan = make(checkpoint_every='2.5s')
  assert [plan.is_saved(37, seconds) for seconds in (2.4, 2.6)] == [False, True]
  assert plan.next_stop(36) == 64


@pytest.mark.parametrize(
  ('num_train', 'batch_size'), [(70, 7), (64, 7), (9, 9)]
)
def test_validation_comes_with_the_last_example_of_each_epoch(
  num_train, batch_size
):
  plan = make(num_train=num_train, batch_size=batch_size, patience=1)
  for step in range(1, 101):
    seen = np.arange((step - 1) * batch_size, step * batch_size)
    ends = np.any(seen % num_train == num_train - 1)
    assert plan.is_validated(step) == ends


def test_a_run_shorter_than_an_epoch_is_validated_at_its_end():
  validated = lambda plan: [
    step for step in range(1, plan.last + 1) if plan.is_validated(step)
  ]
  settings = {'num_train': 70, 'batch_size': 7, 'patience': 1}
  assert validated(make(training_steps=9, **settings)) == [9]
  assert validated(make(training_steps=10, **settings)) == [10]
  # Of longer ones it is the epochs that count.
  assert validated(make(training_steps=25, **settings)) == [10, 20]


def test_no_patience_no_validation():
  assert not any(make().is_validated(step) for step in range(1, 101))


def test_beta_rises_in_a_line_and_stays():
  weights = make(beta=2.0, beta_warmup_steps=4).weights(1, 6)
  assert weights.keys() == {'beta'}
  np.testing.assert_allclose(weights['beta'], [0.5, 1.0, 1.5, 2.0, 2.0, 2.0])
  constant = make(beta=2.0).weights(5, 2)['beta']
  np.testing.assert_array_equal(constant, [2.0, 2.0])


def test_each_weight_of_an_objective_has_its_own_schedule():
  plan = make(
    objective='annealed',
    reduction='sum',
    gamma=1000.0,
    capacity=25.0,
    capacity_steps=10,
    capacity_schedule='cosine',
  )
  weights = plan.weights(5, 6)
  assert weights.keys() == {'gamma', 'capacity'}
  np.testing.assert_array_equal(weights['gamma'], 1000.0)
  assert weights['capacity'][0] == 12.5
  assert weights['capacity'][-1] == 25.0
  assert plan.settled == 10
  # What is left to the objective is not given to it.
  plan = make(objective='dip_i', reduction='sum')
  assert plan.weights(1, 2).keys() == {'beta', 'dip_weight'}


@pytest.mark.parametrize('name', ['constant', 'cosine', 'ladder'])
def test_learning_rates_do_not_depend_on_where_a_block_starts(name):
  plan = make(
    learning_rate_schedule=name,
    learning_rate_warmup_steps=7,
    num_train=100,
    batch_size=10,
  )
  whole = plan.learning_rates(1, 100)
  apart = [plan.learning_rates(step, 1)[0] for step in range(1, 101)]
  np.testing.assert_array_equal(whole, apart)
  assert whole[0] == np.float32(1e-3 / 7)
  assert whole[6] == np.float32(1e-3) >= whole[9]
  assert (whole[10] < whole[9]) == (name != 'constant')
  assert whole[-1] > 0.0
  assert plan.settled == 7


def test_the_cosine_ends_with_the_last_step():
  rates = make(learning_rate_schedule='cosine').learning_rates(1, 100)
  expected = 1e-3 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
  np.testing.assert_allclose(rates, expected, rtol=1e-5)
