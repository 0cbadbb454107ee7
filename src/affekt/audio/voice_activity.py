"""Voice activity detection: which stretches of a recording hold speech, frame by frame, for files and streams.

A detector takes samples as they arrive and decides on every frame that they complete. It keeps its state between calls,
so the result does not depend on how a recording is cut, and memory stays flat.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from affekt.errors import ConfigError

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


class VoiceActivity(Protocol):
    """A voice activity detector.

    Attributes:
        frame_samples: length of the frames it decides on.
    """

    frame_samples: int

    def feed(self, samples: Floats) -> Flags:
        """The decisions for all frames that these samples complete."""
        ...


class _Frames:
    """Cuts a stream into frames [frames, frame_samples] and keeps what is left for the next call."""

    def __init__(self, frame_samples: int) -> None:
        self.frame_samples = frame_samples
        self._rest: Floats = np.empty(0, np.float32)

    def feed(self, samples: Floats) -> Floats:
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % self.frame_samples
        self._rest = joined[whole:]
        return joined[:whole].reshape(-1, self.frame_samples)


class EnergyGate:
    """Speech is what stands out of the background by some decibels.

    The background is tracked as the level that frames come down to: it falls to a quieter frame at once and rises by a
    few decibels a second, so that the gaps between words keep it low while somebody speaks.

    Args:
        sample_rate_hz: of the samples.
        margin_db: how far above the background speech is.
        rise_db_per_second: how fast the background may grow.
        quietest_db: level (of full scale) below which nothing is speech.
        below_loudest_db: speech is at most this much quieter than the loudest frame, which fades by 2 dB a second. It
            keeps the noise between words from being speech after a moment of digital silence.

    >>> gate = EnergyGate(16_000)
    >>> silence, tone = np.zeros(1_600, np.float32), np.sin(np.arange(1_600, dtype=np.float32)) / 4
    >>> gate.feed(np.concatenate([silence, tone])).tolist()
    [False, False, False, False, False, True, True, True, True, True]
    """

    FRAME_SECONDS = 0.02
    FADE_DB_PER_SECOND = 2.0
    FIRST_BACKGROUND_DB = -45.0  # a recording that starts in the middle of a word shows its background only later

    def __init__(
        self,
        sample_rate_hz: int,
        margin_db: float = 10.0,
        rise_db_per_second: float = 3.0,
        quietest_db: float = -75.0,
        below_loudest_db: float = 40.0,
    ) -> None:
        self.frame_samples = round(self.FRAME_SECONDS * sample_rate_hz)
        self.margin_db = margin_db
        self.rise_db = rise_db_per_second * self.FRAME_SECONDS
        self.quietest_db = quietest_db
        self.below_loudest_db = below_loudest_db
        self._loudest_db = -np.inf
        self._background_db = self.FIRST_BACKGROUND_DB
        self._frames = _Frames(self.frame_samples)

    def feed(self, samples: Floats) -> Flags:
        """See :meth:`VoiceActivity.feed`."""
        level_db = _level_db(self._frames.feed(samples))
        if not len(level_db):
            return np.empty(0, np.bool_)
        # background[t] = min(level[t], background[t-1] + rise), unrolled: a running minimum of level[s] - s * rise
        risen = np.arange(1, len(level_db) + 1) * self.rise_db
        lowest = np.minimum.accumulate(np.append(self._background_db, level_db - risen))
        background_db = lowest[1:] + risen
        self._background_db = float(background_db[-1])
        # loudest[t] = max(level[t], loudest[t-1] - fade), unrolled in the same way
        faded = np.arange(1, len(level_db) + 1) * self.FADE_DB_PER_SECOND * self.FRAME_SECONDS
        loudest_db = np.maximum.accumulate(np.append(self._loudest_db, level_db + faded))[1:] - faded
        self._loudest_db = float(loudest_db[-1])
        floor_db = np.maximum(self.quietest_db, loudest_db - self.below_loudest_db)
        return np.asarray(level_db > np.maximum(background_db + self.margin_db, floor_db))


class SileroVad:
    """Silero's network (Silero Team, MIT license), run by onnxruntime from its package's files; torch is not imported.

    Args:
        sample_rate_hz: must be 16,000.
        threshold: probability from which a frame is speech.

    Raises:
        ConfigError: another rate, or the package is not installed.
    """

    FRAME_SAMPLES, CONTEXT_SAMPLES, CELLS = 512, 64, 128
    MODEL = "data/silero_vad_16k_sequence.onnx"

    def __init__(self, sample_rate_hz: int, threshold: float = 0.5) -> None:
        if sample_rate_hz != 16_000:
            raise ConfigError("voice activity by silero", got=f"{sample_rate_hz} Hz", expected="16000 Hz")
        import onnxruntime

        self.frame_samples = self.FRAME_SAMPLES
        self.threshold = threshold
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(_silero_file(self.MODEL)), options)
        self._hidden = self._cell = np.zeros((1, 1, self.CELLS), np.float32)
        self._context = np.zeros(self.CONTEXT_SAMPLES, np.float32)
        self._frames = _Frames(self.frame_samples)

    def feed(self, samples: Floats) -> Flags:
        """See :meth:`VoiceActivity.feed`."""
        frames = self._frames.feed(samples)
        if not len(frames):
            return np.empty(0, np.bool_)
        contexts = np.vstack([self._context, frames[:-1, -self.CONTEXT_SAMPLES :]])
        self._context = frames[-1, -self.CONTEXT_SAMPLES :]
        feeds = {"input": np.hstack([contexts, frames]), "h": self._hidden, "c": self._cell}
        probabilities, self._hidden, self._cell = self._session.run(None, feeds)
        return np.asarray(probabilities >= self.threshold)


class Everything:
    """No detection: all of a recording counts as speech."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.frame_samples = round(EnergyGate.FRAME_SECONDS * sample_rate_hz)
        self._frames = _Frames(self.frame_samples)

    def feed(self, samples: Floats) -> Flags:
        """See :meth:`VoiceActivity.feed`."""
        return np.ones(len(self._frames.feed(samples)), np.bool_)


DETECTORS: dict[str, Callable[[int], VoiceActivity]] = {"energy": EnergyGate, "silero": SileroVad, "none": Everything}
"""Detectors by name, each made from the sample rate."""


def detector(name: str, sample_rate_hz: int) -> VoiceActivity:
    """A fresh detector.

    Raises:
        ConfigError: no such detector, or it is not installed.
    """
    if name not in DETECTORS:
        raise ConfigError("voice activity", got=repr(name), expected=f"one of {', '.join(DETECTORS)}")
    return DETECTORS[name](sample_rate_hz)


def regions(active: Flags, shortest_frames: int, longest_gap_frames: int) -> list[tuple[int, int]]:
    """Runs of speech as (first frame, frame after the last): short gaps are closed, then short bursts dropped.

    >>> flags = np.array([1, 0, 1, 1, 0, 0, 0, 1, 0], np.bool_)
    >>> regions(flags, shortest_frames=2, longest_gap_frames=1)
    [(0, 4)]
    """
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    pauses = starts[1:] - ends[:-1] > longest_gap_frames  # those that part one run from the next
    starts, ends = starts[np.append(True, pauses)[: len(starts)]], ends[np.append(pauses, True)[: len(ends)]]
    long = ends - starts >= shortest_frames
    return list(zip(starts[long].tolist(), ends[long].tolist(), strict=True))


def _level_db(frames: Floats) -> NDArray[np.float64]:
    """Power of each frame around its mean, in decibels of full scale."""
    power = frames.var(axis=1, dtype=np.float64)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)))


def _silero_file(name: str) -> Path:
    package = importlib.util.find_spec("silero_vad")
    file = (
        Path(package.submodule_search_locations[0]) / name if package and package.submodule_search_locations else None
    )
    if file is None or not file.is_file():
        raise ConfigError(
            "voice activity by silero",
            got="no silero-vad package" if file is None else f"a silero-vad package without {name}",
            expected="silero-vad 6 or later",
            remedy="pip install --no-deps silero-vad (its model runs without torch), or use the energy gate",
        )
    return file
