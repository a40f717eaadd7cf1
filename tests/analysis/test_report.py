import base64
import html.parser
import io
import itertools
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse

import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest

from analysis import animation, frames, report, traversals
from launch import records
from tests.analysis import builders, test_frames
from tests.launch import conftest


class Page(html.parser.HTMLParser):
  """The tags of a page with their attributes, and its text."""

  def __init__(self, path):
    super().__init__()
    self.tags = []
    self.text = ''
    self.source = path.read_text()
    self.feed(self.source)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text += data

  def all(self, *names):
    return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope='module')
def one_run(tmp_path_factory):
  """The page of a run whose dataset tries to break out of it."""
  run = tmp_path_factory.mktemp('one') / 'run'
  name = '<script>alert(1)</script> "Zürich" & β'
  builders.write_run(run, seed=1)
  builders.write_terms(run)
  manifest = records.read_manifest(run)
  manifest['dataset']['name'] = name
  records.write_manifest(run, manifest)
  code, stdout, stderr = builders.analyse('report', f'--run_dir={run}')
  assert code == 0, stderr
  assert stdout.strip() == str(run / 'figures/report.html')
  return run / 'figures/report.html'


@pytest.fixture(scope='module')
def a_sweep(tmp_path_factory):
  folder = tmp_path_factory.mktemp('several') / 'sweep'
  test_frames.write_sweep(folder)
  code, _, stderr = builders.analyse('report', f'--sweep_dir={folder}')
  assert code == 0, stderr
  return folder / 'figures/report.html'


def test_a_page_holds_everything(one_run):
  page = Page(one_run)
  for name in ('Numbers', 'Figures', 'Settings', 'Provenance'):
    assert name in page.text
  for words in ('elbo, nats', 'hidden_sizes', 'c0ffee', 'analysis.report'):
    assert words in page.text
  assert len(page.all('img')) == 9 + 1
  for image in page.all('img'):
    assert re.match('data:image/(png|webp);base64,', image['src'])
    assert len(image['alt']) > 40
  assert not page.all('script', 'iframe', 'object', 'form')
  links = [tag['href'] for tag in page.all('a', 'link')]
  assert all(link.startswith(('#', 'data:')) for link in links)
  assert '<script>' not in page.source


def test_traversals_move_where_one_asks_for_it(one_run, a_sweep):
  page = Page(one_run)
  (folded,) = re.findall(
    '<div class="motion"><details><summary>In motion.*?</details></div>',
    page.source,
  )
  (image,) = re.findall('src="data:image/webp;base64,(.*?)"', folded)
  moving = traversals.animate(one_run.parents[1], title='')
  forth = [*moving.pictures]
  with PIL.Image.open(io.BytesIO(base64.b64decode(image))) as webp:
    pictures = [
      np.asarray(frame.convert('RGB'))
      for frame in PIL.ImageSequence.Iterator(webp)
    ]
    assert webp.info['loop'] == 0
  # Of equal ones that follow each other, files keep one.
  wanted = [*forth, *forth[-2:0:-1]]
  np.testing.assert_array_equal(pictures, wanted)
  assert len(image) < 1_500_000
  assert 'class="motion"' not in Page(a_sweep).source


def test_an_animation_that_would_be_large_loses_colours_first():
  levels = np.random.default_rng(0).integers(100, 130, [2, 90, 90, 1], np.uint8)
  levels = levels.repeat(3, axis=-1)
  moving = animation.Animation(levels)
  sizes, errors = [], []
  for most in (10**6, 10_000):
    content = moving.webp(most)
    with PIL.Image.open(io.BytesIO(content)) as webp:
      shown = np.asarray(webp.convert('RGB'), int)
    sizes.append(len(content))
    errors.append(abs(shown - levels[0]).mean())
  assert sizes[1] < sizes[0]
  assert errors[0] == 0 < errors[1] < 3


def test_headings_and_tables_can_be_read_aloud(one_run, a_sweep):
  for path in (one_run, a_sweep):
    page = Page(path)
    assert page.all('html')[0]['lang'] == 'en'
    levels = [
      int(tag[1]) for tag, _ in page.tags if re.fullmatch('h[1-6]', tag)
    ]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(cell['scope'] in ('col', 'row') for cell in page.all('th'))
    assert len(page.all('caption')) == len(page.all('table')) > 0
    boxes = [b for b in page.all('div') if b.get('class') == 'scroll']
    assert len(boxes) == len(page.all('table', 'img'))
    # Older browsers scroll by keyboard only what can have the focus.
    assert all(b['tabindex'] == '0' and b['aria-label'] for b in boxes)
    ids = [
      attributes['id'] for _, attributes in page.tags if 'id' in attributes
    ]
    assert len(ids) == len(set(ids))
    for link in page.all('a'):
      assert link['href'].removeprefix('#') in ids


def test_a_sweeps_page_shows_failures(a_sweep):
  page = Page(a_sweep)
  assert 'no such data' in page.text and 'failed' in page.text
  assert 'beta=1/seed=0' in page.text
  assert '3 runs' in page.text


def test_the_same_run_gives_the_same_page(one_run):
  before = one_run.read_bytes()
  run = one_run.parents[1]
  builders.analyse('report', f'--run_dir={run}')
  assert one_run.read_bytes() == before


def test_a_run_killed_early_gets_what_its_files_allow(tmp_path):
  run = tmp_path / 'run'
  builders.write_run(run, {'status': 'running'}, with_arrays=False)
  for name in (records.EVAL, records.RATE_PER_LATENT):
    records.write_table(run, name)
  code, _, _ = builders.analyse('report', f'--run_dir={run}')
  assert code == 0
  page = Page(run / 'figures/report.html')
  assert len(page.all('img')) == 1  # The loss curves.
  assert page.text.count('Not drawn') == 2  # In the contents, and above them.
  assert len(page.all('li')) == 5 + 8
  assert page.text.count(f'python -m launch.evaluate --run_dir={run}') >= 7


def test_factors_have_figures_where_they_are_known(tmp_path):
  sweep = tmp_path / 'sweep'
  test_frames.write_sweep(sweep)
  run = sweep / 'beta=1/seed=0'
  names = ('Scores', 'Factors', 'Reconstructions by factor')

  def headings(*arguments):
    code, stdout, stderr = builders.analyse('report', *arguments)
    assert code == 0, stderr
    page = Page(pathlib.Path(stdout.strip()))
    return [n for n in names if f'<h3>{n}</h3>' in page.source], page

  assert headings(f'--run_dir={run}')[0] == []
  builders.write_scores(run)
  (run / 'arrays/by_factor.npz').unlink()
  found, page = headings(f'--run_dir={run}')
  assert found == [*names[:2]]
  assert 'where the data hold every combination' in page.text
  assert len(page.all('img')) == 10 + 1
  assert headings(f'--sweep_dir={sweep}')[0] == ['Scores']


def test_the_first_sentence_says_what_was_measured(one_run, a_sweep):
  run = one_run.parents[1]
  results = records.read_results(run, records.read_manifest(run))
  text = Page(one_run).text.split('Figures')[0]
  for name in ('elbo_nats', 'rate_nats', 'distortion_nats'):
    shown = [
      float(x.replace('−', '-')) for x in re.findall(r'−?[\d.]*\d', text)
    ]
    assert any(abs(x - results[name]) < 0.01 for x in shown), name
  assert 'After 4 steps' in text
  assert '2 of 3 runs are finished.' in Page(a_sweep).text


def test_numbers_are_as_long_as_their_errors_allow(one_run, a_sweep):
  for path in (one_run, a_sweep):
    numbers = (
      Page(path).source.split('>Numbers</h2>')[1].split('>Settings</h2>')
    )
    assert not re.search(r'\d\.\d{7}', numbers[0])


def test_what_is_measured_on_fewer_images_says_so(tmp_path):
  builders.write_run(tmp_path / 'run')
  few = {'step': 4, 'split': 'test', 'n': 7, 'num_samples': 1, 'se': 0.5}
  row = few | {'metric': 'mutual_information_nats', 'value': 5.0}
  records.upsert(tmp_path / 'run', records.EVAL, [row])
  runs = frames.read_runs([str(tmp_path / 'run')])
  page = report.render(runs, '', tmp_path)
  assert 'test (10)' in page
  assert '5.00 ± 0.50 (of 7)' in page
  assert page.count('(of 7)') == 1


def test_settings_that_differ_come_before_those_that_do_not(tmp_path):
  run = tmp_path / 'run'
  builders.write_run(run, with_arrays=False, beta=0.25)
  builders.analyse('report', f'--run_dir={run}')
  page = Page(run / 'figures/report.html').source.split('>Settings</h2>')[1]
  shown, folded = page.split('<details>')[:2]
  assert '0.25' in shown and 'beta' in shown
  assert 'hidden_sizes' in folded and 'hidden_sizes' not in shown


def test_configurations_stand_side_by_side_in_their_order(tmp_path):
  for beta in (10.0, 2.0, 0.5):
    for seed in (1, 0):
      builders.write_run(tmp_path / f'{beta}-{seed}', beta=beta, seed=seed)
  pattern = f'--run_dir={tmp_path}/*'
  code, stdout, stderr = builders.analyse('report', pattern)
  assert code == 0, stderr
  page = Page(pathlib.Path(stdout.strip()))
  found = re.findall(r'<h3>(beta [^<]*)</h3>', page.source)
  assert found == [f'beta {beta}, seed 0' for beta in ('0.5', '2', '10')]
  assert 'The elbo is ' in page.text


def test_what_no_run_has_is_said_once_and_seeds_stand_in_order(tmp_path):
  for seed in (1, 0, 2):
    for beta in (0.5, 2.0):
      path = tmp_path / f'{2 - seed}-{beta}'
      builders.write_run(path, beta=beta, seed=seed, with_arrays=False)
  pattern = f'--run_dir={tmp_path}/*'
  code, stdout, stderr = builders.analyse('report', pattern)
  assert code == 0, stderr
  page = Page(pathlib.Path(stdout.strip()))
  lacking = re.findall(
    '<li>((?:Reconstructions|Traversals): .*?)</li>', page.source
  )
  assert len(lacking) == 2
  assert all(line.endswith('; so of 1 more') for line in lacking)
  runs = page.source.split('>Runs</h2>')[1]
  order = [name for name in re.findall(r'row">(\d-[\d.]+)<', runs)]
  assert order == [
    f'{2 - seed}-{beta}' for beta in (0.5, 2.0) for seed in range(3)
  ]


def test_the_page_that_looks_inside_is_linked_where_it_is(tmp_path):
  run = tmp_path / 'a "run"'
  builders.write_run(run, with_arrays=False)
  (run / records.EXPLORE).write_text('page')
  arguments = ('report', f'--run_dir={run}')
  for output in ((), (f'--output={tmp_path}/elsewhere/page',)):
    code, stdout, stderr = builders.analyse(*arguments, *output)
    assert code == 0, stderr
    path = pathlib.Path(stdout.strip())
    links = [tag['href'] for tag in Page(path).all('a')]
    (link,) = [link for link in links if not link.startswith('#')]
    target = path.parent / urllib.parse.unquote(link)
    assert target.resolve() == (run / records.EXPLORE).resolve()


def test_no_run_is_one_line(tmp_path):
  code, _, stderr = builders.analyse('report', f'--run_dir={tmp_path}/none')
  assert code == 1
  assert len(stderr.splitlines()) == 1
  assert 'is no run directory' in stderr


def test_help_loads_no_tensorflow_and_no_scikit_learn():
  script = (
    'import runpy, sys\n'
    'sys.argv = ["report", "--help"]\n'
    'try: runpy.run_module("analysis.report", run_name="__main__")\n'
    'except SystemExit: pass\n'
    'print(*sys.modules)'
  )
  result = subprocess.run(
    [sys.executable, '-c', script],
    cwd=conftest.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert '--run_dir' in result.stdout
  assert not {'tensorflow', 'sklearn', 'vae'} & set(result.stdout.split())


# -- In a browser -------------------------------------------------------------


@pytest.mark.parametrize('name', ['one_run', 'a_sweep'])
def test_a_browser_shows_the_page_without_a_request_or_an_error(
  window, name, request
):
  path = request.getfixturevalue(name)
  window.requests(), window.console()  # Forget what was before.
  window.open(path)
  window.evaluate(
    '[...document.querySelectorAll("details")].map(d => d.open = true)'
  )
  images = json.loads(
    window.evaluate(
      'JSON.stringify([...document.images].map(i => [i.complete, '
      'i.naturalWidth, i.getBoundingClientRect().width]))'
    )
  )
  assert images
  for complete, natural, shown in images:
    assert complete and natural > 100 and shown > 100
  assert window.console() == []
  assert window.requests(path) == []
  # A number has its error on its line.
  assert window.evaluate(
    '[...document.querySelectorAll("td.number")].map(cell => '
    '{ const text = document.createRange(); text.selectNodeContents(cell); '
    'return text.getClientRects().length; }).every(lines => lines == 1)'
  )


@pytest.mark.parametrize('name', ['one_run', 'a_sweep'])
def test_a_narrow_window_needs_no_sideways_scrolling(window, name, request):
  window.narrow(360)
  window.open(request.getfixturevalue(name))
  assert window.evaluate('window.innerWidth') == 360
  assert window.evaluate('document.documentElement.scrollWidth') <= 360
  size = window.evaluate('getComputedStyle(document.body).fontSize')
  assert float(size.removesuffix('px')) >= 16
  # What is wider scrolls in a box of its own, and is not made illegible.
  assert window.evaluate(
    '[...document.querySelectorAll(".scroll")].every('
    'b => getComputedStyle(b).overflowX == "auto")'
  )


def test_nothing_moves_unasked_or_in_print(window, one_run):
  def is_shown():
    return window.evaluate(
      'document.querySelector(".motion img").checkVisibility()'
    )

  def media(name):
    window.send(
      'goog/cdp/execute',
      cmd='Emulation.setEmulatedMedia',
      params={'media': name},
    )

  window.open(one_run)
  assert not is_shown()
  window.evaluate('document.querySelector(".motion details").open = true')
  # A browser that is busy lays it out later.
  deadline = time.monotonic() + 30
  while not is_shown():
    assert time.monotonic() < deadline
  media('print')
  assert not is_shown()
  media('')


def test_the_keyboard_reaches_links_and_boxes(window, one_run):
  window.open(one_run)
  reached = []
  for _ in range(6):
    window.press('\ue004')  # Tab.
    reached.append(
      window.evaluate(
        'document.activeElement.tagName + " " + '
        'getComputedStyle(document.activeElement).outlineStyle'
      )
    )
  assert reached[:4] == ['A solid'] * 4
  assert 'DIV solid' in reached


def test_what_the_browser_would_refuse_is_seen(window, tmp_path, one_run):
  """The tests above can fail: a page that asks for a picture is caught."""
  page = tmp_path / 'page.html'
  page.write_text(
    one_run.read_text().replace('<main>', '<main><img src="other.png">')
  )
  window.console()
  window.open(page)
  assert any('other.png' in message for message in window.console())
