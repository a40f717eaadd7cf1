"""Collects what the page of a run holds: codes, images, numbers, settings."""

import base64
import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from launch import process, records, runs
from launch.experiment import messages, metrics, pictures
from launch.settings import config as config_lib
from vae import distributions, randomness
from vae import metrics as vae_metrics
from vae.metrics import evaluation

# Points of the map, at most, and bytes of their codes.
_POINTS = 2000
_CODE_BYTES = 2**18

# Of the picture that holds the images of the first points; larger ones are
# shown smaller beside the decoded one.
_SHEET_BYTES = 600_000
_SHEET_COLUMNS = 40
_LARGEST_SIDE = 64

_PRIOR_SAMPLES = 128


class ContentError(ValueError):
  """A run has nothing that a page could show; one line."""


def read(run: runs.Run) -> dict[str, Any]:
  """Returns all that the page shows, but for the decoder.

  Args:
    run: with the weights that were evaluated.

  Raises:
    ContentError: a run without images.
    RecordError: files that are missing, damaged, or of other weights.
    DatasetError: data that cannot be had.
  """
  shape = run.manifest['dataset']['shape']
  if len(shape) != 3 or shape[-1] not in (1, 3):
    raise ContentError(
      f'{run.path} was trained on {messages.counted(shape)} of shape '
      f'{tuple(shape)} ({run.config.dataset}); a page shows images, grey or '
      'in colour'
    )
  latents = _of_step(run, 'latents', ['means', 'stddevs'])
  means, stddevs = latents['means'], latents['stddevs']
  if not (np.isfinite(means).all() and np.isfinite(stddevs).all()):
    raise records.RecordError(f'{run.path}: latents that are not finite')
  size = run.config.latent_size
  if means.shape[1] != size:
    raise records.RecordError(
      f'{run.path / records.ARRAYS / "latents"}.npz is damaged: it has '
      f'{means.shape[1]} latents, not {size}'
    )
  name, split = run.split()
  count = min(len(means), _POINTS, max(64, _CODE_BYTES // (4 * size)))
  if len(split.examples) != len(means):  # As training has left them.
    split = metrics.some(split, run.config.eval_images)
  if len(split.examples) != len(means):
    raise records.RecordError(
      f'{run.path / records.ARRAYS / "latents"}.npz is damaged: it has '
      f'{len(means)} codes of {len(split.examples)} images'
    )
  config = run.config
  images = np.concatenate(
    [
      batch[:number].numpy()
      for number, _, batch, _ in evaluation.fixed_batches(
        split.examples[:count], config.binarize, config.seed
      )
    ]
  )
  content = {
    'name': process.printable(run.path.resolve().name),
    'step': run.step,
    'split': name,
    'shape': shape,
    'latents': _latents(run, means, stddevs),
    'codes': _encoded(means[:count]),
    'images': _sheet(images),
    'fields': _fields(run, latents, count),
    'numbers': _numbers(run, name),
    'facts': messages.facts(config, run.manifest),
    'settings': _settings(config),
  }
  if run.manifest['has_elbo']:
    key = randomness.key(config.seed, randomness.Purpose.PRIOR, 0)
    drawn = distributions.sample(run.model.prior, _PRIOR_SAMPLES, key)
    content['prior'] = _encoded(drawn.numpy())
  if (run.path / records.ARRAYS / 'embedding.npz').exists():
    places = records.read_arrays(run.path, 'embedding', ['latents', 'step'])
    if int(places['step']) == run.step and len(places['latents']) >= count:
      content['tsne'] = _encoded(places['latents'][:count])
  if (run.path / records.ARRAYS / 'by_factor.npz').exists():
    content['walks'] = _walks(run)
  return content


def _of_step(
  run: runs.Run, name: str, needed: list[str]
) -> dict[str, np.ndarray]:
  """Reads arrays, which must be of the weights that decode."""
  arrays = records.read_arrays(run.path, name, [*needed, 'step'])
  if int(arrays['step']) != run.step:
    raise records.RecordError(
      f'{run.path / records.ARRAYS / name}.npz is of step '
      f'{int(arrays["step"]):,}, the weights are of step {run.step:,}; '
      f'python -m launch.evaluate --run_dir={run.path} writes it anew'
    )
  return arrays


def _latents(
  run: runs.Run, means: np.ndarray, stddevs: np.ndarray
) -> list[dict[str, Any]]:
  """The latents, the highest rate first, and where their codes lie.

  `low` and `high` are the outer quantiles of traversals.
  """
  rates = {}
  if run.manifest['has_elbo']:
    split = records.result_split(run.manifest)
    rates = {
      int(row['latent']): float(row['rate_nats'])
      for row in records.read_rows(run.path, records.RATE_PER_LATENT)
      if int(row['step']) == run.step
      and row['split'] == split
      and row['rate_nats']
    }
    if len(rates) != means.shape[1]:
      raise records.RecordError(
        f'{run.path / records.RATE_PER_LATENT} has no rows of step '
        f'{run.step:,} yet; python -m launch.evaluate --run_dir={run.path} '
        'writes them'
      )
  quantiles = pictures.aggregate_quantiles(means[:_POINTS], stddevs[:_POINTS])
  order = sorted(range(means.shape[1]), key=lambda k: -rates.get(k, 0.0))
  active = means.astype('f8').var(axis=0) > vae_metrics.ACTIVE_VARIANCE
  return [
    {
      'latent': k,
      'rate': rates.get(k),
      'low': float(quantiles[k, 0]),
      'high': float(quantiles[k, -1]),
      'active': bool(active[k]) or not rates,
    }
    for k in order
  ]


def _encoded(array: np.ndarray) -> dict[str, Any]:
  """An array of float32, as the page reads it."""
  content = np.ascontiguousarray(array, '<f4').tobytes()
  return {
    'shape': list(array.shape),
    'data': base64.b64encode(content).decode(),
  }


def _sheet(images: np.ndarray) -> dict[str, Any]:
  """The first of some images [N, H, W, C] in [0, 1], as one PNG."""
  step = -(-max(images.shape[1:3]) // _LARGEST_SIDE)
  levels = np.rint(images[:, ::step, ::step].clip(0, 1) * 255).astype(np.uint8)
  count, height, width, channels = levels.shape
  while True:
    columns = min(count, _SHEET_COLUMNS)
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = levels[:count]
    tiles = tiles.reshape(rows, columns, height, width, channels)
    picture = tiles.transpose(0, 2, 1, 3, 4).reshape(
      rows * height, columns * width, channels
    )
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture.squeeze(-1) if channels == 1 else picture).save(
      buffer, 'PNG', optimize=True
    )
    if len(buffer.getvalue()) <= _SHEET_BYTES or count <= 32:
      break
    count //= 2
  return {
    'count': count,
    'columns': columns,
    'width': width,
    'height': height,
    'png': base64.b64encode(buffer.getvalue()).decode(),
  }


def _fields(
  run: runs.Run, latents: Mapping[str, np.ndarray], count: int
) -> list[dict[str, Any]]:
  """Returns label and factors of each point, as places in their `values`."""
  data = run.manifest['dataset']
  columns = {}
  if 'labels' in latents:
    columns['label'] = latents['labels'][:count]
  if 'factors' in latents:
    names = [process.printable(str(item[0])) for item in data['factors']]
    columns |= dict(zip(names, latents['factors'][:count].T, strict=True))
  fields = []
  for name, column in columns.items():
    values, places = np.unique(column, return_inverse=True)
    factor = None if name == 'label' else name
    values = records.named(run.manifest, values, factor)
    texts = [records.text(value) for value in values.tolist()]
    fields.append({'name': name, 'values': texts, 'places': places.tolist()})
  return fields


def _walks(run: runs.Run) -> dict[str, Any]:
  """Images in which one factor varies, and where their codes lie."""
  keys = ['images', 'labels', 'values', 'num_values']
  arrays = _of_step(run, 'by_factor', keys)
  codes = run.model.encode(tf.constant(arrays['images'])).mean().numpy()
  return {
    'codes': _encoded(codes),
    'images': _sheet(arrays['images']),
    'factors': [process.printable(str(name)) for name in arrays['labels']],
    'values': [
      records.text(records.named(run.manifest, value, str(factor)).item())
      for factor, value in zip(
        arrays['labels'], arrays['values'][:, None], strict=True
      )
    ],
    'numbers': arrays['num_values'].tolist(),
  }


def _numbers(run: runs.Run, split: str) -> list[str]:
  """The results in words, each with its standard error over images."""
  found = records.read_results(run.path, run.manifest)
  errors = records.read_results(run.path, run.manifest, 'se')
  lines = [
    f'{name} {found[f"{name}_nats"]:.2f} ± {errors[f"{name}_nats"]:.2f}'
    for name in ('elbo', 'distortion', 'rate')
    if math.isfinite(found.get(f'{name}_nats', math.nan))
  ]
  unit = 'nats per image'
  if not lines and math.isfinite(found.get('squared_error', math.nan)):
    value, error = found['squared_error'], errors['squared_error']
    lines, unit = [f'squared error {value:.5f} ± {error:.5f}'], 'per pixel'
  if lines:
    lines.append(f'{unit}, ± one standard error over the {split} images')
  return lines


def _settings(config: config_lib.Config) -> list[dict[str, Any]]:
  """Every setting as text, those that differ from the defaults first."""
  settings = dataclasses.asdict(config)
  changed = config_lib.changed(settings)
  rows = [
    {'name': name, 'value': records.text(value), 'differs': name in changed}
    for name, value in settings.items()
  ]
  return sorted(rows, key=lambda row: (not row['differs'], row['name']))
