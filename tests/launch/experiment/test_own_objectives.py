"""Objectives that a user writes in one place are first class."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from analysis import frames
from launch import records
from launch.rundir import checkpoints
from tests import documents
from tests.analysis import builders
from tests.launch import faults

CAPACITY = re.search(
  r'```python\n(def capacity.*?)```', documents.TEXT, re.DOTALL
)

# A critic tells the latents of a batch from those of the prior, as in
# adversarial autoencoders; the encoder makes them alike to it.
ADVERSARIAL = '''
import sonnet as snt


@terms.objective(rate_weight='beta', needs=('rate', 'marginals'))
class Adversarial(snt.Module):
  """The elbo, and the encoder against a critic of its latents."""

  def __init__(self, latent_size, w_init, name=None):
    super().__init__(name=name)
    self._critic = snt.nets.MLP([4 * latent_size + 1, 1], w_init=w_init)

  def make_optimizer(self):
    return snt.optimizers.Adam(1e-2, beta1=0.5)

  def __call__(self, model, batch, beta):
    sampled = terms.sample(model, batch.images, batch.key, is_training=True)
    codes = sampled.latents[0]
    noise = randomness.normal(randomness.fold(batch.key, 1), tf.shape(codes))
    critic = lambda z: self._critic(z)[:, 0]
    rate = terms.rate(model, sampled.posterior, sampled.latents)
    distortion = sampled.distortions[0]
    real, made = critic(noise), critic(codes)
    value = distortion + beta * rate - tf.math.log_sigmoid(made)
    told = -tf.math.log_sigmoid(real) - tf.math.log_sigmoid(-made)
    return terms.Loss(
      tf.reduce_mean(value),
      terms.Terms(rate, distortion),
      {
        'critic_accuracy': tf.reduce_mean(tf.cast(real > 0, tf.float32)),
        'share_of_data': tf.cast(batch.step, tf.float32) / batch.num_examples,
      },
      tf.reduce_mean(told),
    )
'''


def train(tree, data_dir, run, *arguments):
  return subprocess.run(
    [
      *(sys.executable, '-m', 'launch.train', f'--run_dir={run}'),
      *('--dataset=mnist_5k', f'--data_dir={data_dir}', '--hidden_sizes=8'),
      *('--latent_size=2', '--jit=off', '--threads=1', *arguments),
    ],
    cwd=tree,
    env=os.environ | {'PYTHONPATH': str(tree)},
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
  """A copy of the code with both objectives, each in one file."""
  folder = tmp_path_factory.mktemp('tree')
  for room in ('vae', 'launch'):
    shutil.copytree(documents.ROOT / room, folder / room)
  assert CAPACITY is not None
  with (folder / 'vae' / 'objectives.py').open('a') as file:
    file.write(f'\n\n{CAPACITY[1]}\n\n{ADVERSARIAL}')
  return folder


@pytest.fixture(scope='module')
def trained(tree, data_dir, tmp_path_factory):
  """Of each objective a run of 8 steps, and one that went on after 3."""
  folder = tmp_path_factory.mktemp('runs')
  printed = {}
  for objective, beta in (('capacity', 10), ('adversarial', 2)):
    flags = f'--objective={objective}', f'--beta={beta}'
    for run, steps in (('whole', (8,)), ('stopped', (3, 8))):
      for last in steps:
        result = train(
          tree,
          data_dir,
          folder / f'{objective}_{run}',
          *flags,
          f'--training_steps={last}',
        )
        assert result.returncode == 0, result.stderr
      printed[objective] = result.stdout
  return folder, printed


@pytest.mark.parametrize('objective', ['capacity', 'adversarial'])
def test_they_resume_to_the_bit(trained, objective):
  folder, _ = trained
  runs = [folder / f'{objective}_{name}' for name in ('whole', 'stopped')]
  faults.assert_same_run(*runs)
  one, two = ((run / records.TERMS).read_text() for run in runs)
  assert one == two
  frame = records.read_table(runs[0], records.TERMS)
  assert frame['step'].unique().tolist() == [1, 2, 4, 8]


def test_a_second_network_learns_by_an_optimizer_of_its_own(trained):
  folder, printed = trained
  run = folder / 'adversarial_whole'
  _, tensors = checkpoints.load(checkpoints.paths(run)[0])
  by_prefix = {}
  for name in tensors:
    by_prefix.setdefault(name.split('/')[0], []).append(name)
  # Two layers; of Adam the step and two moments of each; no learning rate.
  assert len(by_prefix['objective']) == 4
  assert len(by_prefix['objective_optimizer']) == 1 + 2 * 4
  moments = [tensors[name] for name in by_prefix['objective_optimizer']]
  assert all(np.any(moment) for moment in moments)
  manifest = records.read_manifest(run)
  assert manifest['effective_beta'] == 2.0
  assert manifest['num_parameters']['objective'] == 2 * 9 + 9 + 9 + 1
  assert 'effective beta 2' in printed['adversarial']
  measured = records.read_table(run, records.TERMS)
  shares = measured[measured['term'] == 'share_of_data']['value']
  np.testing.assert_allclose(shares, np.array([1, 2, 4, 8]) / 4000, rtol=1e-6)


def test_what_they_are_is_said_and_drawn(trained):
  folder, printed = trained
  run = folder / 'capacity_whole'
  manifest, config = records.read_manifest(run), records.read_config(run)
  assert manifest['effective_beta'] is None
  assert manifest['takes_beta']
  assert manifest['has_elbo']
  # In nats, and so is every column; beta is what was typed.
  assert (config['reduction'], config['beta']) == ('sum', 10.0)
  table = records.read_table(run, records.TRAIN)
  np.testing.assert_array_equal(table['kl'], table['rate_nats'])
  above = records.read_table(run, records.TERMS)
  assert set(above['term']) == {'rate_above_capacity_nats'}
  np.testing.assert_allclose(above['value'], table['rate_nats'] - 25, rtol=1e-5)
  np.testing.assert_allclose(
    table['total'],
    table['distortion_nats'] + 10 * (table['rate_nats'] - 25).abs(),
    rtol=1e-5,
  )
  assert 'beta     10, which weighs another term than' in printed['capacity']
  (read,) = frames.read_runs([str(run)]).runs
  assert read.describe().endswith('capacity with beta 10')
  for figure in ('loss_curves', 'rate_distortion', 'report'):
    code, _, stderr = builders.analyse(figure, f'--run_dir={run}')
    assert code == 0, stderr


@pytest.mark.parametrize(
  ('code', 'path', 'arguments', 'message'),
  [
    (
      'class Odd(Bernoulli):\n'
      '  def __init__(self, data_shape, sclae=1.0):\n'
      '    super().__init__(data_shape)\n',
      'vae/likelihoods.py',
      '--likelihood=odd',
      'launch.train: error: --likelihood=odd: Odd in vae/likelihoods.py asks '
      'for sclae, which is no setting, nor data_shape\n',
    ),
    (
      'def odd(model, images, key, beta):\n  raise AssertionError\n',
      'vae/objectives.py',
      '--objective=odd',
      'launch.train: error: --objective=odd: odd in vae/objectives.py asks for '
      'images, key, which is no setting, nor batch nor model nor w_init\n',
    ),
    (
      'def odd_encoder(output_shape):\n  raise ValueError("a bug")\n',
      'vae/architectures.py',
      '--encoder=odd',
      'Traceback',
    ),
  ],
)
def test_a_part_with_a_fault_is_named_or_keeps_its_traceback(
  tmp_path, data_dir, code, path, arguments, message
):
  for room in ('vae', 'launch'):
    shutil.copytree(documents.ROOT / room, tmp_path / room)
  with (tmp_path / path).open('a') as file:
    file.write(f'\n\n{code}')
  result = train(tmp_path, data_dir, tmp_path / 'run', arguments)
  assert result.returncode == 1
  assert message in result.stderr
