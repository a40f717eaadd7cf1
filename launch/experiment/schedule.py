"""Says when what happens in a run, by its config and data size alone."""

import dataclasses

import numpy as np

from launch.settings import config as config_lib
from launch.settings import parts
from launch.settings.config import Config
from vae import learning_rates, schedules


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The steps of a run at which something happens, counted from 1.

  Attributes:
    config: all resolved.
    num_train: N, the number of training examples.
  """

  config: Config
  num_train: int

  @property
  def last(self) -> int:
    """Returns the last step that is planned."""
    assert self.config.training_steps is not None
    return self.config.training_steps

  def is_printed(self, step: int) -> bool:
    """Returns whether a step is printed: a power of two, or the last."""
    return step & (step - 1) == 0 or step == self.last

  def is_logged(self, step: int) -> bool:
    """Returns whether a step is in train.csv: printed, or by `log_every`."""
    every = self.config.log_every
    return self.is_printed(step) or (every > 0 and step % every == 0)

  def is_evaluated(self, step: int) -> bool:
    """Returns whether the run is evaluated after a step."""
    every = self.config.eval_every
    return (every > 0 and step % every == 0) or step == self.last

  def is_validated(self, step: int) -> bool:
    """Returns whether an epoch ends at a step, so that training may stop.

    A run that is shorter than an epoch is validated at its end, so that there
    is always a best step.
    """
    epoch_end = self._epoch_end(self.epochs(step - 1))
    if self.last < self._epoch_end(0):
      epoch_end = self.last
    return self.config.patience > 0 and step == epoch_end

  def is_saved(self, step: int, seconds: float) -> bool:
    """Returns whether a checkpoint is due, so long after the last one."""
    number, unit = config_lib.parse_interval(self.config.checkpoint_every)
    return seconds > number if unit == 'seconds' else step % number == 0

  def _epoch_end(self, epochs_before: int) -> int:
    """Returns the step that presents the last example of an epoch."""
    return -(-(epochs_before + 1) * self.num_train // self.config.batch_size)

  def epochs(self, step: int) -> int:
    """Returns how many epochs are whole after a step."""
    return step * self.config.batch_size // self.num_train

  def next_stop(self, step: int) -> int:
    """Returns the next step after which something happens."""
    config = self.config
    intervals = [config.log_every, config.eval_every]
    number, unit = config_lib.parse_interval(config.checkpoint_every)
    if unit == 'steps':
      intervals.append(int(number))
    stops = [self.last, 1 << step.bit_length()]
    stops += [(step // every + 1) * every for every in intervals if every]
    if config.patience:
      stops.append(self._epoch_end(self.epochs(step)))
    return min(stops)

  def weights(self, first: int, count: int) -> dict[str, np.ndarray]:
    """Returns what weighs the objective's terms, float32 [K] by name.

    Args:
      first: the first step.
      count: K.
    """
    steps = np.arange(first, first + count)
    found = {}
    for name in self.config.weights:
      share = np.ones(count)
      if name in config_lib.SCHEDULED:
        last = getattr(self.config, config_lib.SCHEDULED[name])
        shape = getattr(schedules, getattr(self.config, f'{name}_schedule'))
        share = shape(steps, last)
      found[name] = (getattr(self.config, name) * share).astype(np.float32)
    return found

  @property
  def settled(self) -> int:
    """Returns the step at which the rate and every weight have risen."""
    ends = [
      getattr(self.config, last)
      for name, last in config_lib.SCHEDULED.items()
      if name in self.config.weights
    ]
    return max([self.config.learning_rate_warmup_steps, *ends])

  def learning_rates(self, first: int, count: int) -> np.ndarray:
    """Returns the rates of `count` steps from `first` on, float32 [K]."""
    config, before = self.config, np.arange(first - 1, first - 1 + count)
    warmup = config.learning_rate_warmup_steps
    provided = {
      'steps': before,
      'epochs': before * config.batch_size / self.num_train,
      'warmup': warmup,
      'last': self.last,
    }
    name = config.learning_rate_schedule
    taken = parts.parameters('learning_rate_schedule', name)
    shares = getattr(learning_rates, name)(**{n: provided[n] for n in taken})
    shares = shares * schedules.linear(before + 1, warmup)
    return (config.learning_rate * shares).astype(np.float32)
