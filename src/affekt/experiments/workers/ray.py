"""An engine on the nodes of a Ray cluster, without a shared file system.

The features of all utterances go through Ray's object store, once to each node. A job sends back a stream of messages:
its epochs, its state at intervals, and its files at the end. This process writes them into the run directory, under the
same locks and checked against the same hashes as any other engine. When a node dies, its jobs resume elsewhere from the
last state received.
"""

from __future__ import annotations

import tempfile
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from affekt.errors import AffektError, ConfigError, Fault
from affekt.experiments.jobs import faults_of, run_job
from affekt.experiments.plan import Experiment, TrainingJob
from affekt.experiments.workers.engine import OnDone, OnEpoch, still_open
from affekt.features.clips import Clips
from affekt.features.log_mel import FrontEnd
from affekt.results.run_directory import RESULT, STATE, TRAINED
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.devices import choose_device
from affekt.runtime.environment import LIBRARIES
from affekt.runtime.ray_cluster import RayJobs, check_libraries, check_room, connected, libraries
from affekt.training.fitted import Epoch

FILES = (*TRAINED, RESULT)
"""Files of a job in the order of writing: `result.json` last."""
MOST_IN_FLIGHT = 256
"""Jobs submitted to Ray at a time; each holds a lock here, which is an open file."""
LAST_WORDS = ("done", "failed", "broken")


def run_on_ray(
    experiment: Experiment,
    jobs: Sequence[TrainingJob],
    on_epoch: OnEpoch = lambda job, epoch: None,
    on_done: OnDone = lambda job: None,
    *,
    cluster: RayJobs | None = None,
) -> None:
    """Run jobs on a cluster: an :class:`affekt.experiments.workers.Engine`.

    Args:
        experiment, jobs, on_epoch, on_done: as for every engine.
        cluster: the cluster and the resources of each job.

    Raises:
        ConfigError: no such cluster, or no node with the resources of a job.
        AffektError: the faults of failed jobs, after all others are done.
    """
    cluster = cluster or RayJobs()
    experiment = replace(experiment, device=_device(experiment.device, cluster))
    open_jobs = still_open(jobs, on_done)
    if not open_jobs:
        return
    with connected(cluster) as ray:
        check_room(ray, CPU=experiment.threads, GPU=cluster.gpus_per_job)
        _Driver(ray, experiment, cluster, on_epoch, on_done).run(open_jobs)


def _device(wanted: str, cluster: RayJobs) -> str:
    """The device of the jobs, which follows from their share of a GPU; a contradicting `--device` is refused."""
    device = "cuda" if cluster.gpus_per_job else "cpu"
    if wanted.partition(":")[0] not in ("auto", device):
        remedy = "--ray.gpus-per-job 1, or a fraction" if wanted.startswith("cuda") else f"--device {device}, or auto"
        got = f"{wanted} with {cluster.gpus_per_job:g} GPUs a job"
        raise ConfigError("device", got=got, expected=device, remedy=remedy)
    return device


@dataclass(frozen=True)
class Shipment:
    """A serialized experiment: its features are arrays, of which all processes of a node share one copy."""

    experiment: Experiment
    arrays: dict[FrontEnd, tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]]

    @classmethod
    def pack(cls, experiment: Experiment) -> Shipment:
        """Serialize an experiment."""
        clips = experiment.data.clips
        arrays = {
            front_end: (part.values.cpu().numpy(), part.offsets.cpu().numpy(), part.silence.cpu().numpy())
            for front_end, part in clips.items()
        }
        return cls(replace(experiment, data=replace(experiment.data, clips={})), arrays)

    def unpack(self, front_end: FrontEnd) -> Experiment:
        """The experiment with the features of one front end, on the device of the jobs."""
        device = choose_device(self.experiment.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about read-only memory, which is only read here
            clips = Clips(*map(torch.from_numpy, self.arrays[front_end])).to(device)
        return replace(self.experiment, data=replace(self.experiment.data, clips={front_end: clips}))


@dataclass
class _Run:
    """A job on the cluster, and its lock here."""

    job: TrainingJob
    lock: FileLock


class _Driver:
    """Submits jobs, receives their messages, and writes their files."""

    def __init__(self, ray: Any, experiment: Experiment, cluster: RayJobs, on_epoch: OnEpoch, on_done: OnDone) -> None:
        self.ray, self.cluster, self.on_epoch, self.on_done = ray, cluster, on_epoch, on_done
        self.shipment = ray.put(Shipment.pack(experiment))
        self.work = ray.remote(work).options(
            num_cpus=experiment.threads, num_gpus=cluster.gpus_per_job, max_retries=0, num_returns="streaming"
        )
        self.libraries = libraries(*LIBRARIES)
        self.running: dict[Any, _Run] = {}
        self.deaths: dict[str, int] = {}
        self.faults: list[Fault] = []

    def run(self, jobs: Sequence[TrainingJob]) -> None:
        """Run first the jobs that are free, then those that other processes held."""
        try:
            held = self._round(jobs, wait=False)
            self._round(held, wait=True)
        finally:
            for stream, run in self.running.items():
                self.ray.cancel(stream, force=True)
                run.lock.release()
        if self.faults:
            raise AffektError.of(self.faults)

    def _round(self, jobs: Sequence[TrainingJob], wait: bool) -> list[TrainingJob]:
        waiting, held = deque(jobs), []
        while waiting or self.running:
            while waiting and len(self.running) < MOST_IN_FLIGHT:
                job = waiting.popleft()
                if not self._start(job, wait):
                    held.append(job)
            if self.running:
                ready, _ = self.ray.wait(list(self.running), num_returns=1)
                for stream in ready:
                    self._listen(stream)
        return held

    def _start(self, job: TrainingJob, wait: bool) -> bool:
        """Lock and submit a job unless it is done; False if another process holds it."""
        lock = job.directory.lock(wait)
        try:
            lock.acquire()
        except Timeout:
            return False
        if job.done:
            lock.release()
            self.on_done(job)
        else:
            self._send(_Run(job, lock))
        return True

    def _send(self, run: _Run) -> None:
        state = run.job.directory.state
        kept = state.read_bytes() if state.exists() else None
        stream = self.work.remote(self.shipment, run.job.name, kept, self.cluster.state_seconds, self.libraries)
        self.running[stream] = run

    def _listen(self, stream: Any) -> None:
        """Receive one message; a broken stream means that the node or process died."""
        run = self.running[stream]
        try:
            kind, content = self.ray.get(next(stream))
        except self.ray.exceptions.RayTaskError as error:  # the task did not start
            self._end(stream, [Fault(f"job {run.job.name}", _line(error.cause), "a node that affekt is installed on")])
            return
        except (self.ray.exceptions.RayError, StopIteration) as error:
            self._lost(stream, _line(error))
            return
        if kind == "epoch":
            self.on_epoch(run.job, content)
        elif kind == "state":
            run.job.directory.write({STATE: content})
        elif kind == "done":
            self._deliver(stream, content)
        elif kind == "failed":
            self._end(stream, faults_of(run.job, content))
        else:
            raise RuntimeError(f"job {run.job.name}:\n{content}")

    def _deliver(self, stream: Any, files: Mapping[str, bytes]) -> None:
        """Write a job's files, `result.json` last, and check them against it."""
        job = self.running[stream].job
        job.directory.write({name: files[name] for name in FILES})
        if faults := job.directory.damage():
            self._lost(stream, str(faults[0]))
            return
        job.directory.discard_state()
        self._end(stream, [])
        self.on_done(job)

    def _lost(self, stream: Any, reason: str) -> None:
        """Submit the job again, up to the number of attempts."""
        run = self.running[stream]
        name = run.job.name
        self.deaths[name] = self.deaths.get(name, 0) + 1
        if self.deaths[name] < self.cluster.attempts:
            del self.running[stream]
            self._send(run)
            return
        expected = f"an end, within {self.cluster.attempts} attempts"
        remedy = "are the nodes up, and large enough? finished jobs are kept"
        self._end(stream, [Fault(f"job {name}", reason, expected, remedy)])

    def _end(self, stream: Any, faults: list[Fault]) -> None:
        self.faults += faults
        self.running.pop(stream).lock.release()


def _line(error: BaseException) -> str:
    """The first line of an error that has many."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}"[:300]


def work(
    shipment: Shipment, name: str, state: bytes | None, state_seconds: float, expected: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """Run a job on a node and yield messages, of which the last is one of :data:`LAST_WORDS`.

    Args:
        shipment: the experiment.
        name: name of the job.
        state: state to resume from; None starts anew.
        state_seconds: interval at which the state is sent.
        expected: required versions of the libraries.
    """
    messages: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def attempt() -> None:
        try:
            check_libraries(expected)
            messages.put(("done", _files(shipment, name, state, state_seconds, messages.put)))
        except AffektError as error:
            messages.put(("failed", error))
        except OSError as error:
            fault = Fault(f"job {name}", str(error), "a node that can write files", "is its disk full?")
            messages.put(("failed", AffektError.of([fault])))
        except Exception:  # a bug: its traceback is raised by the driver
            messages.put(("broken", traceback.format_exc()))

    threading.Thread(target=attempt, daemon=True).start()
    kind = ""
    while kind not in LAST_WORDS:
        kind, content = messages.get()
        yield kind, content


def _files(
    shipment: Shipment, name: str, state: bytes | None, state_seconds: float, send: Callable[[tuple[str, Any]], None]
) -> dict[str, bytes]:
    """Run a job in a temporary folder of the node and return its files."""
    job = next(job for job in shipment.experiment.jobs if job.name == name)
    experiment = shipment.unpack(job.system.features)
    with tempfile.TemporaryDirectory(prefix="affekt-") as place:
        folder = Path(place)
        if state is not None:
            write_bytes(folder / STATE, state)
        sent = time.monotonic()

        def on_epoch(epoch: Epoch) -> None:
            nonlocal sent
            send(("epoch", epoch))
            if time.monotonic() - sent >= state_seconds and (folder / STATE).exists():
                sent = time.monotonic()
                send(("state", (folder / STATE).read_bytes()))  # of the previous epoch: this one's is written later

        run_job(experiment, replace(job, folder=folder), on_epoch)
        return {name: (folder / name).read_bytes() for name in FILES}
