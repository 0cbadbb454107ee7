"""The recognizer: an exported model and recordings in, predictions out. It needs numpy, soundfile and onnxruntime.

A recording no longer than the model's clip is one run of the model. A longer one is heard window by window, as a
timeline, and its answer is the mean over its speech: see :func:`affekt.recognition.timeline.make_timeline`.

>>> recognizer = Recognizer.load()                                                        # doctest: +SKIP
>>> print(recognizer.predict("call.wav"))                                                 # doctest: +SKIP
call.wav: angry 83 % (angry 0.83, happy 0.09, neutral 0.05, sad 0.03)
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from affekt.errors import AudioError, ConfigError
from affekt.recognition.adaptation import parameters_of
from affekt.recognition.batches import batches_of
from affekt.recognition.bulk import predict_in_processes, predict_on_ray, processes_for
from affekt.recognition.loaded_model import LoadedModel, map_in_order
from affekt.recognition.prediction import (
    CHUNK_RECORDINGS,
    Failure,
    Model,
    Prediction,
    Recognized,
    without_speech,
)
from affekt.recognition.sources import (
    SHORTEST_SECONDS,
    Channel,
    Segment,
    Source,
    as_list,
    blocks_of,
    channel_of,
    check_end,
    check_length,
    clips_of,
    failure_of,
    is_silent,
    load,
    name_of,
    placed,
    segment_of,
)
from affekt.recognition.timeline import Timeline, TimelineConfig, make_timeline
from affekt.runtime.ordered_map import chunks

if TYPE_CHECKING:
    from affekt.recognition.stream import Stream
    from affekt.runtime.ray_cluster import RayCluster

Floats: TypeAlias = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")
Run: TypeAlias = Callable[[Sequence[Floats]], Recognized]

SPEECH_SECONDS, WINDOWS_AT_ONCE = 3.0, 4
"""Length of the windows that adaptation hears of long recordings, and how many are run together."""
MARGIN_SECONDS = 0.1
"""Decoded past a clip's end, so that its last samples are resampled as if the recording went on."""


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of a call, for all its recordings."""

    sample_rate_hz: int | None
    unsure_below: float
    first: bool


class Recognizer(LoadedModel):
    """An exported model, ready to listen. It can be pickled, for `multiprocessing` and Spark.

    Attributes:
        content: the model file.
        name: how messages name it.
        card: the model's card.
        labels: class names in the order of the probabilities.
        identity: name, version and content hash of the model, as every prediction states them.
        threads: how many a single recording may use, and how many recordings are worked on at once.
    """

    def adapted(
        self,
        recordings: Iterable[Source] = (),
        *,
        baseline: Iterable[Source] = (),
        sample_rate_hz: int | None = None,
    ) -> Recognizer:
        """A recognizer for one speaker: see :mod:`affekt.recognition.adaptation`.

        Args:
            recordings: of this speaker, with whatever emotions; recordings that cannot be used are left out.
            baseline: of this speaker when calm. One of the two has to be given.
            sample_rate_hz: of arrays that do not bring their own.

        Returns:
            A recognizer that shares this one's model and can be used in all the same ways.

        Raises:
            ConfigError: a model without parameters for this, or both or none of the two kinds.
            AudioError: no recording in which somebody speaks.
        """
        from affekt.recognition.speaker_groups import shift_of

        adapted = copy.copy(self)
        adapted._shift = None
        adapted._shift = shift_of(adapted, as_list(recordings), as_list(baseline), sample_rate_hz)
        return adapted

    def predict(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        min_confidence: float | None = None,
        *,
        start_seconds: Any = None,
        end_seconds: Any = None,
        channel: Channel = "mix",
        first: bool = False,
    ) -> Prediction:
        """The emotion of a whole recording, or of a part of it.

        Args:
            source: a path, the bytes of a file, a binary stream, an array or tensor of samples, a mapping with `array`
                and `sampling_rate` (Hugging Face datasets) or a pair of rate and array (SciPy, Gradio). Arrays are
                [samples], [samples, channels], [1, samples] or [2, samples], of floating point samples in [-1, 1] or
                integers of 8, 16 or 32 bits.
            sample_rate_hz: of an array that does not bring its own; files state theirs.
            min_confidence: mark predictions below this as unsure; by default the card's threshold.
            start_seconds, end_seconds: the part to hear: seconds, or a `timedelta`. None: from the beginning, to the
                end.
            channel: `left` or `right` of a recording with several; `mix`: their mean.
            first: hear only the first `card.clip_seconds`.

        Returns:
            The prediction, with the times that were heard. Silence is no speech, with the reason `silence`.

        Raises:
            AudioError: nothing that can be decoded, no samples, less than 0.1 s; for arrays also a wrong shape
                or type, values that are not finite, or no rate; times out of range.
            ConfigError: a threshold that is no number from 0 to 1, or no such channel.
        """
        segment = segment_of(source, start_seconds, end_seconds, channel)
        options = _Options(sample_rate_hz, self._threshold(min_confidence), first)
        clip, rest = self._opened(segment, options)
        if rest is not None:
            return self._whole(segment, rest, options, self)
        return self._predictions([clip], [segment], self.probabilities, options)[0]

    def predict_many(
        self,
        sources: Iterable[Source],
        jobs: int | None = None,
        sample_rate_hz: int | None = None,
        min_confidence: float | None = None,
        *,
        first: bool = False,
        cluster: RayCluster | None = None,
        speakers: Iterable[str] | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Predictions of many recordings, in their order; one that cannot be used gives a :class:`Failure`.

        Each of the `jobs` threads takes a few recordings at a time, decodes them and runs those of similar length
        together, so decoding and the network share the cores evenly and memory does not grow with the list. A list of
        several hundred files is shared out among processes instead: see :mod:`affekt.recognition.bulk`.

        Args:
            sources: as for :meth:`predict`, or segments of recordings; a single recording counts as a list of one.
            jobs: recordings to work on at a time; by default :attr:`threads`.
            sample_rate_hz: of arrays that do not bring their own.
            min_confidence, first: as for :meth:`predict`.
            cluster: compute on a Ray cluster, whose nodes read files by the same paths.
            speakers: who speaks in each recording of a list: answers are adapted to each speaker, which hears every
                recording twice.

        Returns:
            An iterator; recordings are read only as fast as it is consumed.

        Raises:
            AudioError: `sources` is neither a recording nor a list.
            ConfigError: a number of threads below 1, or a threshold that is no number from 0 to 1.
        """
        options = _Options(sample_rate_hz, self._threshold(min_confidence), first)
        threads = self.threads if jobs is None else jobs
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ConfigError("jobs", got=repr(jobs), expected="a whole number, at least 1")

        def recognize(chunk: tuple[Source, ...]) -> list[Prediction | Failure]:
            return self._recognize_chunk(chunk, options)

        items, how = as_list(sources), {"min_confidence": min_confidence, "first": first}
        if speakers is not None:
            from affekt.recognition.speaker_groups import predict_speakers

            return predict_speakers(self, list(items), list(speakers), sample_rate_hz, how)
        if cluster is not None:
            return predict_on_ray(self.content, self.name, items, how, cluster)
        count = processes_for(items, threads) if isinstance(items, list | tuple) and self._shift is None else 0
        if count:
            shards = predict_in_processes((self.content, self.name), items, how, count)
            return (answer for shard in shards for answer in shard.answers)
        parts = chunks(items, CHUNK_RECORDINGS)
        return (answer for answers in map_in_order(recognize, parts, threads) for answer in answers)

    def embed(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        *,
        start_seconds: Any = None,
        end_seconds: Any = None,
        channel: Channel = "mix",
    ) -> Floats:
        """The embedding of a recording: the input of the network's last layer.

        A recording longer than the clip gives the mean over its clips, each weighted by its length.

        Args:
            source, sample_rate_hz, start_seconds, end_seconds, channel: as for :meth:`predict`.

        Returns:
            float32 [features].

        Raises:
            AudioError: as for :meth:`predict`, and silence.
        """
        segment = segment_of(source, start_seconds, end_seconds, channel)
        clip, rest = self._opened(segment, _Options(sample_rate_hz, 0.0, first=False))
        if is_silent(clip) and rest is None:
            raise _silence(segment)
        if rest is None:
            return np.asarray(self.probabilities([clip]).embeddings[0])
        total, samples, silent = np.zeros(0), 0, True
        for part in clips_of(rest, self.card.clip_samples):
            silent = silent and is_silent(part)
            if not samples or len(part) >= SHORTEST_SECONDS * self.card.sample_rate_hz:
                weighted = len(part) * self.probabilities([part]).embeddings[0].astype(np.float64)
                total, samples = total + weighted if samples else weighted, samples + len(part)
        if silent:
            raise _silence(segment)
        return np.asarray(total / samples, np.float32)

    def speech_embeddings(self, source: Source, sample_rate_hz: int | None = None) -> Floats:
        """Embeddings of the speech in a recording: of all of it, or of windows of 3 s where it is longer than the clip.

        Args:
            source, sample_rate_hz: as for :meth:`predict`.

        Returns:
            float32 [stretches, features]; stretches without speech are left out.

        Raises:
            AudioError: as for :meth:`predict`.
        """
        clip, rest = self._opened(segment_of(source), _Options(sample_rate_hz, 0.0, first=False))
        size = min(round(SPEECH_SECONDS * self.card.sample_rate_hz), self.card.clip_samples)
        shortest = SHORTEST_SECONDS * self.card.sample_rate_hz
        parts = [clip] if rest is None else (part for part in clips_of(rest, size) if len(part) >= shortest)
        heard = (part for part in parts if not is_silent(part))
        below, found = self.card.speech_below, []
        for batch in chunks(heard, WINDOWS_AT_ONCE):
            answer = self._beside_others(batch)
            spoken = slice(None) if answer.speech is None or below is None else answer.speech >= below
            found.append(answer.embeddings[spoken])
        return np.concatenate(found) if found else np.empty((0, 0), np.float32)

    def timeline(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        min_confidence: float | None = None,
        config: TimelineConfig | None = None,
        *,
        start_seconds: Any = None,
        end_seconds: Any = None,
        channel: Channel = "mix",
    ) -> Timeline:
        """Emotion over time in a recording of any length, in flat memory: see :mod:`affekt.recognition.timeline`.

        Args:
            source, sample_rate_hz, min_confidence, start_seconds, end_seconds, channel: as for :meth:`predict`.
            config: windows, speech detection and smoothing.

        Returns:
            Windows, segments and the overall answer. Times count from `start_seconds`.

        Raises:
            AudioError: as for :meth:`predict`, but recordings may be short.
            ConfigError: windows that the model cannot take.
        """
        segment = segment_of(source, start_seconds, end_seconds, channel)
        blocks = blocks_of(segment, sample_rate_hz, self.card.sample_rate_hz)
        timeline = make_timeline(self, blocks, name_of(source), self._threshold(min_confidence), config)
        return replace(timeline, channel=channel_of(segment))

    def stream(
        self,
        sample_rate_hz: int = 16_000,
        hop_seconds: float = 1.0,
        window_seconds: float = 3.0,
        activity: str = "energy",
        min_confidence: float | None = None,
        *,
        adapt: bool = False,
    ) -> Stream:
        """A live stream: feed it samples, and it answers once every hop; see :mod:`affekt.recognition.stream`.

        Args:
            sample_rate_hz: of the samples.
            hop_seconds: step between answers.
            window_seconds: length of the audio that an answer is about, at most the model's clip.
            activity: voice activity detector, a name in `affekt.audio.voice_activity.DETECTORS`.
            min_confidence: as for :meth:`predict`.
            adapt: adapt to the speaker while listening: one person speaks.

        Returns:
            The stream.

        Raises:
            ConfigError: a hop, window, rate or detector that cannot be used.
        """
        from affekt.recognition.stream import Stream

        threshold = self._threshold(min_confidence)
        stream = Stream(self, sample_rate_hz, hop_seconds, window_seconds, activity, threshold)
        if adapt:
            parameters = parameters_of(self.card, "speaker", self.name)
            stream.adapt(self.output_layer, parameters)
        return stream

    def waveform(self, source: Source, sample_rate_hz: int | None = None) -> Floats:
        """The first clip of a recording.

        Args:
            source, sample_rate_hz: as for :meth:`predict`.

        Returns:
            [samples] at the model's rate: at most a clip, and one sample more if the recording goes on.

        Raises:
            AudioError: as for :meth:`predict`.
        """
        clip, _ = self._opened(segment_of(source), _Options(sample_rate_hz, 0.0, first=True))
        return clip

    def _opened(self, segment: Segment, options: _Options) -> tuple[Floats, Iterator[Floats] | None]:
        """Read at most a clip and a sample of a recording; also its blocks where it is longer and wanted whole.

        Raises:
            AudioError: as for :meth:`predict`.
        """
        rate, clip = self.card.sample_rate_hz, self.card.clip_samples
        if options.first:
            longest = self.card.clip_seconds + MARGIN_SECONDS
            waveform = load(segment, options.sample_rate_hz, rate, longest)[: clip + 1]
        else:
            blocks = blocks_of(segment, options.sample_rate_hz, rate)
            held: list[Floats] = []
            for block in blocks:
                held.append(block)
                if sum(map(len, held)) > clip:
                    return held[0][: clip + 1], itertools.chain(held, blocks)
            waveform = held[0] if len(held) == 1 else np.concatenate([np.empty(0, np.float32), *held])
        if len(waveform) <= clip:
            check_end(segment, len(waveform) / rate)
        check_length(waveform, rate, name_of(segment))
        return waveform, None

    def _whole(self, segment: Segment, blocks: Iterator[Floats], options: _Options, model: Model) -> Prediction:
        """The answer for a recording that is longer than a clip."""
        timeline = make_timeline(model, blocks, name_of(segment), options.unsure_below)
        check_end(segment, timeline.duration_seconds)
        return placed(timeline.overall, segment)

    def _recognize_chunk(self, sources: Sequence[Source], options: _Options) -> list[Prediction | Failure]:
        answers: dict[int, Prediction | Failure] = {}
        waveforms: dict[int, Floats] = {}
        segments: dict[int, Segment] = {}
        for index, source in enumerate(sources):
            try:
                segments[index] = segment_of(source)
                waveform, rest = self._opened(segments[index], options)
                if rest is None:
                    waveforms[index] = waveform
                else:
                    answers[index] = self._whole(segments[index], rest, options, _Alone(self))
            except AudioError as error:
                answers[index] = failure_of(source, error)
        for batch in batches_of({index: len(waveform) for index, waveform in waveforms.items()}, self.card):
            clips, heard = [waveforms[index] for index in batch], [segments[index] for index in batch]
            answers |= zip(batch, self._predictions(clips, heard, self._beside_others, options), strict=True)
        return [answers[index] for index in range(len(sources))]

    def _predictions(
        self, waveforms: Sequence[Floats], segments: Sequence[Segment], run: Run, options: _Options
    ) -> list[Prediction]:
        """One prediction for each waveform of a batch, of which at most a clip is heard; the model hears no silence."""
        rate, clip = self.card.sample_rate_hz, self.card.clip_samples
        clips = [waveform[:clip] for waveform in waveforms]
        sounding = [part for part in clips if not is_silent(part)]
        answers = iter(run(sounding).rows() if sounding else ())
        predictions = []
        for part, waveform, segment in zip(clips, waveforms, segments, strict=True):
            name, seconds = name_of(segment), len(part) / rate
            if is_silent(part):
                answer = without_speech(self, name, 0.0, seconds, silent=True)
            else:
                answer = next(answers).prediction(0, self, options.unsure_below, name, 0.0, seconds)
            predictions.append(replace(placed(answer, segment), truncated=len(waveform) > clip))
        return predictions


def _silence(segment: Segment) -> AudioError:
    return AudioError(name_of(segment), got="silence (no sample above -80 dB)", expected="speech")


class _Alone:
    """A recognizer as timelines see it where each recording has one thread: its windows run one after the other."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.card, self.labels, self.identity = recognizer.card, recognizer.labels, recognizer.identity
        self.assumption = recognizer.assumption
        self.probabilities = recognizer._beside_others

    def map_windows(self, batches: Iterable[Sequence[Floats]]) -> Iterator[Recognized]:
        return map(self.probabilities, batches)
