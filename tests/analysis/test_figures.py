import json
import subprocess
import sys

import matplotlib.image
import numpy as np
import pandas as pd
import PIL.Image
import pytest

from analysis import figures, loss_curves, reconstructions, traversals
from launch import records
from tests.launch import conftest, test_records


def train_frame(steps=(1, 2, 4)):
  steps = np.array(steps)
  return pd.DataFrame(
    {
      'step': steps,
      'total': 1 / steps,
      'reconstruction': 0.9 / steps,
      'kl': 1.0,
    }
  )


def images(*shape):
  return np.random.default_rng(0).random(shape).astype(np.float32)


def draw(plot, path, width=2.0):
  del width
  plot.save(path, dpi=100, verbose=False)
  return matplotlib.image.imread(path)


# -- Grids --------------------------------------------------------------------


def test_image_grid_places_every_pixel():
  grid = images(2, 3, 4, 5, 1)
  frame = figures.image_grid(grid)
  canvas = {
    (x, y): colour
    for x, y, colour in frame[['x', 'y', 'colour']].itertuples(index=False)
  }
  assert len(canvas) == (2 * 4 + 2) * (3 * 5 + 2 * 2)
  top = 2 * 4 + 2 - 1
  for row, column, y, x in np.ndindex(2, 3, 4, 5):
    level = round(float(grid[row, column, y, x, 0]) * 255)
    place = (column * 7 + x, top - row * 6 - y)
    assert canvas[place] == f'#{level:02x}{level:02x}{level:02x}'
  assert canvas[5, 0] == '#ffffff'  # The gap.


def test_colours_keep_their_channels():
  grid = np.zeros((1, 1, 1, 1, 3))
  grid[..., 0], grid[..., 2] = 1.0, 0.2
  assert figures.image_grid(grid)['colour'].tolist() == ['#ff0033']


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 1, 4, 5, 2)])
def test_grids_of_other_shapes_are_refused(shape):
  with pytest.raises(figures.FigureError, match='must have shape'):
    figures.image_grid(np.zeros(shape))


def test_drawn_pixels_are_sharp_and_not_blurred(tmp_path):
  # Black and white squares: a blurred drawing has many greys between them.
  grid = np.indices((8, 8)).sum(0)[None, None, ..., None] % 2
  plot = traversals.plot_traversals(
    grid.astype(np.float32), np.zeros(1), np.array([0]), np.array([1.0])
  )
  picture = draw(plot, tmp_path / 'x.png')[..., :3].mean(-1)
  centre = picture[120:320, 120:320]
  grey = ((centre > 0.1) & (centre < 0.9)).mean()
  assert grey < 0.1


# -- Figures ------------------------------------------------------------------


@pytest.mark.parametrize('steps', [(1,), (1, 2, 4, 1024)])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_loss_curves_draw(tmp_path, steps, reduction):
  frame = train_frame(steps)
  before = frame.copy()
  plot = loss_curves.plot_loss_curves(frame, reduction, 'Zürich, β = 4')
  assert draw(plot, tmp_path / 'x.png').size
  pd.testing.assert_frame_equal(frame, before)


def test_loss_curves_leave_out_what_has_no_logarithm(tmp_path):
  frame = train_frame()
  frame.loc[0, ['total', 'kl']] = [np.nan, 0.0]
  assert draw(
    loss_curves.plot_loss_curves(frame, 'mean'), tmp_path / 'x.png'
  ).size


def test_frames_that_cannot_be_drawn_are_refused():
  with pytest.raises(figures.FigureError, match='lacks the columns kl'):
    loss_curves.plot_loss_curves(train_frame().drop(columns='kl'), 'mean')
  with pytest.raises(figures.FigureError, match='no rows yet'):
    loss_curves.plot_loss_curves(train_frame(()), 'mean')


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('count', [1, 5, 40])
def test_reconstructions_draw(tmp_path, channels, count):
  truth = images(count, 6, 4, channels)
  plot = reconstructions.plot_reconstructions(truth, 1 - truth)
  assert draw(plot, tmp_path / 'x.png').size


def test_reconstructions_of_other_shapes_are_refused():
  with pytest.raises(figures.FigureError, match='differ in shape'):
    reconstructions.plot_reconstructions(images(3, 4, 4, 1), images(2, 4, 4, 1))


@pytest.mark.parametrize('rows', [1, 13])
def test_traversals_draw(tmp_path, rows):
  plot = traversals.plot_traversals(
    images(rows, 13, 6, 6, 1),
    np.linspace(-3, 3, 13),
    np.array([63, 2])[: 1 + (rows > 1)],
    np.array([3.0, 0.1]),
  )
  assert draw(plot, tmp_path / 'x.png').size


def test_traversals_of_other_shapes_are_refused():
  with pytest.raises(figures.FigureError, match='do not fit'):
    traversals.plot_traversals(
      images(5, 5, 4, 4, 1), np.zeros(4), np.arange(2), np.ones(2)
    )


# -- Commands -----------------------------------------------------------------

COMMANDS = ('loss_curves', 'reconstructions', 'traversals')


def write_run(run):
  run.mkdir()
  records.write_manifest(run, test_records.MANIFEST)
  settings = {'beta': 0.01, 'reduction': 'mean', 'latent_size': 2}
  (run / records.CONFIG).write_text(json.dumps(settings))
  records.create_table(run, records.TRAIN)
  for row in train_frame().to_dict('records'):
    columns = dict.fromkeys(records.COLUMNS[records.TRAIN])
    records.append(run, records.TRAIN, columns | row)
  truth = images(20, 6, 6, 1)
  records.write_arrays(
    run, 'reconstructions', 9, {'images': truth, 'modes': truth}
  )
  records.write_arrays(
    run,
    'latent_grid',
    9,
    {
      'latents': np.array([1, 0]),
      'rates': np.array([2.0, 1.0]),
      'values': np.linspace(-3, 3, 5),
      'modes': images(5, 5, 6, 6, 1),
    },
  )


def analyse(name, *arguments, cwd=conftest.ROOT):
  return subprocess.run(
    [sys.executable, '-m', f'analysis.{name}', *map(str, arguments)],
    cwd=cwd,
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize('name', COMMANDS)
def test_commands_draw_the_same_bytes_with_their_origin(tmp_path, name):
  run = tmp_path / 'run'
  write_run(run)
  drawn = []
  for _ in range(2):
    result = analyse(name, f'--run_dir={run}')
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    paths = [run / 'figures' / f'{name}.{suffix}' for suffix in ('png', 'pdf')]
    assert result.stdout.split() == [str(path) for path in paths]
    drawn.append([path.read_bytes() for path in paths])
  assert drawn[0] == drawn[1]
  description = PIL.Image.open(paths[0]).text['Description']
  for part in ('run run', 'commit c0ffee', f'python -m analysis.{name}'):
    assert part in description
  assert b'/Type /Font' in drawn[0][1]
  assert b'CreationDate' not in drawn[0][1]


def test_the_newest_run_is_drawn_by_default(tmp_path):
  (tmp_path / 'runs').mkdir()
  write_run(tmp_path / 'runs' / 'only')
  result = analyse(
    'loss_curves', '--format=png', f'--output={tmp_path}/x', cwd=tmp_path
  )
  assert result.returncode == 0, result.stderr
  assert (tmp_path / 'x.png').exists()
  assert not (tmp_path / 'x.pdf').exists()


@pytest.mark.parametrize('name', COMMANDS)
def test_what_is_missing_is_one_line(tmp_path, name):
  run = tmp_path / 'run'
  result = analyse(name, f'--run_dir={run}')
  assert result.returncode == 1
  assert 'is no run directory' in result.stderr
  write_run(run)
  for path in [run / records.TRAIN, *(run / 'arrays').iterdir()]:
    path.unlink()
  result = analyse(name, f'--run_dir={run}')
  assert result.returncode == 1
  assert len(result.stderr.splitlines()) == 1
  assert result.stderr.startswith(f'analysis.{name}: error: ')
