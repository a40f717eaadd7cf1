"""Says in words what a run is, and what came out of it."""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from launch import records
from launch.rundir import provenance
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae.metrics import evaluation

# Said where a GPU is there that TensorFlow does not find.
IDLE_GPU = (
  'WARNING: TensorFlow does not find the NVIDIA GPU of this machine, so that '
  "the run trains on the CPU; pip install -e '.[cuda]' installs the CUDA that "
  'it needs'
)


def counted(shape: Sequence[int]) -> str:
  """Returns what the examples of a shape are called."""
  return 'images' if len(shape) == 3 else 'rows'


def _schedule(config: Config, weight: str) -> str:
  """Says how a weight comes to its value, as the end of a sentence."""
  steps = getattr(config, config_lib.SCHEDULED.get(weight, ''), 0)
  if not steps:
    return ''
  schedule = getattr(config, f'{weight}_schedule')
  return f' from 0 over {steps:,} steps ({schedule})'


def facts(config: Config, manifest: Mapping[str, Any]) -> dict[str, str]:
  """Returns what is trained, and on what: sentences by what they are of."""
  data, device = manifest['dataset'], manifest['device']
  counts, shape = data['num_images'], data['shape']
  examples = counted(shape)
  if examples == 'images':
    levels = data.get('pixels', 'colour' if shape[-1] == 3 else 'grey')
    if config.binarize != 'none':
      levels = config.binarize
    what = f'{"×".join(map(str, shape))}, {levels}'
  else:
    what = f'{shape[0]} columns'
  splits = ', '.join(
    f'{counts[split]:,} {"training" if split == "train" else split}'
    for split in ('train', 'validation', 'test')
    if split in counts
  )
  if not manifest['has_elbo']:
    beta = 'none: an autoencoder has no rate for it to weigh'
  elif manifest['effective_beta'] is None and manifest['takes_beta']:
    beta = (
      f'{config.beta:g}, which weighs another term than the rate in '
      f'--objective={config.objective}: no effective beta'
    )
  elif manifest['effective_beta'] is None:
    beta = f'none: --objective={config.objective} does not take it'
  else:
    beta = (
      f'{config.beta:g} under --reduction={config.reduction}: effective beta '
      f'{manifest["effective_beta"]:.4g} (1 weighs nats of rate and '
      'distortion alike)'
    )
  if rising := _schedule(config, 'beta'):
    beta += f';{rising}'
  weights = ', '.join(
    f'{name} {value:g}{_schedule(config, name)}'
    # Manifests of older runs lack them.
    for name, value in manifest.get('weights', {}).items()
    if name != 'beta'
  )
  counted_parameters = dict(manifest['num_parameters'])
  own = counted_parameters.pop('objective', 0)
  model = (
    f'{sum(counted_parameters.values()):,} parameters, '
    f'{config.latent_size} latents'
  )
  if own:
    model += f'; {own:,} parameters of the objective itself'
  found = {
    'data': f'{config.dataset} {data["version"]} from {data["source"]}: '
    f'{splits} {examples}, {what}',
    'model': model,
    'beta': beta,
  }
  if weights:
    found['weights'] = f'{weights}, in --objective={config.objective}'
  number = f'{config.devices} × ' if config.devices > 1 else ''
  threads = f'{config.threads} thread{"s" if config.threads > 1 else ""}'
  found['device'] = f'{number}{device["name"]}, {threads}, XLA {config.jit}'
  precision = provenance.precision(config.precision, device)
  if precision['training'] != precision['evaluation']:
    found['device'] += (
      f', layers trained in {precision["training"]}, evaluated in '
      f'{precision["evaluation"]}'
    )
  elif precision['training'] != 'float32':
    found['device'] += f', layers in {precision["training"]}'
  return found


def no_gain(
  config: Config, manifest: Mapping[str, Any], has_bfloat16: bool
) -> str:
  """Returns a warning where bfloat16 makes nothing faster, or nothing.

  Args:
    config: the run's settings, all resolved.
    manifest: of the run.
    has_bfloat16: whether its device multiplies numbers of bfloat16.
  """
  device = manifest['device']
  if config.precision == 'float32':
    return ''
  if not has_bfloat16:
    why = (
      f'{device["name"]} is not known to multiply in bfloat16 (as CPUs with '
      'AVX-512 BF16 or AMX do, and GPUs since Ampere); float32 will be faster'
    )
  elif device['type'] == 'CPU' and config.jit == 'on':
    why = (
      'is no faster than float32 here: XLA, which is faster still for dense '
      'layers and small batches, has no products of bfloat16 on CPUs; '
      '--jit=off has them'
    )
  else:
    return ''
  return f'WARNING: --precision={config.precision}: {why}'


def start(
  path: pathlib.Path, config: Config, manifest: Mapping[str, Any]
) -> str:
  """Returns the lines before training: what is trained, and on what."""
  found = {'run': path, **facts(config, manifest)}
  return '\n'.join(f'{name:8} {text}' for name, text in found.items())


def how_to_resume(path: pathlib.Path) -> str:
  """Returns the command that takes a run up where its files end."""
  return f'python -m launch.train --run_dir={shlex.quote(str(path))}'


def nats(estimate: evaluation.Estimate) -> str:
  """Returns a mean in nats and its standard error."""
  return f'{estimate.value:.2f} ± {estimate.se:.2f}'


def result(evaluated: evaluation.Evaluation) -> str:
  """Returns the numbers of an evaluation."""
  if not evaluated.has_elbo:
    error = evaluated.squared_error
    return (
      f'squared error {error.value:.5f} ± {error.se:.5f}, mean over the values '
      'of an example'
    )
  return (
    f'elbo {nats(evaluated.elbo)}, distortion {nats(evaluated.distortion)}, '
    f'rate {nats(evaluated.rate)}'
  )


def end(
  path: pathlib.Path,
  config: Config,
  manifest: Mapping[str, Any],
  evaluated: evaluation.Evaluation,
  step: int,
  likelihood: Mapping[str, float],
) -> str:
  """Returns the lines after training: the result, and what to do next."""
  examples = counted(manifest['dataset']['shape'])
  split = records.result_split(manifest)
  unit = ''
  if evaluated.has_elbo:
    unit = f'nats per {examples[:-1]} '
  measured = f'{evaluated.num_images:,} {examples}'
  total = manifest['dataset']['num_images'][split]
  if evaluated.num_images < total:
    measured = (
      f'{evaluated.num_images:,} of its {total:,} {examples} (--eval_images)'
    )
  lines = [
    f'{split} split of {config.dataset}, {measured}, {unit}(± standard error):',
    f'  {result(evaluated)}',
  ]
  if likelihood:
    line = f'  the likelihood has the scale {likelihood["fitted_scale"]:.4g}'
    if 'equivalent_beta' in likelihood:
      line += (
        f': beta is worth {likelihood["equivalent_beta"]:.4g} against half the '
        'squared error'
      )
    lines.append(line)
  if manifest.get('stopped_early'):
    lines.append(
      f'stopped early after step {step:,}: no better on the validation split '
      f'for {config.patience} epochs'
    )
  if 'best_step' in manifest:
    lines.append(
      f'the weights kept, and evaluated here, are those after step '
      f'{manifest["best_step"]:,}'
    )
  lines += [
    f'{step:,} steps in {manifest["seconds"]:.1f} s. The run is in {path}',
    f'next: python -m analysis.loss_curves --run_dir={shlex.quote(str(path))}',
  ]
  if config.dataset == 'mnist_5k':
    # Who named it knows.
    warning = 'WARNING: ' if 'fallback_for' in manifest['dataset'] else ''
    lines.append(
      f'{warning}these are 5,000 images of MNIST, not MNIST: the numbers are '
      'not comparable with published ones.'
    )
  return '\n'.join(lines)
