import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from launch import export, runs
from tests.launch import conftest

# Run far from this package, by a Python that is told to see nothing of it.
CLIENT = """
import os, sys

class Refuse:
  def find_spec(self, name, *rest):
    if name.split('.')[0] in ('vae', 'launch', 'sonnet', 'analysis'):
      raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

for folder in sys.argv[1:]:
  model = tf.saved_model.load(folder + '/run/saved_model')
  inputs = np.load(folder + '/inputs.npz')
  outputs = {}
  for name in ('encode', 'decode', 'reconstruct'):
    values = inputs['latents' if name == 'decode' else 'examples']
    signature = model.signatures[name]
    (argument,) = signature.structured_input_signature[1]
    for key, value in signature(**{argument: values}).items():
      outputs[name + '/' + key] = value.numpy()
    one = getattr(model, name)(values[:1])
    assert all(value.shape[0] == 1 for value in one.values())
  np.savez(folder + '/outputs.npz', **outputs)
"""


def call(*arguments):
  return conftest.call(export.main, arguments)


SETTINGS = (
  {'binarize': 'dynamic'},
  {'posterior': 'full_covariance', 'likelihood': 'continuous_bernoulli'},
  {
    'network': 'pooled_conv',
    'hidden_sizes': None,
    'channels': '4,4',
    'dropout': 0.5,
  },
  {'preset': 'autoencoder', 'latent_size': 2},
  {'preset': 'dense_vae', 'dataset': 'wine'},
  {
    'likelihood': 'normal',
    'prior': 'mixture',
    'kl': 'monte_carlo',
    'num_validation': 3900,
    'batch_size': 50,
    'patience': 2,
  },
)


@pytest.fixture
def exported(launch_train, tmp_path):
  """For each of the settings a folder with a run, and its export in it."""
  folders = []
  for number, settings in enumerate(SETTINGS):
    folder = tmp_path / str(number)
    settings = {'training_steps': 8, 'batch_size': 16, 'jit': 'off'} | settings
    result = launch_train(run_dir=folder / 'run', **settings)
    assert result.code == 0, result.stderr
    result = call(f'--run_dir={folder / "run"}')
    assert result.code == 0, result.stderr
    folders.append(folder)
  return folders


def test_exports_give_the_numbers_of_their_runs_without_the_package(
  exported, data_dir, tmp_path
):
  loaded = {folder: runs.load(folder / 'run', data_dir) for folder in exported}
  for folder, run in loaded.items():
    examples = run.dataset.splits['test'].examples[:5].astype('f4')
    np.savez(
      folder / 'inputs.npz',
      examples=examples / 255 if run.dataset.has_images else examples,
      latents=np.linspace(
        -2, 2, 3 * run.config.latent_size, dtype='f4'
      ).reshape(3, -1),
    )
  result = subprocess.run(
    [sys.executable, '-I', '-c', CLIENT, *exported],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  for folder, run in loaded.items():
    inputs = np.load(folder / 'inputs.npz')
    posterior = run.model.encode(inputs['examples'])
    likelihood = run.model.decode(inputs['latents'])
    expected = {
      'encode/mean': posterior.mean(),
      'encode/stddev': posterior.stddev(),
      'decode/mode': likelihood.mode(),
      'decode/mean': likelihood.mean(),
      'reconstruct/mode': run.model.reconstruct(inputs['examples']),
    }
    found = np.load(folder / 'outputs.npz')
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
      np.testing.assert_allclose(
        found[name], value, rtol=1e-4, atol=1e-5, err_msg=f'{run.config} {name}'
      )
    assert len(found['encode/mean']) == 5


KEPT = pathlib.Path(__file__).parents[1] / 'data' / 'run_format_1'


def test_signatures_are_shown_and_named(tmp_path):
  path = tmp_path / 'new' / 'export'
  result = call(f'--run_dir={KEPT}', f'--export_dir={path}')
  assert result.code == 0, result.stderr
  assert result.stdout.splitlines()[1:] == [
    '  encode: images (None, 28, 28, 1) -> mean (None, 2), stddev (None, 2)',
    '  decode: latents (None, 2) -> mode (None, 28, 28, 1), '
    'mean (None, 28, 28, 1)',
    '  reconstruct: images (None, 28, 28, 1) -> mode (None, 28, 28, 1)',
  ]
  signature = tf.saved_model.load(str(path)).signatures['encode']
  assert signature(images=tf.zeros([0, 28, 28, 1]))['mean'].shape == (0, 2)
  assert [p.name for p in path.parent.iterdir()] == ['export']
  for file in path.rglob('*'):
    assert file.is_dir() or str(conftest.ROOT).encode() not in file.read_bytes()


def test_what_is_there_already_is_kept(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  for path in (tmp_path, tmp_path / 'notes.txt'):
    result = call(f'--run_dir={KEPT}', f'--export_dir={path}')
    assert result.code == 1
    assert result.stderr == (
      f'launch.train: error: --export_dir={path}: exists; delete it or give '
      'another\n'
    )
  assert (tmp_path / 'notes.txt').read_text() == 'mine'


def test_a_folder_that_is_no_run_is_refused(tmp_path):
  result = call(f'--run_dir={tmp_path}', f'--export_dir={tmp_path / "x"}')
  assert result.code == 1
  assert 'is no run directory' in result.stderr
  assert not (tmp_path / 'x').exists()


def test_a_disk_that_is_full_is_one_line(tmp_path, monkeypatch):
  def save(module, folder, signatures):
    pathlib.Path(folder).mkdir()
    raise tf.errors.ResourceExhaustedError(
      None, None, f'{folder}/variables/x; No space left on device'
    )

  monkeypatch.setattr(tf.saved_model, 'save', save)
  path = tmp_path / 'export'
  result = call(f'--run_dir={KEPT}', f'--export_dir={path}')
  assert result.code == 1
  assert result.stderr == (
    f'launch.train: error: --export_dir={path}: cannot be written: No space '
    'left on device\n'
  )
  assert not list(tmp_path.iterdir())
