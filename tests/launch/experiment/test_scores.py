import contextlib
import types

import numpy as np
import pytest

from launch import records
from launch.experiment import scores
from vae.data import datasets
from vae.metrics import disentanglement

SIZES = (3, 4)


@pytest.fixture
def run_dir(tmp_path):
  records.write_manifest(tmp_path, {'format': records.FORMAT})
  return tmp_path


scores_of = types.SimpleNamespace(
  beta_vae_score=disentanglement.beta_vae_score,
  factor_vae_score=disentanglement.factor_vae_score,
)


def evaluated(codes, factors, labels=None, dataset='drawn'):
  """All that scoring looks at of a run."""
  data = datasets.Split(np.zeros([len(codes), 1]), labels, factors)
  return types.SimpleNamespace(
    config=types.SimpleNamespace(dataset=dataset),
    manifest={'format': records.FORMAT},
    data=data,
    step=7,
    split='test',
    result=types.SimpleNamespace(means=codes),
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

  def run(names, of):
    lines = []
    scores.record(run_dir, of, names, lines.append)
    return records.read_table(run_dir, records.SCORES), lines

  return run


def test_a_row_says_how_sure_it_is_and_where_floor_and_mark_lie(record):
  codes, factors = draw()
  frame, lines = record(['mig', 'modularity'], evaluated(codes, factors))
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
  frame, _ = record(['sap_r2'], evaluated(codes, factors))
  values = []
  for seed in range(5):
    drawn = scores._draw(codes, factors, seed)
    assert len(drawn.codes) == 15_000
    assert drawn.num_train == 10_000
    values.append(disentanglement.sap_r2(*drawn.fitted).value)
  assert len(set(values)) == 5
  assert frame['value'][0] == pytest.approx(np.mean(values))
  assert frame['se'][0] == pytest.approx(np.std(values, ddof=1) / 5**0.5)


def test_scoring_again_replaces_the_rows_and_repeats_them(record):
  of = evaluated(*draw())
  first, _ = record(['irs'], of)
  again, _ = record(['irs', 'mig'], of)
  assert len(again) == 2
  assert again['value'][0] == first['value'][0]


def test_labels_are_a_factor_and_constant_factors_none(record):
  codes, factors = draw()
  frame, lines = record(
    ['mig', 'modularity'], evaluated(codes, None, factors[:, 0])
  )
  assert frame['score'].tolist() == ['mig']
  assert 'needs 2 factors, and there is 1' in lines[-1]
  constant = np.concatenate([factors, np.zeros((600, 1), int)], 1)
  frame, _ = record(['modularity'], evaluated(codes, constant))
  assert frame['value'].notna().all()


def test_data_without_factors_are_told_so(record):
  codes, _ = draw()
  with pytest.raises(scores.ScoreError, match='has no factors'):
    record(['mig'], evaluated(codes, None))


def test_names_are_checked_and_all_leaves_out_what_takes_minutes():
  assert scores.parse(['mig', 'dci', 'mig']) == ['mig', 'dci']
  assert 'dci' not in scores.parse(['all'])
  assert 'dci_forest' in scores.parse(['all'])
  with pytest.raises(scores.ScoreError, match='--scores=mag: must be all'):
    scores.parse(['mag'])


@pytest.mark.parametrize('name', sorted(set(scores.SCORES) - {'dci'}))
def test_every_score_is_measured_on_few_rows(record, name, monkeypatch):
  if name in ('beta_vae', 'factor_vae'):
    monkeypatch.setattr(
      disentanglement,
      f'{name}_score',
      lambda *arguments: getattr(scores_of, f'{name}_score')(
        *arguments, num_train=60, num_test=30
      ),
    )
  frame, _ = record([name], evaluated(*draw(300)))
  assert len(frame)
  assert np.isfinite(frame['value']).all()
  assert frame['floor'].isna().all() == (scores.SCORES[name].num_factors == 0)
