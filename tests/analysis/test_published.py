import pathlib
import re
import shutil

import pandas as pd
import pytest

from analysis import figures, published
from launch import records
from tests.analysis import builders

PAGE = pathlib.Path(published.__file__).parent / 'results' / 'published.md'


def by_what(text):
  results = published.read()
  return results[results['what'].str.startswith(text)].iloc[0]


def test_the_page_holds_what_the_kept_runs_say():
  assert published.render() in PAGE.read_text()


def test_more_samples_train_a_better_bound():
  bounds = []
  for count in (1, 5, 50):
    frame = published.obtained(by_what(f'IWAE, k = {count}: NLL'))
    bounds.append((frame['value'][0], frame['se'][0]))
  values = [value for value, _ in bounds]
  assert values[0] > values[1] > values[2]


def test_the_whole_ladder_obtains_the_bound_of_the_paper():
  result = by_what('IWAE, k = 1, all 3,280 epochs: NLL')
  (row,) = published.obtained(result).to_dict('records')
  assert row['steps'] == 3280 * 600
  assert abs(row['value'] - float(result['published'])) < 2 * row['se']


def test_values_have_the_published_sign_and_the_error_over_seeds():
  result = by_what('MLP 784-500-20')
  frame = published.obtained(result)
  assert sorted(frame['seed']) == [0, 1, 2]
  assert (frame['value'] > 0).all()
  mean, error = map(float, re.findall(r'[\d.]+', published._value(frame))[:2])
  assert mean == pytest.approx(frame['value'].mean(), abs=0.005)
  assert error == pytest.approx(frame['value'].sem(), abs=0.005)


def test_steps_take_the_mean_of_those_that_a_source_logs(tmp_path):
  run = tmp_path / 'run'
  builders.write_run(run, steps=(1, 2, 4, 50, 64, 100, 128, 150), log_every=50)
  for name in (records.TERMS, records.TIMING):
    records.write_table(run, name)
  for step in (1, 2, 50, 100, 150):
    row = {'step': step, 'term': 'total_correlation_nats', 'value': step / 10}
    records.append(run, records.TERMS, row)
  wanted = {'runs': 'run', 'metrics': 'distortion_nats:1', 'steps': '1-100'}
  frame = published.obtained(pd.Series(wanted), tmp_path)
  assert frame['value'][0] == pytest.approx(90 * (1 + 1 / 50 + 1 / 100) / 3)
  wanted |= {'metrics': 'total_correlation_nats:1', 'steps': '51-150'}
  frame = published.obtained(pd.Series(wanted), tmp_path)
  assert frame['value'][0] == pytest.approx(12.5)
  with pytest.raises(figures.FigureError, match='ends at step 150'):
    published.obtained(pd.Series(wanted | {'steps': '51-200'}), tmp_path)


def test_missing_runs_and_metrics_are_refused(tmp_path):
  result = by_what('IWAE, k = 5: NLL')
  with pytest.raises(figures.FigureError, match='no run iwae-k5'):
    published.obtained(result, tmp_path)
  shutil.copytree(published._RUNS / 'iwae-k5', tmp_path / 'iwae-k5')
  records.write_table(tmp_path / 'iwae-k5', records.EVAL)
  with pytest.raises(figures.FigureError, match='no rows yet'):
    published.obtained(result, tmp_path)


def test_kept_runs_are_of_clean_commits():
  for manifest in published._RUNS.glob('*/manifest.json'):
    source = records.read_manifest(manifest.parent)['source']
    assert source['commit']
    assert source['dirty'] is False
