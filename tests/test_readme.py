"""The examples of the README, done as it says."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from launch import records

ROOT = pathlib.Path(__file__).parents[1]

EXAMPLE = re.compile(
  r'An? (\w+), in `(vae/\w+\.py)`:\n\n```python\n(.*?)```\n\n'
  r'```sh\npython -m launch\.train (.*?)\n```',
  re.DOTALL,
)
EXAMPLES = EXAMPLE.findall((ROOT / 'README.md').read_text('utf-8'))


def test_an_encoder_a_likelihood_and_an_objective_are_shown():
  assert [what for what, *_ in EXAMPLES] == [
    'encoder',
    'likelihood',
    'objective',
  ]


@pytest.mark.parametrize(
  ('what', 'path', 'code', 'arguments'), EXAMPLES, ids=[e[0] for e in EXAMPLES]
)
def test_an_idea_is_a_dozen_lines_in_one_place(
  tmp_path, data_dir, what, path, code, arguments
):
  assert len(code.splitlines()) <= 12
  for room in ('vae', 'launch'):
    shutil.copytree(ROOT / room, tmp_path / room)
  with (tmp_path / path).open('a') as file:
    file.write(f'\n\n{code}')

  def python(*command):
    return subprocess.run(
      [sys.executable, '-m', *command],
      cwd=tmp_path,
      env=os.environ | {'PYTHONPATH': str(tmp_path)},
      capture_output=True,
      text=True,
    )

  run = tmp_path / 'run'
  trained = python(
    'launch.train',
    *arguments.split(),
    '--dataset=mnist_5k',
    '--training_steps=8',
    f'--data_dir={data_dir}',
    f'--run_dir={run}',
  )
  assert trained.returncode == 0, trained.stderr
  table = records.read_table(run, records.TRAIN)
  assert table['total'].iloc[-1] < table['total'].iloc[0]
  value = re.search(rf'--{what}=(\w+)', arguments)[1]
  assert value in python('launch.train', '--help').stdout
