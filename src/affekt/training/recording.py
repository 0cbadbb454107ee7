"""A step of training that is recorded once and then replayed: CUDA graphs.

A step launches some two hundred small kernels, and launching them from Python takes longer than running them. Recorded,
they are one launch. What a recorded step reads must lie where it lay when it was recorded, so its inputs are copied to
tensors of its own; what it needs beside them (weights, the optimiser's averages and learning rate, the state of the
random numbers) must be tensors that change in place.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...]
Step = Callable[..., Tensors]
PLAIN_CALLS = 3
"""Calls with inputs of one shape before they are recorded: libraries choose and allocate what they need in these."""
MOST_SHAPES = 16
"""More shapes of inputs than these run unrecorded: each holds the memory of a whole step."""


class Recorded(NamedTuple):
    """A recorded step: what runs it again, and where it then leaves its outputs."""

    replay: Callable[[], object]
    outputs: Tensors


class Recorder(Protocol):
    """Records what a function without arguments launches, and launches nothing meanwhile."""

    def __call__(self, step: Callable[[], Tensors]) -> Recorded: ...


class GraphRecorder:
    """Records CUDA graphs on this thread's stream; they share their memory, so only one may run at a time."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.current_stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], Tensors]) -> Recorded:
        graph = torch.cuda.CUDAGraph()
        with (
            _nothing_collected(),
            torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"),
        ):
            outputs = step()
        return Recorded(graph.replay, outputs)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep Python from freeing what is unreachable within the context: freeing an old graph ends a recording."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Replayed:
    """A function of tensors, recorded for each shape of its inputs the fourth time they have it, and replayed after.

    Outputs are valid until the next call. A step that cannot be recorded is said to be so once, and runs unrecorded.

    >>> double = Replayed(lambda x: (2 * x,), recorder=None)
    >>> double(torch.ones(2))[0].tolist()
    [2.0, 2.0]
    """

    def __init__(self, step: Step, recorder: Recorder | None) -> None:
        self._step, self._recorder = step, recorder
        self._calls: dict[object, int] = {}
        self._recorded: dict[object, tuple[Tensors, Recorded]] = {}

    def __call__(self, *inputs: Tensor) -> Tensors:
        if self._recorder is None:
            return self._step(*inputs)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if shapes not in self._recorded and not self._record(shapes, inputs):
            return self._step(*inputs)
        own, recorded = self._recorded[shapes]
        for tensor, value in zip(own, inputs, strict=True):
            tensor.copy_(value)
        recorded.replay()
        return recorded.outputs

    @property
    def records(self) -> int:
        """How many shapes are recorded."""
        return len(self._recorded)

    def _record(self, shapes: object, inputs: Tensors) -> bool:
        """Record the step for these shapes, if it is time."""
        calls = self._calls[shapes] = self._calls.get(shapes, 0) + 1
        if calls <= PLAIN_CALLS or len(self._recorded) >= MOST_SHAPES:
            return False
        own = tuple(tensor.clone() for tensor in inputs)
        assert self._recorder is not None
        try:
            self._recorded[shapes] = own, self._recorder(lambda: self._step(*own))
        except RuntimeError as error:
            first = error.__context__ or error  # of the operation, if it was one that ended the recording
            reason = str(first).partition("\n")[0]
            log.warning(
                "a step of training could not be recorded (%s), expected a CUDA graph; it runs unrecorded, and slower",
                reason,
            )
            self._recorder = None
            return False
        return True


def may_record(device: torch.device) -> bool:
    """Whether steps can be recorded there, and AFFEKT_CUDA_GRAPHS=0 does not forbid it."""
    return device.type == "cuda" and os.environ.get("AFFEKT_CUDA_GRAPHS", "1") != "0"
