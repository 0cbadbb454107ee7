"""Audio in: a file, bytes or a stream becomes float32 samples at a stated rate.

The content decides how a recording is decoded, not its suffix; any rate, channel count and bit depth is read. Channels
are averaged before resampling, unless one of them is asked for. Decoding goes front to back in small blocks, so memory
is never allocated from what a header claims, and a file that breaks off delivers what it holds. Neither torch nor
pandas is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from affekt.audio.byte_streams import Source, describe, seekable
from affekt.audio.channels import Balance, Channels, check_channels, select
from affekt.audio.decoders import UNKNOWN_FRAMES, Decoder, check_rate, opened, start_past_end
from affekt.audio.remarks import remark
from affekt.audio.resampling import convert
from affekt.errors import AudioError

Samples: TypeAlias = NDArray[np.float32]

LARGEST_PEAK = 100.0  # larger values are integers, or damage: no samples in [-1, 1], however loud
TOLERANCE_SECONDS = 0.1
"""Encoders pad and trim at the ends: a recording that is shorter by less is complete."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Facts from a file's header; only decoding verifies them.

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
    channels: Channels = "mix",
) -> Samples:
    """Decode a recording, or a part of it, to float32 samples at `sample_rate_hz`.

    Args:
        source: a path, the bytes of a file, or a binary stream (a pipe too).
        sample_rate_hz: rate of the result.
        start_seconds: where to start; None for the beginning.
        end_seconds: where to stop; None, or a time past the end, for the end.
        max_seconds: stop after this much, and decode no more than that.
        channels: `mix` averages all, `left`, `right` or an index from 0 is one of them, `each` keeps them apart.

    Returns:
        [samples]; with `each` [channels, samples].

    Raises:
        AudioError: the source is missing, not a regular file, not audio, without samples or without the wanted channel,
            or holds NaN or infinity; its channels cancel each other to silence; it changed while it was read; or the
            times are out of range.
        ConfigError: `channels` is none of the above.

    >>> import io, soundfile
    >>> wav = io.BytesIO()
    >>> soundfile.write(wav, np.tile([0.5, 0.25], (48_000, 1)), 48_000, format="WAV")
    >>> load(wav).shape, load(wav, max_seconds=0.25).shape, load(wav, channels="each").shape
    ((16000,), (4000,), (2, 16000))
    >>> float(load(wav, 48_000)[0]), float(load(wav, 48_000, channels="right")[0])
    (0.375, 0.25)
    """
    limits = _limits(describe(source), start_seconds, end_seconds, max_seconds)
    parts = list(_resampled(source, sample_rate_hz, channels, *limits))
    return np.ascontiguousarray((parts[0] if len(parts) == 1 else np.concatenate(parts)).T)


def blocks(
    source: Source, sample_rate_hz: int = 16_000, block_seconds: float = 10.0, channels: Channels = "mix"
) -> Iterator[Samples]:
    """Stream a recording of any length in flat memory; the blocks joined are exactly what :func:`load` returns.

    Args:
        source: as for :func:`load`.
        sample_rate_hz: rate of the blocks.
        block_seconds: length of every block but the last, which holds the rest.
        channels: as for :func:`load`.

    Yields:
        [samples]; with `each` [channels, samples].

    Raises:
        AudioError: as for :func:`load`, while iterating: the blocks before the fault have been delivered by then.
        ConfigError: as for :func:`load`.

    >>> import io, soundfile
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
    for part in _resampled(source, sample_rate_hz, channels):
        held.append(part)
        held_samples += len(part)
        if held_samples >= block_samples:
            joined = np.concatenate(held)
            whole = held_samples - held_samples % block_samples
            yield from (block.T for block in np.split(joined[:whole], range(block_samples, whole, block_samples)))
            held, held_samples = [joined[whole:]], held_samples - whole
    if held_samples:
        yield np.concatenate(held).T


def probe(source: Source) -> AudioInfo:
    """Read the header alone.

    Raises:
        AudioError: the source is missing, not a regular file or not audio.
    """
    name = describe(source)
    with seekable(source) as stream, opened(stream, name, from_start=False) as decoder:
        return _info(decoder)


@contextmanager
def reading(source: Source, channels: Channels = "mix") -> Iterator[Recording]:
    """Open a recording once, for what its header says and its samples at its own rate.

    Args:
        source: as for :func:`load`.
        channels: as for :func:`load`.

    Raises:
        AudioError: as for :func:`load`; about the samples while iterating.

    >>> import io, soundfile
    >>> wav = io.BytesIO()
    >>> soundfile.write(wav, np.zeros(20_000), 8_000, format="WAV")
    >>> with reading(wav) as recording:
    ...     recording.info.frames, sum(map(len, recording.parts())), recording.breaks_off
    (20000, 20000, False)
    """
    check_channels(channels)
    name = describe(source)
    with seekable(source) as stream, opened(stream, name, from_start=True) as decoder:
        yield Recording(decoder, name, channels)


class Recording:
    """An open recording, or a part of it.

    Attributes:
        info: what the header says.
        breaks_off: after :meth:`parts`: whether its end is missing.
        cancels: after :meth:`parts`: whether its channels cancel each other in the mix.
        unheard: after :meth:`parts`: whether the file holds sound that was not decoded.
    """

    def __init__(
        self,
        decoder: Decoder,
        name: str,
        channels: Channels = "mix",
        start_seconds: float = 0.0,
        stop_seconds: float = np.inf,
    ) -> None:
        self.info = _info(decoder)
        self.breaks_off = self.cancels = self.unheard = False
        self._decoder, self._name, self._channels = decoder, name, channels
        self._start = round(start_seconds * decoder.sample_rate_hz)
        self._stop = UNKNOWN_FRAMES if stop_seconds == np.inf else round(stop_seconds * decoder.sample_rate_hz)

    def parts(self) -> Iterator[Samples]:
        """The samples at the recording's own rate, in parts of any length; to be called once.

        Yields:
            [samples], or [samples, channels] with `each`.

        Raises:
            AudioError: as for :func:`load`.
        """
        yield from _some(self._decoded(), self._name)

    def _decoded(self) -> Iterator[Samples]:
        decoder, rate_hz = self._decoder, self.info.sample_rate_hz
        if self._start:
            decoder.seek(self._start)
        position, damage = self._start, ""
        balance = Balance() if self._channels == "mix" and decoder.channels > 1 else None
        while position < self._stop and not damage:
            try:
                frames = decoder.next_frames(self._stop - position)
            except AudioError as error:
                if position == self._start:
                    raise
                damage = error.faults[0].got
                break
            if not len(frames):
                break
            selected = select(frames, self._channels, self._name)
            _check_samples(selected, self._name, position / rate_hz, rate_hz)
            if balance:
                balance.add(frames, selected)
            position += len(frames)
            yield selected
        if position == self._start > 0:
            raise start_past_end(decoder, self._name, self._start)
        self._remark(position, damage)
        if balance and balance.cancel:
            balance.check(self._name)
            self.cancels = True
            remark(self._name, balance.warning())

    def _remark(self, position: int, damage: str) -> None:
        """Warn about sound that is missing or was not heard."""
        if position >= self._stop:
            return
        ending, rate_hz = self._decoder.ending, self.info.sample_rate_hz
        promised = ending.promised_frames
        is_short = promised is not None and position + TOLERANCE_SECONDS * rate_hz < promised
        got = f"{position / rate_hz:.3f} s"
        if is_short or ending.cut or damage:
            self.breaks_off = True
            reason = f"expected {promised / rate_hz:.3f} s" if is_short and promised else "its end is missing"
            reason = f"{damage} follows" if damage and not is_short and not ending.cut else reason
            remark(self._name, f"breaks off: got {got}, {reason}; what is there is used")
        if ending.unheard:
            self.unheard = True
            remark(self._name, f"got {got}; not heard: {ending.unheard}")


def _no_samples(name: str) -> AudioError:
    return AudioError(name, got="no samples", expected="audio", remedy="leave the file out")


def _info(decoder: Decoder) -> AudioInfo:
    rate, frames = decoder.sample_rate_hz, decoder.frames
    seconds = None if frames is None else frames / rate
    return AudioInfo(rate, decoder.channels, frames, seconds, decoder.container, decoder.encoding)


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
    source: Source,
    sample_rate_hz: int,
    channels: Channels = "mix",
    start_seconds: float = 0.0,
    stop_seconds: float = np.inf,
) -> Iterator[Samples]:
    """Parts at the wanted rate, [samples] or [samples, channels]; at least one sample in all."""
    check_rate("wanted sample rate", sample_rate_hz)
    check_channels(channels)
    name = describe(source)
    with seekable(source) as stream, opened(stream, name, from_start=start_seconds == 0) as decoder:
        parts = Recording(decoder, name, channels, start_seconds, stop_seconds).parts()
        if decoder.sample_rate_hz == sample_rate_hz:
            yield from parts
        else:
            yield from _some(convert(parts, decoder.sample_rate_hz, sample_rate_hz), name)


def _some(parts: Iterator[Samples], name: str) -> Iterator[Samples]:
    """The parts, which must not all be empty."""
    samples = 0
    for part in parts:
        samples += len(part)
        yield part
    if not samples:
        raise _no_samples(name)


def _check_samples(samples: Samples, name: str, start_seconds: float, rate_hz: int) -> None:
    """Refuse values that are no samples, with their time."""
    usable = np.abs(samples) <= LARGEST_PEAK  # false for NaN too
    if usable.all():
        return
    first = np.argwhere(~usable)[0]
    value = samples[tuple(first)]
    got = "NaN or infinity" if not np.isfinite(value) else f"a value of {value:g}"
    raise AudioError(name, got=f"{got} at {start_seconds + first[0] / rate_hz:.3f} s", expected="samples in [-1, 1]")
