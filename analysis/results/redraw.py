"""Trains the runs behind the documents' figures, and redraws these.

Runs that are there already are taken as they are; sweeps and timings, which
take longer, are those whose records are kept.
`python analysis/results/redraw.py`, in the root of the repository, puts figures
beside itself; one whose picture is the same keeps its file, and so its commit.
"""

import argparse
import io
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import PIL.Image
import PIL.PngImagePlugin

RESULTS = pathlib.Path('analysis', 'results')

_MNIST = '--run_dir=runs/gallery/mnist'
_TWO_LATENTS = '--run_dir=runs/gallery/two_latents'

# Of the sweep the run of the highest mutual information gap, with all scores.
_SPRITES = f'--run_dir={RESULTS}/runs/sprites-beta_tc'
_DISENTANGLEMENT = f'--sweep_dir={RESULTS}/sweeps/disentanglement'

RUNS: Sequence[str] = (
  f'launch.train --beta=0.01 --seed=0 --dataset=mnist --eval_every=64 {_MNIST}',
  'launch.train --latent_size=2 --reduction=sum --beta=1 --seed=0 '
  f'--dataset=mnist --training_steps=16384 {_TWO_LATENTS}',
)

# The command of each figure, by the name of its file.
FIGURES: Mapping[str, str] = {
  'loss_curves': f'analysis.loss_curves {_MNIST}',
  'reconstructions': f'analysis.reconstructions {_MNIST}',
  'samples': f'analysis.samples {_MNIST}',
  'traversals': f'analysis.traversals {_MNIST} --columns=quantiles',
  'rate_per_latent': f'analysis.rate_per_latent {_MNIST}',
  'manifold': f'analysis.manifold {_TWO_LATENTS}',
  'embedding': f'analysis.embedding {_TWO_LATENTS}',
  'factors': f'analysis.factors {_SPRITES}',
  'scores': f'analysis.scores {_SPRITES}',
  'density_fit': 'analysis.density_fit',
  'rate_distortion': 'analysis.rate_distortion '
  f'--sweep_dir={RESULTS}/sweeps/rate_distortion',
  'sweep_beta': f'analysis.sweep --sweep_dir={RESULTS}/sweeps/beta',
  'sweep_latent_size': 'analysis.sweep '
  f'--sweep_dir={RESULTS}/sweeps/latent_size',
  'disentanglement_curves': f'analysis.loss_curves {_DISENTANGLEMENT}',
  'disentanglement_scores': f'analysis.scores {_DISENTANGLEMENT} '
  '--x=strength --color=objective',
  'disentanglement_elbo': f'analysis.sweep {_DISENTANGLEMENT} '
  '--x=strength --color=objective --metric=elbo_nats',
  'disentanglement_variance': f'analysis.study {_DISENTANGLEMENT}',
  'disentanglement_correlations': f'analysis.study {_DISENTANGLEMENT} '
  '--correlations',
  'speed': f'analysis.benchmark --benchmark_dir={RESULTS}/benchmark',
}

# The page whose picture is taken, where there is a Chromium, and its window.
_EXPLORED = pathlib.Path('runs', 'gallery', 'mnist', 'explore.html')
_WINDOW = (1280, 780)

# A larger file gets few colours, so that the README opens fast.
_BYTES = 100_000
_COLOURS = 256


def _run(command: str) -> None:
  print(f'python -m {command}', flush=True)
  subprocess.run([sys.executable, '-m', *shlex.split(command)], check=True)


def _photograph() -> None:
  """Takes a picture of the page to look at a run with, as it opens."""
  chromium = shutil.which('chromium')
  if chromium is None:
    print('no chromium: explore.png stays as it is')
    return
  _run(f'launch.explore {_MNIST}')
  path = RESULTS / 'explore.png'
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    subprocess.run(
      [
        *(chromium, '--headless', '--no-sandbox', '--disable-gpu'),
        *('--hide-scrollbars', f'--user-data-dir={profile}'),
        *('--virtual-time-budget=20000', f'--screenshot={path.absolute()}'),
        f'--window-size={_WINDOW[0]},{_WINDOW[1]}',
        _EXPLORED.absolute().as_uri(),
      ],
      check=True,
    )
  with PIL.Image.open(path) as picture:
    small = picture.convert('RGB').quantize(
      _COLOURS, dither=PIL.Image.Dither.NONE
    )
  small.save(path, optimize=True)


def shrink(path: pathlib.Path) -> None:
  """Rewrites a PNG with few colours; its size and its metadata stay."""
  with PIL.Image.open(path) as picture:
    small = picture.convert('RGB').quantize(
      _COLOURS, dither=PIL.Image.Dither.NONE
    )
    metadata = PIL.PngImagePlugin.PngInfo()
    metadata.add_text('Description', picture.info['Description'])
    dpi = picture.info['dpi']
  small.save(path, optimize=True, pnginfo=metadata, dpi=dpi)


def _draw(name: str, command: str) -> None:
  """Draws a figure; where its picture has not changed, its file does not."""
  path = RESULTS / f'{name}.png'
  before = path.read_bytes() if path.exists() else None
  _run(f'{command} --format=png --output={RESULTS / name}')
  if path.stat().st_size > _BYTES:
    shrink(path)
  if before and _picture(before) == _picture(path.read_bytes()):
    path.write_bytes(before)


def _picture(content: bytes) -> tuple[tuple[int, int], bytes]:
  """Returns size and pixels of a PNG, without what its metadata say."""
  with PIL.Image.open(io.BytesIO(content)) as picture:
    return picture.size, picture.convert('RGB').tobytes()


def main() -> None:
  """Trains what is missing and redraws every figure."""
  argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
  for command in RUNS:
    _run(command)
  for name, command in FIGURES.items():
    _draw(name, command)
  _photograph()


if __name__ == '__main__':
  main()
