import base64
import functools
import importlib
import io
import os
import re
import subprocess
import sys

import matplotlib.text
import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageSequence
import plotnine as gg
import pytest
import sklearn.manifold
import threadpoolctl

from analysis import (
  animation,
  embedding,
  figures,
  frames,
  grids,
  loss_curves,
  manifold,
  rate_distortion,
  rate_per_latent,
  reconstructions,
  samples,
  sweep,
  traversals,
)
from launch import records
from tests.analysis import builders, test_frames
from tests.launch import conftest

EACH = (
  'embedding',
  'manifold',
  'rate_per_latent',
  'reconstructions',
  'samples',
  'traversals',
)
JOINT = ('loss_curves', 'rate_distortion', 'sweep', 'terms')
ARRAYS = {
  'embedding': 'latents',
  'manifold': 'manifold',
  'reconstructions': 'reconstructions',
  'samples': 'samples',
  'traversals': 'traversals',
}


def png(path):
  with PIL.Image.open(path) as picture:
    picture.load()
    return picture


@pytest.fixture
def run(tmp_path):
  builders.write_run(tmp_path / 'run')
  builders.write_terms(tmp_path / 'run')
  return tmp_path / 'run'


@pytest.mark.parametrize('name', [*EACH, *JOINT])
def test_commands_draw_into_the_run(run, name):
  code, stdout, stderr = builders.analyse(name, f'--run_dir={run}')
  assert code == 0, stderr
  paths = [run / 'figures' / f'{name}.{suffix}' for suffix in ('png', 'pdf')]
  assert stdout.split() == [str(path) for path in paths]
  description = png(paths[0]).text['Description']
  for part in ('run run', 'commit c0ffee', f'python -m analysis.{name}'):
    assert part in description
  pdf = paths[1].read_bytes()
  assert b'/Type /Font' in pdf and b'/FontFile2' in pdf
  assert b'CreationDate' not in pdf
  # The paper's column, and 300 dots per inch or more.
  picture = png(paths[0])
  dpi, _ = picture.info['dpi']
  assert dpi > 299.9 and picture.width < 6.9 * dpi + 2


def test_the_grid_of_two_latents_is_a_figure_of_its_own(run):
  code, stdout, _ = builders.analyse(
    'traversals', f'--run_dir={run}', '--grid', '--format=png'
  )
  assert (code, stdout.strip()) == (0, str(run / 'figures/latent_grid.png'))


def test_images_by_factor_are_a_figure_where_they_were_kept(run):
  arguments = (f'--run_dir={run}', '--by_factor', '--format=png')
  code, stdout, _ = builders.analyse('reconstructions', *arguments)
  drawn = run / 'figures/reconstructions_by_factor.png'
  assert (code, stdout.strip()) == (0, str(drawn))
  kept = records.read_arrays(run, 'by_factor')
  frame = reconstructions.read_factor_frame(
    frames.read_runs([str(run)]).runs[0]
  )
  assert list(frame['factor']) == ['shape'] * 2 + ['x'] * 5
  np.testing.assert_array_equal(np.stack([*frame['mean']]), kept['means'])
  (run / 'arrays/by_factor.npz').unlink()
  code, _, stderr = builders.analyse('reconstructions', *arguments)
  assert code == 1 and 'where the data hold every combination' in stderr


@pytest.mark.parametrize('style', figures.STYLES)
def test_a_style_has_its_widths_and_letters(run, style):
  for width in figures.WIDTHS:
    code, stdout, stderr = builders.analyse(
      'loss_curves', f'--run_dir={run}', f'--style={style}', f'--width={width}'
    )
    assert code == 0, stderr
    page = figures.STYLES[style][width]
    drawn, vectors = stdout.split()
    picture = png(drawn)
    assert picture.info['dpi'] == pytest.approx((300, 300), abs=0.1)
    assert picture.width == pytest.approx(300 * page.width * page.pixels, abs=3)
    with open(vectors, 'rb') as file:
      pdf = file.read()
    fonts = set(re.findall(rb'/BaseFont /(?:[A-Z]{6}\+)?([\w-]+)', pdf))
    family = page.family.replace(' ', '').encode()
    assert {name.removesuffix(b'-Regular') for name in fonts} == {family}
    assert b'/FontFile2' in pdf and b'/Type3' not in pdf


@pytest.mark.parametrize(
  'name', ['loss_curves', 'loss_curves --style=neurips', 'traversals']
)
def test_other_processes_draw_the_same_bytes(run, name):
  name, *flags = name.split()
  drawn = []
  for seed in '12':
    result = subprocess.run(
      [sys.executable, '-m', f'analysis.{name}', f'--run_dir={run}', *flags],
      cwd=conftest.ROOT,
      env=os.environ | {'PYTHONHASHSEED': seed},
      capture_output=True,
      text=True,
    )
    assert (result.returncode, result.stderr) == (0, '')
    drawn.append(
      [
        (run / f'figures/{name}.{suffix}').read_bytes()
        for suffix in ('png', 'pdf')
      ]
    )
  assert drawn[0] == drawn[1]


def test_the_newest_run_is_drawn_by_default_and_named(tmp_path, monkeypatch):
  builders.write_run(tmp_path / 'runs' / 'old')
  builders.write_run(tmp_path / 'runs' / 'new', {'started': '2027-01-01'})
  monkeypatch.chdir(tmp_path)
  code, stdout, stderr = builders.analyse('loss_curves', '--format=png')
  assert code == 0
  assert stderr.strip() == 'the newest run is runs/new'
  assert stdout.strip() == 'runs/new/figures/loss_curves.png'


def test_several_runs_share_a_figure_or_have_one_each(tmp_path):
  for seed in (0, 1):
    builders.write_run(tmp_path / f'r{seed}', seed=seed)
  arguments = (f'--run_dir={tmp_path}/r*', '--format=png')
  _, stdout, _ = builders.analyse('loss_curves', *arguments)
  assert stdout.split() == [str(tmp_path / 'figures/loss_curves.png')]
  text = png(stdout.strip()).text['Description']
  assert 'run r0, r1;' in text
  _, stdout, _ = builders.analyse('samples', *arguments)
  assert stdout.split() == [
    str(tmp_path / f'r{seed}/figures/samples.png') for seed in (0, 1)
  ]
  code, _, stderr = builders.analyse('samples', *arguments, '--output=x')
  assert code == 1 and '2 runs have a figure each' in stderr


def test_one_bad_run_does_not_stop_the_others(tmp_path):
  for seed in (0, 1):
    builders.write_run(tmp_path / f'r{seed}', seed=seed)
  (tmp_path / 'r0/arrays/samples.npz').write_bytes(b'PK')
  code, stdout, stderr = builders.analyse(
    'samples', f'--run_dir={tmp_path}/r*', '--format=png'
  )
  assert code == 1
  assert stdout.split() == [str(tmp_path / 'r1/figures/samples.png')]
  assert len(stderr.splitlines()) == 1 and 'is damaged' in stderr


@pytest.mark.parametrize('name', ARRAYS)
def test_missing_arrays_name_the_command_that_writes_them(run, name):
  (run / records.ARRAYS / f'{ARRAYS[name]}.npz').unlink()
  code, _, stderr = builders.analyse(name, f'--run_dir={run}')
  assert code == 1
  assert len(stderr.splitlines()) == 1
  assert f'python -m launch.evaluate --run_dir={run}' in stderr


@pytest.mark.parametrize('name', ARRAYS)
@pytest.mark.parametrize('damage', ['cut', 'other', 'shape'])
def test_damaged_arrays_are_one_line(run, name, damage):
  path = run / records.ARRAYS / f'{ARRAYS[name]}.npz'
  if damage == 'cut':
    path.write_bytes(path.read_bytes()[:200])
  elif damage == 'other':
    np.savez(path, step=4)
  else:
    arrays = records.read_arrays(run, ARRAYS[name])
    wrong = {k: v[..., None] for k, v in arrays.items() if k != 'step'}
    np.savez(path, step=4, **wrong)
  code, _, stderr = builders.analyse(name, f'--run_dir={run}')
  assert code == 1
  assert len(stderr.splitlines()) == 1
  assert stderr.startswith(f'analysis.{name}: error: ')


@pytest.mark.parametrize('name', [*EACH, *JOINT, 'table'])
def test_no_run_is_one_line(tmp_path, name):
  code, _, stderr = builders.analyse(name, f'--run_dir={tmp_path}/none')
  assert code == 1
  assert len(stderr.splitlines()) == 1
  assert 'is no run directory' in stderr


def test_a_plain_autoencoder_has_what_needs_no_rate(tmp_path):
  run = tmp_path / 'run'
  builders.write_run(
    run, {'effective_beta': None}, posterior='deterministic', latent_size=2
  )
  for name in (records.EVAL, records.RATE_PER_LATENT):
    records.write_table(run, name)
  for name in ('samples', 'latent_grid'):
    (run / records.ARRAYS / f'{name}.npz').unlink()
  drawn = ('loss_curves', 'reconstructions', 'traversals', 'manifold')
  for name in (*drawn, 'embedding'):
    code, _, stderr = builders.analyse(name, f'--run_dir={run}')
    assert code == 0, stderr
  for name, arguments, said in (
    ('samples', [], 'no prior to sample from'),
    ('rate_per_latent', [], 'its latents have no rate'),
    ('traversals', ['--grid'], 'none of its latents has the highest rate'),
    ('rate_distortion', [], 'no run has a rate and a distortion'),
  ):
    code, _, stderr = builders.analyse(name, f'--run_dir={run}', *arguments)
    assert code == 1 and said in stderr
    assert len(stderr.splitlines()) == 1


def test_a_table_has_no_images(tmp_path):
  run = tmp_path / 'run'
  dataset = {'name': 'wine', 'version': '1', 'source': '', 'shape': [12]}
  counts = {'num_images': {'train': 2}, 'sha256': {'train': '0'}}
  builders.write_run(run, {'dataset': dataset | counts})
  for name in ('reconstructions', 'samples', 'traversals', 'manifold'):
    code, _, stderr = builders.analyse(name, f'--run_dir={run}')
    assert code == 1
    assert 'was trained on a table (wine), which has no images' in stderr


@pytest.mark.parametrize(
  ('settings', 'said'),
  [
    ({}, ''),
    (
      {'prior': 'mixture'},
      'Of the KL from N(0, 1), which is not the prior',
    ),
    (
      {'posterior': 'full_covariance'},
      "Of each latent's marginal: the rate of all is more than the sum",
    ),
  ],
)
def test_rates_of_latents_that_are_no_parts_of_the_runs_say_so(
  tmp_path, settings, said
):
  builders.write_run(tmp_path / 'run', **settings)
  caption = rate_per_latent.plot(tmp_path / 'run').labels.caption
  caption = ' '.join(caption.split())
  assert caption.endswith(f' than 0.01. {said}.' if said else ' than 0.01.')


@pytest.mark.parametrize('latents', [1, 64])
def test_few_and_many_latents_are_drawn(tmp_path, latents):
  run = tmp_path / 'run'
  builders.write_run(run, latent_size=latents)
  for arguments in (
    ('traversals',),
    ('traversals', '--grid'),
    ('embedding',),
    ('rate_per_latent',),
  ):
    code, _, stderr = builders.analyse(
      arguments[0], f'--run_dir={run}', '--format=png', *arguments[1:]
    )
    assert code == 0, stderr
  code, _, stderr = builders.analyse('manifold', f'--run_dir={run}')
  assert code == 1
  assert re.search(rf'has {latents} latents; .* over two', stderr)


def test_chosen_images_are_drawn(run):
  base = (f'--run_dir={run}', '--format=png', f'--output={run}/x')
  assert builders.analyse('reconstructions', *base, '--index=3')[0] == 0
  one = png(run / 'x.png').size
  builders.analyse('reconstructions', *base, '--index=3', '--index=0')
  assert png(run / 'x.png').size != one
  for name in ('reconstructions', 'traversals'):
    code, _, stderr = builders.analyse(name, *base, '--index=64')
    assert code == 1 and '--index=64' in stderr


def test_traversals_come_by_rate_and_around_the_image(run):
  arrays = records.read_arrays(run, 'traversals')
  loaded = frames.read_runs([str(run)]).runs[0]
  for index in (0, 3):
    frame = traversals.read_frame(loaded, [index])
    assert frame['latent'].tolist() == [1] * 5 + [0] * 5
    assert frame['rate_nats'].unique().tolist() == [4.0, 0.0]
    assert frame['active'].tolist() == [True] * 5 + [False] * 5
    np.testing.assert_array_equal(
      np.stack(list(frame['image'][:5])), arrays['means'][index, 1]
    )


def test_the_images_that_were_asked_for_are_drawn_and_others_named(run):
  arrays = records.read_arrays(run, 'traversals')
  arrays['indices'] = np.array([0, 3, 8, 9])
  arrays.pop('step')
  records.write_arrays(run, 'traversals', 4, arrays)
  manifest = records.read_manifest(run)
  counts = manifest['dataset']['num_images'] | {'test': 10}
  manifest['dataset']['num_images'] = counts
  records.write_manifest(run, manifest)
  loaded = frames.read_runs([str(run)]).runs[0]
  frame = traversals.read_frame(loaded, [9, 3])
  assert frame['index'].tolist() == [9] * 10 + [3] * 10
  for place, rows in zip((3, 1), (frame[:10], frame[10:]), strict=True):
    np.testing.assert_array_equal(
      np.stack([*rows['image']]),
      arrays['means'][place][[1, 0]].reshape(10, 6, 6, 1),
    )
    np.testing.assert_array_equal(
      rows['source'].iloc[0], arrays['images'][place]
    )
    assert rows['code'].unique().tolist() == [
      *arrays['codes'][place][[1, 0]].astype('f4')
    ]
  command = ('traversals', f'--run_dir={run}', '--format=png')
  code, _, stderr = builders.analyse(*command, '--index=3,4,5')
  assert code == 1 and len(stderr.splitlines()) == 1
  assert f'launch.evaluate --run_dir={run} --index=4,5 adds them' in stderr
  # Older arrays are of the first images.
  for name in ('indices', 'images', 'codes'):
    arrays.pop(name)
  records.write_arrays(run, 'traversals', 4, arrays)
  frame = traversals.read_frame(loaded, [1])
  np.testing.assert_array_equal(
    frame['image'].iloc[0], arrays['means'][1, 1, 0]
  )
  assert builders.analyse(*command, '--index=1,2')[0] == 0


def test_what_is_nearest_to_the_code_is_framed(monkeypatch):
  frame = pd.DataFrame(
    [
      {
        'index': index,
        'latent': latent,
        'rate_nats': 1.0,
        'active': latent < 2,
        'value': value,
        'image': np.full((4, 4, 1), value / 9),
        'source': np.zeros((4, 4, 1)),
        'code': code,
        'shown': 'mean',
      }
      for index, codes in ((5, (0.6, 9.0, 0.0)), (7, (-4.0, 1.4, 0.0)))
      for latent, code in enumerate(codes)
      for value in (0.0, 1.0, 2.0)
    ]
  )
  given = {}

  def plot_images(images, page, title, **arguments):
    given.update(arguments, images=images)

  monkeypatch.setattr(grids, 'plot_images', plot_images)
  traversals.plot_traversals(frame)
  assert given['marked'] == [(1, 1), (2, 2), (4, 0), (5, 1)]
  assert given['rows'] == [
    *('image 5', 'z0 (1.00)', 'z1 (1.00)'),
    *('image 7', 'z0 (1.00)', 'z1 (1.00)'),
  ]
  np.testing.assert_array_equal(given['images'][3, 0], frame['source'].iloc[0])
  assert '1 latent that does nothing left out' in given['caption']


@pytest.mark.parametrize('width, count', [('double', 13), ('single', 7)])
def test_a_single_column_has_fewer_values(monkeypatch, width, count):
  values = np.linspace(-3, 3, 13)
  frame = pd.DataFrame(
    {
      'index': 0,
      'latent': 0,
      'rate_nats': 1.0,
      'active': True,
      'value': values,
      'image': [np.full((4, 4, 1), value) for value in values],
      'shown': 'mean',
    }
  )
  given = {}
  monkeypatch.setattr(
    grids, 'plot_images', lambda *_, **arguments: given.update(arguments)
  )
  page = figures.STYLES['paper'][width]
  traversals.plot_traversals(frame, page=page)
  assert given['columns'][:: count // 2] == ['−3.0', '0.0', '3.0']
  assert len(given['columns']) == count


def test_traversals_lie_at_quantiles_too(run):
  arrays = records.read_arrays(run, 'traversals')
  loaded = frames.read_runs([str(run)]).runs[0]
  frame = traversals.read_frame(loaded, [2], 'quantiles')
  assert frame['latent'].tolist() == [1] * 3 + [0] * 3
  assert frame['value'].tolist() == [3, 4, 5, 0, 1, 2]
  assert frame['quantile'].tolist() == [0.1, 0.5, 0.9] * 2
  np.testing.assert_array_equal(
    np.stack(list(frame['image'][:3])), arrays['quantile_means'][2, 1]
  )
  command = ('traversals', f'--run_dir={run}', '--format=png')
  assert builders.analyse(*command)[0] == 0
  even = png(run / 'figures/traversals.png').size
  assert builders.analyse(*command, '--columns=quantiles')[0] == 0
  assert png(run / 'figures/traversals.png').size != even


READERS = {
  'manifold': manifold.read_frame,
  'reconstructions': reconstructions.read_frame,
  'by_factor': reconstructions.read_factor_frame,
  'samples': samples.read_frame,
  'traversals': traversals.read_frame,
  'latent_grid': traversals.read_grid_frame,
}


@pytest.mark.parametrize(
  'plot',
  [
    reconstructions.plot,
    samples.plot,
    manifold.plot,
    traversals.plot,
    functools.partial(reconstructions.plot, by_factor=True),
    functools.partial(traversals.plot, columns='quantiles'),
    functools.partial(traversals.plot, grid=True),
  ],
)
def test_a_figure_says_what_of_the_decoder_it_shows(run, plot):
  figure = plot(run, show='sample').draw()
  texts = figure.findobj(matplotlib.text.Text)
  words = ' '.join(' '.join(text.get_text() for text in texts).split())
  figures.close(figure)
  assert 'decoder sample' in words and 'decoder mean' not in words


@pytest.mark.parametrize('name', READERS)
def test_what_is_shown_is_what_was_asked_for(run, name):
  loaded, read = frames.read_runs([str(run)]).runs[0], READERS[name]
  arrays = records.read_arrays(run, name)
  for show in records.SHOWN:
    frame, kept = read(loaded, show=show), arrays[f'{show}s']
    if name == 'traversals':
      kept = kept[0][frame['latent'].unique()]
    np.testing.assert_array_equal(
      np.stack(list(frame[show if 'truth' in frame else 'image'])),
      kept.reshape(-1, 6, 6, 1),
    )
  arrays.pop('step')
  others = {k: v for k, v in arrays.items() if k[:-1] not in records.SHOWN}
  old = others | {'modes': arrays['modes']}
  records.write_arrays(run, name, 4, old)
  with pytest.raises(records.RecordError, match=r'launch\.evaluate --run_dir='):
    read(loaded)
  assert len(read(loaded, show='mode'))
  records.write_arrays(run, name, 4, old | {'means': arrays['means']})
  with pytest.raises(
    figures.FigureError, match='--show=sample: the likelihood'
  ):
    read(loaded, show='sample')


def test_a_run_that_kept_no_quantiles_says_so(run):
  arrays = records.read_arrays(run, 'traversals')
  kept = {key: arrays[key] for key in ('values', 'means')}
  records.write_arrays(run, 'traversals', 4, kept)
  command = ('traversals', f'--run_dir={run}', '--format=png')
  assert builders.analyse(*command)[0] == 0
  code, _, stderr = builders.analyse(*command, '--columns=quantiles')
  assert code == 1 and len(stderr.splitlines()) == 1
  assert 'lacks quantile_values, quantiles' in stderr
  assert f'python -m launch.evaluate --run_dir={run}' in stderr


@pytest.mark.parametrize('columns', traversals.COLUMNS)
def test_traversals_that_do_not_fit_are_refused(run, columns):
  arrays = records.read_arrays(run, 'traversals')
  arrays.pop('step')
  for name in ('values', 'quantiles'):
    arrays[name] = arrays[name][1:]
  records.write_arrays(run, 'traversals', 4, arrays)
  code, _, stderr = builders.analyse(
    'traversals', f'--run_dir={run}', f'--columns={columns}'
  )
  assert code == 1 and 'traversals.npz is damaged' in stderr


def test_unknown_settings_and_metrics_are_refused(run):
  for name, flag, said in (
    ('loss_curves', '--color=colour', 'colour is no setting'),
    ('sweep', '--x=colour', 'colour is no setting'),
    ('sweep', '--metric=accuracy', 'there are: elbo_nats'),
  ):
    code, _, stderr = builders.analyse(name, f'--run_dir={run}', flag)
    assert code == 1 and said in stderr


def test_runs_whose_units_differ_are_refused(tmp_path):
  builders.write_run(tmp_path / 'r0')
  builders.write_run(tmp_path / 'r1', reduction='sum')
  code, _, stderr = builders.analyse('loss_curves', f'--run_dir={tmp_path}/r*')
  assert code == 1 and 'different units' in stderr


# -- Embeddings ---------------------------------------------------------------


def test_embeddings_are_kept_until_their_latents_change(run):
  path = run / records.ARRAYS / 'embedding.npz'
  kept = path.read_bytes()
  code, _, stderr = builders.analyse('embedding', f'--run_dir={run}')
  assert (code, stderr) == (0, '') and path.read_bytes() == kept
  arrays = records.read_arrays(run, 'latents')
  arrays.pop('step')
  arrays['means'] = arrays['means'][::-1]
  records.write_arrays(run, 'latents', 5, arrays)
  code, _, stderr = builders.analyse('embedding', f'--run_dir={run}')
  assert code == 0 and 't-SNE of 40 images' in stderr
  written = records.read_arrays(run, 'embedding')
  np.testing.assert_array_equal(
    written['latents'], embedding.tsne(arrays['means'])
  )


def test_labels_have_the_names_of_the_data_set(run):
  assert set(
    embedding.read_frame(frames.read_runs([str(run)]).runs[0])['label']
  ) == {*map(str, range(10))}
  manifest = records.read_manifest(run)
  names = [f'class {letter}' for letter in 'abcdefghij']
  manifest['dataset']['label_names'] = names
  records.write_manifest(run, manifest)
  frame = embedding.read_frame(frames.read_runs([str(run)]).runs[0])
  assert set(frame['label']) == {*names}
  labels = records.read_arrays(run, 'latents')['labels']
  assert list(frame['label'][:40]) == [names[label] for label in labels]
  manifest['dataset']['label_names'] = ['too', 'few']
  records.write_manifest(run, manifest)
  assert set(
    embedding.read_frame(frames.read_runs([str(run)]).runs[0])['label']
  ) == {*map(str, range(10))}


def test_values_of_factors_have_the_names_of_the_data_set(run):
  arrays = records.read_arrays(run, 'latents')
  arrays.pop('step')
  shapes = np.arange(len(arrays['means'])) % 3
  arrays['factors'] = np.stack([shapes, shapes + 5], axis=-1)
  records.write_arrays(run, 'latents', 5, arrays)
  manifest = records.read_manifest(run)
  names = ['square', 'ellipse', 'heart']
  manifest['dataset'] |= {
    'factors': [['shape', 3], ['x', 8]],
    'value_names': {'shape': names},
  }
  records.write_manifest(run, manifest)
  for factor, expected in (
    ('shape', [names[shape] for shape in shapes]),
    ('x', [str(shape + 5) for shape in shapes]),
  ):
    frame = embedding.read_frame(
      frames.read_runs([str(run)]).runs[0], color=factor
    )
    assert list(frame['label'][: len(shapes)]) == expected
  # What has no labels is coloured by its first factor.
  assert embedding.plot(run).labels.color == 'label'
  del arrays['labels']
  records.write_arrays(run, 'latents', 5, arrays)
  plot = embedding.plot(run)
  assert set(plot.data['color']) == {'shape'}
  assert plot.labels.color == 'shape' and set(plot.data['label']) == {*names}


def test_the_first_of_a_large_test_split_are_embedded(run):
  arrays = records.read_arrays(run, 'latents')
  arrays.pop('step')
  arrays['pixels_pca'] = arrays['pixels_pca'][:30]
  records.write_arrays(run, 'latents', 5, arrays)
  code, _, stderr = builders.analyse('embedding', f'--run_dir={run}')
  assert code == 0 and 't-SNE of 30 images' in stderr


def test_tsne_repeats_and_keeps_neighbours():
  centres = np.random.default_rng(0).normal(scale=20, size=(4, 7))
  points = np.repeat(centres, 25, 0)
  points += np.random.default_rng(1).normal(size=points.shape)
  result = embedding.tsne(points)
  np.testing.assert_array_equal(result, embedding.tsne(points))
  distances = np.linalg.norm(result[:, None] - result[None], axis=-1)
  np.fill_diagonal(distances, np.inf)
  assert (distances.argmin(1) // 25 == np.arange(100) // 25).all()


@pytest.mark.parametrize(('few', 'expected'), [(100, 1), (99, 2)])
def test_few_points_are_embedded_by_one_thread(monkeypatch, few, expected):
  points = np.random.default_rng(0).normal(size=(100, 3))
  monkeypatch.setattr(embedding, '_FEW', few)
  threads = []

  def fit(method, points):
    pools = threadpoolctl.threadpool_info()
    threads.extend(p['num_threads'] for p in pools if p['user_api'] == 'openmp')
    return points

  monkeypatch.setattr(sklearn.manifold.TSNE, 'fit_transform', fit)
  with threadpoolctl.threadpool_limits(2, user_api='openmp'):
    embedding.tsne(points)
  assert set(threads) == {expected}


def test_an_embedding_is_coloured_by_any_factor(run):
  arrays = records.read_arrays(run, 'latents')
  factors = np.stack([np.arange(40) % 3, np.arange(40)], axis=1)
  records.write_arrays(
    run, 'latents', arrays.pop('step'), arrays | {'factors': factors}
  )
  manifest = records.read_manifest(run)
  manifest['dataset']['factors'] = [['shape', 3], ['x', 40]]
  records.write_manifest(run, manifest)
  (loaded,) = frames.read_runs([str(run)]).runs
  few, many = (embedding.read_frame(loaded, name) for name in ('shape', 'x'))
  assert few['label'][:4].tolist() == ['0', '1', '2', '0']
  assert frames.levels(many['label']) == [*map(str, range(40))]
  assert many['label'][:40].tolist() == [*map(str, range(40))]
  with pytest.raises(figures.FigureError, match='there are: shape, x'):
    embedding.read_frame(loaded, 'y')


def test_labels_stand_among_their_own_points_and_apart():
  generator = np.random.default_rng(0)
  # Two heaps of `far`, with nothing between them, and two labels at one place.
  centres = {'far': [-4, 0], 'one': [0, 0], 'other': [0, 0], 'right': [4, 0]}
  frame = pd.concat(
    pd.DataFrame({'label': label, 'x': x, 'y': y + 0.1 * noise, 'panel': 'p'})
    for label, (x, y) in centres.items()
    for noise in [generator.normal(size=300)]
  )
  frame.loc[frame['label'] == 'far', 'y'] += np.arange(300) % 2 * 6 - 3
  frame['x'] += 0.1 * generator.normal(size=len(frame))
  frame['panel'] = frame['panel'].astype('category')
  page = figures.DOUBLE_COLUMN
  corners = embedding._corners(frame, 1.0)
  names = embedding._names(frame, corners, 2.0, page).set_index('label')
  assert {*names.index} == {*centres}
  far = names.loc['far']
  assert abs(far['x'] + 4) < 0.5 and abs(abs(far['y']) - 3) < 0.5
  inch = np.ptp(corners['x']) / 1.8
  gap = names.loc['one', ['x', 'y']] - names.loc['other', ['x', 'y']]
  width = figures.text_width('other', page, 7) * inch
  assert abs(gap['y']) > 0.14 * inch or abs(gap['x']) > 0.9 * width


@pytest.mark.parametrize('shape', [(2, 3), (5, 1), (20, 2)])
@pytest.mark.parametrize('point', [0.0, 0.1])
def test_collapsed_latents_have_an_embedding(shape, point):
  points = np.broadcast_to(point * np.arange(shape[1]), shape)
  assert np.isfinite(embedding.tsne(points)).all()


# -- Sweeps -------------------------------------------------------------------


def test_the_frontier_needs_seeds_and_betas_only(tmp_path):
  for seed in (0, 1):
    for beta in (0.5, 2.0):
      builders.write_run(
        tmp_path / f'{beta}-{seed}', beta=beta, seed=seed, latent_size=5
      )
  runs = frames.read_runs([str(tmp_path / '*')])
  frame = rate_distortion.read_frame(runs)
  assert frame['series'].tolist() == [''] * 4
  assert frame['effective_beta'].tolist() == [0.5, 0.5, 2.0, 2.0]


@pytest.mark.parametrize(
  ('betas', 'said'),
  [
    ((0.5, 2.0), 'Numbers at points: effective beta. Dashed'),
    ((0.5, 0.5), 'At effective beta 0.5. Dashed'),
    ((None, None), 'Dashed'),
    ((0.5, None), 'Numbers at points: effective beta, where there is one. D'),
  ],
)
def test_the_frontier_speaks_of_an_effective_beta_where_one_is(
  tmp_path, betas, said
):
  for seed, beta in enumerate(betas):
    builders.write_run(
      tmp_path / str(seed), {'effective_beta': beta}, seed=seed
    )
  runs = frames.read_runs([str(tmp_path / '*')])
  frame = rate_distortion.read_frame(runs)
  plot = rate_distortion.plot_rate_distortion(frame)
  assert ' '.join(plot.labels.caption.split()).startswith(said)


def test_a_sweep_is_drawn_with_its_failures(tmp_path):
  folder = test_frames.write_sweep(tmp_path / 'sweep')
  frame = sweep.read_frame(frames.read_sweep(folder), 'beta', 'elbo_nats')
  assert frame['status'].tolist() == ['finished', 'finished', 'failed']
  builders.write_terms(folder / 'beta=1/seed=0')  # The others have none.
  for name in JOINT:
    code, stdout, stderr = builders.analyse(
      name, f'--sweep_dir={folder}', '--format=png'
    )
    assert code == 0, stderr
    assert stdout.strip() == str(folder / 'figures' / f'{name}.png')
  code, stdout, _ = builders.analyse('table', f'--sweep_dir={folder}')
  assert code == 0 and '1 failed' in stdout
  code, _, stderr = builders.analyse(
    'sweep', f'--sweep_dir={folder}', f'--run_dir={folder}'
  )
  assert code == 1 and 'give one of' in stderr


# -- In Python ----------------------------------------------------------------


class Held:
  """Anything that has the folder of a run as its path, as `runs.load` gives."""

  def __init__(self, path):
    self.path = path


@pytest.mark.parametrize(
  'name',
  [
    path.stem
    for path in sorted((conftest.ROOT / 'analysis').glob('*.py'))
    if '\nFIGURE = ' in path.read_text()
  ],
)
def test_every_figure_is_plotted_by_one_call(name):
  module = importlib.import_module(f'analysis.{name}')
  assert module.plot == module.FIGURE.plot


def test_a_call_draws_what_the_command_does(run, tmp_path):
  code, _, stderr = builders.analyse(
    'traversals', f'--run_dir={run}', '--index=1', '--width=single'
  )
  assert code == 0, stderr
  plot = traversals.plot(Held(run), index=1, width='single')
  assert isinstance(plot, gg.ggplot)
  figures.save(plot, tmp_path / 'plot', ['png'], 'test')
  drawn = [run / 'figures/traversals.png', tmp_path / 'plot.png']
  ours, theirs = (np.asarray(PIL.Image.open(path)) for path in drawn)
  np.testing.assert_array_equal(ours, theirs)


def test_a_call_takes_runs_in_every_form(run, tmp_path):
  other = tmp_path / 'other'
  builders.write_run(other, latent_size=3)
  for given in ([run, other], [Held(run), str(other)], [[run, Held(other)]]):
    plot = loss_curves.plot(*given, color='latent_size')
    assert sorted(plot.data['latent_size'].unique()) == ['2', '3']
  moved, grid = (traversals.plot(run, grid=grid) for grid in (False, True))
  assert moved.labels.x.startswith('value of the latent')
  assert grid.labels.x.startswith('latent ')
  assert traversals.plot(run, grid=False, title='mine').labels.title == 'mine'


def test_a_call_takes_a_sweep(tmp_path):
  folder = tmp_path / 'sweep'
  test_frames.write_sweep(folder)
  plot = sweep.plot(folder, x='beta', metric='elbo_nats')
  same = sweep.plot(sweep_dir=folder, x='beta', metric='elbo_nats')
  assert len(plot.data) == len(same.data) > 1


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda run: traversals.plot(run, inndex=1), 'unrecognized arg.*inndex'),
    (lambda run: traversals.plot(run, index='x'), 'must be a whole number'),
    (lambda run: traversals.plot(run, columns='odd'), 'must be one of'),
    (lambda run: traversals.plot(run, index=[1, 99]), '--index=99'),
    (lambda run: traversals.plot(run, run), 'RUN'),
    (lambda run: traversals.plot([run, run.parent / 'b']), 'one run at a time'),
    (lambda run: traversals.plot(3), '3 is no run'),
    (lambda run: traversals.plot('nowhere'), 'nowhere is no run directory'),
    (lambda run: traversals.plot(run, output='x'), 'has a `save`'),
    (lambda run: loss_curves.plot(run, color='odd'), 'odd is no setting'),
  ],
  ids=range(10),
)
def test_a_call_that_cannot_be_is_an_exception(run, call, words):
  if words == 'RUN':  # Twice the same run is that run.
    assert call(run)
    return
  builders.write_run(run.parent / 'b')
  with pytest.raises(ValueError, match=words):
    call(run)


def played(content):
  """Every picture of a GIF, in its order, and the GIF's own notes."""
  with PIL.Image.open(io.BytesIO(content)) as gif:
    pictures = [
      np.asarray(frame.convert('RGB'), int)
      for frame in PIL.ImageSequence.Iterator(gif)
    ]
    return pictures, gif.info


def placed(picture, image, scale):
  """The corner at which a picture shows an image, each pixel as a square."""
  wanted = grids.canvas(image[None, None]).repeat(scale, 0).repeat(scale, 1)
  height, width, _ = wanted.shape
  # Its first row is looked for alone at first.
  rows = np.lib.stride_tricks.sliding_window_view(picture, (1, width, 3))
  for y, x in np.argwhere((rows[:, :, 0, 0] == wanted[0]).all((-1, -2))):
    if (picture[y : y + height, x : x + width] == wanted).all():
      return y, x
  return None


def test_a_gif_shows_what_is_kept_to_and_fro(tmp_path):
  run = tmp_path / 'run'
  builders.write_run(run, latent_size=3)
  command = ('traversals', f'--run_dir={run}', '--index=1,2')
  code, stdout, stderr = builders.analyse(*command, '--format=gif')
  assert code == 0, stderr
  path = run / 'figures/traversals.gif'
  assert stdout.strip() == str(path)
  content = path.read_bytes()
  pictures, notes = played(content)
  assert notes['loop'] == 0 and notes['duration'] > 0
  for part in (b'run run', b'commit c0ffee', b'analysis.traversals --run_dir'):
    assert part in notes['comment']
  arrays = records.read_arrays(run, 'traversals')
  # A picture a value, and the same way back without either end.
  assert len(pictures) == 2 * (len(arrays['values']) - 1) == 8
  for there, back in ((1, 7), (2, 6), (3, 5)):
    np.testing.assert_array_equal(pictures[there], pictures[back])
  scale = 150 // 6
  corners = []
  for column, picture in enumerate(pictures[:5]):
    corners.append(
      [
        placed(picture, image, scale)
        for index in (1, 2)
        for image in (
          arrays['images'][index],
          # Those that are active, in the order of their rates.
          *arrays['means'][index, [2, 1], column],
        )
      ]
    )
    assert None not in corners[-1] and corners[-1] == corners[0]
  rows, columns = np.transpose(corners[0])
  assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4] == rows[5]
  assert columns[0] < columns[1] < columns[2] and columns[3] == columns[0]
  assert builders.analyse(*command, '--format=gif')[0] == 0
  assert path.read_bytes() == content
  narrow = (*command, '--format=gif,png', '--width=single', '--show=mode')
  code, stdout, _ = builders.analyse(*narrow)
  assert code == 0 and stdout.split() == [
    str(path.with_suffix('.png')),
    str(path),
  ]
  assert len(played(path.read_bytes())[0]) == 8
  assert path.read_bytes() != content


def test_a_gif_of_a_call_is_the_commands(run):
  assert (
    builders.analyse('traversals', f'--run_dir={run}', '--format=gif')[0] == 0
  )
  moving = traversals.animate(run)
  pictures, _ = played((run / 'figures/traversals.gif').read_bytes())
  for ours, theirs in zip(moving.pictures, pictures[:5], strict=True):
    np.testing.assert_array_equal(ours, theirs)
  shown = moving._repr_mimebundle_()['image/gif']
  assert base64.b64decode(shown) == moving.gif()
  with pytest.raises(figures.FigureError, match='has a `gif`'):
    traversals.animate(run, format='gif')


def test_colours_of_a_gif_are_near_those_of_the_images():
  generator = np.random.default_rng(0)
  ends = generator.random((1, 6, 2, 1, 1, 3))
  shares = np.linspace(0, 1, 5 * 64).reshape(5, 1, 1, 8, 8, 1)
  images = ends[:, :, :1] * shares + ends[:, :, 1:] * (1 - shares)
  images[3, 2] = [1.0, 0.0, 0.0]  # Rare, and like nothing else.
  drawn = animation.draw(images, [['']] * 6, ['now'] * 5, figures.SINGLE_COLUMN)
  pictures, _ = played(drawn.gif())
  wrong = np.abs(np.subtract(pictures[:5], drawn.pictures))
  assert 0 < wrong.max() <= 32 and wrong.mean() < 3
  assert (drawn.pictures == [255, 0, 0]).all(-1)[3].sum() > 1000
  red = np.asarray(pictures)[3][(drawn.pictures == [255, 0, 0]).all(-1)[3]]
  assert np.abs(red - [255, 0, 0]).max() <= 8


@pytest.mark.parametrize(
  ('name', 'flags', 'figure'),
  [
    ('sweep', (), 'sweep'),
    ('samples', (), 'samples'),
    ('traversals', ('--grid',), 'latent_grid'),
  ],
)
def test_figures_that_stand_still_are_no_gif(run, name, flags, figure):
  code, stdout, stderr = builders.analyse(
    name, f'--run_dir={run}', '--format=png,gif', *flags
  )
  assert (code, stdout) == (1, '') and not (run / 'figures').exists()
  assert stderr == (
    f'analysis.{name}: error: --format=gif: {figure} stands still; what '
    'moves: traversals\n'
  )


@pytest.fixture
def pair(tmp_path):
  """Two runs of the same test images, with other numbers of active latents."""
  for name, latents in (('a', 3), ('b', 6)):
    builders.write_run(tmp_path / name, latent_size=latents)
  return tmp_path


def test_runs_are_beside_each_other_at_the_same_values(pair, monkeypatch):
  for run in (pair / 'a', pair / 'b'):
    arrays = records.read_arrays(run, 'traversals')
    arrays.pop('step')
    arrays['values'] = np.linspace(-3, 3, 13)
    for kind in ('means', 'modes', 'samples'):
      arrays[kind] = np.concatenate([arrays[kind]] * 3, axis=2)[:, :, :13]
    records.write_arrays(run, 'traversals', 4, arrays)
  given = {}

  def plot_blocks(blocks, page, title, x, y, columns, caption):
    given.update(blocks=blocks, title=title, y=y)
    given.update(columns=columns, caption=caption)

  monkeypatch.setattr(grids, 'plot_blocks', plot_blocks)
  traversals.plot(pair / 'a', pair / 'b', side_by_side=True, index=[3, 1])
  one, other = given['blocks']
  assert (one.name, other.name) == ('latent size 3', 'latent size 6')
  assert given['columns'] == [
    '−3.0',
    '−2.0',
    '−1.0',
    '0.0',
    '1.0',
    '2.0',
    '3.0',
  ]
  # Each in the order of its own rates; images at the same height.
  assert one.rows == [
    *('image 3', 'z2 (8.00)', 'z1 (4.00)', '', ''),
    *('image 1', 'z2 (8.00)', 'z1 (4.00)'),
  ]
  assert other.rows == [
    *('image 3', 'z2 (8.00)', 'z5 (8.00)', 'z1 (4.00)', 'z4 (4.00)'),
    *('image 1', 'z2 (8.00)', 'z5 (8.00)', 'z1 (4.00)', 'z4 (4.00)'),
  ]
  assert one.note == '1 latent that does nothing left out'
  assert other.note == '2 latents that do nothing left out'
  for run, block, latent, row in (('a', one, 1, 7), ('b', other, 5, 7)):
    means = records.read_arrays(pair / run, 'traversals')['means']
    np.testing.assert_array_equal(block.images[row], means[1, latent, ::2])
  assert (one.images[3:5] == 1).all()
  assert 'at most 0.01' in given['caption']
  assert given['y'] == 'latent (its rate, nats)'
  assert given['title'] == 'MNIST, 2 runs over latent size'


def test_runs_side_by_side_are_one_figure(pair):
  command = ('traversals', f'--run_dir={pair}/a', f'--run_dir={pair}/b')
  code, stdout, stderr = builders.analyse(
    *command, '--side_by_side', '--format=png', '--columns=quantiles'
  )
  assert code == 0, stderr
  path = pair / 'figures/traversals_side_by_side.png'
  assert stdout.strip() == str(path)
  dpi, _ = png(path).info['dpi']
  assert png(path).width < 6.9 * dpi + 2
  description = png(path).text['Description']
  assert 'run a, b; commit c0ffee' in description


def test_runs_that_differ_in_their_seed_are_named_by_it(tmp_path):
  for seed in (0, 1):
    builders.write_run(tmp_path / f'{seed}', seed=seed)
  runs = frames.read_runs([str(tmp_path / '*')])
  frame = traversals.read_side_by_side(runs)
  assert frame['name'].unique().tolist() == ['seed 0', 'seed 1']


def test_runs_side_by_side_are_in_the_order_of_their_settings(tmp_path):
  for beta in (1.0, 16.0, 4.0):
    builders.write_run(tmp_path / f'{beta:g}', beta=beta)
  runs = frames.read_runs([str(tmp_path / '*')])
  frame = traversals.read_side_by_side(runs)
  assert frame['name'].unique().tolist() == ['beta 1', 'beta 4', 'beta 16']


@pytest.mark.parametrize(
  ('change', 'flags', 'words'),
  [
    ({'images': lambda images: 1 - images}, (), 'the test images of'),
    ({'values': lambda values: values / 2}, (), 'the values of'),
    ({'indices': lambda indices: indices + 5}, (), 'keeps no traversals of'),
    ({'images': None}, (), 'keeps no images of its traversals'),
    ({}, ('--grid',), 'give one of --grid and --side_by_side'),
    ({}, ('--format=gif',), 'traversals_side_by_side stands still'),
    ({}, ('--run_dir=',), '--side_by_side compares several runs'),
  ],
  ids=range(7),
)
def test_runs_that_cannot_be_compared_are_refused(pair, change, flags, words):
  arrays = records.read_arrays(pair / 'b', 'traversals')
  arrays.pop('step')
  for name, function in change.items():
    if function:
      arrays[name] = function(arrays[name])
    else:
      del arrays[name]
  records.write_arrays(pair / 'b', 'traversals', 4, arrays)
  which = ('a', 'b')
  if flags == ('--run_dir=',):
    which, flags = ('a',), ()
  code, stdout, stderr = builders.analyse(
    'traversals',
    *(f'--run_dir={pair / name}' for name in which),
    '--side_by_side',
    *flags,
  )
  assert (code, stdout) == (1, '') and len(stderr.splitlines()) == 1
  assert words in stderr


@pytest.mark.parametrize(
  ('count', 'kept'),
  [
    (13, [0, 2, 4, 6, 8, 10, 12]),
    (7, range(7)),
    (10, [0, 3, 6, 9]),
    (1, [0]),
    (11, [0, 2, 4, 6, 8, 10]),
  ],
)
def test_fewer_values_are_as_many_on_either_side(count, kept):
  frame = pd.DataFrame({'value': np.arange(count)})
  assert traversals._thinned(frame)['value'].tolist() == [*kept]
