"""Decode containers of phones, browsers and messengers (m4a, mp4, webm, amr, wma ...) with PyAV, which carries FFmpeg.

The extra `containers` installs PyAV. The first audio track is decoded, front to back in flat memory. FFmpeg is given
the format (:mod:`affekt.audio.signatures`) and does not guess it: a hostile file cannot make it open others.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from affekt.audio.layout import Ending
from affekt.audio.signatures import Kind
from affekt.errors import AudioError

if TYPE_CHECKING:
    import av
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

EXTRA = "containers"
INSTALL = f"pip install 'affekt[{EXTRA}]' reads it; or convert it: ffmpeg -i FILE x.wav"
CONVERT = "convert it: ffmpeg -i FILE x.wav"
SOUGHT = frozenset(("mov", "matroska"))
"""Demuxers whose timestamps are exact enough to seek; other files are decoded from the beginning."""
PREROLL_SECONDS = 1.0
"""Sound that is decoded before a start and dropped, so that the state of the codec has settled."""
OPTIONS = {"probesize": str(1 << 20), "analyzeduration": "2000000", "protocol_whitelist": "none"}
"""Options of FFmpeg's demuxers: a bound of what they read to find the tracks, and no access to other files."""
EXACT = ("mov", "matroska", "wav", "aiff", "caf", "flac", "tta", "ape", "wv")
"""Demuxers that read the duration from the header instead of estimating it from the bit rate."""
SCALES = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}
"""Full scale of integer samples."""


@cache
def available() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


def refused(kind: Kind, name: str) -> AudioError:
    """The error for a container that needs PyAV, or that nothing here reads."""
    remedy = INSTALL if kind.demuxer else "convert it to wav or flac, or leave it out"
    return AudioError(name, got=kind.name, expected="a format that this installation decodes", remedy=remedy)


@contextmanager
def opened(stream: BinaryIO, kind: Kind, name: str) -> Iterator[ContainerDecoder]:
    """The decoder of a container's first audio track.

    Args:
        stream: the file, from its beginning.
        kind: its kind, with a demuxer.
        name: how messages name it.

    Raises:
        AudioError: no audio track, or a damaged file.
    """
    av = _av()
    try:
        container = av.open(
            _ForFFmpeg(stream),
            format=kind.demuxer,
            container_options=dict(OPTIONS),
            metadata_errors="replace",
            io_open=_open_nothing,
        )
    except (av.FFmpegError, ValueError, OSError) as error:
        raise _undecodable(name, kind, error) from error
    with container:
        if not container.streams.audio:
            what = (
                "a video without an audio track" if container.streams.video else f"{kind.name} without an audio track"
            )
            raise AudioError(name, got=what, expected="audio", remedy="leave it out")
        yield ContainerDecoder(container, kind, name)


class _ForFFmpeg:
    """A stream whose impossible seeks fail by a number, as FFmpeg expects.

    Damaged files ask for positions before the beginning. An exception would be raised in a callback from C, which
    prints it and goes on.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.read, self.tell, self.seekable = stream.read, stream.tell, stream.seekable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._stream.seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _open_nothing(address: str, flags: int, options: dict[str, str]) -> BinaryIO:
    """Refuse the files and addresses that a container refers to."""
    raise PermissionError(f"the file refers to another one, {address}")


@cache
def _av() -> Any:
    """PyAV, which takes 60 ms to import, with FFmpeg's own messages turned off."""
    module = importlib.import_module("av")
    module.logging.set_level(module.logging.PANIC)
    return module


class ContainerDecoder:
    """The first audio track of an open container: see :class:`affekt.audio.decoders.Decoder`."""

    def __init__(self, container: InputContainer, kind: Kind, name: str) -> None:
        self._container = container
        self._kind = kind
        self._name = name
        self._track: AudioStream = container.streams.audio[0]
        self._damaged_packets = 0
        self._decoded = self._decode()
        try:
            first = next(self._decoded, None)
        except AudioError as error:
            raise _undecodable(name, kind, error) from error
        if first is None:
            raise _undecodable(name, kind, None)
        self._first = first
        self._ready = [_samples(first)]
        self.sample_rate_hz: int = first.sample_rate
        self.channels: int = first.layout.nb_channels
        self.container = kind.demuxer.upper()
        self.encoding: str = self._track.codec_context.name.upper()
        seconds = self._duration_seconds()
        self.frames: int | None = None if seconds is None else round(seconds * self.sample_rate_hz)
        self.promised_frames = self.frames if self._is_sound_alone() else None
        self.ending = Ending(self.promised_frames)
        self._resamplers: dict[tuple[str, str, int], av.AudioResampler] = {}

    def next_frames(self, frames: int) -> NDArray[np.float32]:
        """The next [frames, channels] of one of FFmpeg's frames; none at the end."""
        while not self._ready:
            frame = next(self._decoded, None)
            if frame is None:
                self._report_damage()
                return np.empty((0, self.channels), np.float32)
            self._ready = [part for part in map(_samples, self._alike(frame)) if len(part)]
        part = self._ready.pop(0)
        if len(part) > frames:
            part, rest = part[:frames], part[frames:]
            self._ready.insert(0, rest)
        return part

    def seek(self, frame: int) -> None:
        """Continue at this frame: seek to shortly before it, if the format allows that, and decode up to it."""
        position = 0
        begin = frame / self.sample_rate_hz - PREROLL_SECONDS
        if self._kind.demuxer in SOUGHT and begin > PREROLL_SECONDS and self._first.time is not None:
            position = self._jump(begin)
        while position < frame:
            part = self.next_frames(frame - position)
            if not len(part):
                break
            position += len(part)

    def _jump(self, seconds: float) -> int:
        """Seek the container to before this time.

        Returns:
            The position of the next frame.
        """
        rate = self.sample_rate_hz
        start_seconds = self._first.time
        assert start_seconds is not None
        assert self._track.time_base is not None
        av = _av()
        try:
            self._container.seek(round((start_seconds + seconds) / self._track.time_base), stream=self._track)
            self._decoded = self._decode()
            frame = next(self._decoded, None)
        except (av.FFmpegError, AudioError):
            frame = None
        if frame is None or frame.time is None or frame.time > start_seconds + seconds + PREROLL_SECONDS:
            self._container.seek(0)
            self._decoded, self._ready = self._decode(), []
            return 0
        self._ready = list(map(_samples, self._alike(frame)))
        return _snapped((frame.time - start_seconds) * rate, self._first.samples, frame.samples, rate / 1_000)

    def _decode(self) -> Iterator[AudioFrame]:
        """The track's frames; damaged packets are skipped and counted."""
        av = _av()
        try:
            for packet in self._container.demux(self._track):
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    self._damaged_packets += 1
                    continue
                yield from (frame for frame in frames if frame.samples)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise AudioError(self._name, got=f"damaged audio ({_reason(error)})", expected="audio") from error

    def _report_damage(self) -> None:
        """Count the damaged packets in :attr:`ending`; the last packet of a cut file is no damage."""
        if self._damaged_packets and not self.ending.cut:
            packets = f"{self._damaged_packets} damaged packet{'s' * (self._damaged_packets > 1)}"
            self.ending = replace(self.ending, unheard=packets)

    def _alike(self, frame: AudioFrame) -> list[AudioFrame]:
        """A frame at the rate and with the channels of the first; some tracks change them midway."""
        if frame.sample_rate == self.sample_rate_hz and frame.layout.nb_channels == self.channels:
            return [frame]
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if key not in self._resamplers:
            self._resamplers[key] = _av().AudioResampler("fltp", self._first.layout, self.sample_rate_hz)
        frame.pts = None
        return list(self._resamplers[key].resample(frame))

    def _is_sound_alone(self) -> bool:
        """Whether the stated duration is that of the sound: of a Matroska file it is the longest track's."""
        return self._kind.demuxer in EXACT and (self._kind.demuxer == "mov" or len(self._container.streams) == 1)

    def _duration_seconds(self) -> float | None:
        """The duration that the header states; None where FFmpeg would only estimate it."""
        if self._kind.demuxer == "mov" and self._track.duration and self._track.time_base:
            return float(self._track.duration * self._track.time_base)
        if self._kind.demuxer in (*EXACT, "asf") and self._container.duration:
            return self._container.duration / 1e6
        return None


def _snapped(position: float, first: int, length: int, tolerance: float) -> int:
    """The exact position of a frame: Matroska rounds times to milliseconds, but most frames are equally long.

    Args:
        position: the position that the frame's time gives, in samples.
        first: the length of the track's first frame, which an encoder's delay may shorten.
        length: the length of this frame.
        tolerance: the largest error of a time, in samples.

    >>> _snapped(48_097.0, 1_024, 1_024, 48.0), _snapped(48_500.0, 1_024, 1_024, 48.0)
    (48128, 48500)
    """
    on_grid = first + round((position - first) / length) * length
    return on_grid if abs(on_grid - position) <= tolerance else round(position)


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    """A frame's [frames, channels] in [-1, 1]."""
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    packed = frame.format.packed.name
    if packed not in SCALES:
        return np.ascontiguousarray(array, np.float32)
    zero = 128 if packed == "u8" else 0
    return np.asarray((array - np.float64(zero)) / SCALES[packed], np.float32)


def _undecodable(name: str, kind: Kind, error: Exception | None) -> AudioError:
    reason = "" if error is None else f" ({_reason(error)})"
    return AudioError(name, got=f"{kind.name} that cannot be decoded{reason}", expected="audio", remedy=CONVERT)


def _reason(error: Exception) -> str:
    """FFmpeg's words, without the number and the name of the stream."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
