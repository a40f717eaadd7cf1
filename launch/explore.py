"""Writes a page to look at a run with: `python -m launch.explore`."""

import pathlib
import sys

from absl import flags

from launch import cli, files, process, records
from launch.rundir import contents, opening

_LIBRARY = flags.DEFINE_string(
  'library',
  None,
  'path of tf.es2017.min.js of the npm package @tensorflow/tfjs 4.22.0; by '
  'default npm fetches it once into --data_dir',
)

_SUMMARY = f"""
Writes {records.EXPLORE} into a run: one page, for any browser and without a
network, where sliders move the latents and the decoder draws what they mean.
Usage: python -m launch.explore [--run_dir=RUN]
"""


def main() -> int:
  """Writes the page and returns the exit code."""
  run_dir = opening.find(cli.RUN_DIR.value)
  contents.check_no_links(run_dir)
  process.import_tensorflow()
  from launch import runs
  from launch.experiment import signatures
  from launch.page import content, graph, library, render

  def report(line: str) -> None:
    print(line, file=sys.stderr)

  run = runs.load(run_dir, cli.data_dir(), warn=report)
  found = content.read(run)
  path = process.user_path(_LIBRARY.value) if _LIBRARY.value else None
  source = library.read(path, pathlib.Path(cli.data_dir()), report)
  functions = signatures.of(run.model, found['shape'], run.config.latent_size)
  found['model'] = graph.decoder(
    functions['decode'], run.config.latent_size, source
  )
  page = render.page(found, source, records.EXPLORED_BY)
  path = run_dir / records.EXPLORE
  with records.held(run_dir, run.manifest):
    files.replace_file(path, page)
  print(f'{path}, {len(page) / 1e6:.1f} MB: open it in a browser')
  return 0


if __name__ == '__main__':
  cli.start(main, _SUMMARY)
