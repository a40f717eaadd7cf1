"""Traversals: what is decoded while one latent moves and the others stay.

Means of the decoder's distribution over pixels, or by --show its modes or draws
from it. For each image of --index a row that shows it, and a row for each
latent, ordered by its rate, where a frame marks what is nearest to the image's
own code. Those whose mean hardly varies over images (by at most 0.01) are left
out. Where `launch.evaluate --scores` has measured it, the factor that a latent
tells most of stands beside it. Columns are even steps, or quantiles of the
latent's aggregate posterior. With --grid, the two latents of the highest rate
move at once, the others at zero. With --side_by_side, several runs are beside
each other, each with its own latents.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import (
  animation,
  command,
  factors,
  figures,
  frames,
  grids,
  wording,
)
from launch import records

# Columns where there is little room: of a run beside another's, or in a single
# column of a paper.
_MOST_PLACES = 7

# Where the latent that moves lies.
COLUMNS = ('even', 'quantiles')


def read_frame(
  run: frames.RunFiles,
  indices: Sequence[int] = (0,),
  columns: str = 'even',
  show: str = 'mean',
) -> pd.DataFrame:
  """Returns what is decoded around test images, a row for each image of it.

  Args:
    run: the run.
    indices: of the test images that the latents which stay are those of.
    columns: one of `COLUMNS`.
    show: one of `records.SHOWN`.

  Returns:
    Columns `index`, latent, value, image [H, W, C], rate_nats, and active,
    whether Var_x(E[z_u]) > 0.01; NaN and true for a plain autoencoder. For
    quantiles also their share, quantile. But of arrays of older versions,
    `source`, the test image, and `code`, the latent's value there. Where the
    weights were scored, `factor` that the latent tells most of, and the `share`
    of its entropy. `shown` is what the images are of the decoder's
    distribution.

  Raises:
    FigureError: a run without images, or an image that was not kept.
    RecordError: files that are missing or damaged.
  """
  frames.check_images(run)
  keys, asked = ['values'], show
  if columns == 'quantiles':
    keys, asked = ['quantiles', 'quantile_values'], f'quantile_{show}'
  arrays = records.read_arrays(run.path, 'traversals', ['step', *keys])
  # Of the weights that made the images, which others may have followed.
  rates = frames.rates(run, int(arrays['step']))
  places, *values = (arrays[key] for key in keys)
  images = frames.shown(run, arrays, asked)
  values = values[0] if values else np.tile(places, (len(rates), 1))
  # That the rest fits together is known of what was read.
  if images.shape[1] != len(rates):
    raise records.RecordError(
      f'{run.path / records.ARRAYS / "traversals"}.npz is damaged: images of '
      f'shape {images.shape} do not fit {len(rates)} latents'
    )
  kept = arrays.get('indices', np.arange(len(images))).tolist()
  _check_kept(run, indices, kept)
  count = values.shape[1]
  rows = rates.loc[rates.index.repeat(count)].reset_index(drop=True)
  blocks = []
  for index in indices:
    place = kept.index(index)
    ordered = images[place][rates['latent']]  # [L, G, H, W, C]
    frame = pd.DataFrame(
      {
        'index': index,
        'latent': rows['latent'],
        'rate_nats': rows['rate_nats'],
        'active': ~(rows['mean_variance'] <= frames.ACTIVE_VARIANCE),
        'value': values[rates['latent']].ravel(),
        'image': list(ordered.reshape(-1, *ordered.shape[2:])),
        'shown': show,
      }
    )
    if {'images', 'codes'} <= arrays.keys():
      frame['source'] = [arrays['images'][place]] * len(frame)
      frame['code'] = arrays['codes'][place][frame['latent']]
    if columns == 'quantiles':
      frame['quantile'] = np.tile(places, len(rates))
    blocks.append(frame)
  frame = pd.concat(blocks, ignore_index=True)
  if (most := factors.read_most(run, int(arrays['step']))) is not None:
    frame = frame.join(most, on='latent')
  return frame


def _check_kept(
  run: frames.RunFiles, indices: Sequence[int], kept: Sequence[int]
) -> None:
  """Checks that a run keeps traversals of images.

  Raises:
    FigureError: it does not, or there are no such images.
  """
  missing = [index for index in indices if index not in kept]
  count = run.manifest['dataset']['num_images'].get(run.split)
  for index in missing:
    if index < 0 or (count is not None and index >= count):
      raise figures.FigureError(
        f'--index={index}: the {run.split} split of {run.path} has '
        + (f'the images 0 to {count - 1}' if count else 'no such image')
      )
  if missing:
    numbers = ','.join(map(str, missing))
    raise figures.FigureError(
      f'--index={numbers}: the run keeps no traversals of this; python -m '
      f'launch.evaluate --run_dir={run.path} --index={numbers} adds them'
    )


class _Row(NamedTuple):
  """A row of images, and its label.

  Attributes:
    label: of the latent that moves, or of the image itself.
    images: [G, H, W, C], or [1, H, W, C] of the image itself.
    nearest: the column that is nearest to the image's own code, where that is
      known and a latent moves.
  """

  label: str
  images: np.ndarray
  nearest: int | None = None


class _Shown(NamedTuple):
  """All that a figure of traversals shows.

  Attributes:
    blocks: how many test images there are.
    rows: for each of them itself, and a row for each active latent.
    x: what the columns are.
    columns: each in words.
    y: what the labels are.
    left_out: how many latents that do nothing are not shown, in words; none.
    notes: what else is to be known.
  """

  blocks: int
  rows: list[_Row]
  x: str
  columns: list[str]
  y: str
  left_out: str
  notes: list[str]


def _show(frame: pd.DataFrame) -> _Shown:
  """Returns what there is to show of a frame, as `read_frame` returns it.

  Raises:
    FigureError: a frame that cannot be drawn.
  """
  figures.check_columns(
    frame,
    ['index', 'latent', 'rate_nats', 'active', 'value', 'image', 'shown'],
  )
  notes = [f'shown: {frames.shown_in_words(frame["shown"].iloc[0])}']
  if 'factor' in frame:
    notes.append(
      'after a rate: the factor it tells most of, and the share of its entropy'
    )
  grids.stack(frame['image'])  # Of one shape.
  column, x = 'value', 'value of the latent'
  show = wording.number
  if 'quantile' in frame:
    column, x = 'quantile', "quantile of the latent's aggregate posterior"
    show = '{:.0%}'.format
  places = np.sort(frame[column].unique())
  drawn = frame[frame['active']]
  if drawn.empty:  # The one of the highest rate stands for them.
    drawn = frame[frame['latent'] == frame['latent'].iloc[0]]
  result = []
  for index, block in drawn.groupby('index', sort=False):
    if 'source' in block or drawn['index'].nunique() > 1:
      source = block['source' if 'source' in block else 'image'].iloc[0]
      if 'source' not in block:  # Arrays of older versions leave paper.
        source = np.ones_like(source)
      result.append(_Row(f'image {index}', source[None]))
    for name, rows in block.groupby('latent', sort=False):
      if len(rows) != len(places):
        raise figures.FigureError(
          f'latent {name} has {len(rows)} images for {len(places)} values'
        )
      rows = rows.sort_values(column)
      said = []
      if 'factor' in rows:
        said.append(f'{rows["factor"].iloc[0]} {rows["share"].iloc[0]:.2f}')
      label = wording.latent(name, rows['rate_nats'].iloc[0], *said)
      nearest = None
      if 'code' in rows:
        distances = (rows['value'] - rows['code']).abs().to_numpy()
        nearest = int(distances.argmin())
      images = grids.stack(rows['image'])
      result.append(_Row(label, images, nearest))
  left_out = frame['latent'].nunique() - drawn['latent'].nunique()
  words = 'latent that does' if left_out == 1 else 'latents that do'
  has_rates = frame['rate_nats'].notna().any()
  return _Shown(
    drawn['index'].nunique(),
    result,
    x,
    [show(place) for place in places],
    wording.LATENTS if has_rates else 'latent',
    f'{left_out} {words} nothing left out' if left_out else '',
    notes,
  )


_NOTHING = (
  'the variance of the posterior mean over images is at most '
  f'{frames.ACTIVE_VARIANCE:g}'
)


def _images(rows: Sequence[_Row], columns: int) -> np.ndarray:
  """Returns rows as one array, with paper where a row has one image."""
  images = np.ones((len(rows), columns, *rows[0].images.shape[1:]))
  for place, row in enumerate(rows):
    images[place, : len(row.images)] = row.images
  return images


def _marked(rows: Sequence[_Row]) -> list[tuple[int, int]]:
  return [
    (place, row.nearest)
    for place, row in enumerate(rows)
    if row.nearest is not None
  ]


_FRAMED = "framed: of those shown, nearest to the image's own code"


def plot_traversals(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws for each test image itself, and a row for each active latent.

  In a single column at most 7 values of each, which else would be tiny.
  """
  shown = _show(frame if page.is_double else _thinned(frame))
  marked = _marked(shown.rows)
  return grids.plot_images(
    _images(shown.rows, len(shown.columns)),
    page,
    title,
    x=shown.x,
    y=shown.y,
    columns=shown.columns,
    rows=[row.label for row in shown.rows],
    marked=marked,
    caption=_sentence([*([_FRAMED] if marked else []), *_notes(shown)]),
  )


def _sentence(parts: Sequence[str]) -> str:
  text = '; '.join(parts)
  return text and f'{text[0].upper()}{text[1:]}.'


def _notes(shown: _Shown) -> list[str]:
  left_out = [f'{shown.left_out} ({_NOTHING})'] if shown.left_out else []
  return [*left_out, *shown.notes]


def animate_traversals(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> animation.Animation:
  """Draws for each test image itself, and beside it each active latent move."""
  shown = _show(frame)
  count = len(shown.columns)
  images = np.stack(
    [
      np.broadcast_to(row.images, (count, *row.images.shape[1:]))
      for row in shown.rows
    ],
    axis=1,
  )
  labels = np.reshape([row.label for row in shown.rows], (shown.blocks, -1))
  return animation.draw(
    images.reshape(count, *labels.shape, *images.shape[2:]),
    labels.tolist(),
    [f'{shown.x}: {column}' for column in shown.columns],
    page,
    title,
    _sentence([f'above each: {shown.y}', *_notes(shown)]),
  )


def read_side_by_side(
  runs: frames.Runs,
  indices: Sequence[int] = (0,),
  columns: str = 'even',
  show: str = 'mean',
) -> pd.DataFrame:
  """Returns what several runs decode around the same test images.

  Args:
    runs: the runs.
    indices: as of `read_frame`.
    columns: likewise.
    show: likewise.

  Returns:
    Columns of `read_frame`, and `name`, by which the run differs from the
    others, in the order of these; of at most 7 values of each latent, evenly
    spaced and as many on either side of the middle one.

  Raises:
    FigureError: as of `read_frame`; one run, or runs of other images.
    RecordError: files that are missing or damaged.
  """
  if len(runs.runs) < 2:
    raise figures.FigureError(
      '--side_by_side compares several runs; --run_dir may be given again'
    )
  names = _names(runs)
  blocks = [read_frame(run, indices, columns, show) for run in runs.runs]
  place = 'quantile' if columns == 'quantiles' else 'value'
  for run, block in zip(runs.runs, blocks, strict=True):
    if 'source' not in block:  # As versions before wrote them.
      raise figures.FigureError(
        f'--side_by_side: {run.path} keeps no images of its traversals; python '
        f'-m launch.evaluate --run_dir={run.path} --num_importance_samples=0 '
        'adds them'
      )
  for run, block in zip(runs.runs, blocks, strict=True):
    for what, are_same in (
      ('test images', _have_same_images(blocks[0], block)),
      ('values', set(blocks[0][place]) == set(block[place])),
    ):
      if not are_same:
        raise figures.FigureError(
          f'--side_by_side: the {what} of {run.path} are not those of '
          f'{runs.runs[0].path}'
        )
  named = {
    name: block.assign(name=name)
    for block, name in zip(blocks, names, strict=True)
  }
  ordered = [named[name] for name in frames.levels(pd.Series(names))]
  return _thinned(pd.concat(ordered, ignore_index=True))


def _names(runs: frames.Runs) -> list[str]:
  """Returns how each run differs from the others, if by its name alone."""
  for settings in (runs.varying, [*runs.varying, 'seed']):
    names = frames.configuration(runs.table, settings)
    if names.is_unique:
      return names.tolist()
  return runs.table['run'].tolist()


def _have_same_images(one: pd.DataFrame, other: pd.DataFrame) -> bool:
  """Says if what stays is of the same images."""
  pairs = zip(
    one.drop_duplicates('index')['source'],
    other.drop_duplicates('index')['source'],
    strict=True,
  )
  return all(np.array_equal(a, b) for a, b in pairs)


def _thinned(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns at most 7 columns: evenly spaced, and from one end to the other."""
  column = 'quantile' if 'quantile' in frame else 'value'
  places = np.sort(frame[column].unique())
  last = len(places) - 1
  for step in range(1, last + 1):
    if last % step == 0 and last // step < _MOST_PLACES:
      return frame[frame[column].isin(places[::step])].reset_index(drop=True)
  return frame


def plot_side_by_side(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.DOUBLE_COLUMN,
) -> gg.ggplot:
  """Draws what `plot_traversals` does of each run, all on one page."""
  figures.check_columns(frame, ['name'])
  shown = {}
  for name, block in frame.groupby('name', sort=False):
    # Which others may have.
    lacking = block.columns[block.isna().all()].difference(['rate_nats'])
    shown[name] = _show(block.drop(columns=lacking))
  first = next(iter(shown.values()))
  grids.stack(frame['image'])  # Of one shape.
  most = max(len(block.rows) // block.blocks for block in shown.values())
  blocks = []
  for name, block in shown.items():
    count = len(block.rows) // block.blocks
    paper = _Row('', np.ones_like(block.rows[0].images[:1]))
    rows = []
    for start in range(0, len(block.rows), count):
      # An image has its place beside itself.
      rows += [paper] * (-len(rows) % most)
      rows += block.rows[start : start + count]
    blocks.append(
      grids.Block(
        str(name),
        _images(rows, len(block.columns)),
        [row.label for row in rows],
        _marked(rows),
        block.left_out,
      )
    )
  notes = dict.fromkeys(n for block in shown.values() for n in block.notes)
  caption = [*([_FRAMED] if any(b.marked for b in blocks) else []), *notes]
  if any(block.left_out for block in shown.values()):
    caption.append(f'left out: {_NOTHING}')
  return grids.plot_blocks(
    blocks,
    page,
    title,
    first.x,
    max((block.y for block in shown.values()), key=len),
    first.columns,
    _sentence(caption),
  )


def read_grid_frame(run: frames.RunFiles, show: str = 'mean') -> pd.DataFrame:
  """Returns a row for each image over the two latents of highest rate.

  Args:
    run: the run.
    show: one of `records.SHOWN`.

  Returns:
    Columns first, second and image; first_name and second_name, what they are;
    shown, as of `read_frame`.

  Raises:
    FigureError: a run without images or without rates.
    RecordError: arrays that are missing or damaged.
  """
  frames.check_images(run)
  frames.check_rates(run, 'none of its latents has the highest rate')
  keys = ['latents', 'rates', 'values']
  arrays = records.read_arrays(run.path, 'latent_grid', keys)
  names = [
    f'latent {latent}, {wording.number(rate, 2)} nats'
    for latent, rate in zip(arrays['latents'], arrays['rates'], strict=False)
  ]
  images = frames.shown(run, arrays, show)
  frame = frames.grid(run, 'latent_grid', arrays['values'], images)
  return frame.assign(first_name=names[0], second_name=names[-1], shown=show)


def plot_latent_grid(
  frame: pd.DataFrame,
  title: str = '',
  page: figures.Page = figures.SINGLE_COLUMN,
) -> gg.ggplot:
  """Draws the grid over two latents (or a row over one)."""
  figures.check_columns(frame, ['first_name', 'second_name', 'shown'])
  shown = frames.shown_in_words(frame['shown'].iloc[0])
  return grids.plot_over_latents(
    frame,
    page,
    title,
    x=frame['first_name'].iloc[0],
    y=frame['second_name'].iloc[0],
    caption=f'Other latents at zero; shown: {shown}.',
  )


_Drawn = TypeVar('_Drawn')


def _drawing(
  read: Callable[..., pd.DataFrame],
  draw: Callable[[pd.DataFrame, str, figures.Page], _Drawn],
  of: Callable[[frames.Runs], frames.RunFiles | frames.Runs],
) -> Callable[[frames.Runs, argparse.Namespace], _Drawn]:
  """Returns what reads and draws, of one run or of several."""

  def drawn(runs: frames.Runs, arguments: argparse.Namespace) -> _Drawn:
    indices = [*dict.fromkeys(arguments.index or [0])]
    frame = read(of(runs), indices, arguments.columns, arguments.show)
    return draw(frame, command.title(arguments, runs), command.page(arguments))

  return drawn


def _of_one_run(
  draw: Callable[[pd.DataFrame, str, figures.Page], _Drawn],
) -> Callable[[frames.Runs, argparse.Namespace], _Drawn]:
  return _drawing(read_frame, draw, lambda runs: runs.runs[0])


def _add_options(parser: command.Parser) -> None:
  command.add_show(parser)
  parser.add_list(
    '--index', 'of test images around which latents move, by default 0', int
  )
  parser.add_argument(
    '--columns',
    default=COLUMNS[0],
    choices=COLUMNS,
    help="where the latent moves: even steps, or quantiles of the latent's "
    'aggregate posterior',
  )
  parser.add_switch(
    '--grid', 'move the two latents of the highest rate at once (latent_grid.*)'
  )
  parser.add_switch(
    '--side_by_side',
    'several runs on one page, at fewer values (traversals_side_by_side.*)',
  )


GRID = command.Figure(
  'latent_grid',
  'Latent grid: what is decoded over the two latents of the highest rate.',
  command.of_one_run(read_grid_frame, plot_latent_grid),
  'A grid of images: what the decoder makes while the two latents of the '
  'highest rate move and the others are zero.',
  add_options=_add_options,
)


SIDE_BY_SIDE = command.Figure(
  'traversals_side_by_side',
  'Traversals side by side: what several runs decode of the same test image.',
  _drawing(read_side_by_side, plot_side_by_side, lambda runs: runs),
  'For each run a test image, and a row of images for each latent, from the '
  'highest rate to the lowest: what the decoder makes of it while that latent '
  'moves.',
  joint=True,
  add_options=_add_options,
)

FIGURE = command.Figure(
  'traversals',
  __doc__,
  _of_one_run(plot_traversals),
  'A test image, and a row of images for each latent, from the highest rate to '
  'the lowest: what the decoder makes of it while that latent moves.',
  add_options=_add_options,
  variants={'grid': GRID, 'side_by_side': SIDE_BY_SIDE},
  draw_animation=_of_one_run(animate_traversals),
)

plot, animate = FIGURE.plot, FIGURE.animate

if __name__ == '__main__':
  command.run(FIGURE)
