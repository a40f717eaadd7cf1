"""Terms that objectives are made of, per image, in nats.

Words (Alemi et al. 2018, https://arxiv.org/abs/1711.00464): for an image x,

    rate       = KL(q(z|x) || p(z)),             summed over latents
    distortion = -E_q(z|x)[log p(x|z)],          summed over pixels
    elbo       = -(distortion + rate) <= log p(x)

`elbo` has beta = 1 and its true sign, whatever was trained. What is minimised
is called the loss, and has one mean over the batch, taken last.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf
import tensorflow_probability as tfp

from vae import distributions, errors, models, randomness, replicas

tfd = tfp.distributions

REDUCTIONS = ('mean', 'sum')
KL_METHODS = ('exact', 'monte_carlo')

Function = TypeVar('Function', bound=Callable)

# The attribute of an objective that holds its traits.
_TRAITS = 'traits'


class Terms(NamedTuple):
  """Per-image terms in nats, each of shape [B]."""

  rate: tf.Tensor
  distortion: tf.Tensor

  @property
  def elbo(self) -> tf.Tensor:
    """The evidence lower bound in nats, [B]: beta = 1, true sign.

    Raises:
      ValueError: shapes that differ; [B] and [B, 1] would broadcast to [B, B].
    """
    self.check_shapes()
    return -(self.distortion + self.rate)

  def check_shapes(self) -> None:
    """Checks that both terms are [B].

    Raises:
      ValueError: they are not.
    """
    self.rate.shape.assert_has_rank(1)
    self.rate.shape.assert_is_compatible_with(self.distortion.shape)


class Batch(NamedTuple):
  """All that an objective may look at, beside the model.

  Attributes:
    images: float32 [B, H, W, C], values in the likelihood's range.
    key: of this step's noise, from `randomness.key`.
    step: counted from 1, int64 []; what a schedule is a function of.
    num_examples: N, the number of training examples.
  """

  images: tf.Tensor
  key: tf.Tensor
  step: tf.Tensor
  num_examples: int


class Loss(NamedTuple):
  """The loss that an objective returns.

  Attributes:
    value: a scalar; the model's variables minimise it.
    terms: the elbo's two terms, nats per image, whatever `value` is made of.
    measured: other scalars by name, which ends with their unit, such as
      `total_correlation_nats`; they are logged to terms.csv.
    adversary: a scalar; the objective's own variables minimise it. None where
      it has none.
  """

  value: tf.Tensor
  terms: Terms
  measured: Mapping[str, tf.Tensor] = types.MappingProxyType({})
  adversary: tf.Tensor | None = None


class Traits(NamedTuple):
  """The traits of an objective, for those who check, name and draw its runs.

  Attributes:
    rate_weight: what weighs the rate against the distortion in the loss:
      'beta', under the objective's reduction, so that there is an effective
      beta; 'one', as in a bound on log p(x); 'other', which no number tells.
    needs: what the model must have: 'rate' (a posterior with noise, and a
      distortion in nats), 'density' (log p(x|z) is that of the targets),
      'marginals' (of the posterior, one for each latent), or 'code' (a
      posterior without noise).
    multiples: of weights that may be left out: how many times which other
      weight each then is.
  """

  rate_weight: str = 'other'
  needs: tuple[str, ...] = ()
  multiples: Mapping[str, tuple[float, str]] = types.MappingProxyType({})


def objective(**traits: Any) -> Callable[[Function], Function]:
  """Returns a decorator that gives an objective its `Traits`."""

  def mark(function: Function) -> Function:
    setattr(function, _TRAITS, Traits(**traits))
    return function

  return mark


def traits_of(objective: Callable) -> Traits:
  """Returns the traits of an objective; the defaults where it names none."""
  return getattr(objective, _TRAITS, Traits())


class Sampled(NamedTuple):
  """A model's distributions at some images, and samples of the posterior.

  Attributes:
    posterior: q(z|x), batch [B], event [L].
    latents: drawn from it, [S, B, L].
    distortions: -log p(x|z) of each sample, nats, [S, B].
  """

  posterior: tfd.Distribution
  latents: tf.Tensor
  distortions: tf.Tensor


def encode(
  model: models.VAE, images: tf.Tensor, key: tf.Tensor, *, is_training: bool
) -> tfd.Distribution:
  """Returns q(z|x); in training with the noise of the encoder's layers.

  Args:
    model: the VAE.
    images: [B, H, W, C].
    key: of the posterior's noise, from which that of the layers follows.
    is_training: whether layers such as dropout draw noise.
  """
  if not is_training:
    return model.encode(images)
  dropout = randomness.repurposed(key, randomness.Purpose.DROPOUT)
  return model.encode(images, dropout)


def sample(
  model: models.VAE,
  images: tf.Tensor,
  key: tf.Tensor,
  num_samples: int = 1,
  *,
  is_training: bool,
) -> Sampled:
  """Encodes images, draws latents and decodes them.

  Args:
    model: the VAE.
    images: [B, H, W, C], values in the likelihood's range.
    key: of the posterior's noise, from `randomness.key`.
    num_samples: S, posterior samples for each image.
    is_training: whether layers such as dropout draw noise, and a likelihood
      may be fitted to the images.
  """
  posterior = encode(model, images, key, is_training=is_training)
  latents = distributions.sample(posterior, num_samples, key)
  values = distortions(model, images, latents, is_training=is_training)
  return Sampled(posterior, latents, values)


def distortions(
  model: models.VAE,
  images: tf.Tensor,
  latents: tf.Tensor,
  *,
  is_training: bool = True,
) -> tf.Tensor:
  """Returns -log p(x|z) of each latent in nats, [S, B].

  Args:
    model: the VAE.
    images: [B, H, W, C], values in the likelihood's range.
    latents: [S, B, L].
    is_training: whether a likelihood may be fitted to the images.
  """
  images, latents = replicas.part(images), replicas.part(latents, axis=1)
  likelihood = model.decode(latents, *([images] if is_training else []))
  return replicas.gathered(-likelihood.log_prob(images), axis=1)


def rate(
  model: models.VAE,
  posterior: tfd.Distribution,
  latents: tf.Tensor,
  kl: str = 'exact',
) -> tf.Tensor:
  """Returns KL(q(z|x) || p(z)) of each image in nats, [B].

  Args:
    model: the VAE.
    posterior: q(z|x), batch [B].
    latents: samples of it, [S, B, L].
    kl: 'exact' for the closed form, 'monte_carlo' for the mean of
      log q(z|x) - log p(z) over the samples.

  Raises:
    ValueError: a method that does not exist.
    PartError: 'exact' where no closed form is known.
  """
  if kl == 'exact':
    if not has_closed_form(posterior, model.prior):
      raise errors.PartError(
        f'no closed form of the KL from {type(posterior).__name__} to '
        f'{type(model.prior).__name__} is known; kl=monte_carlo estimates it'
      )
    return tfd.kl_divergence(posterior, model.prior)
  if kl == 'monte_carlo':
    log_ratio = posterior.log_prob(latents) - model.prior.log_prob(latents)
    return tf.reduce_mean(log_ratio, axis=0)
  raise ValueError(f'kl must be one of {KL_METHODS}, got {kl!r}')


def has_closed_form(
  posterior: tfd.Distribution, prior: tfd.Distribution
) -> bool:
  """Returns whether the 'exact' rate between two families is known."""
  try:
    tfd.kl_divergence(posterior, prior)
  except NotImplementedError:
    return False
  return True


def divisors(
  reduction: str, num_values: int, latent_size: int
) -> tuple[int, int]:
  """Returns what a reduction divides the distortion and the rate by.

  Args:
    reduction: 'mean', over the values of an image and over the latents, or
      'sum', which leaves both in nats.
    num_values: H W C, the number of values in an image.
    latent_size: L.

  Raises:
    ValueError: a reduction that does not exist.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction}')
  return (num_values, latent_size) if reduction == 'mean' else (1, 1)


def effective_beta(
  beta: float, reduction: str, num_values: int, latent_size: int
) -> float:
  """Returns the weight of the rate against the distortion, both in nats.

  Under `mean` the loss divides the distortion by `num_values` and the rate by
  `latent_size`; multiplied by `num_values` it is
  `distortion + beta (num_values / latent_size) rate`. (The inverse of the
  normalised beta of Higgins et al. 2017, section 3.)

  Args:
    beta: the launcher's beta.
    reduction: 'mean' or 'sum'.
    num_values: H W C, the number of values in an image.
    latent_size: L.

  Raises:
    ValueError: a reduction that does not exist.
  """
  values, latents = divisors(reduction, num_values, latent_size)
  return beta * values / latents


# -- The aggregate posterior, from a batch ------------------------------------


class BatchEstimate(NamedTuple):
  """Parts of the rate, as a batch estimates them: scalars in nats.

  The mean rate is I(x; z) + TC + sum_l KL(q(z_l) || p(z_l)) (Chen et al. 2018,
  https://arxiv.org/abs/1802.04942, equation 2).

  Attributes:
    mutual_information: between images and latents.
    total_correlation: KL(q(z) || prod_l q(z_l)).
  """

  mutual_information: tf.Tensor
  total_correlation: tf.Tensor


TC_ESTIMATORS = ('weighted', 'stratified')


def decompose(
  posterior: tfd.Distribution,
  latents: tf.Tensor,
  num_examples: int,
  estimator: str = 'weighted',
) -> BatchEstimate:
  """Returns parts of the rate, with a batch's posteriors standing for all N.

  q(z) = mean_n q(z|x_n) is estimated at each latent of the batch by weights W:
  'weighted' has 1 / (N B) for every posterior (Chen et al. 2018, appendix C.1).
  Where the posteriors are alike, its total correlation is (L - 1) log N instead
  of 0, where they are far apart (L - 1) log(N B) instead of (L - 1) log N.
  'stratified' (appendix C.2) has 1 / N for the latent's own posterior, and the
  rest of the weight on the others, one of which stands for itself alone:
  (N - M) / (N M), and the others 1 / M, M = B - 1. (Published code puts these
  weights into the wrong places; here each row adds up to 1.)

  Args:
    posterior: q(z|x), batch [B], whose latents alone are normal.
    latents: one sample of each, [B, L].
    num_examples: N.
    estimator: 'weighted' or 'stratified'.

  Raises:
    ValueError: an estimator that does not exist, or one image.
  """
  if estimator not in TC_ESTIMATORS:
    raise ValueError(
      f'estimator must be one of {TC_ESTIMATORS}, got {estimator!r}'
    )
  if latents.shape[0] == 1:
    raise ValueError('a batch needs two images, got 1')
  # [B, B]: of the latent j under the posterior i; and of each latent alone.
  joint = posterior.log_prob(latents[:, None])
  marginal = tfd.Normal(posterior.mean(), posterior.stddev()).log_prob(
    latents[:, None]
  )
  log_weights = _log_weights(
    latents.shape[0] or tf.shape(latents)[0], num_examples, estimator
  )
  log_q = tf.reduce_logsumexp(joint + log_weights, axis=1)  # [B]
  log_q_each = tf.reduce_logsumexp(
    marginal + log_weights[..., None], axis=1
  )  # [B, L]
  return BatchEstimate(
    tf.reduce_mean(tf.linalg.diag_part(joint) - log_q),
    tf.reduce_mean(log_q - tf.reduce_sum(log_q_each, axis=1)),
  )


def _log_weights(
  count: int | tf.Tensor, num_examples: int, estimator: str
) -> tf.Tensor:
  size, total = tf.cast(count, tf.float32), tf.cast(num_examples, tf.float32)
  own = tf.eye(count)
  if estimator == 'weighted':
    return tf.zeros_like(own) - tf.math.log(total) - tf.math.log(size)
  others = size - 1.0
  one_other = tf.roll(own, 1, axis=1)
  weights = own / total + one_other * (total - others) / (total * others)
  return tf.math.log(weights + (1.0 - own - one_other) / others)


def covariance(posterior: tfd.Distribution, of_samples: bool) -> tf.Tensor:
  """Returns a covariance over the batch, [L, L].

  Args:
    posterior: q(z|x), batch [B].
    of_samples: whether it is that of samples of the posteriors, by the law of
      total covariance; else that of their means.
  """
  means = posterior.mean()  # [B, L]
  centred = means - tf.reduce_mean(means, axis=0)
  found = tf.matmul(centred, centred, transpose_a=True) / tf.cast(
    tf.shape(means)[0], means.dtype
  )
  if not of_samples:
    return found
  if isinstance(posterior, tfd.MultivariateNormalLinearOperator):
    return found + tf.reduce_mean(posterior.covariance(), axis=0)
  return found + tf.linalg.diag(tf.reduce_mean(posterior.variance(), axis=0))


KERNELS = ('gaussian', 'inverse_multiquadratic')


def mmd(first: tf.Tensor, second: tf.Tensor, kernel: str) -> tf.Tensor:
  """Returns the squared maximum mean discrepancy of two samples, unbiased.

  Gretton et al. 2012 (https://jmlr.org/papers/v13/gretton12a.html), equation 3:
  without the diagonals, so that it may be negative. The kernels, with the
  squared distance d^2 and L dimensions, are

      gaussian:                exp(-d^2 / (2 L))
      inverse_multiquadratic:  2 L / (2 L + d^2)

  the second of Tolstikhin et al. 2018 (https://arxiv.org/abs/1711.01558).

  Args:
    first: [B, L], B at least 2.
    second: [B, L].
    kernel: one of `KERNELS`.

  Raises:
    ValueError: a kernel that does not exist.
  """
  if kernel not in KERNELS:
    raise ValueError(f'kernel must be one of {KERNELS}, got {kernel!r}')
  scale = 2.0 * first.shape[-1]

  def similar(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    distances = tf.reduce_sum(
      tf.math.squared_difference(a[:, None], b[None]), axis=-1
    )
    if kernel == 'gaussian':
      return tf.exp(-distances / scale)
    return scale / (scale + distances)

  count = tf.cast(tf.shape(first)[0], first.dtype)
  within = similar(first, first) + similar(second, second)
  within = tf.reduce_sum(within) - tf.linalg.trace(within)
  across = 2.0 * tf.reduce_mean(similar(first, second))
  return within / (count * (count - 1.0)) - across


# -- Importance weights -------------------------------------------------------


def log_weights(
  model: models.VAE,
  posterior: tfd.Distribution,
  latents: tf.Tensor,
  distortions: tf.Tensor,
) -> tf.Tensor:
  """Log-weights log p(x|z) + log p(z) - log q(z|x) of each sample, [S, B].

  Args:
    model: the VAE.
    posterior: q(z|x), batch [B].
    latents: [S, B, L].
    distortions: -log p(x|z), [S, B].
  """
  prior_to_posterior = model.prior.log_prob(latents) - posterior.log_prob(
    latents
  )
  prior_to_posterior.shape.assert_is_compatible_with(distortions.shape)
  return prior_to_posterior - distortions


def importance_weighted_bound(log_weights: tf.Tensor) -> tf.Tensor:
  """Returns the bound of Burda et al. 2015, arXiv:1509.00519, equation 8.

  log (1/S) sum_s w_s: the elbo in expectation at S = 1, never less with more
  samples, and log p(x) in the limit.

  Args:
    log_weights: [S, B], nats.

  Returns:
    [B], nats.
  """
  log_weights.shape.assert_has_rank(2)
  num_samples = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
  return tf.reduce_logsumexp(log_weights, axis=0) - tf.math.log(num_samples)
