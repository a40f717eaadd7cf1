"""What every command shares: parsing, help, and errors in one line."""

import pathlib
import sys
import textwrap
import typing
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from launch import process
from launch.settings import config

FLAGS = flags.FLAGS


# Flags that several commands take.
RUN_DIR = flags.DEFINE_string(
  'run_dir',
  None,
  'folder of the run. By default training makes a new one under runs/, and '
  'other commands take the newest there',
)
DATA_DIR = flags.DEFINE_string(
  'data_dir',
  process.default_data_dir(),
  "TFDS's data folder, where prepared data are kept",
)


def _print_help(summary: str) -> None:
  """Prints a command's own flags in groups, and where to find absl's."""
  print(f'{summary.strip()}\n')
  groups: dict[str, list[flags.Flag]] = {}
  by_name = {field.name: field for field in config.fields()}
  own = FLAGS.flags_by_module_dict()
  # absl files the flags of a module that runs as a program under its path.
  for module in ('launch.cli', sys.argv[0], 'launch.settings.config'):
    for flag in own.get(module, ()):
      field = by_name.get(flag.name)
      group = field.metadata['group'] if field else 'Command'
      groups.setdefault(group, []).append(flag)
  for group in ('Command', *config.GROUPS):
    if group not in groups:
      continue
    print(f'{group}:')
    for flag in groups[group]:
      field = by_name.get(flag.name)
      choices = field.metadata['choices'] if field else None
      value = flag.default_unparsed
      shown = '' if value in (None, '') else f' (default {value})'
      print(f'  --{flag.name}{shown}')
      print(
        textwrap.fill(
          flag.help, 78, initial_indent=' ' * 6, subsequent_indent=' ' * 6
        )
      )
      if choices:
        print(f'      One of: {", ".join(choices)}.')
    print()
  print('--helpfull lists the flags of the libraries too.')


def start(
  main: Callable[..., int | None], summary: str, arguments: Sequence[str] = ()
) -> typing.NoReturn:
  """Runs a command as this process's only purpose, as `run` does.

  Args:
    main: takes the arguments and returns an exit code.
    summary: what --help prints first.
    arguments: names of what the command takes beside flags.
  """
  try:
    run(main, summary, arguments)
  except SystemExit as end:
    if 'tensorflow' not in sys.modules or not isinstance(end.code, int | None):
      raise
    process.leave(end.code or 0)
  raise AssertionError


def run(
  main: Callable[..., int | None], summary: str, arguments: Sequence[str] = ()
) -> None:
  """Runs a command: parses flags, answers --help, turns errors into one line.

  Args:
    main: takes the arguments and returns an exit code.
    summary: what --help prints first.
    arguments: names of what the command takes beside flags.

  Raises:
    SystemExit: always, with the exit code.
  """
  command = pathlib.Path(sys.argv[0])
  name = f'{command.parent.name}.{command.stem}'

  def parse(argv: Sequence[str]) -> Sequence[str]:
    if {'--help', '-help', '-h', '-?'} & set(argv[1:]):
      _print_help(summary)
      sys.exit(0)
    if '--helpfull' in argv[1:]:
      print(FLAGS)
      sys.exit(0)
    try:
      rest = FLAGS(argv)
    except flags.Error as error:
      _fail(name, ' '.join(str(error).split()), 2)
    given = rest[1:]
    if len(given) > len(arguments):
      stray = given[len(arguments)]
      _fail(name, f'unexpected argument {stray!r}; settings are flags', 2)
    if len(given) < len(arguments):
      _fail(name, f'missing {arguments[len(given)]}; see --help', 2)
    if not FLAGS['verbosity'].present:
      logging.set_verbosity(logging.ERROR)  # TFDS logs much through absl.
    return rest

  def guarded(argv: Sequence[str]) -> int | None:
    try:
      return main(*argv[1:])
    except KeyboardInterrupt:
      _fail(name, 'interrupted', 130)
    except OSError as error:
      where = f'{error.filename}: ' if error.filename else ''
      _fail(name, f'{where}{error.strerror or error}', 1)
    except ImportError as error:
      _fail(name, str(error), 1)
    except ValueError as error:
      # The errors of users are subclasses of ValueError made for them; a bare
      # ValueError is a mistake of ours and keeps its traceback.
      if type(error) is ValueError or not _is_ours(error):
        raise
      _fail(name, str(error), 1)

  app.run(guarded, flags_parser=parse)


def _is_ours(error: Exception) -> bool:
  return type(error).__module__.split('.')[0] in ('launch', 'vae', 'analysis')


def _fail(name: str, message: str, code: int) -> typing.NoReturn:
  print(f'{name}: error: {process.printable(message)}', file=sys.stderr)
  sys.exit(code)
