"""Factors: what each latent tells of each known factor, as heat maps.

The mutual information of a latent and a factor over the factor's entropy, and
the importances of DCI where `launch.evaluate --scores` has fitted them.
"""

import math

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, frames, scores, table, wording
from launch import records

INFORMATION, IMPORTANCE = 'information', 'importance'

# Scores that are made of the mutual information.
_OF_INFORMATION = ('mig', 'modularity')

# Below it a number is grey, so that the others show, and nothing is framed.
_LITTLE = 0.05

# How large letters along the axis are, in points.
_TICKS = 6.0

# A share from which white letters are plainer than black ones.
_MUCH = 0.72


def read_frame(run: frames.RunFiles) -> pd.DataFrame:
  """Returns a row for each measure, latent and factor.

  Returns:
    Columns measure, `INFORMATION` (of a latent and a factor over the factor's
    entropy) or `IMPORTANCE`; panel, what that is in words; latent, factor,
    value; rate_nats and active, as of `frames.rates`; scores, those that are
    made of the measures, in words.

  Raises:
    FigureError: a run that was not scored.
    RecordError: files that are damaged.
  """
  if (arrays := _read_arrays(run)) is None:
    raise figures.FigureError(
      f'{run.path} was not scored; python -m launch.evaluate '
      f'--run_dir={run.path} --scores=all does so'
    )
  step = int(arrays['step'])
  rates = frames.rates(run, step)
  matrices = {INFORMATION: arrays['shares']}
  if 'importances' in arrays:
    matrices[IMPORTANCE] = arrays['importances']
  found = scores.read_scores(run, step)
  by = str(arrays.get('importances_of', ''))
  panels = {
    INFORMATION: 'information / entropy of the factor',
    IMPORTANCE: f'importance, {scores.label(by, "")}',
  }
  found = found[found['score'].isin([*_OF_INFORMATION, by])]
  if len(rates) != len(matrices[INFORMATION]):
    raise records.RecordError(
      f'{run.path / records.ARRAYS / "scores"}.npz is damaged: it has '
      f'{len(matrices[INFORMATION])} latents, not {len(rates)}'
    )
  rates = rates.set_index('latent')
  latents, names = np.arange(len(rates)), arrays['factors']
  parts = [
    pd.DataFrame(
      {
        'measure': measure,
        'panel': panels[measure],
        'latent': np.repeat(latents, len(names)),
        'factor': np.tile(names, len(latents)),
        'value': matrix.ravel(),
      }
    )
    for measure, matrix in matrices.items()
  ]
  frame = pd.concat(parts, ignore_index=True)
  variance = frame['latent'].map(rates['mean_variance'])
  return frame.assign(
    rate_nats=frame['latent'].map(rates['rate_nats']),
    active=~(variance <= frames.ACTIVE_VARIANCE),
    scores=', '.join(
      f'{scores.label(row["score"], row["variant"])} '
      + table.show(row['value'], row['se'], in_figure=True)
      for row in found.to_dict('records')
    ),
  )


def _read_arrays(run: frames.RunFiles) -> dict[str, np.ndarray] | None:
  """Returns arrays/scores.npz and `shares`, I / H [L, K]; None without it.

  Raises:
    RecordError: a damaged file.
  """
  path = run.path / records.ARRAYS / 'scores.npz'
  if not path.exists():
    return None
  keys = ['step', 'factors', 'information_nats', 'entropy_nats']
  arrays = records.read_arrays(run.path, 'scores', keys)
  entropies = arrays['entropy_nats']
  if not (entropies > 0).all():
    raise records.RecordError(
      f'{path} is damaged: its entropy_nats are {entropies}'
    )
  return arrays | {'shares': arrays['information_nats'] / entropies}


def read_most(run: frames.RunFiles, step: int) -> pd.DataFrame | None:
  """Returns the factor that each latent tells most of.

  Args:
    run: the run.
    step: of the weights.

  Returns:
    Columns factor and share, of the factor's entropy, by latent; None where
    these weights were not scored.

  Raises:
    RecordError: a damaged file.
  """
  arrays = _read_arrays(run)
  if arrays is None or int(arrays['step']) != step:
    return None
  shares = arrays['shares']
  return pd.DataFrame(
    {
      'factor': arrays['factors'][shares.argmax(axis=1)],
      'share': shares.max(axis=1),
    }
  )


def plot_factors(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws a heat map for each measure, latents by the factor they tell most of.

  Latents that are not active are one row, of the highest value of each factor.
  """
  columns = ['measure', 'panel', 'latent', 'factor', 'value']
  figures.check_columns(frame, [*columns, 'rate_nats', 'active', 'scores'])
  names = list(frame['factor'].unique())
  panels = list(frame['panel'].unique())
  rows = _rows(frame, names)
  cells = frame.assign(row=frame['latent'].map(rows['row']))
  cells = cells.groupby(['panel', 'row', 'factor'], sort=False)['value'].max()
  cells = cells.reset_index()
  framed, gaps = _contenders(frame)
  framed['row'] = framed['latent'].map(rows['row'])
  unseen = framed[~framed['latent'].map(rows['active'])]
  folded = ', '.join(
    f'z{latent} ({", ".join(of)})'
    for latent, of in unseen.groupby('latent')['factor']
  )
  # Of two in one row the first.
  framed = framed.drop_duplicates(['panel', 'factor', 'row'])
  last = int(rows['row'].max())
  # The gaps stand apart from the latents.
  gaps['row'] = last + 1.4
  cells = pd.concat([cells, gaps], ignore_index=True)
  labels = rows.drop_duplicates('row').sort_values('row')['label']

  across = len(panels) if page.is_double else 1
  down = -(-len(panels) // across)
  beside = 0.3 + 0.055 * max(map(len, labels))
  cell = (page.width - beside) / across / len(names)  # Inches.
  room = (page.height - 1.6) / down - 0.14
  height = min(0.18 * (last + 2), room)
  cell_height = height / (last + 2)
  has_numbers = cell >= 0.28 and cell_height >= 0.12
  for part in (cells, framed):
    part['panel'] = pd.Categorical(part['panel'], panels)
    part['x'] = part['factor'].map({name: k for k, name in enumerate(names)})
    part['y'] = -part['row']
  cells['number'] = [f'{value:.2f}' for value in cells['value']]
  cells['ink'] = np.select(
    [cells['value'] > _MUCH, cells['value'] < _LITTLE],
    ['#ffffff', '#737373'],
    '#000000',
  )
  broken = [name.replace('_', '\n') for name in names]
  is_turned = any(
    figures.text_width(line, page, _TICKS) > 0.95 * cell
    for name in broken
    for line in name.split('\n')
  )
  inactive, made = rows[~rows['active']], frame['scores'].iloc[0]
  return (
    gg.ggplot(cells, gg.aes('x', 'y'))
    + gg.facet_wrap(
      'panel', ncol=across, scales='free_y' if across == 1 else 'fixed'
    )
    + gg.geom_tile(gg.aes(fill='value'), color='#e6e6e6', size=0.3)
    + [
      gg.geom_tile(
        data=framed[framed['place'] == place],
        fill='none',
        color=colours.PALETTE[1],
        linetype=linetype,
        size=0.7,
        width=0.92,
        height=0.88,
      )
      for place, linetype in ((1, 'solid'), (2, 'dashed'))
      if (framed['place'] == place).any()
    ]
    + (
      gg.geom_text(gg.aes(label='number', color='ink'), size=6)
      if has_numbers
      else gg.geom_blank()
    )
    + gg.scale_color_identity()
    + gg.scale_fill_cmap(
      'Blues',
      name='share',
      limits=(0.0, 1.0),
      breaks=[0.0, 0.5, 1.0],
      guide=gg.guide_colorbar(),
    )
    + gg.scale_x_continuous(
      name='factor',
      breaks=list(range(len(names))),
      labels=names if is_turned else broken,
      expand=(0, 0),
    )
    + gg.scale_y_continuous(
      name=wording.LATENTS if rows['rate_nats'].notna().any() else 'latent',
      breaks=[*(-k for k in range(last + 1)), -(last + 1.4)],
      labels=[*labels, 'gap'],
      expand=(0, 0),
    )
    + figures.dress(
      page,
      down * (height + 0.14)
      + 0.1 * (down - 1)
      + 0.9
      + (0.35 if is_turned else 0.0),
      title,
      'Information: of the posterior mean, in bins, without the noise that a '
      'rate counts. Framed: the latent that tells most of a factor (solid) and '
      f'the next (dashed), from {_LITTLE} on; gap: their difference. The mean '
      'of the gaps is MIG, of one draw of images.'
      + (
        ' Inactive: the variance of the posterior mean is at most '
        f'{frames.ACTIVE_VARIANCE}; shown is the highest of their values'
        + (f', framed that of {folded}.' if folded else '.')
        if len(inactive)
        else ''
      )
      + (f' {made}.' if made else '')
      + (' ±: 1 standard error over draws of images.' if '±' in made else ''),
      has_strips=True,
    )
    + gg.theme(
      panel_spacing_y=0.1 / page.width,
      panel_grid_major=gg.element_blank(),
      panel_border=gg.element_blank(),
      axis_ticks=gg.element_blank(),
      axis_text_x=gg.element_text(
        size=_TICKS, **({'rotation': 45, 'ha': 'right'} if is_turned else {})
      ),
      axis_text_y=gg.element_text(size=min(6.5, 0.75 * 72 * cell_height)),
      legend_key_width=60,
      legend_key_height=6,
    )
  )


def _rows(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
  """Returns of each latent its `row` from the top, `label`, rate and active.

  Rows are ordered by the factor that a latent tells most of, and by how much.
  """
  latents = frame.drop_duplicates('latent').set_index('latent')
  information = frame[frame['measure'] == INFORMATION]
  top = information.loc[information.groupby('latent')['value'].idxmax()]
  latents = latents[['rate_nats', 'active']].join(
    top.set_index('latent')[['factor', 'value']]
  )
  latents['factor'] = latents['factor'].map(names.index)
  latents = latents.sort_values(
    ['active', 'factor', 'value'], ascending=[False, True, False], kind='stable'
  )
  count = int(latents['active'].sum())
  latents['row'] = np.minimum(np.arange(len(latents)), count)
  highest = latents.loc[~latents['active'], 'rate_nats'].max()
  latents['label'] = [
    wording.latent(latent, rate)
    if active
    else f'{len(latents) - count} inactive '
    f'(≤ {math.ceil(100 * highest) / 100:.2f})'
    for latent, rate, active in zip(
      latents.index, latents['rate_nats'], latents['active'], strict=True
    )
  ]
  return latents


def _contenders(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
  """Returns the two latents that tell most of each factor, and the gaps.

  Returns:
    Columns panel, factor, latent and place, 1 or 2; and panel, factor and
    value.
  """
  information = frame[frame['measure'] == INFORMATION]
  places, gaps = [], []
  for (panel, factor), column in information.groupby(
    ['panel', 'factor'], sort=False
  ):
    key = {'panel': panel, 'factor': factor}
    top = column.nlargest(2, 'value')
    values = [*top['value'], 0.0]
    if values[0] >= _LITTLE:
      for place, latent in enumerate(top['latent'], 1):
        places.append(key | {'latent': latent, 'place': place})
    gaps.append(key | {'value': values[0] - values[1]})
  columns = ['panel', 'factor', 'latent', 'place']
  return pd.DataFrame(places, columns=columns), pd.DataFrame(gaps)


FIGURE = command.Figure(
  'factors',
  __doc__,
  command.of_one_run(read_frame, plot_factors),
  'Heat maps of latents against factors: how much each latent tells of each '
  'factor, the two that tell most framed.',
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
