"""Tables of numbers in text files: what is a header, and what are columns."""

import csv
import io
import pathlib

import numpy as np

from vae.data import idx, sources

SUFFIXES = ('.csv', '.tsv', '.csv.gz', '.tsv.gz')

# A comma last: a European file separates by ; and writes 0,5.
_SEPARATORS = '\t;|,'

_NUM_SNIFFED = 100  # Rows that tell the separator.


def read(path: pathlib.Path, label_column: str | None) -> sources.SourceData:
  """Returns a table of numbers, of which one column may hold labels.

  The separator is a comma, semicolon, tab or bar. The first line is a header
  where it does not go with the row below. A column without a name holds the
  row names that pandas writes, and is left out.

  Args:
    path: of a file with one of `SUFFIXES`.
    label_column: name of the column of labels, or its number, counted from 1,
      where there is no header; None for none.

  Raises:
    SourceError: a file that is no such table, or that could be read in more
      than one way.
    DamagedError: a file that cannot be read.
  """
  import pandas as pd

  try:
    text = idx.read_bytes(path).decode('utf-8-sig')
    separator, decimal, names = _sniffed(path, text)
    notes = [] if names else ['no header']
    frame = pd.read_csv(
      io.StringIO(text),
      sep=separator,
      decimal=decimal,
      header=None,
      skiprows=1 if names else 0,
      skipinitialspace=True,
      low_memory=False,
    )
  except (ValueError, csv.Error) as error:  # pandas' errors are ValueErrors.
    if isinstance(error, sources.SourceError):
      raise
    raise sources.SourceError(
      f'{path} is no readable table: {sources.one_line(error)}'
    ) from error
  frame.columns = names or [f'{n + 1}' for n in range(frame.shape[1])]
  if '' in frame.columns:
    frame = frame.drop(columns='')
    notes.append('without the column of row names')
  labels = label_names = None
  if label_column is not None:
    if label_column not in frame.columns:
      raise sources.SourceError(
        f'--label_column={label_column}: {path} has the columns '
        f'{", ".join(frame.columns)}'
      )
    column = frame.pop(label_column)
    if column.isna().any():
      raise sources.SourceError(
        f'{path}: row {column.isna().argmax() + 1} has no label'
      )
    labels, label_names = sources.coded(column.to_numpy())
    notes.append(f'labels in the column {label_column}')
  for name in frame.columns:
    if not pd.api.types.is_numeric_dtype(frame[name]):
      raise sources.SourceError(
        f'{path}: column {name!r} holds other than numbers; leave it out, or '
        f'give --label_column={name} where it holds labels'
      )
  rows = frame.to_numpy(np.float64)
  if not np.isfinite(rows).all():
    row, column = np.argwhere(~np.isfinite(rows))[0]
    raise sources.SourceError(
      f'{path}: row {row + 1}, column {frame.columns[column]!r} is no finite '
      'number'
    )
  if not rows.size:
    raise sources.SourceError(f'{path} holds no numbers')
  notes += [
    f'the column {name}, which counts the rows, is one of them'
    for name, values in zip(frame.columns, rows.T, strict=True)
    if len(values) > 2 and (np.diff(values) == 1).all()
  ]
  source = f'table {path}' + (f' ({"; ".join(notes)})' if notes else '')
  return sources.SourceData(
    '1',
    source,
    {'train': sources.in_memory(rows, labels)},
    label_names=label_names,
  )


def _sniffed(
  path: pathlib.Path, text: str
) -> tuple[str, str, list[str] | None]:
  """The separator, the decimal mark, and the names of the columns if any."""
  lines = [line for line in text.split('\n', _NUM_SNIFFED + 1) if line.strip()]
  if not lines:
    raise sources.SourceError(f'{path} is no readable table: it is empty')
  lines = lines[: _NUM_SNIFFED + 1]
  body = lines[1:] or lines
  separator = next(
    (
      mark
      for mark in _SEPARATORS
      if len({len(row) for row in _cells(body, mark)}) == 1
      and len(_cells(body, mark)[0]) > 1
    ),
    ',',
  )
  first, *rest = _cells(lines, separator)
  cells = [cell for row in rest for cell in row]
  point = any('.' in cell and _is_number(cell) for cell in cells)
  decimal = '.'
  if separator != ',' and not point and any(',' in cell for cell in cells):
    decimal = ','
  second = rest[0] if rest else first
  numeric = [_is_number(cell, decimal) for cell in first]
  differ = [
    _is_number(below, decimal) and not number
    for number, below in zip(numeric, second, strict=False)
  ]
  if not any(differ) and any(numeric):
    if first == [str(number) for number in range(len(first))]:
      raise sources.SourceError(
        f'{path} starts with 0, 1, 2, ...: a row, or names that pandas gave? '
        'Delete that line, or give the columns names'
      )
    return separator, decimal, None
  if len(first) != len(second):
    raise sources.SourceError(
      f'the header of {path} names {len(first)} columns, the row below has '
      f'{len(second)}; give each column a name'
    )
  for name in first:
    if first.count(name) > 1:
      raise sources.SourceError(f'{path} has two columns called {name!r}')
  return separator, decimal, first


def _cells(lines: list[str], separator: str) -> list[list[str]]:
  rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
  return [[cell.strip() for cell in row] for row in rows]


def _is_number(cell: str, decimal: str = '.') -> bool:
  try:
    float(cell.replace(decimal, '.'))
  except ValueError:
    return False
  return True
