"""Loss curves: total, reconstruction and KL against the step.

On logarithmic axes where every loss and its band are above zero, as those of a
density need not be; else the axes of the losses are linear. Several runs are
overlaid; runs that differ in their seeds alone become their mean, with a band
of one standard error. Runs of unlike objectives share no panel of the total.
"""

import argparse
import math
from collections.abc import Callable, Sequence

import mizani.breaks
import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, frames, wording
from launch import records
from launch.settings import config as config_lib

_TERMS = ('total', 'reconstruction', 'measured_kl')

# So many values of a setting have room beside each other in one column, or in
# both.
_MOST_FACETS = (2, 5)


def plot_loss_curves(
  frame: pd.DataFrame,
  color: str = 'configuration',
  facet: str | None = None,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
  notes: Sequence[str] = (),
  example: str = 'image',
) -> gg.ggplot:
  """Draws the loss and its two terms.

  Args:
    frame: from `frames.Runs.rows`. Rows of one `configuration` and step are
      seeds.
    color: the setting that colours the curves.
    facet: the setting whose values have panels of their own.
    title: of the figure.
    page: what it is drawn for.
    notes: sentences below it.
    example: what the data are made of.

  Raises:
    FigureError: missing columns, no rows, or runs that share no quantity.
  """
  settings = [color, *([facet] if facet else [])]
  figures.check_columns(
    frame, ['step', 'configuration', 'reduction', *_TERMS, *settings]
  )
  if frame['reduction'].nunique() > 1:
    raise figures.FigureError(
      'the runs mix --reduction=mean and sum, whose losses have different '
      'units; draw them apart'
    )
  (reduction,) = frame['reduction'].unique()
  terms = [term for term in _TERMS if frame[term].notna().any()]
  if not terms:
    raise figures.FigureError(
      'the runs have no loss that is the same quantity; --facet=likelihood '
      'draws them apart'
    )
  density = frame.get('distortion_nats', pd.Series(0.0, frame.index)).notna()
  density = density.groupby(frame['configuration']).transform('any')
  kept = dict.fromkeys(['step', 'configuration', *settings, 'has_density'])
  long = frame.assign(has_density=density).melt([*kept], terms, 'term')
  panels = [
    _label(term, reduction, has_density, example)
    for term, has_density in zip(long['term'], long['has_density'], strict=True)
  ]
  return plot_curves(
    long.assign(panel=panels),
    color,
    facet,
    title,
    page,
    ['Of training minibatches.', *notes],
  )


def plot_curves(
  frame: pd.DataFrame,
  color: str,
  facet: str | None,
  title: str,
  page: figures.Page,
  notes: Sequence[str] = (),
) -> gg.ggplot:
  """Draws values against the training step, each kind in its own panel.

  Args:
    frame: columns step, configuration, `panel` (in words, the unit after a
      comma), value, and those of `color` and `facet`. Rows of one
      configuration, panel and step are seeds.
    color: as in `plot_loss_curves`.
    facet: likewise.
    title: of the figure.
    page: what it is drawn for.
    notes: sentences below it.

  Raises:
    FigureError: no values.
  """
  settings = [color, *([facet] if facet else [])]
  frame = frame.dropna(subset='value')
  figures.check_columns(frame, ['step', 'configuration', 'panel', *settings])
  values = frame[facet].nunique() if facet else 1
  panels = len(frame[[*settings[1:], 'panel']].drop_duplicates())
  kinds = frame['panel'].nunique()
  # Where each value has all panels, these stand below each other.
  is_grid = (
    1 < values <= _MOST_FACETS[page.is_double] and panels == kinds * values
  )
  columns = values if is_grid else min(3, kinds) if page.is_double else 1
  if columns > 1:  # The unit has a line of its own.
    frame = frame.assign(panel=frame['panel'].str.replace(', ', '\n'))
  names = list(frame['panel'].unique())
  keys = list(dict.fromkeys(['step', 'configuration', *settings, 'panel']))
  seeds = frames.over_seeds(frame, keys)
  seeds['panel'] = pd.Categorical(seeds['panel'], names)
  for name in settings:
    seeds[name] = seeds[name].map(records.text)
  if facet:  # A strip says what its value is of.
    seeds['facet'] = pd.Categorical(
      seeds[facet], frames.levels(seeds[facet])
    ).rename_categories(lambda value: wording.assigned(facet, value))
  # Fewer than the scale itself finds: what has room below a narrow panel.
  steps = mizani.breaks.breaks_log()((seeds['step'].min(), seeds['step'].max()))
  setting = '' if color == 'configuration' else color
  hues = colours.hues(frames.levels(seeds[color]), page, setting)
  seeds['color'] = hues.of(seeds[color])
  # One point has no line.
  lines = seeds.groupby(['configuration', 'panel'], observed=True).filter(
    lambda group: len(group) > 1
  )
  banded = bool((seeds['sem'] > 0).any())
  is_logarithmic = (seeds['low'] > 0).all()
  notes = [
    'Vertical axes: log scale.'
    if is_logarithmic
    else 'Vertical axes: linear, as not all values are above zero.',
    *notes,
  ]
  if banded:
    notes.append('Mean over seeds; band: ± 1 standard error.')
  if hues.note:
    notes.append(hues.note)
  # Panels below each other are less high than wide.
  height = 1.35 if is_grid else 1.75 if page.is_double else 0.42 * page.width
  return (
    gg.ggplot(
      seeds, gg.aes('step', 'mean', color='color', group='configuration')
    )
    + (
      gg.facet_grid('panel', 'facet', scales='free_y')
      if is_grid
      else gg.facet_wrap(
        ['facet', 'panel'] if facet else 'panel', scales='free_y', ncol=columns
      )
    )
    + gg.geom_ribbon(
      gg.aes(ymin='low', ymax='high', fill='color'),
      lines if banded else lines[:0],
      alpha=0.25,
      color='none',
      show_legend=False,
    )
    + gg.geom_line(data=lines, size=0.6)
    + gg.geom_point(size=1.2, stroke=0)
    + gg.scale_x_log10(
      name='training step (log scale)',
      breaks=steps if columns > 3 else True,
      labels=wording.tick_labels,
    )
    + (
      gg.scale_y_log10(name='', labels=wording.tick_labels)
      if is_logarithmic
      else gg.scale_y_continuous(name='', labels=wording.tick_labels)
    )
    + hues.fill
    + figures.dress(
      page,
      math.ceil(panels / columns) * height + 0.3 + hues.height,
      title,
      ' '.join(notes),
      has_strips=True,
    )
    + hues.layers
    + gg.theme(panel_spacing_y=0.1 / page.width)
  )


def _label(term: str, reduction: str, has_density: bool, example: str) -> str:
  """Names a term with its unit."""
  if term == 'total':
    return 'total loss, as trained'
  name = {'measured_kl': 'KL'}.get(term, term)
  if not has_density:
    return f'{name}, not a density: as trained'
  if reduction == 'sum':
    return f'{name}, nats per {example}'
  value = {'image': 'pixel', 'row': 'cell'}.get(example, 'value')
  return f'{name}, nats per {"latent" if name == "KL" else value}'


def of_table(
  name: str, plot: Callable[..., gg.ggplot]
) -> Callable[[frames.Runs, argparse.Namespace], gg.ggplot]:
  """Returns what draws a table's rows by `plot`, as `add_options` says."""

  def draw(runs: frames.Runs, arguments: argparse.Namespace) -> gg.ggplot:
    color, facet = arguments.color, arguments.facet
    runs.check_settings(color, facet)
    page = command.page(arguments)
    if not color and not facet and _are_many(runs):
      color, facet = runs.varying
      if runs.table[facet].nunique() > _MOST_FACETS[page.is_double]:
        color, facet = facet, None
    elif not color and len(runs.varying) == 1:
      (color,) = runs.varying
    rows, notes = runs.rows(name), []
    apart = ('configuration', 'step', 'term', color, facet)
    rows = frames.over_repeats(rows, [key for key in apart if key in rows])
    if color and (others := runs.varying_within(*filter(None, (color, facet)))):
      listed = ', '.join(map(wording.name, others))
      notes.append(f'Curves of one colour differ in {listed}.')
    if note := wording.note(*filter(None, (color, facet))):
      notes.append(note)
    within = runs.varying_within(facet) if facet else runs.varying
    unlike = [other for other in within if config_lib.makes_loss(other)]
    if unlike and 'total' in rows:
      rows, what = rows.assign(total=np.nan), 'The total loss is'
      if 'likelihood' in unlike:  # Whose terms are unlike quantities too.
        rows = rows.assign(reconstruction=np.nan)
        what = 'The total loss and the reconstruction are'
      notes.append(
        f'{what} left out: runs that differ in '
        f'{" and ".join(map(wording.name, unlike))} minimise different sums.'
      )
    return plot(
      rows,
      color or 'configuration',
      facet,
      command.title(arguments, runs),
      page,
      notes,
      runs.example,
    )

  return draw


def _are_many(runs: frames.Runs) -> bool:
  """Says if two settings make more curves than colours can tell apart."""
  if len(runs.varying) != 2:
    return False
  curves = frames.configuration(runs.table, runs.varying)
  return curves.nunique() > len(colours.PALETTE)


def add_options(parser: command.Parser) -> None:
  """Adds the flags of curves."""
  parser.add_argument(
    '--color',
    metavar='SETTING',
    help='setting that colours the curves; default: all that vary, but seed; '
    f'of two that make more than {len(colours.PALETTE)} curves, one',
  )
  parser.add_argument(
    '--facet',
    metavar='SETTING',
    help='setting whose values have panels of their own; default: of two '
    f'that make more than {len(colours.PALETTE)} curves, the one of fewer '
    'values, where they have room',
  )


FIGURE = command.Figure(
  'loss_curves',
  __doc__,
  of_table(records.TRAIN, plot_loss_curves),
  'Curves of the reconstruction and the KL, and of the total loss where runs '
  'share one, against the training step, on logarithmic axes where losses '
  'allow it.',
  joint=True,
  add_options=add_options,
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
