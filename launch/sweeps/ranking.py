"""Ranks the models of a sweep without factors: UDR, into its scores.csv."""

import collections
import importlib.metadata
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from launch import records
from launch.experiment import scores
from launch.settings import config as config_lib
from launch.settings import scores as settings
from vae.metrics import disentanglement


class Model(NamedTuple):
  """A model of a sweep.

  Attributes:
    path: its run directory.
    codes: of a split.
    rates: of its latents in nats, [L]; not numbers for an autoencoder.
  """

  path: pathlib.Path
  codes: scores.Codes
  rates: np.ndarray

  @classmethod
  def of(cls, path: pathlib.Path, codes: scores.Codes) -> 'Model':
    """Returns the model of a run, with the rates that it has recorded.

    Raises:
      RecordError: a damaged rate_per_latent.csv.
    """
    rates = np.full(codes.means.shape[1], np.nan)
    for row in records.read_rows(path, records.RATE_PER_LATENT):
      if (int(row['step']), row['split']) == (codes.step, codes.split):
        rates[int(row['latent'])] = float(row['rate_nats'] or 'nan')
    return cls(path, codes, rates)


def record(
  sweep_dir: pathlib.Path,
  models: Sequence[Model],
  report: Callable[[str], None] = print,
) -> None:
  """Ranks models beside those that differ in their seed alone.

  As Duan et al. 2020 do, on the rows of the first draw, which are the same
  images for all. Both ways to compare codes are rows of their own.

  Args:
    sweep_dir: whose scores.csv gets a row for each model and variant.
    models: of its finished runs.
    report: is told each group in words.
  """
  groups, varying = _groups(models)
  rows = []
  for recipe, group in groups.items():
    words = ' '.join(
      f'{name}={records.text(value)}'
      for name, value in recipe
      if name in varying
    )
    shown = words or 'all runs'
    if len(group) < 2:
      report(f'  udr of {shown}: needs models of at least two seeds')
      continue
    if any(np.isnan(model.rates).any() for model in group):
      report(f'  udr of {shown}: needs the rates of latents')
      continue
    drawn = [
      scores.draw(model.codes.means, model.codes.factors, 0).fitted[0]
      for model in group
    ]
    for variant in disentanglement.UDR_METHODS:
      values, _ = disentanglement.udr(
        drawn, [model.rates for model in group], variant
      )
      report(
        f'  udr {variant} of {shown}: {np.median(values):.4f} '
        f'({values.min():.4f} to {values.max():.4f}, {len(group)} models)'
      )
      rows += [
        {
          'run_dir': model.path.name,
          'step': model.codes.step,
          'split': model.codes.split,
          'n': len(drawn[0]),
          'score': 'udr',
          'variant': variant,
          'draw_seed': 0,
          'value': float(value),
          'group': words,
          'num_models': len(group),
          'settings': f'{settings.SCORES["udr"].settings}; scikit-learn '
          f'{importlib.metadata.version("scikit-learn")}',
        }
        for model, value in zip(group, values, strict=True)
      ]
  records.upsert(sweep_dir, records.SWEEP_SCORES, rows)


def _groups(
  models: Sequence[Model],
) -> tuple[dict[tuple, list[Model]], set[str]]:
  """Returns models by recipe, and the settings in which recipes differ."""
  groups = collections.defaultdict(list)
  for model in models:
    config = config_lib.load(model.path / records.CONFIG)
    recipe = tuple(
      (field.name, getattr(config, field.name))
      for field in config_lib.fields()
      if config_lib.makes_results(field.name) and field.name != 'seed'
    )
    groups[recipe].append(model)
  values = collections.defaultdict(set)
  for recipe in groups:
    for name, value in recipe:
      values[name].add(value)
  return dict(groups), {name for name, seen in values.items() if len(seen) > 1}
