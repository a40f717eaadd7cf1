"""The values of `--encoder`, `--objective` and the like: parts of `vae`.

A part is a public class or function of one module. To add one is to write it
there: flags, help and checks find it by reading the source, since importing it
would import TensorFlow.
"""

import ast
import functools
import inspect
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any


@functools.cache
def find(module: str, suffix: str = '') -> Mapping[str, str]:
  """The parts of a module of `vae`.

  Args:
    module: such as 'likelihoods'.
    suffix: of the parts that are meant, such as '_encoder', left out of their
      values.

  Returns:
    From a flag's value (snake_case) to the name of the class or function.
  """
  path = pathlib.Path(__file__).parents[2] / 'vae' / f'{module}.py'
  names = [
    node.name
    for node in ast.parse(path.read_text('utf-8')).body
    if isinstance(node, ast.ClassDef | ast.FunctionDef)
    and not node.name.startswith('_')
    and node.name.endswith(suffix)
  ]
  return {_snake_case(name).removesuffix(suffix): name for name in names}


def _snake_case(name: str) -> str:
  return re.sub('(?<=[a-z])(?=[A-Z])', '_', name).lower()


def wanted(part: Callable, available: Mapping[str, Any]) -> dict[str, Any]:
  """Those of the available arguments that a part's signature names."""
  # Of a class, Sonnet's metaclass hides the signature.
  function = part.__init__ if inspect.isclass(part) else part
  names = inspect.signature(function).parameters
  return {name: available[name] for name in names if name in available}
