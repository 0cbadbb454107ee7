"""The interface of decoders, and the choice of the decoder for a file."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import BinaryIO, Protocol, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from affekt.audio import chunks, containers, mpeg, ogg, opus
from affekt.audio.layout import Bytes, ByteSpan, Ending, Layout, Window
from affekt.audio.resampling import convert
from affekt.audio.signatures import MPEG_AUDIO, OGG, Kind, kind_in
from affekt.errors import AudioError

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000  # 16 times 48 kHz, the highest that audio interfaces record
READ_FRAMES = 8_192  # a damaged file loses at most this many frames before the damage
UNKNOWN_FRAMES = 1 << 62  # libsndfile reports more than this where a header leaves the length open
SHORT_BYTES = 1 << 16  # of an Opus file of 10 s; memory for the longest would have to be found for each
MOST_MEASURED = 64  # joined recordings whose lengths are added up before decoding
FROM_RAW = "add a header, for example: ffmpeg -f s16le -ar 16000 -ac 1 -i FILE x.wav"
FORMATS = "wav, flac, ogg, opus, mp3, aiff or another format of libsndfile"


class Decoder(Protocol):
    """An open recording that is decoded front to back.

    Attributes:
        sample_rate_hz: rate of the recording.
        channels: how many.
        frames: samples per channel that the header promises; None where it leaves the length open.
        container: file format by content, e.g. ``WAV``.
        encoding: how samples are stored, e.g. ``PCM_16``.
        ending: what the header and the bytes of the file say about its end.
    """

    sample_rate_hz: int
    channels: int
    frames: int | None
    container: str
    encoding: str
    ending: Ending

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """The next [frames, channels], perhaps fewer than asked for; none at the end.

        Raises:
            AudioError: damage.
        """

    def seek(self, frame: int) -> None:
        """Start at this frame; call it before :meth:`next_frames`.

        Raises:
            AudioError: the recording ends before.
        """


class SndfileDecoder:
    """A recording that libsndfile reads."""

    def __init__(self, file: _ForwardFile, name: str, part: ByteSpan) -> None:
        self._file = file
        self._name = name
        self.sample_rate_hz: int = file.samplerate
        self.channels: int = file.channels
        known = file.frames if 0 <= file.frames < UNKNOWN_FRAMES else None
        self.frames: int | None = known if part.frames is None else part.frames
        self.container: str = file.format if part.unwrap is None else "OGG"
        self.encoding: str = file.subtype
        self.ending = Ending(_promised(part, known), part.cut)

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """See :meth:`Decoder.next_frames`."""
        try:
            read = self._file.read(min(frames, READ_FRAMES), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(self._name, got=f"damaged audio ({error.error_string})", expected=FORMATS) from error
        return np.asarray(read, np.float32)

    def seek(self, frame: int) -> None:
        """See :meth:`Decoder.seek`."""
        try:
            self._file.seek(frame)
        except soundfile.LibsndfileError as error:
            raise start_past_end(self, self._name, frame) from error


def _promised(part: ByteSpan, known: int | None) -> int | None:
    """Samples per channel that a part should have; None if nothing states it."""
    if part.promised is not None or part.frames is not None or known is None:
        return part.promised
    return round(known / part.share) if 0 < part.share < 1 else known


class WholeDecoder:
    """A short recording that has been decoded as a whole."""

    def __init__(self, sound: opus.OpusAudio) -> None:
        self._rest, self.sample_rate_hz = sound
        self.frames: int | None = self._rest.shape[0]
        self.channels: int = self._rest.shape[1]
        self.container, self.encoding = "OGG", "OPUS"
        self.ending = Ending()

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """See :meth:`Decoder.next_frames`."""
        part, self._rest = self._rest[:frames], self._rest[frames:]
        return part

    def seek(self, frame: int) -> None:
        """See :meth:`Decoder.seek`."""
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
    """A stream for libsndfile that ignores seeks to before the beginning, as damaged files ask for.

    The error would be raised in a callback from C, where it cannot be caught, and would be printed.
    """

    def __init__(self, stream: BinaryIO, is_known: bool) -> None:
        self._stream = stream
        self.tell, self.read = stream.tell, stream.read
        name = getattr(stream, "name", None)
        if isinstance(name, str) and not is_known:
            self.name = name

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._stream.seek(offset, whence)
        except (OSError, ValueError):
            return self._stream.tell()


def start_past_end(decoder: Decoder, name: str, frame: int) -> AudioError:
    """The error for a start after the end."""
    rate = decoder.sample_rate_hz
    length = (
        "less than its length" if decoder.frames is None else f"less than its length, {decoder.frames / rate:.3f} s"
    )
    return AudioError(name, got=f"start at {frame / rate:.3f} s", expected=length)


def check_rate(what: str, rate_hz: int) -> None:
    """Refuse sampling rates that only a damaged file can have.

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
    layout = lay_out(stream, kind)
    with ExitStack() as stack:
        if len(layout.parts) == 1:
            decoder = _opened_part(stack, stream, layout.parts[0], kind, name)
        else:
            decoder = stack.enter_context(closing(ChainDecoder(stream, layout.parts, kind, name)))
        if layout.unheard:
            decoder.ending = replace(decoder.ending, unheard=layout.unheard)
        yield decoder


def lay_out(stream: BinaryIO, kind: Kind | None) -> Layout:
    """Find the parts of a file of this kind; the stream is rewound."""
    content = Bytes(stream)
    if kind is MPEG_AUDIO:
        layout = mpeg.lay_out(content)
    elif kind is OGG:
        layout = ogg.lay_out(content)
    elif kind is None:
        layout = Layout((ByteSpan(0, len(content)),))
    else:
        layout = chunks.lay_out(content, kind)
    stream.seek(0)
    return layout


class ChainDecoder:
    """Recordings joined in one file, decoded one after the other, at the rate and with the channels of the first."""

    def __init__(self, stream: BinaryIO, parts: Sequence[ByteSpan], kind: Kind | None, name: str) -> None:
        self._stream, self._kind, self._name = stream, kind, name
        self._rest = deque(parts)
        self._stack = ExitStack()
        self._now = first = self._open(self._rest.popleft())
        self.sample_rate_hz, self.channels = first.sample_rate_hz, first.channels
        self.container, self.encoding = first.container, first.encoding
        self._lengths = deque(self._measured(parts))
        self.frames: int | None = sum(self._lengths) if self._lengths else None
        self.ending = Ending(self.frames, any(part.cut for part in parts))
        self._frames = self._of_part(first)

    def close(self) -> None:
        """Close the part that is open."""
        self._stack.close()

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """See :meth:`Decoder.next_frames`."""
        while True:
            part = next(self._frames, None)
            if part is not None and len(part):
                self._frames = chain([part[frames:]], self._frames) if len(part) > frames else self._frames
                return part[:frames]
            if part is None and not self._rest:
                return np.empty((0, self.channels), np.float32)
            if part is None:
                self._frames = self._of_part(self._open(self._rest.popleft()))

    def seek(self, frame: int) -> None:
        """See :meth:`Decoder.seek`."""
        position = 0
        while self._rest and self._lengths and position + self._lengths[0] <= frame:
            position += self._lengths.popleft()
            self._now = self._open(self._rest.popleft())
            self._frames = self._of_part(self._now)
        if self._now.sample_rate_hz == self.sample_rate_hz and self._lengths and frame < position + self._lengths[0]:
            self._now.seek(frame - position)
            return
        while position < frame and len(part := self.next_frames(frame - position)):
            position += len(part)

    def _open(self, part: ByteSpan) -> Decoder:
        self._stack.close()
        return _opened_part(self._stack, self._stream, part, self._kind, self._name)

    def _measured(self, parts: Sequence[ByteSpan]) -> list[int]:
        """Samples per channel of each part at the rate of the whole; empty where they are not known."""
        found: list[int] = []
        for part in parts if len(parts) <= MOST_MEASURED else ():
            with ExitStack() as stack, suppress(AudioError):
                decoder = _opened_part(stack, self._stream, part, self._kind, self._name)
                if decoder.frames is not None:
                    found.append(round(decoder.frames * self.sample_rate_hz / decoder.sample_rate_hz))
        return found if len(found) == len(parts) else []

    def _of_part(self, decoder: Decoder) -> Iterator[NDArray[np.float32]]:
        """The [frames, channels] of one part, converted to the rate and channels of the first."""
        some = map(self._with_channels, _all_frames(decoder))
        if decoder.sample_rate_hz == self.sample_rate_hz:
            return some
        return convert(some, decoder.sample_rate_hz, self.sample_rate_hz)

    def _with_channels(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        if frames.shape[1] == self.channels:
            return frames
        return np.repeat(frames.mean(axis=1, keepdims=True, dtype=np.float32), self.channels, axis=1)


def _all_frames(decoder: Decoder) -> Iterator[NDArray[np.float32]]:
    while len(frames := decoder.next_frames(READ_FRAMES)):
        yield frames


def _opened_part(stack: ExitStack, stream: BinaryIO, part: ByteSpan, kind: Kind | None, name: str) -> Decoder:
    """The decoder of one part of a file; `stack` closes it."""
    is_whole = part.start == 0 and not (part.patch or part.endless or part.unwrap) and part.stop == _length(stream)
    window = stream if is_whole else cast(BinaryIO, Window(stream, part))
    if part.unwrap is not None:
        window = stack.enter_context(closing(part.unwrap(window)))
    if kind is not None and not kind.by_libsndfile:
        return stack.enter_context(_container(window, part, kind, name))
    return _by_libsndfile_or_ffmpeg(stack, window, part, kind, name)


def _length(stream: BinaryIO) -> int:
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return length


@contextmanager
def _container(stream: BinaryIO, part: ByteSpan, kind: Kind, name: str) -> Iterator[Decoder]:
    """The decoder of a file that libsndfile does not know."""
    if not (kind.demuxer and containers.available()):
        raise containers.refused(kind, name)
    with ExitStack() as stack:
        try:
            decoder = stack.enter_context(containers.opened(stream, kind, name))
        except AudioError:
            if part.cut:
                raise _broken_off(kind, name) from None
            raise
        check_rate(f"{name}: sample rate", decoder.sample_rate_hz)
        decoder.ending = Ending(decoder.promised_frames, part.cut)
        yield decoder


def _broken_off(kind: Kind, name: str) -> AudioError:
    got = f"{kind.name} that breaks off before its sound can be read"
    return AudioError(name, got=got, expected="audio", remedy="fetch it again, or leave it out")


def _by_libsndfile_or_ffmpeg(
    stack: ExitStack, stream: BinaryIO, part: ByteSpan, kind: Kind | None, name: str
) -> Decoder:
    """The decoder of any other file; FFmpeg may know an encoding that libsndfile does not."""
    try:
        file = stack.enter_context(_sound_file(stream, name, is_known=kind is not None))
        check_rate(f"{name}: sample rate", file.samplerate)
        return SndfileDecoder(file, name, part)
    except AudioError:
        if kind is not None and containers.available():
            stream.seek(0)
            with suppress(AudioError):
                return stack.enter_context(_container(stream, part, kind, name))
        if kind is not None and part.cut:
            raise _broken_off(kind, name) from None
        raise


def _short_opus(stream: BinaryIO) -> opus.OpusAudio | None:
    """Decode a short, plain Opus recording at once; None leaves it to libsndfile.

    libsndfile would read the file in many small pieces through Python callbacks, which serialize threads by the GIL.
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
def _sound_file(stream: BinaryIO, name: str, is_known: bool) -> Iterator[_ForwardFile]:
    """Open a stream with libsndfile, which takes the name `.raw` for raw samples if the content is of no known kind."""
    try:
        file = _ForwardFile(_Forgiving(stream, is_known))
    except soundfile.LibsndfileError as error:
        raise AudioError(
            name,
            got=f"no audio that can be decoded ({error.error_string.rstrip('.')})",
            expected=FORMATS,
            remedy="convert it to wav or flac, or leave it out",
        ) from error
    except TypeError as error:  # soundfile asks for rate and channels where a name ends in .raw
        raise AudioError(name, got="raw samples without a header", expected=FORMATS, remedy=FROM_RAW) from error
    with file:
        yield file
