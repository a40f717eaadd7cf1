import subprocess
import sys

import pandas as pd
import pytest

from analysis import benchmark, figures
from launch import records
from tests.analysis import test_figures


def frame():
  speeds = {
    'this project': [100.0, 200.0, 400.0],
    'matrix products alone': [200.0, 400.0, 800.0],
    'a peer': [50.0, 50.0, 50.0],
  }
  rows = [
    {
      'part': 'mlp',
      'network': 'mlp',
      'batch_size': 64.0,
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
  other = rows[0] | {'part': 'startup', 'network': None, 'batch_size': None}
  return pd.DataFrame([*rows, other | {'metric': 'seconds'}])


def test_speeds_are_compared_repeat_by_repeat():
  summary = benchmark.summarise(frame()).set_index('contestant')
  assert summary['median'].to_dict() == {
    'this project': 1.0,
    'matrix products alone': 2.0,
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


def test_a_table_without_speeds_is_refused():
  with pytest.raises(figures.FigureError, match='no training speeds'):
    benchmark.plot_benchmark(frame()[-1:])
  with pytest.raises(figures.FigureError, match='lacks the columns device'):
    benchmark.plot_benchmark(frame().drop(columns='device'))


def test_the_command_draws_what_the_benchmark_wrote(tmp_path):
  records.create_table(tmp_path, records.BENCHMARK)
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
