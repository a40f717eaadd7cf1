"""Run directories made up without training, which the tests share."""

import contextlib
import importlib
import io
import json
import sys

import numpy as np

from analysis import command, embedding
from launch import records
from tests.launch import test_records

CONFIG = {
  'beta': 0.01,
  'dataset': 'mnist',
  'hidden_sizes': [100, 100],
  'latent_size': 2,
  'posterior': 'normal',
  'reduction': 'mean',
  'seed': 0,
  'threads': 1,
}


def images(*shape):
  return np.random.default_rng(0).random(shape).astype(np.float32)


def write_run(
  run, manifest=None, with_arrays=True, steps=(1, 2, 4), **settings
):
  """Writes a run, with an elbo that depends on beta and seed alone."""
  run.mkdir(parents=True)
  config = CONFIG | settings
  records.write_manifest(
    run,
    test_records.MANIFEST
    | {'effective_beta': config['beta']}
    | (manifest or {}),
  )
  (run / records.CONFIG).write_text(json.dumps(config))
  for name in (records.TRAIN, records.EVAL, records.RATE_PER_LATENT):
    records.write_table(run, name)
  for step in steps:
    row = {
      'step': step,
      'total': 1 / step,
      'reconstruction': (0.9 + 0.02 * config['seed']) / step,
      'kl': 1.0 + config['beta'],
      'distortion_nats': 90.0 / step,
    }
    columns = dict.fromkeys(records.COLUMNS[records.TRAIN])
    records.append(run, records.TRAIN, columns | row)
  write_results(run, config)
  if with_arrays:
    write_arrays(run, config['latent_size'])


def write_terms(run, steps=(1, 2, 4)):
  """What a FactorVAE measures, below zero at first."""
  terms = {
    'total_correlation_nats': lambda step: step - 1.5,
    'discriminator_accuracy': lambda step: 0.5 + step / 10,
  }
  records.write_table(
    run,
    records.TERMS,
    [
      {'step': step, 'term': term, 'value': value(step)}
      for step in steps
      for term, value in terms.items()
    ],
  )


def write_results(run, config):
  seed_effect = [0.0, 0.5, -0.25, 0.1][config['seed'] % 4]
  rate = 20 / (1 + config['beta']) + seed_effect
  distortion = 80 + 10 * config['beta'] - seed_effect / 2
  rows = {
    'elbo_nats': -(rate + distortion),
    'rate_nats': rate,
    'distortion_nats': distortion,
    'active_units': 1.0,
  }
  common = {'step': 4, 'split': 'test', 'n': 10, 'num_samples': 1, 'se': 0.25}
  records.upsert(
    run,
    records.EVAL,
    [common | {'metric': name, 'value': v} for name, v in rows.items()],
  )
  records.upsert(
    run,
    records.RATE_PER_LATENT,
    [
      {
        'step': step,
        'split': 'test',
        'latent': latent,
        'rate_nats': float(latent % 3) * step,
        'mean_variance': float(latent % 3),
      }
      for step in (2, 4)
      for latent in range(config['latent_size'])
    ],
  )


def decoded(means, start=''):
  """What arrays hold of means between 0 and 1, each another image."""
  return {
    f'{start}means': means,
    f'{start}modes': (means > 0.5).astype(means.dtype),
    f'{start}samples': 1 - means,
  }


def write_arrays(run, latents, step=4):
  truth = images(20, 6, 6, 1)
  values = np.linspace(-3, 3, 5)
  means = np.random.default_rng(1).normal(size=(40, latents))
  means, pixels = means.astype(np.float32), images(40, 7).astype(np.float16)
  arrays = {
    'reconstructions': {
      'images': truth,
      **decoded(truth / 2),
    },
    'by_factor': {
      'labels': np.array(['shape'] * 2 + ['x'] * 5),
      'values': np.array([0, 1, 0, 2, 4, 6, 8]),
      'num_values': np.array([2, 2, 9, 9, 9, 9, 9]),
      'images': images(7, 6, 6, 1),
      **decoded(images(7, 6, 6, 1) / 2),
    },
    'samples': decoded(images(64, 6, 6, 1)),
    'traversals': {
      'indices': np.arange(4),
      'images': images(4, 6, 6, 1),
      'codes': means[:4],
      'values': values,
      **decoded(images(4, latents, 5, 6, 6, 1)),
      'quantiles': np.array([0.1, 0.5, 0.9]),
      'quantile_values': np.arange(3 * latents).reshape(latents, 3),
      **decoded(1 - images(4, latents, 3, 6, 6, 1), 'quantile_'),
    },
    'latent_grid': {
      'latents': np.arange(latents)[::-1][:2],
      'rates': np.array([2.0, 1.0])[:latents],
      'values': values,
      **decoded(images(5 if latents > 1 else 1, 5, 6, 6, 1)),
    },
    'latents': {
      'means': means,
      'stddevs': np.ones_like(means),
      'labels': np.arange(40) % 10,
      'pixels_pca': pixels,
    },
    # Kept, since a t-SNE takes seconds.
    'embedding': {
      'images': images(40, 2),
      'latents': images(40, 2),
      'inputs': np.array(embedding.digest(means, pixels)),
    },
  }
  if latents == 2:
    arrays['manifold'] = {'values': values, **decoded(images(5, 5, 6, 6, 1))}
  for name, contents in arrays.items():
    records.write_arrays(run, name, step, contents)


def write_scores(run, values=None, factors=('shape', 'x'), step=4):
  """Adds what `launch.evaluate --scores` does: by score, its value."""
  manifest = records.read_manifest(run)
  manifest['dataset']['factors'] = [[name, 5] for name in factors]
  records.write_manifest(run, manifest)
  latents = records.read_config(run)['latent_size']
  information = np.arange(1.0, 1 + latents * len(factors))
  records.write_arrays(
    run,
    'scores',
    step,
    {
      'factors': np.array(factors),
      'information_nats': information.reshape(latents, -1) / information[-1],
      'entropy_nats': np.full(len(factors), 2.0),
      'importances': np.full((latents, len(factors)), 1 / latents),
      'importances_of': np.array('dci_forest'),
    },
  )
  for split, change in (('test', 0.0), ('validation', 0.1)):
    for at, later in ((step - 1, 0.3), (step, 0.0)):
      records.upsert(
        run,
        records.SCORES,
        [
          {
            'step': at,
            'split': split,
            'n': 10,
            'score': score,
            'variant': variant,
            'draw_seed': 0,
            'value': value + change + later,
            'se': None if score == 'dci' else 0.01,
            'floor': None if score.endswith('_nats') else 0.05,
            'exact': 0.9,
            'active': 1,
            'settings': '',
          }
          for (score, variant), value in (
            values
            or {
              ('mig', ''): 0.2,
              ('dci_forest', 'completeness'): 0.3,
              ('dci', 'completeness'): 0.4,
              ('gaussian_total_correlation_nats', ''): 3.0,
            }
          ).items()
        ],
      )


def analyse(name, *arguments):
  """Runs a command in this process: its exit code, stdout and stderr."""
  module = importlib.import_module(f'analysis.{name}')
  main = getattr(module, 'main', None)
  if main is None:
    main = lambda: command.run(module.FIGURE)
  stdout, stderr = io.StringIO(), io.StringIO()
  argv, sys.argv = sys.argv, [f'analysis/{name}.py', *map(str, arguments)]
  code = 0
  try:
    with (
      contextlib.redirect_stdout(stdout),
      contextlib.redirect_stderr(stderr),
    ):
      main()
  except SystemExit as stop:
    code = stop.code or 0
  finally:
    sys.argv = argv
  return code, stdout.getvalue(), stderr.getvalue()
