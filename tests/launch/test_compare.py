import json
import pathlib
import shutil

import pytest

from launch import compare, records
from tests.launch import conftest, test_records


def call(*arguments):
  return conftest.call(compare.main, arguments, ('RUN_A', 'RUN_B'))


def write_run(path, settings=None, manifest=None, rows=()):
  path.mkdir()
  manifest = test_records.MANIFEST | (manifest or {})
  records.write_manifest(path, manifest)
  base = {'beta': 0.5, 'latent_size': 2, 'reduction': 'sum', 'seed': 0}
  (path / records.CONFIG).write_text(json.dumps(base | (settings or {})))
  records.write_table(path, records.EVAL)
  records.upsert(path, records.EVAL, rows)
  return path


def columns(result):
  """The cells of each line that is printed, by its name."""
  assert result.code == 0, result.stderr
  lines = [line.strip().split('  ') for line in result.stdout.splitlines()]
  return {
    line[0]: [cell.strip() for cell in line[1:] if cell] for line in lines
  }


row = test_records.eval_row


def test_runs_that_do_not_differ_say_so(tmp_path):
  one = write_run(tmp_path / 'one', rows=[row(), row(metric='u', se=None)])
  result = call(one, one)
  assert result.code == 0
  assert 'settings: the same' in result.stdout
  assert 'versions, commit, device, data: the same' in result.stdout
  assert 'results: the same' in result.stdout
  assert 'noise' not in result.stdout


def test_what_differs_stands_side_by_side_and_aligned(tmp_path):
  one = write_run(tmp_path / 'one', {'beta': 0.01, 'hidden_sizes': [7, 5]})
  two = write_run(
    tmp_path / 'two',
    {'idea': 'mine', 'hidden_sizes': [7]},
    {
      'status': 'running',
      'packages': {'python': '3.11.7', 'numpy': '2.5.0'},
      'device': {'name': 'another', 'type': 'GPU'},
      'source': {'commit': 'beef' * 10, 'dirty': True},
    },
  )
  result = call(one, two)
  found = columns(result)
  assert found['beta'] == ['0.01', '0.5']
  assert found['hidden_sizes'] == ['7,5', '7']
  assert found['idea'] == ['-', 'mine']
  assert found['numpy'] == ['2.4.6', '2.5.0']
  assert found['device'] == ['a processor', 'another']
  assert found['commit'] == ['c0ffee', 'beefbeefbeef with changes']
  assert found['status'] == ['finished', 'running']
  assert {'reduction', 'seed', 'python', 'data'}.isdisjoint(found)
  lines = [line for line in result.stdout.splitlines() if line[:2] == '  ']
  titles = [lines[0].index(str(path)) for path in (one, two)]
  for line in lines[1:]:
    for start in titles:
      assert line[start - 1] == ' '
      assert line[start] != ' '


@pytest.mark.parametrize(
  ('value', 'size'),
  [(-2.19, 'within'), (-2.21, 'more than'), (-0.5, 'more than')],
)
def test_a_difference_is_set_beside_the_noise_of_the_images(
  tmp_path, value, size
):
  # 1.96 sqrt(0.25^2 + 0.25^2) = 0.693.
  one = write_run(tmp_path / 'one', rows=[row()])
  two = write_run(tmp_path / 'two', rows=[row(value=value)])
  result = call(one, two)
  found = columns(result)['elbo_nats']
  assert found[:2] == ['-1.5 ± 0.25', f'{value:g} ± 0.25']
  difference = f'{value + 1.5:+.4g} ± 0.35'
  assert found[2] == f'{difference}, {size} the noise of the images'
  assert 'python -m analysis.table' in result.stdout


def test_seeds_of_one_recipe_get_no_verdict_on_it():
  # Eleven standard errors over images apart, by the seed alone.
  runs = pathlib.Path(records.__file__).parents[1] / 'analysis/results/runs'
  name = 'full_covariance_vae-static-1001'
  result = call(runs / name, runs / f'{name}-seed2')
  assert columns(result)['elbo_nats'][2].startswith('+6.363 ± 0.58')
  assert 'chance' not in result.stdout
  assert 'another seed' in result.stdout


def test_results_are_those_of_the_weights_that_count(tmp_path):
  rows = [row(step=4, value=-1.0), row(step=8, value=-3.0)]
  last = write_run(tmp_path / 'last', rows=rows)
  best = write_run(tmp_path / 'best', manifest={'best_step': 4}, rows=rows)
  found = columns(call(last, best))
  assert found['evaluated step'] == ['8', '4']
  assert found['elbo_nats'][:2] == ['-3 ± 0.25', '-1 ± 0.25']


@pytest.mark.parametrize(
  ('settings', 'changes', 'why'),
  [
    ({'binarize': 'dynamic'}, {}, 'other targets'),
    ({'likelihood': 'normal'}, {}, 'other targets'),
    ({'beta': 4}, {'n': 9}, 'other images'),
  ],
)
def test_numbers_of_other_things_get_no_verdict(
  tmp_path, settings, changes, why
):
  one = write_run(tmp_path / 'one', rows=[row()])
  two = write_run(tmp_path / 'two', settings, rows=[row(value=-9, **changes)])
  result = call(one, two)
  assert columns(result)['elbo_nats'][2] == f'not comparable: {why}'
  assert 'noise' not in result.stdout


@pytest.mark.parametrize(
  ('likelihood', 'is_compared'),
  [('bernoulli', True), ('normal', False), ('of_another_machine', False)],
)
def test_a_density_is_not_compared_with_a_probability(
  tmp_path, likelihood, is_compared
):
  binary = {'binarize': 'static', 'likelihood': 'bernoulli'}
  rate = {'metric': 'rate_nats', 'value': 3}
  one = write_run(tmp_path / 'one', binary, rows=[row(), row(**rate)])
  other = binary | {'likelihood': likelihood}
  rate['value'] = 4
  rows = [row(value=-9), row(**rate)]
  two = write_run(tmp_path / 'two', other, rows=rows)
  found = columns(call(one, two))
  said = 'not comparable: a density beside a probability'
  assert (found['elbo_nats'][2] == said) != is_compared
  assert 'not comparable' not in found['rate_nats'][2]


def test_other_data_are_named_and_get_no_verdict(tmp_path):
  data = test_records.MANIFEST['dataset']
  other = {'dataset': data | {'sha256': {'train': '0', 'test': '2'}}}
  one = write_run(tmp_path / 'one', rows=[row()])
  two = write_run(tmp_path / 'two', None, other, rows=[row(value=-9)])
  found = columns(call(one, two))
  assert found['sha256 of test'] == ['1', '2']
  assert found['elbo_nats'][2] == 'not comparable: other images'


def test_runs_without_results_yet_and_with_other_metrics(tmp_path):
  one = write_run(tmp_path / 'one')
  two = write_run(
    tmp_path / 'two', rows=[row(), row(metric='log_p_nats', num_samples=5000)]
  )
  found = columns(call(one, two))
  assert found['evaluated step'] == ['-', '4']
  assert found['metrics of its own'] == ['0', '2']


@pytest.mark.parametrize(
  'source', [{'commit': 'c0ffee', 'dirty': True}, {'commit': None}]
)
def test_a_commit_that_is_in_doubt_is_never_the_same(tmp_path, source):
  manifest = {'source': {'dirty': None} | source}
  one = write_run(tmp_path / 'one', manifest=manifest)
  assert columns(call(one, one))['commit'][2] == 'which may differ'


def test_a_run_that_went_on_elsewhere_names_both_places(tmp_path):
  session = {
    key: test_records.MANIFEST[key] for key in ('started', 'source', 'device')
  }
  session['packages'] = {'python': '3.11.7', 'numpy': '2.5.0'}
  one = write_run(tmp_path / 'one')
  two = write_run(tmp_path / 'two', manifest={'resumed': [session]})
  assert columns(call(one, two))['numpy'] == ['2.4.6', '2.4.6, then 2.5.0']


def test_what_a_run_holds_cannot_steer_the_terminal(tmp_path):
  one = write_run(tmp_path / 'one')
  two = write_run(tmp_path / 'two', {'idea': '\x1b[2J\nsettings: the same'})
  result = call(one, two)
  assert '\x1b' not in result.stdout
  assert columns(result)['idea'][1].startswith(r'\x1b[2J\nsettings')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['a'], 'missing RUN_B'),
    (['a', 'b', 'c'], "unexpected argument 'c'"),
    (['a', 'b'], 'a is no run directory'),
    (['--stderrthreshold=x', 'a', 'b'], '--stderrthreshold must be one of'),
  ],
)
def test_other_arguments_are_refused(arguments, message):
  result = call(*arguments)
  assert result.code in (1, 2)
  assert result.stderr.count('\n') == 1
  assert message in result.stderr


def test_both_runs_of_real_training_compare_while_one_is_unfinished(
  launch_train, tmp_path
):
  one, two = tmp_path / 'one', tmp_path / 'two'
  assert launch_train(run_dir=one, beta=0.5).code == 0
  shutil.copytree(one, two)
  manifest = records.read_manifest(two)
  records.write_manifest(two, manifest | {'status': 'running'})
  records.write_table(two, records.EVAL)
  found = columns(call(one, two))
  assert found['status'] == ['finished', 'running']
  assert found['evaluated step'] == ['20', '-']
