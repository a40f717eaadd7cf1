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
      '--kl=monte_carlo for the KL by a second sample',
      'a tutorial of convolutional VAEs',
      reduction='sum',
      beta=1.0,
      kl_samples=1,
      network='strided_conv',
      channels=(8, 8),
      hidden_sizes=(64,),
      activation='tanh',
      latent_size=2,
      posterior_scale='exp',
      init='glorot_uniform',
      num_epochs=10.0,
    ),
    'conv_vae_dropout': _preset(
      'convolutions with max-pooling and dropout, decoded by upsampling, 10 '
      'latents on grey MNIST; stops early, with the best weights',
      'a tutorial of convolutional VAEs with dropout; ours has noise of scale '
      '1 and a validation split',
      reduction='sum',
      beta=1.0,
      network='pooled_conv',
      channels=(32, 64),
      dropout=0.5,
      posterior_scale='log_variance',
      init='glorot_uniform',
      num_validation=10_000,
      batch_size=128,
      num_epochs=200.0,
      patience=5,
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
    'dense_vae': _preset(
      'full covariance of 4 latents on a table, wine, with beta 10 and a KL by '
      '10 samples',
      'a tutorial of VAEs for tables; data and batch are ours',
      reduction='sum',
      beta=10.0,
      kl='monte_carlo',
      kl_samples=10,
      hidden_sizes=(64,),
      latent_size=4,
      posterior='full_covariance',
      likelihood='normal',
      likelihood_scale='per_output',
      init='glorot_uniform',
      dataset='wine',
      batch_size=32,
    ),
    'autoencoder': _preset(
      'dense 784-256-64-2 without noise, sigmoid after every layer, squared '
      'error on grey MNIST, 20 epochs',
      'a tutorial of autoencoders',
      objective='reconstruction',
      beta=0.0,
      hidden_sizes=(256, 64),
      activation='sigmoid',
      latent_size=2,
      posterior='deterministic',
      code_activation='sigmoid',
      likelihood='squared_error',
      output_activation='sigmoid',
      init='glorot_uniform',
      batch_size=32,
      num_epochs=20.0,
      optimizer='rmsprop',
      learning_rate=5e-4,
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


def listing() -> str:
  """Returns each preset in one line, with its source."""
  return '\n'.join(
    f'{name}: {preset.summary} ({preset.source})'
    for name, preset in PRESETS.items()
  )
