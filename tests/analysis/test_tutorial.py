"""The notebooks run from their first cell to their last."""

import nbclient
import nbformat
import pytest

from tests.launch import conftest

# Each with how many figures it shows.
NOTEBOOKS = {'tutorial': 3, 'disentanglement': 4}


def read(name):
  path = conftest.ROOT / 'analysis' / f'{name}.ipynb'
  return nbformat.read(path, as_version=4)


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_a_notebook_is_kept_without_what_it_printed(name):
  for cell in read(name).cells:
    assert not cell.get('outputs') and cell.get('execution_count') is None


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_a_notebook_ends_with_the_figures_of_a_paper(
  name, tmp_path, data_dir, monkeypatch
):
  notebook = read(name)
  monkeypatch.setenv('PYTHONPATH', str(conftest.ROOT))
  monkeypatch.setenv('TFDS_DATA_DIR', str(data_dir))
  resources = {'metadata': {'path': str(tmp_path)}}
  nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
  outputs = [o for cell in notebook.cells for o in cell.get('outputs', ())]
  shown = [o for o in outputs if 'image/png' in o.get('data', ())]
  assert len(shown) == NOTEBOOKS[name]
  # Beside bars, which are taken away again, nothing is printed.
  printed = [o['text'] for o in outputs if o['output_type'] == 'stream']
  assert not ''.join(printed).rpartition('\r')[-1].strip()
  assert '\n' not in ''.join(printed)
  assert (tmp_path / 'runs/paper.pdf').read_bytes().startswith(b'%PDF')
  assert (tmp_path / 'runs/paper.png').stat().st_size > 1000
