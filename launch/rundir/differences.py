"""Finds what differs between two runs: settings, origin and results."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from launch import process, records
from launch.settings import config, parts

# Standard errors of a difference that the noise of the test images exceeds once
# in twenty times.
_NOISE = 1.96

_NOTE = f"""
±: one standard error over the test images of these two trained models, whose
noise alone exceeds {_NOISE} of them once in twenty times (as if each had images
of its own; they share them, so that a smaller difference may be real).
Training again with another seed moves a number too, often by more. Which of
two settings is better, several seeds of each say: python -m analysis.table.
"""


class Difference(NamedTuple):
  """A line of the comparison.

  Attributes:
    name: of what differs.
    old: in the first run, as text; a dash where it has none.
    new: in the second.
    remark: what there is to say about it.
  """

  name: str
  old: str
  new: str
  remark: str = ''


def _differing(
  old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[Difference]:
  names = [n for n in {**old, **new} if old.get(n) != new.get(n)]
  return [
    Difference(n, str(old.get(n, '-')), str(new.get(n, '-'))) for n in names
  ]


# -- Settings -----------------------------------------------------------------


def settings(
  old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[Difference]:
  """Returns the settings in which two config.json differ.

  They are completed. Settings that this code does not know, as of an idea that
  was tried elsewhere, are compared as they are.
  """
  return _differing(_texts(old), _texts(new))


def _texts(settings: Mapping[str, Any]) -> dict[str, str]:
  values = sorted(config.complete(settings).items())
  return {name: records.text(value) for name, value in values}


# -- Where numbers come from --------------------------------------------------


def origin(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
  """Returns versions, commit, device and data in which manifests differ.

  Changes that were not committed are not known to be the same.
  """
  first, second = _origin(old), _origin(new)
  found = _differing(first, second)
  commit = first['commit']
  is_known = records.UNKNOWN not in commit and records.CHANGED not in commit
  if commit == second['commit'] and not is_known:
    found.append(Difference('commit', commit, commit, 'which may differ'))
  return found


def _origin(manifest: Mapping[str, Any]) -> dict[str, str]:
  """Lists all that a run ran under, in turn, where it went on elsewhere."""
  entries: dict[str, list[str]] = {}
  for session in (manifest, *manifest.get('resumed', ())):
    for name, text in (
      *sorted(session['packages'].items()),
      ('commit', records.commit(session, 12)),
      ('device', session['device']['name']),
    ):
      texts = entries.setdefault(name, [])
      if text not in texts:
        texts.append(text)
  data = manifest['dataset']
  entries['data'] = [f'{data["name"]} {data["version"]}']
  entries['data from'] = [data['source']]
  for split, digest in sorted(data['sha256'].items()):
    entries[f'sha256 of {split}'] = [digest[:12]]
  return {name: ', then '.join(texts) for name, texts in entries.items()}


# -- Results ------------------------------------------------------------------


class _Result(NamedTuple):
  """A row of eval.csv."""

  num_images: int
  value: float
  se: float | None

  def __str__(self) -> str:
    error = '' if self.se is None else f' ± {self.se:.2g}'
    return f'{self.value:.6g}{error}'


def _results(
  run_dir: pathlib.Path, manifest: Mapping[str, Any]
) -> tuple[int | None, dict[str, _Result]]:
  """The step of the weights that count so far, and what they measured."""
  rows = records.read_rows(run_dir, records.EVAL)
  step = records.result_step(manifest, rows)
  found = {}
  for row in rows:
    if int(row['step']) == step and row['value']:
      samples, split = int(row['num_samples']), row['split']
      name = (
        row['metric']
        + (f' at {samples:,} samples' if samples > 1 else '')
        + (f' of {split}' if split != 'test' else '')
      )
      se = float(row['se']) if row['se'] else None
      found[name] = _Result(int(row['n']), float(row['value']), se)
  return step, found


def _remark(old: _Result, new: _Result) -> str:
  difference = new.value - old.value
  if old.se is None or new.se is None:
    return f'{difference:+.4g}'
  se = math.hypot(old.se, new.se)
  size = 'within' if abs(difference) <= _NOISE * se else 'more than'
  return f'{difference:+.4g} ± {se:.2g}, {size} the noise of the images'


# Metrics of the likelihood, by how they begin.
_OF_LIKELIHOOD = ('elbo', 'distortion', 'log_p')


def results(old_dir: pathlib.Path, new_dir: pathlib.Path) -> list[Difference]:
  """Returns the status of two runs and the results in which they differ.

  Those of `records.result_step`.

  Raises:
    RecordError: a run directory is damaged.
  """
  paths = old_dir, new_dir
  manifests = [records.read_manifest(path) for path in paths]
  steps, measured = zip(*map(_results, paths, manifests), strict=True)
  old, new = measured
  states = [
    {
      'status': manifest['status'],
      'evaluated step': '-' if step is None else step,
      'metrics of its own': len(mine.keys() - (old.keys() & new.keys())),
    }
    for manifest, step, mine in zip(manifests, steps, measured, strict=True)
  ]
  found = _differing(*states)
  data, other_data = (manifest['dataset']['sha256'] for manifest in manifests)
  chosen = [config.complete(records.read_config(path)) for path in paths]
  # Of grey pixels, some likelihoods have a density and others none.
  targets = {
    (own['binarize'], manifest['has_density'])
    for own, manifest in zip(chosen, manifests, strict=True)
  }
  # Of binary ones, some have a probability and others a density.
  kinds = {
    parts.trait('likelihood', own['likelihood'], 'density_of') == 'binary'
    for own in chosen
  }
  for name in old:
    if name not in new or old[name] == new[name]:
      continue
    if len(targets) > 1:
      remark = 'not comparable: other targets'
    elif len(kinds) > 1 and name.startswith(_OF_LIKELIHOOD):
      remark = 'not comparable: a density beside a probability'
    elif data != other_data or old[name].num_images != new[name].num_images:
      remark = 'not comparable: other images'
    else:
      remark = _remark(old[name], new[name])
    found.append(Difference(name, str(old[name]), str(new[name]), remark))
  return found


# -- In words -----------------------------------------------------------------

_ORIGIN = 'versions, commit, device, data'


def table(
  titles: Sequence[str], sections: Mapping[str, Sequence[Difference]]
) -> str:
  """Sections of differences below one another, in columns.

  Args:
    titles: of the two columns.
    sections: by what they compare.
  """
  lines = [('', *titles, '')]
  for name, differences in sections.items():
    if differences:
      lines += [(name, '', '', '')]
      lines += [(f'  {line.name}', *line[1:]) for line in differences]
    else:
      lines += [(f'{name}: the same', '', '', '')]
  lines = [tuple(map(process.printable, line)) for line in lines]
  shown = [line for line in lines if line[1]]
  widths = [max(len(line[column]) for line in shown) for column in range(3)]
  return '\n'.join(
    '  '.join(
      [*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[3]]
    ).rstrip()
    for line in lines
  )


def with_original(
  path: str, now: config.Config, manifest: Mapping[str, Any]
) -> str:
  """Says in lines what a run differs in from the one that it repeats.

  Args:
    path: of the config.json that is repeated.
    now: the run's config.
    manifest: where the run's numbers come from.

  Raises:
    RecordError: a file of the original is damaged.
  """
  file = pathlib.Path(os.path.expanduser(path))
  if not (file.parent / records.MANIFEST).exists():
    return (
      f'repeats  {path}, with no {records.MANIFEST} beside it that would say '
      'by which versions it ran, on what'
    )
  sections = {
    'settings': settings(records.read_object(file), dataclasses.asdict(now)),
    _ORIGIN: origin(records.read_manifest(file.parent), manifest),
  }
  if not any(sections.values()):
    return f'repeats  {path}, by the same versions, on the same device and data'
  return f'repeats  {path}\n{table(("that run", "this run"), sections)}'


def between(old: pathlib.Path, new: pathlib.Path) -> str:
  """Returns all in which two runs differ, in lines.

  Args:
    old: the first run's directory.
    new: the second's.

  Raises:
    RecordError: a run directory is damaged.
  """
  sections = {
    'settings': settings(*map(records.read_config, (old, new))),
    _ORIGIN: origin(*map(records.read_manifest, (old, new))),
    'results': results(old, new),
  }
  text = table((str(old), str(new)), sections)
  return text + _NOTE.rstrip() if ' the noise of ' in text else text
