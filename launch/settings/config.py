"""The settings of a run: one table for flags, checks and config.json.

Nothing here imports TensorFlow, so that `--help` and a mistyped flag answer at
once.
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from launch import process, records
from launch.settings import parts, scores

# Of a float32, in which the numbers of a model are kept.
_LARGEST = 3.4e38

# Units of a layer: above what any machine holds.
_MOST_UNITS = 2**20

# Samples of a posterior, and the sides of an image: what fits in the int32 that
# count a tensor's elements.
_MOST_SAMPLES = 2**14
_MOST_PIXELS = 2**12

# Of everything else that is counted, as the engine does.
_MOST = 2**31 - 1

GROUPS = ('Objective', 'Model', 'Data', 'Training', 'Recording', 'Execution')

# Of settings that say how a run is watched and carried out, not what it is.
_ASIDE = ('Recording', 'Execution')


class ConfigError(ValueError):
  """A setting that cannot be; one line that names it, and what is allowed."""


def _setting(
  group: str,
  default: Any,
  help: str,
  *,
  choices: Sequence[str] | None = None,
  within: tuple[float, float] = (-math.inf, math.inf),
  positive: bool = False,
  off: Any = None,
  compiled: bool | str = True,
) -> Any:
  """A field of `Config` with what its flag and its check need.

  Args:
    group: one of `GROUPS`.
    default: its value where nothing else is said.
    help: of the flag, with its unit.
    choices: the values that it may have.
    within: the smallest and the largest, of a list those of each item.
    positive: whether it must be greater than 0.
    off: the value that says to do without, which may be given to no avail.
    compiled: False for an input of a compiled program, an initial value, and
      what happens between the program's calls; 'whether' for an input that the
      program lacks where it is off.
  """
  metadata = {
    'group': group,
    'help': help,
    'choices': choices,
    'within': within,
    'positive': positive,
    'off': off,
    'compiled': compiled,
  }
  return dataclasses.field(default=default, metadata=metadata)


_objective, _model, _data, _training, _recording, _execution = (
  functools.partial(_setting, group) for group in GROUPS
)

# A setting with which an objective is called at every step.
_weight = functools.partial(_objective, within=(0.0, math.inf), compiled=False)


def _schedule(weight: str) -> Any:
  return _objective(
    'linear',
    f'how --{weight} comes to its value from 0, where its steps are given',
    choices=tuple(parts.find_schedules()),
    off='linear',
    compiled=False,
  )


def _schedule_steps(weight: str) -> Any:
  return _objective(
    0,
    f'steps until --{weight} has its value, under its schedule; 0: it has it '
    'from the first',
    within=(0, _MOST),
    off=0,
    compiled=False,
  )


# The weights that have a schedule, and the setting that says until when.
SCHEDULED: Mapping[str, str] = types.MappingProxyType(
  {
    'beta': 'beta_warmup_steps',
    'gamma': 'gamma_steps',
    'capacity': 'capacity_steps',
  }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Every setting of a run; each field is a flag."""

  beta: float = _weight(
    0.01,
    'weight of the KL against the reconstruction, under --reduction; every run '
    'prints the effective beta, which weighs nats against nats',
  )
  reduction: str = _objective(
    'mean',
    'mean: loss = mean over pixels of -log p(x|z) + beta * mean over latents '
    'of the KL; sum: loss = distortion + beta * rate, both in nats',
    choices=('mean', 'sum'),
    off='sum',
  )
  objective: str = _objective(
    'elbo',
    'what is trained; elbo: with --beta; iwae: the importance-weighted bound '
    "at --num_samples; dreg: the same with the encoder's doubly "
    'reparameterized gradient; reconstruction: no rate at all, for '
    'autoencoders; annealed: the rate held at --capacity; factor: FactorVAE; '
    'beta_tc: beta on the total correlation; dip_i, dip_ii: DIP-VAE; info: '
    'InfoVAE',
    choices=tuple(parts.find('objective')),
  )
  num_samples: int = _objective(
    1,
    "posterior samples per image: averaged over by elbo, the bound's own by "
    'iwae and dreg',
    within=(1, _MOST_SAMPLES),
  )
  kl: str = _objective(
    'exact',
    'the rate in closed form, or from posterior samples',
    choices=('exact', 'monte_carlo'),
  )
  kl_samples: int = _objective(
    0,
    'posterior samples of their own for --kl=monte_carlo; 0: those of the '
    'reconstruction',
    within=(0, _MOST_SAMPLES),
    off=0,
  )
  beta_schedule: str = _schedule('beta')
  beta_warmup_steps: int = _schedule_steps('beta')
  gamma: float = _weight(
    1.0,
    "weight of factor's total correlation, and of the distance of annealed's "
    'rate from its capacity',
  )
  gamma_schedule: str = _schedule('gamma')
  gamma_steps: int = _schedule_steps('gamma')
  capacity: float = _weight(
    25.0, 'the rate that --objective=annealed ends at, nats'
  )
  capacity_schedule: str = _schedule('capacity')
  capacity_steps: int = _schedule_steps('capacity')
  dip_weight: float = _weight(
    10.0, 'of the covariances off the diagonal, in dip_i and dip_ii'
  )
  dip_diagonal_weight: float | None = _weight(
    None,
    'of the variances that differ from 1; by default 10 times --dip_weight in '
    'dip_i, and once in dip_ii',
  )
  mmd_weight: float = _weight(
    10.0, "of info's squared maximum mean discrepancy"
  )
  mmd_kernel: str = _objective(
    'gaussian',
    'of the discrepancy; gaussian: exp(-|x - y|^2 / (2 L)); '
    'inverse_multiquadratic: 2 L / (2 L + |x - y|^2), for L latents',
    choices=('gaussian', 'inverse_multiquadratic'),
  )
  tc_estimator: str = _objective(
    'weighted',
    "how beta_tc weighs a batch's posteriors to stand for all; weighted: all "
    "alike; stratified: an image's own as one of N",
    choices=('weighted', 'stratified'),
  )
  discriminator_sizes: tuple[int, ...] = _objective(
    (1000,) * 6,
    "units of the layers of factor's discriminator, comma-separated",
    within=(1, _MOST_UNITS),
  )
  discriminator_learning_rate: float = _objective(
    1e-4, "step size of the discriminator's Adam", positive=True
  )
  permutation: str = _objective(
    'same_batch',
    'whose latents factor permutes: those that it also compares with, or of a '
    'second batch, which is the other half of --batch_size',
    choices=('same_batch', 'second_batch'),
  )
  network: str = _model(
    'mlp',
    'encoder and its mirror, the decoder; strided_conv: 5x5 with stride 2, '
    'then --hidden_sizes; pooled_conv: 3x3 with max-pooling, decoded by '
    'upsampling; deep_conv: pairs of 5x5, the second with stride 2; '
    'burgess_conv, locatello_conv and higgins_mlp: of the studies of sprites',
    choices=tuple(
      sorted(parts.find('encoder').keys() & parts.find('decoder').keys())
    ),
  )
  encoder: str | None = _model(
    None,
    "the encoder, where it is not --network's",
    choices=tuple(parts.find('encoder')),
  )
  decoder: str | None = _model(
    None,
    "the decoder, where it is not --network's",
    choices=tuple(parts.find('decoder')),
  )
  channels: tuple[int, ...] = _model(
    (32, 64), 'of the convolutions, comma-separated', within=(1, _MOST_UNITS)
  )
  dropout: float = _model(
    0.0,
    "rate before the last layer of pooled_conv's encoder, in training only",
    within=(0.0, 0.99),
    off=0.0,
  )
  hidden_sizes: tuple[int, ...] = _model(
    (100, 100),
    "widths of the encoder's dense layers (mlp and strided_conv), mirrored in "
    'the decoder; comma-separated units',
    within=(1, _MOST_UNITS),
  )
  activation: str = _model(
    'relu',
    'what follows each hidden layer',
    choices=(
      'elu',
      'gelu',
      'leaky_relu',
      'relu',
      'sigmoid',
      'softplus',
      'tanh',
    ),
  )
  latent_size: int = _model(10, 'number of latents', within=(1, _MOST_UNITS))
  posterior: str = _model(
    'normal',
    'q(z|x); normal: independent latents; full_covariance: one triangle; '
    'deterministic: a code, as of a plain autoencoder, where beta has no '
    'meaning',
    choices=tuple(parts.find('posterior')),
  )
  code_activation: str = _model(
    'linear',
    'what the code of --posterior=deterministic passes through',
    choices=('linear', 'sigmoid', 'tanh'),
    off='linear',
  )
  prior: str = _model(
    'standard',
    'p(z); standard: N(0, I); mixture: learned, of diagonal normals',
    choices=tuple(parts.find('prior')),
  )
  prior_components: int = _model(
    10, 'components of the mixture', within=(1, _MOST_UNITS)
  )
  likelihood: str = _model(
    'bernoulli',
    'p(x|z) of each value; continuous_bernoulli: a density of grey pixels; '
    'squared_error: no density, for --objective=reconstruction',
    choices=tuple(parts.find('likelihood')),
  )
  likelihood_scale: str = _model(
    'optimal',
    'standard deviation of normal, where pixels lie in [0, 1]: a number; '
    'global: one learned; per_output: from the decoder; optimal: the root of '
    "the batch's mean squared error",
  )
  output_activation: str = _model(
    'linear',
    'what the mean of --likelihood=normal or squared_error passes through',
    choices=('linear', 'sigmoid', 'tanh'),
    off='linear',
  )
  posterior_scale: str = _model(
    'square',
    "from the encoder's output to the posterior's standard deviation (plus a "
    'floor of 1e-6); log_variance: exp of half',
    choices=('exp', 'log_variance', 'softplus', 'square'),
  )
  init: str = _model(
    'sonnet',
    'initial weights; sonnet: truncated normal, variance 1 / fan-in',
    choices=('glorot_uniform', 'he_uniform', 'sonnet'),
    compiled=False,
  )
  output_bias: str = _model(
    'zero',
    "initial biases of the decoder's output; data_mean: logits of the mean "
    'grey training image, clipped to [0.001, 0.999]',
    choices=('data_mean', 'zero'),
    off='zero',
    compiled=False,
  )
  dataset: str = _data(
    'auto',
    'mnist_5k, wine (a table), sprites or xy_squares (drawn, all factors '
    'known), a TFDS name (mnist, fashion_mnist, kmnist, ...), or the path of a '
    'folder of images or IDX files, or of a file: a table (.csv, .tsv), arrays '
    '(.npy, .npz), or what a study of disentanglement published; '
    'auto: mnist, or mnist_5k where that cannot be had',
  )
  image_size: int | None = _data(
    None,
    'height and width in pixels to which images are brought: cropped to the '
    "middle square and resized by Lanczos' filter; sprites and xy_squares are "
    'drawn at it',
    within=(8, _MOST_PIXELS),
  )
  label_column: str | None = _data(
    None,
    'column of a table in a file that holds labels: its name, or its number, '
    'counted from 1, where there is no header',
  )
  test_share: float | None = _data(
    None,
    'of the examples, the share that is cut for testing where the source has '
    'no test split; one in ten without it; 0: train on all, and evaluate on '
    'the same',
    within=(0.0, 0.9),
  )
  binarize: str = _data(
    'none',
    'grey pixels to zeros and ones; none keeps them grey, threshold cuts at '
    'one half, static draws them once, dynamic at every presentation',
    choices=('none', 'threshold', 'static', 'dynamic'),
  )
  num_validation: int = _data(
    0,
    'training images, in their share of each class, that become the validation '
    'split',
    within=(0, _MOST),
  )
  precision: str = _training(
    'float32',
    'of the layers in training, which are most of its work; bfloat16: their '
    'products and convolutions have 8 bits of precision instead of 24, and are '
    'faster on CPUs with AVX-512 BF16 or AMX and on GPUs since Ampere. '
    'Variables, losses, updates and evaluations are float32',
    choices=('float32', 'bfloat16'),
  )
  batch_size: int = _training(64, 'images per step', within=(1, _MOST_UNITS))
  training_steps: int | None = _training(
    1024, 'updates of the weights', within=(1, _MOST), compiled=False
  )
  num_epochs: float | None = _training(
    None,
    'passes over the training images, instead of --training_steps',
    within=(0.0, _MOST),
    positive=True,
    compiled=False,
  )
  optimizer: str = _training(
    'adam',
    'what updates the weights; rmsprop with decay 0.9 and epsilon 1e-10',
    choices=tuple(parts.find('optimizer')),
  )
  learning_rate: float = _training(
    1e-3, 'step size of the optimizer', positive=True, compiled=False
  )
  learning_rate_schedule: str = _training(
    'constant',
    'cosine: falls from --learning_rate towards 0, which it would reach one '
    'step after the last; ladder: 3^i epochs at --learning_rate * 10^(-i/7) '
    'for i = 0, 1, 2, ... (Burda et al. 2015)',
    choices=tuple(parts.find('learning_rate_schedule')),
    compiled=False,
  )
  learning_rate_warmup_steps: int = _training(
    0,
    'steps in which a line from 0 multiplies the learning rate; cosine begins '
    'after them',
    within=(0, _MOST),
    compiled=False,
  )
  clip_norm: float = _training(
    0.0,
    'largest norm of all gradients of an update together, to which they are '
    "scaled down; the model's and a discriminator's each on their own; 0 for "
    'none',
    within=(0.0, math.inf),
    off=0.0,
    compiled='whether',
  )
  weight_decay: float = _training(
    0.0,
    "what each update takes away of the weights of the model's layers, but not "
    'of biases, in units of the learning rate and apart from the gradients '
    '(AdamW, and the like with other optimizers)',
    within=(0.0, math.inf),
    off=0.0,
    compiled='whether',
  )
  adam_epsilon: float = _training(
    1e-8, "added to the root of Adam's second moment", positive=True
  )
  momentum: float = _training(
    0.9,
    'decay of the sum of gradients that --optimizer=momentum follows',
    within=(0.0, 0.9999),
  )
  patience: int = _training(
    0,
    'epochs without a better elbo (at beta 1) on the validation split, after '
    'which training stops; the best weights are kept. 0: train to the end and '
    'keep the last',
    within=(0, _MOST),
    compiled=False,
  )
  seed: int = _training(
    0, 'of every random number in the run', within=(0, math.inf), compiled=False
  )
  log_every: int = _recording(
    0,
    'steps between rows of train.csv, beside powers of two and the last step; '
    '0 for none',
    within=(0, _MOST),
    compiled=False,
  )
  eval_every: int = _recording(
    0,
    'steps between evaluations on the test split, beside the one at the end; '
    '0 for none',
    within=(0, _MOST),
    compiled=False,
  )
  eval_images: int = _recording(
    10_000,
    'images of the test split, at most, that evaluations in training and the '
    'one at its end take: a fixed choice, the same in all runs; 0: all, as '
    'launch.evaluate and --eval_scores take them',
    within=(0, _MOST),
    compiled=False,
  )
  eval_scores: tuple[str, ...] = _recording(
    (),
    'scores of disentanglement that evaluations on the test split add to '
    'scores.csv, comma-separated; for data with factors',
    choices=scores.IN_TRAINING,
    compiled=False,
  )
  checkpoint_every: str = _recording(
    '60s',
    'between checkpoints: a number of steps, or of seconds with an s at the '
    'end; there is always one at the end',
    compiled=False,
  )
  jit: str = _execution(
    'auto',
    'whether XLA compiles the training loop; auto: yes for dense networks and '
    'on GPUs; on CPUs no for convolutions, and for bfloat16 in batches of 256 '
    'or more',
    choices=('auto', 'on', 'off'),
  )
  data_placement: str = _execution(
    'auto',
    "who gathers a batch's images; auto: the device where all training "
    'images take at most 1 GiB, else the host',
    choices=('auto', 'device', 'host'),
  )
  threads: int = _execution(
    0,
    'CPU threads; 0: as many as there are cores. Part of what makes a run '
    'repeat bit for bit',
    within=(0, 4096),
  )
  devices: int = _execution(
    1,
    'GPUs that share each batch; a run may go on with another number',
    within=(1, 4096),
  )

  def __post_init__(self):
    for field in fields():
      value = getattr(self, field.name)
      _check(field, value)
      # TensorFlow would make an int32 of a whole number in JSON.
      if base_type(field)[0] is float and isinstance(value, int):
        object.__setattr__(self, field.name, float(value))
    parse_interval(self.checkpoint_every)
    if (self.training_steps is None) == (self.num_epochs is None):
      raise ConfigError('give one of --training_steps and --num_epochs')
    self.parse_likelihood_scale()
    self._check_parts()
    for name in (*SCHEDULED.values(), 'learning_rate_warmup_steps'):
      steps = getattr(self, name)
      if self.training_steps is not None and self.training_steps < steps:
        raise ConfigError(
          f'--{name}={steps}: training would end before, after '
          f'{self.training_steps} steps'
        )
    if self.devices > 1 and self.jit == 'on':
      raise ConfigError(
        f'--jit=on --devices={self.devices}: XLA compiles a training loop for '
        'one device alone'
      )
    images = self.batch_size
    if self.permutation == 'second_batch':
      images //= 2  # Of which each half is divided.
    if images % self.devices:
      raise ConfigError(
        f'--devices={self.devices}: --batch_size={self.batch_size} cannot be '
        'divided between them'
      )
    if self.patience and self.ends_with_last_step:
      raise ConfigError(
        f'--patience={self.patience}: would end training before '
        f'{self.flag_of("learning_rate_schedule")} does, which falls until the '
        'last step; give another schedule'
      )

  @property
  def ends_with_last_step(self) -> bool:
    """Returns whether the learning rates depend on how many steps there are."""
    kind = 'learning_rate_schedule'
    return 'last' in parts.parameters(kind, self.parts[kind])

  def parse_likelihood_scale(self) -> float | str:
    """Reads `--likelihood_scale`: a number, or the name of a method.

    Raises:
      ConfigError: text that is neither.
    """
    text = self.likelihood_scale
    if text in ('global', 'per_output', 'optimal'):
      return text
    try:
      number = float(text)
    except ValueError:
      number = math.nan
    if not 0.0 < number < math.inf:
      raise ConfigError(
        f'--likelihood_scale={text}: must be a number above 0, global, '
        'per_output or optimal'
      )
    return number

  @property
  def parts(self) -> dict[str, str]:
    """The parts that are chosen, by kind."""
    chosen = {kind: getattr(self, kind) for kind in parts.KINDS}
    for kind in ('encoder', 'decoder'):
      chosen[kind] = chosen[kind] or self.network
    return chosen

  def flag_of(self, kind: str) -> str:
    """Returns the flag that chooses the part of a kind, with its value."""
    name = kind if getattr(self, kind) else 'network'
    return f'--{name}={self.parts[kind]}'

  @property
  def weights(self) -> tuple[str, ...]:
    """The settings with which the objective is called at every step.

    But for those that are left to it.
    """
    names = parts.weights(self.objective)
    return tuple(name for name in names if getattr(self, name) is not None)

  def _check_parts(self) -> None:
    """A part is made of settings and of what its kind is provided with."""
    names = {field.name for field in fields()}
    for kind, value in self.parts.items():
      if unknown := sorted(parts.settings(kind, value) - names):
        module, _, provided = parts.KINDS[kind]
        also = f', nor {" nor ".join(sorted(provided))}' if provided else ''
        raise ConfigError(
          f'{self.flag_of(kind)}: {parts.find(kind)[value]} in vae/{module}.py '
          f'asks for {", ".join(unknown)}, which is no setting{also}'
        )

  def unused(self) -> dict[str, str]:
    """Returns the settings that do nothing here, and what they go with."""
    taken = set()
    for kind, value in self.parts.items():
      taken |= parts.settings(kind, value)
    found = {
      field.name: ' or '.join(parts.takers(field.name))
      for field in fields()
      if field.name not in taken and parts.takers(field.name)
    }
    if 'kl' in taken and self.kl != 'monte_carlo':
      found['kl_samples'] = '--kl=monte_carlo'
    for weight, steps in SCHEDULED.items():
      if weight not in taken:
        found[steps] = found[f'{weight}_schedule'] = f'a --{weight}'
      elif not getattr(self, steps):
        found[f'{weight}_schedule'] = f'--{steps}'
      elif getattr(self, f'{weight}_schedule') == 'constant':
        found[steps] = f'another --{weight}_schedule'
    if self.encoder and self.decoder:
      found['network'] = 'an --encoder or a --decoder less'
    return found

  def to_json(self) -> str:
    """Returns all settings, sorted, as text."""
    return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + '\n'


def fields() -> tuple[dataclasses.Field, ...]:
  """Returns the fields of `Config`, in the order of the help."""
  return dataclasses.fields(Config)


def makes_results(name: str) -> bool:
  """Returns whether runs that differ in a setting are meant to differ.

  What is recorded of a run, and how it is carried out, tells no results apart.

  Args:
    name: of the setting; one that this code does not know counts.
  """
  return _group(name) not in _ASIDE


def makes_loss(name: str) -> bool:
  """Returns whether losses of runs that differ in a setting sum other terms.

  Args:
    name: of the setting, or `records.STRENGTH`.
  """
  others = (records.STRENGTH, 'likelihood')
  return name in others or _group(name) == 'Objective'


def _group(name: str) -> str | None:
  groups = {field.name: field.metadata['group'] for field in fields()}
  return groups.get(name)


def changed(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the settings that make results and differ from their defaults.

  Args:
    settings: by name, with lists or tuples; those that this code does not know
      differ.
  """
  defaults = dataclasses.asdict(Config())
  return {
    name: value
    for name, value in settings.items()
    if makes_results(name)
    and (tuple(value) if isinstance(value, list) else value)
    != defaults.get(name)
  }


def base_type(field: dataclasses.Field) -> tuple[type, bool]:
  """The type of a setting's value or items, and whether None is allowed."""
  annotation: Any = field.type
  optional = isinstance(annotation, types.UnionType)
  if optional:
    annotation = typing.get_args(annotation)[0]
  if typing.get_origin(annotation) is tuple:
    annotation = typing.get_args(annotation)[0]
  return annotation, optional


def is_list(field: dataclasses.Field) -> bool:
  return typing.get_origin(field.type) is tuple


def _check(field: dataclasses.Field, value: Any) -> None:
  """Raises ConfigError unless a setting's value is allowed."""
  kind, optional = base_type(field)
  if value is None and optional:
    return
  if is_list(field) and not isinstance(value, tuple):
    problems = [f'must be a list of {kind.__name__}']
  else:
    items = value if is_list(field) else (value,)
    problems = [_problem(field, kind, item) for item in items]
  if problem := next(filter(None, problems), None):
    raise ConfigError(f'--{field.name}={records.text(value)}: {problem}')


def _problem(field: dataclasses.Field, kind: type, item: Any) -> str | None:
  """Says what a value, or an item of a list, must be; None where it is that."""
  accepted = (int, float) if kind is float else kind
  if isinstance(item, bool) or not isinstance(item, accepted):
    return f'must be of type {kind.__name__}'
  if isinstance(item, str):
    choices = field.metadata['choices']
    if choices and item not in choices:
      return f'must be one of {", ".join(choices)}'
    return None
  low, high = field.metadata['within']
  if kind is float and not abs(item) <= _LARGEST:
    return 'must be finite, and fit into 32 bits'
  if kind is int and abs(item) >= 2**63:
    return 'must fit into 63 bits'
  if field.metadata['positive'] and item <= 0:
    return 'must be greater than 0'
  if item < low:
    return f'must be at least {low:g}'
  if item > high:
    return f'must be at most {high:g}'
  return None


def parse_interval(text: str) -> tuple[float, str]:
  """Reads `--checkpoint_every`.

  Args:
    text: '500' (steps) or '60s' (seconds).

  Returns:
    The number and its unit, 'steps' or 'seconds'.

  Raises:
    ConfigError: text of another form, or zero.
  """
  match = re.fullmatch(r'(\d+(?:\.\d+)?)s|(\d+)', text)
  if not match or not 0 < float(match[1] or match[2]) < math.inf:
    raise ConfigError(
      f'--checkpoint_every={text}: must be a number of steps such as 500, or '
      'of seconds such as 60s'
    )
  if match[1]:
    return float(match[1]), 'seconds'
  return float(match[2]), 'steps'


def compiled_settings(config: Config) -> tuple[tuple[str, Any], ...]:
  """Returns the settings that make a compiled program, by name.

  With the names of the weights that it takes. Runs that agree in all are
  trained by one program. What a part is made with it may keep, but for what
  comes with every step.
  """
  kept = set()
  for kind, value in config.parts.items():
    kept |= parts.parameters(kind, value) - {'learning_rate'}
  kept -= set(parts.weights(config.objective))
  values = {
    field.name: getattr(config, field.name)
    for field in fields()
    if field.metadata['compiled'] or field.name in kept
  }
  for field in fields():
    if field.metadata['compiled'] == 'whether':
      values[field.name] = values[field.name] != field.metadata['off']
  # Its inputs, of which an objective makes up those that are left to it.
  values['weights'] = config.weights
  return tuple(values.items())


def data_settings(config: Config) -> tuple[Any, ...]:
  """Returns the values of the settings that the data of a run follow from."""
  return tuple(
    getattr(config, field.name)
    for field in fields()
    if field.metadata['group'] == 'Data'
  )


# -- config.json --------------------------------------------------------------


# Values whose name older runs still have: the setting, old and new.
_RENAMED = (('posterior', 'diagonal', 'normal'),)


# What runs that are older than a setting did, where its default is another.
_OLDER: Mapping[str, Any] = types.MappingProxyType({'eval_images': 0})


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what config.json holds as this code writes it, lists as tuples.

  A setting that is missing is what runs did that are older than it, which
  mostly is its default. One that this code does not know stays as it is.
  """
  known = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in settings.items()
  }
  for name, old, new in _RENAMED:
    if known.get(name) == old:
      known[name] = new
  if known.get('num_epochs') is not None:  # As by hand: instead of steps.
    known.setdefault('training_steps', None)
  return {**dataclasses.asdict(Config()), **_OLDER, **known}


def from_dict(settings: Mapping[str, Any], where: str) -> Config:
  """Makes a config from what config.json holds, completed.

  Args:
    settings: settings by name.
    where: the file, for the error message.

  Raises:
    ConfigError: unknown settings, or values that cannot be.
  """
  names = {field.name for field in fields()}
  if unknown := sorted(settings.keys() - names):
    line = f'{where}: unknown settings {", ".join(unknown)}'
    raise ConfigError(process.printable(line))
  try:
    return Config(**complete(settings))
  except ConfigError as error:
    raise ConfigError(process.printable(f'{where}: {error}')) from error


def load(path: str | os.PathLike) -> Config:
  """Reads a config.json.

  Raises:
    RecordError: a file that cannot be read.
    ConfigError: settings that cannot be.
  """
  return from_dict(records.read_object(pathlib.Path(path)), str(path))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Returns the settings in which two runs differ, as `name: old -> new`."""
  return [
    f'{name}: {records.text(old.get(name))} -> {records.text(new.get(name))}'
    for name in {**old, **new}
    if old.get(name) != new.get(name)
  ]


# -- What is left open --------------------------------------------------------


# The values that stand for "decide for me"; config.json holds the decision.
_UNDECIDED = {
  'dataset': 'auto',
  'jit': 'auto',
  'data_placement': 'auto',
  'threads': 0,
}


def decided(config: Config, stored: Config | None) -> Config:
  """Returns a config whose open settings are as a run has decided them.

  Args:
    config: what is asked for.
    stored: the config of the run that goes on; None for a new run.
  """
  if stored is None:
    return config
  anew = moved(vars(stored), vars(config))
  return dataclasses.replace(
    config,
    **{
      name: getattr(stored, name)
      for name, undecided in _UNDECIDED.items()
      if name not in anew and getattr(config, name) == undecided
    },
  )


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
  """Returns the settings that another number of devices decides anew.

  Args:
    before: settings by name, which may be missing.
    after: those that follow.
  """
  first, last = (
    each.get('devices', Config.devices) for each in (before, after)
  )
  return set() if first == last else {'devices', 'jit'}


def with_steps(config: Config, num_train: int) -> Config:
  """Returns a config in steps, whose epochs have `num_train` examples."""
  if config.num_epochs is None:
    return config
  steps = math.ceil(config.num_epochs * num_train / config.batch_size)
  return dataclasses.replace(config, training_steps=steps, num_epochs=None)
