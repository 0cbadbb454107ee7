"""Jobs: one training each, under a lock, with all files on disk.

A job's files are written atomically, its `result.json` last; a job with an intact `result.json` is never run again. The
lock of a job dies with its holder, so any number of processes may work on one run directory. Each job computes with a
fixed number of threads, so the numbers do not depend on how many jobs run side by side.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import Timeout
from numpy.typing import NDArray

from affekt.errors import AffektError, Fault
from affekt.experiments.loading import Data
from affekt.experiments.plan import Experiment, TrainingJob
from affekt.measures import metrics
from affekt.results import Results, summarize
from affekt.results.packed_tables import PROBABILITY_PREFIX
from affekt.results.run_directory import (
    EMBEDDINGS,
    HISTORY,
    PREDICTIONS,
    TRAINED,
    WEIGHTS,
    RunDirectory,
)
from affekt.runtime.cpu_affinity import available_cores
from affekt.runtime.devices import choose_device, torch_threads
from affekt.runtime.environment import environment
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch, Fitted, Subset
from affekt.training.fitting import fit
from affekt.training.scoring import Scored, score


def run_job(experiment: Experiment, job: TrainingJob, on_epoch: Callable[[Epoch], object] = lambda epoch: None) -> None:
    """Train one job and write its files; an interrupted job resumes from its last epoch.

    Args:
        experiment: the plan, with the data.
        job: the job; the caller holds its lock.
        on_epoch: called after each epoch.

    Raises:
        ConfigError: the training diverged.
        OSError: a file cannot be written.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    job.directory.remove_leftovers()
    start = time.perf_counter()
    with torch_threads(experiment.threads):
        fitted, temperature, scored = _train(experiment, job, on_epoch)
    test = experiment.data.part(job.fold.test)
    probabilities = torch.from_numpy(scored.logits / temperature).softmax(1).numpy()
    files = {
        HISTORY: _csv([asdict(epoch) for epoch in fitted.history]),
        PREDICTIONS: _predictions(experiment.data, job.fold.test, test, probabilities),
        EMBEDDINGS: _npy(scored.embeddings),
    }
    _checkpoint(experiment, job, fitted, temperature).save(job.folder / WEIGHTS)
    job.directory.write(files)
    _write_result(experiment, job, fitted, temperature, probabilities.argmax(1), test, time.perf_counter() - start)
    job.directory.discard_state()


def _train(
    experiment: Experiment, job: TrainingJob, on_epoch: Callable[[Epoch], object]
) -> tuple[Fitted, float, Scored]:
    """The fitted network, its temperature, and its scores on the test part."""
    data, config, device = experiment.data, experiment.recipe.train, choose_device(experiment.device)
    clips = data.clips[job.system.features]
    train, validation, test = (data.part(ids) for ids in (job.fold.train, job.fold.validation, job.fold.test))
    if experiment.recipe.balance_corpora:
        train = data.balanced(train)
    seed, state = experiment.job_seed(job), job.directory.state
    classes = len(data.classes)
    fitted = fit(job.system, clips, train, validation, classes, config, seed, device, state=state, on_epoch=on_epoch)
    exact = replace(config, precision="float32")  # as an exported model computes
    validated = score(fitted, clips, validation.rows, exact, device)
    temperature = metrics.fit_temperature(validated.logits, validation.labels)
    return fitted, temperature, score(fitted, clips, test.rows, exact, device)


def _write_result(
    experiment: Experiment,
    job: TrainingJob,
    fitted: Fitted,
    temperature: float,
    predicted: NDArray[np.int64],
    test: Subset,
    seconds: float,
) -> None:
    confusion = metrics.confusion_matrix(test.labels, predicted, len(experiment.data.classes))
    result = {
        "system": job.system.name,
        "fold": job.fold.index,
        "seed": job.seed,
        "protocol": experiment.line,
        "parameters": sum(parameter.numel() for parameter in fitted.network.parameters() if parameter.requires_grad),
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "seconds": round(sum(epoch.seconds for epoch in fitted.history), 3),
        "total_seconds": round(seconds, 3),
        **metrics.described(confusion, experiment.data.classes),
        "temperature": temperature,
    }
    job.directory.write_result(result, TRAINED)


def _checkpoint(experiment: Experiment, job: TrainingJob, fitted: Fitted, temperature: float) -> Checkpoint:
    provenance = {
        "protocol": experiment.line,
        "recipe": experiment.recipe.name,
        "fold": job.fold.index,
        "seed": job.seed,
        "training_utterances": len(job.fold.train),
        "best_epoch": fitted.best_epoch,
        "affekt": environment()["affekt"],
    }
    weights, loss_weights = fitted.network.state_dict(), fitted.loss.state_dict()
    classes = experiment.data.classes
    return Checkpoint(job.system, classes, fitted.normalizer, weights, loss_weights, temperature, provenance)


def _predictions(data: Data, ids: Sequence[str], test: Subset, probabilities: NDArray[np.float32]) -> bytes:
    names = np.array(data.classes)
    columns = {
        "id": list(ids),
        "speaker": data.manifest.table["speaker"].to_numpy()[test.rows],
        "label": names[test.labels],
        "predicted": names[probabilities.argmax(1)],
    }
    scores = {PROBABILITY_PREFIX + name: probabilities[:, index] for index, name in enumerate(data.classes)}
    return pd.DataFrame(columns | scores).to_csv(index=False).encode()


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    return pd.DataFrame(list(rows)).to_csv(index=False).encode()


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def take(
    experiment: Experiment, job: TrainingJob, on_epoch: Callable[[TrainingJob, Epoch], object], wait: bool = False
) -> bool:
    """Lock a job and run it unless it is done.

    Args:
        experiment: the plan, with the data.
        job: the job.
        on_epoch: called after each epoch.
        wait: wait for the lock if another process holds it.

    Returns:
        Whether the job is done; False if another process holds it.

    Raises:
        AffektError: the training failed, or a file cannot be written.
    """
    try:
        if job.done:
            return True
        with job.directory.lock(wait):
            if not job.done:
                run_job(experiment, job, lambda epoch: on_epoch(job, epoch))
            return True
    except Timeout:
        return False
    except ConnectionError:  # the receiver of `on_epoch` is gone
        raise
    except OSError as error:
        remedy = "finished jobs are kept; resume when the disk can be written"
        place = error.filename or job.folder
        raise AffektError(str(place), got=error.strerror or str(error), expected="a file", remedy=remedy) from error


def run_jobs(
    experiment: Experiment,
    jobs: Sequence[TrainingJob],
    on_epoch: Callable[[TrainingJob, Epoch], object] = lambda job, epoch: None,
    on_done: Callable[[TrainingJob], object] = lambda job: None,
) -> None:
    """Run jobs in this process: first those that are free, then those that other processes held.

    Args:
        experiment: the plan, with the data.
        jobs: the jobs.
        on_epoch, on_done: called after each epoch and each job.

    Raises:
        AffektError: the faults of failed jobs, after all others are done.
    """
    held: list[TrainingJob] = []
    faults: list[Fault] = []
    for waiting, wait in ((jobs, False), (held, True)):
        for job in waiting:
            try:
                if take(experiment, job, on_epoch, wait):
                    on_done(job)
                else:
                    held.append(job)
            except AffektError as error:
                faults += faults_of(job, error)
    if faults:
        raise AffektError.of(faults)


def faults_of(job: TrainingJob, error: AffektError) -> list[Fault]:
    """The faults of an error, each with the name of the job."""
    return [fault.at(f"job {job.name}") for fault in error.faults]


def finish(experiment: Experiment) -> Results:
    """Read and check the finished run, and write `summary.json`."""
    results = Results.read(experiment.out)
    RunDirectory(experiment.out).write_summary(summarize(results))
    return results


def default_jobs(device: str) -> int:
    """The default number of parallel jobs: one per core on a CPU, one on an accelerator."""
    return available_cores() if choose_device(device).type == "cpu" else 1
