"""Event files, read back by TensorBoard's own readers."""

import io
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from tensorboard import context
from tensorboard.backend.event_processing import (
  data_provider,
  event_accumulator,
  plugin_event_multiplexer,
)
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
  api_pb2,
  backend_context,
  list_session_groups,
)

from analysis import tensorboard
from launch import records
from launch.settings import config
from tests.analysis import builders
from tests.launch import conftest


def write_run(run, status='finished', **settings):
  """A run that took eight seconds for four steps, begun at noon."""
  manifest = {'status': status, 'started': '2026-01-02T12:00:00+00:00'}
  builders.write_run(run, manifest | {'seconds': 8.0}, **settings)
  write_timing(run, [1, 2, 4])


def write_timing(run, steps):
  rows = [{'step': step, 'seconds': 2.0 * step} for step in steps]
  records.write_table(run, records.TIMING, rows)


def convert(*arguments):
  code, stdout, stderr = builders.analyse('tensorboard', *arguments)
  assert code == 0, stderr
  return stdout.split()


def read(run):
  """The events of a run, none of them left out."""
  accumulator = event_accumulator.EventAccumulator(
    str(run / records.TENSORBOARD), dict.fromkeys(('scalars', 'images'), 0)
  )
  accumulator.Reload()
  return accumulator


def expected_scalars(run):
  """(step, value) of each tag, from the tables."""
  expected = {}
  for row in records.read_table(run, records.TRAIN).to_dict('records'):
    for column in records.COLUMNS[records.TRAIN][1:]:
      if row[column] == row[column]:
        tag = expected.setdefault(f'train/{column}', [])
        tag.append((row['step'], row[column]))
  for row in records.read_table(run, records.TERMS).to_dict('records'):
    tag = expected.setdefault(f'terms/{row["term"]}', [])
    tag.append((row['step'], row['value']))
  for row in records.read_table(run, records.SCORES).to_dict('records'):
    variant = f'/{row["variant"]}' if row['variant'] else ''
    tag = f'scores/{row["split"]}/{row["score"]}{variant}'
    expected.setdefault(tag, []).append((row['step'], row['value']))
  for row in records.read_table(run, records.EVAL).to_dict('records'):
    samples = '' if row['num_samples'] == 1 else f'/{row["num_samples"]}'
    tag = f'{row["split"]}/{row["metric"]}{samples}'
    expected.setdefault(tag, []).append((row['step'], row['value']))
  return expected


def assert_events_are_those_of_the_tables(run):
  events, expected = read(run), expected_scalars(run)
  assert set(events.Tags()['scalars']) == expected.keys()
  for tag, pairs in expected.items():
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    np.testing.assert_allclose(found, pairs, rtol=1e-6)
    times = [event.wall_time for event in events.Scalars(tag)]
    assert times == sorted(times)


def test_events_hold_the_numbers_and_the_pictures(tmp_path):
  run = tmp_path / 'run'
  write_run(run)
  builders.write_terms(run)
  score = {'step': 4, 'split': 'test', 'n': 9, 'draw_seed': 0, 'value': 0.5}
  records.write_table(
    run,
    records.SCORES,
    [
      dict.fromkeys(records.COLUMNS[records.SCORES])
      | {'active': 1, 'settings': ''}
      | score
      | {'score': name, 'variant': variant}
      for name, variant in (('mig', ''), ('sap', 'linear'))
    ],
  )
  (path,) = convert(f'--run_dir={run}')
  assert 'scores/test/sap/linear' in read(run).Tags()['scalars']
  assert [path] == [str(p) for p in (run / records.TENSORBOARD).iterdir()]
  assert_events_are_those_of_the_tables(run)
  events = read(run)
  # The times are those of training.
  times = [event.wall_time for event in events.Scalars('train/total')]
  np.testing.assert_allclose(np.subtract(times, times[0]), [0.0, 2.0, 6.0])
  assert set(events.Tags()['images']) == {'reconstructions', 'traversals'}
  arrays = records.read_arrays(run, 'reconstructions')
  (event,) = events.Images('reconstructions')
  with PIL.Image.open(io.BytesIO(event.encoded_image_string)) as picture:
    pixels = np.asarray(picture) / 255
  assert event.step == 4
  assert (event.height, event.width, 3) == pixels.shape
  assert pixels.shape == (2 * 8 - 2, 16 * 8 - 2, 3)
  for row, name in enumerate(('images', 'means')):
    tile = pixels[8 * row : 8 * row + 6, 8 * 5 : 8 * 5 + 6]
    expected = np.broadcast_to(arrays[name][5], tile.shape)
    np.testing.assert_allclose(tile, expected, atol=1 / 255)
  (event,) = events.Images('traversals')
  assert (event.height, event.width) == (2 * 8 - 2, 5 * 8 - 2)


def test_a_file_that_is_written_again_has_each_step_once(tmp_path):
  write_run(tmp_path / 'run')
  (first,) = convert(f'--run_dir={tmp_path}/*')
  (second,) = convert(f'--run_dir={tmp_path}/*')
  assert first != second
  assert_events_are_those_of_the_tables(tmp_path / 'run')


@pytest.mark.parametrize('name', ['autoencoder', 'dense_vae', 'conv_vae'])
def test_real_runs_of_every_kind_have_events(tmp_path, name):
  run = tmp_path / name
  shutil.copytree(conftest.ROOT / 'analysis/results/runs' / name, run)
  convert(f'--run_dir={run}')
  assert_events_are_those_of_the_tables(run)


def test_failed_and_stopped_runs_have_events(tmp_path):
  for status in ('failed', 'interrupted', 'running'):
    write_run(tmp_path / status, status, with_arrays=False)
    convert(f'--run_dir={tmp_path / status}')
    assert_events_are_those_of_the_tables(tmp_path / status)


def list_groups(folder):
  """What the HParams view of TensorBoard lists."""
  multiplexer = plugin_event_multiplexer.EventMultiplexer()
  multiplexer.AddRunsFromDirectory(str(folder))
  multiplexer.Reload()
  provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
  flags = base_plugin.TBContext(data_provider=provider)
  backend = backend_context.Context(flags)
  request = context.RequestContext()
  experiment = backend.experiment_from_metadata(
    request, '', True, backend.hparams_metadata(request, ''), None
  )
  asked = api_pb2.ListSessionGroupsRequest(
    start_index=0,
    slice_size=10,
    allowed_statuses=[api_pb2.STATUS_SUCCESS],
    col_params=[
      api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos
    ],
  )
  groups = list_session_groups.Handler(request, backend, '', asked).run()
  return groups.session_groups


def test_two_runs_in_a_folder_show_in_the_hparams_view(tmp_path):
  for beta in (0.5, 2.0):
    write_run(tmp_path / f'{beta}', beta=beta, encoder=None)
  assert len(convert(f'--run_dir={tmp_path}/*')) == 2
  groups = list_groups(tmp_path)
  found = {group.hparams['beta'].number_value: group for group in groups}
  assert found.keys() == {0.5, 2.0}
  for beta, group in found.items():
    settings = config.complete(records.read_config(tmp_path / f'{beta}'))
    assert group.hparams.keys() == settings.keys()
    assert group.hparams['hidden_sizes'].string_value == '100,100'
    assert group.hparams['encoder'].string_value == 'none'
    assert group.hparams['seed'].number_value == settings['seed']
    metrics = {value.name.tag: value.value for value in group.metric_values}
    results = records.read_table(tmp_path / f'{beta}', records.EVAL)
    elbo = results.set_index('metric')['value']['elbo_nats']
    assert metrics['test/elbo_nats'] == pytest.approx(elbo, rel=1e-6)


def test_runs_can_be_followed_as_they_go_on(tmp_path, monkeypatch):
  run = tmp_path / 'run'
  write_run(run, 'running', steps=range(1, 16))
  write_timing(run, range(1, 16))
  rows = records.read_rows(run, records.TRAIN)
  manifest = records.read_manifest(run)
  seen = []

  def finish():
    records.write_manifest(run, manifest | {'status': 'finished'})

  def train(count):
    records.write_table(run, records.TRAIN, rows[:count])

  steps = iter(
    [
      lambda: train(9),
      lambda: train(12),
      # Killed, and resumed from a checkpoint.
      lambda: train(7),
      lambda: train(15),
      finish,
      # Another one begins, and cannot be read yet.
      lambda: (tmp_path / 'new').mkdir(),
      lambda: (tmp_path / 'new' / records.MANIFEST).write_text(''),
      lambda: shutil.rmtree(tmp_path / 'new'),
      lambda: write_run(tmp_path / 'new', 'running', with_arrays=False),
    ]
  )

  def sleep(seconds):
    assert seconds == 5.0
    seen.append(len(read(run).Scalars('train/total')))
    try:
      next(steps)()
    except StopIteration:
      raise KeyboardInterrupt from None

  train(5)
  monkeypatch.setattr(tensorboard.time, 'sleep', sleep)
  code, stdout, stderr = builders.analyse(
    'tensorboard', f'--run_dir={tmp_path}/*', '--follow'
  )
  assert seen[:6] == [5, 9, 12, 7, 15, 15]
  assert_events_are_those_of_the_tables(run)
  assert_events_are_those_of_the_tables(tmp_path / 'new')
  assert read(run).Tags()['images']
  # The run's file, another one after the kill, and that of the other run.
  assert len(stdout.split()) == 3
  assert (code, stderr.count('\n')) == (1, 1)
  assert 'cannot be read' in stderr


def test_a_link_is_not_followed(tmp_path):
  write_run(tmp_path / 'run')
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'run' / records.TENSORBOARD).symlink_to(tmp_path / 'elsewhere')
  code, _, stderr = builders.analyse(
    'tensorboard', f'--run_dir={tmp_path / "run"}'
  )
  assert (code, stderr.count('\n')) == (1, 1)
  assert not [*(tmp_path / 'elsewhere').iterdir()]


def test_without_the_package_it_is_one_line():
  script = (
    'import runpy, sys\n'
    'sys.modules["tensorboard.compat.proto"] = None\n'
    'runpy.run_module("analysis.tensorboard", run_name="__main__")\n'
  )
  result = subprocess.run(
    [sys.executable, '-c', script],
    cwd=conftest.ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1
  assert result.stderr.count('\n') == 1, result.stderr
  assert "pip install -c requirements.lock -e '.[tens" in result.stderr


def test_it_writes_without_tensorflow(tmp_path):
  write_run(tmp_path / 'run')
  script = (
    'import runpy, sys\n'
    'runpy.run_module("analysis.tensorboard", run_name="__main__")\n'
    'assert "tensorflow" not in sys.modules\n'
  )
  subprocess.run(
    [sys.executable, '-c', script, f'--run_dir={tmp_path / "run"}'],
    cwd=conftest.ROOT,
    check=True,
  )
  assert_events_are_those_of_the_tables(tmp_path / 'run')
