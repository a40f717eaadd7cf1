"""Ends on a signal: once a process has saved, or at once."""

import os
import signal
import sys
import threading


class Stop:
  """Turns the first SIGINT or SIGTERM into a wish, the second into an end.

  A thread listens, since Python's handlers wait for the main thread, which may
  be inside a compiled program for seconds. Outside of the main thread signals
  are none of ours.

  Attributes:
    signal: the one that came; None before.
  """

  def __init__(self, ends_process: bool = True, doing: str = 'saving'):
    """Initializes it.

    Args:
      ends_process: whether a second signal ends the process, at once; else it
        raises KeyboardInterrupt where Python is next, as in a notebook, whose
        process holds more than a run.
      doing: what the process does until it ends, in a word.
    """
    self.signal: signal.Signals | None = None
    self._ends_process = ends_process
    self._doing = doing
    self._num_handled = 0
    self._listens = threading.current_thread() is threading.main_thread()

  def __enter__(self):
    if not self._listens:
      return self
    self._read_end, self._write_end = os.pipe()
    os.set_blocking(self._write_end, False)
    self._before_fd = signal.set_wakeup_fd(
      self._write_end, warn_on_full_buffer=False
    )
    # The bytes in the pipe are what counts; a handler must be there for it.
    self._before = {
      number: signal.signal(number, self._handle)
      for number in (signal.SIGINT, signal.SIGTERM)
    }
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *exception):
    if not self._listens:
      return
    signal.set_wakeup_fd(self._before_fd)
    for number, handler in self._before.items():
      signal.signal(number, handler)
    os.close(self._write_end)  # Which ends the thread.
    self._thread.join()
    os.close(self._read_end)

  def _handle(self, number, frame):
    del number, frame
    self._num_handled += 1
    if self._num_handled > 1 and not self._ends_process:
      raise KeyboardInterrupt

  def _listen(self):
    while numbers := os.read(self._read_end, 1):
      if numbers[0] not in self._before:
        continue
      if self.signal is not None:
        if self._ends_process:
          os._exit(128 + numbers[0])
        continue
      self.signal = signal.Signals(numbers[0])
      print(
        f'{self.signal.name}: {self._doing}; once more ends at once',
        file=sys.stderr,
        flush=True,
      )
