"""Recordings as people hold them: files, bytes, streams, and the arrays of NumPy, PyTorch, SciPy and Hugging Face.

Every form becomes blocks of mono float32 samples at the model's rate. PyTorch is not imported: tensors are recognized
by their methods.

>>> samples, rate_hz = samples_of((8_000, np.array([[16_384, 0], [0, 0]], np.int16).repeat(9, axis=0)))
>>> samples.shape, samples.max(), rate_hz
((18,), np.float32(0.25), 8000)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.audio.channels import SILENT_PEAK
from affekt.data.times import parse_seconds
from affekt.errors import AudioError, ConfigError, Fault
from affekt.recognition.prediction import Failure, Prediction

Floats: TypeAlias = NDArray[np.float32]
Channel: TypeAlias = audio.Channels
"""`mix`, the mean of all channels; `left`, `right` or the index of one."""
Source: TypeAlias = Any
"""A recording: a path, the bytes of a file, a binary stream; an array or tensor beside its rate; a mapping with `array`
and `sampling_rate`; a pair of rate and array; or a :class:`Segment` of one of these."""

BLOCK_SECONDS = 10.0
"""Long recordings are read in blocks of this length."""
SHORTEST_SECONDS = 0.1
"""Shorter recordings get no answer."""
END_TOLERANCE_SECONDS = 0.1
"""How far past a recording's end a segment may end, since tables round times."""
MOST_CHANNELS = 16
"""A second axis up to this long holds channels; a longer one is no recording."""
FULL_SCALE = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
"""What integers of a type are divided by; unsigned bytes are centered first."""
FORMS = "a path, the bytes of a file, a binary stream, samples and their rate, or {'array', 'sampling_rate'}"


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A part of a recording, such as a speaker's turn.

    Attributes:
        source: the recording.
        start_seconds: where the part starts; None: at the beginning.
        end_seconds: where it ends; None: at the end. A time past the end of the recording is an error.
        channel: which one to hear.
    """

    source: Source
    start_seconds: float | None = None
    end_seconds: float | None = None
    channel: Channel = "mix"


def segment_of(source: Source, start_seconds: Any = None, end_seconds: Any = None, channel: Channel = "mix") -> Segment:
    """A source as a segment, its times checked.

    Times are seconds, a `timedelta` (also NumPy's and pandas') or text such as `1:02.5`; NaN and NaT count as None.

    Raises:
        AudioError: times that are no times, negative ones, or an end that is not after the start.
        ConfigError: no such channel.
    """
    if isinstance(source, Segment):
        return source
    if channel == "each":
        remedy = "ask for each of them: channel=0, channel=1, ..."
        raise ConfigError("channel", got="'each'", expected="mix, left, right or an index", remedy=remedy)
    audio.check_channels(channel)
    faults: list[Fault] = []
    start = _seconds(start_seconds, "start", faults)
    end = _seconds(end_seconds, "end", faults)
    if end is not None and end <= (start or 0.0):
        faults.append(Fault(f"{name_of(source)}: end", f"{end:g} s", f"more than the start, {start or 0.0:g} s"))
    if faults:
        raise AudioError.of(faults)
    return Segment(source, start, end, channel)


def as_list(sources: Any) -> Iterable[Source]:
    """The recordings of a list; one recording counts as a list of one.

    >>> as_list("call.wav")
    ['call.wav']

    Raises:
        AudioError: something that is neither.
    """
    single = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | Mapping | Segment)
    if single or hasattr(sources, "read") or _is_pair(sources):
        return [sources]
    if _is_array(sources) and getattr(sources, "ndim", 0) == 1 and _is_numeric(sources):
        return [sources]
    if not isinstance(sources, Iterable):
        raise AudioError("sources", got=type(sources).__name__, expected="recordings, each as for predict")
    return sources


def name_of(source: Source) -> str:
    """The name of a source in messages and answers: its path, its stream's name, `audio bytes` or `array`."""
    if isinstance(source, Segment):
        return name_of(source.source)
    if isinstance(source, Mapping):
        return str(source.get("path") or "array")
    if isinstance(source, str | bytes | os.PathLike) or hasattr(source, "read"):
        return audio.describe(source)
    if isinstance(source, bytearray | memoryview):
        return "audio bytes"
    return "array" if _is_array(source) or _is_pair(source) else f"a {type(source).__name__}"


def channel_text(channel: Channel) -> str:
    """The name of a channel in answers: `left`, `right`, `channel 3`."""
    return f"channel {channel + 1}" if isinstance(channel, int) else channel


def channel_of(item: Source) -> str | None:
    """The channel that a segment asks for, as answers name it; None: the mean of all."""
    mix = not isinstance(item, Segment) or item.channel == "mix"
    return None if mix else channel_text(item.channel)


def blocks_of(segment: Segment, array_rate_hz: Any, sample_rate_hz: int) -> Iterator[Floats]:
    """A segment in blocks of :data:`BLOCK_SECONDS`, the last one shorter; mono, at `sample_rate_hz`.

    Args:
        segment: what to read.
        array_rate_hz: rate of an array that does not bring its own.
        sample_rate_hz: rate of the blocks.

    Raises:
        AudioError: as for :func:`load`.
    """
    encoded = encoded_of(segment.source)
    if encoded is not None and segment.start_seconds is None and segment.end_seconds is None:
        yield from audio.blocks(encoded, sample_rate_hz, BLOCK_SECONDS, segment.channel)
        return
    samples = load(segment, array_rate_hz, sample_rate_hz)
    size = round(BLOCK_SECONDS * sample_rate_hz)
    yield from (samples[start : start + size] for start in range(0, len(samples), size))


def load(segment: Segment, array_rate_hz: Any, sample_rate_hz: int, max_seconds: float | None = None) -> Floats:
    """A segment as mono samples at `sample_rate_hz`, at most `max_seconds` of it.

    Raises:
        AudioError: nothing that can be decoded, or no samples; a start past the end; for arrays also a wrong shape or
            type, values that are not finite, or no rate.
    """
    start, end = segment.start_seconds, segment.end_seconds
    encoded = encoded_of(segment.source)
    if encoded is not None:
        return audio.load(encoded, sample_rate_hz, start, end, max_seconds, segment.channel)
    samples, rate = samples_of(segment.source, array_rate_hz, segment.channel)
    first = round((start or 0.0) * rate)
    if first and first >= len(samples):
        expected = f"less than its length, {len(samples) / rate:.3f} s"
        raise AudioError(name_of(segment), got=f"start at {start:.3f} s", expected=expected)
    part = samples[first : None if end is None else round(end * rate)]
    return _resampled(part, rate, sample_rate_hz)


def clips_of(blocks: Iterator[Floats], samples: int) -> Iterator[Floats]:
    """A recording in clips of so many samples, the last one shorter."""
    held = np.empty(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= samples:
            yield held[:samples]
            held = held[samples:]
    if len(held):
        yield held


def check_length(waveform: Floats, rate_hz: int, source: str) -> None:
    """Refuse a recording that is too short.

    Raises:
        AudioError: it is.
    """
    if len(waveform) < SHORTEST_SECONDS * rate_hz:
        got, expected = f"{1_000 * len(waveform) / rate_hz:.0f} ms", f"at least {1_000 * SHORTEST_SECONDS:.0f} ms"
        raise AudioError(source, got=got, expected=expected)


def is_silent(waveform: Floats) -> bool:
    """Whether no sample is above -80 dB of full scale.

    >>> is_silent(np.float32([0, 9e-5])), is_silent(np.float32([0, -2e-4]))
    (True, False)
    """
    return float(np.abs(waveform).max(initial=0.0)) < SILENT_PEAK


def check_end(segment: Segment, heard_seconds: float) -> None:
    """Refuse an end that is past the recording's end.

    Raises:
        AudioError: it is.
    """
    end = (segment.start_seconds or 0.0) + heard_seconds
    if segment.end_seconds is not None and segment.end_seconds > end + END_TOLERANCE_SECONDS:
        got, expected = f"{segment.end_seconds:g} s", f"at most its length, {end:.3f} s"
        raise AudioError(f"{name_of(segment)}: end", got=got, expected=expected)


def placed(prediction: Prediction, segment: Segment) -> Prediction:
    """A prediction with the times of its recording, and the channel that was heard."""
    start = segment.start_seconds or 0.0
    channel = channel_of(segment)
    if not start and channel is None:
        return prediction
    end = start + prediction.end_seconds
    return replace(prediction, start_seconds=start, end_seconds=end, channel=channel)


def failure_of(item: Source, error: AudioError) -> Failure:
    """The failure of a recording; the faults of one of its channels name it.

    >>> print(failure_of(Segment("a.wav", channel="left"), AudioError("a.wav: end", got="9 s", expected="1 s")))
    a.wav [left]: end: got 9 s, expected 1 s
    """
    source, channel = name_of(item), channel_of(item)
    if channel is None or any(fault.leads_nowhere for fault in error.faults):
        return Failure(source, error, channel)
    faults = [replace(fault, what=_in_channel(fault.what, source, channel)) for fault in error.faults]
    return Failure(source, AudioError.of(faults), channel)


def _in_channel(what: str, source: str, channel: str) -> str:
    if what == source or what.startswith(f"{source}:"):
        return f"{source} [{channel}]{what.removeprefix(source)}"
    return f"{what} [{channel}]"


def encoded_of(source: Source) -> audio.Source | None:
    """The encoded recording that a source is or names; None: it is an array.

    Raises:
        AudioError: neither.
    """
    if isinstance(source, Mapping) and "array" not in source:
        source = source.get("bytes") or source.get("path") or source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str) and re.match(r"[a-z][a-z0-9+.-]+://", source) and not Path(source).exists():
        raise AudioError(source, got="an address", expected="a file", remedy="download it first")
    if isinstance(source, str | bytes | os.PathLike) or hasattr(source, "read"):
        return source  # type: ignore[no-any-return]
    if _is_array(source) or _is_pair(source) or isinstance(source, Mapping) or hasattr(source, "get_all_samples"):
        return None
    several = isinstance(source, list | tuple | set)
    remedy = "predict_many takes several recordings; numpy.asarray makes an array of samples" if several else ""
    raise AudioError("audio source", got=f"a {type(source).__name__}", expected=FORMS, remedy=remedy)


def samples_of(source: Source, array_rate_hz: Any = None, channel: Channel = "mix") -> tuple[Floats, int]:
    """The samples of an array [samples], [samples, channels], [1, samples] or [2, samples], and their rate.

    Integers are scaled by their type's range. Channels are averaged, or one is taken.

    Raises:
        AudioError: every fault of the array at once.
    """
    values, rate = _parts(source, array_rate_hz)
    faults = list(_rate_faults(rate))
    samples = _array(values)
    faults += _type_faults(samples)
    mono = None if faults and samples.dtype.kind not in "fiu" else _mono(samples, channel, faults)
    if mono is not None:
        faults += _value_faults(mono)
    if faults or mono is None:
        raise AudioError.of(faults)
    return mono, int(rate)


def _parts(source: Source, array_rate_hz: Any) -> tuple[Any, Any]:
    """The values and the rate of any form of an array."""
    if hasattr(source, "get_all_samples"):  # a decoder of torchcodec, as datasets hand it out
        decoded = source.get_all_samples()
        values, rate = decoded.data, decoded.sample_rate
    elif isinstance(source, Mapping):
        missing = [key for key in ("array", "sampling_rate") if key not in source]
        if missing:
            got = f"a mapping without {' and '.join(missing)}"
            raise AudioError("audio source", got=got, expected="{'array', 'sampling_rate'}")
        values, rate = source["array"], source["sampling_rate"]
    elif isinstance(source, tuple):
        rate, values = source if _is_number(source[0]) else source[::-1]
    else:
        return source, array_rate_hz
    if array_rate_hz is not None and array_rate_hz != rate:
        got, expected = f"{array_rate_hz} beside a recording of {rate} Hz", "one rate"
        raise AudioError("array: sample rate", got=got, expected=expected, remedy="leave sample_rate_hz out")
    return values, rate


def _array(values: Any) -> NDArray[Any]:
    """NumPy's view of an array of any library."""
    if hasattr(values, "detach"):  # a tensor, perhaps of another device or with a gradient
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):  # which NumPy lacks
            values = values.float()
        values = values.numpy()
    return np.asarray(values)


def _mono(samples: NDArray[Any], channel: Channel, faults: list[Fault]) -> Floats | None:
    """One channel [samples] in [-1, 1]; None where the shape is none of a recording."""
    shape = samples.shape
    if samples.ndim > 1 and 1 in shape:
        samples = samples.reshape([size for size in shape if size != 1] or [1])
    if samples.ndim == 2 and samples.shape[0] == 2 and samples.shape[1] > MOST_CHANNELS:
        samples = samples.T
    if samples.ndim == 2 and samples.shape[1] <= MOST_CHANNELS < samples.shape[0]:
        floats = _scaled(samples)
        return _channel(floats, channel, faults)
    if samples.ndim == 1:
        return _channel(_scaled(samples)[:, None], channel, faults)
    remedy = "pass one recording at a time; predict_many takes a list of them" if samples.ndim == 2 else ""
    expected = "(samples,), (samples, channels) or (1, samples)"
    faults.append(Fault("array: shape", str(shape), expected, remedy))
    return None


def _channel(samples: Floats, channel: Channel, faults: list[Fault]) -> Floats:
    """One channel, or the mean, of [samples, channels]."""
    count = samples.shape[1]
    if channel == "mix":
        return samples[:, 0] if count == 1 else np.asarray(samples.mean(1, dtype=np.float32), np.float32)
    index = {"left": 0, "right": 1}.get(str(channel), channel)
    assert isinstance(index, int)
    if index >= count:
        faults.append(Fault("array: channels", f"{count}", f"at least {index + 1}, for channel {channel!r}"))
        return samples[:, 0]
    return samples[:, index]


def _scaled(samples: NDArray[Any]) -> Floats:
    """Floating point samples in [-1, 1]."""
    if samples.dtype.kind == "f":
        return np.asarray(samples, np.float32)
    if samples.dtype == np.uint8:
        return np.asarray((samples.astype(np.float32) - 128) / 128, np.float32)
    return np.asarray(samples.astype(np.float32) / FULL_SCALE.get(str(samples.dtype), 1.0), np.float32)


def _rate_faults(rate: Any) -> Iterator[Fault]:
    lowest, highest = audio.LOWEST_RATE_HZ, audio.HIGHEST_RATE_HZ
    if not (_is_number(rate) and lowest <= rate <= highest and int(rate) == rate):
        remedy = "pass sample_rate_hz beside an array" if rate is None else ""
        got = repr(rate) if isinstance(rate, str) else str(rate)
        yield Fault("array: sample rate", got, f"a whole number from {lowest} to {highest} Hz", remedy)


def _type_faults(samples: NDArray[Any]) -> Iterator[Fault]:
    if samples.dtype.kind != "f" and samples.dtype != np.uint8 and str(samples.dtype) not in FULL_SCALE:
        remedy = "divide by the largest value of the recording's format" if samples.dtype.kind in "iu" else ""
        yield Fault("array: type", str(samples.dtype), "floating point, int16, int32, int8 or uint8", remedy)


def _value_faults(samples: Floats) -> Iterator[Fault]:
    if not np.isfinite(samples).all():
        yield Fault("array", got="NaN or infinity", expected="finite samples")
    elif samples.size and np.abs(samples).max() > audio.LARGEST_PEAK:
        got, remedy = f"a peak of {np.abs(samples).max():g}", "divide integers by their largest value"
        yield Fault("array", got=got, expected="samples in [-1, 1]", remedy=remedy)


def _resampled(samples: Floats, from_hz: int, to_hz: int) -> Floats:
    if from_hz == to_hz:
        return samples
    import soxr

    return np.asarray(soxr.resample(samples, from_hz, to_hz), np.float32)


def _seconds(value: Any, what: str, faults: list[Fault]) -> float | None:
    """A time as seconds; None where it is missing or wrong."""
    try:
        seconds = parse_seconds(value)
    except ValueError as error:
        faults.append(Fault(what, repr(value), str(error)))
        return None
    if seconds is not None and seconds < 0:
        faults.append(Fault(what, f"{seconds:g} s", "0 s or more"))
        return None
    return seconds


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.timedelta64)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and not isinstance(value, np.generic)


def _is_numeric(value: Any) -> bool:
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return kind in "fiub" if isinstance(kind, str) else "torch" in type(value).__module__


def _is_pair(value: Any) -> bool:
    """A rate and an array, in either order."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and any(_is_number(one) and _is_array(other) for one, other in (value, value[::-1]))
    )
