"""The page of disentanglement says what the kept sweep measured."""

import re

import numpy as np
import pytest

from analysis import frames, scores, study, table
from launch import records
from tests.launch import conftest

FOLDER = conftest.ROOT / 'analysis' / 'results'
PAGE = (FOLDER / 'disentanglement.md').read_text('utf-8')
SENTENCES = ' '.join(PAGE.split())
METRICS = ('elbo_nats', 'rate_nats', 'mig', 'sap_r2', 'factor_vae', 'beta_vae')
SWEEP = FOLDER / 'sweeps' / 'disentanglement'


@pytest.fixture(scope='module')
def runs():
  return frames.read_sweep(SWEEP)


def claims(runs):
  """What the page's sentences say, word for word, from the kept records."""
  frame, unlabelled, labelled = study.read_frame(runs)
  probes = [name for name in labelled if name.startswith('probe')]
  others = [name for name in labelled if name not in probes]
  signed = lambda value: f'{value:.2f}'.replace('-', '−')

  # The runs, and whether the elbo stands.
  (steps,) = {run.config['training_steps'] for run in runs.runs}
  minutes = sum(run.manifest['seconds'] for run in runs.runs) / 60
  gains = []
  for run in runs.runs:
    rows = records.read_table(run.path, records.EVAL)
    elbos = rows[rows['metric'] == 'elbo_nats'].set_index('step')['value']
    gains.append(elbos[steps] - elbos[steps - 5000])
  found = {
    'runs': f'{len(frame)} runs of {steps:,} steps',
    'minutes': f'{minutes:.0f} minutes of training',
    'gains': f'by {np.mean(gains):.1f} nats on average, and by at most '
    f'{max(gains):.1f}',
  }

  # Beta, and what else it may be had for.
  measures = ['elbo_nats', 'mig', 'factor_vae']
  means = frame.groupby(['objective', 'strength'])[measures].mean()
  elbo = frame[frame['objective'] == 'elbo'].set_index(['strength', 'seed'])
  changes = elbo.loc['4', measures] - elbo.loc['0.5', measures]
  change = {
    name: table.show(changes[name].mean(), changes[name].sem())
    for name in measures
  }
  marks = scores.read_scores(runs.runs[0]).set_index('score').loc['mig']
  factor = means.loc['factor'].sort_values('mig').iloc[-1]
  found |= {
    'beta': f'From beta 0.5 to 4 MIG grows by {change["mig"]} to '
    f'{means.loc[("elbo", "4"), "mig"]:.2f}, and the FactorVAE score by '
    f'{change["factor_vae"]}',
    'marks': f'the factors themselves have {marks["exact"]:.2f}',
    'cost': f'the elbo by {change["elbo_nats"]} nats',
    'factor': f'a MIG of {factor["mig"]:.2f} at {factor["elbo_nats"]:.1f} nats '
    f'with gamma {factor.name}'.replace('-', '−'),
    'at beta 4': signed(means.loc[('elbo', '4'), 'elbo_nats'])
    + ' nats at beta 4',
  }

  # Variance.
  parts = study.variance(frame, study.nesting(runs), others)
  share = parts.groupby('level')['share'].mean().map('{:.0%}'.format)
  chance = parts.groupby('level')['chance'].mean().map('{:.0%}'.format)
  above = (parts['p'] < 0.05).groupby(parts['level']).sum()
  starred = parts[parts['p'] < 0.05].groupby('level')['measure'].agg(', '.join)
  found |= {
    'above': f'in {above["objective"]} of {len(others)} scores of '
    f'disentanglement ({starred["objective"]}), and strengths within an '
    f'objective in {above["strength"]} ({starred["strength"]})',
    'shares': f'objectives explain {share["objective"]} of the variance, '
    f'strengths {share["strength"]} and seeds {share["seed"]}, where noise '
    f'would give {chance["objective"]}, {chance["strength"]} and '
    f'{chance["seed"]}',
  }

  # Agreement.
  pairs = study.correlations(frame, others, others)
  pairs = pairs[pairs['first'] < pairs['second']]
  least = pairs.loc[pairs['value'].idxmin()]
  probe = study.correlations(frame, ['probe 1000'], others)
  best = probe.loc[probe['value'].idxmax()]
  accuracy = frame['probe 1000']
  with_probe = study.correlations(frame, unlabelled, ['probe 1000'])
  with_probe = with_probe.set_index('first')['value']
  with_probe = with_probe.map(signed)
  choice = study.correlations(frame, unlabelled, others)
  alone = choice[choice['second'] == 'mig'].set_index('first')['value']
  choice = choice.groupby('first')['value'].mean().map(signed)
  found |= {
    'agree': f'{signed(pairs["value"].mean())} on average, and least between '
    f'{least["first"]} and {least["second"]}, {signed(least["value"])}',
    'accuracy': f'from {accuracy.min():.2f} to {accuracy.max():.2f}',
    'probe': f'from {signed(probe["value"].min())} to '
    f'{signed(best["value"])} ({best["second"]})',
    'probe and elbo': f'with the elbo it is {with_probe["elbo_nats"]}',
    'choice': f'{choice["elbo_nats"]} with the elbo, {choice["rate_nats"]} '
    f'with the rate and {choice["udr lasso"]} with UDR by Lasso',
    'udr and mig': f'with MIG alone UDR goes by {signed(alone["udr lasso"])}',
    'udr and probe': f'{with_probe["udr lasso"]} with the probe',
  }
  return found


def test_the_tables_are_those_of_the_sweep(runs):
  few = study.render(runs, METRICS).split('\n\n')
  full = study.render(runs, []).split('\n\n')
  parts = [few[0], *full[1:4]]
  for part in parts:
    assert part in PAGE


def test_the_sentences_are_those_of_the_records(runs):
  for sentence in claims(runs).values():
    assert ' '.join(sentence.split()) in SENTENCES


def test_the_runs_are_finished_and_from_clean_commits(runs):
  assert set(runs.table['status']) == {'finished'}
  cells = runs.table.groupby(['objective', 'strength'])['seed'].nunique()
  assert len(cells) == 16
  assert set(cells) == {5}
  for run in runs.runs:
    assert run.manifest['source']['dirty'] is False
    assert run.manifest['dataset']['name'] == 'sprites'


def test_the_records_are_small():
  files = [path for path in SWEEP.rglob('*') if path.is_file()]
  assert sum(path.stat().st_size for path in files) < 1_500_000
  assert not re.search(r'/(tmp|work|home)/', PAGE)
