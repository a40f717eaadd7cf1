"""Posteriors q(z|x): families that turn an encoder's output into one.

A family is called with parameters [..., *parameter_shape], and gives a
distribution over [L], L being its `latent_size`, at least 1. Each public class
here is a value of `--posterior`: its name in snake_case.

What a family is, its attributes say: `has_rate`, whether it has a density, and
so a KL to the prior (true where nothing is said); `has_normal_marginals`,
whether each latent alone is normal, with the distribution's mean and stddev
(false where nothing is said).
"""

from collections.abc import Callable, Mapping

import tensorflow as tf
import tensorflow_probability as tfp

from vae import distributions

tfb = tfp.bijectors
tfd = tfp.distributions

SCALES: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
  'square': tf.square,
  'softplus': tf.nn.softplus,
  'exp': tf.exp,
  'log_variance': lambda raw: tf.exp(0.5 * raw),
}


def _check_latent_size(latent_size: int) -> None:
  if latent_size < 1:
    raise ValueError(f'latent_size must be at least 1, got {latent_size}')


class Normal:
  """q(z|x) = N(loc, diag(scale**2)) as `Independent(Normal)`, event [L].

  `scale = f(raw) + distributions.SCALE_FLOOR`, where f is one of `SCALES`.
  """

  has_rate = True
  has_normal_marginals = True

  def __init__(self, latent_size: int, posterior_scale: str = 'softplus'):
    """Initializes the family.

    Args:
      latent_size: L, at least 1.
      posterior_scale: one of `SCALES`.

    Raises:
      ValueError: `latent_size` below 1, or a scale that does not exist.
    """
    _check_latent_size(latent_size)
    if posterior_scale not in SCALES:
      raise ValueError(
        f'posterior_scale must be one of {sorted(SCALES)}, '
        f'got {posterior_scale!r}'
      )
    self.latent_size = latent_size
    self.parameter_shape = (2 * latent_size,)
    self._scale = SCALES[posterior_scale]

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps parameters [..., 2 L] to a distribution over [L]."""
    loc, raw_scale = tf.split(parameters, 2, axis=-1)
    scale = self._scale(raw_scale) + distributions.SCALE_FLOOR
    return tfd.Independent(tfd.Normal(loc, scale), 1)


class FullCovariance:
  """q(z|x) = N(loc, T T') as `MultivariateNormalTriL`, event [L].

  The lower triangle T is `FillScaleTriL` of its parameters: softplus on the
  diagonal, shifted by `DIAGONAL_SHIFT`.
  """

  has_rate = True
  has_normal_marginals = True
  DIAGONAL_SHIFT = 1e-5

  def __init__(self, latent_size: int):
    """Initializes the family."""
    _check_latent_size(latent_size)
    self.latent_size = latent_size
    triangle = latent_size * (latent_size + 1) // 2
    self.parameter_shape = (latent_size + triangle,)

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps parameters [..., L + L (L + 1) / 2] to a distribution over [L]."""
    fill = tfb.FillScaleTriL(diag_shift=self.DIAGONAL_SHIFT)
    return tfd.MultivariateNormalTriL(
      parameters[..., : self.latent_size],
      fill.forward(parameters[..., self.latent_size :]),
    )


class Deterministic:
  """All mass on one code, as in a plain autoencoder: there is no rate."""

  has_rate = False

  def __init__(
    self,
    latent_size: int,
    code_activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
  ):
    """Initializes the family.

    Args:
      latent_size: L, at least 1.
      code_activation: what the code passes through.

    Raises:
      ValueError: `latent_size` below 1.
    """
    _check_latent_size(latent_size)
    self.latent_size = latent_size
    self.parameter_shape = (latent_size,)
    self._activation = code_activation

  def __call__(self, parameters: tf.Tensor) -> tfd.Distribution:
    """Maps parameters [..., L] to a distribution over [L]."""
    return tfd.Independent(tfd.Deterministic(self._activation(parameters)), 1)


@tfd.RegisterKL(tfd.MultivariateNormalTriL, tfd.Independent)
def _kl_to_independent_normals(
  q: tfd.MultivariateNormalTriL, p: tfd.Independent, name: str | None = None
) -> tf.Tensor:
  """The closed form that TFP has for `MultivariateNormalDiag` alone."""
  normal = p.distribution
  if not isinstance(normal, tfd.Normal):
    raise NotImplementedError(f'no KL from {q} to {p}')
  p = tfd.MultivariateNormalDiag(normal.loc, normal.scale)
  return tfd.kl_divergence(q, p, name=name)
