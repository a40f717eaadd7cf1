import numpy as np
import pytest
import scipy.stats

from launch import records, runs
from launch.experiment import pictures
from tests.launch import test_records


@pytest.mark.parametrize('size', [(5, 5, 1), (30, 30, 3)])
def test_principal_components_hold_the_most_variance_there_is(size):
  generator = np.random.default_rng(0)
  low_rank = generator.normal(size=(80, 3)) @ generator.normal(
    size=(3, np.prod(size))
  )
  examples = low_rank + 0.1 * generator.normal(size=low_rank.shape)
  components = pictures.principal_components(
    examples.astype(np.float32).reshape(80, *size)
  )
  assert components.shape == (80, min(25 if size[2] == 1 else 50, 50))
  # Against the singular values of the centred data.
  centred = examples - examples.mean(axis=0)
  expected = np.linalg.svd(centred, compute_uv=False)[: components.shape[1]]
  actual = np.sort(np.linalg.norm(components.astype('f8'), axis=0))[::-1]
  np.testing.assert_allclose(actual[:3], expected[:3], rtol=1e-2)
  np.testing.assert_allclose(actual, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('columns', [40, 3000])
@pytest.mark.parametrize('rows', [1, 2, 3])
def test_few_examples_or_equal_ones_have_components_too(rows, columns):
  generator = np.random.default_rng(0)
  examples = generator.integers(0, 256, [rows, columns]).astype(np.uint8)
  components = pictures.principal_components(examples)
  assert len(components) == rows
  # All the variance there is.
  centred = examples / 255 - (examples / 255).mean(axis=0)
  np.testing.assert_allclose(
    np.linalg.norm(components.astype('f8')), np.linalg.norm(centred), rtol=1e-3
  )
  equal = np.full([rows, columns], 7, np.uint8)
  assert not pictures.principal_components(equal).any()


@pytest.mark.parametrize('latents', [1, 2, 1000])
@pytest.mark.parametrize('shape', [[3], [28, 28, 1], [128, 128, 3]])
def test_no_run_unpacks_to_half_of_what_is_refused(tmp_path, shape, latents):
  count, values = 100_000, np.prod(shape)
  data = test_records.MANIFEST['dataset'] | {
    'shape': shape,
    'num_images': {'train': 1, 'test': count},
  }
  records.write_manifest(tmp_path, test_records.MANIFEST | {'dataset': data})
  settings = {'beta': 1, 'reduction': 'sum', 'seed': 0, 'latent_size': latents}
  records.write_object(tmp_path / records.CONFIG, settings)
  half = min(records._most_bytes(tmp_path) / 2, 2**32)
  bytes_each, shown = 2 if len(shape) == 3 else 4, len(records.SHOWN)
  grid = max(pictures.GRID_SIZE, pictures.MANIFOLD_SIZE) ** 2
  moved = 2 * pictures.NUM_TRAVERSED * latents * pictures.GRID_SIZE
  codes = count * (2 * latents + pictures.NUM_COMPONENTS + 20)
  for numbers in (grid * values * shown, moved * values * shown, codes):
    assert min(numbers * bytes_each, 2**32) <= half


def test_quantiles_are_those_of_the_mixture_over_images():
  generator = np.random.default_rng(0)
  means = generator.normal(scale=2, size=(40, 3)).astype(np.float32)
  stddevs = generator.uniform(0.1, 1.5, size=(40, 3)).astype(np.float32)
  stddevs[:, 2] = 1e-6  # As of a code without noise.
  values = pictures.aggregate_quantiles(means, stddevs)
  assert values.shape == (3, len(pictures.QUANTILES))
  for latent in range(3):
    mixture = scipy.stats.norm(means[:, latent], stddevs[:, latent])
    shares = mixture.cdf(values[latent][:, None]).mean(axis=1)
    # Between the codes of two images any value is the quantile.
    tolerance = 0.01 if latent < 2 else 1 / 40
    np.testing.assert_allclose(shares, pictures.QUANTILES, atol=tolerance)


def test_traversals_and_reconstructions_are_what_the_model_decodes(
  launch_train, tmp_path
):
  run = tmp_path / 'run'
  assert launch_train(run_dir=run).code == 0
  model = runs.load(run).model
  kept = records.read_arrays(run, 'reconstructions')
  codes = model.encode(kept['images']).mean().numpy()
  means = model.decode(codes).mean().numpy()
  np.testing.assert_allclose(kept['means'], means, atol=5e-4)  # Half precision.
  assert 0.0 < means.min() < means.max() < 1.0
  np.testing.assert_array_equal(kept['modes'], means > 0.5)
  assert {*np.unique(kept['samples'])} == {0.0, 1.0}
  # As many are white as their means say, within the spread of as many coins.
  spread = np.sqrt((means * (1 - means)).sum())
  assert abs((kept['samples'] - means).sum()) < 4 * spread
  assert not np.array_equal(kept['samples'], kept['modes'])
  moved = records.read_arrays(run, 'traversals')
  codes = codes[1]
  for values, modes in (
    (moved['values'], moved['modes'][1, 2]),
    (moved['quantile_values'][2], moved['quantile_modes'][1, 2]),
  ):
    latents = np.tile(codes, (len(values), 1))
    latents[:, 2] = values
    expected = model.decode(latents).mode().numpy()
    assert (modes == expected).mean() > 0.999  # But where p is one half.
  assert (np.diff(moved['quantile_values']) > 0).all()
