"""Whisper's log-mel features in ONNX, equal to `features.frontends.whisper_log_mel`.

The Fourier transform of N = 400 samples is a matrix product of half its plain size. With E[k] the sum over even and
O[k] over odd samples, X[k] = E[k] + O[k]. The signal is real and exp(-2 pi i (N/2 - k) n / N) =
(-1)^n exp(2 pi i k n / N), so X[N/2 - k] is the conjugate of E[k] - O[k]: both halves of the spectrum follow from sums
for k = 0 .. N/4. Even and odd samples are parted once, before frames are cut. (Folding each frame about its center as
well, as `front_end` does, halves the products again, but the reversed copies of frames then take longer than they
save.)

Before each recording stand 200 reflected samples and after its own end 40: the last frame reaches no farther.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from affekt.export.graph.builder import Graph, ints
from affekt.export.graph.network_operators import Floats
from affekt.features.frontends.whisper_log_mel import (
    FFT_SAMPLES,
    HOP_SAMPLES,
    REACH_SAMPLES,
    SHORTEST_SAMPLES,
    TAIL_SAMPLES,
    WhisperLogMel,
    slaney_filterbank,
)


class LogMelInGraph(NamedTuple):
    """Features and their sizes, as names in the graph.

    Attributes:
        features: float32 [batch, frames, mels], 0 past a recording's end.
        energy: float32 [batch, frames, 1], the sum of a frame's bands divided by the recording's largest band; each
            band is at least 10^-decades, also past a recording's end.
        frames: int64 [1], frames of the longest recording.
        lengths: int64 [batch, 1], frames of each recording.
        valid: bool [batch, frames, 1].
    """

    features: str
    energy: str
    frames: str
    lengths: str
    valid: str


def whisper_log_mel(graph: Graph, config: WhisperLogMel, waveform: str, samples: str) -> LogMelInGraph:
    """Features of each recording's clip, from float32 [batch, samples] and int64 [batch]."""
    clipped = graph.op("Slice", waveform, ints(0), ints(config.clip_samples), ints(1))
    own = graph.op("Unsqueeze", graph.op("Max", samples, np.int64(SHORTEST_SAMPLES)), ints(1))
    own = graph.op("Min", own, np.int64(config.clip_samples))
    lengths = graph.op("Div", own, np.int64(HOP_SAMPLES))
    width = graph.op("Max", graph.size(clipped, 1), ints(SHORTEST_SAMPLES))
    frames = graph.op("Div", width, ints(HOP_SAMPLES))
    valid = graph.op("Unsqueeze", graph.op("Less", graph.count(frames), lengths), ints(2))
    energy = _mel_energy(graph, _reflected(graph, clipped, samples, own, width), frames, slaney_filterbank(config.mels))
    energy = graph.op("Where", valid, graph.op("Max", energy, np.float32(config.floor)), np.float32(0))
    largest = graph.op("ReduceMax", energy, ints(1, 2), keepdims=1)
    relative = graph.op("Max", graph.op("Div", energy, largest), np.float32(10**-config.decades))
    decades = graph.op("Mul", graph.op("Log", relative), np.float32(1 / np.log(10) / 4))
    if config.top is None:
        level = graph.op("Mul", graph.op("Log", largest), np.float32(1 / np.log(10) / 4))
        scaled = graph.op("Add", decades, graph.op("Add", level, np.float32(1)))
    else:
        scaled = graph.op("Add", decades, np.float32(config.top / 4))
    features = graph.op("Where", valid, scaled, np.float32(0))
    return LogMelInGraph(features, graph.op("ReduceSum", relative, ints(2), keepdims=1), frames, lengths, valid)


def _reflected(graph: Graph, waveform: str, samples: str, own: str, width: str) -> str:
    """200 reflected samples, the recording, 40 reflected samples after its own end; an even number in all.

    Samples past a recording's end are anything: frames that see them are hidden. Only a recording that is shorter than
    a frame is filled with zeros.
    """
    missing = graph.op("Sub", width, graph.size(waveform, 1))
    odd = graph.op("Mod", width, ints(2))
    after = graph.op("Add", graph.op("Add", missing, odd), ints(TAIL_SAMPLES))
    padded = graph.op("Pad", waveform, graph.op("Concat", ints(0, 0, 0), after, axis=0))
    offset = np.arange(TAIL_SAMPLES, dtype=np.int64)
    start = graph.op("Slice", padded, ints(0), ints(SHORTEST_SAMPLES), ints(1))
    heard = graph.op("Less", np.arange(SHORTEST_SAMPLES), graph.op("Unsqueeze", samples, ints(1)))
    start = graph.op("Where", heard, start, np.float32(0))
    before = graph.op("Slice", start, ints(REACH_SAMPLES), ints(0), ints(1), ints(-1))
    rest = graph.op("Slice", padded, ints(SHORTEST_SAMPLES), ints(np.iinfo(np.int64).max), ints(1))
    whole = graph.op("Concat", before, start, rest, axis=1)
    mirrored = graph.op("GatherElements", whole, graph.op("Sub", own, offset + 2 - REACH_SAMPLES), axis=1)
    return graph.op("ScatterElements", whole, graph.op("Add", own, offset + REACH_SAMPLES), mirrored, axis=1)


def _mel_energy(graph: Graph, waveform: str, frames: str, filters: Floats) -> str:
    """Energy of the mel bands, float32 [batch, frames, mels]; frame t covers samples [160 t, 160 t + 400)."""
    bins = np.arange(FFT_SAMPLES // 4 + 1)
    sums = []
    for parity in (0, 1):
        place = np.arange(parity, FFT_SAMPLES, 2)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * place / FFT_SAMPLES)
        angle = 2 * np.pi / FFT_SAMPLES * np.outer(place, bins)
        waves = window[:, None] * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        every_other = graph.op("Slice", waveform, ints(parity), ints(np.iinfo(np.int64).max), ints(1), ints(2))
        sums.append(graph.op("MatMul", _frames(graph, every_other, frames), np.float32(waves)))
    lower, upper = graph.op("Add", *sums), graph.op("Sub", *sums)
    mirrored = filters[: FFT_SAMPLES // 4 - 1 : -1].copy()  # bin N/2 - k in row k
    mirrored[-1] = 0  # bin N/4 is its own mirror and already among the lower ones
    parts = [
        graph.op("MatMul", graph.op("Mul", half, half), np.concatenate([own, own]))  # squares of real, imaginary part
        for half, own in ((lower, filters[: FFT_SAMPLES // 4 + 1]), (upper, mirrored))
    ]
    return graph.op("Add", *parts)


def _frames(graph: Graph, samples: str, frames: str) -> str:
    """Every other sample of each frame, [batch, frames, 200]: blocks of half a hop, each beside those that follow."""
    hop, window = HOP_SAMPLES // 2, FFT_SAMPLES // 2
    reach = -(-window // hop)
    size = graph.op("Mul", graph.op("Add", frames, ints(reach - 1)), ints(hop))
    missing = graph.op("Sub", size, graph.size(samples, 1))
    padded = graph.op("Pad", samples, graph.op("Concat", ints(0, 0, 0), missing, axis=0))
    blocked = graph.op("Reshape", padded, ints(0, -1, hop))
    parts = []
    for block in range(reach):
        length = min(hop, window - block * hop)
        end = graph.op("Concat", graph.op("Add", frames, ints(block)), ints(length), axis=0)
        parts.append(graph.op("Slice", blocked, ints(block, 0), end, ints(1, 2)))
    return graph.op("Concat", *parts, axis=2)


def states_of(graph: Graph, log_mel: LogMelInGraph) -> tuple[str, str]:
    """Number of states of the longest recording, int64 [1], and of each, int64 [batch, 1]: half the frames, up."""
    halves = (
        graph.op("Div", graph.op("Add", value, one), two)
        for value, one, two in (
            (log_mel.frames, ints(1), ints(2)),
            (log_mel.lengths, np.int64(1), np.int64(2)),
        )
    )
    frames, lengths = halves
    return frames, lengths


def active_span(graph: Graph, log_mel: LogMelInGraph, states: str, lengths: str, trim_db: float, margin: int) -> str:
    """The part of each recording between its first and last loud state, as `nn.encoder.active_span`.

    Returns:
        bool [batch, states, 1].
    """
    even = graph.op("Mul", states, ints(2))
    missing = graph.op("Concat", ints(0, 0, 0, 0), graph.op("Sub", even, log_mel.frames), ints(0), axis=0)
    pairs = graph.op("Reshape", graph.op("Pad", log_mel.energy, missing), ints(0, -1, 2))
    energy = graph.op("ReduceMax", pairs, ints(2), keepdims=0)
    loudest = graph.op("ReduceMax", energy, ints(1), keepdims=1)
    loud = graph.op("Greater", energy, graph.op("Mul", loudest, np.float32(10 ** (-trim_db / 10))))
    loud = graph.op("Cast", loud, to=TensorProto.FLOAT)
    first, last = (graph.op("ArgMax", loud, axis=1, keepdims=1, select_last_index=which) for which in (0, 1))
    time = graph.count(states)
    inside = graph.op("GreaterOrEqual", time, graph.op("Sub", first, np.int64(margin)))
    inside = graph.op("And", inside, graph.op("LessOrEqual", time, graph.op("Add", last, np.int64(margin))))
    return graph.op("Unsqueeze", graph.op("And", inside, graph.op("Less", time, lengths)), ints(2))
