"""The figures of the documents are those that its commands draw."""

import re

import PIL.Image
import PIL.ImageChops
import pytest

from analysis import benchmark, gallery
from launch import records
from tests import documents
from tests.analysis import builders
from tests.launch import conftest

SHOWN = re.findall(
  r'!\[[^]]+\]\((?:[\w./]+/)?(\w+)\.png\)\n+`python -m (.*?)`', documents.TEXT
)


def test_the_documents_show_every_figure_with_its_command_under_it():
  assert dict(SHOWN) == gallery.FIGURES
  for command in gallery.RUNS:
    assert f'\npython -m {command}\n' in documents.TEXT


def test_the_folder_holds_what_the_documents_show():
  folder = conftest.ROOT / gallery.RESULTS
  assert {path.stem for path in folder.glob('*.png')} == set(dict(SHOWN))


@pytest.mark.parametrize('name', gallery.FIGURES)
def test_each_figure_was_drawn_by_its_command(name):
  path = conftest.ROOT / gallery.RESULTS / f'{name}.png'
  with PIL.Image.open(path) as picture:
    description = picture.text['Description']
    assert picture.info['dpi'] == pytest.approx((300, 300), abs=0.1)
  assert f'drawn by: python -m {gallery.FIGURES[name]} ' in description
  assert re.search(r'commit [0-9a-f]{40}[;,]|tensorflow [\d.]+;', description)


def test_a_figure_gets_smaller_and_keeps_its_metadata_and_look(tmp_path):
  builders.write_run(tmp_path / 'run')
  builders.analyse('loss_curves', f'--run_dir={tmp_path}/run', '--format=png')
  path = tmp_path / 'run/figures/loss_curves.png'
  size = path.stat().st_size
  with PIL.Image.open(path) as before:
    before.load()
  gallery.shrink(path)
  assert path.stat().st_size < 0.7 * size
  with PIL.Image.open(path) as after:
    assert after.size == before.size
    assert after.info['dpi'] == before.info['dpi']
    assert after.text['Description'] == before.text['Description']
    difference = PIL.ImageChops.difference(
      before.convert('RGB'), after.convert('RGB')
    )
  assert max(high for _, high in difference.getextrema()) < 40


def test_the_documents_say_how_fast_the_kept_timings_are():
  frame = records.read_table(
    conftest.ROOT / gallery.RESULTS / 'benchmark', records.BENCHMARK
  )
  summary = benchmark.summarise(frame)
  tasks = [*zip(summary['network'], summary['batch_size'], strict=True)]
  tasks = [*dict.fromkeys(tasks)]
  peers = [n for n in summary['contestant'].unique() if n != 'this project']
  for peer in peers:
    rows = summary[summary['contestant'] == peer]
    ratios = dict(
      zip(
        zip(rows['network'], rows['batch_size'], strict=True),
        1 / rows['median'],
        strict=True,
      )
    )
    cells = [f'{ratios[t]:.2f}' if t in ratios else '' for t in tasks]
    assert f'| {peer} | {" | ".join(cells)} |' in documents.TEXT, peer
