"""The page to look at a run with, in a real browser."""

import json
import math
import pathlib
import re
import shutil
import time
import types

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

from launch import explore, records, runs
from launch.experiment import build, signatures
from launch.page import content, graph, library, render
from launch.rundir import contents
from launch.settings import config as config_lib
from launch.settings import parts
from tests.launch import conftest
from vae import likelihoods, models, networks, priors
from vae.data import npm

LATENTS = 3
HOSTILE = '<script>alert(1)<%script%>"&'
KEPT = pathlib.Path(__file__).parents[1] / 'data' / 'run_format_1'


@pytest.fixture(scope='module')
def source(data_dir):
  if not shutil.which('npm'):
    pytest.skip('npm is not installed')
  return library.read(None, pathlib.Path(data_dir), lambda line: None)


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory, data_dir, source):
  """A run whose name tries to break out of its page, with its page."""
  path = tmp_path_factory.mktemp('explore') / HOSTILE
  result = conftest.call_train(
    *(f'--run_dir={path}', f'--data_dir={data_dir}', '--dataset=mnist_5k'),
    *('--hidden_sizes=4', f'--latent_size={LATENTS}', '--training_steps=8'),
    *('--jit=off', '--beta=0.02'),
  )
  assert result.code == 0, result.stderr
  result = call(path, data_dir)
  assert result.code == 0, result.stderr
  return path


def call(path, data_dir, *arguments):
  return conftest.call(
    explore.main, [f'--run_dir={path}', f'--data_dir={data_dir}', *arguments]
  )


def wait(window, condition):
  deadline = time.monotonic() + 60
  while not window.evaluate(condition):
    assert time.monotonic() < deadline, (condition, window.console())
    time.sleep(0.02)


def show(window, path):
  window.open(path)
  wait(window, '!!window.explore')


def decoded(window, code):
  return np.array(
    window.evaluate(f'Array.from(explore.decode({json.dumps(code)}))')
  )


# -- The decoder --------------------------------------------------------------


class Own(snt.Module):
  """A decoder as somebody writes it, with operations of other kinds."""

  def __init__(self):
    super().__init__()
    w_init = networks.Initializer('sonnet', 0)
    self._first = snt.Linear(16, w_init=w_init)
    self._second = snt.Linear(24, w_init=w_init)

  def __call__(self, latents):
    hidden = self._first(latents)
    hidden = tf.einsum('bi,bj->bij', hidden, tf.nn.softmax(hidden))
    hidden = self._second(snt.flatten(tf.nn.gelu(hidden, approximate=True)))
    hidden = tf.reshape(hidden, [-1, 4, 6, 1])
    return tf.image.resize(hidden, [8, 12], 'bilinear')


def _config(**settings):
  if settings.get('likelihood') == 'squared_error':
    settings |= {'objective': 'reconstruction', 'posterior': 'deterministic'}
  return config_lib.Config(
    hidden_sizes=(4,), channels=(4, 4), latent_size=LATENTS, **settings
  )


def _cases():
  for name in parts.find('decoder'):
    small = name in ('strided_conv', 'pooled_conv')
    shape = (28, 28, 1) if small else (32, 32, 3)
    yield name, {'encoder': 'mlp', 'decoder': name}, shape
  for name in parts.find('likelihood'):
    yield name, {'likelihood': name}, (5, 7, 3)
  for scale in ('global', 'per_output', 'optimal'):
    settings = {'likelihood': 'normal', 'likelihood_scale': scale}
    yield scale, settings, (5, 7, 1)


def _decoders():
  for name, settings, shape in _cases():
    yield name, build.model(_config(**settings), shape), shape
  own = models.VAE(
    lambda images: None,
    models.Decoder(Own(), likelihoods.Bernoulli([8, 12, 1])),
    priors.standard(LATENTS),
  )
  yield 'own', own, (8, 12, 1)


def test_every_decoder_gives_its_pixels_in_a_browser(window, run_dir, source):
  show(window, run_dir / records.EXPLORE)
  latents = np.linspace(-2, 2, 2 * LATENTS, dtype='f4').reshape(2, LATENTS)
  names = []
  for name, model, shape in _decoders():
    model.decode(tf.zeros([1, LATENTS]))  # Makes the variables of one's own.
    decode = signatures.of(model, shape, LATENTS)['decode']
    found = graph.decoder(decode, LATENTS, source)
    window.evaluate(f'explore.load({json.dumps(found)})')
    for code in latents:
      expected = model.decode(code[None]).mean().numpy().ravel()
      assert expected.size == np.prod(shape)
      np.testing.assert_allclose(
        decoded(window, code.tolist()), expected, atol=1e-5, err_msg=name
      )
    assert window.console() == [], name
    names.append(name)
  assert {*parts.find('decoder'), *parts.find('likelihood')} < {*names}


def test_what_the_library_does_not_do_is_said(source):
  def decode(latents):
    return {'mean': tf.linalg.det(tf.linalg.diag(latents))}

  with pytest.raises(graph.GraphError, match='uses MatrixDeterminant'):
    graph.decoder(decode, LATENTS, source)


# -- The page -----------------------------------------------------------------


def test_it_asks_for_nothing_and_shows_names_as_text(window, run_dir):
  path = run_dir / records.EXPLORE
  window.requests(), window.console()
  show(window, path)
  assert window.evaluate('document.querySelector("h1").textContent') == HOSTILE
  assert window.evaluate('document.title') == HOSTILE
  assert window.evaluate('document.scripts.length') == 3
  assert window.console() == []
  assert window.requests(path) == []
  # What is put into it later does not run, and asks for nothing either.
  window.evaluate(
    '(() => { const s = document.createElement("script");'
    's.textContent = "window.ran = 1"; document.body.append(s);'
    'new Image().src = "https://example.org/x.png"; })()'
  )
  assert window.evaluate('window.ran === undefined')
  assert len(window.console()) == 2


def test_it_is_small(run_dir):
  assert (run_dir / records.EXPLORE).stat().st_size < 2_500_000


def pixels(window):
  return window.evaluate('document.getElementById("decoded").toDataURL()')


def code(window):
  return window.evaluate('Array.from(explore.state.kept)')


def move(window, identity, value):
  window.evaluate(
    f'(() => {{ const e = document.getElementById("{identity}"); '
    f'e.value = {value}; e.dispatchEvent(new Event("input")); }})()'
  )


def click(window, identity):
  window.evaluate(f'document.getElementById("{identity}").click()')


def test_sliders_move_the_image_and_reset_brings_it_back(window, run_dir):
  show(window, run_dir / records.EXPLORE)
  labels = window.evaluate(
    '[...document.querySelectorAll(".slider input")].map('
    'i => [i.type, i.id, i.labels[0].textContent])'
  )
  table = records.read_rows(run_dir, records.RATE_PER_LATENT)
  rates = {row['latent']: float(row['rate_nats']) for row in table}
  active = {row['latent']: float(row['mean_variance']) > 0.01 for row in table}
  order = sorted(rates, key=lambda k: (not active[k], -rates[k]))
  assert labels == [
    ['range', f'latent-{k}', f'latent {k} {rates[k]:.2f} nats'] for k in order
  ]
  wait(window, 'document.getElementById("decoded").width == 28')
  first, before = pixels(window), code(window)
  move(window, f'latent-{order[0]}', 0.5)
  wait(window, f'document.getElementById("decoded").toDataURL() != "{first}"')
  after = code(window)
  assert [k for k in range(LATENTS) if before[k] != after[k]] == [int(order[0])]
  click(window, 'reset')
  wait(window, f'document.getElementById("decoded").toDataURL() == "{first}"')
  click(window, 'draw')
  assert code(window) != before
  text = window.evaluate('document.getElementById("source").textContent')
  assert text == 'a draw from the prior'


def test_interpolation_ends_at_two_reconstructions(window, run_dir, data_dir):
  run = runs.load(run_dir, data_dir)
  show(window, run_dir / records.EXPLORE)
  ends = window.evaluate('explore.ends')
  means = records.read_arrays(run_dir, 'latents')['means']
  for share, end in ((0, 'from'), (1, 'to')):
    move(window, 'between', share)
    assert code(window) == means[ends[end]].tolist()
    expected = run.model.decode(means[ends[end]][None]).mean()
    np.testing.assert_allclose(
      decoded(window, code(window)), expected.numpy().ravel(), atol=1e-5
    )


def test_pointing_at_the_map_decodes_and_a_click_keeps(window, run_dir):
  show(window, run_dir / records.EXPLORE)
  before = code(window)

  def point(kind):
    window.evaluate(
      '(() => { const m = document.getElementById("map"); '
      'const b = m.getBoundingClientRect(); m.dispatchEvent('
      f'new PointerEvent("{kind}", {{clientX: b.left + b.width / 4, '
      'clientY: b.top + b.height / 4})); })()'
    )

  point('pointermove')
  pointed = window.evaluate('Array.from(explore.state.pointed)')
  assert sum(a != b for a, b in zip(before, pointed, strict=True)) == 2
  point('pointerleave')
  assert code(window) == before
  point('pointerdown')
  assert code(window) == pytest.approx(pointed)


@pytest.mark.parametrize('width', [360, 768, 1280])
def test_it_fits_the_window(window, run_dir, width):
  window.narrow(width)
  show(window, run_dir / records.EXPLORE)
  assert window.evaluate('document.documentElement.scrollWidth') <= width


def test_it_says_what_the_run_is(window, run_dir):
  show(window, run_dir / records.EXPLORE)
  elbo = records.read_results(run_dir, records.read_manifest(run_dir))
  numbers = window.evaluate('document.getElementById("numbers").textContent')
  assert f'elbo −{-elbo["elbo_nats"]:.2f} ± ' in numbers
  facts = window.evaluate('document.getElementById("facts").textContent')
  assert 'effective beta' in facts and 'mnist_5k' in facts
  differing = window.evaluate(
    'document.getElementById("differing").textContent'
  )
  assert 'beta0.02' in differing and 'jit' not in differing


# -- The command --------------------------------------------------------------


def test_without_the_library_one_line_says_what_to_do(tmp_path, monkeypatch):
  monkeypatch.setattr(npm.shutil, 'which', lambda name: None)
  with pytest.raises(library.LibraryError) as error:
    library.read(None, tmp_path, lambda line: None)
  assert re.search(r'npm client is not installed.*--library', str(error.value))
  assert '\n' not in str(error.value)


def test_another_library_is_refused(run_dir, data_dir, tmp_path):
  other = tmp_path / library.FILE
  other.write_text('alert(1)')
  result = call(run_dir, data_dir, f'--library={other}')
  assert result.code == 1
  assert 'its SHA-256 differs' in result.stderr
  assert len(result.stderr.splitlines()) == 1


def test_a_table_is_refused():
  run = types.SimpleNamespace(
    manifest={'dataset': {'shape': [13]}},
    path='runs/a',
    config=types.SimpleNamespace(dataset='wine'),
  )
  with pytest.raises(
    content.ContentError, match=r'rows of shape \(13,\) \(wine'
  ):
    content.read(run)


def test_codes_of_other_weights_are_refused(run_dir, data_dir, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(run_dir, run)
  path = run / records.ARRAYS / 'latents.npz'
  arrays = {**np.load(path, allow_pickle=False)}
  np.savez(path, **arrays | {'step': 7})
  result = call(run, data_dir)
  assert result.code == 1
  assert 'is of step 7, the weights are of step 8' in result.stderr
  np.savez(path, **arrays | {'means': np.full_like(arrays['means'], np.inf)})
  assert 'latents that are not finite' in call(run, data_dir).stderr
  path.write_bytes(b'x')
  assert 'is damaged' in call(run, data_dir).stderr


def test_a_page_shows_no_number_that_does_not_exist(
  run_dir, data_dir, tmp_path
):
  run = tmp_path / 'run'
  shutil.copytree(run_dir, run)
  rows = records.read_rows(run, records.EVAL)
  for row in rows:
    if row['metric'] != 'rate_nats':
      row['value'] = ''
  records.write_table(run, records.EVAL, rows)
  numbers = content.read(runs.load(run, data_dir))['numbers']
  assert len(numbers) == 2 and numbers[0].startswith('rate ')
  rows = records.read_rows(run, records.RATE_PER_LATENT)
  rows[-1]['rate_nats'] = ''
  records.write_table(run, records.RATE_PER_LATENT, rows)
  with pytest.raises(records.RecordError, match='has no rows of step'):
    content.read(runs.load(run, data_dir))
  with pytest.raises(records.RecordError, match='a holds numbers that are no'):
    render.page({'name': 'a', 'values': [math.inf]}, '', '')


def test_a_link_is_not_written_through(run_dir, data_dir, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(run_dir, run)
  (tmp_path / 'mine').write_text('mine')
  (run / records.EXPLORE).unlink()
  (run / records.EXPLORE).symlink_to(tmp_path / 'mine')
  result = call(run, data_dir)
  assert result.code == 1 and 'is a symbolic link' in result.stderr
  assert (tmp_path / 'mine').read_text() == 'mine'


@pytest.mark.parametrize('is_ours', [True, False])
def test_overwriting_a_run_deletes_its_page_alone(tmp_path, is_ours):
  run = tmp_path / 'run'
  shutil.copytree(KEPT, run)
  mark = f'<meta content="{records.EXPLORED_BY}">' if is_ours else 'notes'
  (run / records.EXPLORE).write_text(mark)
  contents.clear(run)
  assert (run / records.EXPLORE).exists() != is_ours
