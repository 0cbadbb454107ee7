"""What decoding many recordings shows, without what takes long to import: for processes that do nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from affekt import audio
from affekt.errors import AudioError
from affekt.processes import Lost, Processes, available_cores, worthwhile

LFS_POINTER = b"version https://git-lfs.github.com/"
COMPLETE = 0.98  # compressed files only estimate their length
DIGEST_BYTES = 16
TOGETHER = 8
"""Files that a thread or process decodes before the main thread, which has to take turns with it, hears of them."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What decoding a file showed.

    Attributes:
        fault: why it cannot be used; empty if it can. The other attributes then say nothing.
        container: file format by content.
        sample_rate_hz, channels: as recorded.
        duration_seconds: what was decoded.
        complete: whether that is as much as the header promises.
        peak: largest magnitude, 1.0 at full scale.
        digest: hash of the decoded samples.
    """

    fault: str = ""
    container: str = ""
    sample_rate_hz: int = 0
    channels: int = 0
    duration_seconds: float = 0.0
    complete: bool = True
    peak: float = 0.0
    digest: bytes = b""


Decoders: TypeAlias = Processes[list[str], list[Sound]]


def start_decoders(count: int | None = None) -> Decoders:
    """Processes for :func:`decoded`, by default one per core; they make ready while the caller does something else."""
    return Processes(_decoder, count or available_cores())


def decoded(paths: Sequence[str], jobs: int | None = None, decoders: Decoders | None = None) -> Iterator[Sound]:
    """What decoding files shows, in their order.

    Args:
        paths: the files.
        jobs: how many to work on at a time; by default one per core.
        decoders: processes that have been started for it; by default some are where there are many files.
    """
    jobs = jobs or available_cores()
    if decoders is not None:
        yield from map(_or_lost, decoders.each(paths, TOGETHER))
    elif worthwhile(len(paths), jobs):
        with start_decoders(jobs) as started:
            yield from map(_or_lost, started.each(paths, TOGETHER))
    else:
        groups = [paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER)]
        with ThreadPoolExecutor(jobs) as threads:
            yield from chain.from_iterable(threads.map(_decode_all, groups))


def _or_lost(sound: Sound | Lost) -> Sound:
    return Sound(fault=f"a process that ended {sound.how} at it") if isinstance(sound, Lost) else sound


def _decoder() -> Callable[[list[str]], list[Sound]]:
    """In such a process: what does its work."""
    return _decode_all


def _decode_all(paths: Iterable[str]) -> list[Sound]:
    return [decode(Path(path)) for path in paths]


def decode(path: Path) -> Sound:
    """Decode one file at its own rate."""
    digest, peak, samples = hashlib.blake2b(digest_size=DIGEST_BYTES), 0.0, 0
    try:
        with audio.reading(path) as (info, parts):
            for part in parts:
                digest.update(np.ascontiguousarray(part).data)
                peak = max(peak, float(np.abs(part).max()))
                samples += len(part)
    except AudioError as error:
        return Sound(fault=_reason(path, error))
    return Sound(
        container=info.container,
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        duration_seconds=samples / info.sample_rate_hz,
        complete=info.frames is None or samples >= COMPLETE * info.frames,
        peak=peak,
        digest=digest.digest(),
    )


def _reason(path: Path, error: AudioError) -> str:
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                return "a Git LFS pointer, fetch the sound with `git lfs pull`"
    except OSError:
        pass  # the error itself says what is wrong with the file
    return error.faults[0].got
