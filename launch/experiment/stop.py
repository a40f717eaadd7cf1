"""Ends on a signal: once a process has saved, or at once."""

import os
import signal
import sys
import threading


class Stop:
  """Turns the first SIGINT or SIGTERM into a wish, the second into an end.

  A thread listens, since Python's handlers wait for the main thread, which may
  be inside a compiled program for seconds.
  """

  def __init__(self):
    self.signal: signal.Signals | None = None

  def __enter__(self):
    self._read_end, self._write_end = os.pipe()
    os.set_blocking(self._write_end, False)
    self._before_fd = signal.set_wakeup_fd(self._write_end)
    # The bytes in the pipe are what counts; a handler must be there for it.
    self._before = {
      number: signal.signal(number, lambda number, frame: None)
      for number in (signal.SIGINT, signal.SIGTERM)
    }
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *exception):
    signal.set_wakeup_fd(self._before_fd)
    for number, handler in self._before.items():
      signal.signal(number, handler)
    os.close(self._write_end)  # Which ends the thread.
    self._thread.join()
    os.close(self._read_end)

  def _listen(self):
    while numbers := os.read(self._read_end, 1):
      if numbers[0] not in self._before:
        continue
      if self.signal is not None:
        os._exit(128 + numbers[0])
      self.signal = signal.Signals(numbers[0])
      print(
        f'{self.signal.name}: saving; once more ends at once',
        file=sys.stderr,
        flush=True,
      )
