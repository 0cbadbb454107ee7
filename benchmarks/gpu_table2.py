"""How long the whole of Table 2 would take on one GPU: 14 systems x 5 folds, 5531 utterances of 7.5 s, 100 epochs.

    python -m benchmarks.gpu_table2 [--steps 100] [--together 1,2,4,8] [--device cuda]

Measures, on random data of that size that stays on the device: features; a training step of 32 utterances, as PyTorch's
own layers compute it, then in fewer passes over memory (`affekt.nn.fused_cuda`), then recorded as a CUDA graph as well,
which is how `affekt train` runs it; several such trainings that take turns, as `affekt experiment --jobs 4` runs them;
and validation. Everything else is multiplication, and the output says so. Without CUDA it says that, in one line, and
exits with 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import torch

from affekt.batching import Clips
from affekt.devices import own_stream, seeded
from affekt.features import FeatureConfig
from affekt.nn import fused_cuda, kernels
from affekt.systems import TABLE2, System
from affekt.training import Part, TrainConfig, _Run, score
from affekt.turns import pass_on_until, take_turns
from benchmarks.rows import Figure, Row, Target
from benchmarks.setting import BATCH, CLASSES, Setting

UTTERANCES, FOLDS, EPOCHS = 5_531, 5, 100
TRAINED, VALIDATED = round(0.55 * UTTERANCES), round(0.25 * UTTERANCES)
"""Utterances of each part of a fold, as the paper splits them."""
EPOCH_STEPS = 20
WARM_UP_EPOCHS = 2
TOGETHER = (2, 4, 8)
TARGET_MICROSECONDS, TARGET_MINUTES = 70.0, 20.0
WAYS = {
    "plain": {"AFFEKT_FUSED": "0", "AFFEKT_CUDA_GRAPHS": "0"},
    "fused": {"AFFEKT_FUSED": "1", "AFFEKT_CUDA_GRAPHS": "0"},
    "recorded": {"AFFEKT_FUSED": "1", "AFFEKT_CUDA_GRAPHS": "1"},
}
"""Ways to take a training step, by the environment that chooses them."""


@dataclass(frozen=True)
class Measured:
    """Seconds for one utterance of each work.

    Attributes:
        features: log-mel of a clip.
        training: a step of training, by way.
        together: the same, recorded, of all trainings that take turns, by their number.
        validation: scoring.
    """

    features: float
    training: dict[str, float]
    together: dict[int, float]
    validation: float

    @property
    def step(self) -> float:
        """A training by itself, as `affekt train` runs it."""
        return self.training["recorded"]

    @property
    def best(self) -> tuple[int, float]:
        """How many trainings at a time take least, and what an utterance of theirs takes."""
        each = {1: self.step} | self.together
        return min(each.items(), key=lambda item: item[1])

    def table2_minutes(self, training: float, systems: int = len(TABLE2)) -> float:
        """Features once; every job's epochs, none of them cut short by early stopping.

        >>> measured = Measured(0.0, {"recorded": 1e-4}, {}, 0.0)
        >>> round(measured.table2_minutes(measured.step, systems=1), 2)  # 5 folds, 100 epochs of 3042
        2.54
        """
        epoch = TRAINED * training + VALIDATED * self.validation
        return (UTTERANCES * self.features + systems * FOLDS * EPOCHS * epoch) / 60


def main() -> int:
    """Measure, multiply, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="steps of each measurement")
    parser.add_argument("--together", default=",".join(map(str, TOGETHER)), help="numbers of trainings at a time")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device, so how long Table 2 takes on a GPU is unknown", file=sys.stderr)
        return 2
    together = tuple(int(count) for count in options.together.split(","))
    print(report(measure(device, options.steps, together=together), device))
    return 0


def rows(setting: Setting) -> list[Row]:
    """For the table: a training step, and all of Table 2 extrapolated."""
    works = ("training on a GPU, batch 32", "Table 2 on a GPU, extrapolated")
    if not torch.cuda.is_available():
        return [Row(work, note="not measured: no CUDA device") for work in works]
    measured = measure(torch.device("cuda"), steps=100)
    count, best = measured.best
    step = Figure.of(1e6 * measured.step, "us an utterance")
    whole = Figure.of(measured.table2_minutes(best), "minutes")
    return [
        Row(works[0], step, target=Target("ours", at_most=TARGET_MICROSECONDS)),
        Row(works[1], whole, target=Target("ours", at_most=TARGET_MINUTES), note=f"{count} jobs at a time, 100 epochs"),
    ]


def measure(
    device: torch.device, steps: int, utterances: int = UTTERANCES, together: tuple[int, ...] = TOGETHER
) -> Measured:
    """Everything on random data of that many utterances."""
    clips, epochs = random_clips(utterances).to(device), max(1, steps // EPOCH_STEPS)
    each = BATCH * EPOCH_STEPS
    training: dict[str, float] = {}
    with own_stream(device):
        for way, variables in WAYS.items():
            with chosen(variables):
                one = Trainer(clips, TABLE2[0], device)
                training[way] = seconds_each(one.train, epochs, device) / each
                check_recorded(one, device, variables)
        validation = seconds_each(one.validate, epochs, device) / each
    turns = {count: seconds_together(clips, count, device, epochs) / each for count in together}
    return Measured(feature_seconds(device), training, turns, validation)


@contextmanager
def chosen(variables: dict[str, str]) -> Iterator[None]:
    """With these environment variables."""
    before, remembered = dict(os.environ), (fused_cuda.available, kernels.library)
    os.environ.update(variables)
    for answer in remembered:
        answer.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        for answer in remembered:
            answer.cache_clear()


def random_clips(utterances: int) -> Clips:
    """Features of full clips."""
    values = torch.randn(utterances * 750, 40, generator=torch.Generator().manual_seed(0))
    return Clips(values, torch.arange(utterances + 1) * 750, torch.zeros(40))


class Trainer:
    """A training of a few batches: an epoch of it at a time, and of its validation."""

    def __init__(self, clips: Clips, system: System, device: torch.device) -> None:
        rows = np.arange(EPOCH_STEPS * BATCH)
        part = Part(rows, rows % len(CLASSES))
        self.run = _Run(system, clips, part, part, len(CLASSES), TrainConfig(batch_size=BATCH), 0, device)

    def train(self) -> tuple[float, float]:
        """Mean loss and accuracy."""
        with seeded(0):
            return self.run._train_epoch(1)

    def validate(self) -> None:
        """Score the same utterances."""
        score(self.run.fitted(), self.run.clips, self.run.validation.rows, self.run.config, self.run.device)


def check_recorded(one: Trainer, device: torch.device, variables: dict[str, str]) -> None:
    """Refuse a time that is not of what it says.

    Raises:
        RuntimeError: steps were to be recorded and were not; the log says why.
    """
    wanted = device.type == "cuda" and variables["AFFEKT_CUDA_GRAPHS"] == "1"
    if wanted and not (one.run.recorded and one.run.recorded.records):
        raise RuntimeError("the step was not recorded, so there is no time of a recorded one")


def feature_seconds(device: torch.device) -> float:
    """Log-mel features of one clip, from a waveform in the host's memory; clip by clip, as a corpus is read."""
    config = FeatureConfig()
    waveforms = list(np.random.default_rng(0).standard_normal((BATCH, config.clip_samples), np.float32))
    return seconds_each(lambda: Clips.from_waveforms(waveforms, config, device), 3, device) / BATCH


def seconds_each(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds of one of several, after some to warm up; the device is waited for at both ends alone."""
    for _ in range(WARM_UP_EPOCHS):
        work()
    wait(device)
    start = perf_counter()
    for _ in range(times):
        work()
    wait(device)
    return (perf_counter() - start) / times


def seconds_together(clips: Clips, count: int, device: torch.device, epochs: int) -> float:
    """Seconds of one epoch, where so many trainings take turns until each has had all of its epochs."""
    warm, done, start = [], [], []  # type: ignore[var-annotated]

    def work(number: int) -> None:
        with own_stream(device):
            one = Trainer(clips, TABLE2[number % len(TABLE2)], device)
            for _ in range(WARM_UP_EPOCHS):
                one.train()
            warm.append(number)
            pass_on_until(lambda: len(warm) == count)
            if not start:
                wait(device)
                start.append(perf_counter())
            for _ in range(epochs):
                one.train()
            done.append(number)
            pass_on_until(lambda: len(done) == count)

    take_turns([partial(work, number) for number in range(count)])
    wait(device)
    return (perf_counter() - start[0]) / (count * epochs)


def wait(device: torch.device) -> None:
    """Return when the device has done all that was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(measured: Measured, device: torch.device) -> str:
    """What was measured, and what follows."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    count, best = measured.best
    minutes = measured.table2_minutes(best)
    jobs = f"{len(TABLE2)} systems x {FOLDS} folds x {EPOCHS} epochs"
    works = {"features": measured.features}
    works |= {f"training, {way}": seconds for way, seconds in measured.training.items()}
    works |= {f"training, {number} at a time": seconds for number, seconds in measured.together.items()}
    works["validation"] = measured.validation
    step = 1e6 * measured.step
    return "\n".join(
        [
            f"{name}, torch {torch.__version__}, random data, {UTTERANCES:,} utterances of 7.5 s on the device",
            *(f"  {work:<24}{1e6 * seconds:>10.1f} us an utterance" for work, seconds in works.items()),
            f"  target, one by itself   {TARGET_MICROSECONDS:>10.1f} us an utterance: {met(step, TARGET_MICROSECONDS)}",
            f"Extrapolated to {jobs}, {count} jobs at a time: {minutes:.1f} minutes; target {TARGET_MINUTES:g}: "
            f"{met(minutes, TARGET_MINUTES)}",
        ]
    )


def met(value: float, at_most: float) -> str:
    """In a word."""
    return "met" if value <= at_most else "unmet"


if __name__ == "__main__":
    sys.exit(main())
