"""Event files for TensorBoard, from the files of runs.

Scalars are the rows of train.csv, terms.csv, eval.csv and scores.csv at the
time of training of their step, pictures are reconstructions and traversals,
hyperparameters the settings. `tensorboard --logdir=runs` shows all runs that
have them.
"""

import argparse
import datetime
import io
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import PIL.Image

from analysis import command, frames, grids
from launch import records

# TensorBoard's own EventFileWriter would import TensorFlow; these do not.
try:
  from tensorboard.compat.proto import event_pb2, summary_pb2
  from tensorboard.plugins.hparams import (
    api_pb2,
    metadata,
    plugin_data_pb2,
    summary_v2,
  )
  from tensorboard.summary.writer import record_writer
except ImportError:
  if __name__ != '__main__':
    raise
  sys.exit(
    'analysis.tensorboard: error: the package tensorboard is missing; '
    "pip install -c requirements.lock -e '.[tensorboard]'"
  )

# Seconds between looks at the runs, as TensorBoard itself looks.
_INTERVAL = 5.0

# Reconstructions side by side.
_COLUMNS = 16

# In the order in which a step of training adds to them.
_TABLES = (records.TRAIN, records.TERMS, records.EVAL, records.SCORES)

_ENDS = {'finished': api_pb2.STATUS_SUCCESS, 'failed': api_pb2.STATUS_FAILURE}


def _scalars(name: str, row: Mapping[str, str]) -> dict[str, str]:
  """Returns the numbers of a table's row, by their names in TensorBoard."""
  if name == records.TRAIN:
    return {f'train/{key}': row[key] for key in row if key != 'step'}
  if name == records.TERMS:
    tag = f'terms/{row["term"]}'
  elif name == records.SCORES:
    tag = f'scores/{row["split"]}/{row["score"]}/{row["variant"]}'
  else:
    samples = row['num_samples'] if row['num_samples'] != '1' else ''
    tag = f'{row["split"]}/{row["metric"]}/{samples}'
  return {tag.rstrip('/'): row['value']}


def _events(run: frames.RunFiles) -> bytes:
  """Returns what the event file of a run holds, in the order of training.

  Raises:
    RecordError: a damaged run.
  """
  try:
    started = datetime.datetime.fromisoformat(run.manifest['started'])
  except ValueError as error:
    raise records.RecordError(
      f'{run.path / records.MANIFEST} is damaged: {error}'
    ) from error
  buffer = io.BytesIO()
  writer = record_writer.RecordWriter(buffer)

  def write(seconds: float, **content: Any) -> None:
    """Writes an event, as of so many seconds of training."""
    time = started.timestamp() + seconds
    event = event_pb2.Event(wall_time=time, **content)
    writer.write(event.SerializeToString(deterministic=True))

  def write_summary(seconds: float, step: int, **value: Any) -> None:
    values = [summary_pb2.Summary.Value(**value)]
    write(seconds, step=step, summary=summary_pb2.Summary(value=values))

  write(0.0, file_version='brain.Event:2')
  settings = {
    name: value
    if isinstance(value, bool | int | float | str)
    else records.text(value).lower()
    for name, value in run.config.items()
  }
  begun = started.timestamp()
  write(0.0, summary=summary_v2.hparams_pb(settings, start_time_secs=begun))
  timing = records.read_table(run.path, records.TIMING)
  steps, seconds = [0, *timing['step']], [0.0, *timing['seconds']]
  rows = [
    (int(row['step']), _scalars(name, row))
    for name in _TABLES
    for row in records.read_rows(run.path, name)
  ]
  for step, scalars in sorted(rows, key=lambda row: row[0]):
    values = [
      summary_pb2.Summary.Value(tag=tag, simple_value=float(text))
      for tag, text in scalars.items()
      if text
    ]
    after = float(np.interp(step, steps, seconds))
    write(after, step=step, summary=summary_pb2.Summary(value=values))
  status, after = run.manifest['status'], run.manifest.get('seconds', 0.0)
  if status != 'running' and run.has_images:
    for name, step, images in _pictures(run.path):
      write_summary(after, step, tag=name, image=_encode(images))
  if status in _ENDS:
    ended = plugin_data_pb2.SessionEndInfo(
      status=_ENDS[status], end_time_secs=begun + after
    )
    write_summary(
      after,
      0,
      tag=metadata.SESSION_END_INFO_TAG,
      metadata=metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=ended)
      ),
      tensor=metadata.NULL_TENSOR,
    )
  return buffer.getvalue()


def _pictures(run: pathlib.Path) -> Iterator[tuple[str, int, np.ndarray]]:
  """Yields name, step and images [rows, columns, H, W, C] of what was kept."""
  for name in ('reconstructions', 'traversals'):
    if (run / records.ARRAYS / f'{name}.npz').exists():
      arrays = records.read_arrays(run, name, ['step', 'modes'])
      decoded = arrays.get('means', arrays['modes'])  # Older ones have one.
      grid = decoded[0]  # Around the first image: a row a latent.
      if name == 'reconstructions':
        grid = np.stack([arrays['images'][:_COLUMNS], decoded[:_COLUMNS]])
      yield name, int(arrays['step']), grid


def _encode(images: np.ndarray) -> summary_pb2.Summary.Image:
  """Returns images [rows, columns, H, W, C] in [0, 1] as one picture."""
  canvas = grids.canvas(images)
  buffer = io.BytesIO()
  PIL.Image.fromarray(canvas).save(buffer, 'png')
  height, width, channels = canvas.shape
  return summary_pb2.Summary.Image(
    height=height,
    width=width,
    colorspace=channels,
    encoded_image_string=buffer.getvalue(),
  )


def write(
  arguments: argparse.Namespace,
) -> Iterator[pathlib.Path | records.RecordError]:
  """Writes the event files of runs, and goes on as they do if asked to.

  Args:
    arguments: of the command.

  Yields:
    Each file as it is begun, and with --follow what is wrong meanwhile.

  Raises:
    RecordError: no such runs, or damaged ones.
    OSError: event files that cannot be written.
  """
  written: dict[pathlib.Path, tuple[pathlib.Path, bytes]] = {}
  said = ''
  while True:
    try:
      runs = command.find_runs(arguments).runs
      if not arguments.sweep_dir:  # What was the newest stays it.
        arguments.run_dir = arguments.run_dir or [str(runs[0].path)]
      for run in runs:
        content = _events(run)
        path, before = written.get(run.path, (None, b''))
        # Rows that were cut, as when a run resumes, need another file.
        is_new = not path or not content.startswith(before)
        if is_new:
          name, before = f'events.out.tfevents.{time.time_ns()}', b''
          path = run.path / records.TENSORBOARD / name
        records.append_events(path, content[len(before) :])
        written[run.path] = path, content
        if is_new:
          for other in path.parent.glob('events.out.tfevents.*'):
            if other != path:
              other.unlink()
          yield path
    except records.RecordError as error:
      if not arguments.follow:
        raise
      # Of a run that is about to start, or that was deleted.
      if str(error) != said:
        said = str(error)
        yield error
    if not arguments.follow:
      return
    try:
      time.sleep(_INTERVAL)
    except KeyboardInterrupt:
      return  # How one ends it.


def main() -> None:
  """Writes event files as the flags say."""
  parser = command.parser('tensorboard', __doc__, joint=True, output=None)
  parser.add_switch(
    '--follow', 'go on until Ctrl-C, as runs do and as others begin'
  )
  arguments = parser.parse_args()
  command.main('tensorboard', lambda: write(arguments))


if __name__ == '__main__':
  main()
