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


# The studies of disentanglement, on what dSprites shows, all of it trained on.
_SPRITES: Mapping[str, Any] = types.MappingProxyType(
  {
    'dataset': 'sprites',
    'test_share': 0.0,
    'reduction': 'sum',
    'beta': 1.0,
    'posterior_scale': 'log_variance',
  }
)

_BURGESS: Mapping[str, Any] = types.MappingProxyType(
  {
    **_SPRITES,
    'network': 'burgess_conv',
    'init': 'he_uniform',
    'learning_rate': 5e-4,
    'num_epochs': 30.0,
  }
)


def _study(summary: str, **settings: Any) -> Preset:
  """A method of Locatello et al. 2019, with one of its six values of each."""
  return _preset(
    f'{summary}; conv encoder and decoder of 690,517 parameters on sprites',
    'Locatello et al. 2019, arXiv:1811.12359, and its code, which draws images '
    'with replacement',
    **{
      **_SPRITES,
      'network': 'locatello_conv',
      'init': 'glorot_uniform',
      'learning_rate': 1e-4,
      'training_steps': 300_000,
      **settings,
    },
  )


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
    'burgess_vae': _preset(
      'conv encoder and decoder of 502,005 parameters on sprites, the rate '
      'weighed from 0 to 1 over 10,000 steps, 30 epochs; add --beta=4',
      'github.com/YannDubs/disentangling-vae, whose biases do not start at 0',
      beta_warmup_steps=10_000,
      **_BURGESS,
    ),
    'annealed_vae': _preset(
      'the same with the rate held at a capacity that rises to 25 nats over '
      '100,000 steps',
      'Burgess et al. 2018, arXiv:1804.03599; epochs as in burgess_vae',
      objective='annealed',
      gamma=1000.0,
      capacity=25.0,
      capacity_steps=100_000,
      **_BURGESS,
    ),
    'factor_vae': _preset(
      "FactorVAE on sprites, gamma 40, 300,000 steps; latents of the batch's "
      'other half are permuted',
      'Kim & Mnih 2018, arXiv:1802.05983; the network is locatello_conv, '
      'whose encoder has kernels of 2x2 and 256 units where the paper has 4x4 '
      'and 128',
      objective='factor',
      gamma=40.0,
      permutation='second_batch',
      network='locatello_conv',
      init='glorot_uniform',
      batch_size=128,
      learning_rate=1e-4,
      training_steps=300_000,
      **_SPRITES,
    ),
    'beta_tcvae': _preset(
      'beta-TCVAE, MLP 4096-1200-1200-10 on sprites, beta 6, 50 epochs',
      'Chen et al. 2018, arXiv:1802.04942, and its code; initial weights are '
      'ours',
      objective='beta_tc',
      kl='monte_carlo',
      network='higgins_mlp',
      batch_size=2048,
      num_epochs=50.0,
      **{**_SPRITES, 'beta': 6.0},
    ),
    'higgins_vae': _preset(
      'MLP 4096-1200-1200-10 on sprites, beta 4, Adagrad; batch, epochs and '
      'initial weights are ours',
      'Higgins et al. 2017, "beta-VAE", table 1',
      network='higgins_mlp',
      optimizer='adagrad',
      learning_rate=1e-2,
      num_epochs=30.0,
      **{**_SPRITES, 'beta': 4.0},
    ),
    'locatello_beta_vae': _study(
      'beta-VAE, beta 4 of 1, 2, 4, 6, 8, 16',
      beta=4.0,
    ),
    'locatello_annealed': _study(
      'AnnealedVAE, capacity 25 of 5, 10, 25, 50, 75, 100 nats',
      objective='annealed',
      gamma=1000.0,
      capacity=25.0,
      capacity_steps=100_000,
    ),
    'locatello_factor': _study(
      'FactorVAE, gamma 40 of 10, 20, 30, 40, 50, 100; 150,000 steps, as many '
      'as the study made where it says 300,000, since its code counts the '
      "discriminator's too",
      objective='factor',
      gamma=40.0,
      training_steps=150_000,
    ),
    'locatello_beta_tc': _study(
      'beta-TCVAE, beta 6 of 1, 2, 4, 6, 8, 10',
      objective='beta_tc',
      beta=6.0,
    ),
    'locatello_dip_i': _study(
      'DIP-VAE-I, dip_weight 10 of 1, 2, 5, 10, 20, 50, and 10 times that on '
      'the diagonal',
      objective='dip_i',
      dip_weight=10.0,
    ),
    'locatello_dip_ii': _study(
      'DIP-VAE-II, dip_weight 10 of 1, 2, 5, 10, 20, 50, and the same on the '
      'diagonal',
      objective='dip_ii',
      dip_weight=10.0,
    ),
  }
)


def listing() -> str:
  """Returns each preset in one line, with its source."""
  return '\n'.join(
    f'{name}: {preset.summary} ({preset.source})'
    for name, preset in PRESETS.items()
  )
