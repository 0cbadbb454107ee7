"""Another output layer on the embedding of an exported model.

Fine-tuning changes nothing below the embedding, so a new model is the old file with another output layer and card.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from affekt.recognition.card import ModelCard
from affekt.recognition.output_layer import OutputLayer


def with_output_layer(model: bytes, layer: OutputLayer, card: ModelCard) -> bytes:
    """A model file with another output layer on the same embedding.

    Args:
        model: content of a file whose metadata states its output layer.
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
