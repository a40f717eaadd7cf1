"""Loss curves: total, reconstruction and KL against the step, log-log."""

import pathlib
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotnine as gg

from analysis import figures
from launch import records

_TERMS = ('total', 'reconstruction', 'kl')

_UNITS = {
  'mean': {
    'total': 'total',
    'reconstruction': 'reconstruction, nats per pixel',
    'kl': 'KL, nats per latent',
  },
  'sum': {
    'total': 'total',
    'reconstruction': 'reconstruction, nats per image',
    'kl': 'KL, nats per image',
  },
}


def plot_loss_curves(
  frame: pd.DataFrame, reduction: str, title: str = ''
) -> gg.ggplot:
  """Draws the loss and its two terms.

  Args:
    frame: rows of train.csv.
    reduction: the run's, which says the unit of the terms.
    title: of the figure.

  Raises:
    FigureError: missing columns, or no rows.
  """
  figures.check_columns(frame, ['step', *_TERMS])
  labels = _UNITS[reduction]
  long = frame.melt('step', list(_TERMS), 'term', 'value')
  # A logarithmic axis has no place for what is not above zero.
  long = long[long['value'] > 0].copy()
  long['term'] = pd.Categorical(
    long['term'].map(labels), [labels[term] for term in _TERMS]
  )
  lines = [gg.geom_line(size=0.6)] if long['term'].duplicated().any() else []
  return (
    gg.ggplot(long, gg.aes('step', 'value', color='term'))
    + gg.facet_wrap('term', scales='free_y')
    + lines
    + gg.geom_point(size=0.8)
    + gg.scale_x_log10(name='training step')
    + gg.scale_y_log10(name='')
    + gg.scale_color_manual(figures.PALETTE, guide=None)
    + figures.title(title, figures.DOUBLE_COLUMN)
    + figures.theme(figures.DOUBLE_COLUMN, 2.3)
  )


def _draw(run_dir: pathlib.Path, manifest: Mapping[str, Any]) -> gg.ggplot:
  config = records.read_config(run_dir)
  return plot_loss_curves(
    records.read_table(run_dir, records.TRAIN),
    config['reduction'],
    figures.describe(config, manifest),
  )


if __name__ == '__main__':
  figures.run('loss_curves', __doc__, _draw)
