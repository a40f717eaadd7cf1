"""Event files, read back by TensorBoard's own readers."""

import io
import os
import random
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

from launch import records, tensorboard
from tests.launch import conftest, faults
from tests.launch.test_train import assert_one_line_error


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


def test_events_hold_the_numbers_and_the_pictures(launch_train, tmp_path):
  run = tmp_path / 'run'
  result = launch_train('--tensorboard', run_dir=run, eval_every=7, log_every=3)
  assert result.code == 0, result.stderr
  assert_events_are_those_of_the_tables(run)
  events = read(run)
  # The times are those of training.
  last = records.read_table(run, records.TIMING)['seconds'].iloc[-1]
  first, *_, end = events.Scalars('train/total')
  assert 0.0 <= end.wall_time - first.wall_time <= last
  assert set(events.Tags()['images']) == {'reconstructions', 'traversals'}
  arrays = records.read_arrays(run, 'reconstructions')
  (event,) = events.Images('reconstructions')
  with PIL.Image.open(io.BytesIO(event.encoded_image_string)) as picture:
    pixels = np.asarray(picture) / 255
  assert event.step == 20
  assert (event.height, event.width) == pixels.shape == (3 * 29, 16 * 29)
  for row, name in enumerate(('images', 'modes', 'means')):
    tile = pixels[29 * row : 29 * row + 28, 29 * 5 : 29 * 5 + 28]
    np.testing.assert_allclose(tile, arrays[name][5, ..., 0], atol=1 / 255)
  (event,) = events.Images('traversals')
  assert (event.height, event.width) == (3 * 29, 13 * 29)


def test_a_run_that_was_killed_and_resumed_has_each_step_once(
  launch_train, tmp_path, data_dir
):
  settings = faults.SMALL | {'training_steps': 2000}
  killed, plain = tmp_path / 'killed', tmp_path / 'plain'
  watched = settings | {'tensorboard': 'true'}
  moment = random.Random(0).uniform(0.2, 1.0)
  faults.kill_after(moment, faults.flags(killed, data_dir, watched))
  assert launch_train(run_dir=killed, **watched).code == 0
  assert_events_are_those_of_the_tables(killed)
  longer = watched | {'training_steps': 2100}
  assert launch_train(run_dir=killed, **longer).code == 0
  assert_events_are_those_of_the_tables(killed)
  assert launch_train(run_dir=plain, **settings).code == 0
  assert (
    launch_train(
      run_dir=plain,
      training_steps=2100,
      **{
        name: value
        for name, value in settings.items()
        if name != 'training_steps'
      },
    ).code
    == 0
  )
  faults.assert_same_run(plain, killed)
  assert not (plain / records.TENSORBOARD).exists()


def test_a_finished_run_and_a_stopped_one_get_their_events(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run).code == 0
  assert launch_train('--tensorboard', run_dir=run).code == 0
  assert_events_are_those_of_the_tables(run)
  failed = tmp_path / 'failed'
  result = launch_train('--tensorboard', run_dir=failed, learning_rate=1e12)
  assert result.code == 1
  assert_events_are_those_of_the_tables(failed)


def test_rows_of_tables_and_plain_autoencoders_have_events(
  launch_train, tmp_path
):
  for name, settings in (
    ('table', {'preset': 'dense_vae', 'dataset': 'wine'}),
    ('code', {'preset': 'autoencoder'}),
  ):
    run = tmp_path / name
    result = launch_train('--tensorboard', run_dir=run, **settings)
    assert result.code == 0, result.stderr
    assert_events_are_those_of_the_tables(run)
  assert read(tmp_path / 'table').Tags()['images'] == []


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


def test_two_runs_in_a_folder_show_in_the_hparams_view(launch_train, tmp_path):
  for beta in (0.5, 2.0):
    run = tmp_path / f'{beta}'
    assert launch_train('--tensorboard', run_dir=run, beta=beta).code == 0
  groups = list_groups(tmp_path)
  found = {group.hparams['beta'].number_value: group for group in groups}
  assert found.keys() == {0.5, 2.0}
  for beta, group in found.items():
    settings = records.read_config(tmp_path / f'{beta}')
    assert group.hparams.keys() == settings.keys()
    assert group.hparams['hidden_sizes'].string_value == '8'
    assert group.hparams['encoder'].string_value == 'none'
    assert group.hparams['seed'].number_value == settings['seed']
    metrics = {value.name.tag: value.value for value in group.metric_values}
    results = records.read_table(tmp_path / f'{beta}', records.EVAL)
    elbo = results.set_index('metric')['value']['elbo_nats']
    assert metrics['test/elbo_nats'] == pytest.approx(elbo, rel=1e-6)


def test_without_the_package_it_is_one_line_and_no_run(
  launch_train, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'tensorboard', None)
  run = tmp_path / 'run'
  result = launch_train('--tensorboard', run_dir=run)
  assert_one_line_error(result, "pip install -c requirements.lock -e '.[tens")
  assert not run.exists()
  assert launch_train(run_dir=run).code == 0


def test_without_the_flag_it_is_not_imported(tmp_path, data_dir):
  script = (
    'import atexit, sys\n'
    'from launch import cli, train\n'
    'atexit.register(lambda: print(*sys.modules))\n'
    'cli.run(train.main, "")\n'
  )
  result = subprocess.run(
    [
      *(sys.executable, '-c', script),
      *(f'--run_dir={tmp_path / "run"}', f'--data_dir={data_dir}'),
      *('--dataset=mnist_5k', '--training_steps=2'),
    ],
    cwd=conftest.ROOT,
    env=os.environ,
    capture_output=True,
    text=True,
    check=True,
  )
  loaded = result.stdout.split('\n')[-2].split()
  assert 'launch.experiment.loop' in loaded
  assert not [name for name in loaded if name.startswith('tensorboard')]


def test_rows_can_be_watched_while_the_run_goes_on(
  launch_train, tmp_path, monkeypatch
):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run, log_every=1).code == 0
  rows = records.read_rows(run, records.TRAIN)
  records.write_table(run, records.TRAIN, rows[:5])
  now = [0.0]
  monkeypatch.setattr('time.monotonic', lambda: now[0])
  with tensorboard.watching(run) as look:
    seen = []
    for now[0], count in ((1.0, 9), (6.0, 12), (7.0, 15)):
      records.write_table(run, records.TRAIN, rows[:count])
      look()
      seen.append(len(read(run).Scalars('train/total')))
  assert seen == [5, 12, 12]  # It looks every five seconds.
  assert len(read(run).Scalars('train/total')) == 15
