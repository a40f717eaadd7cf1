"""Event files for TensorBoard, written from a run's records.

The only module that imports TensorBoard; nothing imports this one unless
`--tensorboard` is given.
"""

import contextlib
import datetime
import io
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import PIL.Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, summary, summary_v2
from tensorboard.summary.writer import event_file_writer

from launch import records

# Seconds between looks at the tables, as TensorBoard itself looks; where they
# are so long that a look takes its time, so many times that.
_INTERVAL = 5.0
_SPARING = 20

# Reconstructions side by side.
_COLUMNS = 16

_ENDS = {'finished': api_pb2.STATUS_SUCCESS, 'failed': api_pb2.STATUS_FAILURE}


@contextlib.contextmanager
def watching(run_dir: pathlib.Path) -> Iterator[Callable[[], None]]:
  """Writes event files from a run's tables and arrays, anew from the start.

  So that a run which resumes has no step twice.

  Args:
    run_dir: the run, whose files exist.

  Yields:
    What is called now and then, and writes what the tables have got since.

  Raises:
    RecordError: damaged files.
    OSError: event files that cannot be written.
  """
  shutil.rmtree(run_dir / records.TENSORBOARD, ignore_errors=True)
  events = _Events(run_dir)
  try:
    events.add_settings()
    events.add_rows()
    due = time.monotonic() + _INTERVAL

    def look() -> None:
      nonlocal due
      started = time.monotonic()
      if started > due:
        events.add_rows()
        ended = time.monotonic()
        due = ended + max(_INTERVAL, _SPARING * (ended - started))

    yield look
    events.add_rows()
    events.add_images()
    events.add_end()
  finally:
    events.close()


class _Events:
  """The event file of a run."""

  def __init__(self, run_dir: pathlib.Path):
    self._run_dir = run_dir
    started = records.read_manifest(run_dir)['started']
    try:
      self._started = datetime.datetime.fromisoformat(started).timestamp()
    except ValueError as error:
      raise records.RecordError(
        f'{run_dir / records.MANIFEST} is damaged: {error}'
      ) from error
    self._written = {records.TRAIN: 0, records.EVAL: 0}
    self._writer = event_file_writer.EventFileWriter(
      str(run_dir / records.TENSORBOARD)
    )

  def add_settings(self) -> None:
    """Every setting of the run, as a hyperparameter."""
    settings = {
      name: _text(value) if value is None or isinstance(value, list) else value
      for name, value in records.read_config(self._run_dir).items()
    }
    self._add(
      summary_v2.hparams_pb(settings, start_time_secs=self._started), 0, 0.0
    )

  def add_rows(self) -> None:
    """The rows that the tables have got since the last time, as scalars."""
    timing = records.read_rows(self._run_dir, records.TIMING)
    steps = [0, *(int(row['step']) for row in timing)]
    seconds = [0.0, *(float(row['seconds']) for row in timing)]
    for name, written in self._written.items():
      rows = records.read_rows(self._run_dir, name)
      for row in rows[written:]:
        step = int(row['step'])
        values = [
          summary_pb2.Summary.Value(tag=tag, simple_value=float(text))
          for tag, text in _cells(name, row).items()
          if text
        ]
        after = float(np.interp(step, steps, seconds))
        self._add(summary_pb2.Summary(value=values), step, after)
      self._written[name] = len(rows)
    self._writer.flush()

  def add_images(self) -> None:
    """Reconstructions and traversals, of a run that has them."""
    manifest = records.read_manifest(self._run_dir)
    for name, keys, arrange in (
      ('reconstructions', ['step', 'images', 'modes'], _reconstructions),
      # Around the first image: a row for each latent.
      ('traversals', ['step', 'modes'], lambda arrays: arrays['modes'][0]),
    ):
      exists = (self._run_dir / records.ARRAYS / f'{name}.npz').exists()
      if exists and len(manifest['dataset']['shape']) == 3:
        arrays = records.read_arrays(self._run_dir, name, keys)
        value = summary_pb2.Summary.Value(
          tag=name, image=_encode(arrange(arrays))
        )
        after = float(manifest.get('seconds', 0.0))
        self._add(
          summary_pb2.Summary(value=[value]), int(arrays['step']), after
        )

  def add_end(self) -> None:
    """How the run ended, if it has."""
    manifest = records.read_manifest(self._run_dir)
    if manifest['status'] in _ENDS:
      after = float(manifest.get('seconds', 0.0))
      ended = summary.session_end_pb(
        _ENDS[manifest['status']], self._started + after
      )
      content = ended.SerializeToString()  # It has the type of TensorFlow's.
      self._add(summary_pb2.Summary.FromString(content), 0, after)

  def close(self) -> None:
    self._writer.close()

  def _add(self, content: Any, step: int, seconds: float) -> None:
    """Adds a summary, as of so many seconds of training."""
    self._writer.add_event(
      event_pb2.Event(
        wall_time=self._started + seconds, step=step, summary=content
      )
    )


def _text(value: Any) -> str:
  """A setting that is a list, or is left out."""
  return 'none' if value is None else ','.join(map(str, value))


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


def _encode(images: np.ndarray) -> Any:
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
