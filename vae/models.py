"""The variational autoencoder (Kingma & Welling 2013).

https://arxiv.org/abs/1312.6114. Encoder and decoder return distributions;
`vae.terms` consumes them.
"""

from collections.abc import Callable

import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from vae import distributions, replicas

tfd = tfp.distributions

Family = Callable[[tf.Tensor], tfd.Distribution]


class Encoder(snt.Module):
  """q(z|x): images [B, H, W, C] to a distribution, batch [B], event [L]."""

  def __init__(
    self, network: snt.Module, posterior: Family, name: str | None = None
  ):
    """Initializes the encoder.

    Args:
      network: maps images to the posterior's parameters,
        [B, *posterior.parameter_shape]. One that draws noise in training, as
        by dropout, has an attribute `takes_key` that is true, and takes a key
        as its second argument. Of several devices each calls it with a part
        of the batch, whose noise `replicas.drawn` draws.
      posterior: maps parameters to a distribution over [L].
      name: name of the module.
    """
    super().__init__(name=name)
    self._network = network
    self._posterior = posterior

  def __call__(
    self, images: tf.Tensor, key: tf.Tensor | None = None
  ) -> tfd.Distribution:
    """Returns q(z|x).

    Args:
      images: [B, H, W, C].
      key: in training, of the network's noise.
    """
    images = tf.convert_to_tensor(images)
    takes_key = key is not None and getattr(self._network, 'takes_key', False)
    keys = (key,) if takes_key else ()
    parameters = self._network(replicas.part(images), *keys)
    return self._posterior(replicas.gathered(parameters))


class Decoder(snt.Module):
  """p(x|z): latents [..., L] to a distribution over [H, W, C], batch [...].

  Attributes:
    likelihood: maps parameters to a distribution over the data.
  """

  def __init__(
    self, network: snt.Module, likelihood: Family, name: str | None = None
  ):
    """Initializes the decoder.

    Args:
      network: maps latents [B, L] to the likelihood's parameters,
        [B, *likelihood.parameter_shape].
      likelihood: maps parameters to a distribution over the data.
      name: name of the module.
    """
    super().__init__(name=name)
    self._network = network
    self._likelihood = likelihood

  @property
  def likelihood(self) -> Family:
    return self._likelihood

  def __call__(
    self, latents: tf.Tensor, images: tf.Tensor | None = None
  ) -> tfd.Distribution:
    """Returns p(x|z).

    Args:
      latents: [..., L].
      images: in training, those that are to be explained, [B, H, W, C]; a
        likelihood that has a method `fit` is fitted to them.
    """
    latents = tf.convert_to_tensor(latents)
    parameters = snt.merge_leading_dims(latents, latents.shape.rank - 1)
    parameters = self._network(parameters)
    if latents.shape.rank != 2:
      parameters = snt.split_leading_dim(
        parameters, latents, latents.shape.rank - 1
      )
    likelihood = self._likelihood(parameters)
    if images is not None and hasattr(self._likelihood, 'fit'):
      likelihood = self._likelihood.fit(likelihood, images)
    return likelihood


class VAE(snt.Module):
  """A variational autoencoder: q(z|x), p(x|z) and p(z).

  Example, for images [B, 28, 28, 1] and 10 latents:

      posterior = posteriors.Normal(10)
      likelihood = likelihoods.Bernoulli([28, 28, 1])
      model = models.VAE(
        models.Encoder(
          networks.MLP([100, 100], posterior.parameter_shape), posterior),
        models.Decoder(
          networks.MLP([100, 100], likelihood.parameter_shape), likelihood),
        priors.standard(10))
      model.encode(images)    # batch [B], event [10]
      model.decode(latents)   # batch [...], event [28, 28, 1]

  Attributes:
    encode: the encoder; images [B, H, W, C], and in training a key, to q(z|x).
    decode: the decoder; latents [..., L], and in training images, to p(x|z).
    prior: p(z), event [L].
  """

  def __init__(
    self,
    encoder: Callable[..., tfd.Distribution],
    decoder: Callable[..., tfd.Distribution],
    prior: tfd.Distribution,
    name: str | None = None,
  ):
    """Initializes the model.

    Args:
      encoder: maps images to a distribution over latents; called as an
        `Encoder` is.
      decoder: maps latents to a distribution over images; called as a
        `Decoder` is.
      prior: distribution over latents, empty batch shape.
      name: name of the module.

    Raises:
      ValueError: a prior that is a batch of distributions.
    """
    super().__init__(name=name)
    if prior.batch_shape.rank != 0:
      raise ValueError(
        f'the prior must have an empty batch shape, got {prior.batch_shape}'
      )
    self.encode = encoder
    self.decode = decoder
    self.prior = prior

  def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
    """Returns the likelihood's mode at the posterior mean, [B, H, W, C].

    The only place where the posterior mean stands in for a sample.
    """
    return self.decode(self.encode(images).mean()).mode()

  def sample(self, num_samples: int, key: tf.Tensor) -> tf.Tensor:
    """Modes of the likelihood at latents drawn from the prior.

    Args:
      num_samples: S.
      key: from `randomness.key`.

    Returns:
      Images of shape [S, H, W, C].
    """
    latents = distributions.sample(self.prior, num_samples, key)
    return self.decode(latents).mode()
