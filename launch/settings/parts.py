"""The values of `--encoder`, `--objective` and the like: parts of `vae`.

A part is a public class or function of one module. To add one is to write it
there: flags, help and checks find it by reading the source, since importing it
would import TensorFlow. Its parameters are settings, by their names, or what
the builder provides for its kind.
"""

import ast
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
  """A kind of part.

  Attributes:
    module: of `vae`, where the parts are.
    suffix: of their names there, which their values lack.
    provided: the parameters that are no settings.
  """

  module: str
  suffix: str = ''
  provided: frozenset[str] = frozenset()


_NETWORK = frozenset({'data_shape', 'output_shape', 'w_init'})

# By the setting whose values they are.
KINDS: Mapping[str, Kind] = {
  'encoder': Kind('architectures', '_encoder', _NETWORK),
  'decoder': Kind('architectures', '_decoder', _NETWORK),
  'posterior': Kind('posteriors'),
  'likelihood': Kind('likelihoods', provided=frozenset({'data_shape'})),
  'prior': Kind('priors', provided=frozenset({'key'})),
  'objective': Kind(
    'objectives', provided=frozenset({'model', 'batch', 'w_init'})
  ),
  'optimizer': Kind('optimizers'),
  'learning_rate_schedule': Kind(
    'learning_rates', provided=frozenset({'steps', 'epochs', 'warmup', 'last'})
  ),
}

# What stands for a setting under another name.
_MADE_OF = {'w_init': 'init'}


@functools.cache
def _definitions(module: str) -> Mapping[str, ast.ClassDef | ast.FunctionDef]:
  """The public classes and functions that a module of `vae` defines."""
  path = pathlib.Path(__file__).parents[2] / 'vae' / f'{module}.py'
  return {
    node.name: node
    for node in ast.parse(path.read_text('utf-8')).body
    if isinstance(node, ast.ClassDef | ast.FunctionDef)
    and not node.name.startswith('_')
  }


def find(kind: str) -> Mapping[str, str]:
  """Returns the parts of a kind.

  Args:
    kind: one of `KINDS`.

  Returns:
    From a flag's value (snake_case) to the name of the class or function.
  """
  module, suffix, _ = KINDS[kind]
  return {
    _snake_case(name).removesuffix(suffix): name
    for name in _definitions(module)
    if name.endswith(suffix)
  }


def _snake_case(name: str) -> str:
  return re.sub('(?<=[a-z])(?=[A-Z])', '_', name).lower()


def _parameters(function: ast.FunctionDef) -> set[str]:
  arguments = (*function.args.args, *function.args.kwonlyargs)
  # Sonnet's modules may have a name.
  return {argument.arg for argument in arguments} - {'self', 'name'}


def _lineage(kind: str, value: str) -> Iterator[ast.ClassDef | ast.FunctionDef]:
  """A part's definition, and those of its bases in turn."""
  definitions = _definitions(KINDS[kind].module)
  node = definitions.get(find(kind).get(value, ''))
  while node is not None:
    yield node
    bases = [
      b.id for b in getattr(node, 'bases', ()) if isinstance(b, ast.Name)
    ]
    node = next((definitions[b] for b in bases if b in definitions), None)


def _method(kind: str, value: str, name: str) -> ast.FunctionDef | None:
  """A part itself where it is a function, else a method, also of a base."""
  for node in _lineage(kind, value):
    if isinstance(node, ast.FunctionDef):
      return node
    for method in node.body:
      if isinstance(method, ast.FunctionDef) and method.name == name:
        return method
  return None


def trait(kind: str, value: str, name: str) -> Any:
  """Returns a constant that the class of a part declares of it.

  Args:
    kind: one of `KINDS`.
    value: of the setting of that name.
    name: of the attribute.

  Returns:
    The constant; None where nothing is said, or the part is not known here.
  """
  for node in _lineage(kind, value):
    for line in node.body:
      if isinstance(line, ast.Assign):
        target = line.targets[0]
      elif isinstance(line, ast.AnnAssign):
        target = line.target
      else:
        continue
      if line.value and ast.unparse(target) == name:
        return ast.literal_eval(line.value)
  return None


def parameters(kind: str, value: str) -> set[str]:
  """Returns the names of what a part is made with.

  Args:
    kind: one of `KINDS`.
    value: of the setting of that name.
  """
  function = _method(kind, value, '__init__')
  return _parameters(function) if function else set()


def weights(objective: str) -> tuple[str, ...]:
  """Returns what an objective is called with at every step, such as beta.

  Those are its parameters beside the model and the batch that may be given by
  place; what may be given by keyword alone stays the same.

  Args:
    objective: value of `--objective`.
  """
  function = _method('objective', objective, '__call__')
  names = [argument.arg for argument in function.args.args] if function else []
  return tuple(n for n in names if n not in ('self', 'model', 'batch'))


def settings(kind: str, value: str) -> set[str]:
  """Returns the names of the settings that a part takes.

  Args:
    kind: one of `KINDS`.
    value: of the setting of that name.
  """
  names = {_MADE_OF.get(name, name) for name in parameters(kind, value)}
  if kind == 'objective':
    names |= set(weights(value))
  return names - KINDS[kind].provided


def find_schedules() -> tuple[str, ...]:
  """Returns the names of the schedules that a weight may have."""
  return tuple(_definitions('schedules'))


@functools.cache
def takers(setting: str) -> tuple[str, ...]:
  """Returns the parts that take a setting, as flags that choose them.

  Args:
    setting: name of a setting.
  """
  taking = {
    kind: [v for v in find(kind) if setting in settings(kind, v)]
    for kind in KINDS
  }
  pairs = find('encoder').keys() & find('decoder').keys()
  chosen = []
  for kind, values in taking.items():
    other = {'encoder': 'decoder', 'decoder': 'encoder'}.get(kind)
    for value in values:
      if other and value in pairs:  # One flag chooses both sides,
        chosen.append(f'--network={value}')
        if value in taking[other]:
          continue  # each of which takes the setting.
      chosen.append(f'--{kind}={value}')
  return tuple(dict.fromkeys(chosen))
