"""Likelihoods p(x|z): families that turn a decoder's output into one.

A family is called with parameters [..., *parameter_shape], and gives a
distribution over [*data_shape], the shape of one example, [H, W, C] for images.
Each public class here is a value of `--likelihood`: its name in snake_case.

What a family is, its attributes say: `density_of`, the targets whose density
its `log_prob` is: 'binary' (of grey ones it is a cross-entropy), 'grey', 'any'
(also where nothing is said), or None, where it is no density and not in nats;
`support`, the smallest and the largest value that it may be asked about;
`takes_logits`, whether its parameters are those of probabilities;
`is_bounded`, whether its log-density at a point has an upper bound.
"""

import math
from collections.abc import Callable, Sequence

import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from vae import distributions, replicas

tfd = tfp.distributions

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


class Bernoulli:
  """p(x|z) with one Bernoulli per value, event of the data's shape.

  Values strictly between 0 and 1 (grey pixels) are allowed: `log_prob` is then
  the negative cross-entropy, which bounds the expected log-likelihood of the
  image's random binarisation; it is no log-density of the grey image itself.
  """

  density_of: str | None = 'binary'
  support = (0.0, 1.0)
  takes_logits = True
  is_bounded = True

  def __init__(self, data_shape: Sequence[int]):
    """Initializes the family."""
    self.data_shape = tuple(data_shape)
    self.parameter_shape = self.data_shape

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps logits [..., H, W, C] to a distribution over [H, W, C]."""
    return _IndependentBernoulli(
      tfd.Bernoulli(logits=parameters, dtype=tf.float32),
      len(self.data_shape),
    )


class ContinuousBernoulli(Bernoulli):
  """p(x|z) with one continuous Bernoulli per value: a density on [0, 1].

  Loaiza-Ganem & Cunningham 2019 (https://arxiv.org/abs/1907.06845): the
  Bernoulli's cross-entropy, normalised, which makes it right for grey pixels.
  """

  density_of = 'grey'
  is_bounded = False

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps logits [..., H, W, C] to a distribution over [H, W, C]."""
    return tfd.Independent(
      tfd.ContinuousBernoulli(logits=parameters), len(self.data_shape)
    )


class Normal(snt.Module):
  """p(x|z) = N(loc, scale**2) per value, event of the data's shape.

  The scale is a fixed number; one learned number for all values ('global');
  one per value from the decoder ('per_output'); or 'optimal': in training that
  which maximises the likelihood of the batch, the root of its mean squared
  error (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202), kept for
  evaluation as it was at the last training step.

  Attributes:
    scale: the scale of all values, a scalar; None for 'per_output'.
  """

  density_of = 'any'

  def __init__(
    self,
    data_shape: Sequence[int],
    likelihood_scale: float | str = 1.0,
    output_activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    name: str | None = None,
  ):
    """Initializes the family.

    Args:
      data_shape: the shape of one example, [H, W, C] for images.
      likelihood_scale: a number above 0, 'global', 'per_output' or 'optimal'.
      output_activation: of the loc.
      name: name of the module.

    Raises:
      ValueError: a scale that is none of these.
    """
    super().__init__(name=name)
    self.data_shape = tuple(data_shape)
    self.parameter_shape = self.data_shape
    self._activation = output_activation
    self._kind = likelihood_scale
    self._variable: tf.Variable | None = None
    if likelihood_scale == 'per_output':
      self.parameter_shape = (*self.data_shape[:-1], 2 * self.data_shape[-1])
    elif likelihood_scale == 'global':
      self._variable = tf.Variable(0.0, name='log_scale')
    elif likelihood_scale == 'optimal':
      self._variable = tf.Variable(1.0, trainable=False, name='optimal_scale')
    elif isinstance(likelihood_scale, str) or not likelihood_scale > 0.0:
      raise ValueError(
        "likelihood_scale must be a number above 0, 'global', 'per_output' or "
        f"'optimal', got {likelihood_scale!r}"
      )

  @property
  def is_bounded(self) -> bool:
    """Says whether no scale may shrink."""
    return not isinstance(self._kind, str)

  @property
  def scale(self) -> tf.Tensor | None:
    if self._kind == 'per_output':
      return None
    if self._variable is None:
      return tf.constant(self._kind, tf.float32)
    if self._kind == 'global':
      return tf.exp(self._variable) + distributions.SCALE_FLOOR
    return tf.convert_to_tensor(self._variable)

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps parameters [..., *parameter_shape] to a distribution."""
    scale = self.scale
    if self._kind == 'per_output':
      parameters, raw_scale = tf.split(parameters, 2, axis=-1)
      scale = tf.nn.softplus(raw_scale) + distributions.SCALE_FLOOR
    normal = tfd.Normal(self._activation(parameters), scale)
    return tfd.Independent(normal, len(self.data_shape))

  def fit(
    self, distribution: tfd.Distribution, images: tf.Tensor
  ) -> tfd.Distribution:
    """Returns a distribution with the scale that explains images best.

    Under 'optimal', which keeps that scale; else the distribution as it is.

    Args:
      distribution: made by this family.
      images: [B, *data_shape].
    """
    if self._kind != 'optimal' or self._variable is None:
      return distribution
    loc = distribution.distribution.loc
    errors = tf.math.squared_difference(images, loc)
    [variance] = replicas.averaged([tf.reduce_mean(errors)])
    scale = tf.sqrt(variance) + distributions.SCALE_FLOOR
    self._variable.assign(tf.stop_gradient(scale))
    return tfd.Independent(tfd.Normal(loc, scale), len(self.data_shape))


class SquaredError:
  """Squared error in place of a likelihood, for plain autoencoders.

  `log_prob` is minus the sum of squared errors: no density, and not nats.
  """

  density_of = None

  def __init__(
    self,
    data_shape: Sequence[int],
    output_activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
  ):
    """Initializes the family, of outputs that pass through an activation."""
    self.data_shape = tuple(data_shape)
    self.parameter_shape = self.data_shape
    self._activation = output_activation

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps outputs [..., H, W, C] to what stands for a distribution."""
    return _SquaredError(
      tfd.Normal(self._activation(parameters), 1.0), len(self.data_shape)
    )


class _SquaredError(tfd.Independent):
  def _log_prob(self, event):
    axes = list(range(-self.event_shape.rank, 0))
    loc = self.distribution.loc
    return -tf.reduce_sum(tf.math.squared_difference(event, loc), axes)
