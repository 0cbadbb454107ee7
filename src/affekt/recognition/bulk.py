"""Recognition of lists of recordings: by threads, by processes of this machine or on a Ray cluster.

:func:`recognition` chooses, for the command line and for `Recognizer.predict_many`. A long list is cut into shards, of
which only a few are in work at a time, so memory is flat. The answers are the same bit for bit and in the same order
however they were computed. Nodes of a cluster read recordings by the given paths, which must lead to the same files
everywhere; the model goes through Ray's object store.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from affekt.errors import AffektError, AudioError, Fault
from affekt.recognition.models import BUNDLED
from affekt.recognition.prediction import CHUNK_RECORDINGS, Failure, Prediction
from affekt.runtime.cpu_affinity import available_cores
from affekt.runtime.ordered_map import chunks, in_flight
from affekt.runtime.processes import WorkerDied, WorkerProcesses, worth_starting
from affekt.runtime.ray_cluster import RayCluster, check_libraries, check_room, connected, libraries

if TYPE_CHECKING:
    from affekt.recognition.recognizer import Recognizer
    from affekt.recognition.timeline import Timeline, TimelineConfig

SHARD_RECORDINGS = 16 * CHUNK_RECORDINGS
"""A whole number of the chunks that are recognized together: company in a batch may move the last bit of an answer."""
AHEAD_PER_CPU = 2
"""Shards under way for each CPU of the cluster, so that none waits for us."""
LIBRARIES = ("numpy", "onnxruntime", "soundfile", "soxr")

Answer = Prediction | Failure
Item = Any
"""A recording or a segment of one, as `Recognizer.predict_many` takes it."""
Shard = tuple[Item, ...]
Options = Mapping[str, Any]
"""Keyword arguments of `Recognizer.predict_many`: `min_confidence`, `first`."""
Model = Path | tuple[bytes, str] | None
"""A model file, its content and name, or None: the one that comes with affekt."""


class ShardAnswers(NamedTuple):
    """The answers for one shard, and the model's labels."""

    labels: tuple[str, ...]
    answers: list[Answer]


@dataclass(frozen=True)
class Voices:
    """The adaptation to speakers: see :mod:`affekt.recognition.adaptation`.

    Attributes:
        baseline: recordings in which the only speaker is calm.
        speakers: who speaks in each item; None: no adaptation to speakers.
    """

    baseline: tuple[str, ...] = ()
    speakers: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        return bool(self.baseline) or self.speakers is not None


@contextmanager
def recognition(
    model: Path | None,
    items: Sequence[Item | Failure],
    options: Options,
    jobs: int | None = None,
    cluster: RayCluster | None = None,
    voices: Voices | None = None,
) -> Iterator[tuple[tuple[str, ...], Iterator[Answer]]]:
    """The model's labels, and an answer for each item, in order.

    One recording uses all cores, several share threads, several hundred files share processes; a cluster takes all.

    Args:
        model: a file that `affekt export` wrote; None: the one that comes with affekt.
        items: recordings and segments; failures are passed on in their places.
        options: keyword arguments of `Recognizer.predict_many`.
        jobs: recordings to work on at a time; by default one per core.
        cluster: compute there.
        voices: adapt to speakers, in this process.

    Raises:
        CheckpointError: the file is missing, damaged or not an affekt model, or cannot be run.
        ConfigError: no such cluster, or a model that cannot be adapted.
        AudioError: a recording of a calm voice that cannot be used.
    """
    usable = [item for item in items if not isinstance(item, Failure)]
    processes = 0 if cluster or voices else processes_for(usable, jobs or available_cores())
    if processes:
        with closing(predict_in_processes(model, usable, options, processes)) as shards:
            labels = next(shards).labels
            yield labels, _in_place(items, (answer for shard in shards for answer in shard.answers))
        return
    from affekt.recognition.recognizer import Recognizer

    recognizer = Recognizer.load(model, threads=jobs)
    if cluster:
        path = model or BUNDLED
        with closing(predict_on_ray(path.read_bytes(), path.name, usable, options, cluster)) as answers:
            yield recognizer.labels, _in_place(items, answers)
    elif voices:
        yield recognizer.labels, _adapted(recognizer, items, options, voices)
    elif len(usable) == 1:
        yield recognizer.labels, _in_place(items, _single(recognizer, usable[0], options))
    else:
        yield recognizer.labels, _in_place(items, iter(recognizer.predict_many(iter(usable), **options)))


def _adapted(
    recognizer: Recognizer, items: Sequence[Item | Failure], options: Options, voices: Voices
) -> Iterator[Answer]:
    """Answers that are adapted to speakers."""
    if voices.speakers is not None:
        return iter(recognizer.predict_many(items, speakers=voices.speakers, **options))
    calm = recognizer.adapted(baseline=voices.baseline)
    usable = [item for item in items if not isinstance(item, Failure)]
    return _in_place(items, iter(calm.predict_many(iter(usable), **options)))


def timelines(
    recognizer: Recognizer,
    items: Sequence[Item | Failure],
    min_confidence: float | None,
    windows: tuple[float | None, float | None, str],
    voices: Voices,
) -> Iterator[Timeline | Failure]:
    """The timeline of each item, in order; one that cannot be used gives a :class:`Failure`.

    Args:
        recognizer: the model.
        items: recordings and segments; failures are passed on in their places.
        min_confidence: mark segments below this as unsure; by default the model's threshold.
        windows: length and step of the windows in seconds, and the speech detector: see `TimelineConfig`.
        voices: adapt to speakers.

    Raises:
        ConfigError: windows that the model cannot take, or a model that cannot be adapted.
        AudioError: a recording of a calm voice that cannot be used.
    """
    from affekt.recognition.speaker_groups import by_speaker
    from affekt.recognition.timeline import TimelineConfig

    config = TimelineConfig(*windows)
    config.resolved(recognizer.card)
    if voices.baseline:
        recognizer = recognizer.adapted(baseline=voices.baseline)
    speakers = voices.speakers
    models = by_speaker(recognizer, items, speakers) if speakers is not None else itertools.repeat(recognizer)
    return (_timeline(model, item, min_confidence, config) for model, item in zip(models, items, strict=False))


def _timeline(
    recognizer: Recognizer, item: Item | Failure, min_confidence: float | None, config: TimelineConfig
) -> Timeline | Failure:
    if isinstance(item, Failure):
        return item
    try:
        return recognizer.timeline(item, min_confidence=min_confidence, config=config)
    except AudioError as error:
        return _failure(item, error)


def processes_for(items: Sequence[Item], jobs: int) -> int:
    """The number of processes that should recognize a list; 0: threads should, or one of the items is no file.

    Args:
        items: recordings and segments.
        jobs: at most so many.
    """
    count = worth_starting(len(items), jobs)
    return count if count and all(isinstance(_source(item), str | os.PathLike) for item in items) else 0


def name_of(item: Item) -> str:
    """The name of an item in answers, without importing the libraries that read recordings."""
    source = _source(item)
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    from affekt.recognition import sources

    return sources.name_of(source)


def _source(item: Item) -> Any:
    """The recording that an item is or is a part of."""
    return item.source if hasattr(item, "start_seconds") else item


def _single(recognizer: Recognizer, item: Item, options: Options) -> Iterator[Answer]:
    """One recording alone, on all cores."""
    try:
        yield recognizer.predict(item, **options)
    except AudioError as error:
        yield _failure(item, error)


def _failure(item: Item, error: AudioError) -> Failure:
    from affekt.recognition.sources import failure_of

    return failure_of(item, error)


def _in_place(items: Iterable[Item | Failure], answers: Iterator[Answer]) -> Iterator[Answer]:
    """Failures where they are, an answer for each other item."""
    for item in items:
        yield item if isinstance(item, Failure) else next(answers)


def predict_in_processes(
    model: Model, sources: Iterable[Item], options: Options, count: int
) -> Generator[ShardAnswers, None, None]:
    """Predictions of many recordings by processes of this machine, in order, shard by shard; the first one is empty.

    A recording that cannot be used gives a :class:`Failure`, and so does one that kills its process. The others of its
    shard are recognized again, one at a time.

    Args:
        model: which one.
        sources: paths, or segments of files.
        options: keyword arguments of `Recognizer.predict_many`.
        count: how many processes.

    Raises:
        CheckpointError: the file is missing, damaged or not an affekt model, or cannot be run.
    """
    shards, again = itertools.tee(itertools.chain([()], chunks(sources, CHUNK_RECORDINGS)))
    with WorkerProcesses(_make_worker, count, model, dict(options)) as processes:
        for shard, said in zip(again, processes.map(shards), strict=True):
            yield _one_by_one(processes, shard) if isinstance(said, WorkerDied) else said


def _one_by_one(processes: WorkerProcesses[Shard, ShardAnswers], shard: Shard) -> ShardAnswers:
    """The answers of a shard whose process died."""
    said = processes.ask(())
    if isinstance(said, WorkerDied):
        got, remedy = f"a process that ended {said.how} before its first recording", "--jobs 1 needs the least memory"
        raise AffektError("recognition", got=got, expected="a process that starts", remedy=remedy)
    return ShardAnswers(said.labels, [answer for source in shard for answer in _alone(processes, source)])


def _alone(processes: WorkerProcesses[Shard, ShardAnswers], source: Item) -> list[Answer]:
    said = processes.ask((source,))
    if not isinstance(said, WorkerDied):
        return said.answers
    got, remedy = f"a process that ended {said.how} at it", "--jobs 1 needs the least memory"
    name = name_of(source)
    return [Failure(name, AudioError(name, got=got, expected="an answer", remedy=remedy))]


def _make_worker(model: Model, options: Options) -> Callable[[Shard], ShardAnswers]:
    """Worker factory: the function that answers for the shards of one process."""
    from affekt.recognition.recognizer import Recognizer

    given = isinstance(model, tuple)
    recognizer = Recognizer(*model, threads=1) if given else Recognizer.load(model, threads=1)  # type: ignore[misc, arg-type]
    return lambda shard: ShardAnswers(recognizer.labels, list(recognizer.predict_many(shard, jobs=1, **options)))


def predict_on_ray(
    model: bytes,
    name: str,
    sources: Iterable[Item],
    options: Options | None = None,
    cluster: RayCluster | None = None,
    shard_recordings: int = SHARD_RECORDINGS,
) -> Generator[Answer, None, None]:
    """Predictions of many recordings, in their order; one that cannot be used gives a :class:`Failure`.

    Args:
        model: the content of a file that `affekt export` wrote.
        name: how messages name it.
        sources: paths that every node can read, or segments of such files; relative ones from this process's working
            folder.
        options: keyword arguments of `Recognizer.predict_many`.
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
            return task.remote(shared, name, shard, dict(options or {}), folder, versions)

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
    sources: Shard,
    options: Options,
    folder: str,
    versions: Mapping[str, str],
) -> list[Answer] | AffektError:
    """Recognize one shard on a node. An error is returned, since Ray would wrap one that is raised."""
    try:
        check_libraries(versions)
        with suppress(OSError):  # where it is missing, relative paths lead nowhere, and their failures say so
            os.chdir(folder)
        return list(_recognizer(model, name).predict_many(sources, jobs=1, **options))
    except AffektError as error:
        return error


@lru_cache(maxsize=1)
def _recognizer(model: bytes, name: str) -> Recognizer:
    """Loaded once in each process of a node."""
    from affekt.recognition.recognizer import Recognizer

    return Recognizer(model, name, threads=1)
