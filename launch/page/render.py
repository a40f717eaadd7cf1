"""Puts a page together, which asks nobody for anything."""

import base64
import hashlib
import html
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from launch import records

_FOLDER = pathlib.Path(__file__).parent


def _policy(name: str, *contents: str) -> str:
  """Allows a page these contents alone, by their digests."""
  digests = (hashlib.sha256(content.encode()).digest() for content in contents)
  allowed = (f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)
  return f'{name} {" ".join(allowed)}'


def page(content: Mapping[str, Any], library: str, origin: str) -> bytes:
  """Returns the page.

  Args:
    content: from `content.read`, with the decoder as `model`.
    library: the source of TensorFlow.js.
    origin: what wrote it.

  Raises:
    RecordError: the run holds a number that is not finite, which JSON has none.
  """
  try:
    # No text of a run can end the element.
    shown = json.dumps(content, allow_nan=False).replace('<', '\\u003c')
  except ValueError as error:
    raise records.RecordError(
      f'{content["name"]} holds numbers that are not finite'
    ) from error
  # Browsers would ask for the map that its last line names.
  library = library.partition('//# sourceMappingURL')[0]
  style, script = (
    (_FOLDER / f'page.{suffix}').read_text() for suffix in ('css', 'js')
  )
  parts = {
    'policy': '; '.join(
      [
        "default-src 'none'",
        'img-src data:',
        _policy('style-src', style),
        _policy('script-src', library, script),
      ]
    ),
    'origin': html.escape(origin),
    'title': html.escape(content['name']),
    'style': style,
    'library': library,
    'script': script,
    'content': shown,
  }
  template = (_FOLDER / 'page.html').read_text()
  return re.sub(r'%(\w+)%', lambda found: parts[found[1]], template).encode(
    errors='backslashreplace'
  )
