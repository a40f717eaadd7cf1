"""The documents of the repository: the README and those of the rooms."""

import pathlib

ROOT = pathlib.Path(__file__).parents[1]
PATHS = (
  ROOT / 'README.md',
  ROOT / 'CONTRIBUTING.md',
  ROOT / 'vae' / 'README.md',
  ROOT / 'launch' / 'README.md',
  ROOT / 'launch' / 'benchmarks' / 'README.md',
  ROOT / 'analysis' / 'README.md',
  ROOT / 'analysis' / 'results' / 'answers.md',
  ROOT / 'analysis' / 'results' / 'disentanglement.md',
  ROOT / 'analysis' / 'results' / 'published.md',
)
TEXTS = {path: path.read_text('utf-8') for path in PATHS}
# All of them in a row, for what may stand in any.
TEXT = '\n'.join(TEXTS.values())
