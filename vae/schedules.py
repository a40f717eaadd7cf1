"""Schedules: which share of its full value a weight has at each step.

Each public function here is a value of `--beta_schedule`, `--capacity_schedule`
and `--gamma_schedule`. It takes steps, counted from 1, int [K], and the step
at which it ends, and returns shares in [0, 1], float64 [K]; the share is 1 from
that step on.
"""

import numpy as np

# Of `cyclical`: Fu et al.'s number, and the part of each that rises.
_CYCLES = 4
_RISING = 0.5


def constant(steps: np.ndarray, last: int) -> np.ndarray:
  """Returns 1 at every step.

  Args:
    steps: [K].
    last: not used.
  """
  del last
  return np.ones(len(steps))


def linear(steps: np.ndarray, last: int) -> np.ndarray:
  """Returns shares that rise in a line from 0 before the first step.

  Args:
    steps: [K].
    last: where they reach 1; 0 for 1 at every step.
  """
  return np.minimum(1.0, steps / max(1, last))


def cosine(steps: np.ndarray, last: int) -> np.ndarray:
  """Returns shares that rise along half a period of a cosine.

  Args:
    steps: [K].
    last: where they reach 1; 0 for 1 at every step.
  """
  return (1.0 - np.cos(np.pi * linear(steps, last))) / 2.0


def cyclical(steps: np.ndarray, last: int) -> np.ndarray:
  """Returns shares that rise in a line and stay, four times over.

  Fu et al. 2019 (https://arxiv.org/abs/1903.10145), equations 6 and 7, with
  four cycles of which the first half rises.

  Args:
    steps: [K].
    last: where the fourth cycle ends; 0 for 1 at every step.
  """
  through = linear(steps, last) * _CYCLES  # [K], in (0, 4].
  within = through - np.ceil(through) + 1.0
  return np.minimum(1.0, within / _RISING)
