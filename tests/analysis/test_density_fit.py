import json
import math

import matplotlib.colors
import numpy as np
import pandas as pd
import PIL.Image
import pytest

from analysis import density_fit, figures
from launch import records
from tests.analysis import builders, test_figures

LOC = np.array([0.5, -1.0])
TRIANGLE = np.array([[1.3, 0.0], [1.25, 0.5]])


def fit_frame():
  rows = [
    # The last step is what counts, wherever it stands.
    (2, 'reverse', 0.5, -1.0, 0.4, 0.5, 1.0, 6.0),
    (0, 'reverse', 0.0, 0.0, 1.0, 1.0, 3.0, 1.2),
    (0, 'forward', 0.0, 0.0, 1.0, 1.0, 3.0, 1.2),
    (2, 'forward', 0.6, -1.1, 1.2, 1.4, 6.0, 1.0),
  ]
  return pd.DataFrame(rows, columns=records.COLUMNS[records.DENSITY_FIT])


def write_fit(folder):
  folder.mkdir()
  records.write_table(
    folder, records.DENSITY_FIT, fit_frame().to_dict('records')
  )
  target = {
    'loc': LOC.tolist(),
    'scale_tril': TRIANGLE.tolist(),
    'source': {'commit': 'c0ffee', 'dirty': False},
  }
  (folder / records.DENSITY_FIT_TARGET).write_text(json.dumps(target))


def test_the_figure_draws_and_leaves_its_frame_alone(tmp_path):
  frame = fit_frame()
  plot = density_fit.plot_density_fit(frame, LOC, TRIANGLE, 'A fit')
  picture = test_figures.draw(plot, tmp_path / 'x.png')[..., :3]
  for colour in (figures.PALETTE[6], *figures.PALETTE[:2]):
    near = np.abs(picture - matplotlib.colors.to_rgb(colour)).max(-1) < 0.02
    # Inside the panel, where no text is.
    assert near[100:800, 200:900].sum() > 50, colour
  pd.testing.assert_frame_equal(frame, fit_frame())


def test_contours_lie_one_and_two_standard_deviations_from_the_mean():
  plot = density_fit.plot_density_fit(fit_frame(), LOC, TRIANGLE)
  want = {
    'target p: variances 1.69, 1.81': (LOC, TRIANGLE @ TRIANGLE.T),
    'q by KL(q‖p): variances 0.16, 0.25': (
      [0.5, -1.0],
      np.diag([0.16, 0.25]),
    ),
    'q by KL(p‖q): variances 1.44, 1.96': (
      [0.6, -1.1],
      np.diag([1.44, 1.96]),
    ),
  }
  assert list(plot.data['density'].cat.categories) == list(want)
  for label, (loc, covariance) in want.items():
    for radius in (1, 2):
      data = plot.data
      rows = data[(data['density'] == label) & (data['radius'] == radius)]
      shift = rows[['x', 'y']].to_numpy() - loc
      distance = (shift * np.linalg.solve(covariance, shift.T).T).sum(-1)
      np.testing.assert_allclose(np.sqrt(distance), radius)
      turned = np.unwrap(np.arctan2(shift[:, 1], shift[:, 0]))
      assert abs(turned[-1] - turned[0]) == pytest.approx(2 * math.pi)


def test_frames_that_cannot_be_drawn_are_refused():
  frame = fit_frame()
  for bad, problem in (
    (frame.drop(columns='scale_1'), 'lacks the columns scale_1'),
    (frame[:0], 'no rows yet'),
    (frame[:2], 'no rows of the forward fit'),
  ):
    with pytest.raises(figures.FigureError, match=problem):
      density_fit.plot_density_fit(bad, LOC, TRIANGLE)


def test_the_command_draws_the_same_bytes_with_their_origin(tmp_path):
  write_fit(tmp_path / 'fit')
  drawn = []
  for _ in range(2):
    code, stdout, stderr = builders.analyse(
      'density_fit', f'--run_dir={tmp_path / "fit"}'
    )
    assert (code, stderr) == (0, '')
    stem = tmp_path / 'fit' / 'figures' / 'density_fit'
    paths = [stem.with_suffix(f'.{suffix}') for suffix in figures.FORMATS]
    assert stdout.split() == [str(path) for path in paths]
    drawn.append([path.read_bytes() for path in paths])
  assert drawn[0] == drawn[1]
  description = PIL.Image.open(paths[0]).text['Description']
  for part in ('fit fit', 'commit c0ffee', 'python -m analysis.density_fit'):
    assert part in description
  assert b'CreationDate' not in drawn[0][1]


def test_the_folder_of_the_fit_is_the_default(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  code, _, stderr = builders.analyse('density_fit')
  assert code == 1
  assert stderr.startswith('analysis.density_fit: error: ')
  assert len(stderr.splitlines()) == 1
  assert 'runs/density_fit' in stderr
  (tmp_path / 'runs').mkdir()
  write_fit(tmp_path / 'runs' / 'density_fit')
  code, _, stderr = builders.analyse('density_fit', '--format=png')
  assert (code, stderr) == (0, '')


def test_a_damaged_target_is_refused(tmp_path):
  folder = tmp_path / 'fit'
  write_fit(folder)
  path = folder / records.DENSITY_FIT_TARGET
  good = json.loads(path.read_text())
  for bad in (
    {'loc': None},
    {'loc': [0, 'x']},
    {'loc': [0]},
    {'source': None},
    {'scale_tril': [[1], [0, 1]]},
    {'scale_tril': [1, 0]},
  ):
    path.write_text(json.dumps(good | bad))
    code, _, stderr = builders.analyse('density_fit', f'--run_dir={folder}')
    assert (code, stderr.count('\n')) == (1, 1)
    assert f'{path} is damaged' in stderr
  path.unlink()
  code, _, stderr = builders.analyse('density_fit', f'--run_dir={folder}')
  assert (code, stderr.count('\n')) == (1, 1)
  assert f'launch.fit_density --output_dir={folder}' in stderr
