"""Every command answers alike, wherever it prints."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from launch import records

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = [
  f'{path.parent.name}.{path.stem}'
  for room in ('launch', 'analysis')
  for path in sorted((ROOT / room).glob('*.py'))
  if "if __name__ == '__main__':" in path.read_text()
]

# Runs each command line in a child, so that what all of them import is imported
# once; its output goes to files, or where it cannot be written.
_SCRIPT = """
import io, json, os, pwd, runpy, sys
sys.path.insert(0, os.getcwd())
from analysis import command
from launch import cli

def child(name, arguments, kind, files):
  for number, file in enumerate(files, 1):
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
  if kind == 'no reader':
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
  elif kind == 'full disk':
    os.dup2(os.open('/dev/full', os.O_WRONLY), 1)
  elif kind == 'ascii':
    sys.stdout = sys.__stdout__ = open(1, 'w', encoding='ascii')
  elif kind == 'no home':
    os.environ.pop('HOME', None)
    def unknown(uid):
      raise KeyError(uid)
    pwd.getpwuid = unknown
  elif kind == 'closed':
    os.close(1), os.close(2)
    sys.stdout = sys.__stdout__ = sys.stderr = sys.__stderr__ = None
  sys.argv = [name.replace('.', '/') + '.py', *arguments]
  runpy.run_module(name, run_name='__main__', alter_sys=False)

codes = []
for case in json.load(sys.stdin):
  if not (pid := os.fork()):
    code = 0
    try:
      child(*case)
    except SystemExit as end:
      code = end.code or 0
    except BaseException:
      import traceback
      traceback.print_exc()
      code = 99
    try:
      sys.stdout and sys.stdout.flush()
      sys.stderr and sys.stderr.flush()
    except BaseException:
      code = 98
    os._exit(code)
  codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


def call_all(folder, cases):
  """Runs command lines; returns exit code, output and errors of each."""
  files = [
    [str(folder / f'{number}.{name}') for name in ('out', 'err')]
    for number in range(len(cases))
  ]
  given = [[*case, two] for case, two in zip(cases, files, strict=True)]
  result = subprocess.run(
    [sys.executable, '-c', _SCRIPT],
    cwd=ROOT,
    input=json.dumps(given),
    capture_output=True,
    text=True,
    check=True,
  )
  codes = json.loads(result.stdout.splitlines()[-1])
  return [
    (code, *(pathlib.Path(file).read_text() for file in two))
    for code, two in zip(codes, files, strict=True)
  ]


def test_every_command_answers_alike(tmp_path):
  arguments = (
    ['--help'],
    ['--no_such_flag=1'],
    ['--hel'],
    ['stray', 'stray', 'stray'],
  )
  cases = [[name, given, ''] for name in COMMANDS for given in arguments]
  results = call_all(tmp_path, cases)
  for (name, given, _), (code, out, err) in zip(cases, results, strict=True):
    what = f'{name} {given}: {out}{err}'
    if given == ['--help']:
      assert (code, err) == (0, ''), what
      assert not out.startswith(('usage', '\n')), what
      assert max(map(len, out.splitlines())) <= 80, what
      assert f'\nUsage: python -m {name}' in out, what
      flagless = ('launch.compare', 'analysis.published')
      assert 'Command:' in out or name in flagless, what
    else:
      assert (code, out) == (2, ''), what
      assert err.startswith(f'{name}: error: '), what
      assert err.count('\n') == 1, what


@pytest.mark.parametrize(
  ('name', 'given', 'valid'),
  [
    ('launch.train', ['--reduction=x'], ('mean', 'sum')),
    ('launch.sweep', ['--executor=x'], ('local', 'ray', 'slurm')),
    ('analysis.table', ['--format=x'], ('markdown', 'latex')),
    ('analysis.loss_curves', ['--format=png,x'], ('png', 'pdf')),
    ('analysis.traversals', ['--index=x'], ('--index',)),
  ],
)
def test_unknown_values_are_refused_with_those_that_are(
  tmp_path, name, given, valid
):
  ((code, out, err),) = call_all(tmp_path, [[name, given, '']])
  assert code in (1, 2)
  assert not out
  assert err.count('\n') == 1
  assert all(word in err for word in valid)


@pytest.mark.parametrize(
  ('name', 'values'),
  [
    (
      'launch.train',
      {
        '--batch_size=x': 'a whole number',
        '--seed=1.5': 'a whole number',
        '--beta=': 'a number',
        '--overwrite=x': 'true or false',
        '--verbosity=x': 'a whole number',
        '--logger_levels=x': 'names and levels, as absl:info,tensorflow:error',
        '--logger_levels=absl:x': 'names and levels',
      },
    ),
    (
      'analysis.density_fit',
      {
        '--fit_steps=x': 'a whole number',
        '--fit_learning_rate=1e': 'a number',
        '--scale_tril=1,x,2': 'a number',
        '--format=x': 'one of png, pdf',
      },
    ),
    ('analysis.reconstructions', {'--index=1,,2': 'a whole number'}),
    ('analysis.traversals', {'--show=x': 'one of mean, mode, sample'}),
  ],
)
def test_values_of_another_kind_are_refused_without_words_of_python(
  tmp_path, name, values
):
  results = call_all(tmp_path, [[name, [flag], ''] for flag in values])
  for (flag, kind), (code, out, err) in zip(
    values.items(), results, strict=True
  ):
    assert (code, out) == (2, ''), (flag, err)
    assert err.startswith(f'{name}: error: '), err
    assert flag.split('=')[0] in err, err
    assert f'must be {kind}' in err and err.count('\n') == 1, err


def test_an_empty_value_is_not_taken_for_no_flag(tmp_path):
  cases = [
    ['launch.train', ['--run_dir='], ''],
    ['launch.train', ['--config='], ''],
    ['launch.evaluate', ['--run_dir='], ''],
    ['launch.evaluate', ['--split='], ''],
    ['launch.export', ['--export_dir='], ''],
    ['launch.sweep', ['--sweep_dir='], ''],
    ['analysis.sweep', ['--sweep_dir='], ''],
    ['analysis.sweep', ['--color=', RUN], ''],
    ['analysis.table', ['--output=', RUN], ''],
    ['analysis.samples', ['--run_dir='], ''],
  ]
  for case, (code, out, err) in zip(
    cases, call_all(tmp_path, cases), strict=True
  ):
    assert (code, out) == (2, ''), (case, err)
    assert err == f'{case[0]}: error: {case[1][0]}: give a value\n'


def test_a_folder_is_no_name_of_a_figure(tmp_path):
  cases = [
    [name, [RUN, f'--output={tmp_path}'], '']
    for name in ('analysis.table', 'analysis.loss_curves', 'analysis.report')
  ]
  for code, out, err in call_all(tmp_path, cases):
    assert (code, out) == (2, '')
    assert 'is a folder' in err and err.count('\n') == 1


RUN = f'--run_dir={ROOT}/analysis/results/runs/mlp_vae-seed0'


def test_output_that_cannot_be_written_ends_in_a_line_or_quietly(tmp_path):
  commands = [
    ['launch.train', ['--help']],
    ['analysis.traversals', ['--help']],
    ['analysis.published', []],
    ['analysis.table', [RUN]],
    ['launch.compare', [RUN.split('=')[1]] * 2],
    ['launch.train', ['--preset=list']],
  ]
  expected = {
    'no reader': (141, ''),
    'full disk': (
      1,
      'error: standard output cannot be written: No space left on device\n',
    ),
    'closed': (0, ''),
    'ascii': (0, ''),
    'no home': (0, ''),
  }
  cases = [[*command, kind] for command in commands for kind in expected]
  results = call_all(tmp_path, cases)
  for case, (code, out, err) in zip(cases, results, strict=True):
    wanted, line = expected[case[-1]]
    assert code == wanted, (case, code, out, err)
    assert err == (f'{case[0]}: {line}' if line else ''), (case, err)
    assert (case[-1] in ('ascii', 'no home')) == bool(out), (case, out)


@pytest.mark.parametrize('name', ['launch.train', 'analysis.table'])
@pytest.mark.parametrize(
  ('error', 'said'),
  [
    ('MemoryError', True),
    ("ImportError('x.so: failed to map segment from shared object')", True),
    ("ImportError('no such thing')", False),
  ],
)
def test_memory_that_runs_out_while_importing_is_one_line(
  tmp_path, name, error, said
):
  for package in ('numpy', 'pandas', 'matplotlib'):
    (tmp_path / f'{package}.py').write_text(f'raise {error}')
  result = subprocess.run(
    [sys.executable, '-m', name],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1
  if said:
    assert result.stderr == f'{name}: error: out of memory\n'
  else:
    assert 'Traceback' in result.stderr


def test_homes_and_names_that_are_not_known_are_one_line(tmp_path):
  run = f'--run_dir={tmp_path}/new'
  strange = b'\xff'.decode(errors='surrogateescape')
  cases = [
    ['launch.train', ['--run_dir=~nobody-at-home/x'], ''],
    ['launch.train', ['--data_dir=~nobody-at-home/x', run], ''],
    ['launch.evaluate', ['--run_dir=~nobody-at-home/x'], ''],
    ['launch.sweep', ['--sweep_dir=~nobody-at-home/x', '--beta=1,2'], ''],
    ['launch.evaluate', [f'--run_dir={strange}'], ''],
    ['analysis.table', ['--output=~nobody-at-home/x', RUN], ''],
    ['analysis.table', [f'--run_dir={strange}'], ''],
    ['analysis.loss_curves', ['--run_dir=~nobody-at-home/x'], ''],
    ['launch.train', ['--run_dir=~/x'], 'no home'],
  ]  # fmt: skip
  for case, (code, _, err) in zip(
    cases, call_all(tmp_path, cases), strict=True
  ):
    assert code == 1, (case, err)
    assert err.count('\n') == 1, err
    assert err.startswith(f'{case[0]}: error: ')


def test_a_figure_is_drawn_of_a_run_whose_name_is_no_text(tmp_path):
  for number, name in enumerate((b'\xff', b'$\\frac{$', '\u2028β'.encode())):
    run = tmp_path / name.decode(errors='surrogateescape')
    run.mkdir()
    for kept in (ROOT / 'analysis/results/runs/mlp_vae-seed0').iterdir():
      (run / kept.name).write_bytes(kept.read_bytes())
    stem = tmp_path / str(number)
    cases = [
      ['analysis.loss_curves', [f'--run_dir={run}', f'--output={stem}'], ''],
      ['analysis.report', [f'--run_dir={run}', f'--output={stem}'], ''],
    ]
    for code, _, err in call_all(tmp_path, cases):
      progress = [line.startswith('drawing ') for line in err.splitlines()]
      assert code == 0 and all(progress), err
    assert records.DRAWN_BY.encode() in stem.with_suffix('.png').read_bytes()
