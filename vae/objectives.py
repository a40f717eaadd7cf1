"""Objectives: what training minimises.

Each public function or `snt.Module` here is a value of `--objective`. It is
called with the model, a `terms.Batch` and the weights that it names, such as
beta, which come with every step, and returns a `terms.Loss`. A function takes
any other setting of `launch.settings.config` by keyword alone; a module takes
settings when it is made.

A module may own variables, whose initial values `w_init` draws. They minimise
the loss's `adversary`, by the optimizer that its method `make_optimizer`
returns.

Where an objective takes `reduction`, its loss is under it; else it is in nats.
What more there is to know of it, `@terms.objective` says.
"""

import math
from collections.abc import Sequence

import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from vae import (
  distributions,
  errors,
  models,
  networks,
  randomness,
  replicas,
  terms,
)

tfd = tfp.distributions


@terms.objective(rate_weight='beta', needs=('rate',))
def elbo(
  model: models.VAE,
  batch: terms.Batch,
  beta: tf.Tensor,
  *,
  reduction: str = 'sum',
  num_samples: int = 1,
  kl: str = 'exact',
  kl_samples: int = 0,
) -> terms.Loss:
  """The elbo with beta on its rate (Higgins et al. 2017, equation 4).

  https://openreview.net/forum?id=Sy2fzU9gl. Minimised is the batch mean of

      sum:  distortion + beta rate                                  (nats)
      mean: distortion / (H W C) + beta rate / L

  At beta = 1 under `sum` this is the mean of `-elbo`.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], and the key of their noise.
    beta: weight of the rate, a scalar.
    reduction: 'mean' or 'sum'.
    num_samples: S, posterior samples per image.
    kl: 'exact' or 'monte_carlo'.
    kl_samples: samples of their own for the Monte Carlo rate; 0 for those of
      the distortion.
  """
  sampled = terms.sample(
    model, batch.images, batch.key, num_samples, is_training=True
  )
  latents = sampled.latents
  if kl == 'monte_carlo' and kl_samples:
    own = randomness.fold(batch.key, 1)
    latents = distributions.sample(sampled.posterior, kl_samples, own)
  rate = terms.rate(model, sampled.posterior, latents, kl)
  distortion = tf.reduce_mean(sampled.distortions, axis=0)
  values, size = terms.divisors(
    reduction, math.prod(batch.images.shape[1:]), model.prior.event_shape[0]
  )
  loss = tf.reduce_mean(distortion / values + beta * (rate / size))
  return terms.Loss(loss, terms.Terms(rate, distortion))


@terms.objective(needs=('code',))
def reconstruction(
  model: models.VAE, batch: terms.Batch, *, reduction: str = 'mean'
) -> terms.Loss:
  """The distortion alone, as a plain autoencoder is trained.

  The rate, which does not exist, is zero in the terms.

  Args:
    model: the VAE, whose posterior may be deterministic.
    batch: images [B, H, W, C], and the key of their noise, where there is any.
    reduction: 'mean' over the values of an image, or their 'sum'.
  """
  sampled = terms.sample(model, batch.images, batch.key, is_training=True)
  distortion = sampled.distortions[0]
  values, _ = terms.divisors(reduction, math.prod(batch.images.shape[1:]), 1)
  loss = tf.reduce_mean(distortion / values)
  return terms.Loss(loss, terms.Terms(tf.zeros_like(distortion), distortion))


def _monte_carlo_terms(
  model: models.VAE, sampled: terms.Sampled
) -> terms.Terms:
  rate = terms.rate(model, sampled.posterior, sampled.latents, 'monte_carlo')
  return terms.Terms(rate, tf.reduce_mean(sampled.distortions, axis=0))


@terms.objective(rate_weight='one', needs=('rate', 'density'))
def iwae(
  model: models.VAE, batch: terms.Batch, *, num_samples: int
) -> terms.Loss:
  """Minus the importance-weighted bound (Burda et al. 2015), in nats.

  The terms are those of the elbo, for comparison.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], not grey, or it bounds nothing.
    num_samples: S.
  """
  sampled = terms.sample(
    model, batch.images, batch.key, num_samples, is_training=True
  )
  bound = terms.importance_weighted_bound(terms.log_weights(model, *sampled))
  return terms.Loss(-tf.reduce_mean(bound), _monte_carlo_terms(model, sampled))


@terms.objective(rate_weight='one', needs=('rate', 'density'))
def dreg(
  model: models.VAE, batch: terms.Batch, *, num_samples: int
) -> terms.Loss:
  """`iwae`'s bound with the doubly reparameterized gradient of the encoder.

  Tucker et al. 2018 (https://arxiv.org/abs/1810.04152), equation 8. With the
  normalised weights v_s = w_s / sum_r w_r,

      decoder and prior:  sum_s v_s   d log w_s / d theta
      encoder:            sum_s v_s^2 (d log w_s / d z_s) (d z_s / d phi)

  The same value, and the same expectation as the gradient of `iwae`, with a
  variance for the encoder that does not drown it as S grows.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], not grey, or it bounds nothing.
    num_samples: S.
  """
  posterior = terms.encode(model, batch.images, batch.key, is_training=True)
  latents = distributions.sample(posterior, num_samples, batch.key)
  # The parameters of q count through z alone, not through log q(z|x).
  stopped = tf.nest.map_structure(
    tf.stop_gradient, posterior, expand_composites=True
  )
  leaves = tf.stop_gradient(latents)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(leaves)
    distortions = terms.distortions(model, batch.images, leaves)
    weights = terms.log_weights(model, stopped, leaves, distortions)
    normalised = tf.stop_gradient(tf.nn.softmax(weights, axis=0))
    surrogate = tf.reduce_sum(normalised * weights, axis=0)
  # v_s d log w_s / d z_s
  [by_latents] = replicas.averaged([tape.gradient(surrogate, leaves)])
  through_latents = tf.reduce_sum(
    tf.stop_gradient(normalised[..., None] * by_latents) * latents,
    axis=[0, 2],
  )
  gradient_of = tf.reduce_mean(surrogate + through_latents)
  bound = tf.reduce_mean(terms.importance_weighted_bound(weights))
  # The bound's value, with the gradient of the two sums.
  loss = -tf.stop_gradient(bound - gradient_of) - gradient_of
  sampled = terms.Sampled(posterior, latents, distortions)
  return terms.Loss(loss, _monte_carlo_terms(model, sampled))


# -- What beta-VAEs led to ----------------------------------------------------


def _elbo_terms(
  model: models.VAE, batch: terms.Batch, kl: str
) -> tuple[terms.Sampled, terms.Terms]:
  """One sample of each image's posterior, and the terms that it gives."""
  sampled = terms.sample(model, batch.images, batch.key, is_training=True)
  rate = terms.rate(model, sampled.posterior, sampled.latents, kl)
  return sampled, terms.Terms(rate, sampled.distortions[0])


@terms.objective(needs=('rate',))
def annealed(
  model: models.VAE,
  batch: terms.Batch,
  gamma: tf.Tensor,
  capacity: tf.Tensor,
  *,
  kl: str = 'exact',
) -> terms.Loss:
  """Holds the rate at a capacity that grows (Burgess et al. 2018, equation 8).

  https://arxiv.org/abs/1804.03599. Minimised is, in nats,

      mean distortion + gamma |mean rate - capacity|

  with the absolute value outside of the batch mean, as in the code of
  Locatello et al. 2019. At gamma 1 and capacity 0 it is minus the elbo.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], and the key of their noise.
    gamma: weight of the distance, a scalar.
    capacity: nats, a scalar: what the schedule says of this step.
    kl: 'exact' or 'monte_carlo'.
  """
  _, elbo_terms = _elbo_terms(model, batch, kl)
  distance = tf.abs(tf.reduce_mean(elbo_terms.rate) - capacity)
  loss = tf.reduce_mean(elbo_terms.distortion) + gamma * distance
  return terms.Loss(loss, elbo_terms, {'capacity_nats': capacity})


@terms.objective(needs=('rate', 'marginals'))
def beta_tc(
  model: models.VAE,
  batch: terms.Batch,
  beta: tf.Tensor,
  *,
  kl: str = 'exact',
  tc_estimator: str = 'weighted',
) -> terms.Loss:
  """beta-TCVAE: the elbo with beta on the total correlation of q(z).

  Chen et al. 2018 (https://arxiv.org/abs/1802.04942), equation 4 with
  alpha = gamma = 1. Minimised is, in nats,

      mean (distortion + rate) + (beta - 1) TC,
      TC = KL(q(z) || prod_l q(z_l))

  with TC from the batch, as `terms.decompose` estimates it; with minibatch
  weights it lies above the truth by up to (L - 1) log N, a constant.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], the key of their noise, and N.
    beta: weight of the total correlation, a scalar.
    kl: 'exact' or 'monte_carlo'.
    tc_estimator: 'weighted' or 'stratified'.
  """
  sampled, elbo_terms = _elbo_terms(model, batch, kl)
  parts = terms.decompose(
    sampled.posterior, sampled.latents[0], batch.num_examples, tc_estimator
  )
  loss = -tf.reduce_mean(elbo_terms.elbo)
  loss += (beta - 1.0) * parts.total_correlation
  measured = {
    'total_correlation_nats': parts.total_correlation,
    'mutual_information_nats': parts.mutual_information,
  }
  return terms.Loss(loss, elbo_terms, measured)


# How many times the weight off it that of the diagonal is, by default.
_DIAGONAL_I, _DIAGONAL_II = 10.0, 1.0


def _dip(
  model: models.VAE,
  batch: terms.Batch,
  beta: tf.Tensor,
  weight: tf.Tensor,
  diagonal_weight: tf.Tensor,
  kl: str,
  of_samples: bool,
) -> terms.Loss:
  sampled, elbo_terms = _elbo_terms(model, batch, kl)
  covariance = terms.covariance(sampled.posterior, of_samples)  # [L, L]
  diagonal = tf.linalg.diag_part(covariance)
  others = tf.linalg.set_diag(covariance, tf.zeros_like(diagonal))
  penalty = weight * tf.reduce_sum(others**2)
  penalty += diagonal_weight * tf.reduce_sum((diagonal - 1.0) ** 2)
  rate, distortion = elbo_terms
  loss = tf.reduce_mean(distortion + beta * rate) + penalty
  return terms.Loss(loss, elbo_terms, {'penalty_nats': penalty})


@terms.objective(
  rate_weight='beta',
  needs=('rate', 'marginals'),
  multiples={'dip_diagonal_weight': (_DIAGONAL_I, 'dip_weight')},
)
def dip_i(
  model: models.VAE,
  batch: terms.Batch,
  beta: tf.Tensor,
  dip_weight: tf.Tensor,
  dip_diagonal_weight: tf.Tensor | None = None,
  *,
  kl: str = 'exact',
) -> terms.Loss:
  """DIP-VAE-I: the elbo with the means' covariance drawn to the identity.

  Kumar et al. 2018 (https://arxiv.org/abs/1711.00848), equation 6. Minimised
  is, in nats, with C = Cov[mean of q(z|x)] over the batch,

      mean (distortion + beta rate)
        + dip_weight sum_{i != j} C_ij^2
        + dip_diagonal_weight sum_i (C_ii - 1)^2

  Args:
    model: the VAE.
    batch: images [B, H, W, C], and the key of their noise.
    beta: weight of the rate, a scalar.
    dip_weight: off the diagonal, a scalar; each pair counts twice.
    dip_diagonal_weight: on it, a scalar; by default 10 times the other.
    kl: 'exact' or 'monte_carlo'.
  """
  if dip_diagonal_weight is None:
    dip_diagonal_weight = _DIAGONAL_I * dip_weight
  return _dip(model, batch, beta, dip_weight, dip_diagonal_weight, kl, False)


@terms.objective(
  rate_weight='beta',
  needs=('rate', 'marginals'),
  multiples={'dip_diagonal_weight': (_DIAGONAL_II, 'dip_weight')},
)
def dip_ii(
  model: models.VAE,
  batch: terms.Batch,
  beta: tf.Tensor,
  dip_weight: tf.Tensor,
  dip_diagonal_weight: tf.Tensor | None = None,
  *,
  kl: str = 'exact',
) -> terms.Loss:
  """DIP-VAE-II: `dip_i` with the covariance of q(z), the samples', for C.

  Kumar et al. 2018, equation 7: C = Cov[mean of q(z|x)] + E[Cov of q(z|x)].

  Args:
    model: the VAE.
    batch: images [B, H, W, C], and the key of their noise.
    beta: weight of the rate, a scalar.
    dip_weight: off the diagonal, a scalar; each pair counts twice.
    dip_diagonal_weight: on it, a scalar; by default the same.
    kl: 'exact' or 'monte_carlo'.
  """
  if dip_diagonal_weight is None:
    dip_diagonal_weight = _DIAGONAL_II * dip_weight
  return _dip(model, batch, beta, dip_weight, dip_diagonal_weight, kl, True)


@terms.objective(rate_weight='beta', needs=('rate',))
def info(
  model: models.VAE,
  batch: terms.Batch,
  beta: tf.Tensor,
  mmd_weight: tf.Tensor,
  *,
  kl: str = 'exact',
  mmd_kernel: str = 'gaussian',
) -> terms.Loss:
  """InfoVAE with the maximum mean discrepancy (Zhao et al. 2017, equation 6).

  https://arxiv.org/abs/1706.02262. Minimised is, in nats,

      mean (distortion + beta rate) + mmd_weight MMD^2(q(z), p(z))

  so that the paper's alpha is 1 - beta, and its lambda mmd_weight + beta. The
  squared discrepancy is that of the batch's latents to as many of the prior,
  by `terms.mmd`.

  Args:
    model: the VAE.
    batch: images [B, H, W, C], and the key of their noise.
    beta: weight of the rate, a scalar.
    mmd_weight: of the discrepancy, a scalar.
    kl: 'exact' or 'monte_carlo'.
    mmd_kernel: 'gaussian' or 'inverse_multiquadratic'.

  Raises:
    PartError: a prior that is learned, of which draws are not differentiable.
  """
  if (
    model.prior.trainable_variables
    and model.prior.reparameterization_type != tfd.FULLY_REPARAMETERIZED
  ):
    raise errors.PartError(
      'compares with draws from the prior, which have no gradient in the '
      "weights of a mixture's components; prior=standard needs none"
    )
  sampled, elbo_terms = _elbo_terms(model, batch, kl)
  latents = sampled.latents[0]
  prior = distributions.sample(
    model.prior,
    latents.shape[0] or tf.shape(latents)[0],
    randomness.fold(batch.key, 1),
  )
  discrepancy = terms.mmd(latents, prior, mmd_kernel)
  rate, distortion = elbo_terms
  loss = tf.reduce_mean(distortion + beta * rate) + mmd_weight * discrepancy
  return terms.Loss(loss, elbo_terms, {'mmd': discrepancy})


@terms.objective(rate_weight='beta', needs=('rate',))
class Factor(snt.Module):
  """FactorVAE: the elbo, and the total correlation that a network estimates.

  Kim & Mnih 2018 (https://arxiv.org/abs/1802.05983), equation 2. Minimised is,
  in nats,

      mean (distortion + beta rate) + gamma mean (D_0(z) - D_1(z))

  where D tells latents of the batch (0) from latents whose dimensions were
  permuted over it (1), so that the difference of its logits estimates
  log q(z) / prod_l q(z_l). It minimises its cross-entropy at the same time, on
  the same latents: one step is one update of both.
  """

  def __init__(
    self,
    latent_size: int,
    w_init: networks.Initializer | None = None,
    discriminator_sizes: Sequence[int] = (1000,) * 6,
    discriminator_learning_rate: float = 1e-4,
    permutation: str = 'same_batch',
    kl: str = 'exact',
    name: str | None = None,
  ):
    """Initializes the objective and its discriminator.

    Args:
      latent_size: L.
      w_init: initial weights of the discriminator.
      discriminator_sizes: units of its hidden layers, each with a leaky relu of
        slope 0.2.
      discriminator_learning_rate: of its Adam, with decays 0.5 and 0.9.
      permutation: whether the latents that are permuted are those of the
        'same_batch', or of a 'second_batch', as in the paper: the other half of
        the batch, whose first half then gives all terms.
      kl: 'exact' or 'monte_carlo'.
      name: name of the module.
    """
    super().__init__(name=name)
    self._discriminator = networks.MLP(
      discriminator_sizes,
      (2,),
      lambda inputs: tf.nn.leaky_relu(inputs, 0.2),
      w_init,
    )
    self._discriminator(tf.zeros([1, latent_size]))
    self._learning_rate = discriminator_learning_rate
    self._permutation = permutation
    self._kl = kl

  def make_optimizer(self) -> snt.Optimizer:
    """Returns what updates the discriminator."""
    return snt.optimizers.Adam(self._learning_rate, 0.5, 0.9)

  def __call__(
    self,
    model: models.VAE,
    batch: terms.Batch,
    beta: tf.Tensor,
    gamma: tf.Tensor,
  ) -> terms.Loss:
    """Returns the loss of a batch.

    Args:
      model: the VAE.
      batch: images [B, H, W, C], and the key of their noise.
      beta: weight of the rate, a scalar.
      gamma: weight of the total correlation, a scalar.

    Raises:
      PartError: a batch that has no two halves, where it needs them.
    """
    second = None
    if self._permutation == 'second_batch':
      half, odd = divmod(batch.images.shape[0] or 0, 2)
      if odd or not half:
        raise errors.PartError(
          f'permutation=second_batch: a batch of {batch.images.shape[0]} has '
          'no two halves'
        )
      second = batch.images[half:]
      batch = batch._replace(images=batch.images[:half])
    sampled, (rate, distortion) = _elbo_terms(model, batch, self._kl)
    latents = others = sampled.latents[0]  # [B, L]
    if second is not None:
      posterior = terms.encode(
        model, second, randomness.fold(batch.key, 2), is_training=True
      )
      others = distributions.sample(
        posterior, 1, randomness.fold(batch.key, 2)
      )[0]
    permuted = _permuted(others, randomness.fold(batch.key, 3))
    logits = self._discriminator(latents)  # [B, 2]
    total_correlation = tf.reduce_mean(logits[:, 0] - logits[:, 1])
    loss = tf.reduce_mean(distortion + beta * rate) + gamma * total_correlation
    of_permuted = self._discriminator(permuted)
    # Of the real latents class 0, of the permuted ones class 1.
    real = tf.nn.log_softmax(logits)[:, 0]
    fake = tf.nn.log_softmax(of_permuted)[:, 1]
    adversary = -0.5 * tf.reduce_mean(real + fake)
    right = tf.concat([real, fake], axis=0) > math.log(0.5)
    measured = {
      'total_correlation_nats': total_correlation,
      'discriminator_loss_nats': adversary,
      'discriminator_accuracy': tf.reduce_mean(tf.cast(right, tf.float32)),
    }
    return terms.Loss(loss, terms.Terms(rate, distortion), measured, adversary)


def _permuted(latents: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
  """Latents [B, L], each of which is permuted over the batch by itself."""
  draws = randomness.uniform(key, tf.shape(latents))
  order = tf.argsort(tf.transpose(draws))  # Of each latent, [L, B].
  columns = tf.gather(tf.transpose(latents), order, axis=1, batch_dims=1)
  return tf.transpose(columns)
