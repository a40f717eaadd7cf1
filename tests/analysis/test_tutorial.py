"""The notebook runs from its first cell to its last."""

import nbclient
import nbformat
import pytest

from tests.launch import conftest

PATH = conftest.ROOT / 'analysis' / 'tutorial.ipynb'


@pytest.fixture
def notebook():
  return nbformat.read(PATH, as_version=4)


def test_the_notebook_is_kept_without_what_it_printed(notebook):
  for cell in notebook.cells:
    assert not cell.get('outputs') and cell.get('execution_count') is None


def test_the_notebook_ends_with_the_figures_of_a_paper(
  notebook, tmp_path, data_dir, monkeypatch
):
  monkeypatch.setenv('PYTHONPATH', str(conftest.ROOT))
  monkeypatch.setenv('TFDS_DATA_DIR', str(data_dir))
  resources = {'metadata': {'path': str(tmp_path)}}
  nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
  figures = tmp_path / 'runs' / 'tutorial' / 'figures'
  assert (figures / 'paper.pdf').read_bytes().startswith(b'%PDF')
  assert (figures / 'paper.png').stat().st_size > 1000
  shown = [
    output
    for cell in notebook.cells
    for output in cell.get('outputs', ())
    if 'image/png' in output.get('data', ())
  ]
  assert len(shown) == 3
