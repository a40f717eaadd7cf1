"""Priors p(z): distributions over [L].

Each public function here is a value of `--prior`.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from vae import randomness

tfb = tfp.bijectors
tfd = tfp.distributions


class _Categorical(tfd.Categorical):
  """A scalar one, which draws TFP's numbers without a transposition.

  Of integers, oneDNN complains of that on standard error.
  """

  def _sample_n(self, n, seed=None):
    logits = self.logits_parameter()[None]
    draws = tf.random.stateless_categorical(logits, n, seed, dtype=self.dtype)
    return tf.reshape(draws, [n])


def standard(latent_size: int) -> tfd.Distribution:
  """Returns p(z) = N(0, I), event [L].

  Args:
    latent_size: L.
  """
  loc, scale = tf.zeros([latent_size]), tf.ones([latent_size])
  return tfd.Independent(tfd.Normal(loc, scale), 1)


def mixture(
  latent_size: int, prior_components: int, key: tf.Tensor
) -> tfd.Distribution:
  """Returns p(z) as a learned mixture of diagonal normals, event [L].

  No closed-form KL is known.

  Args:
    latent_size: L.
    prior_components: K, at least 1.
    key: of the components' initial means, which are standard normal.

  Raises:
    ValueError: no components.
  """
  if prior_components < 1:
    raise ValueError(
      f'prior_components must be at least 1, got {prior_components}'
    )
  shape = [prior_components, latent_size]
  return tfd.MixtureSameFamily(
    _Categorical(logits=tf.Variable(tf.zeros([prior_components]))),
    tfd.Independent(
      tfd.Normal(
        tf.Variable(randomness.normal(key, shape)),
        tfp.util.TransformedVariable(tf.ones(shape), tfb.Softplus()),
      ),
      1,
    ),
  )
