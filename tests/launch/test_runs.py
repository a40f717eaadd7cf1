"""Runs in Python: the same as those of commands."""

import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import tensorflow as tf

from launch import files, records, runs
from launch.experiment import loop, programs
from launch.rundir import checkpoints, opening, provenance
from launch.settings import asked, config
from tests.launch import conftest, faults
from vae import distributions, randomness, training
from vae.data import chain, sources
from vae.data import images as image_data

SMALL = {
  'dataset': 'mnist_5k',
  'hidden_sizes': [8],
  'latent_size': 3,
  'training_steps': 20,
  'jit': False,
  'verbose': 0,
}


@pytest.fixture
def train(data_dir):
  """Trains a small run, with other settings where these are given."""
  return lambda **given: runs.train(**{'data_dir': data_dir, **SMALL, **given})


def test_a_run_in_python_is_the_run_of_the_command(
  train, launch_train, tmp_path, capfd
):
  settings = {'beta': 4, 'reduction': 'sum', 'eval_every': 8}
  rows = []
  run = train(run_dir=tmp_path / 'ours', callback=rows.append, **settings)
  printed = capfd.readouterr()
  assert (printed.out, printed.err) == ('', '')
  result = launch_train(run_dir=tmp_path / 'theirs', **settings)
  assert result.code == 0, result.stderr
  faults.assert_same_run(tmp_path / 'theirs', tmp_path / 'ours')
  # The callback saw what the table says.
  assert [row['step'] for row in rows] == [1, 2, 4, 8, 16, 20]
  for row, expected in zip(rows, run.train.to_dict('records'), strict=True):
    assert row == pytest.approx(expected)
  assert run.step == 20
  assert run.manifest['status'] == 'finished'
  assert run.manifest['command'].startswith("runs.train(dataset='mnist_5k', ")
  assert 'beta=4.0' in run.manifest['command']
  assert repr(run).endswith(
    "ours': mnist_5k, 3 latents, beta 4; finished, weights after step 20>"
  )
  # A finished one is returned as it is, and goes on where it grows.
  assert train(run_dir=run.path, **settings, callback=pytest.fail).step == 20
  assert train(run_dir=run.path, training_steps=30, **settings).step == 30
  launch_train(run_dir=tmp_path / 'theirs', training_steps=30)
  faults.assert_same_run(tmp_path / 'theirs', tmp_path / 'ours')


def test_all_is_printed_where_it_is_asked_for(train, tmp_path, capsys):
  train(run_dir=tmp_path / 'run', verbose=2)
  assert "{'step': 16, 'total':" in capsys.readouterr().out
  train(run_dir=tmp_path / 'run', verbose=2)
  assert 'is finished (20 steps)' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('given', 'kind', 'words'),
  [
    ({'betta': 4}, 'ConfigError', 'betta is no setting; did you mean beta?'),
    ({'rundir': 'x'}, 'ConfigError', 'did you mean run_dir?'),
    ({'beta': 'x'}, 'ConfigError', '--beta=x: must be of type float'),
    ({'beta': True}, 'ConfigError', '--beta=True: must be of type float'),
    ({'seed': 0.5}, 'ConfigError', '--seed=0.5: must be of type int'),
    ({'hidden_sizes': [8, 0.5]}, 'ConfigError', 'must be of type int'),
    ({'hidden_sizes': 'a'}, 'ConfigError', 'a comma-separated list of int'),
    ({'kl_samples': 3}, 'ConfigError', 'does nothing in this run; it goes'),
    ({'preset': 'none'}, 'ConfigError', '--preset=none: must be'),
    ({'num_epochs': 1}, 'ConfigError', 'give one of --training_steps and'),
    ({'batch_size': 5000}, 'ConfigError', 'at most the 4,000 training images'),
    ({'dataset': 'mnits'}, 'DatasetError', "no dataset named 'mnits'"),
    ({'dataset': '/nowhere'}, 'DatasetError', '--dataset=/nowhere: no such'),
    ({'learning_rate': 1e12}, 'RunError', 'the run is marked failed'),
  ],
  ids=str,
)
def test_mistakes_are_exceptions_with_the_words_of_commands(
  train, tmp_path, given, kind, words
):
  with pytest.raises(getattr(runs, kind)) as error:
    train(run_dir=tmp_path / 'run', **given)
  assert words in str(error.value)
  assert (tmp_path / 'run').exists() == (kind == 'RunError')


def test_memory_that_runs_out_is_an_exception(train, tmp_path, monkeypatch):
  def fail(*arguments):
    raise MemoryError

  with monkeypatch.context() as patch:
    patch.setattr(training.Engine, 'run', fail)
    with pytest.raises(runs.RunError, match=r'out of memory .*--batch_size'):
      train(run_dir=tmp_path / 'run')
  assert records.read_manifest(tmp_path / 'run')['status'] == 'failed'
  assert train(run_dir=tmp_path / 'run').step == 20


def test_another_run_or_writer_of_the_folder_is_refused(train, tmp_path):
  run = train(run_dir=tmp_path / 'run')
  with pytest.raises(runs.RunError, match=r'beta: 0\.01 -> 4.*--overwrite'):
    train(run_dir=run.path, beta=4)
  with (
    files.locked(run.path / '.lock'),
    pytest.raises(files.LockedError, match='being written by another'),
  ):
    train(run_dir=run.path)
  assert train(run_dir=run.path, beta=4, overwrite=True).config.beta == 4.0


def test_values_are_those_that_flags_give():
  given = asked.from_python(
    {
      'beta': np.float32(4),
      'gamma': 2,
      'latent_size': np.int64(3),
      'training_steps': 1e3,
      'hidden_sizes': np.array([8, 4]),
      'channels': 16,
      'eval_scores': 'mig,sap',
      'jit': np.True_,
      'checkpoint_every': 500,
      'likelihood_scale': 0.5,
      'image_size': None,
    }
  )
  expected = {
    'beta': 4.0,
    'gamma': 2.0,
    'latent_size': 3,
    'training_steps': 1000,
    'hidden_sizes': (8, 4),
    'channels': (16,),
    'eval_scores': ('mig', 'sap'),
    'jit': 'on',
    'checkpoint_every': '500',
    'likelihood_scale': '0.5',
  }
  assert given == expected
  types = {name: type(value) for name, value in given.items()}
  assert types == {name: type(value) for name, value in expected.items()}
  # Objectives in nats imply their reduction, as on the command line.
  made = asked.make({'objective': 'factor', 'gamma': 3.0})
  assert (made.reduction, made.beta) == ('sum', 1.0)


def test_a_loop_compiles_once_where_a_sweep_would_and_warns_of_nothing(
  train, tmp_path, monkeypatch, caplog
):
  engines = []
  make = training.Engine.__init__

  def counted(self, *arguments, **options):
    engines.append(self)
    make(self, *arguments, **options)

  monkeypatch.setattr(training.Engine, '__init__', counted)
  own = {'batch_size': 9, 'training_steps': 4}  # As no run before.
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    for beta, seed in ((1.0, 0), (2.0, 0), (2.0, 1)):
      name = f'{beta}-{seed}'
      train(run_dir=tmp_path / name, beta=beta, seed=seed, **own)
    for size in range(4, 9):
      train(run_dir=tmp_path / f'{size}', latent_size=size, **own)
  assert len(engines) == 1 + 5
  assert engines[0]._block.experimental_get_tracing_count() == 1
  assert not [r for r in caplog.records if 'retracing' in r.getMessage()]
  assert config.load(tmp_path / '2.0-1' / records.CONFIG).seed == 1


def test_runs_that_train_at_once_share_no_program(train, tmp_path):
  alone = train(run_dir=tmp_path / 'alone', seed=1)

  def nested(row):
    if row['step'] == 8:
      train(run_dir=tmp_path / 'inner', seed=1)

  thread = threading.Thread(
    target=lambda: train(run_dir=tmp_path / 'thread', seed=1)
  )
  thread.start()
  train(run_dir=tmp_path / 'outer', seed=2, callback=nested)
  thread.join()
  for name in ('inner', 'thread'):
    faults.assert_same_run(alone.path, tmp_path / name)
  other = train(run_dir=tmp_path / 'other', seed=2)
  faults.assert_same_run(other.path, tmp_path / 'outer')


def test_what_is_damaged_is_a_warning_of_python(train, tmp_path):
  run = train(run_dir=tmp_path / 'run', checkpoint_every=10)
  checkpoints.paths(run.path)[0].write_bytes(b'')
  with pytest.warns(UserWarning, match='is damaged'):
    train(run_dir=run.path, training_steps=30)


def test_other_data_than_those_asked_for_are_a_warning(
  train, tmp_path, data_dir, monkeypatch
):
  def none(*_):
    raise sources.SourceError('no network')

  monkeypatch.setattr(chain, '_tfds_name', none)
  (tmp_path / 'prepared').symlink_to(data_dir / 'prepared')
  with pytest.warns(UserWarning) as warned:
    run = train(dataset=None, data_dir=tmp_path, run_dir=tmp_path / 'run')
  first, last = (str(warning.message) for warning in warned)
  assert first.startswith('no network Going on with mnist_5k')
  assert last.startswith('these are 5,000 images of MNIST')
  assert run.config.dataset == 'mnist_5k'


def test_what_a_command_warns_of_is_a_warning_of_python(train, tmp_path):
  images, labels = np.eye(16).reshape(-1, 4, 4), np.arange(16) // 8
  data = {'train': (images, labels), 'test': (images[:4], labels[:4])}
  with pytest.warns(UserWarning) as warned:
    train(
      dataset=data,
      batch_size=8,
      likelihood='continuous_bernoulli',
      data_dir=tmp_path / 'data',
      run_dir=tmp_path / 'run',
    )
  first, last = (str(warning.message) for warning in warned)
  assert first.startswith('its test split lacks 1 of 2 classes')
  assert 'no upper bound' in last


def test_a_gpu_that_is_not_found_is_said_with_the_cure(
  train, tmp_path, monkeypatch
):
  monkeypatch.setattr(provenance, 'has_idle_gpu', lambda: True)
  with pytest.warns(UserWarning, match=r'does not find.*\.\[cuda\]'):
    train(run_dir=tmp_path / 'run', training_steps=2)


_STOPPED = """
import signal, sys
from launch import runs
def stop(row):
  if row['step'] == 8:
    signal.raise_signal(signal.SIGINT)
settings = dict(dataset='mnist_5k', hidden_sizes=[8], latent_size=3, jit=False)
settings |= dict(training_steps=400, run_dir=sys.argv[1], verbose=0)
before = signal.getsignal(signal.SIGINT)  # Ignored, where a shell says so.
try:
  runs.train(**settings, callback=stop)
except KeyboardInterrupt as error:
  print(error)
print(signal.getsignal(signal.SIGINT) == before)
print(runs.load(sys.argv[1]).step < 400, runs.train(**settings).step)
"""


def test_ctrl_c_saves_and_the_same_call_resumes(train, tmp_path, data_dir):
  run = tmp_path / 'run'
  result = subprocess.run(
    [sys.executable, '-c', _STOPPED, str(run)],
    cwd=conftest.ROOT,
    env=os.environ | {'TFDS_DATA_DIR': str(data_dir)},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  said, *rest = result.stdout.splitlines()
  assert said == f"{run} is saved; runs.train(run_dir='{run}') goes on with it"
  assert rest == ['True', 'True 400']
  assert result.stderr == 'SIGINT: saving; once more ends at once\n'
  whole = train(run_dir=tmp_path / 'whole', training_steps=400)
  faults.assert_same_run(whole.path, run)


def test_a_signal_in_a_loop_ends_it_also_once_a_run_is_finished(
  train, tmp_path, monkeypatch
):
  end = loop.End(is_finished=True, stopped_by=signal.SIGINT)
  real = loop.run

  def finished(*arguments, **options):
    real(*arguments, **options)
    return end

  monkeypatch.setattr(loop, 'run', finished)
  with pytest.raises(KeyboardInterrupt):
    train(run_dir=tmp_path / 'run')


def test_draws_of_ones_own_need_no_seed_after_training(train, tmp_path):
  run = train(run_dir=tmp_path / 'run')
  draws = run.model.encode(np.zeros([2, 28, 28, 1], np.float32)).sample()
  assert draws.shape == (2, 3)


def test_threads_are_those_that_tensorflow_computes_with(monkeypatch):
  cores = len(os.sched_getaffinity(0))
  tf.zeros([])  # From here on they are what they are.
  assert programs.set_threads(0) == programs.set_threads(cores) == cores
  with pytest.raises(config.ConfigError, match=f'with {cores} already'):
    programs.set_threads(cores + 1)
  assert issubclass(loop.failures.FailedError, opening.RunError)


# -- Data that are arrays -----------------------------------------------------

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (60, 6, 5), np.uint8)
LABELS = np.array(['cat', 'dog'])[np.arange(60) % 2]


@pytest.fixture
def train_on(train, tmp_path):
  """Trains on arrays, with a data folder of its own."""
  given = {'data_dir': tmp_path / 'data', 'batch_size': 16, 'training_steps': 2}
  return lambda data, **more: train(dataset=data, **given | more)


def test_arrays_are_data_like_those_of_a_file(train_on, tmp_path):
  run = train_on((PIXELS, LABELS), run_dir=tmp_path / 'run')
  data = run.manifest['dataset']
  assert data['name'] == run.config.dataset
  assert data['name'].startswith('arrays-')
  assert data['source'] == 'arrays given in Python'
  assert data['num_images'] == {'train': 54, 'test': 6}
  assert data['label_names'] == ['cat', 'dog']
  np.savez(tmp_path / 'file.npz', images=PIXELS, labels=LABELS)
  other = train_on(str(tmp_path / 'file.npz'), run_dir=tmp_path / 'other')
  assert other.manifest['dataset']['sha256'] == data['sha256']
  for name in (records.TRAIN, records.EVAL):
    theirs = (other.path / name).read_bytes()
    assert (run.path / name).read_bytes() == theirs
  # The run finds them again, without the arrays and from the folder alone.
  loaded = runs.load(run.path, tmp_path / 'data')
  expected = run.eval[run.eval['metric'] == 'elbo_nats']['value'].item()
  assert loaded.evaluate().result.elbo.value == pytest.approx(expected)
  # Given again they resume it; others do not.
  longer = {'run_dir': run.path, 'training_steps': 4}
  with pytest.raises(runs.RunError, match='holds a run on other data'):
    train_on((PIXELS[::-1], LABELS), **longer)
  assert train_on((PIXELS, LABELS), **longer).step == 4
  assert train_on(None, run_dir=run.path, training_steps=5).step == 5
  # Elsewhere they must be given.
  with pytest.raises(runs.DatasetError, match='the same arrays again'):
    train_on(None, run_dir=run.path, data_dir=tmp_path / 'empty')


def test_arrays_may_be_split_and_of_other_kinds(train_on, tmp_path):
  floats = (PIXELS / 255)[..., None]
  run = train_on(
    {'train': floats[:50], 'test': (PIXELS[50:, ..., None],)[0]},
    run_dir=tmp_path / 'run',
  )
  assert run.manifest['dataset']['num_images'] == {'train': 50, 'test': 10}
  test = run.dataset.splits['test'].examples
  assert {image.tobytes() for image in test} == {
    image.tobytes() for image in PIXELS[50:]
  }
  rows = GENERATOR.normal(3.0, 2.0, (40, 3))
  run = train_on(rows, likelihood='normal', run_dir=tmp_path / 'rows')
  assert run.manifest['dataset']['shape'] == [3]
  order = run.dataset.splits['train'].examples
  np.testing.assert_allclose(order.mean(axis=0), 0.0, atol=1e-6)
  # Rows are taken, and given back, in the units of their columns.
  training = order * rows.std(axis=0) + rows.mean(axis=0)
  codes = run.model.encode(order).mean().numpy()
  columns = run.manifest['dataset']['columns']
  own = order * columns['deviation'] + columns['mean']
  assert np.abs(own - training).max() < 2.0
  np.testing.assert_allclose(run.encode(own), codes, atol=1e-5)
  assert all(np.isclose(rows, row).all(axis=1).any() for row in own)
  decoded = run.model.decode(codes).mean().numpy()
  np.testing.assert_allclose(
    run.decode(codes),
    decoded * columns['deviation'] + columns['mean'],
    atol=1e-4,
  )


@pytest.mark.parametrize(
  ('data', 'words'),
  [
    (PIXELS * np.nan, 'NaN'),
    (PIXELS * 1.0, r'values from 0 to 255; floats must lie in \[0, 1\]'),
    (PIXELS.astype(int), 'images of int64; they must be uint8'),
    (PIXELS.astype(object), 'ndarray of Python objects'),
    ([[1.0], [2.0, 3.0]], 'images is no array'),
    (PIXELS[:1], 'cannot be cut'),
    (PIXELS[:0], r'the shape \(0, 6, 5\)'),
    (PIXELS[:, None], 'images have the shape'),
    ((PIXELS, LABELS[:9]), r'labels of the shapes \(9,\)'),
    (np.array([[0.0, np.inf]] * 9), 'holds inf in row 0, column 1'),
    ({'test': PIXELS}, 'nothing to train on'),
    (np.eye(40), 'arrays-.* has values from .* give --likelihood=normal'),
  ],
  ids=range(12),
)
def test_arrays_that_are_no_data_are_refused_in_words(train_on, data, words):
  with pytest.raises(ValueError, match=words) as error:
    train_on(data)
  assert isinstance(error.value, runs.DatasetError | runs.ConfigError)


# -- The model on arrays ------------------------------------------------------


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  path = tmp_path_factory.mktemp('model') / 'run'
  return runs.train(run_dir=path, data_dir=data_dir, **SMALL)


def test_images_are_encoded_as_in_training(run):
  examples = np.asarray(run.dataset.splits['test'].examples)
  floats = examples.astype(np.float32) / 255
  expected = run.model.encode(floats).mean().numpy()
  for images in (examples, examples[..., 0], floats, floats.astype('f8')):
    np.testing.assert_allclose(run.encode(images), expected, atol=1e-5)
  kept = records.read_arrays(run.path, 'latents')['means']
  np.testing.assert_allclose(run.encode(examples), kept, atol=1e-5)
  assert run.encode(examples[:0]).shape == (0, 3)
  posterior = run.posterior(examples[:7])
  np.testing.assert_allclose(posterior.mean(), expected[:7], atol=1e-5)
  assert (posterior.stddev().numpy() > 0).all()
  many = np.concatenate([examples, examples])
  np.testing.assert_allclose(
    run.encode(many), np.concatenate([expected, expected]), atol=1e-5
  )


def test_codes_are_decoded_to_means_or_modes(run):
  codes = GENERATOR.normal(size=(2, 3, 3))
  likelihood = run.model.decode(codes.astype(np.float32))
  means, modes = run.decode(codes), run.decode(codes, mode=True)
  assert means.shape == (2, 3, 28, 28, 1)
  np.testing.assert_allclose(means, likelihood.mean(), atol=1e-6)
  np.testing.assert_array_equal(modes, likelihood.mode())
  assert run.decode(codes[0, 0]).shape == (28, 28, 1)
  assert run.decode(codes[:0]).shape == (0, 3, 28, 28, 1)
  images = np.asarray(run.dataset.splits['test'].examples[:5])
  np.testing.assert_allclose(
    run.reconstruct(images), run.decode(run.encode(images)), atol=1e-6
  )
  kept = records.read_arrays(run.path, 'reconstructions')
  np.testing.assert_array_equal(
    run.reconstruct(images, mode=True), kept['modes'][:5]
  )


def test_samples_repeat_by_their_seed(run):
  first, again, other = (run.sample(16, seed=seed) for seed in (3, 3, 4))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-3
  kept = records.read_arrays(run.path, 'samples')['modes']
  drawn = run.sample(len(kept), seed=run.config.seed, mode=True)
  np.testing.assert_array_equal(drawn, kept)
  key = randomness.key(3, randomness.Purpose.PRIOR, 0)
  latents = distributions.sample(run.model.prior, 16, key)
  np.testing.assert_allclose(first, run.model.decode(latents).mean())


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda run: run.encode(PIXELS), r'\(60, 6, 5\).*\[N, 28, 28, 1\]'),
    (lambda run: run.encode(np.zeros(3)), r'shape \(3,\); the run takes'),
    (lambda run: run.encode(np.ones((2, 28, 28), 'u1')), '255 for white'),
    (lambda run: run.encode(np.ones((2, 28, 28)) * 9), 'from 9 to 9'),
    (lambda run: run.decode(np.zeros((2, 4))), r'\(2, 4\).*\[\.\.\., 3\]'),
  ],
  ids=range(5),
)
def test_what_a_model_does_not_take_is_refused_in_words(run, call, words):
  with pytest.raises(ValueError, match=words):
    call(run)


def test_binary_targets_are_the_same_wherever_an_image_stands(
  train_on, tmp_path
):
  cut = train_on(PIXELS, binarize='threshold', run_dir=tmp_path / 'cut')
  expected = cut.model.encode((PIXELS > 127).astype('f')[..., None]).mean()
  np.testing.assert_allclose(cut.encode(PIXELS), expected, atol=1e-6)
  drawn = train_on(PIXELS, binarize='dynamic', run_dir=tmp_path / 'drawn')
  codes = drawn.encode(PIXELS)
  np.testing.assert_allclose(drawn.encode(PIXELS[9:]), codes[9:], atol=1e-6)
  white = PIXELS > 99
  expected = drawn.model.encode(white.astype('f')[..., None]).mean().numpy()
  for images in (white, white * 1.0, white * np.uint8(255)):
    np.testing.assert_allclose(drawn.encode(images), expected, atol=1e-6)
  # Data that are binary by nature, given as zeros and ones.
  own = train_on(white * np.uint8(1), run_dir=tmp_path / 'own')
  assert own.manifest['targets'] == 'binary'
  expected = own.model.encode(white.astype('f')[..., None]).mean().numpy()
  for images in (white, white * np.uint8(1), white * np.uint8(255)):
    np.testing.assert_allclose(own.encode(images), expected, atol=1e-6)


def test_images_are_resized_where_the_run_resizes_its_own(train_on, tmp_path):
  run = train_on(PIXELS, image_size=8, run_dir=tmp_path / 'run')
  resized = np.stack([image_data.fitted(x[..., None], 8) for x in PIXELS])
  expected = run.model.encode(resized / np.float32(255)).mean()
  np.testing.assert_allclose(run.encode(PIXELS), expected, atol=1e-5)
  np.testing.assert_allclose(run.encode(resized), expected, atol=1e-5)
  with pytest.raises(ValueError, match='of any height and width'):
    run.encode(np.zeros((2, 8, 8, 3)))
