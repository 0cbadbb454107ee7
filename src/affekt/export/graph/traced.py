"""Modules without hand-written operators (own poolings, other networks): traced by PyTorch's exporter and inlined."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.export.graph.builder import OPSET, Graph

BATCH_AND_FRAMES = {0: "batch", 1: "frames"}


def traced(graph: Graph, module: nn.Module, inputs: Mapping[str, Tensor], outputs: int) -> tuple[str, ...]:
    """Append a module's operators to the graph and return the names of its results.

    Args:
        module: called with the inputs in their order.
        inputs: name in the graph -> an example; axis 0 is the batch, and axis 1, where there is one, is time.
        outputs: how many results the module has.

    Raises:
        ConfigError: PyTorch cannot express the module in ONNX; the message has its reason.
    """
    model = _trace(module, list(inputs.values()))
    if len(model.graph.output) != outputs:
        got, expected = f"{len(model.graph.output)} results", f"{outputs}"
        raise ConfigError(f"export of {type(module).__name__}", got=got, expected=expected)
    return _inline(graph, model, list(inputs))


def _trace(module: nn.Module, examples: Sequence[Tensor]) -> onnx.ModelProto:
    shapes = [{axis: name for axis, name in BATCH_AND_FRAMES.items() if axis < example.dim()} for example in examples]
    dimensions = {name: torch.export.Dim(name) for name in BATCH_AND_FRAMES.values()}
    dynamic = tuple({axis: dimensions[name] for axis, name in shape.items()} for shape in shapes)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                module.eval(), tuple(examples), dynamo=True, dynamic_shapes=dynamic, opset_version=OPSET, verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(
            f"export of {type(module).__name__}", got=reason, expected="a module that torch.onnx can export"
        ) from error
    assert program is not None
    return program.model_proto


def _inline(graph: Graph, model: onnx.ModelProto, inputs: Sequence[str]) -> tuple[str, ...]:
    """Copy a model's nodes and constants; names get a prefix of their own, and its inputs become the given results."""
    prefix = f"traced_{len(graph.nodes)}."
    names = {port.name: name for port, name in zip(model.graph.input, inputs, strict=True)}

    def renamed(name: str) -> str:
        return names.get(name, prefix + name) if name else ""

    for constant in model.graph.initializer:
        graph.add_constant(constant, prefix + constant.name)
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = prefix + node.name
        copy.input[:] = [renamed(name) for name in node.input]
        copy.output[:] = [renamed(name) for name in node.output]
        graph.nodes.append(copy)
    return tuple(renamed(port.name) for port in model.graph.output)
