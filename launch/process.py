"""This process: what was typed, where it prints, how it begins and ends."""

import errno
import gc
import io
import os
import pathlib
import re
import shlex
import signal
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Sequence


def command_line() -> str:
  """Returns what was typed to start this process."""
  module = f'launch.{pathlib.Path(sys.argv[0]).stem}'
  return shlex.join(['python', '-m', module, *sys.argv[1:]])


def counted(number: int, noun: str) -> str:
  """Returns how many there are of what has a regular plural: '1 run'."""
  return f'{number:,} {noun}{"" if number == 1 else "s"}'


def printable(text: str) -> str:
  """Returns text on one line that does not steer a terminal."""
  return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def user_path(text: str | os.PathLike) -> pathlib.Path:
  """Returns a path as typed, with the home folder that a ~ stands for.

  Raises:
    OSError: a home folder that is not known.
  """
  path = os.path.expanduser(os.fspath(text))
  if path.startswith('~'):
    raise OSError(errno.ENOENT, 'no such home folder is known', text)
  return pathlib.Path(path)


def default_data_dir() -> str:
  """Returns where TFDS keeps its data: $TFDS_DATA_DIR, or its own default."""
  return os.environ.get('TFDS_DATA_DIR') or os.path.expanduser(
    '~/tensorflow_datasets'
  )


# -- What is printed ----------------------------------------------------------


class _Output(io.TextIOWrapper):
  """Standard output or error, whose reader may leave and whose disk may fill.

  Neither is an error of what is being done, so that the process ends without
  an OSError on the way: as a signal would end it where nobody reads, else with
  one line. Letters that a terminal lacks are spelled out.
  """

  def __init__(
    self, descriptor: int, stream: typing.TextIO | None, command: str
  ):
    self._descriptor, self._command = descriptor, command
    super().__init__(
      io.BufferedWriter(io.FileIO(descriptor, 'w', closefd=False)),
      stream.encoding if stream else 'utf-8',
      'backslashreplace',
      line_buffering=descriptor == 2 or os.isatty(descriptor),
    )

  def write(self, text: str, /) -> int:
    try:
      return super().write(text)
    except OSError as error:
      self._give_up(error)
      return len(text)

  def flush(self) -> None:
    try:
      super().flush()
    except OSError as error:
      self._give_up(error)

  def _give_up(self, error: OSError) -> None:
    # What is still to be written, and the flush at exit, find a reader.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, self._descriptor)
    os.close(null)
    if error.errno == errno.EPIPE:
      sys.exit(128 + signal.SIGPIPE)
    if self._descriptor == 1:  # Nobody could be told of standard error.
      print_error(
        self._command, f'standard output cannot be written: {error.strerror}'
      )
      sys.exit(1)


def protect_output(command: str) -> None:
  """Makes standard output and error safe to print to, whatever they are.

  Args:
    command: whose name an error shows.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      # Else the next file that is opened would get what is printed.
      os.open(os.devnull, os.O_RDWR)
  for descriptor, name in ((1, 'stdout'), (2, 'stderr')):
    stream = getattr(sys, name)
    if stream is getattr(sys, f'__{name}__'):  # Else somebody captures it.
      if stream is not None:
        stream.flush()
      setattr(sys, name, _Output(descriptor, stream, command))


def flag_help(
  name: str, default: object, text: str, choices: Sequence[str] = ()
) -> str:
  """Returns what --help says of a flag."""
  shown = '' if default in (None, '') else f' (default {default})'
  lines = [text]
  if choices:
    lines.append(f'One of: {", ".join(choices)}.')
  indent = ' ' * 6
  return '\n'.join(
    [
      f'  --{name}{shown}',
      *(
        textwrap.fill(line, 78, initial_indent=indent, subsequent_indent=indent)
        for line in lines
      ),
    ]
  )


def print_error(command: str, message: str) -> None:
  """Prints an error in one line."""
  print(f'{command}: error: {printable(message)}', file=sys.stderr)


def carry_out(command: str, body: Callable[[], int | None]) -> int:
  """Runs the body of a command; returns its exit code, or that of its error.

  The errors of users are subclasses of ValueError made for them, and are
  printed in one line; a mistake of ours keeps its traceback.

  Args:
    command: whose name an error shows.
    body: returns an exit code, None for 0.
  """
  try:
    return body() or 0
  except KeyboardInterrupt:
    print_error(command, 'interrupted')
    return 128 + signal.SIGINT
  except MemoryError:
    print_error(command, 'out of memory')
  except OSError as error:
    where = f'{error.filename}: ' if error.filename else ''
    print_error(command, f'{where}{error.strerror or error}')
  except ImportError as error:
    print_error(command, str(error))
  except UnicodeEncodeError as error:
    if 'surrogates' not in error.reason:
      raise
    print_error(command, f'{error.object[:200]}: a name that is no UTF-8')
  except ValueError as error:
    room = type(error).__module__.split('.')[0]
    if room not in ('launch', 'vae', 'analysis'):
      raise
    print_error(command, str(error))
  return 1


# -- Beginning and ending -----------------------------------------------------


def name() -> str:
  """Returns the command as an error names it: launch.train."""
  command = pathlib.Path(sys.argv[0])
  return f'{command.parent.name}.{command.stem}'


def guard_imports() -> None:
  """Makes memory that runs out while a command's modules load end in a line.

  For the packages of commands, which `python -m` imports first; what it starts
  has no other name then. Elsewhere, as in a notebook, nothing changes.
  """
  if sys.argv[:1] == ['-m']:
    sys.excepthook = _explain_import


def _explain_import(
  kind: type[BaseException],
  error: BaseException,
  traceback: types.TracebackType | None,
) -> None:
  cause: BaseException | None = error
  while cause is not None:
    if isinstance(cause, MemoryError) or re.search(
      'failed to map|[Cc]annot allocate memory', str(cause)
    ):
      print_error(name(), 'out of memory')
      return
    cause = cause.__cause__ or cause.__context__
  sys.__excepthook__(kind, error, traceback)


def import_tensorflow() -> None:
  """Imports TensorFlow as `vae` sets it up.

  Raises:
    ImportError: packages that do not fit together, in one line with the cure.
  """
  # A million objects that will all stay: looking for garbage among them, now
  # and at every later collection, costs about 0.7 s of a run.
  gc.disable()
  try:
    import vae  # isort: split
    import tensorflow_probability as tfp

    del vae, tfp
    gc.freeze()
  finally:
    gc.enable()


def flushed(code: int) -> int:
  """Writes what was printed; returns an exit code, of that where it fails."""
  try:
    sys.stdout.flush()
    sys.stderr.flush()
  except SystemExit as end:
    return int(end.code or 0)
  return code


def leave(code: int) -> typing.NoReturn:
  """Ends the process with what it has printed and its exit code.

  At once where TensorFlow is loaded: taking that apart object by object takes a
  second. All files are closed by now, and the system takes the memory back.
  """
  code = flushed(code)
  if 'tensorflow' in sys.modules:
    os._exit(code)
  sys.exit(code)
