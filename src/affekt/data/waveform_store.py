"""Waveforms of a manifest, decoded once into a memory-mapped cache.

The cache is content-addressed: the name of its folder is a hash of the SHA-256 of every file, the part taken of it, the
rate, and the versions of the decoder, the resampler and this format. A changed file or setting leads to another folder,
so a stale cache is never read. The SHA-256 of every waveform is checked whenever the cache is opened, and a damaged
cache is rebuilt. It is built in a temporary folder and renamed into place: processes that build the same cache at once
do not disturb each other. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from affekt import audio
from affekt.audio import opus
from affekt.audio.bulk_decoding import SAMPLE_TYPE, Entry, Stretch, waveform, waveforms
from affekt.data.manifest import Manifest
from affekt.errors import AudioError, ConfigError, Fault
from affekt.runtime import atomic_files
from affekt.runtime.cpu_affinity import available_cores
from affekt.runtime.ordered_map import chunks, ordered_map
from affekt.runtime.processes import worth_starting

FORMAT = 1
WAVEFORMS, INDEX = "waveforms.f32", "index.jsonl"
TOGETHER = 4  # files per task of a thread: each result that is handed over costs a switch of the GIL
AHEAD_PER_JOB = 2  # groups of results per job that may wait to be written
LEFTOVER_SECONDS = 24 * 60 * 60  # a temporary folder this old belongs to a process that was killed
ATTEMPTS = 3  # another process may replace the cache between building and reading it

T = TypeVar("T")
R = TypeVar("R")


def default_folder() -> Path:
    """The folder of caches: ``$AFFEKT_CACHE``, else ``~/.cache/affekt``."""
    return Path(os.environ.get("AFFEKT_CACHE") or Path.home() / ".cache" / "affekt")


@dataclass(frozen=True, eq=False)
class WaveformStore(Sequence[audio.Samples]):
    """The waveforms of a manifest's rows, in its order, memory-mapped: a sequence of float32 [samples].

    Attributes:
        waveforms: all samples, one utterance after the other.
        starts: where each utterance starts in `waveforms`, in samples.
        lengths: samples of each utterance; 0 where it failed.
        hashes: SHA-256 of each decoded waveform, equal for equal audio in whatever lossless container; "" where it
            failed.
        faults: why each utterance failed; None where it did not.
        sample_rate_hz: rate of all waveforms.
    """

    waveforms: NDArray[np.float32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    hashes: tuple[str, ...]
    faults: tuple[Fault | None, ...]
    sample_rate_hz: int

    @classmethod
    def open(
        cls,
        manifest: Manifest,
        folder: str | Path | None = None,
        sample_rate_hz: int = 16_000,
        jobs: int | None = None,
    ) -> WaveformStore:
        """Open the manifest's cache; decode first if there is no intact one.

        Args:
            manifest: the rows.
            folder: where caches are kept; by default :func:`default_folder`.
            sample_rate_hz: rate of the waveforms.
            jobs: threads or processes that decode and verify; by default one per available core.

        Raises:
            AudioError: no row at all can be decoded, or files changed meanwhile.
            ConfigError: the cache folder cannot be written.
        """
        jobs = jobs or available_cores()
        clips = _clips(manifest, jobs)
        folder = Path(folder) if folder is not None else default_folder()
        final = folder / _key(clips, sample_rate_hz)
        for _ in range(ATTEMPTS):
            store = _read(final, clips, sample_rate_hz, jobs)
            if store is not None:
                return store._checked()
            try:
                _build(final, clips, sample_rate_hz, jobs)
            except OSError as error:
                raise _unwritable(folder, error.strerror or str(error)) from error
        raise _unwritable(folder, "a cache that is damaged as soon as it is written")

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> audio.Samples: ...

    @overload
    def __getitem__(self, index: slice) -> list[audio.Samples]: ...

    def __getitem__(self, index: int | slice) -> audio.Samples | list[audio.Samples]:
        """Waveform of one row, float32 [samples], read-only; or those of several.

        Raises:
            AudioError: a row could not be decoded.
        """
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        fault = self.faults[index]
        if fault is not None:
            raise AudioError.of([fault])
        start = self.starts[index]
        return self.waveforms[start : start + self.lengths[index]]

    @property
    def failures(self) -> list[Fault]:
        """The recordings that could not be decoded, and the reasons."""
        return [fault for fault in self.faults if fault is not None]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Mask of the decoded rows: ``manifest.where(store.usable)`` and ``store.where(store.usable)`` go together."""
        return np.array([fault is None for fault in self.faults], bool)

    def where(self, keep: ArrayLike) -> WaveformStore:
        """The rows for which `keep` is true, as :meth:`affekt.data.manifest.Manifest.where`."""
        rows = np.flatnonzero(np.asarray(keep, bool))
        return replace(
            self,
            starts=self.starts[rows],
            lengths=self.lengths[rows],
            hashes=tuple(self.hashes[row] for row in rows),
            faults=tuple(self.faults[row] for row in rows),
        )

    def _checked(self) -> WaveformStore:
        if not self.usable.any():
            raise AudioError.of(self.failures)
        return self


@dataclass(frozen=True, slots=True)
class _File:
    """A source file when it was hashed; the hash is empty if it could not be read."""

    path: Path
    sha256: str = ""
    signature: tuple[int, int] = (0, 0)
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class _Clip:
    """The part of a file that a row asks for."""

    name: str
    file: _File
    start_seconds: float | None
    end_seconds: float | None

    @property
    def stretch(self) -> Stretch:
        """The part to decode."""
        return Stretch(self.name, self.file.path, self.start_seconds, self.end_seconds, self.file.fault)

    def explain(self, fault: Fault) -> Fault:
        fault = replace(fault, what=str(self.file.path))
        return fault.at(f"utterance {self.name}" if fault.leads_nowhere else self.name)


def _dump(entry: Entry) -> str:
    """A line of the index."""
    fault = entry.fault and [entry.fault.got, entry.fault.expected, entry.fault.remedy]
    return json.dumps([entry.samples, entry.sha256, fault])


def _parse(line: str, clip: _Clip) -> Entry:
    samples, sha256, fault = json.loads(line)
    return Entry(samples, sha256, fault and clip.explain(Fault("", *fault)))


def _unwritable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"cache folder {folder}",
        got=reason,
        expected="a folder that can be written, with room for the decoded audio",
        remedy="set AFFEKT_CACHE to another one",
    )


# Input: files, their hashes, the key


def _clips(manifest: Manifest, jobs: int) -> list[_Clip]:
    paths = manifest.audio_paths()
    distinct = list(dict.fromkeys(paths))
    with _progress("reading", len(distinct)) as advance:
        files = dict(zip(distinct, advance(_in_order(_hash_file, distinct, jobs)), strict=True))
    times = manifest.table[["start", "end"]].to_numpy(np.float64)
    return [
        _Clip(name, files[path], *(None if np.isnan(seconds) else float(seconds) for seconds in row))
        for name, path, row in zip(manifest.ids, paths, times, strict=True)
    ]


def _hash_file(path: Path) -> _File:
    try:
        with audio.open_regular(path) as file:
            signature = _signature(os.fstat(file.fileno()))
            return _File(path, hashlib.file_digest(file, "sha256").hexdigest(), signature)
    except AudioError as error:
        return _File(path, fault=error.faults[0])
    except OSError as error:
        return _File(path, fault=Fault(str(path), got=error.strerror or str(error), expected="a readable audio file"))


def _signature(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _key(clips: Sequence[_Clip], sample_rate_hz: int) -> str:
    """Name of the cache: a hash of everything that determines its content."""
    decoders = f"{soundfile.__libsndfile_version__} {opus.version()}".rstrip()
    lines = [f"{FORMAT} {sample_rate_hz} {soxr.__version__} {decoders}"]
    lines += [f"{clip.file.sha256 or clip.file.fault} {clip.start_seconds} {clip.end_seconds}" for clip in clips]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


# Building


def _build(final: Path, clips: Sequence[_Clip], sample_rate_hz: int, jobs: int) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final.parent)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent, ignore_cleanup_errors=True) as name:
        fresh, scratch = Path(name) / "fresh", Path(name) / "scratch"
        fresh.mkdir()
        entries = _decode_into(fresh / WAVEFORMS, clips, sample_rate_hz, jobs, scratch)
        lines = "".join(_dump(entry) + "\n" for entry in entries)
        atomic_files.write_bytes(fresh / INDEX, f"{hashlib.sha256(lines.encode()).hexdigest()}\n{lines}".encode())
        with suppress(FileNotFoundError):  # an existing folder is damaged, or it would have been read
            final.rename(Path(name) / "damaged")
        try:
            fresh.rename(final)
            atomic_files.sync(final.parent)
        except OSError:
            if not final.exists():  # otherwise another process was faster, with the same content
                raise


def _decode_into(path: Path, clips: Sequence[_Clip], sample_rate_hz: int, jobs: int, scratch: Path) -> list[Entry]:
    """Write all waveforms, in order, as they are decoded."""
    entries = []
    with (
        atomic_files.atomic_write(path) as file,
        atomic_files.flushing(file) as write,
        _progress("decoding", len(clips)) as advance,
    ):
        for entry, samples in advance(_decoded(clips, sample_rate_hz, jobs, scratch)):
            write(samples)
            entries.append(entry)
    _refuse_changed_files(clips)
    return entries


def _decoded(
    clips: Sequence[_Clip], sample_rate_hz: int, jobs: int, scratch: Path
) -> Iterator[tuple[Entry, memoryview | bytes]]:
    """The entries of clips and the bytes of their samples; by processes if there are many, else by threads."""

    def decode(stretch: Stretch) -> tuple[Entry, memoryview]:
        entry, samples = waveform(stretch, sample_rate_hz)
        return entry, samples.data

    stretches = [clip.stretch for clip in clips]
    if processes := worth_starting(len(clips), jobs):
        scratch.mkdir()
        return waveforms(stretches, sample_rate_hz, scratch, processes)
    return _in_order(decode, stretches, jobs)


def _refuse_changed_files(clips: Iterable[_Clip]) -> None:
    """Refuse files that changed between hashing and decoding: the key would not match the content."""
    files = {clip.file.path: clip.file for clip in clips if not clip.file.fault}
    changed = [file for file in files.values() if _changed(file)]
    if changed:
        raise AudioError.of(
            Fault(str(file.path), got="a file that changed while it was read", remedy="try again when it is complete")
            for file in changed
        )


def _changed(file: _File) -> bool:
    try:
        return _signature(file.path.stat()) != file.signature
    except OSError:
        return True


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".*.*"):
        if leftover.is_dir() and time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


# Reading


def _read(folder: Path, clips: Sequence[_Clip], sample_rate_hz: int, jobs: int) -> WaveformStore | None:
    """The store in a folder; None if there is none or it is damaged."""
    entries = _read_index(folder / INDEX, clips)
    if entries is None:
        return None
    lengths = np.array([entry.samples for entry in entries], np.int64)
    ends = np.cumsum(lengths)
    try:
        if (folder / WAVEFORMS).stat().st_size != ends[-1] * SAMPLE_TYPE.itemsize:
            return None
        waveforms = np.memmap(folder / WAVEFORMS, SAMPLE_TYPE, "r") if ends[-1] else np.empty(0, SAMPLE_TYPE)
    except OSError:
        return None
    hashes, faults = tuple(entry.sha256 for entry in entries), tuple(entry.fault for entry in entries)
    store = WaveformStore(waveforms, ends - lengths, lengths, hashes, faults, sample_rate_hz)
    return store if _is_whole(store, jobs) else None


def _read_index(path: Path, clips: Sequence[_Clip]) -> list[Entry] | None:
    try:
        digest, _, lines = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if digest != hashlib.sha256(lines.encode()).hexdigest():
        return None
    return [_parse(line, clip) for line, clip in zip(lines.splitlines(), clips, strict=True)]


def _is_whole(store: WaveformStore, jobs: int) -> bool:
    def matches(row: int) -> bool:
        return hashlib.sha256(store[row].data).hexdigest() == store.hashes[row]

    return all(_in_order(matches, np.flatnonzero(store.usable).tolist(), jobs))


# Many at once


def _in_order(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """Results of `function` from a pool of threads, in the order of `items`, few of them waiting at any time."""

    def work(group: Sequence[T]) -> list[R]:
        return [function(item) for item in group]

    return chain.from_iterable(ordered_map(work, chunks(items, TOGETHER), jobs, AHEAD_PER_JOB * jobs))


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[Iterable[R]], Iterator[R]]]:
    """A bar on standard error, where that is a terminal; yields what to wrap an iterable in."""
    if not sys.stderr.isatty():
        yield iter
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    with bar:
        yield lambda items: iter(bar.track(items, total=total, description=title))
