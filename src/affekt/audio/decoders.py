"""Decoders: what the reader asks of any library that turns the bytes of a recording into samples."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from affekt.audio import containers, opus
from affekt.audio.signatures import Kind, kind_in
from affekt.errors import AudioError

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000  # 16 times 48 kHz, the highest that audio interfaces record
READ_FRAMES = 8_192  # a damaged file loses at most this many frames before the damage
UNKNOWN_FRAMES = 1 << 62  # libsndfile reports more than this where a header leaves the length open
SHORT_BYTES = 1 << 16  # of an Opus file of 10 s; memory for the longest would have to be found for each
FORMATS = "wav, flac, ogg, opus, mp3, aiff or another format of libsndfile"


class Decoder(Protocol):
    """An open recording that is decoded front to back.

    Attributes:
        sample_rate_hz: rate of the recording.
        channels: how many.
        frames: samples per channel that the header promises; None where it leaves the length open.
        container: file format by content, e.g. ``WAV``.
        encoding: how samples are stored, e.g. ``PCM_16``.
    """

    sample_rate_hz: int
    channels: int
    frames: int | None
    container: str
    encoding: str

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """The next [frames, channels], fewer than asked for at will, none at the end.

        Raises:
            AudioError: damage.
        """

    def seek(self, frame: int) -> None:
        """Have :meth:`next_frames` continue at this frame; only before its first call.

        Raises:
            AudioError: the recording ends before.
        """


class SndfileDecoder:
    """A recording that libsndfile reads."""

    def __init__(self, file: _ForwardFile, name: str) -> None:
        self._file = file
        self._name = name
        self.sample_rate_hz: int = file.samplerate
        self.channels: int = file.channels
        self.frames: int | None = file.frames if file.frames < UNKNOWN_FRAMES else None
        self.container: str = file.format
        self.encoding: str = file.subtype

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        try:
            read = self._file.read(min(frames, READ_FRAMES), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(self._name, got=f"damaged audio ({error.error_string})", expected=FORMATS) from error
        return np.asarray(read, np.float32)

    def seek(self, frame: int) -> None:
        try:
            self._file.seek(frame)
        except soundfile.LibsndfileError as error:
            raise start_past_end(self, self._name, frame) from error


class WholeDecoder:
    """A short recording that has been decoded as a whole."""

    def __init__(self, sound: opus.Sound) -> None:
        self._rest, self.sample_rate_hz = sound
        self.frames: int | None = self._rest.shape[0]
        self.channels: int = self._rest.shape[1]
        self.container, self.encoding = "OGG", "OPUS"

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        part, self._rest = self._rest[:frames], self._rest[frames:]
        return part

    def seek(self, frame: int) -> None:
        self._rest = self._rest[frame:]


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile is untyped
    """A sound file that is read front to back.

    `SoundFile.read` seeks after every read where it can. That is never needed here, and it fails at the end of files
    whose header leaves the length open or lies about it.
    """

    def __init__(self, stream: _Forgiving) -> None:
        super().__init__(stream)

    def seekable(self) -> bool:
        return False


class _Forgiving:
    """A stream as libsndfile sees it: a seek that a damaged file leads before the beginning leaves it where it is.

    The error would be raised in a callback of C, where nobody can catch it, and be printed.
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


def start_past_end(decoder: Decoder, name: str, frame: int) -> AudioError:
    """The error for a start that lies behind the end."""
    rate = decoder.sample_rate_hz
    length = (
        "less than its length" if decoder.frames is None else f"less than its length, {decoder.frames / rate:.3f} s"
    )
    return AudioError(name, got=f"start at {frame / rate:.3f} s", expected=length)


def check_rate(what: str, rate_hz: int) -> None:
    """Refuse rates that are damage rather than a recording's.

    Raises:
        AudioError: a rate outside 1 kHz to 768 kHz.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(what, got=f"{rate_hz} Hz", expected=f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz")


@contextmanager
def opened(stream: BinaryIO, name: str, from_start: bool) -> Iterator[Decoder]:
    """The decoder of a recording.

    Args:
        stream: its bytes, from the beginning.
        name: how messages name it.
        from_start: whether it will be decoded from its beginning, as the decoder of short Opus recordings needs.

    Raises:
        AudioError: nothing that can be decoded.
    """
    if from_start and (sound := _short_opus(stream)):
        yield WholeDecoder(sound)
        return
    kind = kind_in(stream)
    with ExitStack() as stack:
        decoder = stack.enter_context(_container(stream, kind, name)) if kind and not kind.by_libsndfile else None
        yield decoder or _by_libsndfile_or_ffmpeg(stack, stream, kind, name)


@contextmanager
def _container(stream: BinaryIO, kind: Kind, name: str) -> Iterator[Decoder]:
    """The decoder of a file that libsndfile does not know."""
    if not (kind.demuxer and containers.available()):
        raise containers.refused(kind, name)
    with containers.opened(stream, kind, name) as decoder:
        check_rate(f"{name}: sample rate", decoder.sample_rate_hz)
        yield decoder


def _by_libsndfile_or_ffmpeg(stack: ExitStack, stream: BinaryIO, kind: Kind | None, name: str) -> Decoder:
    """The decoder of any other file; FFmpeg may know an encoding that libsndfile does not."""
    try:
        file = stack.enter_context(_sound_file(stream, name))
        check_rate(f"{name}: sample rate", file.samplerate)
        return SndfileDecoder(file, name)
    except AudioError:
        if kind is None or not containers.available():
            raise
        stream.seek(0)
        with suppress(AudioError):
            return stack.enter_context(_container(stream, kind, name))
        raise


def _short_opus(stream: BinaryIO) -> opus.Sound | None:
    """Decode a short Opus recording at once; None where that is left to libsndfile.

    libsndfile would read the file in many small pieces by functions of Python's, for which several threads wait for
    each other.
    """
    sound = None
    with suppress(OSError):  # libsndfile may tell more about it
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
        yield file
