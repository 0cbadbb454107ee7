"""Live recognition: samples in as they come, one answer every hop.

An answer at time t is about the last `window_seconds` before t and needs no later samples. Its delay after the last
sample of a hop is the model's computing time, some milliseconds, plus about 20 ms of the resampler where rates differ,
plus the time for which the caller collects samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.audio.voice_activity import detector
from affekt.errors import AudioError, ConfigError, Fault
from affekt.recognition.adaptation import MOST_WEIGHT, SpeakerEstimate
from affekt.recognition.output_layer import OutputLayer
from affekt.recognition.prediction import NO_SPEECH, Model, Prediction, without_speech
from affekt.recognition.sources import is_silent

Floats = NDArray[np.float32]

SPEECH_SHARE = 0.1
"""Windows in which less than this share of the frames is active are answered with "no speech"."""


class Stream:
    """One live stream of samples; made by `Recognizer.stream`.

    Args:
        model: a recognizer.
        sample_rate_hz: of the samples that will be fed.
        hop_seconds: from one answer to the next.
        window_seconds: what an answer is about; at most the model's clip.
        activity: voice activity detector, a name in `affekt.audio.voice_activity.DETECTORS`.
        unsure_below: confidence below which answers are marked unsure.
        source: how answers name the stream.

    Raises:
        ConfigError: values out of range, all at once.
    """

    def __init__(
        self,
        model: Model,
        sample_rate_hz: int,
        hop_seconds: float,
        window_seconds: float,
        activity: str,
        unsure_below: float,
        source: str = "stream",
    ) -> None:
        card = model.card
        _check(sample_rate_hz, hop_seconds, window_seconds, card.clip_seconds)
        self._model = model
        self._rate = card.sample_rate_hz
        self._hop = round(hop_seconds * self._rate)
        self._window = round(window_seconds * self._rate)
        self._unsure_below = unsure_below
        self._source = source
        self._resampler = _resampler(sample_rate_hz, self._rate)
        self._detector = detector(activity, self._rate)
        self._heard: Floats = np.empty(0, np.float32)  # at most a window
        self._active = np.empty(0, np.bool_)  # the frames of that window
        self._samples = 0
        self._speaker: SpeakerEstimate | None = None
        self._waiting: Floats = np.empty(0, np.float32)  # less than a hop

    def adapt(self, head: OutputLayer, parameters: Mapping[str, float]) -> None:
        """Adapt to the speaker from now on, by a running estimate in which old speech fades.

        Args:
            head: of the model.
            parameters: of the model's adaptation to speakers.
        """
        self._head = head
        self._speaker = SpeakerEstimate(head, parameters, MOST_WEIGHT)

    def feed(self, samples: Floats) -> list[Prediction]:
        """Hear some more samples, any number of them; the answers for the hops that they complete, mostly none or one.

        Raises:
            AudioError: not a vector of finite floating point samples; the stream can go on.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            got = f"{samples.dtype} of shape {samples.shape}"
            raise AudioError(self._source, got=got, expected="a vector of floating point samples")
        if not (np.abs(samples) <= audio.LARGEST_PEAK).all():  # NaN is not either
            raise AudioError(self._source, got="values that are no samples", expected="finite samples in [-1, 1]")
        self._waiting = np.concatenate([self._waiting, self._resample(samples.astype(np.float32, copy=False))])
        return list(self._hops())

    def _resample(self, samples: Floats) -> Floats:
        if self._resampler is None:
            return samples
        return np.asarray(self._resampler.resample_chunk(samples), np.float32)

    def _hops(self) -> Iterator[Prediction]:
        while len(self._waiting) >= self._hop:
            hop, self._waiting = self._waiting[: self._hop], self._waiting[self._hop :]
            self._samples += self._hop
            self._heard = np.concatenate([self._heard, hop])[-self._window :]
            frames = self._window // self._detector.frame_samples
            self._active = np.concatenate([self._active, self._detector.feed(hop)])[-frames:]
            yield self._answer()

    def _answer(self) -> Prediction:
        end = self._samples / self._rate
        start = end - len(self._heard) / self._rate
        silent = is_silent(self._heard)
        if silent or not len(self._active) or self._active.mean() < SPEECH_SHARE:
            return without_speech(self._model, self._source, start, end, silent)
        answer = self._model.probabilities([self._heard])
        prediction = answer.prediction(0, self._model, self._unsure_below, self._source, start, end)
        if self._speaker is None or prediction.label == NO_SPEECH:
            return prediction
        self._speaker.add(answer.embeddings, self._hop / self._window)
        shift = self._speaker.shift()
        answer = shift.applied(answer, self._head)
        adapted = answer.prediction(0, self._model, self._unsure_below, self._source, start, end)
        return replace(adapted, adapted=shift.said)


def _check(sample_rate_hz: int, hop_seconds: float, window_seconds: float, clip_seconds: float) -> None:
    lowest, highest = audio.LOWEST_RATE_HZ, audio.HIGHEST_RATE_HZ
    rules = (
        ("rate", sample_rate_hz, lowest <= sample_rate_hz <= highest, f"{lowest} to {highest} Hz"),
        ("hop", hop_seconds, 0.05 <= hop_seconds <= 60, "0.05 to 60 s"),
        ("window", window_seconds, 0.1 <= window_seconds <= clip_seconds, f"0.1 to {clip_seconds:g} s"),
    )
    faults = [Fault(f"stream: {name}", f"{value:g}", expected) for name, value, valid, expected in rules if not valid]
    if faults:
        raise ConfigError.of(faults)


def _resampler(from_hz: int, to_hz: int):  # type: ignore[no-untyped-def]  # soxr is untyped
    if from_hz == to_hz:
        return None
    import soxr

    return soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")
