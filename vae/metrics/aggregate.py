"""The rate taken apart by the aggregate posterior of a split.

With q(z) = (1/N) sum_j q(z|x_j) over N images of a split (Hoffman & Johnson
2016; Chen et al. 2018, https://arxiv.org/abs/1802.04942, equation 2),

    rate = I(x; z)                          mutual information
         + KL(q(z) || p(z))                 marginal KL

and, under a prior whose latents are independent,

    KL(q(z) || p(z)) = KL(q(z) || prod_u q(z_u))        total correlation
                     + sum_u KL(q(z_u) || p(z_u))       dimension-wise KL
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from vae import compilation, distributions, models, randomness
from vae.data import batches
from vae.metrics import evaluation

tfd = tfp.distributions

# The cost grows with the square of the number of images, so that of a larger
# split a fixed choice of them, which no run's seed changes, is taken apart.
MOST_IMAGES = 5000

# Log-densities of one latent under one posterior that are held at once.
_MOST_DENSITIES = 2**24


class Decomposition(NamedTuple):
  """The parts of the rate, in nats per image.

  The mixture over the posteriors is exact; only z is sampled, once for each
  image. Errors are those of these samples: q(z) is that of the N images, not of
  all that there might be, and the mutual information is that between z and
  which of them it came from, which cannot exceed log N.

  Attributes:
    num_images: N.
    mutual_information: I(x; z), at most log N.
    marginal_kl: KL(q(z) || p(z)).
    total_correlation: KL(q(z) || prod_u q(z_u)).
    dimension_wise_kl: sum_u KL(q(z_u) || p(z_u)); None under a prior whose
      latents are not independent, where it and the total correlation do not add
      up to the marginal KL.
  """

  num_images: int
  mutual_information: evaluation.Estimate
  marginal_kl: evaluation.Estimate
  total_correlation: evaluation.Estimate
  dimension_wise_kl: evaluation.Estimate | None


def choose(num_images: int) -> np.ndarray:
  """Returns which images of a split are taken apart, increasing [n].

  Args:
    num_images: of the split. Of at most `MOST_IMAGES`, all are.
  """
  return evaluation.choose(
    num_images, MOST_IMAGES, randomness.Purpose.EVALUATION_AGGREGATE
  )


def has_independent_latents(prior: tfd.Distribution) -> bool:
  """Returns whether p(z) is known to be the product of its marginals."""
  return (
    isinstance(prior, tfd.Independent)
    and prior.distribution.event_shape.rank == 0
  )


def aggregate_posterior(
  model: models.VAE, images: batches.Examples, binarize: str, seed: int
) -> tfd.Distribution:
  """Returns the posteriors of a split's images as one batch [N], event [L]."""
  parts = []
  for count, _, floats, _ in evaluation.fixed_batches(images, binarize, seed):
    posterior = model.encode(floats)
    parts.append(
      tf.nest.map_structure(
        lambda tensor, count=count: tensor[:count],
        posterior,
        expand_composites=True,
      )
    )
  return tf.nest.map_structure(
    lambda *tensors: tf.concat(tensors, axis=0), *parts, expand_composites=True
  )


def decompose(
  posterior: tfd.Distribution,
  prior: tfd.Distribution,
  seed: int,
  progress: Callable[[int], None] = lambda num_images: None,
) -> Decomposition:
  """Takes the rate of a split apart.

  Args:
    posterior: batch [N], event [L], with normal marginals.
    prior: event [L].
    seed: the run's seed.
    progress: is told how many images are done.

  Raises:
    ValueError: fewer than two images.
  """
  num_images, latent_size = posterior.batch_shape[0], posterior.event_shape[0]
  if num_images < 2:
    raise ValueError(
      f'the rate of {num_images} image cannot be taken apart; at least 2 are '
      'needed'
    )
  key = randomness.key(seed, randomness.Purpose.EVALUATION_AGGREGATE, 0)
  latents = distributions.sample(posterior, 1, key)[0]  # [N, L]
  marginals = tfd.Normal(posterior.mean(), posterior.stddev())  # [N, L]

  def log_densities(chunk):
    """Log q(z) and log prod_u q(z_u) of latents [M, L], each [M]."""
    log_n = tf.math.log(tf.cast(num_images, tf.float32))
    joint = tf.reduce_logsumexp(posterior.log_prob(chunk[:, None]), axis=1)
    each = tf.reduce_logsumexp(marginals.log_prob(chunk[:, None]), axis=1)
    return joint - log_n, tf.reduce_sum(each - log_n, axis=-1)

  program = compilation.compiled(log_densities, jit=True)
  size = max(1, min(num_images, _MOST_DENSITIES // (num_images * latent_size)))
  joints, products = [], []
  for start in range(0, num_images, size):
    chunk = latents[start : start + size]
    missing = size - chunk.shape[0]
    joint, product = program(tf.pad(chunk, [[0, missing], [0, 0]]))
    joints.append(joint.numpy()[: chunk.shape[0]])
    products.append(product.numpy()[: chunk.shape[0]])
    progress(min(start + size, num_images))
  log_joint = np.concatenate(joints).astype('f8')
  log_product = np.concatenate(products).astype('f8')
  log_conditional = posterior.log_prob(latents).numpy().astype('f8')
  log_prior = prior.log_prob(latents).numpy().astype('f8')
  dimension_wise_kl = None
  if has_independent_latents(prior):
    dimension_wise_kl = evaluation.estimate(log_product - log_prior)
  return Decomposition(
    num_images,
    mutual_information=evaluation.estimate(log_conditional - log_joint),
    marginal_kl=evaluation.estimate(log_joint - log_prior),
    total_correlation=evaluation.estimate(log_joint - log_product),
    dimension_wise_kl=dimension_wise_kl,
  )
