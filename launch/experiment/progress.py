"""Shows progress: on a terminal as a bar, elsewhere as plain lines."""

import sys
import time

import tqdm

# Seconds between plain lines.
_PLAIN_SECONDS = 30.0


class Progress:
  """Shows how far a task is, at what rate, and when it will end."""

  def __init__(
    self, done: int, total: int, unit: str = 'steps', task: str = ''
  ):
    """Initializes the display.

    Args:
      done: what an earlier process did.
      total: how much there is in all.
      unit: what is counted.
      task: what is done, where several things are.
    """
    self._task = f'{task}: ' if task else ''
    self._unit = unit
    self._first = done
    self._total = total
    self._start = self._last = time.monotonic()
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        initial=done,
        total=total,
        unit=f' {unit}',
        desc=task or None,
        file=sys.stderr,
        leave=False,
      )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def print(self, text: str) -> None:
    """Prints a line to standard output without tearing the bar."""
    if self._bar is None:
      print(text, flush=True)
    else:
      self._bar.write(text, file=sys.stdout)

  def update(self, done: int) -> None:
    """Shows that `done` are done."""
    if self._bar is not None:
      self._bar.update(done - self._bar.n)
      return
    now = time.monotonic()
    if now - self._last < _PLAIN_SECONDS or done == self._first:
      return
    self._last = now
    rate = (done - self._first) / (now - self._start)
    left = (self._total - done) / rate
    print(
      f'{self._task}{done:,} of {self._total:,} {self._unit}, {rate:,.4g}/s, '
      f'{left // 60:.0f} min {left % 60:.0f} s left',
      file=sys.stderr,
      flush=True,
    )

  def close(self) -> None:
    """Takes the bar away."""
    if self._bar is not None:
      self._bar.close()
