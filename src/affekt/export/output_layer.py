"""The output layer of an exported model: read it, and put another one on the same embedding.

Fine-tuning changes nothing below the embedding, so a new model is the old file with another output layer and card.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from jaxtyping import Float
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from affekt.errors import CheckpointError
from affekt.recognition.card import ModelCard

HEAD_KEY = "affekt.head"
"""Metadata key of the output layer: JSON with `weight` (base64 float32 [classes, features]) and `bias` [classes]."""


@dataclass(frozen=True)
class OutputLayer:
    """logits = embedding W' + b, before the temperature.

    Attributes:
        weight: [classes, features].
        bias: [classes].
    """

    weight: Float[NDArray[np.float64], "classes features"]
    bias: Float[NDArray[np.float64], " classes"]

    def logits(
        self, embeddings: Float[NDArray[np.float32], "batch features"]
    ) -> Float[NDArray[np.float64], "batch classes"]:
        """Logits of embeddings.

        >>> OutputLayer(np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([0.5, 0.0])).logits(np.ones((1, 2), np.float32))
        array([[3.5, 1. ]])
        """
        return np.asarray(embeddings.astype(np.float64) @ self.weight.T + self.bias)

    def to_metadata(self) -> dict[str, str]:
        """The entry of the ONNX metadata."""
        weight = base64.b64encode(self.weight.astype(np.float32).tobytes()).decode("ascii")
        return {HEAD_KEY: json.dumps({"weight": weight, "bias": self.bias.astype(np.float32).tolist()})}


def read_output_layer(model: bytes, name: str = "model") -> OutputLayer:
    """The output layer that an ONNX file's metadata states.

    Args:
        model: content of the file.
        name: how messages name it.

    Raises:
        CheckpointError: a model without a linear output layer on its embedding.
    """
    metadata = {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
    if HEAD_KEY not in metadata:
        raise CheckpointError(
            f"model {name}",
            got="no linear output layer in its metadata",
            expected="a model on the pretrained encoder, such as the bundled one",
            remedy="start from a checkpoint (.safetensors) of this model",
        )
    entry = json.loads(metadata[HEAD_KEY])
    bias = np.asarray(entry["bias"], np.float64)
    weight = np.frombuffer(base64.b64decode(entry["weight"]), np.float32).reshape(len(bias), -1)
    return OutputLayer(weight.astype(np.float64), bias)


def with_output_layer(model: bytes, layer: OutputLayer, card: ModelCard) -> bytes:
    """A model file with another output layer on the same embedding.

    Args:
        model: content of the file that :func:`read_output_layer` reads.
        layer: its new output layer, one row per label of the card.
        card: its new card; the temperature divides the logits.

    Returns:
        Content of the new file.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    kept = [node for node in graph.node if "probabilities" not in node.output]
    tensors = {
        "output_layer.weight": layer.weight.T.astype(np.float32),
        "output_layer.bias": layer.bias.astype(np.float32),
        "output_layer.scale": np.asarray(1.0 / card.temperature, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["embedding", "output_layer.weight"], ["output_layer.products"]),
        helper.make_node("Add", ["output_layer.products", "output_layer.bias"], ["output_layer.logits"]),
        helper.make_node("Mul", ["output_layer.logits", "output_layer.scale"], ["output_layer.scaled"]),
        helper.make_node("Softmax", ["output_layer.scaled"], ["probabilities"], axis=-1),
    ]
    outputs = [output.name for output in graph.output]
    needed = _needed([*kept, *nodes], outputs)
    del graph.node[:]
    graph.node.extend(needed)
    read = {name for node in needed for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in read and tensor.name not in tensors]
    del graph.initializer[:]
    graph.initializer.extend(
        [*initializers, *(numpy_helper.from_array(value, name) for name, value in tensors.items())]
    )
    classes = next(output for output in graph.output if output.name == "probabilities")
    classes.type.tensor_type.shape.dim[1].dim_value = len(card.labels)
    metadata = {entry.key: entry.value for entry in proto.metadata_props} | card.to_metadata() | layer.to_metadata()
    helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=False)
    content: bytes = proto.SerializeToString()
    return content


def _needed(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that some output depends on, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]
