"""Decode many recordings, in threads or in worker processes that import little."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, tee
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.audio import containers
from affekt.errors import AudioError, Fault
from affekt.runtime.cpu_affinity import available_cores
from affekt.runtime.ordered_map import chunks, ordered_map
from affekt.runtime.processes import RECORDINGS_PER_PROCESS, WorkerDied, WorkerProcesses, worth_starting

LFS_POINTER = b"version https://git-lfs.github.com/"
DIGEST_BYTES = 16
SAMPLE_TYPE = np.dtype("<f4")
LONGEST_SECONDS = 1_800.0
"""Longest utterance: a small file can decode to more samples than fit into memory."""
AT_FIRST = 4
"""Processes that start before the number of files is known."""
TOGETHER = 8
"""Files per task: handing results over costs the main thread time."""


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """The result of decoding a file.

    Attributes:
        fault: why it cannot be used; empty if it can. The other attributes are then meaningless.
        container: file format by content.
        sample_rate_hz, channels: as recorded.
        duration_seconds: length of the decoded sound.
        complete: whether the end of the recording is there.
        cancels: whether its channels cancel each other in the mix.
        unheard: whether the file holds sound that was not decoded.
        peak: largest magnitude, 1.0 at full scale.
        digest: hash of the decoded samples.
    """

    fault: str = ""
    container: str = ""
    sample_rate_hz: int = 0
    channels: int = 0
    duration_seconds: float = 0.0
    complete: bool = True
    cancels: bool = False
    unheard: bool = False
    peak: float = 0.0
    digest: bytes = b""


Decoders: TypeAlias = WorkerProcesses[list[str], list[DecodedFile]]


def start_decoders() -> Decoders | None:
    """Start processes for :func:`decoded` early, while the caller still looks for the files.

    Returns:
        None where threads are faster.
    """
    count = min(available_cores(), AT_FIRST)
    return WorkerProcesses(_decoder, count) if worth_starting(count * RECORDINGS_PER_PROCESS, count) else None


def decoded(paths: Sequence[str], jobs: int | None = None, decoders: Decoders | None = None) -> Iterator[DecodedFile]:
    """Decode files and yield the results in their order.

    Args:
        paths: the files.
        jobs: number of files to work on at a time; by default one per core.
        decoders: processes from :func:`start_decoders`; by default they are started if there are many files.
    """
    jobs = jobs or available_cores()
    processes = worth_starting(len(paths), jobs)
    if decoders is not None:
        decoders.grow(processes)
        yield from map(_or_lost, decoders.each(paths, TOGETHER))
    elif processes:
        with WorkerProcesses(_decoder, processes) as started:
            yield from map(_or_lost, started.each(paths, TOGETHER))
    else:
        yield from chain.from_iterable(ordered_map(_decode_all, chunks(paths, TOGETHER), jobs))


def _or_lost(sound: DecodedFile | WorkerDied) -> DecodedFile:
    return DecodedFile(fault=f"a process that ended {sound.how} at it") if isinstance(sound, WorkerDied) else sound


def _decoder() -> Callable[[list[str]], list[DecodedFile]]:
    """Worker factory."""
    return _decode_all


def _decode_all(paths: Iterable[str]) -> list[DecodedFile]:
    return [decode(Path(path)) for path in paths]


def decode(path: Path) -> DecodedFile:
    """Decode one file at its own rate."""
    digest, peak, samples = hashlib.blake2b(digest_size=DIGEST_BYTES), 0.0, 0
    try:
        with audio.remarks(logged=False), audio.reading(path) as recording:
            for part in recording.parts():
                digest.update(np.ascontiguousarray(part).data)
                peak = max(peak, float(np.abs(part).max()))
                samples += len(part)
    except AudioError as error:
        return DecodedFile(fault=_reason(path, error))
    info = recording.info
    return DecodedFile(
        container=info.container,
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        duration_seconds=samples / info.sample_rate_hz,
        complete=not recording.breaks_off,
        cancels=recording.cancels,
        unheard=recording.unheard,
        peak=peak,
        digest=digest.digest(),
    )


def _reason(path: Path, error: AudioError) -> str:
    """The reason why a file cannot be decoded, in a few words for a list of many files."""
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                return "a Git LFS pointer, fetch the sound with `git lfs pull`"
    except OSError:
        pass  # the error itself says what is wrong with the file
    fault = error.faults[0]
    return f"{fault.got}; {fault.remedy}" if containers.EXTRA in fault.remedy else fault.got


# Waveforms


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of a file that is an utterance, or the reason why the file cannot be read."""

    name: str
    path: Path
    start_seconds: float | None = None
    end_seconds: float | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One decoded waveform: its number of samples and their SHA-256, or the fault that prevents it."""

    samples: int = 0
    sha256: str = ""
    fault: Fault | None = None


def waveform(stretch: Stretch, sample_rate_hz: int) -> tuple[Entry, NDArray[np.float32]]:
    """Decode a stretch; the array is empty if it cannot be used."""
    try:
        if stretch.fault:
            raise AudioError.of([stretch.fault])
        samples = audio.load(
            stretch.path, sample_rate_hz, stretch.start_seconds, stretch.end_seconds, max_seconds=LONGEST_SECONDS + 1
        ).astype(SAMPLE_TYPE, copy=False)
        if len(samples) > LONGEST_SECONDS * sample_rate_hz:
            got, remedy = f"more than {LONGEST_SECONDS:g} s", "give the utterance's start and end"
            raise AudioError(stretch.name, got=got, expected="an utterance", remedy=remedy)
    except AudioError as error:
        return Entry(fault=error.faults[0]), np.empty(0, SAMPLE_TYPE)
    return Entry(len(samples), hashlib.sha256(samples.data).hexdigest()), samples


class _Part(NamedTuple):
    """Some entries, and the file that holds their samples, one waveform after the other."""

    entries: list[Entry]
    path: str


def waveforms(
    stretches: Iterable[Stretch], sample_rate_hz: int, scratch: Path, jobs: int
) -> Iterator[tuple[Entry, memoryview | bytes]]:
    """Decode stretches in worker processes; yield their entries and the bytes of their samples, in order.

    Pipes are slow for so much data, so the workers write samples into files, which are read and deleted at once, mostly
    before they reach the disk. Stretches at which a worker died are decoded in this process: the cause may have been
    chance, which a cache must not remember.

    Args:
        stretches: the utterances.
        sample_rate_hz: rate of the waveforms.
        scratch: a folder for the files; those of workers that died may stay in it.
        jobs: number of processes.

    Raises:
        OSError: no space left.
    """
    groups, again = tee(map(list, chunks(stretches, TOGETHER)))
    with WorkerProcesses(_part_writer, jobs, str(scratch), sample_rate_hz) as processes:
        for group, part in zip(again, processes.map(groups), strict=True):
            if isinstance(part, WorkerDied):
                yield from (
                    (entry, samples.data) for entry, samples in (waveform(one, sample_rate_hz) for one in group)
                )
                continue
            with Path(part.path).open("rb") as file:
                yield from ((entry, file.read(entry.samples * SAMPLE_TYPE.itemsize)) for entry in part.entries)
            Path(part.path).unlink()


def _part_writer(scratch: str, sample_rate_hz: int) -> Callable[[list[Stretch]], _Part]:
    """Worker factory: decode stretches into files in `scratch`."""
    numbers = count()

    def write(stretches: list[Stretch]) -> _Part:
        path = Path(scratch, f"{os.getpid()}-{next(numbers)}")
        entries = []
        with path.open("wb", buffering=0) as file:
            for stretch in stretches:
                entry, samples = waveform(stretch, sample_rate_hz)
                file.write(samples.data)
                entries.append(entry)
        return _Part(entries, str(path))

    return write
