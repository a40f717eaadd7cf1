"""Report: all figures that apply, with config, manifest and numbers.

One HTML page that holds everything it shows and opens without a network; of a
run, of several, or of a sweep.
"""

import argparse
import base64
import html
import io
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import plotnine as gg

from analysis import (
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
  sweep,
  table,
  terms,
  traversals,
)
from launch import process, records

_OF_ONE_RUN = (
  loss_curves.FIGURE,
  terms.FIGURE,
  reconstructions.FIGURE,
  samples.FIGURE,
  traversals.FIGURE,
  traversals.GRID,
  manifold.FIGURE,
  embedding.FIGURE,
  rate_per_latent.FIGURE,
)

_OF_SEVERAL = (
  loss_curves.FIGURE,
  terms.FIGURE,
  rate_distortion.FIGURE,
  sweep.FIGURE,
)

# Of data whose factors are known; other pages do not name them.
_OF_FACTORS = (scores.FIGURE, factors.FIGURE, reconstructions.BY_FACTOR)

# Sharp on the screens of telephones too.
_DPI = 200

# Of a page; with it, 8 points of a figure are 13 pixels.
_PAGE_DPI = 120

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
figure { margin: 1.5rem 0; }
img { height: auto; display: block; }
figcaption, .note { color: #444; font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; font-weight: bold; padding: .5rem 0; }
th { overflow-wrap: normal; }
td { min-width: 4rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid #ddd; }
td { font-variant-numeric: tabular-nums; }
a:focus-visible, .scroll:focus-visible {
  outline: 3px solid #0072b2; }
"""


def render(runs: frames.Runs, origin: str) -> str:
  """Returns the page.

  Args:
    runs: the runs.
    origin: runs, commits and the command.
  """
  single = len(runs.table) == 1
  heading = runs.describe()
  sections = [
    ('Numbers', _numbers(runs)),
    ('Figures', _figures(runs, _chosen(runs))),
  ]
  if single:
    run = runs.runs[0]
    sections += [
      ('Config', _mapping('Settings of the run', run.config)),
      ('Manifest', _mapping('Where its numbers come from', run.manifest)),
    ]
  else:
    sections += [
      ('Runs', _frame('Every run', _run_rows(runs))),
      ('Config', _mapping('Settings that all runs share', _shared(runs))),
    ]
    sections += [(run.name, _one_of_several(run)) for run in runs.runs]
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
<p class="note">{_escape(origin)}</p>
<nav aria-label="Contents"><ul>{links}</ul></nav>
{body}</main>
</body>
</html>
"""


def _escape(value: Any) -> str:
  return html.escape(str(value), quote=True)


def _numbers(runs: frames.Runs) -> str:
  """Results: of one run with errors over images, else over seeds."""
  if len(runs.table) > 1:
    try:
      means = table.means(runs, runs.metrics)
    except figures.FigureError as error:
      return _note(error)
    shown = table.cells(means, ['configuration'])
    return _frame('Mean ± 1 standard error over seeds, test split', shown)
  try:
    frame = frames.result_rows(runs.runs[0], records.EVAL)
  except records.RecordError as error:
    return _note(error)
  shown = pd.DataFrame(
    {
      'metric': frame['metric'],
      'split': frame['split'],
      'value ± standard error over images': [
        table.show(value, se)
        for value, se in zip(frame['value'], frame['se'], strict=True)
      ],
      'samples': frame['num_samples'],
      'images': frame['n'].map('{:,}'.format),
    }
  )
  return _frame(f'After step {frame["step"].iloc[0]:,}', shown)


def _chosen(runs: frames.Runs) -> list[command.Figure]:
  """The figures that a page of these runs has."""
  single = len(runs.table) == 1
  chosen = [*(_OF_ONE_RUN if single else _OF_SEVERAL)]
  if any(run.has_factors for run in runs.runs):
    chosen += [figure for figure in _OF_FACTORS if single or figure.joint]
  elif any((run.path / records.SCORES).exists() for run in runs.runs):
    chosen.append(scores.FIGURE)  # Of labels, the one factor there is.
  return chosen


def _figures(runs: frames.Runs, chosen: Sequence[command.Figure]) -> str:
  """Every figure that the runs' files allow, and a line for each other."""
  parts = []
  for figure in chosen:
    name = figure.name.replace('_', ' ')
    print(f'drawing {name} of {runs.describe()}', file=sys.stderr)
    parts.append(f'<h3>{_escape(name.capitalize())}</h3>')
    arguments = figure.parser().parse_args(['--title='])
    try:
      image, width = _png(figure.draw(runs, arguments))
    except (records.RecordError, figures.FigureError) as error:
      parts.append(_note(f'Not drawn: {error}'))
      continue
    summary = figure.summary.split('\n\n')[0].replace('\n', ' ')
    # Its text is as large as the page's; a narrow window scrolls it.
    parts.append(
      f'<figure>{_scroll(name)}<img src="data:image/png;base64,{image}" '
      f'width="{width}" alt="{_escape(figure.alt)} '
      f'{_escape(runs.describe())}."></div>'
      f'<figcaption>{_escape(summary)}</figcaption></figure>'
    )
  return ''.join(parts)


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


def _note(text: object) -> str:
  return f'<p class="note">{_escape(text)}</p>'


def _frame(caption: str, frame: pd.DataFrame) -> str:
  """A data frame as a table that scrolls by itself on narrow windows."""
  header = ''.join(
    f'<th scope="col">{_escape(name)}</th>' for name in frame.columns
  )
  rows = ''.join(
    f'<tr><th scope="row">{_escape(first)}</th>'
    + ''.join(f'<td>{_escape(cell)}</td>' for cell in rest)
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


def _run_rows(runs: frames.Runs) -> pd.DataFrame:
  """Tells runs apart: their settings, how they ended, and their results."""
  columns = ['run', *runs.varying, 'seed', 'status', 'error', *runs.metrics]
  shown = runs.table.reindex(columns=columns).astype(object)
  return shown.map(lambda v: '' if v is None or v != v else records.text(v))


def _shared(runs: frames.Runs) -> dict[str, Any]:
  apart = {*runs.varying, 'seed'}
  config = runs.runs[0].config
  return {name: config[name] for name in config if name not in apart}


def _one_of_several(run: frames.RunFiles) -> str:
  alone = frames.read_runs([str(run.path)])
  return f'<p>{_escape(run.describe())}</p>' + _figures(
    alone, (reconstructions.FIGURE,)
  )


def _write(arguments: argparse.Namespace) -> Iterator[pathlib.Path]:
  runs = command.find_runs(arguments)
  stem = arguments.output or runs.folder / records.FIGURES / 'report'
  path = process.user_path(f'{stem}.html')
  page = render(runs, command.origin(runs))
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
