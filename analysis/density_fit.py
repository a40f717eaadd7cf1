"""Density fit: a Gaussian p and the diagonal q nearest to it by each KL.

Gradient descent from N(0, I) minimises KL(q||p), as variational inference does,
and KL(p||q), as maximum likelihood does. At the optimum q has the mean of p,
and the variances 1 / diag(S^-1) or diag(S), S being the covariance of p (Bishop
2006, Pattern Recognition and Machine Learning, section 10.1.2). The first are
never larger than the second: KL(q||p) underestimates the variance.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures, wording
from launch import process, records

# What each minimises, and the name of the q that it finds.
FITS = {'reverse': 'q by KL(q‖p)', 'forward': 'q by KL(p‖q)'}

_MOST_STEPS = 100_000

# Parameters of p, beyond which its moments would leave what floats resolve.
_LARGEST = 1e6

# A fitted variance further than this from the closed form gets a warning.
_TOLERANCE = 0.01

# Contours, in standard deviations from the mean.
_RADII = (1, 2)


def triangle(parameters: Sequence[float]) -> np.ndarray:
  """Returns the scale of p: T = [[softplus(c), 0], [b, softplus(a)]], [2, 2].

  As TensorFlow Probability's `FillScaleTriL` builds it, which shifts the
  diagonal by 1e-5.

  Args:
    parameters: a, b and c.
  """
  a, b, c = parameters
  softplus = lambda x: np.logaddexp(0.0, x) + 1e-5
  return np.array([[softplus(c), 0.0], [b, softplus(a)]])


def kls(
  scale_tril: np.ndarray, loc: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns KL(q||p) and KL(p||q) of p = N(0, T T'), in nats, [...] each.

  Args:
    scale_tril: T, [L, L].
    loc: means of q, [..., L].
    scale: standard deviations of q, [..., L].
  """
  covariance, precision = _moments(scale_tril)
  log_ratio = np.log(np.diag(scale_tril)).sum() - np.log(scale).sum(-1)
  shift = ((loc @ precision) * loc).sum(-1)
  size = len(scale_tril)
  reverse = (scale**2 * np.diag(precision)).sum(-1) + shift - size
  forward = ((np.diag(covariance) + loc**2) / scale**2).sum(-1) - size
  return reverse / 2 + log_ratio, forward / 2 - log_ratio


def _moments(scale_tril: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The covariance T T' and its inverse."""
  # By the inverse of T, which is regular also where T T' is not in floats.
  inverse = np.linalg.inv(scale_tril)
  return scale_tril @ scale_tril.T, inverse.T @ inverse


def best_variances(scale_tril: np.ndarray, direction: str) -> np.ndarray:
  """Returns the variances of the best q in closed form, [L]."""
  covariance, precision = _moments(scale_tril)
  if direction == 'forward':
    return np.diag(covariance)
  return 1.0 / np.diag(precision)


def fit(
  scale_tril: np.ndarray, direction: str, learning_rate: float, num_steps: int
) -> pd.DataFrame:
  """Fits q = N(loc, diag(scale^2)) to p = N(0, T T') by gradient descent.

  What descends is loc and log(scale), from zeros, without noise: both KLs have
  closed forms, and so do their gradients.

  Args:
    scale_tril: T, [2, 2].
    direction: one of `FITS`, what is minimised.
    learning_rate: of each step.
    num_steps: K, the number of updates.

  Returns:
    q after 0, 1, ..., K updates: `step`, `direction`, `loc_0`, `loc_1`,
    `scale_0`, `scale_1`, `kl_q_p_nats`, `kl_p_q_nats`.

  Raises:
    FigureError: a learning rate so large that q diverges.
  """
  covariance, precision = _moments(scale_tril)
  loc, log_scale = np.zeros(2), np.zeros(2)
  rows = []
  with np.errstate(all='ignore'):
    for step in range(num_steps + 1):
      variance = np.exp(2 * log_scale)
      both = kls(scale_tril, loc, np.exp(log_scale))
      if not np.isfinite(both).all():
        raise figures.FigureError(
          f'--fit_learning_rate={learning_rate:g}: the {direction} fit has KLs '
          f'of {both[0]} and {both[1]} at step {step}; give a smaller one, or '
          'a --scale_tril nearer to zero'
        )
      rows.append((step, direction, *loc, *np.exp(log_scale), *both))
      if direction == 'reverse':
        gradients = precision @ loc, np.diag(precision) * variance - 1.0
      else:
        gradients = (
          loc / variance,
          1.0 - (np.diag(covariance) + loc**2) / variance,
        )
      loc = loc - learning_rate * gradients[0]
      log_scale = log_scale - learning_rate * gradients[1]
  columns = ['step', 'direction', 'loc_0', 'loc_1', 'scale_0', 'scale_1']
  return pd.DataFrame(rows, columns=[*columns, 'kl_q_p_nats', 'kl_p_q_nats'])


# -- The figure ---------------------------------------------------------------


def _contours(name: str, loc: np.ndarray, scale_tril: np.ndarray):
  """Points on the contours of N(loc, T T'): loc + radius * T * circle."""
  angles = np.linspace(0.0, 2.0 * np.pi, 181)
  circle = np.stack([np.cos(angles), np.sin(angles)])  # [2, A]
  variances = (scale_tril**2).sum(axis=1)
  label = f'{name}: variances {variances[0]:.2f}, {variances[1]:.2f}'
  return [
    pd.DataFrame(
      (loc[:, None] + radius * scale_tril @ circle).T, columns=['x', 'y']
    ).assign(density=label, radius=radius)
    for radius in _RADII
  ]


def plot_density_fit(
  frame: pd.DataFrame,
  scale_tril: np.ndarray,
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
) -> gg.ggplot:
  """Draws p = N(0, T T') and both fits at their last step.

  Args:
    frame: rows of `fit`, of both directions.
    scale_tril: T, [2, 2].
    title: of the figure.
    page: what it is drawn for.
  """
  contours = _contours('target p', np.zeros(2), scale_tril)
  for direction, name in FITS.items():
    last = frame[frame['direction'] == direction].iloc[-1]
    contours += _contours(
      name,
      last[['loc_0', 'loc_1']].to_numpy(float),
      np.diag(last[['scale_0', 'scale_1']].to_numpy(float)),
    )
  points = pd.concat(contours)
  points['density'] = pd.Categorical(
    points['density'], points['density'].unique()
  )
  shades = (colours.PALETTE[6], *colours.PALETTE[:2])
  return (
    gg.ggplot(points, gg.aes('x', 'y', color='density', linetype='density'))
    + gg.geom_path(
      gg.aes(group='density.astype(str) + radius.astype(str)'), size=0.7
    )
    + gg.scale_color_manual(shades)
    + gg.scale_linetype_manual(('solid', 'dashed', 'dashdot'))
    + gg.coord_fixed()
    + gg.scale_x_continuous(name='first dimension', labels=wording.tick_labels)
    + gg.scale_y_continuous(name='second dimension', labels=wording.tick_labels)
    + figures.dress(page, 3.75, title)
    + gg.theme(
      legend_position='bottom',
      legend_direction='vertical',
      legend_title=gg.element_blank(),
      legend_key_width=24,
      legend_key_spacing_y=0,
      legend_box_margin=0,
    )
  )


# -- The command --------------------------------------------------------------


def _in_words(variances: np.ndarray, *kls: float) -> str:
  words = 'variances ' + ', '.join(f'{variance:.4g}' for variance in variances)
  if kls:
    words += '; KL(q||p) {:.4f}, KL(p||q) {:.4f} nats'.format(*kls)
  return words


def _report(frame: pd.DataFrame, scale_tril: np.ndarray) -> Iterator[object]:
  """Yields the numbers in lines; warns where a fit has not converged."""
  yield f'target   {_in_words(best_variances(scale_tril, "forward"))}'
  for direction in FITS:
    rows = frame.loc[frame['direction'] == direction, 'scale_0':]
    start, last = rows.iloc[0].to_numpy(), rows.iloc[-1].to_numpy()
    if direction == 'reverse':
      yield f'start    {_in_words(start[:2] ** 2, *start[2:])}'
    best = best_variances(scale_tril, direction)
    yield (
      f'{direction}  {_in_words(last[:2] ** 2, *last[2:])}; closed form of the '
      + _in_words(best)
    )
    if max(abs(last[:2] ** 2 / best - 1.0)) > _TOLERANCE:
      print(
        f'warning: the {direction} fit has not converged; give more '
        '--fit_steps, or another --fit_learning_rate',
        file=sys.stderr,
      )


def _draw(arguments: argparse.Namespace) -> Iterator[object]:
  parameters = arguments.scale_tril or [-0.5, 1.25, 1.0]
  rate, steps = arguments.fit_learning_rate, arguments.fit_steps
  for is_right, problem in (
    (
      len(parameters) == 3 and all(abs(x) <= _LARGEST for x in parameters),
      f'--scale_tril: must be three numbers from -{_LARGEST:g} to {_LARGEST:g}',
    ),
    (
      0 < rate < math.inf,
      f'--fit_learning_rate={rate:g}: must be finite and greater than 0',
    ),
    (
      1 <= steps <= _MOST_STEPS,
      f'--fit_steps={steps}: must be at least 1 and at most {_MOST_STEPS:,}',
    ),
  ):
    if not is_right:
      raise figures.FigureError(problem)
  scale_tril = triangle(parameters)
  frame = pd.concat(
    [fit(scale_tril, direction, rate, steps) for direction in FITS]
  )
  stem = process.user_path(arguments.output)
  page = figures.STYLES[arguments.style]['single']
  plot = plot_density_fit(
    frame, scale_tril, 'Contours at 1 and 2 standard deviations', page
  )
  numbers = ','.join(f'{number:g}' for number in parameters)
  yield from _report(frame, scale_tril)
  yield from figures.save(
    plot,
    stem,
    arguments.format or figures.FORMATS,
    command.drawn_by(f'fit to --scale_tril={numbers}'),
    page.pixels,
  )
  table = stem.with_name(f'{stem.name}.csv')
  records.write_figure(table, frame.to_csv(index=False).encode())
  yield table


def main() -> None:
  """Fits a Gaussian to another and draws both."""
  parser = command.Parser('density_fit', __doc__)
  parser.add_list(
    '--scale_tril',
    'three numbers a,b,c from which FillScaleTriL builds the lower triangle T '
    "of the target N(0, T T'): [[softplus(c), 0], [b, softplus(a)]]; by "
    'default -0.5,1.25,1',
    float,
  )
  parser.add_argument(
    '--fit_learning_rate',
    default=0.1,
    type=float,
    help='of gradient descent on the mean and the logarithm of the scale',
  )
  parser.add_argument(
    '--fit_steps',
    default=200,
    type=int,
    help='updates by gradient descent, for each direction',
  )
  parser.add_argument(
    '--output',
    default='runs/density_fit/density_fit',
    help='file without suffix, for the figure and the table of trajectories',
  )
  command.add_format(parser)
  command.add_style(parser)
  arguments = parser.parse_args()
  command.main('density_fit', lambda: _draw(arguments))


if __name__ == '__main__':
  main()
