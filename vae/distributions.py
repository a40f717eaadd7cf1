"""From the outputs of networks to posteriors, priors and likelihoods.

A *family* turns a tensor of unconstrained parameters into a distribution of
TensorFlow Probability and says how many parameters it needs. It has no
variables: those belong to the networks.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from vae import randomness

tfd = tfp.distributions

# Smallest posterior scale. A scale of zero makes the KL infinite; at this
# floor one latent costs at most 13.3 nats more than at scale one.
SCALE_FLOOR = 1e-6

SCALES: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
  'square': tf.square,
  'softplus': tf.nn.softplus,
  'exp': tf.exp,
}


class NormalPosterior:
  """q(z|x) = N(loc, diag(scale**2)) as `Independent(Normal)`, event [L].

  `scale = f(raw) + SCALE_FLOOR`, where f is the square, softplus or exp.

  Attributes:
    latent_size: L, the number of latents.
    parameter_shape: the shape of one image's parameters, [2 L].
  """

  def __init__(self, latent_size: int, scale: str = 'softplus'):
    """Initializes the family.

    Args:
      latent_size: L, at least 1.
      scale: 'square', 'softplus' or 'exp'.

    Raises:
      ValueError: `latent_size` below 1, or a `scale` that does not exist.
    """
    if latent_size < 1:
      raise ValueError(f'latent_size must be at least 1, got {latent_size}')
    if scale not in SCALES:
      raise ValueError(f'scale must be one of {sorted(SCALES)}, got {scale!r}')
    self.latent_size = latent_size
    self.parameter_shape = (2 * latent_size,)
    self._scale = SCALES[scale]

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps parameters [..., 2 L] to a distribution over [L]."""
    loc, raw_scale = tf.split(parameters, 2, axis=-1)
    scale = self._scale(raw_scale) + SCALE_FLOOR
    return tfd.Independent(tfd.Normal(loc, scale), 1)


# Factors that one logarithm may serve. Each lies in (1, 2], so that their
# product stays far below float32's largest number, 2**128.
_MOST_FACTORS = 100


def _sum_of_softplus(logits: tf.Tensor) -> tf.Tensor:
  """The sum of log(1 + exp(l)) over the last axis, with few logarithms.

  log(1 + exp(l)) = max(l, 0) + log(1 + exp(-|l|)), and a sum of logarithms is
  the logarithm of a product. The logarithms are most of the cost of a Bernoulli
  log-likelihood.
  """
  size = logits.shape[-1]
  factors = next(n for n in range(_MOST_FACTORS, 0, -1) if size % n == 0)
  shape = tf.concat([tf.shape(logits)[:-1], [size // factors, factors]], axis=0)
  products = tf.reduce_prod(
    tf.reshape(1.0 + tf.exp(-tf.abs(logits)), shape), axis=-1
  )
  return tf.reduce_sum(tf.nn.relu(logits), axis=-1) + tf.reduce_sum(
    tf.math.log(products), axis=-1
  )


def _bernoulli_log_prob(logits: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
  """Sums over the last axis of `values * logits - softplus(logits)`."""

  # The derivative is known; that of a product would be long.
  @tf.custom_gradient
  def negative_log_partition(logits):
    return -_sum_of_softplus(
      logits
    ), lambda upstream: -upstream[..., None] * tf.nn.sigmoid(logits)

  return tf.reduce_sum(values * logits, axis=-1) + negative_log_partition(
    logits
  )


class _IndependentBernoulli(tfd.Independent):
  """`tfd.Independent(tfd.Bernoulli)` with a fast log_prob."""

  def _log_prob(self, event):
    logits = self.distribution.logits
    rank = self.event_shape.rank
    size = math.prod(self.event_shape)

    def flat(tensor):
      leading = tf.shape(tensor)[: tensor.shape.rank - rank]
      return tf.reshape(tensor, tf.concat([leading, [size]], axis=0))

    return _bernoulli_log_prob(flat(logits), flat(tf.cast(event, logits.dtype)))


class BernoulliLikelihood:
  """p(x|z) with one Bernoulli per value, event of the data's shape.

  Values strictly between 0 and 1 (grey pixels) are allowed: `log_prob` is then
  the negative cross-entropy, which bounds the expected log-likelihood of the
  image's random binarisation; it is no log-density of the grey image itself.

  Attributes:
    data_shape: the shape of one example, [H, W, C] for images.
    parameter_shape: the shape of one example's parameters, the same.
  """

  def __init__(self, data_shape: Sequence[int]):
    """Initializes the family.

    Args:
      data_shape: the shape of one example, [H, W, C] for images.
    """
    self.data_shape = tuple(data_shape)
    self.parameter_shape = self.data_shape

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps logits [..., H, W, C] to a distribution over [H, W, C]."""
    return _IndependentBernoulli(
      tfd.Bernoulli(logits=parameters, dtype=tf.float32),
      len(self.data_shape),
    )


def standard_normal(latent_size: int) -> tfd.Distribution:
  """p(z) = N(0, I), event [L], with a closed-form KL to `NormalPosterior`."""
  return tfd.Independent(
    tfd.Normal(tf.zeros([latent_size]), tf.ones([latent_size])), 1
  )


def sample(
  distribution: tfd.Distribution, num_samples: int, key: tf.Tensor
) -> tf.Tensor:
  """Draws reparameterized samples with the project's own random numbers.

  Args:
    distribution: batch shape [...], event shape [L].
    num_samples: S, the number of draws for each member of the batch.
    key: from `randomness.key`.

  Returns:
    Samples of shape [S, ..., L], differentiable in the parameters.
  """
  if isinstance(distribution, tfd.Independent) and isinstance(
    distribution.distribution, tfd.Normal
  ):
    # z = loc + scale * epsilon (Kingma & Welling 2013, section 2.4).
    shape = tf.concat(
      [
        [num_samples],
        distribution.batch_shape_tensor(),
        distribution.event_shape_tensor(),
      ],
      axis=0,
    )
    if distribution.batch_shape.is_fully_defined():
      shape = [
        num_samples,
        *distribution.batch_shape,
        *distribution.event_shape,
      ]
    normal = distribution.distribution
    return normal.loc + normal.scale * randomness.normal(key, shape)
  return distribution.sample(num_samples, seed=tf.cast(key, tf.int32))
