"""Recordings to fuzz: a short file of every format, joined files and headers without content."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import soundfile

from affekt.audio import containers, opus

RATE_HZ = 16_000
CONTAINERS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "GSM610"),
    ("W64", "PCM_24"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "ULAW"),
    ("CAF", "ALAC_16"),
)
MUXED = (
    ("ipod", "aac"),
    ("mov", "pcm_s16le"),
    ("webm", "libopus"),
    ("matroska", "aac"),
    ("adts", "aac"),
    ("amr", "libopencore_amrnb"),
    ("asf", "wmav2"),
    ("avi", "pcm_s16le"),
    ("flv", "pcm_s16le"),
    ("mpegts", "aac"),
)
"""Containers that PyAV writes and reads."""
WEBM = bytes.fromhex(
    "1a45dfa3 9f4286810142f7810142f2810442f381084282847765626d42878104428581021853806701ffffffffffffff"
)
"""The head of a WebM file of unknown length with nothing in it."""

opus.version()  # loads the system's library, by its name, before any input is used


def voice(seconds: float = 0.3, seed: int = 0) -> np.ndarray:
    """A voice-like signal: a buzz over noise."""
    rng = np.random.default_rng(seed)
    time_seconds = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * 140 * k * time_seconds) / k for k in range(1, 9))
    return (0.1 * buzz + 0.01 * rng.normal(size=len(time_seconds))).astype(np.float32)


@cache
def recordings() -> tuple[bytes, ...]:
    """A short file of every format, concatenated files, and two headers without content."""
    found = []
    for container, encoding in CONTAINERS:
        file = io.BytesIO()
        soundfile.write(file, voice(), RATE_HZ, format=container, subtype=encoding)
        found.append(file.getvalue())
    joined_kinds = [found[index] * 2 for index, (container, _) in enumerate(CONTAINERS) if container != "W64"]
    return (*found, *joined_kinds, *muxed(), WEBM, b"RIFF\xff\xff\xff\xffWAVEfmt ")


def muxed() -> list[bytes]:
    """A short file of every format that PyAV decodes; none without PyAV."""
    if not containers.available():
        return []
    import av

    found = []
    for container, codec in MUXED:
        file = io.BytesIO()
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(codec, rate=RATE_HZ if codec != "libopencore_amrnb" else 8_000, layout="mono")
            stream.bit_rate = 12_200 if codec == "libopencore_amrnb" else 32_000
            frame = av.AudioFrame.from_ndarray(voice()[None], format="fltp", layout="mono")
            frame.sample_rate = RATE_HZ
            size = stream.frame_size or None
            resampler = av.AudioResampler(stream.format.name, "mono", stream.rate, frame_size=size)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(part))
            output.mux(stream.encode(None))
        found.append(file.getvalue())
    return found


def check_prediction(answer: dict[str, Any]) -> None:
    """Check that the probabilities are valid."""
    values = list(answer["probabilities"].values())
    assert answer["label"] == "no speech" or abs(sum(values) - 1) < 1e-3, answer
    assert all(0 <= value <= 1 for value in values), answer
