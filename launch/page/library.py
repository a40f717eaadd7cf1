"""TensorFlow.js, which runs the decoder in the page: one file of its package.

The build for browsers that know ES2017: a quarter smaller than the other one,
and without the call of `Function` that a page's policy would have to allow.
"""

import hashlib
import pathlib

from launch import files
from vae.data import npm, sources

PACKAGE = '@tensorflow/tfjs@4.22.0'
FILE = 'tf.es2017.min.js'
SHA256 = 'a1f9e32fd9b373cf394905050cf0c8c66238b34925846c065db00d2a34d1c040'


class LibraryError(ValueError):
  """The library cannot be had; one line that says what to do."""


def _read(path: pathlib.Path) -> str:
  content = files.read_bytes(path)
  if hashlib.sha256(content).hexdigest() != SHA256:
    raise LibraryError(
      f'{path} is not {FILE} of {PACKAGE}: its SHA-256 differs'
    )
  return content.decode()


def read(
  path: pathlib.Path | None, data_dir: pathlib.Path, report: sources.Report
) -> str:
  """Returns the library, fetched once by npm where no file of it is given.

  Args:
    path: of the file; None for the one that is kept in `data_dir`.
    data_dir: TFDS's data folder.
    report: is told that it is fetched.

  Raises:
    LibraryError: it cannot be had, or has other bytes.
    OSError: a file that cannot be read.
  """
  if path is not None:
    return _read(path)
  kept = data_dir / 'downloads' / PACKAGE
  try:
    if not kept.is_dir():
      npm.unpack(
        PACKAGE, kept, [FILE], lambda partial: _check(partial / FILE), report
      )
    return _read(kept / FILE)
  except sources.SourceError as error:
    raise LibraryError(
      f'{FILE} of the npm package {PACKAGE} cannot be had: {error}; copy it '
      'here from its folder dist, and give its path by --library'
    ) from error


def _check(path: pathlib.Path) -> None:
  if not path.exists():
    raise sources.SourceError(f'the package lacks {FILE}')
  _read(path)
