"""The figures of the documents are those that its commands draw."""

import re
import shutil

import PIL.Image
import PIL.ImageChops
import pytest

from analysis.results import redraw
from tests import documents
from tests.analysis import builders
from tests.launch import conftest

SHOWN = re.findall(
  r'!\[[^]]+\]\((?:[\w./]+/)?(\w+)\.png\)\n+`python -m (.*?)`', documents.TEXT
)


def test_the_documents_show_every_figure_with_its_command_under_it():
  assert dict(SHOWN) == redraw.FIGURES
  for command in redraw.RUNS:
    assert f'\npython -m {command}\n' in documents.TEXT


def test_the_folder_holds_what_the_documents_show():
  folder = conftest.ROOT / redraw.RESULTS
  assert {path.stem for path in folder.glob('*.png')} == {
    *dict(SHOWN),
    'explore',  # Of which a browser takes a picture.
  }


@pytest.mark.parametrize('name', redraw.FIGURES)
def test_each_figure_was_drawn_by_its_command(name):
  path = conftest.ROOT / redraw.RESULTS / f'{name}.png'
  with PIL.Image.open(path) as picture:
    description = picture.text['Description']
    assert min(picture.info['dpi']) > 299.9
  assert f'drawn by: python -m {redraw.FIGURES[name]} ' in description
  # The density fit is of no run.
  known = r'commit [0-9a-f]{40}[;,]|fit to --scale_tril=|tensorflow [\d.]+;'
  assert re.search(known, description)
  assert '--output=analysis/results/' in description


def test_a_figure_gets_smaller_and_keeps_its_metadata_and_look(tmp_path):
  builders.write_run(tmp_path / 'run')
  builders.analyse('loss_curves', f'--run_dir={tmp_path}/run', '--format=png')
  path = tmp_path / 'run/figures/loss_curves.png'
  size = path.stat().st_size
  with PIL.Image.open(path) as before:
    before.load()
  redraw.shrink(path)
  assert path.stat().st_size < 0.7 * size
  with PIL.Image.open(path) as after:
    assert after.size == before.size
    assert after.info['dpi'] == before.info['dpi']
    assert after.text['Description'] == before.text['Description']
    difference = PIL.ImageChops.difference(
      before.convert('RGB'), after.convert('RGB')
    )
  assert max(high for _, high in difference.getextrema()) < 40


def test_a_picture_that_has_not_changed_keeps_its_file(tmp_path, monkeypatch):
  monkeypatch.setattr(redraw, 'RESULTS', tmp_path)
  monkeypatch.setattr(redraw, '_BYTES', 1000)
  steps = {'steps': (1, 2, 4)}

  def run(command):
    shutil.rmtree(tmp_path / 'run', ignore_errors=True)
    builders.write_run(tmp_path / 'run', **steps)
    builders.analyse(*command.split())

  monkeypatch.setattr(redraw, '_run', run)
  path = tmp_path / 'loss_curves.png'
  drawn = []
  # Another command is another description of the same picture.
  for folder, steps['steps'] in (
    ('run', (1, 2, 4)),
    ('./run', (1, 2, 4)),
    ('run', (1, 2, 8)),
  ):
    redraw._draw('loss_curves', f'loss_curves --run_dir={tmp_path}/{folder}')
    drawn.append(path.read_bytes())
  assert drawn[0] == drawn[1] != drawn[2]
