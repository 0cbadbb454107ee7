"""Windows over the speech of a recording that is read block by block, in flat memory.

Speech is first cut into stretches, at pauses of at least `pause_seconds`: a window never holds the ends of two
utterances. A stretch that is shorter than a second tells little, so it goes on until a pause of `longest_gap_seconds`.
A stretch no longer than a window is heard as a whole, a longer one in overlapping windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from affekt.audio.voice_activity import detector, regions
from affekt.recognition.segmentation import Growing

if TYPE_CHECKING:
    from affekt.recognition.timeline import TimelineConfig

Floats = NDArray[np.float32]

ENVELOPE_SECONDS = 0.05
"""Length of the pieces whose peaks draw the waveform."""
MARGIN_SECONDS = 0.05
"""Heard before and after a stretch of speech; less than half of the shortest pause."""
LEAST_SECONDS = 1.0
"""A stretch of speech that is shorter goes on over short pauses."""
BATCH_WINDOWS = 4


class SpeechWindows:
    """One pass over a recording: windows for the model, and meanwhile voice activity and the waveform's envelope.

    Args:
        blocks: the recording, at the model's rate.
        sample_rate_hz: of the blocks.
        config: with window and hop filled in.
        clip_samples: a recording up to this length is kept as a whole.

    Attributes:
        samples: how many were read.
        starts, ends: first sample of each window, and the one after its last.
        stretches: for each window the number of its stretch of speech.
    """

    def __init__(
        self, blocks: Iterable[Floats], sample_rate_hz: int, config: TimelineConfig, clip_samples: int
    ) -> None:
        assert config.window_seconds is not None
        assert config.hop_seconds is not None
        self.samples = 0
        self.starts, self.ends, self.stretches = Growing(np.int64), Growing(np.int64), Growing(np.int64)
        self._blocks = blocks
        self._rate = sample_rate_hz
        self._config = config
        self._window = round(config.window_seconds * sample_rate_hz)
        self._hop = round(config.hop_seconds * sample_rate_hz)
        self._detector = detector(config.activity, sample_rate_hz)
        self._activity = Growing(np.bool_)
        self._peaks = Growing(np.float32)
        self._piece = round(ENVELOPE_SECONDS * sample_rate_hz)
        self._unpeaked = np.empty(0, np.float32)
        self._clip_samples = clip_samples
        self._beginning: list[Floats] = []
        self._held: Floats = np.empty(0, np.float32)  # from sample self._origin on
        self._origin = 0
        self._frames = 0
        frame_seconds = self._detector.frame_samples / sample_rate_hz
        self._pause_frames = max(1, round(config.pause_seconds / frame_seconds))
        self._gap_frames = max(self._pause_frames, round(config.longest_gap_seconds / frame_seconds))
        self._least_frames = round(LEAST_SECONDS / frame_seconds)
        self._margin = min(
            round(MARGIN_SECONDS * sample_rate_hz), self._pause_frames * self._detector.frame_samples // 2
        )
        self._number = 0  # of the stretch
        self._position: int | None = None  # where the next window of the stretch starts; None between stretches
        self._first_active = 0  # frame of the stretch
        self._last_active = 0  # the frame after the last one that is active
        self._fresh = True  # no window of the stretch has been heard

    def beginning(self) -> Floats | None:
        """The whole recording; None if it is longer than a clip."""
        return np.concatenate(self._beginning) if self.samples <= self._clip_samples else None

    def batches(self) -> Iterator[list[Floats]]:
        """All windows, some at a time."""
        batch: list[Floats] = []
        for start, window in self._windows():
            self.starts.append([start])
            self.ends.append([start + len(window)])
            self.stretches.append([self._number])
            batch.append(window)
            if len(batch) == BATCH_WINDOWS:
                yield batch
                batch = []
        if batch:
            yield batch

    def envelope(self) -> Floats:
        """Peaks of all pieces."""
        if len(self._unpeaked):
            self._peaks.append([np.abs(self._unpeaked).max()])
        return self._peaks.values()

    def speech_seconds(self) -> list[tuple[float, float]]:
        """Start and end of each region of speech, short pauses closed, with the margin that windows hear around it."""
        frame_seconds = self._detector.frame_samples / self._rate
        shortest = round(self._config.shortest_seconds / frame_seconds)
        longest_gap = round(self._config.longest_gap_seconds / frame_seconds)
        found = np.array(regions(self._activity.values(), shortest, longest_gap)).reshape(-1, 2) * frame_seconds
        starts, ends = found[:, 0], found[:, 1]
        margin, middles = self._margin / self._rate, (ends[:-1] + starts[1:]) / 2  # no margin goes past the middle
        starts = np.maximum(starts - margin, [0, *middles])
        ends = np.minimum(ends + margin, [*middles, self.samples / self._rate])
        return list(zip(starts.tolist(), ends.tolist(), strict=True))

    def _windows(self) -> Iterator[tuple[int, Floats]]:
        for block in self._blocks:
            active = self._note(block)
            self._held = np.concatenate([self._held, block])
            yield from self._cut(active)
            self._forget()
        if self._position is not None:
            whole = self._last_active == self._frames  # speech to the end: the frame that is not complete too
            yield from self._finish(self.samples if whole else self._end(self._last_active))

    def _cut(self, active: NDArray[np.bool_]) -> Iterator[tuple[int, Floats]]:
        """The windows that are complete with some more frames."""
        edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            first = self._frames + start
            if self._is_over(first):
                yield from self._finish(self._end(self._last_active))
            if self._position is None:
                self._position = max(0, self._origin, first * self._detector.frame_samples - self._margin)
                self._fresh, self._first_active = True, first
            self._last_active = self._frames + end
            yield from self._whole_windows(self._last_active * self._detector.frame_samples)
        self._frames += len(active)
        if self._is_over(self._frames):
            yield from self._finish(self._end(self._last_active))

    def _is_over(self, frame: int) -> bool:
        """Whether the stretch has ended, if the next frame that may be active is this one."""
        short = self._last_active - self._first_active < self._least_frames
        pause = self._gap_frames if short else self._pause_frames
        return self._position is not None and frame - self._last_active >= pause

    def _whole_windows(self, end: int) -> Iterator[tuple[int, Floats]]:
        """Windows of full length that end before `end`; one that ends with the stretch is left for its end."""
        assert self._position is not None
        while end - self._position > self._window:
            yield self._position, self._slice(self._position, self._position + self._window)
            self._position += self._hop
            self._fresh = False

    def _finish(self, end: int) -> Iterator[tuple[int, Floats]]:
        """The last windows of a stretch."""
        yield from self._whole_windows(end)
        assert self._position is not None
        if end - self._position > (0 if self._fresh else self._window - self._hop):
            yield self._position, self._slice(self._position, end)
        self._position = None
        self._number += 1

    def _end(self, frame: int) -> int:
        """The last sample of a stretch, with its margin."""
        return min(frame * self._detector.frame_samples + self._margin, self.samples)

    def _slice(self, start: int, end: int) -> Floats:
        return self._held[start - self._origin : end - self._origin]

    def _forget(self) -> None:
        """Drop samples that no window to come can hold."""
        keep = self._frames * self._detector.frame_samples - self._margin
        if self._position is not None:
            keep = min(keep, self._position)
        if keep > self._origin:
            self._held, self._origin = self._held[keep - self._origin :], keep

    def _note(self, block: Floats) -> NDArray[np.bool_]:
        """Count a block, draw its envelope, and detect its speech."""
        self.samples += len(block)
        self._beginning = [*self._beginning, block] if self.samples <= self._clip_samples else []
        active = self._detector.feed(block)
        self._activity.append(active)
        joined = np.concatenate([self._unpeaked, block])
        whole = len(joined) - len(joined) % self._piece
        self._peaks.append(np.abs(joined[:whole]).reshape(-1, self._piece).max(1))
        self._unpeaked = joined[whole:]
        return active
