"""Groups of settings with a name and a source, as immutable data."""

import types
from collections.abc import Mapping
from typing import Any, NamedTuple


class Preset(NamedTuple):
  """A known experiment.

  Attributes:
    summary: one line that says what it is.
    source: where it is from.
    settings: what differs from the defaults, which are those of `beta_vae`.
  """

  summary: str
  source: str
  settings: Mapping[str, Any]


def _preset(summary: str, source: str, **settings: Any) -> Preset:
  return Preset(summary, source, types.MappingProxyType(settings))


PRESETS: Mapping[str, Preset] = types.MappingProxyType(
  {
    'beta_vae': _preset(
      'Sonnet MLP 784-100-100-10 on grey MNIST, scale by square, beta 0.01 '
      'under mean',
      'the Sonnet beta-VAE experiment that this project starts from',
    ),
    'mlp_vae': _preset(
      'MLP 784-500-20 on statically binarised MNIST, 10 epochs',
      'flax, examples/vae',
      reduction='sum',
      beta=1.0,
      hidden_sizes=(500,),
      latent_size=20,
      posterior_scale='exp',
      binarize='static',
      num_validation=10_000,
      batch_size=128,
      num_epochs=10.0,
    ),
    'conv_vae': _preset(
      'two strided convolutions and 2 latents on grey MNIST, 10 epochs; '
      '--kl=monte_carlo for the sampled KL',
      'a tutorial of convolutional VAEs',
      reduction='sum',
      beta=1.0,
      network='strided_conv',
      channels=(8, 8),
      hidden_sizes=(64,),
      activation='tanh',
      latent_size=2,
      posterior='diagonal',
      posterior_scale='exp',
      init='glorot_uniform',
      num_epochs=10.0,
    ),
    'full_covariance_vae': _preset(
      'deep convolutions and 16 correlated latents on dynamically binarised '
      'MNIST, 15 epochs',
      'TensorFlow Probability, "Variational Autoencoders with TFP Layers"',
      reduction='sum',
      beta=1.0,
      kl='monte_carlo',
      network='deep_conv',
      channels=(32, 64),
      activation='leaky_relu',
      latent_size=16,
      posterior='full_covariance',
      init='he_uniform',
      binarize='dynamic',
      batch_size=256,
      num_epochs=15.0,
    ),
    'iwae': _preset(
      'MLP 784-200-200-50 on dynamically binarised MNIST, 3,280 epochs; add '
      '--num_samples, and --objective=elbo for the VAE',
      'Burda, Grosse & Salakhutdinov 2015, arXiv:1509.00519, table 1',
      objective='iwae',
      reduction='sum',
      beta=1.0,
      hidden_sizes=(200, 200),
      activation='tanh',
      latent_size=50,
      posterior_scale='exp',
      init='glorot_uniform',
      output_bias='data_mean',
      binarize='dynamic',
      batch_size=20,
      num_epochs=3280.0,
      learning_rate_schedule='ladder',
      adam_epsilon=1e-4,
    ),
  }
)
