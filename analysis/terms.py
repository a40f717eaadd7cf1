"""Terms: what objectives measure besides the loss, against the step.

Total correlation, mutual information, capacity and the like, each in its unit;
on logarithmic axes where all of them are above zero. Several runs are overlaid;
runs that differ in their seeds alone become their mean, with a band of one
standard error.
"""

from collections.abc import Sequence

import pandas as pd
import plotnine as gg

from analysis import command, figures, loss_curves, wording
from launch import records

_BIAS = (
  'Minibatch-weighted sampling (Chen et al. 2018) puts the total correlation '
  'of β-TCVAE up to (L − 1) log N nats too high, and its mutual information up '
  'to log N, for L latents and N training images; an evaluation of the run '
  'measures both without this bias.'
)


def plot_terms(
  frame: pd.DataFrame,
  color: str = 'configuration',
  facet: str | None = None,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
  notes: Sequence[str] = (),
  example: str = 'image',
) -> gg.ggplot:
  """Draws a panel for each term.

  Args:
    frame: from `frames.Runs.rows` of terms.csv. Rows of one `configuration`,
      step and term are seeds.
    color: the setting that colours the curves.
    facet: the setting whose values have a row of panels each.
    title: of the figure.
    page: what it is drawn for.
    notes: sentences below it.
    example: what the data are made of.

  Raises:
    FigureError: missing columns, or no rows.
  """
  if frame.empty:
    raise figures.FigureError(
      'nothing was measured besides the loss: only some objectives do, such as '
      'beta_tc and factor'
    )
  figures.check_columns(frame, ['term', 'value'])
  panels = frame['term'].map(
    lambda term: (
      words
      if ', ' in (words := wording.with_unit(term, example))
      else f'{words}, no unit'
    )
  )
  notes = [*notes]
  # A schedule says what the capacity is.
  if (estimated := frame['term'] != 'capacity_nats').any():
    but = '' if estimated.all() else ', but for the capacity'
    notes.append(f'Estimates on the minibatch of each step{but}.')
  if 'tc_estimator' in frame:
    weighted = frame['tc_estimator'] == 'weighted'
    if (weighted & (frame['objective'] == 'beta_tc')).any():
      notes.append(_BIAS)
  return loss_curves.plot_curves(
    frame.assign(panel=panels), color, facet, title, page, notes
  )


FIGURE = command.Figure(
  'terms',
  __doc__,
  loss_curves.of_table(records.TERMS, plot_terms),
  'Curves of what the objective measures besides the loss, a panel for each '
  'term, against the training step.',
  joint=True,
  add_options=loss_curves.add_options,
)

plot = FIGURE.plot

if __name__ == '__main__':
  command.run(FIGURE)
