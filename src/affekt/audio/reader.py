"""Audio in: a file, bytes or a stream becomes mono float32 samples at a stated rate.

Anything that libsndfile decodes is read (wav, flac, ogg, opus, mp3, aiff, caf, w64, au ...), by its content and not by
its suffix, at any rate, channel count and bit depth; channels are averaged before resampling. Decoding goes front to
back in small blocks, so memory is never allocated from what a header claims, and a file that breaks off delivers what
it holds. Neither torch nor pandas is imported here.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from affekt.audio import opus
from affekt.errors import AudioError

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
Samples: TypeAlias = NDArray[np.float32]

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000  # 16 times 48 kHz, the highest that audio interfaces record
READ_FRAMES = 8_192  # a damaged file loses at most this many frames before the damage
UNKNOWN_FRAMES = 1 << 62  # libsndfile reports more than this where a header leaves the length open
LARGEST_PEAK = 100.0  # larger values are integers, or damage: no samples in [-1, 1], however loud
COMPLETE = 0.98  # mp3 headers only estimate the length; below this share of it, a file counts as broken off
SHORT_BYTES = 1 << 16  # of an Opus file of 10 s; memory for the longest would have to be found for each
SPOOL_BYTES = 1 << 26  # a pipe longer than 64 MiB is kept in a temporary file while it is read
FORMATS = "wav, flac, ogg, opus, mp3, aiff or another format of libsndfile"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says; only decoding shows whether it is true.

    Attributes:
        sample_rate_hz: rate of the recording.
        channels: how many.
        frames: samples per channel; None where the header leaves it open.
        duration_seconds: frames / sample_rate_hz; None where the header leaves it open.
        container: file format by content, e.g. ``WAV``, ``FLAC``, ``OGG``, ``AIFF``.
        encoding: how samples are stored, e.g. ``PCM_16``, ``OPUS``.
    """

    sample_rate_hz: int
    channels: int
    frames: int | None
    duration_seconds: float | None
    container: str
    encoding: str


def load(
    source: Source,
    sample_rate_hz: int = 16_000,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_seconds: float | None = None,
) -> Samples:
    """Decode a recording, or a part of it, to mono float32 [samples] at `sample_rate_hz`.

    Args:
        source: a path, the bytes of a file, or a binary stream (a pipe too).
        sample_rate_hz: rate of the result.
        start_seconds: where to start; None for the beginning.
        end_seconds: where to stop; None, or a time past the end, for the end.
        max_seconds: stop after this much, and decode no more than that.

    Raises:
        AudioError: the source is missing, not a regular file, not audio, without samples, or holds NaN or infinity; it
            changed while it was read; or the times are out of range.

    >>> wav = io.BytesIO()
    >>> soundfile.write(wav, np.full((48_000, 2), 0.5), 48_000, format="WAV")
    >>> load(wav).shape, load(wav, max_seconds=0.25).shape
    ((16000,), (4000,))
    """
    limits = _limits(describe(source), start_seconds, end_seconds, max_seconds)
    parts = list(_resampled(source, sample_rate_hz, *limits))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def blocks(source: Source, sample_rate_hz: int = 16_000, block_seconds: float = 10.0) -> Iterator[Samples]:
    """Stream a recording of any length in flat memory; the blocks joined are exactly what :func:`load` returns.

    Args:
        source: as for :func:`load`.
        sample_rate_hz: rate of the blocks.
        block_seconds: length of every block but the last, which holds the rest.

    Raises:
        AudioError: as for :func:`load`, while iterating: the blocks before the fault have been delivered by then.

    >>> wav = io.BytesIO()
    >>> soundfile.write(wav, np.zeros(20_000), 8_000, format="WAV")
    >>> [len(block) for block in blocks(wav, 16_000, block_seconds=1.0)]
    [16000, 16000, 8000]
    """
    block_samples = round(block_seconds * sample_rate_hz)
    if block_samples < 1:
        raise AudioError("block length", got=f"{block_seconds:g} s", expected="at least one sample")
    held: list[Samples] = []
    held_samples = 0
    for part in _resampled(source, sample_rate_hz):
        held.append(part)
        held_samples += len(part)
        if held_samples >= block_samples:
            joined = np.concatenate(held)
            whole = held_samples - held_samples % block_samples
            yield from np.split(joined[:whole], range(block_samples, whole, block_samples))
            held, held_samples = [joined[whole:]], held_samples - whole
    if held_samples:
        yield np.concatenate(held)


def probe(source: Source) -> AudioInfo:
    """Read the header alone.

    Raises:
        AudioError: the source is missing, not a regular file or not audio.
    """
    name = describe(source)
    with _stream(source, name) as stream, _sound_file(stream, name) as file:
        return _info(file)


@contextmanager
def reading(source: Source) -> Iterator[tuple[AudioInfo, Iterator[Samples]]]:
    """Open a recording once: what its header says, and its mono samples at its own rate, in parts of any length.

    Raises:
        AudioError: as for :func:`load`; about the samples while iterating.

    >>> wav = io.BytesIO()
    >>> soundfile.write(wav, np.zeros(20_000), 8_000, format="WAV")
    >>> with reading(wav) as (info, parts):
    ...     info.frames, sum(map(len, parts))
    (20000, 20000)
    """
    name = describe(source)
    with _opened(source, from_start=True) as file:
        yield _info(file), _some(_decoded(file, name, 0.0, np.inf), name)


def describe(source: Source) -> str:
    """How messages name a source: its path, its stream's name, or `audio bytes`."""
    if isinstance(source, bytes):
        return "audio bytes"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "audio stream"))


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile is untyped
    """A sound file that is read front to back.

    `SoundFile.read` seeks after every read where it can. That is never needed here, and it fails at the end of files
    whose header leaves the length open or lies about it.
    """

    def __init__(self, stream: _Forgiving) -> None:
        super().__init__(stream)

    def seekable(self) -> bool:
        return False

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """The next [frames, channels], at most :data:`READ_FRAMES` of them, fewer at the end."""
        return np.asarray(self.read(min(frames, READ_FRAMES), dtype="float32", always_2d=True), np.float32)


class _DecodedFile:
    """A short Opus recording that a faster decoder has decoded as a whole: see :mod:`affekt.audio.opus`."""

    format, subtype = "OGG", "OPUS"

    def __init__(self, sound: opus.Sound) -> None:
        self._rest, self.samplerate = sound
        self.frames, self.channels = self._rest.shape

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """The next [frames, channels], fewer at the end."""
        part, self._rest = self._rest[:frames], self._rest[frames:]
        return part


class _Forgiving:
    """A stream as libsndfile sees it: one that stays where it is when a damaged file leads before its beginning.

    The error would be raised where nobody can catch it, and be printed.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tell, self.read = stream.tell, stream.read
        if isinstance(name := getattr(stream, "name", None), str):
            self.name = name

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._stream.seek(offset, whence)
        except (OSError, ValueError):
            return self._stream.tell()


def _limits(
    name: str, start_seconds: float | None, end_seconds: float | None, max_seconds: float | None
) -> tuple[float, float]:
    """Start and stop of the wanted part in seconds; stop is infinite for the end of the file."""
    start = 0.0 if start_seconds is None else float(start_seconds)
    end = np.inf if end_seconds is None else float(end_seconds)
    longest = np.inf if max_seconds is None else float(max_seconds)
    if not (0 <= start < np.inf and start < end and longest > 0):
        got = f"start {start:g} s, end {end:g} s, at most {longest:g} s"
        raise AudioError(f"{name}: times", got=got, expected="0 <= start < end and a positive maximum")
    return start, min(end, start + longest)


def _resampled(
    source: Source, sample_rate_hz: int, start_seconds: float = 0.0, stop_seconds: float = np.inf
) -> Iterator[Samples]:
    """Mono parts at the wanted rate; at least one sample in all."""
    _check_rate("wanted sample rate", sample_rate_hz)
    with _opened(source, from_start=start_seconds == 0) as file:
        decoded = _decoded(file, describe(source), start_seconds, stop_seconds)
        if file.samplerate != sample_rate_hz:
            decoded = _convert(decoded, file.samplerate, sample_rate_hz)
        yield from _some(decoded, describe(source))


def _some(parts: Iterator[Samples], name: str) -> Iterator[Samples]:
    """The parts, which must not all be empty."""
    samples = 0
    for part in parts:
        samples += len(part)
        yield part
    if not samples:
        raise AudioError(name, got="no samples", expected="audio", remedy="leave the file out")


def _convert(parts: Iterator[Samples], from_hz: int, to_hz: int) -> Iterator[Samples]:
    """Resample a stream of parts; the result does not depend on where it was cut."""
    resampler = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")
    for part in parts:
        yield resampler.resample_chunk(part)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _decoded(
    file: _ForwardFile | _DecodedFile, name: str, start_seconds: float, stop_seconds: float
) -> Iterator[Samples]:
    """Mono parts of the wanted range at the file's own rate, each checked to be finite."""
    start = round(start_seconds * file.samplerate)
    stop = UNKNOWN_FRAMES if stop_seconds == np.inf else round(stop_seconds * file.samplerate)
    if start and isinstance(file, _ForwardFile):
        _seek(file, name, start)
    position = start
    while position < stop:
        frames = _read(file, name, stop - position, first=position == start)
        if not len(frames):
            break
        mono = frames.mean(axis=1, dtype=np.float32) if file.channels > 1 else frames[:, 0]
        _check_samples(mono, name, position, file.samplerate)
        position += len(frames)
        yield mono
    if file.frames < UNKNOWN_FRAMES and position < COMPLETE * min(file.frames, stop):
        got, expected = position / file.samplerate, file.frames / file.samplerate
        log.warning("%s: breaks off: got %.3f s, expected %.3f s; what is there is used", name, got, expected)


def _check_samples(mono: Samples, name: str, position: int, rate_hz: int) -> None:
    """Refuse what is no sample, with its time."""
    usable = np.abs(mono) <= LARGEST_PEAK  # false for NaN too
    if usable.all():
        return
    first = int(np.flatnonzero(~usable)[0])
    value = "NaN or infinity" if not np.isfinite(mono[first]) else f"a value of {mono[first]:g}"
    raise AudioError(name, got=f"{value} at {(position + first) / rate_hz:.3f} s", expected="samples in [-1, 1]")


def _seek(file: _ForwardFile, name: str, frame: int) -> None:
    try:
        file.seek(frame)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            name,
            got=f"start at {frame / file.samplerate:.3f} s",
            expected=f"less than its length, {file.frames / file.samplerate:.3f} s",
        ) from error


def _read(file: _ForwardFile | _DecodedFile, name: str, frames: int, first: bool) -> NDArray[np.float32]:
    """Some of the next frames [frames, channels]; none at the end, or where decoding breaks off after some."""
    try:
        return file.next_frames(frames)
    except soundfile.LibsndfileError as error:
        if first:
            raise AudioError(name, got=f"damaged audio ({error.error_string})", expected=FORMATS) from error
        return np.empty((0, file.channels), np.float32)


@contextmanager
def _opened(source: Source, from_start: bool) -> Iterator[_ForwardFile | _DecodedFile]:
    """A source whose samples are to be read."""
    name = describe(source)
    with _stream(source, name) as stream:
        if from_start and (sound := _short_opus(stream)):
            yield _DecodedFile(sound)
        else:
            with _sound_file(stream, name) as file:
                yield file


def _info(file: _ForwardFile | _DecodedFile) -> AudioInfo:
    frames = file.frames if file.frames < UNKNOWN_FRAMES else None
    seconds = None if frames is None else frames / file.samplerate
    return AudioInfo(file.samplerate, file.channels, frames, seconds, file.format, file.subtype)


def _short_opus(stream: BinaryIO) -> opus.Sound | None:
    """Decode a short Opus recording at once; None where that is left to libsndfile.

    Nothing asks libsndfile then, which would read the file in many small pieces by functions of Python's: calls for
    which several threads wait for each other.
    """
    sound = None
    with suppress(OSError):  # it may tell more of what is there
        beginning = stream.read(opus.BEGINNING_BYTES)
        if opus.may_be(beginning):
            rest = stream.read(SHORT_BYTES)
            if len(rest) == SHORT_BYTES:
                rest += stream.read(opus.LARGEST_BYTES)
            sound = opus.decode(beginning + rest)
    stream.seek(0)
    return sound


@contextmanager
def _sound_file(stream: BinaryIO, name: str) -> Iterator[_ForwardFile]:
    """A stream as libsndfile opens it."""
    try:
        file = _ForwardFile(_Forgiving(stream))
    except soundfile.LibsndfileError as error:
        raise AudioError(
            name,
            got=f"no audio that can be decoded ({error.error_string.rstrip('.')})",
            expected=FORMATS,
            remedy="convert it to wav or flac, or leave it out",
        ) from error
    except TypeError as error:  # soundfile asks for rate and channels where a name ends in .raw
        raise AudioError(name, got="raw samples without a header", expected=FORMATS, remedy="convert it") from error
    with file:
        _check_rate(f"{name}: sample rate", file.samplerate)
        yield file


def _check_rate(what: str, rate_hz: int) -> None:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(what, got=f"{rate_hz} Hz", expected=f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz")


@contextmanager
def _stream(source: Source, name: str) -> Iterator[BinaryIO]:
    """The source as a binary stream in which one can seek."""
    if isinstance(source, bytes):
        if not source:
            raise AudioError(name, got="nothing", expected="the bytes of an audio file")
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with _regular_file(Path(source)) as file:
            yield file
    elif not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise AudioError("audio source", got=type(source).__name__, expected="a path, bytes or a binary stream")
    elif source.seekable():
        source.seek(0)
        yield source
    else:
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            shutil.copyfileobj(source, spool)
            spool.seek(0)
            yield spool  # type: ignore[misc]  # a BinaryIO in all but its declared type


@contextmanager
def _regular_file(path: Path) -> Iterator[BinaryIO]:
    """An open file that does not change while it is read."""
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        yield file
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise AudioError(str(path), got="a file that changed while it was read", remedy="try again when it is complete")


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file that has bytes to read; a device or a pipe is refused without being opened, which could block."""
    try:
        _check_regular(path, path.stat())
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(str(path), got="no such file", expected="an audio file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(str(path), got=reason, expected="a readable audio file") from error


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(str(path), got="a directory", expected="an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(str(path), got="a device, pipe or socket", expected="a regular file")
    if status.st_size == 0:
        raise AudioError(str(path), got="an empty file", expected="an audio file")
