"""Learning-rate schedules: which share of its full value it has at each step.

Each public function here is a value of `--learning_rate_schedule`, and returns
shares in [0, 1], float64 [K]. By keyword it takes any of these:

  steps: the updates before each, int [K].
  epochs: the passes over the data before each, float [K].
  warmup: the steps of `--learning_rate_warmup_steps`, in which a line from 0
    multiplies the shares.
  last: the number of steps that are planned. A run whose schedule takes it has
    its end settled from its first step on.
"""

import numpy as np


def constant(steps: np.ndarray) -> np.ndarray:
  """Returns 1 at every step.

  Args:
    steps: [K].
  """
  return np.ones(len(steps))


def cosine(steps: np.ndarray, warmup: int, last: int) -> np.ndarray:
  """Returns shares that fall along half a period of a cosine, towards 0.

  Loshchilov & Hutter 2017 (https://arxiv.org/abs/1608.03983), equation 5, with
  one period and the end at 0. It begins after the warm-up, and would be 0 one
  step after the last.

  Args:
    steps: [K].
    warmup: before it begins.
    last: with which it ends.
  """
  through = (steps - warmup) / max(1, last - warmup)
  return (1.0 + np.cos(np.pi * np.clip(through, 0.0, 1.0))) / 2.0


def ladder(epochs: np.ndarray) -> np.ndarray:
  """Returns 10^(-i/7) for 3^i epochs, i = 0, 1, 2, ...

  Burda et al. 2015 (https://arxiv.org/abs/1509.00519), section 5.

  Args:
    epochs: [K].
  """
  stages = np.arange(40)
  starts = (3.0**stages - 1.0) / 2.0  # 0, 1, 4, 13, ...
  stage = np.searchsorted(starts, epochs, side='right') - 1
  return 10.0 ** (-stage / 7.0)
