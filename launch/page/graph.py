"""A decoder as the graph that TensorFlow.js runs."""

import base64
import re
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.python.framework import convert_to_constants

# It runs these too, but not within one call.
_CONTROL_FLOW = {
  *('Enter', 'Exit', 'If', 'LoopCond', 'Merge', 'NextIteration'),
  *('StatelessIf', 'StatelessWhile', 'Switch', 'While'),
}


class GraphError(ValueError):
  """A decoder does what TensorFlow.js cannot do; one line."""


def decoder(decode: Any, latent_size: int, library: str) -> dict[str, Any]:
  """Returns the means of a decoder as a graph model.

  Args:
    decode: the signature, from latents [B, L] to a dictionary with `mean`.
    latent_size: L.
    library: the source of TensorFlow.js, which names what it can do.

  Returns:
    What `tf.io.fromMemory` takes: `modelTopology`, `weightSpecs` and, in
    base64, `weightData`; and the name of its `output`.

  Raises:
    GraphError: an operation that the library lacks.
  """
  spec = tf.TensorSpec([1, latent_size], tf.float32, name='latents')
  mean = tf.function(lambda latents: decode(latents)['mean'])
  frozen = convert_to_constants.convert_variables_to_constants_v2(
    mean.get_concrete_function(spec)
  )
  graph = frozen.graph.as_graph_def()
  ops = {node.op for node in graph.node}
  known = set(re.findall(r'tfOpName:"(\w+)"', library)) - _CONTROL_FLOW
  if unknown := sorted(ops - known):
    raise GraphError(
      f'the decoder uses {", ".join(unknown)}, which TensorFlow.js does not '
      'run in a page'
    )
  specs, weights = [], []
  for node in graph.node:
    if node.op != 'Const':
      continue
    value = tf.make_ndarray(node.attr['value'].tensor)
    if value.dtype == np.int64:  # Which it does not have.
      value = value.astype(np.int32)
    specs.append(
      {
        'name': node.name,
        'shape': list(value.shape),
        'dtype': value.dtype.name,
      }
    )
    weights.append(value.tobytes())
    del node.attr['value']
  return {
    'modelTopology': json_format.MessageToDict(graph),
    'weightSpecs': specs,
    'weightData': base64.b64encode(b''.join(weights)).decode(),
    'output': frozen.outputs[0].name,
  }
