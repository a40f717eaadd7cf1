"""The commands of figures: their arguments, runs, and errors in one line."""

import argparse
import importlib
import os
import pathlib
import pkgutil
import shlex
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import matplotlib as mpl
import pandas as pd
import plotnine as gg

import analysis
from analysis import animation, figures, frames
from launch import process, records

# What a flag of a type takes, in words.
_KINDS: Mapping[Any, str] = {int: 'a whole number', float: 'a number'}


class Figure(NamedTuple):
  """A figure and its command.

  Attributes:
    name: of the command and the files.
    summary: what --help prints.
    draw: makes the figure from runs and the command's arguments.
    alt: what the figure shows, for readers who cannot see it.
    joint: whether one figure shows all runs; else each run has its own.
    width: 'single' or 'double', the column that it is made for.
    add_options: adds the figure's own flags.
    variants: figures that are drawn in its place where the flag of that name is
      set.
    draw_animation: makes what --format=gif writes, as `draw` does; None for a
      figure that stands still.
  """

  name: str
  summary: str
  draw: Callable[[frames.Runs, argparse.Namespace], gg.ggplot]
  alt: str
  joint: bool = False
  width: str = 'double'
  add_options: Callable[['Parser'], None] = lambda parser: None
  variants: Mapping[str, 'Figure'] = types.MappingProxyType({})
  draw_animation: (
    Callable[[frames.Runs, argparse.Namespace], animation.Animation] | None
  ) = None

  def parser(self) -> 'Parser':
    """Returns the command's parser."""
    result = parser(
      self.name,
      self.summary,
      self.joint,
      f'file without suffix; default: figures/{self.name} in the run, or in '
      'the folder that holds all of them',
    )
    moving = [animation.FORMAT]
    add_format(result, moving if self.draw_animation else [], moving)
    add_style(result)
    result.add_argument(
      '--width',
      default=self.width,
      choices=figures.WIDTHS,
      help='column of a paper that the figure fits, or both; of a venue with '
      'one column half of it, or all',
    )
    result.add_argument(
      '--title', help='default: what the runs are; empty for none'
    )
    self.add_options(result)
    return result

  def chosen(self, arguments: argparse.Namespace) -> 'Figure':
    """Returns the figure, or the variant that the arguments ask for.

    Raises:
      FigureError: they ask for two.
    """
    flags = [flag for flag in self.variants if getattr(arguments, flag)]
    if len(flags) > 1:
      raise figures.FigureError(f'give one of --{" and --".join(flags)}')
    return self.variants[flags[0]] if flags else self

  def plot(self, *runs: Any, **flags: Any) -> gg.ggplot:
    """Returns the figure of some runs, which a notebook shows.

    Args:
      *runs: run directories, or what has one as its `path`, or lists of these;
        for a figure of several runs also a sweep's. The newest run without any.
      **flags: those of the command, such as `width='single'`, with switches
        true and lists as such.

    Raises:
      FigureError: no such flag, or a figure that cannot be drawn of the runs.
      RecordError: no such runs, or damaged ones.
    """
    figure, found, arguments = self._called(runs, flags, 'save')
    return figure.draw(found, arguments)

  def animate(self, *runs: Any, **flags: Any) -> animation.Animation:
    """Returns what --format=gif writes, which a notebook shows.

    Args:
      *runs: as of `plot`.
      **flags: likewise.

    Raises:
      FigureError: as of `plot`, or a figure that stands still.
      RecordError: no such runs, or damaged ones.
    """
    figure, found, arguments = self._called(runs, flags, 'gif')
    return figure.moving()(found, arguments)

  def moving(
    self,
  ) -> Callable[[frames.Runs, argparse.Namespace], animation.Animation]:
    """Returns what draws its animation.

    Raises:
      FigureError: it stands still.
    """
    if self.draw_animation is None:
      raise figures.FigureError(
        f'--format={animation.FORMAT}: {self.name} stands still; what moves: '
        f'{", ".join(_moving())}'
      )
    return self.draw_animation

  def _called(
    self, runs: Sequence[Any], flags: Mapping[str, Any], writes: str
  ) -> tuple['Figure', frames.Runs, argparse.Namespace]:
    """Returns figure, runs and arguments of a call.

    Args:
      runs: as of `plot`.
      flags: likewise.
      writes: the method of what is drawn that writes a file.
    """
    if written := {'output', 'format'} & flags.keys():
      raise figures.FigureError(
        f'{min(written)} is of the command; what this returns has a `{writes}`'
      )
    arguments = self.parser().parse_call(flags)
    figure, paths = self.chosen(arguments), [*_paths(runs)]
    if figure.joint and len(paths) == 1 and _is_sweep(paths[0]):
      arguments.sweep_dir, paths = paths[0], []
    arguments.run_dir = paths or arguments.run_dir
    found = find_runs(arguments)
    if len(found.runs) > 1 and not figure.joint:
      raise figures.FigureError(
        f'{figure.name} shows one run at a time; got {len(found.runs)}'
      )
    return figure, found, arguments


def _moving() -> list[str]:
  """Returns the names of all figures that have an animation."""
  modules = [
    importlib.import_module(f'{analysis.__name__}.{module.name}')
    for module in pkgutil.iter_modules(analysis.__path__)
  ]
  figure_modules = [m for m in modules if hasattr(m, 'FIGURE')]
  return [m.FIGURE.name for m in figure_modules if m.FIGURE.draw_animation]


def _is_sweep(path: str) -> bool:
  return (process.user_path(path) / records.SWEEP).exists()


def _paths(runs: Iterable[Any]) -> Iterator[str]:
  """Yields the folders of runs, as `Figure.plot` takes them."""
  for run in runs:
    run = getattr(run, 'path', run)
    if isinstance(run, str | os.PathLike):
      yield os.fspath(run)
    elif isinstance(run, Iterable):
      yield from _paths(run)
    else:
      raise figures.FigureError(
        f'{run!r:.60} is no run: give its folder, or what runs.load returns'
      )


class Parser(argparse.ArgumentParser):
  """Parses a command's flags by the manners of `launch`'s commands."""

  def __init__(self, name: str, summary: str | None):
    super().__init__(f'analysis.{name}', allow_abbrev=False)
    self._summary = (summary or '').strip()
    self._is_called = False

  def parse_call(self, flags: Mapping[str, Any]) -> argparse.Namespace:
    """Parses flags that are given by keyword, in Python.

    Raises:
      FigureError: no such flags, or values.
    """
    self._is_called = True
    words = []
    for name, value in flags.items():
      if isinstance(value, bool):
        words.append(f'--{name}' if value else f'--no{name}')
      elif isinstance(value, list | tuple):
        words.append(f'--{name}={",".join(map(str, value))}')
      elif value is not None:
        words.append(f'--{name}={value}')
    return self.parse_args(words)

  def parse_args(self, args=None, namespace=None):
    if args is None:
      process.protect_output(self.prog)
    parsed = super().parse_args(args, namespace)
    for action in self._actions:
      value = getattr(parsed, action.dest, None)
      is_empty = '' in value if isinstance(value, list) else value == ''
      if is_empty and action.dest != 'title':
        self.error(f'--{action.dest}=: give a value')
    output = getattr(parsed, 'output', None)
    if output and os.path.isdir(os.path.expanduser(output)):
      self.error(
        f'--output={output}: is a folder; give the name of a file in it, '
        'without its ending'
      )
    return parsed

  def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
    if options.keys() & {'type', 'choices'}:
      kind, choices = options.get('type', str), options.get('choices', ())
      options['type'] = _reader(kind, choices)
    return super().add_argument(*names, **options)

  def add_list(
    self,
    name: str,
    text: str,
    kind: Callable[[str], Any] = str,
    choices: Sequence[str] = (),
  ) -> None:
    """Adds a flag of values between commas, which may also be given again."""
    read = _reader(kind, choices)
    values = lambda given: [read(value) for value in given.split(',')]
    self.add_argument(name, action='extend', type=values, help=text)

  def add_switch(self, name: str, text: str) -> None:
    """Adds a flag that is on where it is given, and off after `--no`."""
    self.add_argument(name, action='store_true', help=text)
    self.add_argument(
      name.replace('--', '--no'),
      dest=name.removeprefix('--'),
      action='store_false',
      help=argparse.SUPPRESS,
    )

  def format_help(self) -> str:
    flags = [
      process.flag_help(
        action.dest,
        None if action.default is False else action.default,
        action.help or '',
        list(action.choices or ()),
      )
      for action in self._actions
      if action.dest != 'help' and action.help != argparse.SUPPRESS
    ]
    usage = f'Usage: python -m {self.prog}'
    if not flags:
      return f'{self._summary}\n{usage}\n'
    usage += ' [any flag below]'
    return '\n'.join([self._summary, usage, '', 'Command:', *flags, ''])

  def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
    sys.exit(process.flushed(status))

  def error(self, message: str) -> NoReturn:
    if self._is_called:
      raise figures.FigureError(message)
    process.print_error(self.prog, message)
    sys.exit(2)


def _reader(
  kind: Callable[[str], Any], choices: Sequence[str]
) -> Callable[[str], Any]:
  """Returns what reads a value, and says in words where it is none."""

  def read(given: str) -> Any:
    try:
      value = kind(given)
    except ValueError:
      expected = _KINDS[kind]
    else:
      if not choices or value in choices:
        return value
      expected = f'one of {", ".join(choices)}'
    raise argparse.ArgumentTypeError(f'{given!r}: must be {expected}')

  return read


def parser(name: str, summary: str, joint: bool, output: str | None) -> Parser:
  """Returns a parser with the flags that say which runs, and where to write.

  Args:
    name: of the command.
    summary: what --help prints.
    joint: whether it takes a sweep.
    output: the help of --output; None for a command without it.
  """
  result = Parser(name, summary)
  result.add_argument(
    '--run_dir',
    action='append',
    help='folder of a run, or a glob of folders; may be given again; default: '
    'the newest under runs/',
  )
  if joint:
    result.add_argument(
      '--sweep_dir', help='folder of a sweep, instead of --run_dir'
    )
  if output:
    result.add_argument('--output', help=output)
  return result


def add_format(
  result: Parser, more: Sequence[str] = (), refused: Sequence[str] = ()
) -> None:
  """Adds the flag that says which files a figure is written to.

  Args:
    result: the parser.
    more: formats besides `figures.FORMATS`.
    refused: those that other figures have, which are refused in their words.
  """
  words = f'{" or ".join(figures.FORMATS)}, by default both'
  result.add_list(
    '--format',
    ', or '.join([words, *more]),
    choices=[*dict.fromkeys([*figures.FORMATS, *more, *refused])],
  )


def add_show(result: Parser) -> None:
  """Adds the flag that says what of the decoder's distribution is shown."""
  result.add_argument(
    '--show',
    default=records.SHOWN[0],
    choices=records.SHOWN,
    help="of the decoder's distribution over pixels",
  )


def add_style(result: Parser) -> None:
  """Adds the flag that says where a figure will be shown."""
  result.add_argument(
    '--style',
    default=next(iter(figures.STYLES)),
    choices=tuple(figures.STYLES),
    help='where it will be shown: widths, size and kind of letters',
  )


def page(arguments: argparse.Namespace) -> figures.Page:
  """Returns what the figure is drawn for."""
  return figures.STYLES[arguments.style][arguments.width]


def title(arguments: argparse.Namespace, runs: frames.Runs) -> str:
  """Returns the figure's title."""
  return runs.describe() if arguments.title is None else arguments.title


def of_one_run(
  load: Callable[..., pd.DataFrame],
  plot: Callable[..., gg.ggplot],
) -> Callable[[frames.Runs, argparse.Namespace], gg.ggplot]:
  """Returns what draws a figure of one run.

  Args:
    load: makes the run's frame, from --show besides where the command has it.
    plot: makes the figure from the frame, a title and a page.
  """

  def draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
    show = [arguments.show] if 'show' in arguments else []
    frame = load(runs.runs[0], *show)
    return plot(frame, title(arguments, runs), page(arguments))

  return draw


def find_runs(arguments: argparse.Namespace) -> frames.Runs:
  """Returns the runs that the arguments name; else the newest, which is said.

  Raises:
    RecordError: no such runs, or damaged ones.
  """
  if getattr(arguments, 'sweep_dir', None):
    if arguments.run_dir:
      raise records.RecordError('give one of --run_dir and --sweep_dir')
    return frames.read_sweep(arguments.sweep_dir)
  if arguments.run_dir:
    return frames.read_runs(arguments.run_dir)
  newest = records.newest_run()
  print(f'the newest run is {newest}', file=sys.stderr)
  return frames.read_runs([str(newest)])


def origin(runs: frames.Runs) -> str:
  """Returns run ids, commits and the command, for a file's metadata."""
  commits = {records.commits(run.manifest) for run in runs.runs}
  names, sources = ', '.join(runs.table['run']), ', '.join(sorted(commits))
  return drawn_by(f'run {names}; commit {sources}')


def drawn_by(what: str) -> str:
  """Returns what was drawn, and this command, in words."""
  name = pathlib.Path(sys.argv[0]).stem
  arguments = shlex.join([name, *sys.argv[1:]])
  return process.printable(f'{what}; {records.DRAWN_BY}{arguments}')


def run(figure: Figure) -> None:
  """Runs a figure's command."""
  arguments = figure.parser().parse_args()
  main(figure.name, lambda: _draw_all(figure.chosen(arguments), arguments))


def main(name: str, body: Callable[[], Iterator[object] | None]) -> None:
  """Runs a command's body; prints what it yields, and errors in one line.

  An error that the body yields is printed, and the rest goes on.

  Args:
    name: of the command.
    body: the command.
  """
  mpl.use('agg')  # No figure opens a window.
  warnings.filterwarnings('ignore', message=figures.NO_LETTER)
  command = f'analysis.{name}'

  def carry_out() -> int:
    code = 0
    for line in body() or ():
      if isinstance(line, Exception):
        code = 1
        process.print_error(command, str(line))
      else:
        print(line, flush=True)
    return code

  if code := process.flushed(process.carry_out(command, carry_out)):
    sys.exit(code)


def each(runs: frames.Runs) -> Sequence[frames.Runs]:
  """Returns every run on its own."""
  return [frames.read_runs([str(run.path)]) for run in runs.runs]


def _draw_all(
  figure: Figure, arguments: argparse.Namespace
) -> Iterator[pathlib.Path | Exception]:
  formats = arguments.format or figures.FORMATS
  still = [name for name in formats if name != animation.FORMAT]
  moving = figure.moving() if animation.FORMAT in formats else None
  runs = find_runs(arguments)
  groups = [runs] if figure.joint else each(runs)
  if arguments.output and len(groups) > 1:
    raise figures.FigureError(
      f'--output={arguments.output}: {len(groups)} runs have a figure each; '
      'leave it out, and each is written into its run'
    )
  for group in groups:
    try:
      name = arguments.output or group.folder / records.FIGURES / figure.name
      stem = process.user_path(str(name))
      if still:
        plot = figure.draw(group, arguments)
        resolution = page(arguments).pixels
        yield from figures.save(plot, stem, still, origin(group), resolution)
      if moving:
        path = pathlib.Path(f'{stem}.{animation.FORMAT}')
        content = moving(group, arguments).gif(origin(group))
        records.write_figure(path, content)
        yield path
    except (records.RecordError, figures.FigureError) as error:
      if len(groups) == 1:
        raise
      yield error
