"""Every figure on made-up frames, beside the picture that was approved.

After looking at what changed: APPROVE=1 pytest tests/analysis/test_approved.py
"""

import os
import pathlib

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from analysis import (
  embedding,
  factors,
  figures,
  loss_curves,
  manifold,
  rate_distortion,
  rate_per_latent,
  reconstructions,
  samples,
  scores,
  study,
  sweep,
  terms,
  traversals,
)

APPROVED = pathlib.Path(__file__).parents[1] / 'data' / 'figures'
DPI = 50
UNICODE = 'Zürich, β = 4, 数据 $x$'


def picture(index, size=6, channels=1):
  """An image that says by its stripes which one it is."""
  rows, columns = np.indices((size, size))
  image = ((rows + index) % 4 < 2) * 0.7 + (columns == index % size) * 0.3
  return np.repeat(image[..., None], channels, -1).astype(np.float32)


def pictures(count, **kwargs):
  return [picture(index, **kwargs) for index in range(count)]


def train_frame(steps=(1, 2, 4, 8, 16), seeds=1, betas=(0.1,), value=1.0):
  rows = [
    {
      'step': step,
      'configuration': f'beta {beta:g}',
      'beta_': f'{beta:g}',
      'group': 'upper' if beta < 1 else UNICODE,
      'reduction': 'mean',
      'total': value * (1 + beta) / step,
      'reconstruction': value * (1 + 0.3 * seed) / step,
      'measured_kl': value * (beta + 0.1 * seed),
    }
    for step in steps
    for beta in betas
    for seed in range(seeds)
  ]
  return pd.DataFrame(rows)


def density_frame(**kwargs):
  """Losses as of a density: below zero from some step on."""
  frame = train_frame(**kwargs)
  frame['reconstruction'] -= 0.4
  frame['total'] = frame['reconstruction'] + 0.1 * frame['measured_kl']
  return frame


def terms_frame(*names, seeds=1, configurations=('',)):
  """Terms that fall from one to a tenth; those of nats below zero."""
  return pd.DataFrame(
    [
      {
        'step': step,
        'configuration': configuration,
        'term': name,
        'value': (1 + k + 0.2 * seed) / step**0.5
        - (0.5 if name == 'total_correlation_nats' else 0),
      }
      for step in (1, 4, 16, 100)
      for name in names
      for k, configuration in enumerate(configurations)
      for seed in range(seeds)
    ]
  )


def with_nan(frame, column):
  frame = frame.copy()
  frame.loc[frame.index[0], column] = np.nan
  return frame


def reconstruction_frame(count, **kwargs):
  truth = pictures(count, **kwargs)
  return pd.DataFrame(
    {'index': range(count), 'truth': truth, 'mode': [1 - t for t in truth]}
  )


def factor_frame(sizes=(3, 6, 40), columns=10, **kwargs):
  return pd.DataFrame(
    [
      {
        'factor': ['shape', 'scale', UNICODE][k],
        'value': size * column // columns,
        'num_values': size,
        'truth': picture(k + column, **kwargs),
        'mean': 0.5 * picture(k + column, **kwargs),
      }
      for k, size in enumerate(sizes)
      for column in range(min(size, columns))
    ]
  )


def traversal_frame(latents, inactive=0, values=5, rated=True, indices=(0,)):
  return pd.DataFrame(
    [
      {
        'index': index,
        'latent': 7 * latent % latents,
        'rate_nats': 3.0 / (1 + latent) if rated else np.nan,
        'active': latent < latents - inactive,
        'value': float(value),
        'image': picture(latent + value + index),
        'shown': 'mean',
        'source': picture(index),
        'code': latent - index / 2,
      }
      for index in indices
      for latent in range(latents)
      for value in range(values)
    ]
  )


def side_by_side_frame(*runs, **kwargs):
  return pd.concat(
    [
      traversal_frame(**run, **kwargs).assign(name=f'beta {place}')
      for place, run in enumerate(runs)
    ]
  )


def grid_frame(side, rows=None):
  return pd.DataFrame(
    [
      {
        'first': float(x),
        'second': -float(y) if rows != 1 else np.nan,
        'image': picture(3 * y + x),
        'first_name': 'latent 63, 2.00 nats',
        'second_name': 'latent 5, 1.00 nats',
        'at': 'quantiles of the prior',
        'shown': 'mean',
      }
      for y in range(rows or side)
      for x in range(side)
    ]
  )


def embedding_frame(count, panels=2, labels=10):
  random = np.random.default_rng(0)
  label = np.arange(count) % max(1, labels)
  return pd.concat(
    [
      pd.DataFrame(
        {
          'panel': f'panel {panel}',
          'x': random.normal(size=count) + 3 * np.cos(label),
          'y': random.normal(size=count) + 3 * np.sin(label),
          'label': label if labels else '',
          'color': 'label',
        }
      )
      for panel in range(panels)
    ]
  )


def rate_frame(latents, steps=(1, 100, 200, 300)):
  return pd.DataFrame(
    [
      {
        'step': step,
        'latent': latent,
        'rate_nats': step / 100 * np.exp(-latent / 5),
        'mean_variance': 1.0 if latent < latents / 2 else 0.0,
        'is_result': step == steps[-1],
      }
      for step in steps
      for latent in range(latents)
    ]
  )


def frontier_frame(seeds=2, series=('',), betas=(0.1, 0.5, 1.0, 2.0, 8.0)):
  return pd.DataFrame(
    [
      {
        'rate_nats': (0.0 if beta == 8 else 20 / (0.3 + beta)) + seed * 0.01,
        'distortion_nats': 80 + 15 * beta + seed + 5 * k,
        'order': beta,
        'active_units': 0 if beta == 8 else 5,
        'series': name,
        'ordered_by': 'effective_beta',
        'series_of': '',
      }
      for k, name in enumerate(series)
      for beta in betas
      for seed in range(seeds)
    ]
  )


def factors_frame(latents, names=('shape', 'scale', 'x'), inactive=0):
  """Latent l follows factor l modulo their number, each less than the last."""
  panels = {
    factors.INFORMATION: 'information / entropy of the factor',
    factors.IMPORTANCE: 'importance, DCI',
  }
  return pd.DataFrame(
    [
      {
        'measure': measure,
        'panel': panel,
        'latent': latent,
        'factor': name,
        'value': 0.9 / (1 + latent / 4)
        if latent % len(names) == k
        else 0.02 * k,
        'rate_nats': 3.0 / (1 + latent),
        'active': latent < latents - inactive,
        'scores': 'MIG 0.30 ± 0.01',
      }
      for measure, panel in panels.items()
      for latent in range(latents)
      for k, name in enumerate(names)
    ]
  )


def scores_frame(xs=('0', '1', '4', '16'), colours=('',), seeds=3, panels=3):
  return pd.DataFrame(
    [
      {
        'run': f'{x}-{colour}-{seed}',
        'panel': f'score {panel}',
        'value': 0.1 * panel + 0.1 * place + 0.05 * k + 0.02 * seed,
        'se': 0.02,
        'floor': 0.02 * place,
        'exact': 0.9,
        'joint': panel == 1,
        'x': x,
        'color': colour,
        'series': colour,
      }
      for panel in range(panels)
      for place, x in enumerate(xs)
      for k, colour in enumerate(colours)
      for seed in range(seeds)
    ]
  )


def run_scores_frame(names=('mig', 'dci forest completeness')):
  rows = [(name, 0.2 + 0.1 * k, 0.02) for k, name in enumerate(names)]
  rows.append(('total correlation, nats', 3.0, 0.1))
  frame = pd.DataFrame(rows, columns=['panel', 'value', 'se'])
  return frame.assign(
    floor=[*[0.1] * len(names), np.nan], exact=0.9, x='', color='', series=''
  )


def sweep_frame(xs=(0.01, 0.1, 1.0), seeds=3, series=('',)):
  return pd.DataFrame(
    [
      {
        'x': f'{x:g}' if isinstance(x, float) else x,
        'value': -100.0 - k - seed + 3 * place,
        'status': 'finished',
        'series': name,
        'color': name,
      }
      for k, name in enumerate(series)
      for place, x in enumerate(xs)
      for seed in range(seeds)
    ]
  )


def with_failures(frame):
  frame = frame.copy()
  frame.loc[frame.index[:2], ['value', 'status']] = [np.nan, 'failed']
  frame.loc[frame.index[-1], ['value', 'status']] = [np.nan, 'running']
  return frame


def share_frame(levels=('objective', 'strength', 'seed'), scores=3):
  return pd.DataFrame(
    [
      {
        'measure': f'score {score}',
        'level': level,
        'share': (place + 1 + score % 2) / sum(range(1, len(levels) + 1))
        if score % 2 == 0
        else 1 / len(levels),
        'chance': (place + 1) / sum(range(1, len(levels) + 1)),
        'p': np.nan if level == 'seed' else 0.01,
      }
      for score in range(scores)
      for place, level in enumerate(levels)
    ]
  )


def correlation_frame(scores=3, others=2):
  values = np.linspace(-1, 1, (scores + others) * scores)
  return pd.DataFrame(
    [
      {
        'first': f'score {one}' if one < scores else f'{UNICODE} {one}',
        'second': f'score {other}',
        'value': values[one * scores + other],
        'num_runs': 48,
      }
      for one in range(scores + others)
      for other in range(scores)
    ]
  )


SINGLE = figures.SINGLE_COLUMN
BETAS = (0.1, 1.0, 4.0)

CASES = {
  'loss_curves': lambda: loss_curves.plot_loss_curves(train_frame()),
  'loss_curves-one_row': lambda: loss_curves.plot_loss_curves(
    train_frame(steps=(1,)), title=UNICODE
  ),
  'loss_curves-nan': lambda: loss_curves.plot_loss_curves(
    with_nan(train_frame(), 'measured_kl'), page=SINGLE
  ),
  'loss_curves-seeds': lambda: loss_curves.plot_loss_curves(
    train_frame(seeds=3, betas=BETAS)
  ),
  'loss_curves-facets': lambda: loss_curves.plot_loss_curves(
    train_frame(seeds=2, betas=BETAS), 'beta_', 'group'
  ),
  'loss_curves-density': lambda: loss_curves.plot_loss_curves(density_frame()),
  'loss_curves-64_runs': lambda: loss_curves.plot_loss_curves(
    train_frame(betas=np.arange(64) / 10), 'beta_'
  ),
  'terms': lambda: terms.plot_terms(
    terms_frame('mmd', 'penalty_nats'), title=UNICODE
  ),
  'terms-factor': lambda: terms.plot_terms(
    terms_frame(
      'total_correlation_nats',
      'discriminator_loss_nats',
      'discriminator_accuracy',
      seeds=3,
      configurations=('gamma 1', 'gamma 6'),
    )
  ),
  'terms-single': lambda: terms.plot_terms(
    terms_frame('capacity_nats', 'mutual_information_nats'), page=SINGLE
  ),
  'reconstructions': lambda: reconstructions.plot_reconstructions(
    reconstruction_frame(16), UNICODE
  ),
  'reconstructions-one': lambda: reconstructions.plot_reconstructions(
    reconstruction_frame(1, channels=3), 'A title wider than one image', SINGLE
  ),
  'reconstructions-mean': lambda: reconstructions.plot_reconstructions(
    reconstruction_frame(16).assign(mean=[p / 2 for p in pictures(16)])
  ),
  'reconstructions_by_factor': lambda: reconstructions.plot_by_factor(
    factor_frame(), UNICODE
  ),
  'reconstructions_by_factor-one': lambda: reconstructions.plot_by_factor(
    factor_frame(sizes=(2,), channels=3), page=SINGLE
  ),
  'samples': lambda: samples.plot_samples(
    pd.DataFrame({'image': pictures(64), 'shown': 'mean'}), 'Samples'
  ),
  'samples-5': lambda: samples.plot_samples(
    pd.DataFrame({'image': pictures(5, channels=3), 'shown': 'sample'})
  ),
  'traversals': lambda: traversals.plot_traversals(
    traversal_frame(10, inactive=6), UNICODE, SINGLE
  ),
  'traversals-one_latent': lambda: traversals.plot_traversals(
    traversal_frame(1)
  ),
  'traversals-64_latents': lambda: traversals.plot_traversals(
    traversal_frame(64, values=13)
  ),
  'traversals-all_inactive': lambda: traversals.plot_traversals(
    traversal_frame(64, inactive=64)
  ),
  'traversals-quantiles': lambda: traversals.plot_traversals(
    traversal_frame(4).assign(
      quantile=lambda frame: 0.01 + 0.245 * frame['value'],
      value=lambda frame: frame['value'] * frame['latent'],
    )
  ),
  'traversals-images': lambda: traversals.plot_traversals(
    traversal_frame(3, inactive=1, indices=(17, 4))
  ),
  'traversals-older': lambda: traversals.plot_traversals(
    traversal_frame(3).drop(columns=['source', 'code'])
  ),
  'traversals-no_rates': lambda: traversals.plot_traversals(
    traversal_frame(3, rated=False)
  ),
  'traversals_side_by_side': lambda: traversals.plot_side_by_side(
    side_by_side_frame(
      {'latents': 4}, {'latents': 10, 'inactive': 7}, indices=(17, 4)
    ),
    UNICODE,
  ),
  'traversals_side_by_side-below': lambda: traversals.plot_side_by_side(
    side_by_side_frame({'latents': 2}, {'latents': 5, 'inactive': 4}, values=7),
    page=SINGLE,
  ),
  'latent_grid': lambda: traversals.plot_latent_grid(grid_frame(7)),
  'latent_grid-one_latent': lambda: traversals.plot_latent_grid(
    grid_frame(7, rows=1)
  ),
  'manifold': lambda: manifold.plot_manifold(grid_frame(20), UNICODE, SINGLE),
  'embedding': lambda: embedding.plot_embedding(embedding_frame(300)),
  'embedding-many': lambda: embedding.plot_embedding(
    embedding_frame(2000, panels=3), UNICODE
  ),
  'embedding-no_labels': lambda: embedding.plot_embedding(
    embedding_frame(30, labels=0), page=SINGLE
  ),
  'embedding-factor': lambda: embedding.plot_embedding(
    embedding_frame(300, panels=3).assign(
      label=np.arange(900) % 32, color='orientation'
    )
  ),
  'embedding-two_points': lambda: embedding.plot_embedding(embedding_frame(2)),
  'rate_per_latent': lambda: rate_per_latent.plot_rate_per_latent(
    rate_frame(10), UNICODE
  ),
  'rate_per_latent-one_step': lambda: rate_per_latent.plot_rate_per_latent(
    rate_frame(12, steps=(512,))
  ),
  'rate_per_latent-one_row': lambda: rate_per_latent.plot_rate_per_latent(
    rate_frame(1, steps=(1024,))
  ),
  'rate_per_latent-nan': lambda: rate_per_latent.plot_rate_per_latent(
    with_nan(rate_frame(3), 'rate_nats')
  ),
  'rate_per_latent-64_latents': lambda: rate_per_latent.plot_rate_per_latent(
    rate_frame(64)
  ),
  'rate_distortion': lambda: rate_distortion.plot_rate_distortion(
    frontier_frame()
  ),
  'rate_distortion-series': lambda: rate_distortion.plot_rate_distortion(
    frontier_frame(series=('latent_size 2', f'latent_size {UNICODE}')),
    UNICODE,
    figures.DOUBLE_COLUMN,
  ),
  'rate_distortion-one_row': lambda: rate_distortion.plot_rate_distortion(
    frontier_frame(1, betas=(0.784,))
  ),
  'rate_distortion-nan': lambda: rate_distortion.plot_rate_distortion(
    with_nan(frontier_frame(), 'rate_nats')
  ),
  'traversals-factors': lambda: traversals.plot_traversals(
    traversal_frame(4, inactive=2).assign(factor='scale', share=0.824)
  ),
  'factors': lambda: factors.plot_factors(
    factors_frame(8, inactive=3), 'Factors'
  ),
  'factors-single': lambda: factors.plot_factors(
    factors_frame(4, ('floor_hue', 'orientation', 'x', 'y')), page=SINGLE
  ),
  'factors-64_latents': lambda: factors.plot_factors(factors_frame(64)),
  'factors-one': lambda: factors.plot_factors(
    factors_frame(1, ('label',)), UNICODE, SINGLE
  ),
  'scores': lambda: scores.plot_scores(
    scores_frame(panels=6, colours=('elbo', UNICODE)), 'strength', 'objective'
  ),
  'scores-one_seed': lambda: scores.plot_scores(
    scores_frame(('conv', 'mlp'), seeds=1), 'network', page=SINGLE
  ),
  'scores-23_panels': lambda: scores.plot_scores(
    scores_frame(panels=23), 'beta', '', UNICODE, SINGLE
  ),
  'scores-one_value': lambda: scores.plot_scores(scores_frame(('1',)), 'beta'),
  'scores-run': lambda: scores.plot_run_scores(run_scores_frame(), UNICODE),
  'scores-run_single': lambda: scores.plot_run_scores(
    run_scores_frame([f'score {k}' for k in range(15)]), '', SINGLE
  ),
  'study': lambda: study.plot_variance(share_frame(), UNICODE),
  'study-one_setting': lambda: study.plot_variance(
    share_frame(('beta', 'seed'), scores=1), page=SINGLE
  ),
  'study-nan': lambda: study.plot_variance(with_nan(share_frame(), 'share')),
  'correlations': lambda: study.plot_correlations(correlation_frame(), UNICODE),
  'correlations-many': lambda: study.plot_correlations(
    with_nan(correlation_frame(12, 6), 'value')
  ),
  'sweep': lambda: sweep.plot_sweep(sweep_frame(), 'beta', 'elbo, nats'),
  'sweep-failed': lambda: sweep.plot_sweep(
    with_failures(sweep_frame(series=('seeds a', UNICODE))),
    'beta',
    'elbo, nats',
    'series',
    UNICODE,
  ),
  'sweep-words': lambda: sweep.plot_sweep(
    sweep_frame(('conv', 'mlp', 'β')), 'network', 'elbo, nats'
  ),
  'sweep-zero': lambda: sweep.plot_sweep(
    sweep_frame((0.0, 0.01, 10.0), seeds=1), 'beta', 'elbo, nats'
  ),
  'sweep-all_failed': lambda: sweep.plot_sweep(
    sweep_frame(seeds=1).assign(value=np.nan, status='failed'), 'beta', 'elbo'
  ),
}


def draw(plot, path):
  plot.save(path, dpi=DPI, verbose=False)
  return read(path)


def read(path):
  with PIL.Image.open(path) as image:
    return image.convert('RGB')


def difference(image, approved):
  """The largest difference of two pictures in a patch, between 0 and 1.

  Patches of 6 x 6 device pixels do not see how a letter's edge is smoothed.
  """
  if np.abs(np.subtract(image.size, approved.size)).max() > 4:
    return 1.0
  patches = (approved.width // 6, approved.height // 6)
  boxes = [
    np.asarray(picture.resize(patches, PIL.Image.Resampling.BOX), float)
    for picture in (image, approved)
  ]
  return np.abs(boxes[0] - boxes[1]).max() / 255


TOLERANCE = 0.06


@pytest.mark.filterwarnings('ignore:Glyph')
@pytest.mark.parametrize('name', CASES)
def test_figures_look_as_approved(tmp_path, name):
  image = draw(CASES[name](), tmp_path / 'x.png')
  path = APPROVED / f'{name}.png'
  if os.environ.get('APPROVE'):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)
  approved = read(path)
  assert difference(image, approved) < TOLERANCE


def test_every_approved_picture_has_a_case():
  assert {path.stem for path in APPROVED.iterdir()} == set(CASES)


@pytest.mark.parametrize(
  'change',
  [
    lambda: loss_curves.plot_loss_curves(train_frame(value=3.0)),
    lambda: loss_curves.plot_loss_curves(train_frame().drop(index=[4])),
    lambda: loss_curves.plot_loss_curves(
      train_frame().replace({'total': {0.275: 0.4}})
    ),
    lambda: loss_curves.plot_loss_curves(train_frame(), title='Title'),
    lambda: loss_curves.plot_loss_curves(train_frame().assign(reduction='sum')),
  ],
)
def test_a_changed_figure_is_seen(tmp_path, change):
  approved = read(APPROVED / 'loss_curves.png')
  image = draw(change(), tmp_path / 'x.png')
  assert difference(image, approved) > TOLERANCE


PLOTS = {
  loss_curves.plot_loss_curves: train_frame,
  reconstructions.plot_reconstructions: lambda: reconstruction_frame(3),
  reconstructions.plot_by_factor: lambda: factor_frame((3, 6)),
  samples.plot_samples: lambda: pd.DataFrame(
    {'image': pictures(3), 'shown': 'mode'}
  ),
  traversals.plot_traversals: lambda: traversal_frame(3),
  traversals.plot_latent_grid: lambda: grid_frame(3),
  traversals.plot_side_by_side: lambda: side_by_side_frame(
    {'latents': 2}, {'latents': 3}
  ),
  manifold.plot_manifold: lambda: grid_frame(3),
  embedding.plot_embedding: lambda: embedding_frame(9),
  rate_per_latent.plot_rate_per_latent: lambda: rate_frame(3),
  rate_distortion.plot_rate_distortion: frontier_frame,
  factors.plot_factors: lambda: factors_frame(3),
  lambda frame: scores.plot_scores(frame, 'x'): scores_frame,
  scores.plot_run_scores: run_scores_frame,
  study.plot_variance: share_frame,
  study.plot_correlations: correlation_frame,
  lambda frame: sweep.plot_sweep(frame, 'x', 'y'): sweep_frame,
}


@pytest.mark.parametrize('plot', PLOTS, ids=lambda plot: plot.__name__)
def test_frames_that_cannot_be_drawn_are_refused(plot):
  frame = PLOTS[plot]()
  before = frame.copy()
  plot(frame)
  pd.testing.assert_frame_equal(frame, before)
  with pytest.raises(figures.FigureError, match='no rows yet'):
    plot(frame.iloc[:0])
  with pytest.raises(figures.FigureError, match='lacks the columns'):
    plot(frame[[]])
