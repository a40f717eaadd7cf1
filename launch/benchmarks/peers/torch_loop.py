"""PyTorch, eager and compiled, the latter also with layers in bfloat16."""

import functools
import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from launch.benchmarks import contest

VERSION = f'torch {torch.__version__}'


class MLP(nn.Module):
  def __init__(self, latents):
    super().__init__()
    self.encoder = nn.Sequential(
      nn.Flatten(),
      nn.Linear(784, 100),
      nn.ReLU(),
      nn.Linear(100, 100),
      nn.ReLU(),
    )
    self.head = nn.Linear(100, 2 * latents)
    self.decoder = nn.Sequential(
      nn.Linear(latents, 100),
      nn.ReLU(),
      nn.Linear(100, 100),
      nn.ReLU(),
      nn.Linear(100, 784),
      nn.Unflatten(1, (1, 28, 28)),
    )

  def scale(self, raw):
    return raw.square()


class StridedConv(nn.Module):
  def __init__(self, latents):
    super().__init__()
    self.encoder = nn.Sequential(
      nn.Conv2d(1, 8, 5, 2),
      nn.Tanh(),
      nn.Conv2d(8, 8, 5, 2),
      nn.Tanh(),
      nn.Flatten(),
      nn.Linear(128, 64),
      nn.Tanh(),
    )
    self.head = nn.Linear(64, 2 * latents)
    self.decoder = nn.Sequential(
      nn.Linear(latents, 64),
      nn.Tanh(),
      nn.Linear(64, 128),
      nn.Tanh(),
      nn.Unflatten(1, (8, 4, 4)),
      nn.ConvTranspose2d(8, 8, 5, 2, output_padding=1),
      nn.Tanh(),
      nn.ConvTranspose2d(8, 8, 5, 2, output_padding=1),
      nn.Tanh(),
      nn.Conv2d(8, 1, 3, padding=1),
    )

  def scale(self, raw):
    return raw.exp()


class PooledConv(nn.Module):
  def __init__(self, latents):
    super().__init__()
    self.encoder = nn.Sequential(
      nn.Conv2d(1, 32, 3),
      nn.ReLU(),
      nn.MaxPool2d(2),
      nn.Conv2d(32, 64, 3),
      nn.ReLU(),
      nn.MaxPool2d(2),
      nn.Flatten(),
    )
    self.head = nn.Linear(1600, 2 * latents)
    self.decoder = nn.Sequential(
      nn.Linear(latents, 1600),
      nn.Unflatten(1, (64, 5, 5)),
      nn.Upsample(scale_factor=2),
      nn.ConvTranspose2d(64, 64, 3),
      nn.ReLU(),
      nn.Upsample(scale_factor=2),
      nn.ConvTranspose2d(64, 32, 3),
      nn.ReLU(),
      nn.ConvTranspose2d(32, 1, 3),
    )

  def scale(self, raw):
    return (0.5 * raw).exp()


class BurgessConv(nn.Module):
  def __init__(self, latents):
    super().__init__()
    down = [
      layer
      for channels in (1, 32, 32, 32)
      for layer in (nn.Conv2d(channels, 32, 4, 2, padding=1), nn.ReLU())
    ]
    up = [
      layer
      for channels in (32, 32, 32, 1)
      for layer in (nn.ReLU(), nn.ConvTranspose2d(32, channels, 4, 2, 1))
    ]
    self.encoder = nn.Sequential(
      *down,
      nn.Flatten(),
      nn.Linear(512, 256),
      nn.ReLU(),
      nn.Linear(256, 256),
      nn.ReLU(),
    )
    self.head = nn.Linear(256, 2 * latents)
    self.decoder = nn.Sequential(
      nn.Linear(latents, 256),
      nn.ReLU(),
      nn.Linear(256, 256),
      nn.ReLU(),
      nn.Linear(256, 512),
      nn.Unflatten(1, (32, 4, 4)),
      *up,
    )

  def scale(self, raw):
    return (0.5 * raw).exp()


NETWORKS = {
  'mlp': MLP,
  'strided_conv': StridedConv,
  'pooled_conv': PooledConv,
  'burgess_conv': BurgessConv,
}


def discriminator(latents):
  sizes = (latents, *[1000] * 6)
  layers = [
    layer
    for inputs, outputs in itertools.pairwise(sizes)
    for layer in (nn.Linear(inputs, outputs), nn.LeakyReLU(0.2))
  ]
  return nn.Sequential(*layers, nn.Linear(1000, 2))


def drop(features, rate, uniform):
  if not rate:
    return features
  if uniform is None:
    return F.dropout(features, rate)
  return features * (uniform >= rate) / (1 - rate)


def channels_first(model):
  """Returns where values of [H, W, C], flattened, lie in [C, H, W]."""
  unflatten = next(m for m in model.decoder if isinstance(m, nn.Unflatten))
  channels, height, width = unflatten.unflattened_size
  order = np.arange(height * width * channels)
  return order.reshape(height, width, channels).transpose(2, 0, 1).ravel()


def copy_weights(model, own, problem):
  """Gives layers the values of the problem, in PyTorch's layouts."""
  order = channels_first(model)
  for modules, layers in (
    ([*model.encoder, model.head], problem.encoder),
    (model.decoder, problem.decoder),
    (own, problem.discriminator),
  ):
    with_weights = [m for m in modules if hasattr(m, 'weight')]
    for module, (w, b) in zip(with_weights, layers, strict=True):
      if w.ndim == 4:
        w = w.transpose(3, 2, 0, 1)
      elif w.shape[0] == len(order):
        w = w[order].T
      elif w.shape[1] == len(order):
        w, b = w[:, order].T, b[order]
      else:
        w = w.T
      module.weight.data.copy_(torch.from_numpy(w.copy()))
      module.bias.data.copy_(torch.from_numpy(b))


def batches(problem, model):
  images = torch.from_numpy(problem.float_images()).permute(0, 3, 1, 2)
  images = images.to(memory_format=torch.channels_last)
  for index, rows in enumerate(problem.batches()):
    batch = images[torch.from_numpy(rows)]
    if not problem.recorded:
      yield (batch,)
      continue
    draws = [problem.recorded[k][index] for k in (1, 2, 3)]
    if problem.settings['dropout']:
      draws[1] = draws[1][:, channels_first(model)]
    yield batch, *map(torch.from_numpy, draws)


def looped(step, data):
  return lambda steps: [step(*b) for b in itertools.islice(data, steps)]


def load(problem, kind):
  torch.set_num_threads(contest.threads())
  settings = problem.settings
  model = NETWORKS[settings['network']](settings['latent_size'])
  own = nn.Sequential()
  if settings['objective'] == 'factor':
    own = discriminator(settings['latent_size'])
  copy_weights(model, own, problem)
  # Faster than the default layout for convolutions on CPUs.
  model.to(memory_format=torch.channels_last)
  adam = functools.partial(torch.optim.Adam, fused=True)
  optimizer = adam(model.parameters(), settings['learning_rate'])

  def elbo(images, noise=None, uniform=None, draws=None):
    """Returns the loss and the latents."""
    features = drop(model.encoder(images), settings['dropout'], uniform)
    loc, raw = model.head(features).float().chunk(2, dim=1)
    scale = model.scale(raw) + 1e-6
    noise = torch.randn_like(loc) if noise is None else noise
    latents = loc + scale * noise
    logits = model.decoder(latents).float()
    distortion = F.binary_cross_entropy_with_logits(
      logits, images, reduction='none'
    ).sum((1, 2, 3))
    rate = 0.5 * (scale**2 + loc**2 - 1 - 2 * scale.log()).sum(1)
    loss = problem.distortion_weight * distortion + problem.rate_weight * rate
    return loss.mean(), latents

  def wrap(function):
    if kind.endswith('bfloat16'):
      function = torch.autocast('cpu', torch.bfloat16)(function)
    return function if kind == 'eager' else torch.compile(function)

  elbo = wrap(elbo)

  def step(*batch):
    optimizer.zero_grad()
    loss, _ = elbo(*batch)
    loss.backward()
    optimizer.step()
    return loss.detach()

  if not own:
    return looped(step, batches(problem, model))
  own_optimizer = adam(
    own.parameters(), settings['discriminator_learning_rate'], (0.5, 0.9)
  )
  frozen = {name: value.detach() for name, value in own.named_parameters()}

  @wrap
  def factor(*batch):
    """Returns FactorVAE's loss, whose gradient passes the discriminator by."""
    loss, latents = elbo(*batch)
    real = torch.func.functional_call(own, frozen, latents).float()
    total_correlation = (real[:, 0] - real[:, 1]).mean()
    return loss + settings['gamma'] * total_correlation, latents.detach()

  @wrap
  def adversary(latents, draws):
    permuted = latents.gather(0, draws.argsort(0))
    logits = own(torch.cat([latents, permuted])).float()
    real, permuted = logits.chunk(2)
    real, permuted = F.log_softmax(real, 1), F.log_softmax(permuted, 1)
    return -0.5 * (real[:, 0] + permuted[:, 1]).mean()

  def factor_step(*batch):
    optimizer.zero_grad()
    own_optimizer.zero_grad()
    loss, latents = factor(*batch)
    loss.backward()
    draws = batch[3] if problem.recorded else torch.rand_like(latents)
    adversary(latents, draws).backward()
    optimizer.step()
    own_optimizer.step()
    return loss.detach()

  return looped(factor_step, batches(problem, model))
