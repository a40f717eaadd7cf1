import contextlib

import numpy as np
import pytest
import threadpoolctl

from launch import records
from launch.experiment import measures, scores
from launch.settings import scores as settings
from vae.metrics import disentanglement

SIZES = (3, 4)


@pytest.fixture
def run_dir(tmp_path):
  records.write_manifest(tmp_path, {'format': records.FORMAT})
  return tmp_path


def codes_of(codes, factors, labels=None, dataset='drawn'):
  """All that scoring looks at of a run."""
  found = (
    None if factors is None else [f'f{k}' for k in range(factors.shape[1])]
  )
  manifest = {
    'format': records.FORMAT,
    'dataset': {
      'name': dataset,
      'num_images': {'train': 1, 'test': 1},
      **({} if found is None else {'factors': [[name, 9] for name in found]}),
    },
  }
  return scores.Codes(
    manifest,
    7,
    'test',
    codes,
    *scores.varying(manifest, factors, labels, len(codes)),
  )


def draw(count=600):
  generator = np.random.default_rng(0)
  factors = np.stack([generator.integers(s, size=count) for s in SIZES], 1)
  noise = generator.standard_normal((count, 1))
  return np.concatenate([factors.astype(float), 1e-3 * noise], 1), factors


@contextlib.contextmanager
def held(run_dir, expected):
  del run_dir, expected
  yield


@pytest.fixture
def record(run_dir, monkeypatch):
  monkeypatch.setattr(records, 'held', held)

  def run(names, of, **given):
    lines = []
    scores.record(run_dir, of, names, report=lines.append, **given)
    return records.read_table(run_dir, records.SCORES), lines

  return run


def test_a_row_says_how_sure_it_is_and_where_floor_and_mark_lie(record):
  codes, factors = draw()
  frame, lines = record(['mig', 'modularity'], codes_of(codes, factors))
  frame['variant'] = frame['variant'].fillna('')
  assert list(zip(frame['score'], frame['variant'], strict=True)) == [
    ('mig', ''),
    ('modularity', ''),
    ('modularity', 'active'),
  ]
  row = frame.iloc[0]
  assert row['n'] == 600
  assert row['active'] == 2
  assert 'draws' in row['settings'] and 'scikit-learn' in row['settings']
  # The dead code beside the factors tells, by chance, a little.
  assert row['exact'] - 0.1 < row['value'] < row['exact']
  assert row['floor'] < 0.05
  assert 0 < row['se'] < 0.01
  assert len(lines) == 3 and 'the factors themselves' in lines[0]


def test_the_mean_and_its_error_are_those_of_fresh_draws(record):
  codes, factors = draw(20_000)
  frame, _ = record(['sap_r2'], codes_of(codes, factors))
  values = []
  for seed in range(5):
    drawn = scores.draw(codes, factors, seed)
    assert len(drawn.codes) == 15_000
    assert drawn.num_train == 10_000
    values.append(disentanglement.sap_r2(*drawn.fitted).value)
  assert len(set(values)) == 5
  assert frame['value'][0] == pytest.approx(np.mean(values))
  assert frame['se'][0] == pytest.approx(np.std(values, ddof=1) / 5**0.5)


def test_scoring_again_replaces_the_rows_and_repeats_them(record):
  of = codes_of(*draw())
  first, _ = record(['irs'], of)
  again, _ = record(['irs', 'mig'], of)
  assert len(again) == 2
  assert again['value'][0] == first['value'][0]


def test_labels_are_a_factor_and_constant_factors_none(record):
  codes, factors = draw()
  frame, lines = record(
    ['mig', 'modularity'], codes_of(codes, None, factors[:, 0])
  )
  assert frame['score'].tolist() == ['mig']
  assert 'needs 2 factors, and there is 1' in lines[0]
  constant = np.concatenate([factors, np.zeros((600, 1), int)], 1)
  frame, _ = record(['modularity'], codes_of(codes, constant))
  assert frame['value'].notna().all()


def test_data_without_factors_are_told_so(record):
  codes, _ = draw()
  of = codes_of(codes, None)
  with pytest.raises(settings.ScoreError, match='drawn has no factors'):
    scores.check(['udr', 'mig'], of.manifest, False)
  scores.check(['mig'], of.manifest, True)
  scores.check(['udr'], of.manifest, False)
  # What needs none is measured.
  frame, lines = record(['mig', 'gaussian_total_correlation_nats'], of)
  assert frame['score'].tolist() == ['gaussian_total_correlation_nats']
  assert 'mig: needs 1 factor, and there is 0' in lines[0]


def test_names_are_checked_and_all_leaves_out_what_takes_minutes():
  assert settings.parse(['mig', 'dci', 'mig']) == ['mig', 'dci']
  assert 'dci' not in settings.parse(['all'])
  assert 'dci_forest' in settings.parse(['all'])
  assert 'udr' in settings.parse(['all'], of_sweep=True)
  assert 'udr' not in settings.parse(['all'])
  with pytest.raises(settings.ScoreError, match='--scores=udr: compares'):
    settings.parse(['udr'])
  with pytest.raises(settings.ScoreError, match='--scores=mag: must be all'):
    settings.parse(['mag'])
  assert measures.MEASURES.keys() == settings.SCORES.keys() - {'udr'}


@pytest.mark.parametrize('name', sorted(set(settings.SCORES) - {'dci', 'udr'}))
def test_every_score_is_measured_on_few_rows(record, name):
  frame, _ = record([name], codes_of(*draw(300)))
  assert len(frame)
  assert np.isfinite(frame['value']).all()
  assert frame['floor'].isna().all() == (settings.SCORES[name].num_factors == 0)
  assert frame['exact'].notna().all()


def test_the_matrices_behind_the_scores_are_kept(record, run_dir, monkeypatch):
  codes, factors = draw(150)
  constant = np.concatenate([np.zeros((150, 1), int), factors], 1)
  of = codes_of(codes, constant)
  record(['mig'], of)
  arrays = records.read_arrays(run_dir, 'scores')
  assert arrays['factors'].tolist() == ['f1', 'f2']
  assert arrays['step'] == 7 and 'importances' not in arrays
  fitted = scores.draw(codes, factors, 0).fitted
  np.testing.assert_array_equal(
    arrays['information_nats'], disentanglement.mutual_information(*fitted)
  )
  shares = [np.bincount(column) / 100 for column in fitted[1].T]
  expected = [-np.sum(share * np.log(share)) for share in shares]
  np.testing.assert_allclose(arrays['entropy_nats'], expected)
  # Importances stay when other scores of the same weights are added, those of
  # boosted trees when forests are; other weights have none.
  found = {
    name: rng.random((3, 2))
    for name, rng in (
      ('dci_forest', np.random.default_rng(0)),
      ('dci', np.random.default_rng(1)),
    )
  }
  real = measures.measure
  monkeypatch.setattr(
    measures,
    'measure',
    lambda name, of: (
      measures.Reading({'': 0.5}, found[name])
      if name in found
      else real(name, of)
    ),
  )
  for name, kept in (
    ('dci_forest', 'dci_forest'),
    ('dci', 'dci'),
    ('mig', 'dci'),
    ('dci_forest', 'dci'),
  ):
    record([name], of)
    arrays = records.read_arrays(run_dir, 'scores')
    assert arrays['importances_of'] == kept
    np.testing.assert_array_equal(arrays['importances'], found[kept])
  record(['mig'], of._replace(split='train', means=codes[:, :1]))
  assert records.read_arrays(run_dir, 'scores')['importances'].shape == (3, 2)
  record(['mig'], of._replace(step=8))
  assert 'importances' not in records.read_arrays(run_dir, 'scores')


def test_marks_of_the_data_are_measured_once(record, tmp_path, monkeypatch):
  codes, factors = draw(150)
  marks = scores.Marks(tmp_path / 'new' / 'marks')
  first, _ = record(['sap_r2', 'dci'], codes_of(codes, factors), marks=marks)
  measured = []

  def measure(name, of):
    measured.append(name)
    return real(name, of)

  real = measures.measure
  monkeypatch.setattr(measures, 'measure', measure)
  other = codes_of(codes + 1.0, factors)
  again, _ = record(['sap_r2', 'dci'], other, marks=marks)
  # Five draws and a floor; of boosted trees one draw and no floor.
  assert measured == 6 * ['sap_r2'] + ['dci']
  for column in ('floor', 'exact'):
    of_dci = slice(1, None) if column == 'floor' else slice(None)
    np.testing.assert_array_equal(first[column][of_dci], again[column][of_dci])
  # Of other data there are none, nor of damaged files.
  measured.clear()
  record(['sap_r2'], codes_of(codes, (factors + 1) % 3), marks=marks)
  assert len(measured) == 7
  for path in (tmp_path / 'new' / 'marks').iterdir():
    path.write_text('{')
  record(['sap_r2'], other, marks=marks)
  assert len(measured) == 14


def test_processes_measure_what_one_does(record):
  of = codes_of(*draw(300))
  names = ['sap', 'beta_vae']
  alone, _ = record(names, of)
  with scores.processes() as pool:
    shared, _ = record(names, of, pool=pool)
  np.testing.assert_array_equal(alone['value'], shared['value'])
  np.testing.assert_array_equal(alone['floor'], shared['floor'])


def test_a_process_measures_on_one_thread(monkeypatch):
  # Else processes that share the cores wait for each other, and the last digits
  # depend on the number of cores.
  seen = []

  def measure(of):
    del of
    seen.extend(pool['num_threads'] for pool in threadpoolctl.threadpool_info())

  monkeypatch.setattr(measures, 'MEASURES', {'sap': measure})
  with threadpoolctl.threadpool_limits(2):
    measures.measure('sap', measures.Drawn(*draw(), 0, np.random.default_rng()))
  assert set(seen) == {1}


def test_a_score_that_cannot_be_measured_stops_no_other(record):
  codes, factors = draw(30)
  factors[:, 0] = np.arange(30)
  frame, lines = record(['explicitness', 'sap_r2'], codes_of(codes, factors))
  assert frame['score'].tolist() == ['sap_r2']
  assert 'explicitness: not measured: factor 0: the value' in lines[0]
