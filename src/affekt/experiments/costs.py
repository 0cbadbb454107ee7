"""What an experiment will cost on this machine: a few real training steps, timed, times all that is to be done.

The same steps tell what a system costs who uses it: milliseconds to recognize a clip. Times are kept apart from results
(`costs.json`), by the device that they were measured on, since results come back bit for bit and times do not.
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
CLIP_SECONDS = 3.0  # of the clip whose recognition is timed
TIMED_EPOCHS = 3  # of one step each; the first warms up
Clock = Callable[[], float]


@dataclass(frozen=True)
class Cost:
    """What a system takes on this device.

    Attributes:
        training, scoring: seconds for an utterance of the corpus, in a batch of the recipe's size.
        front_end, recognition: seconds for the features, and then for the network, of a single clip of 3 s.
        epochs: the longest training; less than the recipe's where a network finds its weights otherwise.
        parameters: trainable ones.
    """

    training: float
    scoring: float
    front_end: float
    recognition: float
    epochs: int
    parameters: int

    def job_seconds(self, train: int, validation: int, epochs: float) -> float:
        """A job of so many epochs.

        >>> Cost(0.02, 0.01, 0.0, 0.0, epochs=100, parameters=1).job_seconds(train=100, validation=50, epochs=10)
        25.0
        """
        return epochs * (train * self.training + validation * self.scoring)


@dataclass(frozen=True)
class Estimate:
    """What is left of an experiment, in hours on this device.

    Attributes:
        jobs: the jobs that are not done.
        costs: of each system.
        hours: of each job, if it runs to its last epoch.
        typical_hours: of all, with the usual early stopping, so many side by side.
        longest_hours: of all, if every job ran to its last epoch.
    """

    jobs: tuple[TrainingJob, ...]
    costs: Mapping[str, Cost]
    hours: Mapping[str, float]
    typical_hours: float
    longest_hours: float


def estimate(experiment: Experiment, workers: int, costs: Mapping[str, Cost] | None = None) -> Estimate:
    """Add up what is left, by `costs` or by timing a few steps of every system that still has jobs."""
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
    """Which part of its epochs a job usually runs."""
    return TYPICAL_EPOCHS if config.patience < config.max_epochs else 1.0


def measure(experiment: Experiment, systems: Iterable[System]) -> dict[str, Cost]:
    """Time systems on utterances of this experiment, with as many threads as its jobs have.

    Systems that differ in nothing but the loss are timed once: beside a network a loss costs next to nothing.
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
    epoch = float(np.diff(ticks).min())  # each is one step and one scoring
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
    """Labels and two speakers in turn: what they are costs nothing."""
    turns = np.arange(len(rows))
    return Subset(rows, turns % classes, turns % 2)


def _clock(experiment: Experiment) -> Clock:
    """Processor time where a job has one thread of a CPU, so that other programs hardly matter; else the wall's."""
    alone = choose_device(experiment.device).type == "cpu" and experiment.threads == 1
    return time.process_time if alone else time.perf_counter


def _training_rows(clips: Clips, config: TrainConfig) -> NDArray[np.int64]:
    """A batch as training makes them: any utterances, padded to the longest, or such as have one length."""
    if config.bucketed:
        return _typical_rows(clips, config.batch_size)
    return np.random.default_rng(0).permutation(len(clips))[: config.batch_size]


def _typical_rows(clips: Clips, count: int) -> NDArray[np.int64]:
    """The utterances whose length is nearest to the mean: a batch of evaluation, which goes by length."""
    lengths = clips.lengths.cpu().numpy()
    return np.argsort(np.abs(lengths - lengths.mean()), kind="stable")[:count]


def _clip_seconds(fitted: Fitted, device: torch.device, clock: Clock) -> dict[str, float]:
    """What features and network of a single clip take, in the precision of an exported model."""
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
    """The shortest of a few times, after one that warms up."""
    measured = []
    for _ in range(1 + times):
        start = clock()
        work()
        measured.append(clock() - start)
    return min(measured[1:])


def write_costs(experiment: Experiment, costs: Mapping[str, Cost]) -> Path:
    """Add costs to the run directory's `costs.json`: device -> system -> seconds, and the hours of a job of each."""
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
    """What the times hold for: the processor and the threads of a job, or the accelerator."""
    facts = environment()
    if choose_device(experiment.device).type != "cpu":
        return facts["gpu"]
    return f"{facts['cpu']}, {experiment.threads} thread{'s' if experiment.threads != 1 else ''}"
