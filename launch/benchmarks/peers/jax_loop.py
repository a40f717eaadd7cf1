"""JAX: a compiled step, and many of them in one compiled scan."""

import functools
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

VERSION = f'jax {jax.__version__}'


def mlp(layers, inputs):
  for w, b in layers[:-1]:
    inputs = jax.nn.relu(inputs @ w + b)
  w, b = layers[-1]
  return inputs @ w + b


def loss_of(params, images, noise, weights):
  loc, raw = jnp.split(mlp(params['encoder'], images), 2, axis=-1)
  scale = raw**2 + 1e-6
  logits = mlp(params['decoder'], loc + scale * noise)
  distortion = jnp.sum(jax.nn.softplus(logits) - images * logits, axis=-1)
  rate = 0.5 * jnp.sum(scale**2 + loc**2 - 1 - 2 * jnp.log(scale), axis=-1)
  return jnp.mean(weights[0] * distortion + weights[1] * rate)


def adam(params, grads, m, v, count, learning_rate):
  """Kingma & Ba 2014, algorithm 1."""
  m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
  v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, grads)
  m_scale, v_scale = 1 / (1 - 0.9**count), 1 / (1 - 0.999**count)
  params = jax.tree.map(
    lambda p, m, v: (
      p - learning_rate * m * m_scale / (jnp.sqrt(v * v_scale) + 1e-8)
    ),
    params,
    m,
    v,
  )
  return params, m, v


def load(problem, kind):
  settings = problem.settings
  weights = problem.distortion_weight, problem.rate_weight
  images = jnp.asarray(problem.float_images().reshape(len(problem.images), -1))
  latents = settings['latent_size']
  recorded = None
  if problem.recorded:
    recorded = jnp.asarray(problem.recorded.noise)
  params = {'encoder': problem.encoder, 'decoder': problem.decoder}
  params = jax.tree.map(jnp.asarray, params)
  zeros = jax.tree.map(jnp.zeros_like, params)
  key = jax.random.key(settings['seed'])

  def step(images, state, rows):
    params, m, v, count = state
    if recorded is None:
      noise = jax.random.normal(
        jax.random.fold_in(key, count), (len(rows), latents)
      )
    else:
      noise = recorded[count]
    loss, grads = jax.value_and_grad(loss_of)(
      params, images[rows], noise, weights
    )
    count += 1
    updated = adam(params, grads, m, v, count, settings['learning_rate'])
    return (*updated, count), loss

  state = (params, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros([], int))
  batches = problem.batches()

  if kind == 'jit':
    compiled = jax.jit(functools.partial(step, images), donate_argnums=0)

    def run(steps):
      nonlocal state
      losses = []
      for rows in itertools.islice(batches, steps):
        state, loss = compiled(state, rows)
        losses.append(loss)
      return jax.block_until_ready(losses)
  else:
    compiled = jax.jit(
      lambda images, state, rows: jax.lax.scan(
        functools.partial(step, images), state, rows
      ),
      donate_argnums=1,
    )

    def run(steps):
      nonlocal state
      rows = np.stack([*itertools.islice(batches, steps)])
      state, losses = compiled(images, state, rows)
      return jax.block_until_ready(losses)

  return run
