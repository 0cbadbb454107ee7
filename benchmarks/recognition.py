"""Latency of one clip, from waveform to probabilities, and of a live stream."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import torch

from affekt.export.onnx_file import Pipeline
from affekt.recognition.recognizer import Recognizer
from benchmarks import openvino_peer
from benchmarks.clip_peer import IN_A_ROW, PLAIN, PLAIN_ENCODER, WAYS, torch_features
from benchmarks.limits import INT8
from benchmarks.rows import Figure, Row, Target, compared, seconds_in_turns
from benchmarks.setting import (
    CLIP_SECONDS,
    RATE_HZ,
    Setting,
    encoder_pipeline,
    forward_gflop,
    noise,
    paper_models,
    paper_pipeline,
)
from benchmarks.worker import Worker

TURNS, HOPS = 21, 30
PAUSE_SECONDS = 0.1
"""Pause until the threads of the previous turn sleep."""
WARM_UPS = 3
WORK = "one 7.5 s clip, waveform to probabilities"
FIRST_WORK = "the first 7.5 s clip after a pause, waveform to probabilities"
UNIT = "ms"


def rows(setting: Setting) -> list[Row]:
    """affekt's models, a plain export and wav2vec2, on all cores and on one."""
    threads = sorted({1, setting.cores}, reverse=True)
    with paper_models() as models:
        folder = models["int8"].parent
        (folder / PLAIN).write_bytes(plain_model(paper_pipeline()))
        (folder / PLAIN_ENCODER).write_bytes(plain_model(encoder_pipeline()))
        found = [row for count in threads for row in clip(folder, count, setting)]
        return [*found, opensmile_row(), stream(models["int8"])]


def clip(folder: Path, threads: int, setting: Setting) -> list[Row]:
    """Rows for a number of threads: consecutive clips and the first clip after a pause; on all cores also wav2vec2."""
    ways = [way for way in WAYS if way != "wav2vec2" or threads == setting.cores]
    if openvino_peer.missing():
        ways = [way for way in ways if "openvino" not in way]
    with ExitStack() as stack:
        peers = {
            way: stack.enter_context(Worker("benchmarks.clip_peer", way, str(threads), str(folder))) for way in ways
        }
        first, following = bursts(peers)
    of = f"{threads} thread{'s' * (threads > 1)}"
    everything = setting if threads == setting.cores else None
    return [
        *clip_rows(following, f"{WORK}, {of}", everything),
        *clip_rows(first, f"{FIRST_WORK}, {of}", None),
    ]


def bursts(peers: Mapping[str, Worker]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of each variant, in turns: the first clip after a pause, and those that follow."""
    first: dict[str, list[float]] = {way: [] for way in peers}
    following: dict[str, list[float]] = {way: [] for way in peers}
    for turn in range(-WARM_UPS, TURNS):
        for way, peer in peers.items():
            sleep(PAUSE_SECONDS)
            seconds = peer.call("recognize")(), peer.call("row")() / IN_A_ROW
            if turn >= 0:
                first[way].append(1_000 * seconds[0])
                following[way].append(1_000 * seconds[1])
    return first, following


def clip_rows(each: dict[str, list[float]], work: str, setting: Setting | None) -> list[Row]:
    """Rows of the variants; with a setting (all cores) also those with limits and targets."""
    rate = setting.limits.get(INT8) if setting else None
    limit = {"limit": f"arithmetic as an {INT8}", "limit_value": 1_000 * forward_gflop() / rate} if rate else {}
    plain, half = "onnxruntime, plain fp32 export", Target("ratio", at_least=2.0) if setting else None
    found = [
        compared(
            f"{work}, int8", each["int8"], f"{plain}, torch's features", each["plain"], UNIT, target=half, **limit
        ),
        compared(f"{work}, int8", each["int8"], f"{plain}, librosa's features", each["librosa"], UNIT, **limit),
        compared(f"{work}, fp32", each["float32"], f"{plain}, torch's features", each["plain"], UNIT),
    ]
    if "wav2vec2" in each:
        target, peer = Target("ratio", at_least=80.0) if setting else None, "wav2vec2-base, PyTorch fp32"
        found.append(compared(f"{work}, int8", each["int8"], peer, each["wav2vec2"], UNIT, target=target))
    found += openvino_rows(each, work) + encoder_rows(each, work, setting)
    note = "its accuracy is in docs/model-card.md"
    return [*found, Row(f"{work}, the bundled model", Figure.of(each["bundled"], UNIT), note=note)]


def openvino_rows(each: dict[str, list[float]], work: str) -> list[Row]:
    """OpenVINO on the plain exports of the paper's network and of the encoder."""
    if "openvino" not in each:
        note = f"OpenVINO not measured: not installed ({openvino_peer.missing()})"
        return [Row(f"{work}, int8", peer="OpenVINO", note=note)]
    found = []
    for name, prefix in (("", ""), (", encoder", "encoder-")):
        for ours, theirs, peer in (
            ("int8", "openvino-int8", "OpenVINO, NNCF's int8, torch's features"),
            ("int8", "openvino", "OpenVINO fp32, torch's features"),
            ("float32", "openvino", "OpenVINO fp32, torch's features"),
        ):
            precision = ours.replace("float32", "fp32")
            row = compared(f"{work}{name}, {precision}", each[prefix + ours], peer, each[prefix + theirs], UNIT)
            found.append(row)
    return found


def encoder_rows(each: dict[str, list[float]], work: str, setting: Setting | None) -> list[Row]:
    """The encoder beside its plain export and beside the paper's network, which it may take 1.3 times as long as."""
    target = Target("ratio", at_least=1 / 1.3) if setting else None
    plain, paper = "onnxruntime, plain fp32 export, torch's features", "the paper's network, int8"
    return [
        compared(f"{work}, encoder, int8", each["encoder-int8"], plain, each["encoder-plain"], UNIT),
        compared(f"{work}, encoder, fp32", each["encoder-float32"], plain, each["encoder-plain"], UNIT),
        compared(f"{work}, encoder, int8", each["encoder-int8"], paper, each["int8"], UNIT, target=target),
    ]


def plain_model(pipeline: Pipeline) -> bytes:
    """The network exported by torch.onnx, from features to scores."""
    scores = torch.nn.Module()
    scores.forward = lambda features: pipeline.network(features).scores  # type: ignore[method-assign]
    scores.network = pipeline.network
    example = (torch.zeros(1, pipeline.features.clip_frames, pipeline.features.mels),)
    ports = {"input_names": ["features"], "output_names": ["scores"]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.onnx"
        torch.onnx.export(scores.eval(), example, path, **ports, dynamo=True, external_data=False, verbose=False)
        return path.read_bytes()


def opensmile_row() -> Row:
    """openSMILE's eGeMAPS functionals of one clip: features only."""
    work, peer = "features of one 7.5 s clip, 1 thread", "openSMILE eGeMAPS"
    try:
        import opensmile
    except ModuleNotFoundError:
        return Row(work, peer=peer, note=f"{peer} not measured: not installed, because of its license")
    smile, pipeline, waveform = opensmile.Smile(), paper_pipeline(), noise()
    works = {
        "ours": lambda: torch_features(pipeline, waveform),
        "theirs": lambda: smile.process_signal(waveform, RATE_HZ),
    }
    each = {name: [1_000 * one for one in times] for name, times in seconds_in_turns(works, TURNS).items()}
    return compared(work, each["ours"], peer, each["theirs"], UNIT, note="log-mel beside 88 functionals")


def stream(model: Path) -> Row:
    """Delay from the last sample of a hop to its answer, with samples in blocks of 20 ms."""
    live = Recognizer.load(model).stream(activity="none")
    pieces = np.split(noise(HOPS * 1.0), HOPS * 50)
    delays: list[float] = []
    for piece in pieces:
        start = perf_counter()
        if live.feed(piece):
            delays.append(perf_counter() - start)
    milliseconds = [1_000 * max(delays)]
    note = f"the slowest of {len(delays)} hops; windows of 3 s, {CLIP_SECONDS:g} s clips' network"
    return Row("live stream: last sample of a hop to its answer", Figure.of(milliseconds, UNIT), note=note)
