"""Training speed beside the loops of other frameworks, from benchmark.csv."""

import argparse
import pathlib
from collections.abc import Iterator

import mizani.breaks
import pandas as pd
import plotnine as gg

from analysis import colours, command, figures
from launch import process, records

_METRIC = 'steps_per_second'

# Of the numbers' letters, in points.
_SIZE = 5.5


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the training speeds in benchmark.csv, beside this project's.

  Args:
    frame: rows of benchmark.csv.

  Returns:
    A row for each contestant at each task: `task`, `contestant`;
    `steps_per_second`, the median; and `low`, `median` and `high`, the
    quartiles over repeats of its speed over this project's.

  Raises:
    FigureError: missing columns, or no speeds.
  """
  figures.check_columns(
    frame, ['task', 'contestant', 'repeat', 'metric', 'value']
  )
  speeds = frame[frame['metric'] == _METRIC]
  ours = speeds.loc[
    speeds['contestant'] == records.OURS, ['task', 'repeat', 'value']
  ]
  pairs = speeds.merge(ours, on=['task', 'repeat'], suffixes=('', '_ours'))
  if pairs.empty:
    raise figures.FigureError(
      'the table has no training speeds; python -m launch.benchmark '
      '--only=mlp measures them'
    )
  pairs['relative'] = pairs['value'] / pairs['value_ours']
  grouped = pairs.groupby(['task', 'contestant'], sort=False)
  return pd.DataFrame(
    {
      'low': grouped['relative'].quantile(0.25),
      'median': grouped['relative'].median(),
      'high': grouped['relative'].quantile(0.75),
      _METRIC: grouped['value'].median(),
    }
  ).reset_index()


def plot_benchmark(
  frame: pd.DataFrame, page: figures.Page = figures.DOUBLE_COLUMN
) -> gg.ggplot:
  """Draws every contestant's speed beside this project's, by task.

  Args:
    frame: rows of benchmark.csv.
    page: what it is drawn for.
  """
  figures.check_columns(frame, ['device'])
  summary = summarise(frame)
  tasks = summary['task'].str.replace(', ', '\n')
  summary['task'] = pd.Categorical(tasks, tasks.unique())
  # The slowest lies at the bottom, by the first task that has it.
  order = summary.drop_duplicates('contestant').sort_values('median')
  summary['contestant'] = pd.Categorical(
    summary['contestant'], order['contestant']
  )
  summary['label'] = [
    f'{speed:,.0f}' if speed >= 10 else f'{speed:#.2g}'
    for speed in summary[_METRIC]
  ]
  low, high = summary['low'].min(), summary['high'].max()
  breaks = mizani.breaks.breaks_log(n=4)((low, high))
  # The numbers are a column, right of all that is drawn.
  names = [figures.text_width(name, page) for name in order['contestant']]
  panel = (page.width - max(names) - 0.2) / len(tasks.unique())
  numbers = [figures.text_width(t, page, _SIZE) for t in summary['label']]
  share = min(0.6, (max(numbers) + 0.12) / panel)
  right = high * max(2.0, high / low) ** (share / (1 - share))
  return (
    gg.ggplot(summary, gg.aes('median', 'contestant'))
    + gg.facet_grid(cols='task')
    + gg.geom_vline(xintercept=1.0, color='#b3b3b3', size=0.5)
    + gg.geom_segment(
      gg.aes(x='low', xend='high', yend='contestant'),
      size=0.8,
      color=colours.PALETTE[0],
    )
    + gg.geom_point(size=1.6, color=colours.PALETTE[0])
    + gg.geom_text(gg.aes(right, label='label'), ha='right', size=_SIZE)
    + gg.scale_x_log10(
      name=f'speed over that of {records.OURS}: median and quartiles; '
      'numbers: steps per second',
      breaks=[at for at in breaks if low <= at <= high],
      labels=lambda breaks: [f'{value:g}' for value in breaks],
      expand=(0.05, 0, 0.03, 0),
    )
    + gg.scale_y_discrete(name='')
    + figures.dress(
      page,
      0.85 + 0.21 * len(order),
      f'Training speed on {frame["device"].iloc[0]}',
    )
  )


def _draw(arguments: argparse.Namespace) -> Iterator[pathlib.Path]:
  folder = process.user_path(arguments.benchmark_dir)
  frame = records.read_table(folder, records.BENCHMARK)
  versions = set(frame.loc[frame['contestant'] == records.OURS, 'version'])
  page = figures.STYLES[arguments.style]['double']
  yield from figures.save(
    plot_benchmark(frame, page),
    process.user_path(arguments.output or folder / 'benchmark'),
    arguments.format or figures.FORMATS,
    command.drawn_by(f'benchmark {folder.name}; {", ".join(sorted(versions))}'),
    page.pixels,
  )


def main() -> None:
  """Draws the figure of a benchmark's folder."""
  parser = command.Parser('benchmark', __doc__)
  parser.add_argument(
    '--benchmark_dir',
    default='runs/benchmark',
    help=f'folder of {records.BENCHMARK}',
  )
  parser.add_argument(
    '--output', help='file without suffix; default: BENCHMARK_DIR/benchmark'
  )
  command.add_format(parser)
  command.add_style(parser)
  arguments = parser.parse_args()
  command.main('benchmark', lambda: _draw(arguments))


if __name__ == '__main__':
  main()
