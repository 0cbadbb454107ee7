"""Measured limits of the machine, with which the other figures are compared."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.rows import Figure, Row, seconds_in_turns
from benchmarks.setting import Setting

SIZE, TURNS = 2_048, 7
COPIED_BYTES = 1 << 28
BF16, FP32, INT8, MEMORY, CONVOLUTION = (
    "bf16 matrix product",
    "fp32 matrix product",
    "int8 matrix product",
    "memory",
    "bf16 convolution",
)
IMAGES = ((128, 128, 375, 20), (128, 64, 188, 10), (64, 64, 94, 5), (64, 64, 47, 3), (64, 64, 24, 2))
"""Channels in, channels out, frames and mels of the paper's convolutions 2 to 6 on full clips."""


def rows(setting: Setting) -> list[Row]:
    """Matrix products in three precisions, copying, and the network's convolutions, on all cores."""
    torch.set_num_threads(setting.cores)
    works = {BF16: matrices(torch.bfloat16), FP32: matrices(torch.float32), INT8: int8_matrices(setting.cores)}
    gflop = dict.fromkeys(works, 2e-9 * SIZE**3)
    images = convolutions(batch=32)
    works |= {CONVOLUTION: images, MEMORY: copying()}
    gflop[CONVOLUTION] = 2e-9 * 32 * sum(i * o * 9 * t * m for i, o, t, m in IMAGES)
    seconds = seconds_in_turns(works, TURNS, warm_ups=2)
    rates = [
        Row(name, Figure.of([gflop[name] / one for one in seconds[name]], "GFLOP/s"), note=f"{SIZE} x {SIZE}, oneDNN")
        for name in (BF16, FP32, INT8)
    ]
    convolved = Figure.of([gflop[CONVOLUTION] / one for one in seconds[CONVOLUTION]], "GFLOP/s")
    moved = Figure.of([2e-9 * COPIED_BYTES / one for one in seconds[MEMORY]], "GB/s")
    return [
        *rates,
        Row(CONVOLUTION, convolved, note="convolutions 2 to 6 of the paper's network, forward, batch 32"),
        Row(MEMORY, moved, note="copying 256 MiB, bytes read and written"),
    ]


def matrices(kind: torch.dtype) -> Callable[[], object]:
    """A product of two square matrices."""
    left, right = torch.randn(SIZE, SIZE).to(kind), torch.randn(SIZE, SIZE).to(kind)
    return lambda: left @ right


def int8_matrices(threads: int) -> Callable[[], object]:
    """The same in onnxruntime with unsigned and signed bytes, as in a quantized network."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info("x", TensorProto.UINT8, [SIZE, SIZE])]
    weights = np.random.default_rng(0).integers(-128, 128, (SIZE, SIZE), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        ports,
        [helper.make_tensor_value_info("y", TensorProto.INT32, [SIZE, SIZE])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    file = io.BytesIO()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    x = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    return lambda: session.run(None, {"x": x})


def convolutions(batch: int) -> Callable[[], object]:
    """Convolutions 2 to 6 in sequence, bfloat16, channels last."""
    layers, inputs = [], []
    for incoming, outgoing, frames, mels in IMAGES:
        layer = torch.nn.Conv2d(incoming, outgoing, 3, padding=1).to(torch.bfloat16, memory_format=torch.channels_last)
        image = torch.randn(batch, incoming, frames, mels, dtype=torch.bfloat16)
        layers.append(layer)
        inputs.append(image.to(memory_format=torch.channels_last))

    @torch.inference_mode()
    def run() -> None:
        for layer, image in zip(layers, inputs, strict=True):
            layer(image)

    return run


def copying() -> Callable[[], object]:
    """A copy that is larger than the caches."""
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
