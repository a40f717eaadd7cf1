"""Damaged and hostile files end in one clear line, whoever reads them."""

import contextlib
import copy
import gzip
import json
import pathlib
import shutil
import struct
import tempfile
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.numpy

from launch import compare, evaluate, records, runs
from launch.experiment import loop, metrics, programs
from launch.rundir import checkpoints
from tests.launch import conftest
from vae.data import chain, datasets, idx, sources

# What a setting or an entry of a manifest should not be.
VALUES = (
  None, True, -1, 0, 3, 2.5, 1e308, float('nan'), float('inf'), 10**400, 2**62,
  '', 'x', '9' * 400, '../../x', '/etc/passwd', '~nobody/x', 'mnist/..', '/\0',
  '\ud800', '\x1b[2J\n', [], {}, [2**62], ['x'], [[]], {'x': 1}, [{}],
)  # fmt: skip


@st.composite
def damaged_bytes(draw, content):
  """Bytes changed, cut out, put in or doubled."""
  start = draw(st.integers(0, len(content)))
  stop = draw(st.integers(start, min(len(content), start + 100)))
  middle = draw(
    st.one_of(
      st.binary(max_size=8),
      st.just(content[start:stop] * 2),
      st.sampled_from([b',', b'"', b'\n', b'-', b'nan', b'9' * 30, b'\0']),
    )
  )
  return content[:start] + middle + content[stop:]


def places(node, path=()):
  """Where the values of a JSON document are."""
  if isinstance(node, dict | list):
    keys = node if isinstance(node, dict) else range(len(node))
    for key in keys:
      yield (*path, key)
      yield from places(node[key], (*path, key))


@st.composite
def damaged_json(draw, content):
  """A JSON document with a value replaced, or an entry lost or added."""
  document = json.loads(content)
  for _ in range(draw(st.integers(1, 3))):
    *path, last = draw(st.sampled_from(list(places(document))))
    node = document
    for key in path:
      node = node[key]
    value = copy.deepcopy(draw(st.sampled_from(VALUES)))
    what = draw(st.sampled_from(['replace', 'replace', 'delete', 'add']))
    if what == 'delete':
      del node[last]
    elif what == 'add' and isinstance(node, dict):
      node[draw(st.sampled_from(['x', 'best_step', 'resumed']))] = value
    else:
      node[last] = value
    if not document:
      break
  return json.dumps(document).encode()


@st.composite
def damaged_table(draw, content):
  """A table with a cell replaced."""
  lines = [line.split(',') for line in content.decode().splitlines()]
  line = draw(st.sampled_from(lines))
  line[draw(st.integers(0, len(line) - 1))] = draw(
    st.sampled_from(
      ['', 'x', '-1', 'nan', 'inf', '1e999', '9' * 30, '٣', '1_0']
    )
  )
  return '\n'.join(','.join(line) for line in [*lines, []]).encode()


def damaged(path):
  """A strategy for what a file may be instead."""
  content = path.read_bytes()
  strategies = [damaged_bytes(content), damaged_bytes(content)]
  if path.suffix == '.json':
    strategies += [damaged_json(content)] * 4
  elif path.suffix == '.csv':
    strategies += [damaged_table(content)] * 2
  return st.one_of(strategies)


@pytest.fixture(scope='module')
def original(tmp_path_factory, data_dir):
  """A run that has all that a run can have."""
  run = tmp_path_factory.mktemp('hostile') / 'run'
  result = conftest.call_train(
    f'--run_dir={run}',
    f'--data_dir={data_dir}',
    '--dataset=mnist_5k',
    '--hidden_sizes=2',
    '--latent_size=2',
    '--training_steps=6',
    '--num_validation=3900',
    '--batch_size=50',
    '--patience=9',
    '--jit=off',
  )
  assert result.code == 0, result.stderr
  return run


FILES = (
  records.CONFIG,
  records.MANIFEST,
  *records.RUN_TABLES,
  'checkpoints/step_000000000006.safetensors',
)


@pytest.fixture(scope='module')
def in_place_of_work(original):
  """The real commands, but for the work that follows once all is read."""
  del original  # Which is trained before.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, '_carry_out', lambda state: loop.End(is_finished=True))
    patch.setattr(programs, 'set_threads', lambda threads: threads)
    patch.setattr(
      runs.Run,
      'evaluate',
      lambda run, *_: types.SimpleNamespace(
        split=run.dataset.name,
        manifest=run.manifest,
        seconds_of_bounds=lambda: 0,
      ),
    )
    patch.setattr(metrics, 'record', lambda *_, in_training: [])
    patch.setattr(metrics, 'lines', lambda *_: [])

    def unknown(name, *_):
      raise sources.SourceError(f'{name} cannot be had')

    patch.setattr(chain, '_tfds_name', unknown)
    yield


@contextlib.contextmanager
def damaged_copy(original, data):
  """A copy of a run with a file damaged; nothing may be made beside it."""
  with tempfile.TemporaryDirectory() as folder:
    run = pathlib.Path(folder, 'inner', 'run')
    shutil.copytree(original, run)
    name = data.draw(st.sampled_from(FILES), 'file')
    content = data.draw(damaged(original / name), 'content')
    (run / name).write_bytes(content)
    yield run
    assert [p.name for p in pathlib.Path(folder).iterdir()] == ['inner']
    assert [p.name for p in run.parent.iterdir()] == ['run']


def assert_clear(result):
  """The command ended well, or in one line that says why not."""
  assert 'Traceback' not in result.stderr
  assert 'all is well' not in result.stderr.splitlines()
  assert '\x1b' not in result.stderr
  lines = [line for line in result.stderr.splitlines() if 'error: ' in line]
  assert len(lines) == (result.code != 0)


@pytest.mark.usefixtures('in_place_of_work')
@hypothesis.settings(max_examples=100)
@hypothesis.given(data=st.data())
def test_resuming(original, data_dir, data):
  with damaged_copy(original, data) as run:
    arguments = [f'--data_dir={data_dir}', '--training_steps=8']
    assert_clear(conftest.call_train(f'--run_dir={run}', *arguments))


@pytest.mark.usefixtures('in_place_of_work')
@hypothesis.settings(max_examples=100)
@hypothesis.given(data=st.data())
def test_evaluating(original, data_dir, data):
  with damaged_copy(original, data) as run:
    arguments = [f'--run_dir={run}', f'--data_dir={data_dir}']
    assert_clear(conftest.call(evaluate.main, arguments))


@pytest.mark.usefixtures('in_place_of_work')
@hypothesis.settings(max_examples=40)
@hypothesis.given(data=st.data())
def test_repeating(original, data_dir, data):
  with damaged_copy(original, data) as run:
    arguments = [f'--run_dir={run / "again"}', f'--data_dir={data_dir}']
    assert_clear(
      conftest.call_train(f'--config={run / records.CONFIG}', *arguments)
    )


@hypothesis.settings(max_examples=60)
@hypothesis.given(data=st.data())
def test_loading_in_python(original, data_dir, data):
  with damaged_copy(original, data) as run:
    try:
      loaded = runs.load(run, data_dir, warn=lambda line: None)
      assert repr(loaded).isprintable()
      for name in ('train', 'terms', 'eval', 'rate_per_latent', 'scores'):
        assert getattr(loaded, name) is not None
      assert len(loaded.sample(2)) == 2 and loaded.dataset.splits
    except (
      records.RecordError,
      runs.ConfigError,
      runs.DatasetError,
      checkpoints.CheckpointError,
    ) as error:
      assert str(error).isprintable()


@hypothesis.settings(max_examples=150)
@hypothesis.given(data=st.data())
def test_comparing(original, data):
  with damaged_copy(original, data) as run:
    arguments = [original, run]
    assert_clear(conftest.call(compare.main, arguments, ('RUN_A', 'RUN_B')))


def call_all(original, run, data_dir):
  """Every command that reads a run; what each of them ended with."""
  arguments = [f'--run_dir={run}', f'--data_dir={data_dir}']
  return [
    conftest.call_train(*arguments, '--training_steps=8'),
    conftest.call(evaluate.main, arguments),
    conftest.call(compare.main, [original, run], ('RUN_A', 'RUN_B')),
  ]


@pytest.mark.usefixtures('in_place_of_work')
@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    (records.CONFIG, {'beta': 10**400}),
    (records.CONFIG, {'learning_rate': 1e300}),
    (records.CONFIG, {'latent_size': 2**62}),
    (records.CONFIG, {'checkpoint_every': '9' * 400}),
    (records.CONFIG, {'\x1b[2J\nall is well': 1}),
    (records.CONFIG, {'dataset': 'x\nall is well'}),
    (records.CONFIG, {'reduction': []}),
    (records.MANIFEST, {'best_step': float('inf')}),
    (records.MANIFEST, {'best_step': '../../x'}),
    (records.MANIFEST, {'resumed': [3]}),
    (records.MANIFEST, {'seconds': 'x'}),
    (records.MANIFEST, {'effective_beta': 'x'}),
    (records.MANIFEST, {'device': {}}),
    (records.MANIFEST, {'dataset': {'shape': [2**31, 2**31, 1]}}),
    (records.MANIFEST, {'num_parameters': 'x'}),
    (records.MANIFEST, {'targets': 3}),
  ],
  ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused(original, data_dir, tmp_path, name, changes):
  run = tmp_path / 'run'
  shutil.copytree(original, run)
  content = json.loads((run / name).read_text())
  (run / name).write_text(json.dumps(content | changes))
  results = call_all(original, run, data_dir)
  for result in results:
    assert_clear(result)
  assert any(result.code for result in results)


@pytest.mark.usefixtures('in_place_of_work')
def test_an_elbo_that_is_missing_is_not_the_best(original, data_dir, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(original, run)
  rows = records.read_rows(run, records.EVAL)
  for row in rows[:4]:
    assert row['split'] == 'validation'
    row['value'] = ''
  records.write_table(run, records.EVAL, rows)
  for result in call_all(original, run, data_dir):
    assert_clear(result)
    assert result.code == 0


@pytest.mark.usefixtures('in_place_of_work')
@pytest.mark.parametrize(
  'forge',
  [
    lambda step, tensors: (-1, tensors),
    lambda step, tensors: (2**70, tensors),
    lambda step, tensors: ('x', tensors),
    lambda step, tensors: (step, {}),
    lambda step, tensors: (step, tensors | {'model/../../x': np.zeros(2)}),
    lambda step, tensors: (
      step,
      {name: array.astype('f8') for name, array in tensors.items()},
    ),
    lambda step, tensors: (
      step,
      {name: array.ravel() for name, array in tensors.items()},
    ),
  ],
)
def test_a_forged_checkpoint_with_a_right_digest_is_refused(
  original, data_dir, tmp_path, forge
):
  run = tmp_path / 'run'
  shutil.copytree(original, run)
  for path in checkpoints.paths(run):
    step, tensors = forge(*checkpoints.load(path))
    header = {'sha256': checkpoints._digest(step, tensors), 'step': step}
    content = safetensors.numpy.save(
      tensors, {checkpoints._HEADER: json.dumps(header)}
    )
    path.write_bytes(content)
  for result in call_all(original, run, data_dir)[:2]:
    assert_clear(result)
    assert result.code == 1


def read_all(run):
  """What `analysis` reads of a run."""
  manifest, settings = records.read_manifest(run), records.read_config(run)
  f'{manifest["effective_beta"] or 0.0:.4g} {settings["beta"]:g}'
  for name in records.RUN_TABLES:
    assert records.read_table(run, name).notna().sum() is not None


@hypothesis.settings(max_examples=150)
@hypothesis.given(data=st.data())
def test_what_figures_are_drawn_from(original, data):
  with damaged_copy(original, data) as run:
    with contextlib.suppress(records.RecordError):
      read_all(run)
    path = data.draw(st.sampled_from(sorted((run / 'arrays').iterdir())))
    path.write_bytes(data.draw(damaged_bytes(path.read_bytes())))
    with contextlib.suppress(records.RecordError):
      records.read_arrays(run, path.stem)


@hypothesis.settings(max_examples=300)
@hypothesis.given(
  st.binary(max_size=40)
  | st.lists(
    st.sampled_from([0, 1, 2, 3, 255, 2**31, 2**32 - 1]), max_size=70
  ).flatmap(
    lambda shape: st.binary(max_size=12).map(
      lambda values: (
        b'\0\0\x08'
        + bytes([len(shape)])
        + struct.pack(f'>{len(shape)}I', *shape)
        + values
      )
    )
  ),
  st.booleans(),
  st.data(),
)
def test_idx_files(content, is_compressed, data):
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'x.gz' if is_compressed else 'x')
    if is_compressed:
      content = data.draw(damaged_bytes(gzip.compress(content)))
    path.write_bytes(content)
    with contextlib.suppress(sources.DamagedError):
      assert idx.read(path).dtype == np.uint8
    with contextlib.suppress(sources.DamagedError):
      for stem in idx.FILES.values():
        pathlib.Path(folder, stem).write_bytes(content)
      idx.folder(pathlib.Path(folder))


@pytest.mark.parametrize(
  'name',
  [
    'mnist/..', 'mnist/../x', 'mnist:..', 'mnist/.', '..', 'a/b/c', 'a\\b',
    'mnist\n', '~nobody-at-home/x', '/etc/passwd', '../../x', '.', '/\0',
  ],
)  # fmt: skip
def test_names_of_datasets_do_not_lead_out_of_the_data_folder(
  tmp_path, monkeypatch, name
):
  here = tmp_path / 'deep' / 'down'  # Where .. and ../.. hold nothing either.
  here.mkdir(parents=True)
  monkeypatch.chdir(here)
  asked = []
  monkeypatch.setattr(chain, '_tfds_name', lambda *given: asked.append(given))
  data_dir = tmp_path / 'data' / 'dir'
  with pytest.raises(datasets.DatasetError):
    datasets.load(name, data_dir, lambda line: None)
  assert not asked
  assert {p.name for p in tmp_path.iterdir()} <= {'data', 'deep'}
  assert not list(here.iterdir())
  assert not list(data_dir.rglob('*.npy'))


def test_pickles_are_never_read(original, tmp_path):
  class Trap:
    def __reduce__(self):
      return (pathlib.Path.touch, (tmp_path / 'sprung',))

  run = tmp_path / 'run'
  shutil.copytree(original, run)
  trap = np.array([Trap()], dtype=object)
  for path in (run / 'arrays').iterdir():
    np.savez(path, allow_pickle=True, step=trap)
    with pytest.raises(records.RecordError, match='is damaged'):
      records.read_arrays(run, path.stem)
  for path in checkpoints.paths(run):
    np.savez(path.with_suffix(''), x=trap)
    path.with_suffix('.npz').replace(path)
    with pytest.raises(checkpoints.CheckpointError, match='is damaged'):
      checkpoints.load(path)
  assert not (tmp_path / 'sprung').exists()
