"""Event files for TensorBoard, from the files of runs.

Scalars are the rows of train.csv and eval.csv at the time of training at which
they were written, pictures are reconstructions and traversals, hyperparameters
the settings. `tensorboard --logdir=runs` shows all runs that have them.
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

from analysis import command, frames
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

_ENDS = {'finished': api_pb2.STATUS_SUCCESS, 'failed': api_pb2.STATUS_FAILURE}


class _Events:
  """The event file of a run, written anew from its start.

  Attributes:
    path: of the file.
  """

  def __init__(self, run: frames.RunFiles):
    folder = run.path / records.TENSORBOARD
    if folder.is_symlink():
      raise records.RecordError(f'{folder} is a link, and is not followed')
    folder.mkdir(exist_ok=True)
    for path in folder.glob('events.out.tfevents.*'):
      path.unlink()
    started = run.manifest['started']
    try:
      self._started = datetime.datetime.fromisoformat(started).timestamp()
    except ValueError as error:
      raise records.RecordError(
        f'{run.path / records.MANIFEST} is damaged: {error}'
      ) from error
    self._identity = (started, run.config)
    self._written = {records.TRAIN: [], records.EVAL: []}
    self._has_ended = False
    self.path = folder / f'events.out.tfevents.{time.time_ns()}'
    self._buffer = io.BytesIO()
    self._writer = record_writer.RecordWriter(self._buffer)
    self._write(0.0, file_version='brain.Event:2')
    settings = {
      name: value
      if isinstance(value, bool | int | float | str)
      else records.text(value).lower()
      for name, value in run.config.items()
    }
    self._add(
      summary_v2.hparams_pb(settings, start_time_secs=self._started), 0, 0.0
    )

  def update(self, run: frames.RunFiles) -> bool:
    """Adds what a run has got since the last time.

    Returns:
      Whether the file is that of the run; False where rows that it holds were
      cut, as when a run resumes, so that it must be written anew.
    """
    tables = {name: records.read_rows(run.path, name) for name in self._written}
    has_ended = run.manifest['status'] != 'running'
    same = self._identity == (run.manifest['started'], run.config) and all(
      tables[name][: len(rows)] == rows for name, rows in self._written.items()
    )
    if not same or (self._has_ended and not has_ended):
      return False
    timing = records.read_rows(run.path, records.TIMING)
    steps = [0, *(int(row['step']) for row in timing)]
    seconds = [0.0, *(float(row['seconds']) for row in timing)]
    for name, rows in tables.items():
      for row in rows[len(self._written[name]) :]:
        values = [
          summary_pb2.Summary.Value(tag=tag, simple_value=float(text))
          for tag, text in _cells(name, row).items()
          if text
        ]
        step = int(row['step'])
        after = float(np.interp(step, steps, seconds))
        self._add(summary_pb2.Summary(value=values), step, after)
      self._written[name] = rows
    if has_ended and not self._has_ended:
      self._add_end(run)
    self._has_ended = has_ended
    with self.path.open('ab') as file:
      file.write(self._buffer.getvalue())
    self._buffer.truncate(self._buffer.seek(0))
    return True

  def _add_end(self, run: frames.RunFiles) -> None:
    """Adds the pictures of a run that has them, and how it ended."""
    after = float(run.manifest.get('seconds', 0.0))
    for name, keys, arrange in (
      ('reconstructions', ['step', 'images', 'modes'], _reconstructions),
      # Around the first image: a row for each latent.
      ('traversals', ['step', 'modes'], lambda arrays: arrays['modes'][0]),
    ):
      exists = (run.path / records.ARRAYS / f'{name}.npz').exists()
      if exists and run.has_images:
        arrays = records.read_arrays(run.path, name, keys)
        value = summary_pb2.Summary.Value(
          tag=name, image=_encode(arrange(arrays))
        )
        self._add(
          summary_pb2.Summary(value=[value]), int(arrays['step']), after
        )
    status = run.manifest['status']
    if status in _ENDS:
      ended = plugin_data_pb2.SessionEndInfo(
        status=_ENDS[status], end_time_secs=self._started + after
      )
      value = summary_pb2.Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(
          plugin_data_pb2.HParamsPluginData(session_end_info=ended)
        ),
        tensor=metadata.NULL_TENSOR,
      )
      self._add(summary_pb2.Summary(value=[value]), 0, after)

  def _add(
    self, content: summary_pb2.Summary, step: int, seconds: float
  ) -> None:
    self._write(seconds, step=step, summary=content)

  def _write(self, seconds: float, **content: Any) -> None:
    """Writes an event, as of so many seconds of training."""
    event = event_pb2.Event(wall_time=self._started + seconds, **content)
    self._writer.write(event.SerializeToString())


def _cells(name: str, row: Mapping[str, str]) -> dict[str, str]:
  """The numbers of a row, by their names in TensorBoard."""
  if name == records.TRAIN:
    return {f'train/{key}': row[key] for key in row if key != 'step'}
  samples = int(row['num_samples'])
  metric = f'{row["split"]}/{row["metric"]}'
  return {metric if samples == 1 else f'{metric}/{samples}': row['value']}


def _reconstructions(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
  rows = [arrays[key] for key in ('images', 'modes', 'means') if key in arrays]
  return np.stack(rows)[:, :_COLUMNS]


def _encode(images: np.ndarray) -> summary_pb2.Summary.Image:
  """Images [rows, columns, H, W, C] in [0, 1] as one picture, with gaps."""
  levels = np.rint(np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)
  gaps = [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)]
  padded = np.pad(levels, gaps, constant_values=255)
  rows, columns, height, width, channels = padded.shape
  canvas = padded.transpose(0, 2, 1, 3, 4).reshape(
    rows * height, columns * width, channels
  )
  buffer = io.BytesIO()
  PIL.Image.fromarray(canvas.squeeze(-1) if channels == 1 else canvas).save(
    buffer, 'png'
  )
  return summary_pb2.Summary.Image(
    height=rows * height,
    width=columns * width,
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
  events: dict[pathlib.Path, _Events] = {}
  said = ''
  while True:
    try:
      runs = command.find_runs(arguments).runs
      if not arguments.sweep_dir:  # What was the newest stays it.
        arguments.run_dir = arguments.run_dir or [str(runs[0].path)]
      for run in runs:
        while run.path not in events or not events[run.path].update(run):
          events[run.path] = _Events(run)
          yield events[run.path].path
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
