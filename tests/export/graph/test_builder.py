"""The writer of graphs: constants are shared, faulty graphs are refused, names are given."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from affekt.export.graph.builder import Graph, ints


def test_equal_constants_are_kept_once() -> None:
    graph = Graph()
    doubled = graph.op("Mul", "x", np.float32(2))
    graph.op("Mul", doubled, np.float32(2), name="y")
    model = graph.model({"x": ("float32", ["n"])}, {"y": ("float32", ["n"])}, {"key": "value"})
    assert [constant.name for constant in model.graph.initializer] == ["constant_0"]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert session.run(None, {"x": np.float32([1, 3])})[0].tolist() == [4, 12]
    assert session.get_modelmeta().custom_metadata_map == {"key": "value"}


def test_counting_follows_the_input() -> None:
    graph = Graph()
    graph.op("Identity", graph.count(graph.size("x", 1)), name="y")
    model = graph.model({"x": ("float32", [2, "n"])}, {"y": ("int64", ["n"])})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert session.run(None, {"x": np.zeros((2, 3), np.float32)})[0].tolist() == [0, 1, 2]


def test_a_graph_that_does_not_hold_is_refused() -> None:
    graph = Graph()
    graph.op("Reshape", "missing", ints(1), name="y")
    with pytest.raises(onnx.checker.ValidationError, match="missing"):
        graph.model({"x": ("float32", ["n"])}, {"y": ("float32", ["n"])})
