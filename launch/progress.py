"""Progress on a terminal as a bar, elsewhere as plain lines."""

import sys
import time

import tqdm

# Seconds between plain lines.
_PLAIN_SECONDS = 30.0


class Progress:
  """Shows how far training is, at what rate, and when it will end."""

  def __init__(self, done: int, total: int):
    """Initializes the display.

    Args:
      done: steps that an earlier process took.
      total: steps in all.
    """
    self._first = done
    self._total = total
    self._start = self._last = time.monotonic()
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        initial=done, total=total, unit='step', file=sys.stderr, leave=False
      )

  def print(self, text: str) -> None:
    """Prints a line to standard output without tearing the bar."""
    if self._bar is None:
      print(text, flush=True)
    else:
      self._bar.write(text, file=sys.stdout)

  def update(self, done: int) -> None:
    """Shows that `done` steps are done."""
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
      f'step {done:,} of {self._total:,}, {rate:,.4g} steps/s, '
      f'{left // 60:.0f} min {left % 60:.0f} s left',
      file=sys.stderr,
      flush=True,
    )

  def close(self) -> None:
    """Takes the bar away."""
    if self._bar is not None:
      self._bar.close()
