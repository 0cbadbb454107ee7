"""Training and batch prediction, compared with Keras and plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from torch import nn

from affekt.nn import Network, NetworkConfig, fused, parameter_ledger
from benchmarks.limits import BF16
from benchmarks.rows import Row, Target, compared, seconds_in_turns
from benchmarks.setting import BATCH, CLASSES, NO_CORPUS, Setting, forward_gflop, training_gflop
from benchmarks.worker import Worker

TURNS = 4
UNIT = "ms an utterance"


def rows(setting: Setting) -> list[Row]:
    """Steps of 32 full clips, and an epoch of EmoDB at its own lengths."""
    torch.set_num_threads(setting.cores)
    with (
        Worker("benchmarks.keras_peer") as keras,
        Worker("benchmarks.keras_peer", "--bfloat16") as mixed,
        Worker("benchmarks.own_training", str(setting.cores)) as own,
    ):
        check_parameters(keras.facts["parameters"])
        works: dict[str, Callable[[], object]] = {
            "keras": keras.call("train"),
            "keras predicts": keras.call("predict"),
            "keras bf16": mixed.call("train"),
            "fp32": plain_step(torch.float32),
            "bf16": plain_step(torch.bfloat16),
            "ours": own.call("train"),
            "ours predicts": own.call("predict"),
        }
        utterances, mean_seconds = own.facts["emodb"]
        if utterances:
            works["emodb"] = own.call("emodb")
        seconds = seconds_in_turns(works, TURNS)
    sizes = dict.fromkeys(works, BATCH) | {"emodb": utterances}
    each = {name: [1_000 * one / sizes[name] for one in times] for name, times in seconds.items()}
    return [*training_rows(each, setting), *prediction_rows(each, setting), emodb_row(each, utterances, mean_seconds)]


def check_parameters(theirs: int) -> None:
    """Check that the alternative has the same number of parameters."""
    ours = sum(row.parameters for row in parameter_ledger(NetworkConfig(), len(CLASSES)))
    if ours != theirs:
        raise RuntimeError(f"Keras' network has {theirs:,} parameters, ours {ours:,}")


def training_rows(each: dict[str, list[float]], setting: Setting) -> list[Row]:
    work = "training, full clips, batch 32"
    bound = 1_000 * training_gflop() / setting.limits[BF16] if BF16 in setting.limits else None
    limit = {"limit": f"arithmetic as a {BF16}", "limit_value": bound}
    target = Target("ratio", at_least=4.5)
    return [
        compared(work, each["ours"], "Keras 3, TensorFlow, fp32", each["keras"], UNIT, target=target, **limit),
        compared(work, each["ours"], "Keras 3, mixed bfloat16", each["keras bf16"], UNIT, **limit),
        compared(work, each["ours"], "PyTorch fp32", each["fp32"], UNIT, **limit),
        compared(work, each["ours"], "PyTorch bf16, channels last", each["bf16"], UNIT, **limit),
    ]


def prediction_rows(each: dict[str, list[float]], setting: Setting) -> list[Row]:
    bound = 1_000 * forward_gflop() / setting.limits[BF16] if BF16 in setting.limits else None
    limit = {"limit": f"arithmetic as a {BF16}", "limit_value": bound}
    note = "bfloat16, as validation during training computes it; exported files are other rows"
    work, ours, theirs = "predicting, full clips, batch 32", each["ours predicts"], each["keras predicts"]
    return [compared(work, ours, "Keras 3, TensorFlow, fp32", theirs, UNIT, note=note, **limit)]


def emodb_row(each: dict[str, list[float]], utterances: int, mean_seconds: float) -> Row:
    work = "training, EmoDB's own lengths, masked, bucketed"
    if not utterances:
        return Row(work, note=NO_CORPUS.format("emodb"))
    note = f"whole epochs of {utterances} utterances, {mean_seconds:.2f} s on average; Keras trains on clips of 7.5 s"
    target = Target("ratio", at_least=9.0)
    return compared(work, each["emodb"], "Keras 3, padded clips", each["keras"], UNIT, target=target, note=note)


def plain_step(kind: torch.dtype) -> Callable[[], object]:
    """A step of the same network with PyTorch's layers."""
    network = Network(NetworkConfig(), mels=40, classes=len(CLASSES)).train()
    clips, labels = torch.randn(BATCH, 750, 40), torch.arange(BATCH) % len(CLASSES)
    if kind == torch.bfloat16:
        network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def step() -> None:
        with mock.patch.object(fused, "serves", return_value=False):
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
                loss = nn.functional.cross_entropy(network(clips).scores.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return step
