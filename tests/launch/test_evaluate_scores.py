"""`launch.evaluate --scores` of a run and of a sweep, on data with factors."""

import shutil

import numpy as np
import pytest

from launch import evaluate, records
from launch.rundir import checkpoints
from tests.launch import conftest
from vae.metrics import disentanglement

QUICK = 'mig,sap_r2'


@pytest.fixture(scope='session')
def drawn(made_once):
  """Images of a square in 4 places along x, 4 along y, of 3 shades."""

  def draw(folder):
    factors = np.stack(np.unravel_index(np.arange(48), (4, 4, 3)), axis=1)
    factors = np.tile(factors, (25, 1))
    images = np.zeros((len(factors), 8, 8), np.uint8)
    for image, (x, y, shade) in zip(images, factors, strict=True):
      image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = 85 * (shade + 1)
    noise = np.random.default_rng(0).integers(0, 9, images.shape)
    np.savez(
      folder / 'squares.npz',
      images=images - np.minimum(images, noise).astype(np.uint8),
      factors=factors,
      factor_names=np.array(['x', 'y', 'shade']),
    )
    np.savez(folder / 'bare.npz', images=images)

  return made_once('drawn', draw)


SETTINGS = (
  '--reduction=sum',
  '--hidden_sizes=16',
  '--latent_size=3',
  '--training_steps=60',
  '--jit=off',
)


@pytest.fixture(scope='session')
def swept(made_once, drawn):
  """A sweep of two strengths and two seeds."""

  def fill(folder):
    for beta in (1, 4):
      for seed in (0, 1):
        result = conftest.call_train(
          f'--dataset={drawn / "squares.npz"}',
          f'--data_dir={drawn}',
          f'--run_dir={folder}/sweep/beta={beta}_seed={seed}',
          f'--beta={beta}',
          f'--seed={seed}',
          *SETTINGS,
        )
        assert result.code == 0, result.stderr

  return made_once('swept', fill) / 'sweep'


@pytest.fixture
def sweep_dir(swept, tmp_path):
  shutil.copytree(swept, tmp_path / 'sweep')
  return tmp_path / 'sweep'


@pytest.fixture
def launch_evaluate(drawn):
  def run(*arguments):
    return conftest.call(evaluate.main, [f'--data_dir={drawn}', *arguments])

  return run


def of_runs(folder, name):
  return {path.name: (path / name).read_bytes() for path in folder.glob('b*')}


def test_a_sweep_is_scored_goes_on_and_is_not_scored_twice(
  launch_evaluate, sweep_dir
):
  first, second, third, fourth = sorted(sweep_dir.glob('beta*'))
  manifest = records.read_manifest(fourth)
  records.write_manifest(fourth, manifest | {'status': 'interrupted'})
  before = of_runs(sweep_dir, records.EVAL)
  sweep_of = f'--sweep_dir={sweep_dir}'
  result = launch_evaluate(sweep_of, f'--scores={QUICK},udr')
  assert result.code == 0, result.stderr
  left_out = f'4 of 4: {fourth.name}: left out, since it is interrupted'
  assert left_out in result.stdout
  assert not (fourth / records.SCORES).exists()
  for run in (first, second, third):
    frame = records.read_table(run, records.SCORES)
    assert frame['score'].tolist() == QUICK.split(',')
    arrays = records.read_arrays(run, 'scores')
    assert arrays['factors'].tolist() == ['x', 'y', 'shade']
  # Nothing else is measured, unless it is asked for.
  assert of_runs(sweep_dir, records.EVAL) == before
  ranked = records.read_table(sweep_dir, records.SWEEP_SCORES)
  assert ranked['run_dir'].tolist() == 2 * [first.name, second.name]
  assert 'udr of beta=4: needs models of at least two seeds' in result.stdout

  records.write_manifest(fourth, manifest)
  scored = of_runs(sweep_dir, 'manifest.json'), first / records.SCORES
  stamp = scored[1].stat().st_mtime_ns
  result = launch_evaluate(sweep_of, f'--scores={QUICK}')
  assert result.stdout.count('its scores stand') == 3
  assert scored[1].stat().st_mtime_ns == stamp
  assert (fourth / records.SCORES).exists()
  # More scores are added; what stands is repeated where that is asked for.
  result = launch_evaluate(sweep_of, '--scores=mig,irs')
  assert 'irs' in result.stdout and 'mig ' not in result.stdout
  result = launch_evaluate(sweep_of, '--scores=mig', '--again')
  assert result.stdout.count('mig ') == 4
  frame = records.read_table(first, records.SCORES)
  assert frame['score'].tolist() == ['mig', 'sap_r2', 'irs']


def test_recorded_codes_score_as_those_of_the_model_do(
  launch_evaluate, sweep_dir
):
  launch_evaluate(f'--sweep_dir={sweep_dir}', f'--scores={QUICK}')
  run = min(sweep_dir.glob('beta*'))
  recorded = (run / records.SCORES).read_bytes()
  (run / records.SCORES).unlink()
  one = launch_evaluate(f'--run_dir={run}', f'--scores={QUICK}')
  assert one.code == 0, one.stderr
  assert (run / records.SCORES).read_bytes() == recorded
  # So does a run whose codes are not those of its last weights.
  arrays = records.read_arrays(run, 'latents')
  arrays.pop('step')
  (run / 'arrays' / 'latents.npz').unlink()
  arrays['means'] = arrays['means'] * 0
  records.write_arrays(run, 'latents', 59, arrays)
  (run / records.SCORES).unlink()
  launch_evaluate(f'--sweep_dir={sweep_dir}', f'--scores={QUICK}')
  assert (run / records.SCORES).read_bytes() == recorded


def test_udr_compares_models_that_differ_in_their_seed(
  launch_evaluate, sweep_dir
):
  result = launch_evaluate(f'--sweep_dir={sweep_dir}', '--scores=udr')
  assert result.code == 0, result.stderr
  frame = records.read_table(sweep_dir, records.SWEEP_SCORES)
  assert len(frame) == 8
  assert (sweep_dir / 'scores.csv').exists()
  assert set(frame['num_models']) == {2}
  assert frame['settings'].str.contains('Lasso alpha 0.1').all()
  for (group, variant), rows in frame.groupby(['group', 'variant']):
    names = [f'{group}_seed={seed}' for seed in (0, 1)]
    assert rows['run_dir'].tolist() == names
    runs = [sweep_dir / name for name in names]
    latents = [records.read_arrays(run, 'latents')['means'] for run in runs]
    assert set(rows['n']) == {80}  # Two in three of the 120 that test.
    rates = [
      records.read_table(run, records.RATE_PER_LATENT)['rate_nats'].to_numpy()
      for run in runs
    ]
    # The order of rows does not matter, but which are drawn does a little.
    expected, _ = disentanglement.udr(latents, rates, variant)
    np.testing.assert_allclose(rows['value'], expected, atol=0.15)
  again = launch_evaluate(f'--sweep_dir={sweep_dir}', '--scores=udr')
  assert again.code == 0
  assert len(records.read_table(sweep_dir, records.SWEEP_SCORES)) == 8


def test_a_sweep_is_evaluated_without_scores_and_a_failure_stops_no_other(
  launch_evaluate, sweep_dir
):
  first, *others = sorted(sweep_dir.glob('beta*'))
  for path in checkpoints.paths(first):
    path.write_bytes(b'x')
  arguments = f'--sweep_dir={sweep_dir}', '--num_importance_samples=0'
  result = launch_evaluate(*arguments)
  assert result.code == 1
  assert f'1 of 4: {first.name}: every checkpoint' in result.stderr
  assert '1 of 4 runs failed' in result.stderr
  for run in others:
    found = set(records.read_table(run, records.EVAL)['metric'])
    assert 'total_correlation_nats' in found
  result = launch_evaluate(*arguments)
  assert result.stdout.count('its metrics stand') == 3


def test_what_cannot_be_scored_is_one_line_before_anything_is_evaluated(
  launch_evaluate, sweep_dir, drawn, tmp_path
):
  run = tmp_path / 'bare'
  trained = conftest.call_train(
    f'--dataset={drawn / "bare.npz"}',
    f'--data_dir={drawn}',
    f'--run_dir={run}',
    *SETTINGS,
  )
  assert trained.code == 0, trained.stderr
  before = (run / records.EVAL).read_bytes()
  for arguments, part in (
    ((f'--run_dir={run}', '--scores=all'), 'has no factors'),
    ((f'--sweep_dir={tmp_path}', '--scores=mig'), 'has no factors'),
    ((f'--run_dir={run}', '--scores=mog'), '--scores=mog: must be all, or'),
    ((f'--run_dir={run}', '--scores=udr'), 'give --sweep_dir'),
    ((f'--run_dir={run}', f'--sweep_dir={sweep_dir}'), '--run_dir: is of one'),
    ((f'--sweep_dir={sweep_dir / "none"}',), 'holds no runs of a sweep'),
  ):
    result = launch_evaluate(*arguments)
    assert result.code == 1
    assert part in result.stderr.splitlines()[-1], result.stderr
    assert 'Traceback' not in result.stderr
    assert 'evaluating' not in result.stdout
  assert (run / records.EVAL).read_bytes() == before


def test_training_scores_by_the_step_and_changes_no_bit(
  launch_evaluate, drawn, tmp_path
):
  def launch_train(run, *arguments):
    result = conftest.call_train(
      f'--dataset={drawn / "squares.npz"}',
      f'--data_dir={drawn}',
      f'--run_dir={tmp_path / run}',
      '--checkpoint_every=20',
      '--eval_every=20',
      *SETTINGS,
      *arguments,
    )
    assert result.code == 0, result.stderr
    return tmp_path / run

  plain = launch_train('plain')
  whole = launch_train('whole', f'--eval_scores={QUICK}')
  tables = records.TRAIN, records.EVAL
  last = f'{records.CHECKPOINTS}/step_{60:012}.safetensors'
  for name in (*tables, last):
    assert (whole / name).read_bytes() == (plain / name).read_bytes()
  assert not (plain / records.SCORES).exists()
  frame = records.read_table(whole, records.SCORES)
  expected = [
    (step, name) for step in (20, 40, 60) for name in QUICK.split(',')
  ]
  assert list(zip(frame['step'], frame['score'], strict=True)) == expected
  assert records.read_arrays(whole, 'scores')['step'] == 60

  # Killed after an evaluation that no checkpoint holds, and scored besides.
  killed = tmp_path / 'killed'
  shutil.copytree(whole, killed)
  for step in (40, 60):
    checkpoints.path_of(killed, step).unlink(missing_ok=True)
  kept = checkpoints.paths(killed)
  manifest = records.read_manifest(killed)
  records.write_manifest(killed, manifest | {'status': 'running'})
  if kept:
    launch_evaluate(f'--run_dir={killed}', '--scores=irs')
  launch_train('killed', f'--eval_scores={QUICK}')
  frame = records.read_table(killed, records.SCORES)
  assert [*zip(frame['step'], frame['score'], strict=True)].count(
    (60, 'mig')
  ) == 1
  lines = (killed / records.SCORES).read_text().splitlines()
  rest = [line for line in lines if ',irs,' not in line]
  assert sorted(rest) == sorted(
    (whole / records.SCORES).read_text().splitlines()
  )
  # A longer run has the rows of one that never ended at step 60.
  settings = f'--eval_scores={QUICK}', '--training_steps=80', '--eval_every=50'
  long = launch_train('long', *settings)
  short = launch_train('short', f'--eval_scores={QUICK}', '--eval_every=50')
  launch_train('short', *settings)
  for name in (records.SCORES, records.EVAL):
    assert (short / name).read_bytes() == (long / name).read_bytes()
  assert (short / records.ARRAYS / 'scores.npz').exists()


def test_scores_of_training_need_factors_at_start(drawn, tmp_path):
  for data, score, part in (
    ('bare', 'mig', '--eval_scores: '),
    ('squares', 'dci', '--eval_scores=dci: must be one of beta_vae'),
  ):
    result = conftest.call_train(
      f'--dataset={drawn / f"{data}.npz"}',
      f'--data_dir={drawn}',
      f'--run_dir={tmp_path / "run"}',
      f'--eval_scores={score}',
      *SETTINGS,
    )
    assert result.code == 1
    assert part in result.stderr.splitlines()[-1]
    assert not (tmp_path / 'run').exists()
