"""Report: all figures that apply, with config, manifest and numbers.

One HTML page that holds everything it shows and opens without a network; of a
run, of several, or of a sweep.
"""

import argparse
import base64
import html
import io
import json
import os
import pathlib
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotnine as gg

from analysis import (
  animation,
  command,
  embedding,
  factors,
  figures,
  frames,
  loss_curves,
  manifold,
  rate_distortion,
  rate_per_latent,
  reconstructions,
  samples,
  scores,
  study,
  sweep,
  table,
  terms,
  traversals,
  wording,
)
from launch import process, records
from launch.settings import config as config_lib

# In the order in which they tell a run's story.
_OF_ONE_RUN = (
  reconstructions.FIGURE,
  traversals.FIGURE,
  samples.FIGURE,
  traversals.GRID,
  manifold.FIGURE,
  embedding.FIGURE,
  rate_per_latent.FIGURE,
  loss_curves.FIGURE,
  terms.FIGURE,
)

_OF_SEVERAL = (
  rate_distortion.FIGURE,
  sweep.FIGURE,
  loss_curves.FIGURE,
  terms.FIGURE,
)

# Of data whose factors are known; other pages do not name them.
_OF_FACTORS = (factors.FIGURE, scores.FIGURE, reconstructions.BY_FACTOR)

# Of each configuration of several runs, beside the others'.
_COMPARED = (reconstructions.FIGURE, traversals.FIGURE)

# Configurations that a page of several runs compares, so that it stays light.
_MOST_COMPARED = 12

# What stands side by side where the window is wide enough.
_NARROW = (samples.FIGURE, traversals.GRID, rate_per_latent.FIGURE)

# Sharp on the screens of telephones too.
_DPI = 200

# Bytes of an animation whose colours are all kept.
_MOST_MOTION = 1_000_000

# Of a page; with it, 8 points of a figure are 13 pixels.
_PAGE_DPI = 120

_STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #555;
  --line: #d8d8d8; --page: #fff; --card: #f6f7f8; --link: #0060a0; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --soft: #aaa;
  --line: #444; --page: #16181a; --card: #212427; --link: #6cb8f0; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--text);
  background: var(--page); max-width: 54rem; margin: 0 auto;
  padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; }
h1 { font-size: 1.6rem; margin-bottom: .5rem; }
h2 { font-size: 1.25rem; margin-top: 3rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
a { color: var(--link); }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap;
  gap: .25rem 1.25rem; }
.lead { font-size: 1.1rem; }
dl.key { display: grid; gap: .75rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
dl.key > div { background: var(--card); border-radius: .5rem;
  padding: .6rem .9rem; }
dl.key dt { color: var(--soft); font-size: .85rem; }
dl.key dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.grid { display: grid; gap: 1rem 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.grid > .wide { grid-column: 1 / -1; }
.grid > * { min-width: 0; }
figure { margin: 0 0 1rem; }
img { height: auto; display: block; background: #fff; border-radius: .25rem; }
figcaption, .note { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem;
  min-width: min(100%, 24rem); }
caption { text-align: left; font-weight: bold; padding: .75rem 0 .25rem; }
th { overflow-wrap: normal; font-weight: normal; }
thead th { color: var(--soft); }
td { min-width: 4rem; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
th, td { text-align: left; vertical-align: top; padding: .25rem 1rem .25rem 0;
  border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .5rem 0; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--link); }
@media print { nav, .motion { display: none; } body { max-width: none; }
  figure, tr, dl { break-inside: avoid; } .scroll { overflow: visible; }
  img { max-width: 100%; } }
"""

# The numbers that matter, of those that a run has.
_KEY = (
  'elbo_nats',
  'rate_nats',
  'distortion_nats',
  'log_p_nats',
  'active_units',
)


def render(runs: frames.Runs, origin: str, folder: pathlib.Path) -> str:
  """Returns the page.

  Args:
    runs: the runs.
    origin: runs, commits and the command.
    folder: where it will lie, to which its links are relative.
  """
  single = len(runs.table) == 1
  heading = runs.describe()
  results = _results(runs)
  drawn, missing = _figures(runs, _chosen(runs))
  sections = [('Figures', drawn)]
  if single:
    run = runs.runs[0]
    sections += [
      ('Numbers', _numbers(run)),
      ('Settings', _settings(run.config)),
      (
        'Provenance',
        _folded(
          'Manifest', _mapping('Where its numbers come from', run.manifest)
        ),
      ),
    ]
  else:
    compared, lacking = _compared(runs)
    missing = [*missing, *lacking]
    sections += [
      ('Runs side by side', compared),
      ('Numbers', _means(runs)),
      ('Runs', _every_run(runs)),
      ('Settings', _settings(_shared(runs))),
    ]
  if missing:
    listed = ''.join(f'<li>{_escape(line)}</li>' for line in _once(missing))
    sections.append(('Not drawn', f'<ul class="note">{listed}</ul>'))
  sections = [(name, content) for name, content in sections if content]
  links = ''.join(
    f'<li><a href="#section-{number}">{_escape(name)}</a></li>'
    for number, (name, _) in enumerate(sections)
  )
  body = ''.join(
    f'<section aria-labelledby="section-{number}">'
    f'<h2 id="section-{number}">{_escape(name)}</h2>{content}</section>\n'
    for number, (name, content) in enumerate(sections)
  )
  # The policy keeps every browser from asking the network for anything.
  return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';
 img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<meta name="description" content="{_escape(origin)}">
<title>{_escape(heading)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_escape(heading)}</h1>
<p class="lead">{_escape(_lead(runs, results))}</p>
{_key_numbers(results, runs.example)}{_explorers(runs, folder)}
<nav aria-label="Contents"><ul>{links}</ul></nav>
{body}<p class="note">{_escape(origin)}</p>
</main>
</body>
</html>
"""


def _once(missing: Sequence[tuple[str, str]]) -> Iterator[str]:
  """Yields a line for each figure that was not drawn, of one run or more."""
  for name in dict.fromkeys(name for name, _ in missing):
    first, *more = [error for other, error in missing if other == name]
    yield f'{name}: {first}' + (f'; so of {len(more)} more' if more else '')


def _escape(value: Any) -> str:
  return html.escape(str(value), quote=True)


def _results(runs: frames.Runs) -> pd.DataFrame:
  """Returns the results as `table.means` does; no rows where there are none."""
  try:
    return table.means(runs, runs.metrics)
  except figures.FigureError:
    columns = ['configuration', 'metric', 'value', 'se', 'num_seeds', 'mark']
    return pd.DataFrame(columns=columns)


def _texts(results: pd.DataFrame) -> dict[str, str]:
  """The results of one run with their errors, by metric."""
  return {
    row['metric']: table.show(row['value'], row['se'])
    for _, row in results.iterrows()
  }


def _lead(runs: frames.Runs, results: pd.DataFrame) -> str:
  """Says in words what was found."""
  if len(runs.table) > 1:
    return _lead_of_several(runs, results)
  run = runs.runs[0]
  if results.empty:
    return f'Nothing is measured yet; its status: {run.manifest["status"]}.'
  rows = frames.result_rows(run, records.EVAL, split=run.split)
  step, number = rows['step'].iloc[0], rows['n'].iloc[0]
  said = _texts(results)
  what = run.example
  words = f'After {step:,} steps, '
  if {'rate_nats', 'distortion_nats', 'elbo_nats'} <= said.keys():
    words += (
      f'the latents of a {run.split} {what} cost {said["rate_nats"]} nats (the '
      f'rate), and what is left of it {said["distortion_nats"]} nats (the '
      f'distortion): an elbo of {said["elbo_nats"]} nats.'
    )
  else:
    words += ', '.join(
      f'{wording.with_unit(name, what)}: {text}' for name, text in said.items()
    )
    words += '.'
  if 'active_units' in said:
    count = run.config['latent_size']
    words += f' {said["active_units"]} of {count} latents are active.'
  words += f' ± is one standard error over {number:,} {what}s.'
  if run.manifest['status'] != 'finished':
    words += f' Its status: {run.manifest["status"]}.'
  return words


def _lead_of_several(runs: frames.Runs, results: pd.DataFrame) -> str:
  finished = (runs.table['status'] == 'finished').sum()
  words = f'{finished} of {len(runs.table)} runs are finished.'
  elbos = results[results['metric'] == 'elbo_nats']
  if len(elbos) < 2:
    return f'{words} {table.error_in_words(results, runs.example)}'.strip()
  best, worst = (
    elbos.loc[elbos['value'].agg(choose)] for choose in ('idxmax', 'idxmin')
  )
  at = [
    f'{row["configuration"]} '
    f'({table.show(row["value"], row["se"])}{row["mark"]} nats)'
    for row in (best, worst)
  ]
  words += f' The elbo is highest at {at[0]}, and lowest at {at[1]}.'
  return f'{words} {table.error_in_words(elbos, runs.example)}'.strip()


def _key_numbers(results: pd.DataFrame, example: str) -> str:
  """Shows the few numbers that matter, where there is one configuration."""
  if results['configuration'].nunique() != 1:
    return ''
  shown = _texts(results)
  cells = ''.join(
    f'<div><dt>{_escape(wording.with_unit(name, example))}</dt>'
    f'<dd>{_escape(shown[name])}</dd></div>'
    for name in _KEY
    if name in shown
  )
  return f'<dl class="key">{cells}</dl>\n' if cells else ''


def _explorers(runs: frames.Runs, folder: pathlib.Path) -> str:
  """Links the pages of `launch.explore`, where there are any."""
  links = []
  for run in runs.runs:
    page = run.path / records.EXPLORE
    if page.is_file() and not page.is_symlink():
      target = pathlib.PurePath(os.path.relpath(page, folder)).as_posix()
      name = 'this run' if len(runs.runs) == 1 else run.name
      links.append(
        f'<a href="{_escape(urllib.parse.quote(target))}">{_escape(name)}</a>'
      )
  return f'<p>Look inside: {", ".join(links)}.</p>\n' if links else ''


def _numbers(run: frames.RunFiles) -> str:
  """Shows what eval.csv has of one run: by split, and by samples."""
  try:
    rows = frames.result_rows(run, records.EVAL)
  except records.RecordError as error:
    return _note(error)
  named = {n: wording.with_unit(n, run.example) for n in rows['metric']}
  counts = rows.groupby('split')['n'].max()
  texts = [
    table.show(value, se)
    # What takes longest is measured on some.
    + (f' (of {count:,})' if count < counts[split] else '')
    for value, se, count, split in rows[
      ['value', 'se', 'n', 'split']
    ].itertuples(index=False)
  ]
  rows = rows.assign(text=texts, name=rows['metric'].map(named))
  alone = rows['num_samples'] == 1
  parts = []
  plain = rows[alone].pivot(index='name', columns='split', values='text')
  if len(plain):
    plain.columns = [f'{s} ({counts[s]:,})' for s in plain.columns]
    order = rows[alone]['name'].unique()
    shown = plain.loc[order].fillna('').rename_axis('metric').reset_index()
    step = rows['step'].iloc[0]
    parts.append(
      _frame(
        f'After step {step:,}, ± one standard error over the {run.example}s of '
        'a split',
        shown,
      )
    )
  for split, bound in rows[~alone].groupby('split'):
    wide = bound.pivot(index='num_samples', columns='name', values='text')
    shown = wide.fillna('').rename_axis('samples').reset_index()
    parts.append(_frame(f'By the number of samples, {split} split', shown))
  return ''.join(parts)


def _means(runs: frames.Runs) -> str:
  """Shows means over seeds, and which of them differ beyond chance."""
  try:
    means, differences = table.both(runs, runs.metrics)
  except figures.FigureError as error:
    return _note(error)
  parts = [_frame(means[1], _worded(means[0], runs.example))]
  if differences:
    shown = _worded(differences[0], runs.example)
    shown = _frame(differences[1], shown)
    parts.append(_folded('Differences between settings', shown))
  return ''.join(parts)


def _worded(frame: pd.DataFrame, example: str) -> pd.DataFrame:
  return frame.rename(columns=lambda name: wording.with_unit(name, example))


def _settings(config: Mapping[str, Any]) -> str:
  """Shows those that differ from their defaults, and the rest folded."""
  changed = config_lib.changed(config)
  parts = [_mapping('Those that differ from their defaults', changed)]
  if rest := {n: v for n, v in config.items() if n not in changed}:
    parts.append(_folded('All others', _mapping('At their defaults', rest)))
  return ''.join(parts)


def _folded(summary: str, content: str) -> str:
  return f'<details><summary>{_escape(summary)}</summary>{content}</details>'


def _chosen(runs: frames.Runs) -> list[command.Figure]:
  """The figures that a page of these runs has."""
  single = len(runs.table) == 1
  chosen = [*(_OF_ONE_RUN if single else _OF_SEVERAL)]
  if any(run.has_factors for run in runs.runs):
    chosen += [figure for figure in _OF_FACTORS if single or figure.joint]
  elif any((run.path / records.SCORES).exists() for run in runs.runs):
    chosen.append(scores.FIGURE)  # Of labels, the one factor there is.
  if scores.FIGURE in chosen and study.applies(runs):
    chosen += [study.FIGURE, study.CORRELATIONS]
  return chosen


def _figures(
  runs: frames.Runs,
  chosen: Sequence[command.Figure],
  is_compared: bool = False,
) -> tuple[str, list[tuple[str, str]]]:
  """Draws what the runs' files allow.

  Args:
    runs: the runs.
    chosen: the figures.
    is_compared: whether they stand beside those of others, narrow and under one
      heading.

  Returns:
    The figures, and name and reason of each that was not drawn.
  """
  parts, missing = [], []
  for figure in chosen:
    name = figure.name.replace('_', ' ')
    print(f'drawing {name} of {runs.describe()}', file=sys.stderr)
    width = 'single' if is_compared or figure in _NARROW else figure.width
    arguments = figure.parser().parse_args(['--title=', f'--width={width}'])
    try:
      image, pixels = _png(figure.draw(runs, arguments))
    except (records.RecordError, figures.FigureError) as error:
      missing.append((name.capitalize(), str(error)))
      continue
    summary = figure.summary.split('\n\n')[0].replace('\n', ' ')
    heading = '' if is_compared else f'<h3>{_escape(name.capitalize())}</h3>'
    kind = '' if width == 'single' else ' class="wide"'
    # Its text is as large as the page's; a narrow window scrolls it.
    parts.append(
      f'<figure{kind}>{heading}{_scroll(name)}'
      f'<img src="data:image/png;base64,{image}" width="{pixels}" '
      f'alt="{_escape(figure.alt)} {_escape(runs.describe())}."></div>'
      f'<figcaption>{_escape(summary)}</figcaption>'
      f'{"" if is_compared else _motion(figure, runs, arguments)}</figure>'
    )
  return f'<div class="grid">{"".join(parts)}</div>' if parts else '', missing


def _motion(
  figure: command.Figure, runs: frames.Runs, arguments: argparse.Namespace
) -> str:
  """Offers the animation of a figure that has one: nothing moves unasked."""
  if figure.draw_animation is None:
    return ''
  moving = figure.draw_animation(runs, arguments)
  content = base64.b64encode(moving.webp(_MOST_MOTION)).decode()
  width = round(moving.pictures.shape[2] * _PAGE_DPI / animation.DPI)
  image = (
    f'{_scroll("in motion")}<img src="data:image/webp;base64,{content}" '
    f'width="{width}" alt="{_escape(figure.alt)} All move at once, to and '
    f'fro. {_escape(runs.describe())}."></div>'
  )
  folded = _folded('In motion, all at once', image)
  return f'<div class="motion">{folded}</div>'


def _compared(runs: frames.Runs) -> tuple[str, list[tuple[str, str]]]:
  """Draws the first seed of each configuration beside the others'.

  Returns:
    As `_figures`.
  """
  configurations = frames.configuration(runs.table, runs.varying)
  rows = runs.table.assign(configuration=configurations).sort_values(
    'seed', kind='stable'
  )
  started = {run.name: run for run in runs.runs}
  rows = rows[rows['run'].isin(started)]
  first = rows.groupby('configuration', sort=False)['run'].first()
  order = frames.levels(first.index.to_series())
  parts, missing = [], []
  for name in order[:_MOST_COMPARED]:
    run = started[first[name]]
    alone = frames.read_runs([str(run.path)])
    drawn, lacking = _figures(alone, _COMPARED, is_compared=True)
    missing += lacking
    if drawn:
      heading = f'{name or runs.describe()}, seed {run.config["seed"]}'
      parts.append(f'<section><h3>{_escape(heading)}</h3>{drawn}</section>')
  if not parts:
    return '', missing
  words = 'The first seed of each configuration.'
  if len(order) > _MOST_COMPARED:
    words += f' {len(order) - _MOST_COMPARED} more are not shown.'
  return f'{_note(words)}<div class="grid">{"".join(parts)}</div>', missing


def _scroll(name: str) -> str:
  """The start of a box that scrolls sideways, by keyboard too."""
  return (
    f'<div class="scroll" tabindex="0" role="region" '
    f'aria-label="{_escape(name)}">'
  )


def _png(plot: gg.ggplot) -> tuple[str, int]:
  """A figure as a PNG in base64, and its width in a page's pixels."""
  buffer = io.BytesIO()
  figure = (plot + gg.theme(dpi=_DPI)).draw()
  figure.savefig(buffer, format='png', dpi=_DPI)
  figures.close(figure)
  width = round(figure.get_figwidth() * _PAGE_DPI)
  return base64.b64encode(buffer.getvalue()).decode(), width


def _cell(text: object) -> str:
  """A number stays on one line with its error."""
  kind = ' class="number"' if ' ± ' in str(text) else ''
  return f'<td{kind}>{_escape(text)}</td>'


def _note(text: object) -> str:
  return f'<p class="note">{_escape(text)}</p>'


def _frame(caption: str, frame: pd.DataFrame) -> str:
  """A data frame as a table that scrolls by itself on narrow windows."""
  header = ''.join(
    f'<th scope="col">{_escape(name)}</th>' for name in frame.columns
  )
  rows = ''.join(
    f'<tr><th scope="row">{_escape(first)}</th>'
    + ''.join(map(_cell, rest))
    + '</tr>'
    for first, *rest in frame.itertuples(index=False)
  )
  return (
    f'{_scroll(caption)}<table><caption>{_escape(caption)}'
    f'</caption><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>'
    '</div>'
  )


def _mapping(caption: str, mapping: Mapping[str, Any]) -> str:
  rows = [
    (name, value if isinstance(value, str) else json.dumps(value))
    for name, value in sorted(mapping.items())
  ]
  return _frame(caption, pd.DataFrame(rows, columns=['name', 'value']))


def _every_run(runs: frames.Runs) -> str:
  rows = _rows(runs)
  has_errors = rows.map(lambda cell: ' ± ' in cell).any(axis=None)
  words = f', ± its own standard error over {runs.example}s'
  words = words if has_errors else ''
  return _frame(f'Every run{words}', rows)


def _rows(runs: frames.Runs) -> pd.DataFrame:
  """Tells runs apart: their settings, how they ended, and their results."""
  columns = ['run', *runs.varying, 'seed', 'status', 'error', *runs.metrics]
  shown = runs.table.reindex(columns=columns).astype(object)
  shown = shown.map(lambda v: '' if v is None or v != v else records.text(v))
  for run in runs.runs:
    errors = records.read_results(run.path, run.manifest, 'se')
    row = runs.table['run'] == run.name
    for metric in runs.metrics:
      value = runs.table.loc[row, metric].iloc[0]
      if value == value:
        text = table.show(value, errors.get(metric, np.nan))
        shown.loc[row, metric] = text
  configurations = frames.configuration(runs.table, runs.varying)
  seeds = runs.table['seed'].astype(float)
  order = np.lexsort([seeds, pd.factorize(configurations)[0]])
  return _worded(shown.loc[:, (shown != '').any()].iloc[order], runs.example)


def _shared(runs: frames.Runs) -> dict[str, Any]:
  apart = {*runs.varying, 'seed'}
  config = runs.runs[0].config
  return {name: config[name] for name in config if name not in apart}


def _write(arguments: argparse.Namespace) -> Iterator[pathlib.Path]:
  runs = command.find_runs(arguments)
  stem = arguments.output or runs.folder / records.FIGURES / 'report'
  path = process.user_path(f'{stem}.html')
  page = render(runs, command.origin(runs), path.parent)
  # Folders may have names that are no UTF-8.
  records.write_figure(path, page.encode(errors='backslashreplace'))
  yield path


def main() -> None:
  """Writes the page."""
  parser = command.parser(
    'report',
    __doc__,
    True,
    'file without suffix; default: figures/report in the run, or in the '
    'folder that holds all of them',
  )
  arguments = parser.parse_args()
  command.main('report', lambda: _write(arguments))


if __name__ == '__main__':
  main()
