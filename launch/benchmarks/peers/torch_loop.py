"""PyTorch, eager and compiled."""

import itertools
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from launch.benchmarks import contest


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


NETWORKS = {'mlp': MLP, 'strided_conv': StridedConv, 'pooled_conv': PooledConv}


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


def copy_weights(model, problem):
  """Gives layers the values of the problem, in PyTorch's layouts."""
  order = channels_first(model)
  for modules, layers in (
    ([*model.encoder, model.head], problem.encoder),
    (model.decoder, problem.decoder),
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
    uniform = problem.recorded.dropout[index]
    if problem.settings['dropout']:
      uniform = uniform[:, channels_first(model)]
    noise = problem.recorded.noise[index]
    yield batch, torch.from_numpy(noise), torch.from_numpy(uniform)


def load(problem, kind):
  torch.set_num_threads(contest.threads())
  settings = problem.settings
  model = NETWORKS[settings['network']](settings['latent_size'])
  copy_weights(model, problem)
  # Faster than the default layout for convolutions on CPUs.
  model.to(memory_format=torch.channels_last)
  optimizer = torch.optim.Adam(
    model.parameters(), settings['learning_rate'], fused=True
  )

  def loss_of(images, noise=None, uniform=None):
    features = drop(model.encoder(images), settings['dropout'], uniform)
    loc, raw = model.head(features).chunk(2, dim=1)
    scale = model.scale(raw) + 1e-6
    noise = torch.randn_like(loc) if noise is None else noise
    logits = model.decoder(loc + scale * noise)
    distortion = F.binary_cross_entropy_with_logits(
      logits, images, reduction='none'
    ).sum((1, 2, 3))
    rate = 0.5 * (scale**2 + loc**2 - 1 - 2 * scale.log()).sum(1)
    return (
      problem.distortion_weight * distortion + problem.rate_weight * rate
    ).mean()

  if kind == 'compiled':
    loss_of = torch.compile(loss_of)

  def step(*batch):
    optimizer.zero_grad()
    loss = loss_of(*batch)
    loss.backward()
    optimizer.step()
    return loss.detach()

  data = batches(problem, model)
  return lambda steps: [step(*b) for b in itertools.islice(data, steps)]


if __name__ == '__main__':
  contest.serve(
    lambda problem: load(problem, sys.argv[1]), f'torch {torch.__version__}'
  )
