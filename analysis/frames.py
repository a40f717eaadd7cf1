"""From run directories and sweeps to data frames, a row for each run."""

import dataclasses
import glob
import itertools
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import figures, wording
from launch import process, records
from launch.settings import config as config_lib

_NUMBER = re.compile(r'(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?')

# Above it a latent's mean varies over images, so that the latent is active
# (Burda et al. 2015): that of `vae.metrics`, which would import TensorFlow.
ACTIVE_VARIANCE = 0.01


@dataclasses.dataclass(frozen=True)
class RunFiles:
  """A run directory, with the two files that every figure needs.

  Attributes:
    name: tells it from the runs that are drawn with it.
    path: the run directory.
    config: its settings, completed where its version had fewer.
    manifest: where its numbers come from.
  """

  name: str
  path: pathlib.Path
  config: Mapping[str, Any]
  manifest: Mapping[str, Any]

  @property
  def has_rates(self) -> bool:
    """Returns whether its latents are random: whether there is a rate."""
    return self.manifest['has_elbo']

  @property
  def has_images(self) -> bool:
    return len(self.manifest['dataset']['shape']) == 3

  @property
  def example(self) -> str:
    """Returns what one of its examples is called."""
    return 'image' if self.has_images else 'row'

  @property
  def has_factors(self) -> bool:
    """Returns whether it is known what its images were made from."""
    return bool(self.manifest['dataset'].get('factors'))

  @property
  def split(self) -> str:
    """Returns the split that it is evaluated on."""
    return records.result_split(self.manifest)

  def describe(self) -> str:
    """Returns one line that says what it is."""
    start = f'{wording.value("dataset", self.manifest["dataset"]["name"])}, '
    if self.split == 'train':
      start += 'measured on its training images, '
    latents = self.config['latent_size']
    start += f'{latents} {"latent" if latents == 1 else "latents"}'
    name = self.config['objective']
    objective = wording.value('objective', name)
    weights = self.manifest.get('weights', {})
    if weights.keys() - {'beta'}:
      shown = [f'{name} {value:g}' for name, value in weights.items()]
      return f'{start}, {objective} with {", ".join(shown)}'
    if not self.has_rates:
      return f'{start}, {self.config["posterior"]}: no beta'
    beta, effective = self.config['beta'], self.manifest['effective_beta']
    takes_beta = self.manifest['takes_beta']
    if effective is None:
      weight = f' with beta {beta:g}' if takes_beta else ': no beta'
      return f'{start}, {objective}{weight}'
    if name != 'elbo':
      start += f', {objective}'
    if takes_beta and beta == effective:
      return f'{start}, beta {beta:g}'
    return f'{start}, effective beta {effective:.4g}'


@dataclasses.dataclass(frozen=True)
class Runs:
  """Runs that are drawn together.

  Attributes:
    runs: those that have started.
    table: a row for each run, also for those that failed to start: `run`,
      `status`, `error`, every setting, `effective_beta`, and the last result of
      each metric on the test split in a column of the metric's name; NaN is
      what a run lacks, or one of several that has not finished.
    settings: which of the columns are settings.
    folder: where a figure of all of them goes.
  """

  runs: tuple[RunFiles, ...]
  table: pd.DataFrame
  settings: tuple[str, ...]
  folder: pathlib.Path

  @property
  def counted(self) -> tuple[RunFiles, ...]:
    """Returns the runs whose results count: of several, the finished ones."""
    names = set(self.table.loc[_are_counted(self.table), 'run'])
    return tuple(run for run in self.runs if run.name in names)

  @property
  def left_out(self) -> str:
    """Counts the runs whose results do not count, by status, in words."""
    return count_by_status(self.table[~_are_counted(self.table)])

  def check_counted(self) -> None:
    """Checks that there is a run whose results count.

    Raises:
      FigureError: several runs, none of which has finished.
    """
    if not self.counted:
      raise figures.FigureError(
        f'no run of {self.folder} has finished ({self.left_out}); each can be '
        'drawn alone'
      )

  @property
  def example(self) -> str:
    """Returns what an example of all of them is called."""
    names = {run.example for run in self.runs}
    return names.pop() if len(names) == 1 else 'example'

  @property
  def metrics(self) -> list[str]:
    """The columns that are results."""
    others = {'run', 'status', 'error', 'effective_beta', *self.settings}
    return [name for name in self.table.columns if name not in others]

  @property
  def varying(self) -> list[str]:
    """The settings in which runs differ, but for seed and execution.

    The one of most values comes first.
    """
    counts = {
      name: self.table[name].map(records.text).nunique()
      for name in self.settings
      if config_lib.makes_results(name) and name != 'seed'
    }
    names = [name for name in counts if counts[name] > 1]
    return sorted(names, key=lambda name: (-counts[name], name))

  def varying_within(self, *names: str) -> list[str]:
    """Returns the settings in which runs differ that agree in some.

    Of a union of grids, what those determine is none of them.
    """
    others = [name for name in self.varying if name not in names]
    groups = self.table.map(records.text).groupby([*dict.fromkeys(names)])
    return [name for name in others if groups[name].nunique().max() > 1]

  def describe(self) -> str:
    """Returns one line that says what they are."""
    if len(self.runs) == len(self.table) == 1:
      return self.runs[0].describe()
    names = sorted({run.manifest['dataset']['name'] for run in self.runs})
    names = [wording.value('dataset', name) for name in names]
    line = f'{", ".join(names)}, {len(self.table)} runs'
    if not self.varying:
      return line
    *others, last = map(wording.name, self.varying)
    over = f'{", ".join(others)} and {last}' if others else last
    return f'{line} over {over}'

  def check_settings(self, *names: str | None) -> None:
    """Checks that names that were given are settings.

    Raises:
      FigureError: one is not.
    """
    for name in names:
      if name and name not in self.settings:
        raise figures.FigureError(
          f'{name} is no setting; those that vary: '
          f'{", ".join(self.varying) or "none"}'
        )

  def check_metrics(self, *names: str) -> None:
    """Checks that names are metrics of a run.

    Raises:
      FigureError: one is not.
    """
    for name in names:
      if name not in self.metrics:
        raise figures.FigureError(
          f'no run has the metric {name}; there are: '
          f'{", ".join(self.metrics) or "none yet"}'
        )

  def rows(self, name: str) -> pd.DataFrame:
    """Reads a table of every run.

    Args:
      name: of the table, such as `records.TRAIN`.

    Returns:
      Its columns, after `measured_` where a setting has the name, and `run`,
      `configuration` and every setting as text.

    Raises:
      RecordError: a table that is missing or damaged.
    """
    rows = self.table.set_index('run')
    configurations = configuration(rows, self.varying)
    names = [field.name for field in config_lib.fields()]
    measured = {name: f'measured_{name}' for name in names}
    frames = []
    for run in self.runs:
      settings = {
        setting: records.text(value) for setting, value in run.config.items()
      }
      if records.STRENGTH in rows:
        strength = rows[records.STRENGTH][run.name]
        settings[records.STRENGTH] = records.text(strength)
      frames.append(
        records.read_table(run.path, name)
        .rename(columns=measured)
        .assign(
          run=run.name, configuration=configurations[run.name], **settings
        )
      )
    return pd.concat(frames, ignore_index=True)


def _are_counted(table: pd.DataFrame) -> pd.Series:
  # What is measured of a run that goes on, or broke off, is of fewer steps.
  return (table['status'] == 'finished') | (len(table) == 1)


def count_by_status(frame: pd.DataFrame) -> str:
  """Returns how many rows have which `status`, in words; empty for none."""
  counts = frame['status'].value_counts()
  return ', '.join(f'{count} {status}' for status, count in counts.items())


def over_repeats(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
  """Returns means over runs of one seed, which are no seeds of their own.

  They differ in nothing but in how they were carried out, or not at all.

  Args:
    frame: a row for each run, or more, with the column seed.
    keys: the columns that tell rows of one seed apart.

  Returns:
    The columns of the frame; of words the first are kept.
  """
  keys = list(dict.fromkeys([*keys, 'seed']))
  measured = {
    name: 'mean' if pd.api.types.is_numeric_dtype(frame[name]) else 'first'
    for name in frame.columns.difference(keys)
  }
  rows = frame.groupby(keys, sort=False, observed=True, dropna=False)
  return rows.agg(measured).reset_index()[frame.columns]


def over_seeds(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
  """Returns what the rows of each key have as `value`, over seeds.

  Returns:
    The keys; mean, sem (its standard error, 0 for one seed), low and high (one
    error below and above it).
  """
  seeds = frame.groupby([*keys], sort=False, observed=True)['value']
  result = seeds.agg(['mean', 'sem']).reset_index().fillna({'sem': 0.0})
  low, high = result['mean'] - result['sem'], result['mean'] + result['sem']
  return result.assign(low=low, high=high)


def seeds_in_words(frame: pd.DataFrame, keys: Sequence[str]) -> str:
  """Returns how many seeds the rows of a key are, such as '2 to 5 seeds'."""
  counts = frame.groupby([*keys], observed=True).size()
  low, high = counts.min(), counts.max()
  return f'{high} seeds' if low == high else f'{low} to {high} seeds'


def levels(values: pd.Series) -> list[str]:
  """Returns a column's distinct settings as text, in their order.

  Categories have their own, and numbers among words theirs.
  """
  if isinstance(values.dtype, pd.CategoricalDtype):
    values = values.cat.remove_unused_categories()
    return [*map(records.text, values.cat.categories)]

  def key(text: str) -> list[Any]:
    words, numbers = _NUMBER.split(text), _NUMBER.findall(text)
    # The words are one more; no number comes before all.
    pairs = itertools.zip_longest(
      words, map(float, numbers), fillvalue=-math.inf
    )
    return [*pairs]

  return sorted({records.text(value) for value in values}, key=key)


def configuration(table: pd.DataFrame, settings: Sequence[str]) -> pd.Series:
  """Says what each row is among rows that differ in some settings."""
  texts = table[[*settings]].map(records.text)
  return texts.apply(
    lambda row: ', '.join(itertools.starmap(wording.assigned, row.items())),
    axis='columns',
    result_type='reduce',
  ).astype(object)


def _read_run(path: pathlib.Path, name: str) -> RunFiles:
  manifest = records.read_manifest(path)
  config = config_lib.complete(records.read_config(path))
  return RunFiles(name, path, config, manifest)


def read_runs(patterns: Sequence[str]) -> Runs:
  """Reads run directories.

  Args:
    patterns: folders, or globs of them.

  Raises:
    RecordError: a pattern that matches no run, or a damaged run.
  """
  paths: dict[pathlib.Path, None] = {}
  for pattern in patterns:
    expanded = os.path.expanduser(pattern)
    if os.path.isdir(expanded):
      paths[pathlib.Path(expanded)] = None
      continue
    found = [
      pathlib.Path(path)
      for path in sorted(glob.glob(expanded))
      if os.path.exists(os.path.join(path, records.MANIFEST))
    ]
    if not found:
      raise records.RecordError(f'--run_dir={pattern} is no run directory')
    paths.update(dict.fromkeys(found))
  folder, names = next(iter(paths)), [path.resolve().name for path in paths]
  if len(paths) > 1:
    resolved = [path.resolve() for path in paths]
    folder = pathlib.Path(os.path.commonpath([p.parent for p in resolved]))
    names = [str(path.relative_to(folder)) for path in resolved]
  runs = tuple(map(_read_run, paths, map(process.printable, names)))
  rows = [
    {
      'run': run.name,
      'status': run.manifest['status'],
      'error': run.manifest.get('error', ''),
      **run.config,
      'effective_beta': run.manifest['effective_beta'],
      **records.read_results(run.path, run.manifest),
    }
    for run in runs
  ]
  settings = dict.fromkeys(name for run in runs for name in run.config)
  table = pd.DataFrame([_printable(row) for row in rows])
  table = table.assign(**{name: _set(table[name]) for name in settings})
  table['effective_beta'] = table['effective_beta'].astype(float)
  return _runs(runs, table, settings, folder)


def _runs(
  runs: tuple[RunFiles, ...],
  table: pd.DataFrame,
  settings: Iterable[str],
  folder: pathlib.Path,
) -> Runs:
  """Runs whose table has the results of those alone that count."""
  read = Runs(runs, table, tuple(settings), folder)
  results = table[read.metrics].where(_are_counted(table))
  others = table.drop(columns=read.metrics)
  return dataclasses.replace(read, table=others.join(results))


def _set(values: pd.Series) -> pd.Series:
  """A setting whose value is None, no missing number, where it is not set."""
  if values.notna().all():
    return values
  pairs = zip(values, values.isna(), strict=True)
  kept = [None if is_missing else value for value, is_missing in pairs]
  return pd.Series(kept, values.index, dtype=object)


def _printable(row: Mapping[str, Any]) -> dict[str, Any]:
  """A row each of whose texts is one line of a table, whatever it was."""
  return {
    name: process.printable(value) if isinstance(value, str) else value
    for name, value in row.items()
  }


def read_sweep(sweep_dir: str | os.PathLike) -> Runs:
  """Reads a sweep directory: its sweep.csv, and the runs that it names.

  Raises:
    RecordError: a missing or damaged sweep.csv, or no run that has started.
  """
  folder = process.user_path(sweep_dir)
  path = folder / records.SWEEP
  header, *rows = records.read_lines(path) or [[]]
  if not rows:
    raise records.RecordError(f'{path} has no rows yet')
  table = pd.DataFrame(
    [_printable(dict(zip(header, row, strict=True))) for row in rows]
  )
  if missing := {'run_dir', 'status'} - set(table.columns):
    raise records.RecordError(f'{path} lacks {", ".join(sorted(missing))}')
  for name in table['run_dir']:
    if pathlib.PurePath(name).is_absolute() or '..' in name.split('/'):
      raise records.RecordError(f'{path} names {name}, which is outside of it')
  table = table.rename(columns={'run_dir': 'run'})
  for name in table.columns.difference(['run', 'status', 'error']):
    cells = table[name].replace('', None)
    numbers = pd.to_numeric(cells, errors='coerce')
    if numbers.isna().equals(cells.isna()):
      table[name] = numbers
  if 'error' not in table.columns:
    table['error'] = ''
  runs = tuple(
    _read_run(folder / name, name)
    for name in table['run']
    if (folder / name / records.MANIFEST).exists()
  )
  if not runs:
    raise records.RecordError(f'no run of {folder} has started yet')
  if 'seed' not in table.columns:
    seeds = {run.name: run.config['seed'] for run in runs}
    table['seed'] = table['run'].map(seeds)
  known = {records.STRENGTH, *runs[0].config}
  settings = [name for name in table.columns if name in known]
  table = table.assign(**{name: _set(table[name]) for name in settings})
  for name in table.columns.difference([*settings, 'run', 'status', 'error']):
    if not pd.api.types.is_numeric_dtype(table[name]):
      raise records.RecordError(f'{path}: {name} holds what is no number')
  effective = {run.name: run.manifest['effective_beta'] for run in runs}
  table['effective_beta'] = table['run'].map(effective).astype(float)
  return _runs(runs, table, settings, folder)


# -- Arrays -------------------------------------------------------------------


def check_images(run: RunFiles) -> None:
  """Checks that a run's examples are images.

  Raises:
    FigureError: they are rows of a table.
  """
  if not run.has_images:
    raise figures.FigureError(
      f'{run.path} was trained on a table ('
      f'{run.manifest["dataset"]["name"]}), which has no images'
    )


def check_rates(run: RunFiles, lacking: str) -> None:
  """Checks that a run's latents are random.

  Args:
    run: the run.
    lacking: what there is not, where they are not.

  Raises:
    FigureError: the posterior is deterministic.
  """
  if not run.has_rates:
    raise figures.FigureError(
      f'{run.path} is a plain autoencoder (--posterior=deterministic): '
      f'{lacking}'
    )


def result_rows(
  run: RunFiles, name: str, step: int | None = None, split: str | None = None
) -> pd.DataFrame:
  """Returns the rows of eval.csv or rate_per_latent.csv that are the result.

  Args:
    run: the run.
    name: of the table.
    step: the step of weights that something else is of; None for that of
      `records.result_step`.
    split: whose rows alone are returned; None for those of all.

  Raises:
    RecordError: a table that is missing, damaged, or without such a row.
  """
  frame = records.read_table(run.path, name)
  if step is None:
    step = records.result_step(run.manifest, frame.to_dict('records'))
  rows = frame[frame['step'] == step]
  if split:
    rows = rows[rows['split'] == split]
  if rows.empty:
    at = '' if step is None else f' of step {step:,}'
    at += f' of the {split} split' if split and len(frame) else ''
    raise records.RecordError(
      f'{run.path / name} has no rows{at} yet; python -m launch.evaluate '
      f'--run_dir={run.path} writes them'
    )
  return rows


def rates(run: RunFiles, step: int | None = None) -> pd.DataFrame:
  """Returns the rate of each latent on the split that is evaluated.

  Args:
    run: the run.
    step: as in `result_rows`.

  Returns:
    Columns latent, rate_nats, mean_variance, the highest rate first. Latents
    of a plain autoencoder have no rates, and are in their own order.

  Raises:
    RecordError: a table that is missing, damaged, or without such a row.
  """
  columns = ['latent', 'rate_nats', 'mean_variance']
  if not run.has_rates:
    latents = range(run.config['latent_size'])
    return pd.DataFrame({'latent': latents}).reindex(columns=columns)
  frame = result_rows(run, records.RATE_PER_LATENT, step, run.split)
  order = frame.sort_values('rate_nats', ascending=False, kind='stable')
  return order[columns].reset_index(drop=True)


def shown(run: RunFiles, arrays: Mapping[str, Any], name: str) -> np.ndarray:
  """Returns what was decoded, as figures are asked to show it.

  Args:
    run: the run.
    arrays: of one of its files.
    name: one of `records.SHOWN`, after `quantile_` where that is meant.

  Raises:
    FigureError: samples of what has no density.
    RecordError: arrays of an older version.
  """
  if f'{name}s' in arrays:
    return arrays[f'{name}s']
  if f'{name.replace("sample", "mean")}s' in arrays:
    raise figures.FigureError(
      f'--show=sample: the likelihood of {run.path} is no density, from which '
      'one could draw'
    )
  raise records.RecordError(
    f'the arrays of {run.path} are of an older version, without {name}s; '
    f'python -m launch.evaluate --run_dir={run.path} writes them'
  )


def shown_in_words(name: str) -> str:
  """Returns what images are of the decoder's distribution over pixels.

  Args:
    name: one of `records.SHOWN`.
  """
  return f'decoder {name}'


def grid(
  run: RunFiles, name: str, values: np.ndarray, images: np.ndarray
) -> pd.DataFrame:
  """Returns a row for each image of a grid over two latents, or over one.

  Args:
    run: the run.
    name: of its file of arrays.
    values: [G], from left to right and from bottom to top.
    images: [G, G, H, W, C], or [1, G, H, W, C] for one latent.

  Returns:
    Columns first, second (NaN for one latent) and image, [H, W, C].

  Raises:
    RecordError: shapes that do not fit together.
  """
  if len(images) not in (1, len(values)):
    raise records.RecordError(
      f'{run.path / records.ARRAYS / name}.npz is damaged: images of shape '
      f'{images.shape} do not fit {len(values)} values'
    )
  second = values[::-1] if len(images) == len(values) > 1 else [np.nan]
  return pd.DataFrame(
    {
      'first': np.tile(values, len(images)),
      'second': np.repeat(second, len(values)),
      'image': list(images.reshape(-1, *images.shape[2:])),
    }
  )
