"""What the documents say, done as they say it."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from launch import records
from tests import documents

ROOT = documents.ROOT

EXAMPLE = re.compile(
  r'An? (\w+), in `(vae/\w+\.py)`:\n\n```python\n(.*?)```\n\n'
  r'```sh\npython -m launch\.train (.*?)\n```',
  re.DOTALL,
)
EXAMPLES = EXAMPLE.findall(documents.TEXT)


def test_an_encoder_a_likelihood_and_an_objective_are_shown():
  shown = sorted(what for what, *_ in EXAMPLES)
  assert shown == ['encoder', 'likelihood', 'objective']


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


def test_the_commands_shown_exist_and_take_the_flags_shown():
  joined = documents.TEXT.replace('\\\n', ' ')
  commands = re.findall(
    r'python -m ((?:launch|analysis)\.\w+)([^`|\n]*)', joined
  )
  modules = sorted({module for module, _ in commands})
  assert len(modules) > 10
  # Forks of one process, since two commands define the same flags.
  script = f"""
import os, runpy, sys
import analysis.command
for module in {modules}:
  print(f'# {{module}} #', flush=True)
  if os.fork() == 0:
    sys.argv = [module, '--help']
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  assert os.wait()[1] == 0, module
"""
  printed = subprocess.run(
    [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True
  )
  assert printed.returncode == 0, printed.stderr
  _, *pairs = re.split(r'# (\S+) #\n', printed.stdout)
  help_texts = dict(zip(pairs[::2], pairs[1::2], strict=True))
  for module, arguments in commands:
    for flag in re.findall(r'--(\w+)', arguments):
      assert f'--{flag}' in help_texts[module], f'{module} has no --{flag}'


def anchors(text):
  """What the headings of a document are called in links to them."""
  headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
  return {
    re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-')
    for heading in headings
  }


@pytest.mark.parametrize('path', documents.PATHS, ids=str)
def test_links_lead_somewhere(path):
  for link in re.findall(r'\]\(([^)]+)\)', documents.TEXTS[path]):
    if link.startswith('https://'):
      continue
    name, _, anchor = link.partition('#')
    target = (path.parent / name).resolve() if name else path
    assert target.exists(), link
    assert not anchor or anchor in anchors(target.read_text('utf-8')), link


@pytest.mark.parametrize('path', documents.PATHS, ids=str)
def test_files_that_are_named_are_there(path):
  for name in re.findall(
    r'`((?:vae|launch|analysis|tests)/[\w/.-]*)`', documents.TEXTS[path]
  ):
    assert (ROOT / name).exists(), name


def test_the_readme_is_one_page():
  assert len(documents.TEXTS[ROOT / 'README.md'].splitlines()) <= 200
