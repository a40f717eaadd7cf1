"""The command line of every command: parsing, help, errors in one line."""

import re
import sys
import typing
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from launch import process
from launch.settings import config
from launch.settings import flags as setting_flags

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


def data_dir() -> str:
  """Returns the folder of --data_dir.

  Raises:
    OSError: a home folder that is not known.
  """
  return str(process.user_path(DATA_DIR.value))


def _print_help(summary: str) -> None:
  """Prints a command's own flags in groups, and where to find absl's."""
  print(f'{summary.strip()}\n')
  groups: dict[str, list[flags.Flag]] = {
    group: [] for group in ('Command', *config.GROUPS)
  }
  by_name = {field.name: field for field in config.fields()}
  own = FLAGS.flags_by_module_dict()
  # absl files the flags of a module that runs as a program under its path.
  for module in ('launch.cli', sys.argv[0], setting_flags.__name__):
    for flag in own.get(module, ()):
      field = by_name.get(flag.name)
      groups[field.metadata['group'] if field else 'Command'].append(flag)
  for group, members in groups.items():
    if not members:
      continue
    print(f'{group}:')
    for flag in members:
      field = by_name.get(flag.name)
      choices = field.metadata['choices'] if field else None
      print(
        process.flag_help(
          flag.name, flag.default_unparsed, flag.help, choices or ()
        )
      )
    print()
  print('--helpfull lists the flags of the libraries too.')


def start(
  main: Callable[..., int | None],
  summary: str,
  arguments: Sequence[str] = (),
  without: Sequence[str] = (),
) -> typing.NoReturn:
  """Runs a command as this process's only purpose, as `run` does.

  Args:
    main: takes the arguments and returns an exit code.
    summary: what --help prints first.
    arguments: names of what the command takes beside flags.
    without: flags of this module that the command does not take.
  """
  for name in without:
    delattr(FLAGS, name)
  try:
    run(main, summary, arguments)
  except SystemExit as end:
    if isinstance(end.code, int | None):
      process.leave(end.code or 0)
    raise
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
  name = process.name()
  process.protect_output(name)

  def parse(argv: Sequence[str]) -> Sequence[str]:
    if {'--help', '-help', '-h', '-?'} & set(argv[1:]):
      _print_help(summary)
      sys.exit(0)
    if '--helpfull' in argv[1:]:
      print(FLAGS)
      sys.exit(0)
    try:
      rest = FLAGS(argv)
    # A flag of absl's own, as --stderrthreshold, raises a bare ValueError.
    except (flags.Error, ValueError) as error:
      _refuse(name, _explain(error))
    for flag in FLAGS:
      # As of a shell variable that is not set: to take it for no flag would be
      # to work on another folder.
      if FLAGS[flag].present and FLAGS[flag].value == '':
        _refuse(name, f'--{flag}=: give a value')
    given = rest[1:]
    if len(given) > len(arguments):
      stray = given[len(arguments)]
      _refuse(name, f'unexpected argument {stray!r}; settings are flags')
    if len(given) < len(arguments):
      _refuse(name, f'missing {arguments[len(given)]}; see --help')
    if not FLAGS['verbosity'].present:
      logging.set_verbosity(logging.ERROR)  # TFDS logs much through absl.
    return rest

  def carry_out(argv: Sequence[str]) -> int:
    return process.carry_out(name, lambda: main(*argv[1:]))

  app.run(carry_out, flags_parser=parse)


# The kinds of values of absl's parsers, which give an error of Python's.
_KINDS = {
  'int': 'a whole number',
  'float': 'a number',
  'bool': 'true or false',
  'logger_levels': 'names and levels, as absl:info,tensorflow:error',
}


def _explain(error: Exception) -> str:
  """Says in words what is wrong with a flag."""
  text = ' '.join(str(error).split())
  if 'Unknown level' in text:
    flag, kind = '--logger_levels', 'logger_levels'
  elif found := re.match(r'flag (--(\w+)=.*?): (?!value should)', text):
    flag, kind = found[1], found[2]
    if kind in FLAGS and kind not in _KINDS:
      kind = FLAGS[kind].parser.flag_type()
  else:
    return text
  return f'{flag}: must be {_KINDS[kind]}' if kind in _KINDS else text


def _refuse(name: str, message: str) -> typing.NoReturn:
  process.print_error(name, message)
  sys.exit(2)
