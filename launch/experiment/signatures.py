"""Makes what a model can do, as TensorFlow functions of plain tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from launch.experiment import messages
from vae import models


def of(
  model: models.VAE, data_shape: Sequence[int], latent_size: int
) -> Mapping[str, Any]:
  """Returns what leaves this package, for any number of examples at once.

  Args:
    model: the VAE.
    data_shape: of one example, [H, W, C] or [F].
    latent_size: L.

  Returns:
    `encode`: images (or rows) to the posterior's mean and standard deviations
    (of each latent by itself, where they are correlated); `decode`: latents to
    the likelihood's mode and mean; `reconstruct`: images to the mode at the
    posterior's mean.
  """
  examples = tf.TensorSpec(
    [None, *data_shape], tf.float32, name=messages.counted(data_shape)
  )
  latents = tf.TensorSpec([None, latent_size], tf.float32, name='latents')

  def encode(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    posterior = model.encode(examples)
    return {'mean': posterior.mean(), 'stddev': posterior.stddev()}

  def decode(latents: tf.Tensor) -> dict[str, tf.Tensor]:
    likelihood = model.decode(latents)
    return {'mode': likelihood.mode(), 'mean': likelihood.mean()}

  def reconstruct(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    return {'mode': model.reconstruct(examples)}

  return {
    function.__name__: tf.function(function, input_signature=[spec])
    for function, spec in (
      (encode, examples),
      (decode, latents),
      (reconstruct, examples),
    )
  }
