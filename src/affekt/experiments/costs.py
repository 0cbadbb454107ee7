"""Time estimates: a few training steps of each system are timed and multiplied by the steps that remain.

The time to recognize one clip is measured too. Times go to `costs.json`, by device, and not into the results: results
are reproduced bit for bit, times are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from affekt.experiments.plan import Experiment, TrainingJob
from affekt.features.clips import Clips, batches_per_epoch
from affekt.features.log_mel import FrontEnd
from affekt.results.run_directory import RunDirectory
from affekt.runtime.devices import choose_device, torch_threads
from affekt.runtime.environment import environment
from affekt.training.fitted import Fitted, Subset
from affekt.training.fitting import fit
from affekt.training.scoring import score
from affekt.training.systems import System
from affekt.training.train_config import TrainConfig

TYPICAL_EPOCHS = 0.45  # share of `max_epochs` before early stopping: mean of the 10 jobs in results/emodb-random
CLIP_SECONDS = 3.0  # length of the clip whose recognition is timed
TIMED_EPOCHS = 3  # each of one step; the first is a warm-up
Clock = Callable[[], float]


@dataclass(frozen=True)
class Cost:
    """Measured times of a system on this device.

    Attributes:
        training, scoring: seconds per utterance of the corpus, in batches of the recipe's size.
        front_end, recognition: seconds for the features and for the network of a single clip of 3 s.
        epochs: epochs of the longest training; fewer than the recipe's where a network has its own solver.
        parameters: number of trainable parameters.
    """

    training: float
    scoring: float
    front_end: float
    recognition: float
    epochs: int
    parameters: int

    def job_seconds(self, train: int, validation: int, epochs: float) -> float:
        """Seconds of a job.

        Args:
            train, validation: utterances in these parts.
            epochs: number of epochs.

        >>> Cost(0.02, 0.01, 0.0, 0.0, epochs=100, parameters=1).job_seconds(train=100, validation=50, epochs=10)
        25.0
        """
        return epochs * (train * self.training + validation * self.scoring)


@dataclass(frozen=True)
class Estimate:
    """The remaining time of an experiment on this device.

    Attributes:
        jobs: unfinished jobs.
        costs: measured times by system.
        hours: hours of each job that runs to its last epoch, by job name.
        typical_hours: hours of all jobs, run in parallel, with typical early stopping.
        longest_hours: the same if every job runs to its last epoch.
    """

    jobs: tuple[TrainingJob, ...]
    costs: Mapping[str, Cost]
    hours: Mapping[str, float]
    typical_hours: float
    longest_hours: float


def estimate(experiment: Experiment, workers: int, costs: Mapping[str, Cost] | None = None) -> Estimate:
    """Estimate the remaining time.

    Args:
        experiment: the planned experiment.
        workers: jobs that run in parallel.
        costs: measured times; by default the systems with unfinished jobs are timed now.

    Returns:
        The unfinished jobs and their hours.
    """
    jobs = tuple(job for job in experiment.jobs if not job.done)
    if costs is None:
        costs = measure(experiment, {job.system.name: job.system for job in jobs}.values())
    config = experiment.recipe.train
    hours = {job.name: job_hours(costs[job.system.name], job, config) for job in jobs}
    longest = sum(hours.values()) / max(1, min(workers, len(jobs)))
    return Estimate(jobs, costs, hours, longest * typical_share(experiment.recipe.train), longest)


def job_hours(cost: Cost, job: TrainingJob, config: TrainConfig) -> float:
    """Hours of a job that does not stop early."""
    train = config.steps_per_epoch * config.batch_size or len(job.fold.train)
    return cost.job_seconds(train, len(job.fold.validation), cost.epochs) / 3600


def typical_share(config: TrainConfig) -> float:
    """The share of its epochs that a job typically runs before early stopping."""
    return TYPICAL_EPOCHS if config.patience < config.max_epochs else 1.0


def measure(experiment: Experiment, systems: Iterable[System]) -> dict[str, Cost]:
    """Time systems on utterances of this experiment, with the number of threads of its jobs.

    Systems that differ in the loss alone are timed once, since its cost is negligible beside the network's.

    Args:
        experiment: the planned experiment.
        systems: the systems to time.

    Returns:
        Times by system name.
    """
    timed: dict[str, Cost] = {}
    costs = {}
    with torch_threads(experiment.threads):
        for system in systems:
            kind = repr((system.network, system.network_options, system.features, system.segments))
            if kind not in timed:
                timed[kind] = _measure(experiment, system)
            costs[system.name] = timed[kind]
    return costs


def _measure(experiment: Experiment, system: System) -> Cost:
    config, device = experiment.recipe.train, choose_device(experiment.device)
    clips, classes = experiment.data.clips[system.features], len(experiment.data.classes)
    trained, scored = _training_rows(clips, config), _typical_rows(clips, config.batch_size)
    train, validation = (_labeled(rows, classes) for rows in (trained, scored))
    steps = replace(config, max_epochs=TIMED_EPOCHS, min_steps=0, steps_per_epoch=0, patience=TIMED_EPOCHS)
    clock = _clock(experiment)
    ticks: list[float] = []
    fitted = fit(
        *(system, clips, train, validation, classes, steps),
        seed=0,
        device=device,
        on_epoch=lambda epoch: ticks.append(clock()),
    )
    scoring = _seconds(lambda: score(fitted, clips, scored, steps, device), clock)
    epoch = float(np.diff(ticks).min())  # each epoch is one step and one scoring
    batches = batches_per_epoch(min(len(job.fold.train) for job in experiment.jobs), config.batch_size)
    longest = config.stretched(config.steps_per_epoch or batches).max_epochs
    return Cost(
        training=max(epoch - scoring, 0.0) / len(trained),
        scoring=scoring / len(scored),
        **_clip_seconds(fitted, device, clock),
        epochs=min(longest, getattr(fitted.network, "solutions", longest)),
        parameters=sum(parameter.numel() for parameter in fitted.network.parameters() if parameter.requires_grad),
    )


def _labeled(rows: NDArray[np.int64], classes: int) -> Subset:
    """Rows with arbitrary labels and two speakers, which do not affect the time."""
    turns = np.arange(len(rows))
    return Subset(rows, turns % classes, turns % 2)


def _clock(experiment: Experiment) -> Clock:
    """CPU time for jobs with one CPU thread, which other programs hardly affect; else wall-clock time."""
    alone = choose_device(experiment.device).type == "cpu" and experiment.threads == 1
    return time.process_time if alone else time.perf_counter


def _training_rows(clips: Clips, config: TrainConfig) -> NDArray[np.int64]:
    """Rows of a typical training batch: random utterances, or, with bucketing, utterances of similar length."""
    if config.bucketed:
        return _typical_rows(clips, config.batch_size)
    return np.random.default_rng(0).permutation(len(clips))[: config.batch_size]


def _typical_rows(clips: Clips, count: int) -> NDArray[np.int64]:
    """Rows of a typical evaluation batch, which is sorted by length: the utterances nearest to the mean length."""
    lengths = clips.lengths.cpu().numpy()
    return np.argsort(np.abs(lengths - lengths.mean()), kind="stable")[:count]


def _clip_seconds(fitted: Fitted, device: torch.device, clock: Clock) -> dict[str, float]:
    """Seconds for features and network of a single clip, in float32 as in an exported model."""
    features: FrontEnd = fitted.system.features
    generator = torch.Generator().manual_seed(0)
    samples = 0.1 * torch.randn(round(CLIP_SECONDS * features.sample_rate_hz), generator=generator).to(device)
    extract = features.extractor(device)
    clip = Clips.of([extract(samples)], features.silence).to(device)
    exact = TrainConfig(precision="float32")
    return {
        "front_end": _seconds(lambda: extract(samples), clock),
        "recognition": _seconds(lambda: score(fitted, clip, np.zeros(1, np.int64), exact, device), clock),
    }


def _seconds(work: Callable[[], object], clock: Clock, times: int = 3) -> float:
    """The shortest of several measurements, after one warm-up."""
    measured = []
    for _ in range(1 + times):
        start = clock()
        work()
        measured.append(clock() - start)
    return min(measured[1:])


def write_costs(experiment: Experiment, costs: Mapping[str, Cost]) -> Path:
    """Add times, and the hours of a job of each system, to the run directory's `costs.json`; returns its path."""
    share = typical_share(experiment.recipe.train)
    rows = {}
    for name, cost in costs.items():
        longest = float(
            np.mean(
                [job_hours(cost, job, experiment.recipe.train) for job in experiment.jobs if job.system.name == name]
            )
        )
        rows[name] = asdict(cost) | {"job_hours": share * longest, "longest_job_hours": longest}
    return RunDirectory(experiment.out).add_costs(device_name(experiment), rows)


def device_name(experiment: Experiment) -> str:
    """The key of `costs.json`: the CPU and the number of threads per job, or the accelerator."""
    facts = environment()
    if choose_device(experiment.device).type != "cpu":
        return facts["gpu"]
    return f"{facts['cpu']}, {experiment.threads} thread{'s' if experiment.threads != 1 else ''}"
