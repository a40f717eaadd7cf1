import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis import benchmark, figures
from launch import records
from tests.analysis import test_figures


def frame():
  speeds = {
    'this project': [100.0, 200.0, 400.0],
    'twice as fast': [200.0, 400.0, 800.0],
    'a peer': [50.0, 50.0, 50.0],
  }
  rows = [
    {
      'part': 'mlp',
      'task': 'mlp, batch 64',
      'contestant': contestant,
      'version': '1',
      'device': 'a machine, 2 threads',
      'repeat': repeat,
      'metric': 'steps_per_second',
      'value': value,
    }
    for contestant, values in speeds.items()
    for repeat, value in enumerate(values)
  ]
  other = rows[0] | {'part': 'startup', 'task': None}
  return pd.DataFrame([*rows, other | {'metric': 'seconds'}])


def test_speeds_are_compared_repeat_by_repeat():
  summary = benchmark.summarise(frame()).set_index('contestant')
  assert summary['median'].to_dict() == {
    'this project': 1.0,
    'twice as fast': 2.0,
    'a peer': 0.25,
  }
  assert summary.loc['a peer', 'low'] == (0.125 + 0.25) / 2
  assert summary.loc['a peer', 'high'] == (0.25 + 0.5) / 2
  assert summary.loc['this project', 'steps_per_second'] == 200.0


def test_the_figure_is_drawn(tmp_path):
  before = frame()
  given = before.copy()
  image = test_figures.draw(benchmark.plot_benchmark(given), tmp_path / 'a.png')
  assert image[..., :3].std() > 0
  pd.testing.assert_frame_equal(given, before)


def test_numbers_stand_right_of_all_that_is_drawn():
  plot = benchmark.plot_benchmark(frame())
  figure = plot.draw()
  figure.draw_without_rendering()
  (axes,) = figure.axes
  drawn = plot.data[['low', 'high', 'median']].to_numpy().max()
  right = axes.transData.transform((np.log10(drawn), 0))[0]
  boxes = [text.get_window_extent() for text in axes.texts]
  figures.close(figure)
  assert sorted(text.get_text() for text in axes.texts) == ['200', '400', '50']
  assert len({round(box.x1) for box in boxes}) == 1
  assert min(box.x0 for box in boxes) > right + 4
  assert max(box.x1 for box in boxes) < axes.bbox.x1


def test_a_table_without_speeds_is_refused():
  with pytest.raises(figures.FigureError, match='no training speeds'):
    benchmark.plot_benchmark(frame()[-1:])
  with pytest.raises(figures.FigureError, match='lacks the columns device'):
    benchmark.plot_benchmark(frame().drop(columns='device'))


def test_the_command_draws_what_the_benchmark_wrote(tmp_path):
  records.write_table(tmp_path, records.BENCHMARK)
  command = [
    *(sys.executable, '-m', 'analysis.benchmark', f'--benchmark_dir={tmp_path}')
  ]
  empty = subprocess.run(command, capture_output=True, text=True)
  assert empty.returncode == 1
  assert empty.stderr.count('\n') == 1
  for row in frame().to_dict('records'):
    records.append(tmp_path, records.BENCHMARK, row)
  drawn = subprocess.run(command, capture_output=True, text=True)
  assert drawn.returncode == 0, drawn.stderr
  assert (tmp_path / 'benchmark.png').stat().st_size > 1000
  assert (tmp_path / 'benchmark.pdf').stat().st_size > 1000


# -- What the README says -----------------------------------------------------

ROOT = pathlib.Path(__file__).parents[2]
SAID = (ROOT / 'launch/benchmarks/README.md').read_text()


@pytest.fixture(scope='module')
def measured():
  path = ROOT / 'analysis/results/benchmark/benchmark.csv'
  return pd.read_csv(path).fillna({'task': ''})


def ratios(measured, metric, name, other, task=''):
  """Of a contestant over another, repeat by repeat."""
  rows = measured[(measured['metric'] == metric) & (measured['task'] == task)]
  values = rows.set_index(['contestant', 'repeat'])['value']
  return values[name] / values[other]


def test_the_readme_gives_the_ratios_of_the_timings(measured):
  metric = 'steps_per_second'
  speeds = measured[measured['metric'] == metric]
  head, _, *lines = SAID[SAID.index('| than |') :].split('\n\n')[0].split('\n')
  tasks = [cell.strip() for cell in head.split('|')[2:-1]]
  assert tasks == list(speeds['task'].unique())
  rows = {}
  for line in lines:
    name, *cells = [cell.strip() for cell in line.split('|')[1:-1]]
    rows[name] = cells
  ours = rows.pop([*rows][-1])
  assert rows.keys() == set(speeds['contestant']) - {'this project'}
  for name, cells in rows.items():
    for task, cell in zip(tasks, cells, strict=True):
      rows = speeds[speeds['task'] == task]
      if name not in set(rows['contestant']):
        assert not cell
        continue
      found = ratios(rows, metric, 'this project', name, task)
      assert cell == of_ratios(found), (name, task)
  mine = speeds[speeds['contestant'] == 'this project'].groupby('task')['value']
  for task, cell in zip(tasks, ours, strict=True):
    assert cell == of_speeds(mine.get_group(task))


def of_ratios(values):
  """The median of turns' ratios, marked where they disagree who is faster."""
  mark = '~' if values.min() < 1 < values.max() else ''
  return f'{mark}{values.median():.2f}'


def of_speeds(values):
  speed = values.median()
  return f'{speed:,.0f}' if speed > 100 else f'{speed:.1f}'


def test_the_readme_gives_the_speeds_in_bfloat16():
  path = ROOT / 'analysis/results/benchmark_one_core/benchmark.csv'
  measured = pd.read_csv(path)
  lines = SAID[SAID.index('| on one core |') :].split('\n\n')[0].split('\n')
  head, _, *rows = [
    [cell.strip() for cell in line.split('|')[2:-1]] for line in lines
  ]
  assert head == list(measured['task'].unique())
  metric = 'steps_per_second'
  ours, theirs = records.OURS, 'PyTorch, compiled'
  for place, task in enumerate(head):
    mine = (measured['contestant'] == ours) & (measured['task'] == task)
    assert [row[place] for row in rows] == [
      of_speeds(measured[mine]['value']),
      *(
        of_ratios(ratios(measured, metric, name, other, task))
        for name, other in (
          (f'{ours}, bfloat16', ours),
          (ours, theirs),
          (f'{ours}, bfloat16', f'{theirs}, bfloat16'),
        )
      ),
    ]


def test_the_readme_gives_what_commands_take(measured):
  def of(metric, name, other):
    return ratios(measured, metric, name, other).median()

  def median(part, name, metric):
    rows = measured[(measured['part'] == part) & (measured['metric'] == metric)]
    return rows[rows['contestant'] == name]['value'].median()

  train, imports = 'launch.train --beta=0.01', 'import of the libraries'
  # The startup part's: that of memory has other repeats.
  startup = measured[measured['part'] == 'startup']
  time, memory = (
    ratios(startup, metric, train, imports).median()
    for metric in ('seconds', 'peak_mib')
  )
  assert f'{time:.2f} × the time, {memory:.2f} × the memory' in SAID
  seconds = [
    median('startup', f'{name} --help', 'seconds')
    for name in ('launch.train', 'analysis.loss_curves')
  ]
  assert f'| {seconds[0]:.2f} s, {seconds[1]:.1f} s |' in SAID
  assert f'| {median("evaluation", "this project", "seconds"):.2f} s |' in SAID
  swept = 'launch.sweep of eight betas'
  faster = of('seconds', 'eight launches of launch.train', swept)
  assert f'| {faster:.1f} × as fast |' in SAID
  more = of('model_steps_per_second', swept, 'one run alone')
  assert f'| {more:.2f} × as many |' in SAID
  peak = median('sweep', swept, 'peak_mib_of_a_process')
  assert f'| each process of a sweep | {peak / 1024:.1f} GiB |' in SAID
