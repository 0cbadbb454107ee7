"""A small writer of ONNX graphs: operators are called like functions and return the names of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 8
ONNXRUNTIME = "com.microsoft"
"""Domain of onnxruntime's own operators."""

Shape = Sequence[int | str]
ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def ints(*values: int) -> NDArray[np.int64]:
    """A vector of int64, as operators want their axes, shapes and indices."""
    return np.array(values, np.int64)


class Graph:
    """Operators and constants of one graph, in the order of their creation.

    Inputs of an operator are names of earlier results, or arrays, which become constants (equal ones are kept once).

    >>> graph = Graph()
    >>> graph.op("Add", "waveform", np.ones(3, np.float32))
    'Add_0'
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: str | ArrayLike, name: str = "", **attributes: Any) -> str:
        """Append an operator with one result and return the result's name."""
        return self.ops(kind, *inputs, results=1, name=name, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str | ArrayLike, results: int, name: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Append an operator with several results and return their names."""
        first = name or f"{kind}_{len(self.nodes)}"
        names = (first, *(f"{first}:{index}" for index in range(1, results)))
        feeds = [value if isinstance(value, str) else self._constant(np.asarray(value)) for value in inputs]
        self.nodes.append(helper.make_node(kind, feeds, list(names), name=f"node_{len(self.nodes)}", **attributes))
        return names

    def add_constant(self, tensor: onnx.TensorProto, name: str) -> None:
        """Take over a constant of another model under a name of its own."""
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = name
        self._constants.append(copy)

    def size(self, tensor: str, axis: int) -> str:
        """Length of one axis, as a vector of one int64."""
        return self.op("Slice", self.op("Shape", tensor), ints(axis), ints(axis + 1))

    def count(self, length: str | NDArray[np.int64]) -> str:
        """0, 1, ... up to a length, which is a vector of one."""
        return self.op("Range", np.int64(0), self.op("Squeeze", length), np.int64(1))

    def model(
        self,
        inputs: Mapping[str, tuple[str, Shape]],
        outputs: Mapping[str, tuple[str, Shape]],
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The model, checked: inputs and outputs by name, each with its element type and shape."""

        def values(ports: Mapping[str, tuple[str, Shape]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, ELEMENT_TYPES[kind], shape) for name, (kind, shape) in ports.items()
            ]

        graph = helper.make_graph(self.nodes, "affekt", values(inputs), values(outputs), self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == ONNXRUNTIME for node in self.nodes):
            opsets.append(helper.make_opsetid(ONNXRUNTIME, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _constant(self, array: NDArray[np.generic]) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            name = self._names[key] = f"constant_{len(self._names)}"
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return self._names[key]
