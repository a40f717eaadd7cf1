"""Examples as people have them, and as the model of a run takes them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from launch.settings.config import Config
from vae import randomness
from vae.data import arrays, batches, images, sources


class InputError(ValueError):
  """Examples or codes that the model of a run does not take; one line."""


def floats(
  examples: Any, config: Config, data: Mapping[str, Any]
) -> Iterator[np.ndarray]:
  """Yields examples as a run's training prepares them, some at a time.

  Images become bytes and these floats, resized where the run resizes its own.
  For a run on binary images, grey pixels are cut at one half where it was so
  in training, and else drawn, by the same draws for every image, so that
  an image is the same wherever it stands; black and white stay as they are.
  Rows of a table are standardised by the run's training rows.

  Args:
    examples: uint8, bool, or floats in [0, 1], [N, H, W] or [N, H, W, C]; or
      rows, [N, F].
    config: of the run.
    data: as its manifest describes them.

  Yields:
    float32 [n, H, W, C], or [n, F].

  Raises:
    InputError: examples of another shape or kind.
  """
  shape, array = tuple(data['shape']), np.asarray(examples)
  if len(shape) == 3 and array.ndim == 3:
    array = array[..., None]
  resizes = config.image_size and len(shape) == 3 and array.ndim == 4
  fits = array.shape[1:] == shape or (resizes and array.shape[-1] == shape[-1])
  if not (array.ndim and fits):
    any_size = 'of any height and width, ' if config.image_size else ''
    raise InputError(
      f'got an array of the shape {np.shape(examples)}; the run takes '
      f'{any_size}[N, {", ".join(map(str, shape))}]'
    )
  if not len(array):
    return
  try:
    if len(shape) == 1:
      yield _standardised(arrays.rows('the array', array), data)
    else:
      yield from _images(array, config, data)
  except sources.SourceError as error:
    raise InputError(str(error)) from error


def _images(
  array: np.ndarray, config: Config, data: Mapping[str, Any]
) -> Iterator[np.ndarray]:
  shape = tuple(data['shape'])
  is_binary = data.get('pixels') == 'binary'
  if array.dtype == np.uint8:
    if is_binary and {*np.unique(array)} <= {0, 1, 255}:
      array = array > 0  # As in training, also before it is resized.
    elif array.max() == 1:
      raise InputError(
        'the array holds bytes of 0 and 1 alone, and the run takes 255 for '
        'white; give bool, floats, or bytes up to 255'
      )
  split = arrays.images('the array', array)
  if array.shape[1:] != shape:
    source = sources.SourceData('', '', {'train': split})
    split = images.resized(source, shape[0]).splits['train']
  draw = is_binary or config.binarize in ('static', 'dynamic')
  key = randomness.key(0, randomness.Purpose.INPUT_BINARISATION, 0)
  levels = randomness.uniform(key, [1, *shape]).numpy() if draw else 0.5
  for batch in split.batches():
    held = batch * np.uint8(255) if batch.dtype == np.bool_ else batch
    values = batches.to_float(tf.constant(held), 'none', key).numpy()
    if draw or config.binarize == 'threshold':
      values = (values > levels).astype(np.float32)
    yield values


def _columns(data: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
  """The mean and deviation of each column of the training rows."""
  if 'columns' not in data:
    raise InputError(
      'an older version prepared the rows of this run, which did not record '
      'how it standardised them; call run.model with standardised rows'
    )
  columns = data['columns']
  return np.array(columns['mean']), np.array(columns['deviation'])


def _standardised(rows: np.ndarray, data: Mapping[str, Any]) -> np.ndarray:
  mean, deviation = _columns(data)
  return ((rows - mean) / deviation).astype(np.float32)


def in_units(examples: np.ndarray, data: Mapping[str, Any]) -> np.ndarray:
  """Returns what a model decodes in the units of the run's data.

  Args:
    examples: images, which stay as they are, or standardised rows [N, F].
    data: as the manifest of the run describes them.
  """
  if len(data['shape']) == 3:
    return examples
  mean, deviation = _columns(data)
  return (examples * deviation + mean).astype(np.float32)
