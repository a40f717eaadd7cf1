"""Each kind of people's own data, by the command that trains on it."""

import gzip

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from analysis import frames
from launch import records, runs

GENERATOR = np.random.default_rng(0)
TABLE = GENERATOR.normal(size=(40, 3))


def image(path, *shape):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(GENERATOR.integers(0, 256, shape, np.uint8)).save(path)


def assorted_images(folder):
  for number in range(20):
    image(folder / 'mine' / f'{number}.jpg', 12 + number, 30, 3)
  return {'dataset': 'mine/', 'image_size': 8}, [8, 8, 3]


def folders_of_classes(folder):
  for number in range(40):
    name = 'cat' if number < 20 else 'dog'
    image(folder / 'mine' / name / f'{number}.png', 6, 5)
  return {'dataset': './mine', 'num_validation': 10}, [6, 5, 1]


def array(folder):
  np.save(folder / 'mine.npy', GENERATOR.random([40, 6, 5], np.float32))
  return {'dataset': 'mine.npy', 'test_share': 0.25}, [6, 5, 1]


def arrays(folder):
  np.savez(
    folder / 'mine.npz',
    images=GENERATOR.integers(0, 2, [40, 6, 5, 3], np.uint8) * 255,
    labels=np.arange(40) % 3,
    factors=np.stack(np.unravel_index(np.arange(40), (8, 5)), axis=-1),
    factor_names=['x', 'hue'],
  )
  return {'dataset': 'mine.npz'}, [6, 5, 3]


def labelled_table(folder):
  frame = pd.DataFrame(TABLE, columns=list('abc'))
  frame['kind'] = ['b', 'a'] * 20
  frame.to_csv(folder / 'mine.csv')  # With the names of its rows.
  settings = {'dataset': 'mine.csv', 'label_column': 'kind'}
  return settings | {'likelihood': 'normal'}, [3]


def bare_table(folder):
  text = pd.DataFrame(TABLE).to_csv(sep='\t', header=False, index=False)
  (folder / 'mine.tsv.gz').write_bytes(gzip.compress(text.encode()))
  return {'dataset': 'mine.tsv.gz', 'likelihood': 'normal'}, [3]


KINDS = (
  assorted_images,
  folders_of_classes,
  array,
  arrays,
  labelled_table,
  bare_table,
)


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
def test_own_data_are_trained_on(launch_train, tmp_path, monkeypatch, kind):
  monkeypatch.chdir(tmp_path)
  settings, shape = kind(tmp_path)
  result = launch_train(
    data_dir=tmp_path / 'data',
    run_dir='run',
    training_steps=2,
    batch_size=16,
    jit='off',
    **settings,
  )
  assert result.code == 0, result.stderr
  manifest = records.read_manifest(tmp_path / 'run')['dataset']
  assert manifest['shape'] == shape
  assert manifest['name'] == str(tmp_path / settings['dataset'].strip('./'))
  counts = manifest['num_images']
  share = settings.get('test_share', 0.1)
  assert counts['test'] == share * (20 if 'image_size' in settings else 40)
  latents = records.read_arrays(tmp_path / 'run', 'latents')
  if kind in (folders_of_classes, labelled_table):
    labels = latents['labels']
    assert sorted(labels) == [0] * 2 + [1] * 2
    names = ['cat', 'dog'] if kind is folders_of_classes else ['a', 'b']
    assert manifest['label_names'] == names
  if kind is arrays:
    assert manifest['factors'] == [['x', 8], ['hue', 5]]
    assert latents['factors'].shape == (4, 2)
  # The run finds its data again, from any folder.
  monkeypatch.chdir('/')
  run = runs.load(tmp_path / 'run', tmp_path / 'data')
  assert len(run.dataset.splits['test'].examples) == counts['test']


def test_a_run_that_trains_on_all_says_so_everywhere(
  launch_train, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  settings, _ = arrays(tmp_path)
  settings |= {'data_dir': tmp_path / 'data', 'run_dir': 'run', 'jit': 'off'}
  settings |= {'test_share': 0, 'batch_size': 16, 'eval_every': 2}
  result = launch_train(**settings, training_steps=4)
  assert result.code == 0, result.stderr
  assert 'train split of' in result.stdout
  assert 'test' not in result.stdout.replace(str(tmp_path), '')
  manifest = records.read_manifest(tmp_path / 'run')
  assert manifest['dataset']['num_images'] == {'train': 40}
  assert manifest['dataset']['test_share'] == 0
  rows = records.read_table(tmp_path / 'run', records.EVAL)
  assert set(rows['split']) == {'train'}
  assert set(rows['n']) == {40}
  results = records.read_results(tmp_path / 'run', manifest)
  last = rows[(rows['step'] == 4) & (rows['metric'] == 'elbo_nats')]
  assert results['elbo_nats'] == last['value'].item()
  latents = records.read_arrays(tmp_path / 'run', 'latents')
  assert len(latents['means']) == len(latents['factors']) == 40
  run = runs.load(tmp_path / 'run', tmp_path / 'data')
  assert run.evaluate().result.elbo.value == pytest.approx(last['value'].item())
  drawn = frames.read_runs([str(tmp_path / 'run')]).runs[0]
  assert 'measured on its training images' in drawn.describe()
  assert len(frames.rates(drawn)) == 3
  # Longer, to the bits of a run that was as long from the start.
  settings |= {'training_steps': 6}
  assert launch_train(**settings).code == 0
  assert launch_train(**settings | {'run_dir': 'whole'}).code == 0
  for name in (records.TRAIN, records.EVAL, records.RATE_PER_LATENT):
    ours, theirs = (tmp_path / run / name for run in ('run', 'whole'))
    assert ours.read_bytes() == theirs.read_bytes()
  result = launch_train(**settings | {'dataset': 'mnist_5k', 'run_dir': 'x'})
  assert 'mnist_5k has a test split of its own' in result.stderr


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'image_size': None},
      'have 20 different sizes; --image_size=64 crops each to its middle',
    ),
    ({'label_column': 'x'}, '--label_column=x: is for tables in files'),
    ({'dataset': 'nowhere.npz'}, 'nowhere.npz'),
    ({'dataset': './nowhere'}, 'no such folder or file'),
    (
      {'test_share': 0.001, 'image_size': None, 'dataset': 'two'},
      'into 0 and 2',
    ),
    ({'num_validation': 18}, 'less than the 18 training images'),
  ],
)
def test_own_data_that_cannot_be_are_refused_in_a_line(
  launch_train, tmp_path, monkeypatch, change, message
):
  monkeypatch.chdir(tmp_path)
  settings, _ = assorted_images(tmp_path)
  for number in range(2):
    image(tmp_path / 'two' / f'{number}.png', 4, 4)
  if change.get('dataset') == 'two':
    change = change | {'dataset': './two'}
  result = launch_train(
    data_dir=tmp_path / 'data', run_dir='run', **settings | change
  )
  assert result.code == 1
  assert message in result.stderr
  assert len(result.stderr.splitlines()) <= 2  # One says that it prepares.
  assert not (tmp_path / 'run').exists()
