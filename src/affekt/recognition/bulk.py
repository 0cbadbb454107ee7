"""Recognition of a long list of recordings, cut into shards, by processes of this machine or on a Ray cluster.

The answers are those of :meth:`affekt.recognition.recognizer.Recognizer.predict_many`, bit for bit and in the same
order. Nodes of a cluster read recordings by the given paths, which must lead to the same files everywhere; the model
goes through Ray's object store. The list may be as long as one likes: only a few shards are under way at a time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from affekt.errors import AffektError, AudioError, Fault
from affekt.recognition.prediction import CHUNK_RECORDINGS, Failure, Prediction
from affekt.runtime.ordered_map import chunks, in_flight
from affekt.runtime.processes import Lost, Processes
from affekt.runtime.ray_cluster import RayCluster, check_libraries, check_room, connected, libraries

if TYPE_CHECKING:
    from affekt.recognition.recognizer import Recognizer

SHARD_RECORDINGS = 16 * CHUNK_RECORDINGS
"""A whole number of the chunks that are recognized together: company in a batch may move the last bit of an answer."""
AHEAD_PER_CPU = 2
"""Shards under way for each CPU of the cluster, so that none waits for us."""
LIBRARIES = ("numpy", "onnxruntime", "soundfile", "soxr")

Answer = Prediction | Failure
Shard = tuple[str, ...]


class Answers(NamedTuple):
    """What a process says of a shard: the model's labels, and an answer for each recording."""

    labels: tuple[str, ...]
    answers: list[Answer]


def predict_in_processes(
    model: Path | None, sources: Iterable[str], min_confidence: float | None, count: int
) -> Generator[Answers, None, None]:
    """Predictions of many recordings by processes of this machine, in their order, some at a time; first of none.

    A recording that cannot be used gives a :class:`Failure`, and so does one at which a process dies. Those that it had
    beside it are recognized again, each by itself.

    Args:
        model: a file that `affekt export` wrote; None: the one that comes with affekt.
        sources: paths.
        min_confidence: mark predictions below this as unsure; by default the model's own threshold.
        count: how many processes.

    Raises:
        CheckpointError: the file is missing, damaged or not an affekt model, or cannot be run.
    """
    shards, again = itertools.tee(itertools.chain([()], chunks(sources, CHUNK_RECORDINGS)))
    with Processes(_make_worker, count, model, min_confidence) as processes:
        for shard, said in zip(again, processes.map(shards), strict=True):
            yield _one_by_one(processes, shard) if isinstance(said, Lost) else said


def _one_by_one(processes: Processes[Shard, Answers], shard: Shard) -> Answers:
    """The answers of a shard at which a process died."""
    said = processes.ask(())
    if isinstance(said, Lost):
        got, remedy = f"a process that ended {said.how} before it heard anything", "try --jobs 1, which needs least"
        raise AffektError("recognition", got=got, expected="one that lives", remedy=remedy)
    return Answers(said.labels, [answer for source in shard for answer in _alone(processes, source)])


def _alone(processes: Processes[Shard, Answers], source: str) -> list[Answer]:
    said = processes.ask((source,))
    if not isinstance(said, Lost):
        return said.answers
    got, remedy = f"a process that ended {said.how} at it", "is there enough memory? --jobs 1 needs least"
    return [Failure(source, AudioError(source, got=got, expected="an answer", remedy=remedy))]


def _make_worker(model: Path | None, min_confidence: float | None) -> Callable[[Shard], Answers]:
    """Worker factory: the function that answers for the shards of one process."""
    from affekt.recognition.recognizer import Recognizer

    recognizer = Recognizer.load(model, threads=1)
    return lambda shard: Answers(
        recognizer.labels, list(recognizer.predict_many(shard, jobs=1, min_confidence=min_confidence))
    )


def predict_on_ray(
    model: bytes,
    name: str,
    sources: Iterable[str],
    min_confidence: float | None = None,
    cluster: RayCluster | None = None,
    shard_recordings: int = SHARD_RECORDINGS,
) -> Generator[Answer, None, None]:
    """Predictions of many recordings, in their order; one that cannot be used gives a :class:`Failure`.

    Args:
        model: the content of a file that `affekt export` wrote.
        name: how messages name it.
        sources: paths that every node can read; relative ones from this process's working folder.
        min_confidence: mark predictions below this as unsure; by default the model's own threshold.
        cluster: which one.
        shard_recordings: recordings of a task; a multiple of :data:`affekt.recognition.prediction.CHUNK_RECORDINGS`.

    Raises:
        ConfigError: no such cluster.
        AffektError: a shard whose nodes died again and again, or nodes with other libraries.
    """
    cluster = cluster or RayCluster()
    with connected(cluster) as ray:
        check_room(ray, CPU=1)
        task = ray.remote(recognize).options(num_cpus=1, max_retries=cluster.attempts - 1)
        shared = ray.put(model)
        folder, versions = str(Path.cwd()), libraries(*LIBRARIES)

        def submit(shard: Shard) -> Any:
            return task.remote(shared, name, shard, min_confidence, folder, versions)

        def ahead() -> int:
            return max(1, int(AHEAD_PER_CPU * ray.cluster_resources().get("CPU", 1))) - 1

        parts = chunks(sources, shard_recordings)
        cancel = partial(ray.cancel, force=True)
        with closing(in_flight(submit, parts, ahead, cancel)) as references:
            for reference in references:
                yield from _answers(ray, reference)


def _answers(ray: Any, reference: Any) -> list[Answer]:
    try:
        answers: list[Answer] | AffektError = ray.get(reference)
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0]
        remedy = "are the nodes up, and is affekt installed on them?"
        fault = Fault("ray: a shard of recordings", f"{type(error).__name__}: {first}"[:300], "answers", remedy)
        raise AffektError.of([fault]) from error
    if isinstance(answers, AffektError):
        raise answers
    return answers


def recognize(
    model: bytes,
    name: str,
    sources: tuple[str, ...],
    min_confidence: float | None,
    folder: str,
    versions: Mapping[str, str],
) -> list[Answer] | AffektError:
    """On a node: the answers of one shard; an error is given back, since one that is raised would be wrapped."""
    try:
        check_libraries(versions)
        with suppress(OSError):  # where it is missing, relative paths lead nowhere, and their failures say so
            os.chdir(folder)
        return list(_recognizer(model, name).predict_many(sources, jobs=1, min_confidence=min_confidence))
    except AffektError as error:
        return error


@lru_cache(maxsize=1)
def _recognizer(model: bytes, name: str) -> Recognizer:
    """Loaded once in each process of a node."""
    from affekt.recognition.recognizer import Recognizer

    return Recognizer(model, name, threads=1)
