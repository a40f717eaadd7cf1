"""From settings to a model, what it minimises, and its data."""

import dataclasses
import functools
import importlib
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import sonnet as snt
import tensorflow as tf

from launch import records
from launch.rundir import checkpoints
from launch.settings import config as config_lib
from launch.settings import parts
from launch.settings.config import Config
from vae import (
  errors,
  models,
  networks,
  precision,
  randomness,
  terms,
  training,
)
from vae.data import batches, bits, datasets, sources
from vae.metrics import evaluation

# The kernels count the numbers of a tensor by int32.
_MOST_NUMBERS = 2**31 - 1


class _Stored(networks.Zeros):
  """Makes weights that are assigned next, of the shapes of a checkpoint alone.

  Others are of another model, and may be larger than the memory.
  """

  def __init__(self, tensors: Mapping[str, np.ndarray]):
    super().__init__()
    self._shapes = {array.shape for array in tensors.values()}

  def _draw(
    self, shape: Sequence[int], inputs: int, outputs: int, dtype: tf.DType
  ) -> tf.Tensor:
    if tuple(shape) not in self._shapes:
      raise checkpoints.CheckpointError(
        'the checkpoint is of another model: it has no weights of the shape '
        f'{tuple(shape)}'
      )
    return super()._draw(shape, inputs, outputs, dtype)


def model(
  config: Config,
  data_shape: Sequence[int],
  mean_image: np.ndarray | None = None,
  tensors: Mapping[str, np.ndarray] | None = None,
) -> models.VAE:
  """Makes the model of a config, with its variables.

  Args:
    config: the run's settings.
    data_shape: the shape of one example, [H, W, C] or [F].
    mean_image: mean of the training images in [0, 1], [H, W, C], from which
      `--output_bias=data_mean` starts; not needed where a checkpoint follows.
    tensors: of a checkpoint that `assign` is called with next, so that no
      weights are drawn; None for a model that is to be trained.

  Raises:
    ConfigError: data that do not fit a network, `--kl=exact` where no closed
      form is known, or a model that does not fit into memory.
    CheckpointError: tensors of another model.
  """
  w_init = networks.Initializer(config.init, config.seed)
  if tensors is not None:
    w_init = _Stored(tensors)
  try:
    return _model(config, data_shape, mean_image, w_init)
  except (MemoryError, tf.errors.ResourceExhaustedError) as error:
    raise config_lib.ConfigError(
      f'--hidden_sizes={",".join(map(str, config.hidden_sizes))} '
      f'--latent_size={config.latent_size}: the model does not fit into memory '
      f'for data of shape {tuple(data_shape)}'
    ) from error


def check_sizes(config: Config, data_shape: Sequence[int]) -> None:
  """Checks, before anything is made, that the kernels can index every tensor.

  The model, its loss and an evaluation are traced, and nothing is run.

  Args:
    config: the run's settings.
    data_shape: the shape of one example, [H, W, C] or [F].

  Raises:
    ConfigError: settings that cannot be, or whose counts are too large.
  """
  w_init = networks.Zeros()
  snt.Module()  # The first makes sure that TensorFlow is eager: not in a graph.
  with tf.Graph().as_default() as graph:
    model = _model(config, data_shape, None, w_init)
    loss, _ = _loss(config, w_init)
    _first_loss(config, model, loss, tf.zeros([config.batch_size, *data_shape]))
    num_evaluated = evaluation.batch_size(data_shape)
    model.decode(model.encode(tf.zeros([num_evaluated, *data_shape])).mean())
  definition = graph.as_graph_def(add_shapes=True)
  functions = (function.node_def for function in definition.library.function)
  shapes = [
    [max(dim.size, 1) for dim in shape.dim]  # -1 where it is not known.
    for node in itertools.chain(definition.node, *functions)
    for shape in node.attr['_output_shapes'].list.shape
  ]
  largest = max(shapes, key=math.prod)
  if math.prod(largest) > _MOST_NUMBERS:
    raise config_lib.ConfigError(
      f'{_counts_of(config, largest)}: would make a tensor of the shape '
      f'{largest}, and none can have more than {_MOST_NUMBERS:,} numbers'
    )


def _counts_of(config: Config, shape: Sequence[int]) -> str:
  """The flags of the largest counts that make a tensor as large as it is."""
  names = {'batch_size'}
  for kind, value in config.parts.items():
    names |= parts.settings(kind, value)
  counts = {}
  for name in sorted(names):
    value = getattr(config, name)
    for count in value if isinstance(value, tuple) else (value,):
      if isinstance(count, int) and count > 1:
        counts.setdefault(count, f'--{name}={records.text(value)}')
  left, flags = math.prod(shape), []
  for count in sorted(counts, reverse=True):
    if left > _MOST_NUMBERS and left % count == 0:
      flags.append(counts[count])
      while left % count == 0:
        left //= count
  return ' '.join(flags) or f'--batch_size={config.batch_size}'


def _model(
  config: Config,
  data_shape: Sequence[int],
  mean_image: np.ndarray | None,
  w_init: networks.Initializer,
) -> models.VAE:
  _check(config)
  output_bias = None
  if config.output_bias == 'data_mean' and mean_image is not None:
    # Burda et al. 2015: logits of the mean, kept off the ends.
    output_bias = scipy.special.logit(np.clip(mean_image, 0.001, 0.999))
  make = functools.partial(
    _make,
    config,
    data_shape=tuple(data_shape),
    w_init=w_init,
    activation=_activation(config.activation),
    code_activation=_activation(config.code_activation),
    output_activation=_activation(config.output_activation),
    likelihood_scale=config.parse_likelihood_scale(),
    output_bias=output_bias,
    key=randomness.key(config.seed, randomness.Purpose.WEIGHTS, 0),
  )
  posterior, likelihood = make('posterior'), make('likelihood')
  encode = models.Encoder(
    make('encoder', output_shape=posterior.parameter_shape), posterior
  )
  decode = models.Decoder(
    make('decoder', output_shape=likelihood.parameter_shape), likelihood
  )
  decode(encode(tf.zeros([1, *data_shape])).mean())
  prior = make('prior')
  if prior.trainable_variables and not getattr(posterior, 'has_rate', True):
    raise config_lib.ConfigError(
      f'--prior={config.prior}: --posterior={config.posterior} has no rate '
      'that could train it'
    )
  return models.VAE(encode, decode, prior)


def _activation(name: str) -> networks.Activation:
  return tf.identity if name == 'linear' else getattr(tf.nn, name)


def _find(config: Config, kind: str) -> Any:
  """The part of a kind that a config chooses."""
  module = importlib.import_module(f'vae.{parts.KINDS[kind].module}')
  return getattr(module, parts.find(kind)[config.parts[kind]])


# The number of the first weight that an objective owns: above any model's.
_OWN_WEIGHTS = 2**20


def _settings(config: Config, kind: str, **provided: Any) -> dict[str, Any]:
  """Returns what a config's part of a kind is made with."""
  available = dataclasses.asdict(config) | provided
  names = parts.parameters(kind, config.parts[kind])
  return {name: available[name] for name in names if name in available}


def _make(config: Config, kind: str, **provided: Any) -> Any:
  """Calls a config's part of a kind with the settings that it asks for.

  Raises:
    ConfigError: the part refuses them.
  """
  try:
    return _find(config, kind)(**_settings(config, kind, **provided))
  except errors.PartError as error:
    raise config_lib.ConfigError(f'{config.flag_of(kind)}: {error}') from error


# -- What the parts say of themselves -----------------------------------------


class Properties(NamedTuple):
  """The properties of a run, as its parts say them; part of its manifest.

  Attributes:
    has_elbo: whether there are a rate and a distortion in nats; there are none
      in autoencoders.
    has_density: whether log p(x|z) is the log-density of the targets.
    takes_beta: whether beta does anything.
    targets: what the likelihood is asked to explain, in words.
    weights: what the objective weighs its terms with, by name.
    effective_beta: what weighs the rate against the distortion, both in nats;
      None where no number does.
  """

  has_elbo: bool
  has_density: bool
  takes_beta: bool
  targets: str
  weights: dict[str, float]
  effective_beta: float | None


def properties(config: Config, examples: batches.Examples) -> Properties:
  """Returns what a config's parts say of its run.

  Args:
    config: the run's settings.
    examples: of the training split.
  """
  density_of = getattr(_find(config, 'likelihood'), 'density_of', 'any')
  has_rate = getattr(_find(config, 'posterior'), 'has_rate', True)
  has_elbo = has_rate and density_of is not None
  is_binary = isinstance(examples, bits.PackedImages)
  is_grey = config.binarize == 'none' and not is_binary
  levels = 'colour' if examples.shape[3:] == (3,) else 'grey'
  targets = levels
  if is_binary:
    targets = 'binary'
  elif not is_grey:
    own = ' (own draw)' if config.binarize == 'static' else ''
    targets = f'binary, {config.binarize}{own}'
  elif density_of == 'binary':
    targets = (
      f'{levels}: the Bernoulli log-likelihood is a negative cross-entropy, no '
      'log-density of the image'
    )
  traits = terms.traits_of(_find(config, 'objective'))
  weight, effective_beta = traits.rate_weight, None
  if has_elbo and weight == 'beta':
    effective_beta = terms.effective_beta(
      config.beta,
      config.reduction,
      math.prod(examples.shape[1:]),
      config.latent_size,
    )
  elif has_elbo and weight == 'one':
    effective_beta = 1.0
  return Properties(
    has_elbo,
    density_of is not None and not (density_of == 'binary' and is_grey),
    'beta' in config.weights,
    targets,
    {name: getattr(config, name) for name in config.weights}
    | {
      name: times * getattr(config, other)
      for name, (times, other) in traits.multiples.items()
      if name not in config.weights
    },
    effective_beta,
  )


def _check(config: Config) -> None:
  """Checks that the parts of a config go together.

  Raises:
    ConfigError: they do not.
  """
  posterior, likelihood = (
    _find(config, 'posterior'),
    _find(config, 'likelihood'),
  )
  needs = terms.traits_of(_find(config, 'objective')).needs
  has_rate = getattr(posterior, 'has_rate', True)
  density_of = getattr(likelihood, 'density_of', 'any')
  is_grey = config.binarize == 'none'
  chosen = {kind: config.flag_of(kind) for kind in config.parts}
  objective = chosen['objective']
  refusal = None
  if 'rate' in needs and not has_rate:
    refusal = (
      f'{chosen["posterior"]}: a code without noise has no rate, and so no '
      f'{objective}; give --objective=reconstruction'
    )
  elif 'rate' in needs and density_of is None:
    refusal = (
      f'{chosen["likelihood"]}: is no density, and so has no {objective}; give '
      '--likelihood=normal --likelihood_scale=0.7071 for squared errors in '
      'nats, or --objective=reconstruction with --posterior=deterministic'
    )
  elif 'density' in needs and density_of == 'binary' and is_grey:
    refusal = (
      f'{objective}: needs --binarize=dynamic, static or threshold, or another '
      '--likelihood: grey pixels have no log-density under a Bernoulli, so '
      'that their importance-weighted bound bounds nothing'
    )
  elif 'marginals' in needs and not getattr(
    posterior, 'has_normal_marginals', False
  ):
    refusal = (
      f'{objective}: needs the density of each latent, which '
      f'{chosen["posterior"]} does not have'
    )
  elif 'code' in needs and has_rate:
    refusal = (
      f'{objective}: has no rate to keep the noise of {chosen["posterior"]}; '
      'give --posterior=deterministic, or --objective=elbo --beta=0'
    )
  elif density_of == 'grey' and not is_grey:
    refusal = (
      f'{chosen["likelihood"]}: is a density of grey pixels; those of '
      f'--binarize={config.binarize} have probabilities: give '
      '--likelihood=bernoulli'
    )
  elif config.output_bias != 'zero' and not (
    getattr(likelihood, 'takes_logits', False)
    and 'output_bias' in parts.parameters('decoder', config.parts['decoder'])
  ):
    refusal = (
      f'--output_bias={config.output_bias}: needs --decoder=mlp, which has a '
      'bias for each pixel, and --likelihood=bernoulli'
    )
  if refusal:
    raise config_lib.ConfigError(refusal)


# -- What trains the model ----------------------------------------------------


def objective(config: Config, model: models.VAE) -> training.Objective:
  """Makes what the config minimises, with the variables that it owns.

  Args:
    config: the run's settings.
    model: with its variables made.

  Raises:
    ConfigError: settings that the objective refuses.
    TypeError: an objective that breaks its contract.
  """
  w_init = networks.Initializer(config.init, config.seed, _OWN_WEIGHTS)
  loss, module = _loss(config, w_init)
  # Two images make the variables, and show what is measured.
  before = [tf.identity(variable) for variable in model.variables]
  shape = model.decode(tf.zeros([2, config.latent_size])).mean().shape
  first = _first_loss(config, model, loss, tf.zeros(shape))
  for variable, value in zip(model.variables, before, strict=True):
    variable.assign(value)
  own = None
  if module is not None and module.trainable_variables:
    if first.adversary is None:
      raise TypeError(
        f'{type(module).__name__} owns variables, but its loss has no '
        '`adversary` that they could minimise'
      )
    own = _clipped(
      config,
      training.with_slots(module.make_optimizer(), module.trainable_variables),
    )
  return training.Objective(
    loss, config.weights, tuple(first.measured), module, own
  )


def _loss(
  config: Config, w_init: networks.Initializer
) -> tuple[Callable[..., terms.Loss], snt.Module | None]:
  """Makes what is minimised; the second is the module that it is, if any."""
  module = None
  if inspect.isclass(_find(config, 'objective')):
    loss = module = _make(config, 'objective', w_init=w_init)
    snt.allow_empty_variables(module)
  else:
    # The weights among its settings give way to those of each step.
    loss = functools.partial(
      _find(config, 'objective'), **_settings(config, 'objective')
    )
  if config.precision == 'bfloat16':
    loss = precision.in_bfloat16(loss)
  return loss, module


def _first_loss(
  config: Config,
  model: models.VAE,
  loss: Callable[..., terms.Loss],
  images: tf.Tensor,
) -> terms.Loss:
  """The loss of the first step.

  Raises:
    ConfigError: settings that the objective refuses.
  """
  batch = terms.Batch(
    images,
    randomness.key(config.seed, randomness.Purpose.POSTERIOR, 1),
    tf.constant(1, tf.int64),
    images.shape[0],
  )
  weights = {
    name: tf.constant(getattr(config, name)) for name in config.weights
  }
  try:
    return loss(model, batch, **weights)
  except errors.PartError as error:
    raise config_lib.ConfigError(
      f'{config.flag_of("objective")}: {error}'
    ) from error


def optimizer(config: Config, model: models.VAE) -> snt.Optimizer:
  """Makes what updates a model's parameters, with its slots.

  Args:
    config: the run's settings.
    model: with its variables made. What decays of it are the matrices and
      kernels of its encoder and decoder: neither biases, nor what a likelihood
      or a prior learns.
  """
  rate = _input(config, 'learning_rate')
  made = training.with_slots(
    _make(config, 'optimizer', learning_rate=rate), model.trainable_variables
  )
  if config.weight_decay:
    learned = getattr(model.prior, 'trainable_variables', ())
    of_prior = {id(variable) for variable in learned}
    decayed = [
      len(variable.shape) > 1 and id(variable) not in of_prior
      for variable in model.trainable_variables
    ]
    made = training.Decayed(made, _input(config, 'weight_decay'), decayed)
  return _clipped(config, made)


def _input(config: Config, name: str) -> tf.Variable:
  """A setting that a compiled program reads, and another run may change."""
  return tf.Variable(getattr(config, name), trainable=False, name=name)


def _clipped(config: Config, optimizer: snt.Optimizer) -> snt.Optimizer:
  """An optimizer of one network, with its gradients clipped on their own."""
  if not config.clip_norm:
    return optimizer
  return training.Clipped(optimizer, _input(config, 'clip_norm'))


def num_parameters(
  model: models.VAE, own: snt.Module | None = None
) -> dict[str, int]:
  """Returns how many numbers are trained, by the part that they are of.

  Args:
    model: the VAE.
    own: the objective, where it owns variables.
  """
  owners = {
    'encoder': model.encode,
    'decoder': model.decode,
    'prior': model.prior,
    'objective': own,
  }
  counts = {
    name: sum(math.prod(v.shape) for v in owner.trainable_variables)
    for name, owner in owners.items()
    if isinstance(owner, tf.Module)
  }
  return {name: count for name, count in counts.items() if count}


def named_variables(
  **modules: snt.Module | snt.Optimizer,
) -> dict[str, tf.Variable]:
  """Returns every variable of some modules, under a unique name."""
  return {
    f'{prefix}/{index:03d}/{variable.name.split(":")[0]}': variable
    for prefix, module in modules.items()
    for index, variable in enumerate(module.variables)
  }


def open_dataset(
  config: Config,
  data_dir: str,
  report: Callable[[str], None] = print,
  manifest: Mapping[str, Any] | None = None,
  given: Mapping[str, np.ndarray] | None = None,
) -> datasets.Dataset:
  """Opens the data of a config: validation cut, statically binarised.

  Args:
    config: the settings.
    data_dir: TFDS's data folder.
    report: is told what is being tried.
    manifest: of the run whose data they are, which may be cut as older
      versions did; None for a new run.
    given: the arrays that are its dataset, where these were never prepared.

  Raises:
    DatasetError: data that cannot be had.
    ConfigError: more validation images than training images.
  """
  options = sources.Options(
    config.test_share, config.image_size, config.label_column
  )
  dataset = datasets.load(
    config.dataset, data_dir, report, options, cut_of(manifest), given
  )
  if config.binarize == 'static':
    dataset = dataset.statically_binarised()
  try:
    return dataset.with_validation(config.num_validation)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--num_validation={config.num_validation}: {error}'
    ) from error


def cut_of(manifest: Mapping[str, Any] | None) -> int:
  """Returns `sources.CUT`, or as it was when a run was started."""
  return manifest['dataset'].get('cut', 1) if manifest else sources.CUT


def check_dataset(
  dataset: datasets.Dataset, manifest: Mapping[str, Any], data_dir: str
) -> None:
  """Checks that data are those that a run was started with.

  Args:
    dataset: from `open_dataset`.
    manifest: of the run.
    data_dir: where it was opened, for the error message.

  Raises:
    DatasetError: they are others.
  """
  if manifest['dataset']['sha256'] != dataset.provenance['sha256']:
    raise datasets.DatasetError(
      f'--data_dir={data_dir}: the images of {dataset.name} are not those '
      'that the run was started with: their SHA-256 differ'
    )


def values(variables: Mapping[str, tf.Variable]) -> dict[str, np.ndarray]:
  """Returns the variables' values by name."""
  return {name: np.asarray(v.numpy()) for name, v in variables.items()}


def assign(
  variables: Mapping[str, tf.Variable], tensors: Mapping[str, np.ndarray]
) -> None:
  """Gives variables the values of a checkpoint.

  Raises:
    checkpoints.CheckpointError: names, shapes or types that differ; nothing is
      assigned.
  """
  if variables.keys() != tensors.keys():
    differing = sorted(variables.keys() ^ tensors.keys())
    raise checkpoints.CheckpointError(
      f'the checkpoint is of another model: they differ in {differing[0]}'
    )
  for name, variable in variables.items():
    found = (tensors[name].dtype.name, tensors[name].shape)
    expected = (variable.dtype.name, tuple(variable.shape))
    if found != expected:
      raise checkpoints.CheckpointError(
        f'the checkpoint is of another model: {name} has type and shape '
        f'{found}, expected {expected}'
      )
  for name, variable in variables.items():
    variable.assign(tensors[name])
