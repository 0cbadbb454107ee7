"""How long the whole of Table 2 would take on one GPU: 14 systems x 5 folds, 5531 utterances of 7.5 s, 100 epochs.

    python -m benchmarks.gpu_table2 [--steps 100] [--device cuda]

Measures, on random data of that size that stays on the device: features, a training step of 32 utterances (as `affekt
train` runs it, and with the network compiled into CUDA graphs), and validation. Everything else is multiplication, and
the output says so. Jobs are taken one after the other: what running several at once would gain is not measured. Without
CUDA it says that, in one line, and exits with 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from affekt.batching import Clips
from affekt.features import FeatureConfig, LogMel
from affekt.systems import TABLE2, System
from affekt.training import Part, TrainConfig, _Run, score
from benchmarks.rows import Figure, Row, Target
from benchmarks.setting import BATCH, CLASSES, Setting

UTTERANCES, FOLDS, EPOCHS = 5_531, 5, 100
TRAINED, VALIDATED = round(0.55 * UTTERANCES), round(0.25 * UTTERANCES)
"""Utterances of each part of a fold, as the paper splits them."""
EPOCH_STEPS = 20
TARGET_MICROSECONDS, TARGET_MINUTES = 70.0, 20.0


@dataclass(frozen=True)
class Measured:
    """Seconds for one utterance of each work."""

    features: float
    training: float
    compiled: float
    validation: float

    def table2_minutes(self, training: float, systems: int = len(TABLE2)) -> float:
        """Features once; every job's epochs, none of them cut short by early stopping.

        >>> round(Measured(0.0, 1e-4, 1e-4, 0.0).table2_minutes(1e-4, systems=1), 2)  # 5 folds, 100 epochs of 3042
        2.54
        """
        epoch = TRAINED * training + VALIDATED * self.validation
        return (UTTERANCES * self.features + systems * FOLDS * EPOCHS * epoch) / 60


def main() -> int:
    """Measure, multiply, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="steps of each measurement")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device, so how long Table 2 takes on a GPU is unknown", file=sys.stderr)
        return 2
    print(report(measure(device, options.steps), device))
    return 0


def rows(setting: Setting) -> list[Row]:
    """For the table: a training step, and all of Table 2 extrapolated."""
    works = ("training on a GPU, batch 32", "Table 2 on a GPU, extrapolated")
    if not torch.cuda.is_available():
        return [Row(work, note="not measured: no CUDA device") for work in works]
    measured = measure(torch.device("cuda"), steps=100)
    best = min(measured.training, measured.compiled)
    step, whole = Figure.of(1e6 * best, "us an utterance"), Figure.of(measured.table2_minutes(best), "minutes")
    return [
        Row(works[0], step, target=Target("ours", at_most=TARGET_MICROSECONDS)),
        Row(works[1], whole, target=Target("ours", at_most=TARGET_MINUTES), note="one job at a time, 100 epochs each"),
    ]


def measure(device: torch.device, steps: int, utterances: int = UTTERANCES) -> Measured:
    """Everything on random data of that many utterances."""
    clips = random_clips(utterances).to(device)
    plain, compiled = (trainer(clips, TABLE2[0], device, compile) for compile in (False, True))
    epochs = max(1, steps // EPOCH_STEPS)
    seconds = seconds_each({"training": plain[0], "compiled": compiled[0], "validation": plain[1]}, epochs, device)
    each = (seconds[name] / (BATCH * EPOCH_STEPS) for name in ("training", "compiled", "validation"))
    return Measured(feature_seconds(device), *each)


def random_clips(utterances: int) -> Clips:
    """Features of full clips."""
    values = torch.randn(utterances * 750, 40, generator=torch.Generator().manual_seed(0))
    return Clips(values, torch.arange(utterances + 1) * 750, torch.zeros(40))


def trainer(
    clips: Clips, system: System, device: torch.device, compiled: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """An epoch of training and one of validation, each of a few batches."""
    rows = np.arange(EPOCH_STEPS * BATCH)
    part = Part(rows, rows % len(CLASSES))
    run = _Run(system, clips, part, part, len(CLASSES), TrainConfig(batch_size=BATCH), 0, device)
    if compiled and device.type == "cuda":  # elsewhere the plain path is all there is
        run.network = torch.compile(run.network, mode="reduce-overhead")

    return lambda: run._train_epoch(1), lambda: score(run.fitted(), clips, rows, run.config, device)


def feature_seconds(device: torch.device) -> float:
    """Log-mel features of one clip, computed in batches."""
    config = FeatureConfig()
    log_mel, waveforms = LogMel(config).to(device), torch.randn(BATCH, config.clip_samples, device=device)
    with torch.inference_mode():
        return seconds_each({"features": lambda: log_mel(waveforms)}, 10, device)["features"] / BATCH


def seconds_each(works: dict[str, Callable[[], object]], steps: int, device: torch.device) -> dict[str, float]:
    """Seconds of one step of each, the device waited for at both ends alone."""
    seconds = {}
    for name, work in works.items():
        for _ in range(3):
            work()
        wait(device)
        start = perf_counter()
        for _ in range(steps):
            work()
        wait(device)
        seconds[name] = (perf_counter() - start) / steps
    return seconds


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(measured: Measured, device: torch.device) -> str:
    """What was measured, and what follows."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    best = min(measured.training, measured.compiled)
    minutes = measured.table2_minutes(best)
    jobs = f"{len(TABLE2)} systems x {FOLDS} folds x {EPOCHS} epochs"
    works = ("features", "training", "compiled", "validation")
    return "\n".join(
        [
            f"{name}, torch {torch.__version__}, random data, {UTTERANCES:,} utterances of 7.5 s on the device",
            *(f"  {work:<12}{1e6 * getattr(measured, work):>10.1f} us an utterance" for work in works),
            f"  target      {TARGET_MICROSECONDS:>10.1f} us training: {met(1e6 * best, TARGET_MICROSECONDS)}",
            f"Extrapolated to {jobs}, one job at a time: {minutes:.1f} minutes; target {TARGET_MINUTES:g}: "
            f"{met(minutes, TARGET_MINUTES)}",
        ]
    )


def met(value: float, at_most: float) -> str:
    return "met" if value <= at_most else "unmet"


if __name__ == "__main__":
    sys.exit(main())
