"""Rate of each latent, over training or at its end; active units are marked.

Of a run that was evaluated once, as bars.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import mizani.breaks
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, frames, wording
from launch import records


def read_frame(run: frames.RunFiles) -> pd.DataFrame:
  """Returns the rows of rate_per_latent.csv on the split that is evaluated.

  Returns:
    Also the column is_result, whether a row is of the weights that count.

  Raises:
    FigureError: a run without rates.
    RecordError: a table that is missing, damaged, or without a row.
  """
  frames.check_rates(run, 'its latents have no rate')
  # Says what to do where there are none yet.
  result = frames.result_rows(run, records.RATE_PER_LATENT)
  frame = records.read_table(run.path, records.RATE_PER_LATENT)
  frame = frame[frame['split'] == run.split]
  return frame.assign(is_result=frame['step'] == result['step'].iloc[0])


def plot_rate_per_latent(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
  example: str = 'image',
  note: str = '',
) -> gg.ggplot:
  """Draws the rates, the latent of the highest rate in the result on top.

  Args:
    frame: from `read_frame`.
    title: of the figure.
    page: what it is drawn for.
    example: what the data are made of.
    note: a sentence below it, of what the rates are.
  """
  rate = wording.with_unit('rate_nats', example)
  figures.check_columns(
    frame, ['step', 'latent', 'rate_nats', 'mean_variance', 'is_result']
  )
  steps = np.sort(frame['step'].unique())
  result = frame[frame['is_result']]
  if result.empty:
    raise figures.FigureError('the weights that count were not evaluated yet')
  order = result.sort_values('rate_nats', kind='stable', na_position='first')
  latents = list(order['latent'])
  cells = frame[frame['latent'].isin(latents)].copy()
  cells['place'] = cells['latent'].map({u: i for i, u in enumerate(latents)})
  panel = min(page.height - 1.5, max(1.2, 0.13 * len(latents)))
  labels = [
    gg.scale_y_continuous(
      name='latent',
      breaks=list(range(len(latents))),
      labels=[str(latent) for latent in latents],
      expand=(0, 0.2 if len(steps) == 1 else 0),  # Around bars.
    ),
    gg.theme(
      panel_grid_major_y=gg.element_blank(),
      axis_text_y=gg.element_text(
        size=min(6.5, 0.75 * 72 * panel / len(latents))
      ),
    ),
  ]
  if len(steps) == 1:
    panel = max(0.5, 0.13 * len(latents))
    return _bars(cells, labels, title, page, panel, rate, note)
  # A rate holds from halfway to the step before until halfway to the next.
  inner = (steps[1:] + steps[:-1]) / 2
  edges = np.array([max(0.0, 1.5 * steps[0] - 0.5 * steps[1]), *inner])
  edges = np.append(edges, 1.5 * steps[-1] - 0.5 * steps[-2])
  place = np.searchsorted(steps, cells['step'])
  cells['left'], cells['right'] = edges[place], edges[place + 1]
  cells['low'], cells['high'] = cells['place'] - 0.5, cells['place'] + 0.5
  active = cells[
    cells['is_result'] & (cells['mean_variance'] > frames.ACTIVE_VARIANCE)
  ].assign(x=edges[-1] + 0.03 * (edges[-1] - edges[0]))
  return (
    gg.ggplot(cells)
    + gg.geom_rect(
      gg.aes(
        xmin='left', xmax='right', ymin='low', ymax='high', fill='rate_nats'
      )
    )
    + gg.geom_point(gg.aes('x', 'place'), active, size=0.9, stroke=0)
    + gg.scale_fill_cmap(
      'viridis',
      name=rate,
      # Fewer ticks than crowd a narrow bar.
      breaks=mizani.breaks.breaks_extended(4),
      labels=wording.tick_labels,
      limits=(0.0, max(1e-6, np.nanmax(cells['rate_nats'], initial=0.0))),
      na_value='#d9d9d9',
      guide=gg.guide_colorbar(),
    )
    + gg.scale_x_continuous(
      name='training step',
      labels=wording.tick_labels,
      expand=(0, 0, 0.03, 0),
      breaks=list(steps)
      if len(steps) < 4
      else [
        b
        for b in mizani.breaks.breaks_extended()((edges[0], edges[-1]))
        if b <= steps[-1]
      ],
    )
    + figures.dress(
      page,
      panel + 0.9,
      title,
      f'Active latents (dots): {_count_active(cells[cells["is_result"]])}'
      + (
        '.'
        if (kept := result['step'].iloc[0]) == steps[-1]
        else f' after step {kept:,}, whose weights were kept.'
      )
      + note,
    )
    + labels
    + gg.theme(
      panel_grid_major_x=gg.element_blank(),
      legend_key_width=72 * 0.4 * page.width,
      legend_key_height=6,
    )
  )


def _count_active(cells: pd.DataFrame) -> str:
  """Says how many latents are active, and what that is."""
  count = (cells['mean_variance'] > frames.ACTIVE_VARIANCE).sum()
  return (
    f'{count} of {len(cells)}; the variance of their posterior mean is more '
    f'than {frames.ACTIVE_VARIANCE}'
  )


def _bars(
  cells: pd.DataFrame,
  labels: Sequence[Any],
  title: str,
  page: figures.Page,
  panel: float,
  rate: str,
  note: str,
) -> gg.ggplot:
  """Draws the rates of one evaluation."""
  active = cells['mean_variance'] > frames.ACTIVE_VARIANCE
  cells = cells.assign(
    kind=np.where(active, 'active', 'inactive'),
    low=cells['place'] - 0.4,
    high=cells['place'] + 0.4,
  )
  return (
    gg.ggplot(cells)
    + gg.geom_rect(
      gg.aes(xmin=0, xmax='rate_nats', ymin='low', ymax='high', fill='kind'),
      na_rm=True,
    )
    + gg.scale_fill_manual(
      {'active': colours.PALETTE[0], 'inactive': '#b0b0b0'}, guide=None
    )
    + gg.scale_x_continuous(
      name=rate,
      expand=(0, 0, 0.05, 0),
      labels=wording.tick_labels,
    )
    + labels
    + figures.dress(
      page,
      panel + 0.6,
      title,
      f'Active latents (blue): {_count_active(cells)}, after step '
      f'{cells["step"].iloc[0]:,}.{note}',
    )
  )


def _note(run: frames.RunFiles) -> str:
  """Says what the rates are, where they are no parts of the run's own."""
  if run.config['prior'] != 'standard':
    return ' Of the KL from N(0, 1), which is not the prior.'
  if run.config['posterior'] == 'full_covariance':
    return " Of each latent's marginal: the rate of all is more than the sum."
  return ''


def _draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
  (run,) = runs.runs
  return plot_rate_per_latent(
    read_frame(run),
    command.title(arguments, runs),
    command.page(arguments),
    run.example,
    _note(run),
  )


FIGURE = command.Figure(
  'rate_per_latent',
  __doc__,
  _draw,
  'The rate of each latent, in nats: a heat map over training, or bars of one '
  'evaluation; active latents are marked.',
  width='single',
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
