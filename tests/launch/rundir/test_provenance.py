import pathlib

import pytest
import tensorflow as tf

from launch.rundir import provenance


@pytest.mark.parametrize(
  ('flags', 'has_bfloat16'),
  [
    ('fpu avx512f avx512_bf16', True),
    ('fpu avx512f amx_bf16 amx_tile', True),
    ('fpu avx2 avx512f avx512_vnni', False),
    ('', False),  # Not Linux.
  ],
)
def test_which_processors_multiply_in_bfloat16(
  monkeypatch, flags, has_bfloat16
):
  entries = {'flags': flags}
  monkeypatch.setattr(provenance, '_cpu', lambda entry: entries[entry])
  assert provenance.has_bfloat16() == has_bfloat16


@pytest.mark.parametrize(
  ('capability', 'has_bfloat16'),
  [((7, 5), False), ((8, 0), True), ((9, 0), True), (None, False)],
)
def test_which_gpus_multiply_in_bfloat16(monkeypatch, capability, has_bfloat16):
  details = {} if capability is None else {'compute_capability': capability}
  config = tf.config
  monkeypatch.setattr(config, 'list_physical_devices', lambda kind: ['GPU'])
  monkeypatch.setattr(
    config.experimental, 'get_device_details', lambda gpu: details
  )
  assert provenance.has_bfloat16() == has_bfloat16


@pytest.mark.parametrize(
  ('devices', 'visible', 'found', 'is_idle'),
  [
    (['nvidia0'], None, [], True),
    (['nvidia0'], '0', [], True),
    (['nvidia0'], None, ['GPU'], False),
    (['nvidia0'], '', [], False),  # Hidden by who runs it.
    (['nvidia0'], '-1', [], False),
    ([], None, [], False),
  ],
)
def test_a_gpu_that_tensorflow_does_not_find_is_idle(
  monkeypatch, devices, visible, found, is_idle
):
  monkeypatch.setattr(pathlib.Path, 'glob', lambda self, pattern: iter(devices))
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: found)
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  if visible is not None:
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
  assert provenance.has_idle_gpu() == is_idle


@pytest.mark.parametrize(
  ('capability', 'is_enabled', 'tf32'),
  [((7, 5), True, False), ((8, 0), True, True), ((9, 0), False, False)],
)
def test_a_gpu_that_multiplies_in_tf32_is_said_to(
  monkeypatch, capability, is_enabled, tf32
):
  experimental = tf.config.experimental
  details = {'device_name': 'D', 'compute_capability': capability}
  gpus = [tf.config.PhysicalDevice('GPU:0', 'GPU')]
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
  monkeypatch.setattr(experimental, 'get_device_details', lambda gpu: details)
  monkeypatch.setattr(
    experimental, 'tensor_float_32_execution_enabled', lambda: is_enabled
  )
  assert provenance.device() == {'type': 'GPU', 'name': 'D', 'tf32': tf32}
