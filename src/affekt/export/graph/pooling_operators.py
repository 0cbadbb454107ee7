"""The poolings of `affekt.nn.pooling` in ONNX, one function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from affekt.export.graph.builder import Graph, ints
from affekt.export.graph.network_operators import array
from affekt.nn.pooling import (
    AttentionPooling,
    CombinedPooling,
    MaxPooling,
    MeanPooling,
    SelfAttentivePooling,
    StatisticsPooling,
)

LOWEST = np.float32(np.finfo(np.float32).min)


class States(NamedTuple):
    """Inputs of a pooling, by name: the states, the last states of both directions, and the mask.

    Attributes:
        states: float32 [batch, frames, features].
        last: float32 [batch, features].
        valid: bool [batch, frames, 1], or None where all frames count.
    """

    states: str
    last: str
    valid: str | None


def attention(graph: Graph, module: AttentionPooling, sequence: States) -> str:
    """Weighted mean by attention."""
    return _weighted_mean(graph, sequence, _attention_weights(graph, module, sequence))


def combined(graph: Graph, module: CombinedPooling, sequence: States) -> str:
    """Weighted mean and deviation by attention, side by side."""
    return _mean_and_deviation(graph, sequence, _attention_weights(graph, module, sequence))


def mean(graph: Graph, module: MeanPooling, sequence: States) -> str:
    """Mean over the valid frames."""
    return _weighted_mean(graph, sequence, _uniform_weights(graph, sequence))


def statistics(graph: Graph, module: StatisticsPooling, sequence: States) -> str:
    """Mean and deviation over the valid frames, side by side."""
    return _mean_and_deviation(graph, sequence, _uniform_weights(graph, sequence))


def maximum(graph: Graph, module: MaxPooling, sequence: States) -> str:
    """Maximum over the valid frames."""
    return graph.op("ReduceMax", _hide(graph, sequence.states, sequence), ints(1), keepdims=0)


def self_attentive(graph: Graph, module: SelfAttentivePooling, sequence: States) -> str:
    """One weighted mean per head, side by side."""
    hidden = graph.op("Tanh", graph.op("MatMul", sequence.states, array(module.hidden.weight).T))
    scores = graph.op("MatMul", hidden, array(module.heads.weight).T)
    return _weighted_mean(graph, sequence, _softmax(graph, scores, sequence))


POOLINGS: dict[type[nn.Module], Callable[[Graph, Any, States], str]] = {
    AttentionPooling: attention,
    CombinedPooling: combined,
    MeanPooling: mean,
    MaxPooling: maximum,
    StatisticsPooling: statistics,
    SelfAttentivePooling: self_attentive,
}


def _hide(graph: Graph, values: str, sequence: States) -> str:
    return values if sequence.valid is None else graph.op("Where", sequence.valid, values, LOWEST)


def _softmax(graph: Graph, scores: str, sequence: States) -> str:
    """Over the valid frames: [batch, frames, heads]."""
    return graph.op("Softmax", _hide(graph, scores, sequence), axis=1)


def _attention_weights(graph: Graph, module: AttentionPooling, sequence: States) -> str:
    """softmax of e_t = h_t' W q (eq. 4): [batch, frames, 1]."""
    key = graph.op("MatMul", sequence.last, array(module.score.weight).T)
    return _softmax(graph, graph.op("MatMul", sequence.states, graph.op("Unsqueeze", key, ints(2))), sequence)


def _uniform_weights(graph: Graph, sequence: States) -> str:
    zeros = graph.op("Slice", graph.op("Mul", sequence.states, np.float32(0)), ints(0), ints(1), ints(2))
    return _softmax(graph, zeros, sequence)


def _weighted_mean(graph: Graph, sequence: States, weights: str) -> str:
    """One mean per head, side by side: [batch, heads * features]."""
    means = graph.op("MatMul", graph.op("Transpose", weights, perm=[0, 2, 1]), sequence.states)
    return graph.op("Flatten", means, axis=1)


def _mean_and_deviation(graph: Graph, sequence: States, weights: str) -> str:
    """[mu; sigma] (eq. 5), sigma as sqrt(sum_t a_t (h_t - mu)^2)."""
    mu = _weighted_mean(graph, sequence, weights)
    centered = graph.op("Sub", sequence.states, graph.op("Unsqueeze", mu, ints(1)))
    squares = States(graph.op("Mul", centered, centered), sequence.last, sequence.valid)
    sigma = graph.op("Sqrt", _weighted_mean(graph, squares, weights))
    return graph.op("Concat", mu, sigma, axis=1)
