"""The recognition service: decoding, micro-batches and timelines for many clients, each in a thread pool of its own.

Every run of the model uses one core, and as many run in parallel as there are cores: for many small jobs this has a
higher throughput than one job at a time on all cores, and a long timeline does not delay predictions.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.errors import Fault
from affekt.recognition.prediction import SILENCE, Prediction, Recognized, without_speech
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.sources import is_silent
from affekt.recognition.stream import Stream
from affekt.recognition.timeline import Timeline, TimelineConfig, make_timeline
from affekt.serving.admission import AdmissionControl, UploadBudget
from affekt.serving.batcher import Batcher
from affekt.serving.deadline import PendingAnswer
from affekt.serving.problems import RequestError
from affekt.serving.prometheus import Metrics
from affekt.serving.settings import Limits
from affekt.serving.uploads import Upload

Floats = NDArray[np.float32]
Result = TypeVar("Result")

BATCH_SECONDS = 30.0
"""Audio in one run of the model."""
WAIT_SHARE = 0.5
"""Share of the longest wait that a full queue should take: the throughput is an estimate and requests differ."""
BLOCK_SECONDS = 10.0
"""A long recording is decoded in blocks of this length; a timeline can be cancelled between two of them."""
BASELINE_SECONDS = 60.0
"""Of each baseline only the beginning is used."""


class RecognitionService:
    """Predictions, timelines and streams of many clients at a time.

    Args:
        recognizer: loaded with one thread, or one whose model runs on other machines.
        threads: recordings that are decoded in parallel.
        runs: batches that the model works on in parallel.
        limits: bounds.
        metrics: counts what is done.
    """

    def __init__(self, recognizer: Recognizer, threads: int, runs: int, limits: Limits, metrics: Metrics) -> None:
        self.recognizer = recognizer
        self.limits = limits
        self.metrics = metrics
        gauge, wait_seconds = metrics.gauge, WAIT_SHARE * limits.wait_seconds
        on_change = gauge("predictions_inside", "Predictions queued or running")
        self.predictions = AdmissionControl(
            "predictions", limits.predictions, wait_seconds, max(threads, runs), on_change
        )
        on_change = gauge("timelines_inside", "Timelines queued or running")
        self.timelines = AdmissionControl("timelines", limits.timelines, on_change=on_change)
        on_change = gauge("streams_inside", "Live streams")
        self.streams = AdmissionControl("streams", limits.streams, on_change=on_change)
        self.uploads = UploadBudget(limits.pending_bytes, gauge("upload_bytes", "Bytes of uploads in memory"))
        self._closing = threading.Event()
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._models = ThreadPoolExecutor(runs, "model")
        self._long = ThreadPoolExecutor(runs, "timeline")
        self._batcher = Batcher(
            lambda waveforms: recognizer.probabilities(waveforms).rows(),
            self._models,
            runs,
            limits.batch_wait_seconds,
            round(BATCH_SECONDS * recognizer.card.sample_rate_hz),
            metrics.batch_size.observe,
        )

    async def predict(self, upload: Upload, min_confidence: float | None, first: bool = False) -> Prediction:
        """The emotion of one recording.

        A recording no longer than the model's clip shares a batch with others. A longer one is analyzed as a timeline,
        unless `first` asks for its first clip alone; so is one with a baseline of its speaker.

        Raises:
            AudioError: a recording that cannot be used.
            RequestError: 422 too long a recording, 503 a wait beyond the limit or too much work.
        """
        if upload.baseline:
            return await self.timeline(upload, min_confidence, TimelineConfig(), _overall, "/v1/predict")
        card = self.recognizer.card
        pending, samples = PendingAnswer(self.limits.wait_seconds), 0

        def hear() -> None:
            nonlocal samples
            with audio.remarks() as upload.notes:
                waveform = self.recognizer.waveform(upload)
            samples = len(waveform)
            if samples > card.clip_samples and not first:
                pending.succeed(None)
            elif is_silent(waveform[: card.clip_samples]):
                pending.succeed(SILENCE)
            else:
                self._batcher.submit(pending, waveform[: card.clip_samples])

        self._decoders.submit(pending.attempt, hear)
        answer: Recognized | str | None = await pending.answer()
        if answer is None:
            return await self.timeline(upload, min_confidence, TimelineConfig(), _overall, "/v1/predict")
        seconds = min(samples, card.clip_samples) / card.sample_rate_hz
        self.metrics.audio_seconds.labels("/v1/predict").inc(seconds)
        threshold = card.unsure_below if min_confidence is None else min_confidence
        if isinstance(answer, str):
            prediction = without_speech(self.recognizer, upload.title, 0.0, seconds, silent=True)
        else:
            prediction = answer.prediction(0, self.recognizer, threshold, upload.title, 0.0, seconds)
        return replace(prediction, truncated=samples > card.clip_samples)

    async def timeline(
        self,
        upload: Upload,
        min_confidence: float | None,
        config: TimelineConfig,
        render: Callable[[Timeline], Result],
        path: str = "/v1/timeline",
    ) -> Result:
        """Emotion over time in one recording, rendered; cancelled with its caller.

        Raises:
            AudioError: a recording that cannot be used.
            ConfigError: windows that the model cannot take, or a baseline for a model without adaptation.
            RequestError: 422 too long a recording, 503 too much work.
        """
        card = self.recognizer.card
        threshold = card.unsure_below if min_confidence is None else min_confidence
        stop = threading.Event()
        blocks = self._bounded(audio.blocks(upload, card.sample_rate_hz, BLOCK_SECONDS), stop)

        def work() -> Result:
            with audio.remarks() as upload.notes:
                recognizer = self._adapted(upload.baseline)
                timeline = make_timeline(recognizer, blocks, upload.name, threshold, config)
            self.metrics.audio_seconds.labels(path).inc(timeline.duration_seconds)
            return render(_titled(timeline, upload.title))

        try:
            async with asyncio.timeout(self.limits.work_seconds):
                return await _in(self._long, work)
        except TimeoutError as error:
            got, remedy = f"more than {self.limits.work_seconds:g} s of work", "send a part of it, or a longer hop"
            raise RequestError.busy(Fault(upload.name, got, remedy=remedy), 30, status=503) from error
        finally:
            stop.set()

    async def feed(self, stream: Stream, samples: Floats) -> list[Prediction]:
        """Answers of a live stream to some more samples."""
        return await _in(self._models, lambda: stream.feed(samples))

    def close(self) -> None:
        """Start no more work and cancel what is queued."""
        self._closing.set()
        for pool in (self._decoders, self._models, self._long):
            pool.shutdown(cancel_futures=True)

    def _adapted(self, baseline: Sequence[Upload]) -> Recognizer:
        """The recognizer, adapted to a speaker by the beginnings of recordings in which the speaker is calm."""
        if not baseline:
            return self.recognizer
        rate = self.recognizer.card.sample_rate_hz
        calm = [audio.load(upload, rate, max_seconds=BASELINE_SECONDS) for upload in baseline]
        return self.recognizer.adapted(baseline=calm, sample_rate_hz=rate)

    def _bounded(self, blocks: Iterable[Floats], stop: threading.Event) -> Iterator[Floats]:
        """Pass blocks on; stop where the recording is longer than allowed or the client has disconnected."""
        longest_seconds, rate = self.limits.timeline_seconds, self.recognizer.card.sample_rate_hz
        samples = 0
        for block in blocks:
            samples += len(block)
            if samples > longest_seconds * rate:
                got, expected = f"more than {longest_seconds:g} s of audio", f"at most {longest_seconds:g} s"
                raise RequestError.because(422, Fault(Upload.name, got, expected, "send it in parts"))
            if stop.is_set() or self._closing.is_set():
                raise RequestError.because(503, Fault(Upload.name, got="a client that has disconnected"))
            yield block


def _overall(timeline: Timeline) -> Prediction:
    return timeline.overall


def _titled(timeline: Timeline, title: str) -> Timeline:
    segments = tuple(replace(segment, source=title) for segment in timeline.segments)
    overall = replace(timeline.overall, source=title)
    return replace(timeline, source=title, segments=segments, overall=overall)


async def _in(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
