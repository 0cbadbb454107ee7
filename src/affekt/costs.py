"""What an experiment will cost on this machine: a few real training steps, timed, times all that is to be done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from affekt.batching import Clips
from affekt.experiment import Experiment, Job
from affekt.features import FrontEnd
from affekt.systems import System
from affekt.training import Part, TrainConfig, choose_device, fit, score

TYPICAL_EPOCHS = 0.45  # share of `max_epochs` before early stopping: mean of the 10 jobs in results/emodb-random


@dataclass(frozen=True)
class Cost:
    """Seconds that a system takes for an utterance, as measured here on utterances of the corpus' mean length."""

    training: float
    scoring: float

    def job_seconds(self, train: int, validation: int, epochs: float) -> float:
        """A job of so many epochs."""
        return epochs * (train * self.training + validation * self.scoring)


@dataclass(frozen=True)
class Estimate:
    """What is left of an experiment, in hours on this device.

    Attributes:
        jobs: the jobs that are not done.
        costs: of each system.
        typical_hours: with the usual early stopping.
        longest_hours: if every job ran to its last epoch.
    """

    jobs: tuple[Job, ...]
    costs: dict[str, Cost]
    hours: dict[str, float]
    typical_hours: float
    longest_hours: float


def estimate(experiment: Experiment, workers: int) -> Estimate:
    """Time a few steps of every system that still has jobs, and add up."""
    jobs = tuple(job for job in experiment.jobs if not job.done)
    systems = {job.system.name: job.system for job in jobs}
    threads = torch.get_num_threads()
    torch.set_num_threads(experiment.threads)
    try:
        costs = {name: _measure(experiment, system) for name, system in systems.items()}
    finally:
        torch.set_num_threads(threads)
    epochs = experiment.recipe.train.max_epochs
    hours = {
        job.name: costs[job.system.name].job_seconds(len(job.fold.train), len(job.fold.validation), epochs) / 3600
        for job in jobs
    }
    longest = sum(hours.values()) / max(1, min(workers, len(jobs)))
    stops_early = experiment.recipe.train.patience < epochs
    return Estimate(jobs, costs, hours, longest * (TYPICAL_EPOCHS if stops_early else 1.0), longest)


def _measure(experiment: Experiment, system: System) -> Cost:
    """Cost of a system on random clips of the corpus' mean length."""
    config = experiment.recipe.train
    frames = int(experiment.data.clips[system.features].lengths.float().mean())
    clips = _random_clips(system.features, config.batch_size, frames, experiment.device)
    part = Part(np.arange(config.batch_size), np.arange(config.batch_size) % len(experiment.data.classes))
    device = choose_device(experiment.device)
    steps = _steps(config)
    fitted = fit(system, clips, part, part, len(experiment.data.classes), steps, seed=0, device=device)
    scoring = _seconds(lambda: score(fitted, clips, part.rows, steps, device))
    epoch = min(epoch.seconds for epoch in fitted.history[1:])  # each is one step and one scoring
    return Cost(max(epoch - scoring, 0.0) / config.batch_size, scoring / config.batch_size)


def _steps(config: TrainConfig) -> TrainConfig:
    return replace(config, max_epochs=4, patience=4)


def _random_clips(features: FrontEnd, count: int, frames: int, device: str) -> Clips:
    generator = torch.Generator().manual_seed(0)
    clips = Clips.of([torch.randn(frames, features.dims, generator=generator) for _ in range(count)], silence=-10.0)
    return clips.to(choose_device(device))


def _seconds(work: Callable[[], object]) -> float:
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
