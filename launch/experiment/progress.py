"""Shows a run to a person: its lines, its rows, and how far it is."""

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import tqdm

# Seconds between plain lines.
_PLAIN_SECONDS = 30.0

# What a line says before what is wrong and does not end the run.
_WARNING = 'WARNING: '

Row = Mapping[str, Any]


class Console:
  """Shows what a run says: all of it, or a bar alone, as notebooks do.

  Attributes:
    row: is called with each row of train.csv.
    is_terminal: whether all is shown, as commands do; else what is wrong is a
      warning of Python's, and a signal belongs to whoever called.
  """

  def __init__(
    self,
    is_terminal: bool = True,
    has_bar: bool = True,
    row: Callable[[Row], None] = lambda row: None,
  ):
    self.is_terminal = is_terminal
    self._has_bar = has_bar
    self.row = row

  def say(self, text: str) -> None:
    """Prints lines of the run to standard output."""
    self._show(text, sys.stdout)

  def report(self, text: str) -> None:
    """Prints lines on the way to the run to standard error."""
    self._show(text, sys.stderr)

  def _show(self, text: str, file: TextIO) -> None:
    if self.is_terminal:
      print(text, file=file, flush=True)
      return
    for line in text.splitlines():
      _, found, warning = line.partition(_WARNING)
      if found:
        warnings.warn(warning, stacklevel=3)

  def progress(self, done: int, total: int) -> 'Progress':
    """Returns what shows the steps of the run."""
    return Progress(done, total, console=self, is_shown=self._has_bar)


class Progress:
  """Shows how far a task is, at what rate, and when it will end.

  On a terminal and in a notebook by a bar, elsewhere by plain lines.
  """

  def __init__(
    self,
    done: int,
    total: int,
    unit: str = 'steps',
    task: str = '',
    console: Console | None = None,
    is_shown: bool = True,
  ):
    """Initializes the display.

    Args:
      done: what an earlier process did.
      total: how much there is in all.
      unit: what is counted.
      task: what is done, where several things are.
      console: what else is shown; None for everything.
      is_shown: whether anything is.
    """
    self._task = f'{task}: ' if task else ''
    self._unit = unit
    self._first = done
    self._total = total
    self._console = console or Console()
    self._is_shown = is_shown
    self._start = self._last = time.monotonic()
    self._bar = None
    if is_shown and _takes_bar():
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
    if self._bar is None or not self._console.is_terminal:
      self._console.say(text)
    else:
      self._bar.write(text, file=sys.stdout)

  def update(self, done: int) -> None:
    """Shows that `done` are done."""
    if self._bar is not None:
      self._bar.update(done - self._bar.n)
      return
    now = time.monotonic()
    is_due = now - self._last >= _PLAIN_SECONDS and done > self._first
    if not (self._is_shown and is_due):
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


def _takes_bar() -> bool:
  """Returns whether what is printed to standard error may be redrawn."""
  is_notebook = type(sys.stderr).__module__.startswith('ipykernel')
  return is_notebook or sys.stderr.isatty()
