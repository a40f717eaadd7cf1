import numpy as np
import pytest

from launch import arrays


@pytest.mark.parametrize('size', [(5, 5, 1), (30, 30, 3)])
def test_principal_components_hold_the_most_variance_there_is(size):
  generator = np.random.default_rng(0)
  low_rank = generator.normal(size=(80, 3)) @ generator.normal(
    size=(3, np.prod(size))
  )
  examples = low_rank + 0.1 * generator.normal(size=low_rank.shape)
  components = arrays.principal_components(
    examples.astype(np.float32).reshape(80, *size)
  )
  assert components.shape == (80, min(25 if size[2] == 1 else 50, 50))
  # Against the singular values of the centred data.
  centred = examples - examples.mean(axis=0)
  expected = np.linalg.svd(centred, compute_uv=False)[: components.shape[1]]
  actual = np.sort(np.linalg.norm(components.astype('f8'), axis=0))[::-1]
  np.testing.assert_allclose(actual[:3], expected[:3], rtol=1e-2)
  np.testing.assert_allclose(actual, expected, rtol=0.1, atol=0.1)
