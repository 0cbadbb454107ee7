"""Recognition: an exported model and recordings in, predictions out. Needs numpy and onnxruntime alone.

>>> recognizer = Recognizer.load()                                                        # doctest: +SKIP
>>> print(recognizer.predict("call.wav"))                                                 # doctest: +SKIP
call.wav: angry 83 % (angry 0.83, happy 0.09, neutral 0.05, sad 0.03)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from affekt import audio
from affekt.errors import AffektError, AudioError, CheckpointError, Fault
from affekt.recognition.card import ModelCard
from affekt.recognition.models import BUNDLED
from affekt.recognition.prediction import CHUNK_RECORDINGS, Failure, Prediction, Recognized
from affekt.runtime.cpu_affinity import Apart, available_cores
from affekt.runtime.ordered_map import chunks, ordered_map

if TYPE_CHECKING:
    from affekt.recognition.stream import Stream
    from affekt.recognition.timeline import Timeline, TimelineConfig

Floats: TypeAlias = NDArray[np.float32]
Source: TypeAlias = audio.Source | Floats
Item = TypeVar("Item")
Result = TypeVar("Result")

SHORTEST_SECONDS = 0.1
QUIETEST_PEAK = 1e-4
"""-80 dB of full scale: below it a recording counts as silent."""
MARGIN_SECONDS = 0.1
"""Decoded past a clip's end, so that its last samples are resampled as if the recording went on."""
BLOCK_SECONDS = 10.0
"""Long recordings are read in blocks of this length."""
NOWHERE = f"{os.devnull}/nowhere/"
"""Where onnxruntime looks for weights that a model file says are in other files: no model of ours says so."""
SUM_TOLERANCE = 1e-3
"""How far the sum of a recording's probabilities may be from 1."""
BATCH_SECONDS = 10.0
"""Longest batch: its intermediate results should stay in the processor's cache."""


class Recognizer:
    """An exported model, ready to listen.

    Attributes:
        content: the model file.
        name: how messages name it.
        card: the model's card.
        labels: class names in the order of the probabilities.
        threads: how many a single recording may use, and how many recordings are worked on at once.
    """

    def __init__(self, model: bytes, name: str = "model", threads: int | None = None) -> None:
        """Use :meth:`load` for files.

        Args:
            model: the content of a file that `affekt export` wrote.
            name: how messages name it.
            threads: how many to use; by default one per core that this process may run on.

        Raises:
            CheckpointError: anything but such a file.
        """
        self.threads = available_cores() if threads is None else max(1, threads)
        self.content = model
        self.name = name
        self._apart = Apart(self.threads)
        self._session = _session(model, name, self.threads, self._apart.others)
        self.card = ModelCard.from_metadata(self._session.get_modelmeta().custom_metadata_map, name)
        self.labels = self.card.labels
        _check_ports(self._session, self.card, name)

    @classmethod
    def load(cls, model: str | Path | None = None, threads: int | None = None) -> Recognizer:
        """Read a model that `affekt export` wrote; None: the one that comes with affekt.

        Raises:
            CheckpointError: the file is missing, damaged or not an affekt model.
        """
        path = BUNDLED if model is None else Path(model)
        content = _read(path, bundled=model is None)
        return cls(content, "bundled" if model is None else str(path), threads)

    def predict(
        self, source: Source, sample_rate_hz: int | None = None, min_confidence: float | None = None
    ) -> Prediction:
        """The emotion of one recording, of which at most the first `card.clip_seconds` are heard.

        Args:
            source: a path, the bytes of a file, a binary stream, or an array of samples in [-1, 1].
            sample_rate_hz: of an array; files say their own.
            min_confidence: mark predictions below this as unsure; by default the card's threshold.

        Raises:
            AudioError: nothing that can be decoded, no samples, silence, less than 0.1 s; for arrays also a wrong shape
                or type, values that are not finite or no rate.
        """
        waveform, name = self.waveform(source, sample_rate_hz), _name(source)
        return self._predictions([waveform], [name], self.probabilities, min_confidence)[0]

    def predict_many(
        self,
        sources: Iterable[Source],
        jobs: int | None = None,
        sample_rate_hz: int | None = None,
        min_confidence: float | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Predictions of many recordings, in their order; one that cannot be used gives a :class:`Failure`.

        Each of the `jobs` threads takes a few recordings at a time, decodes them and runs those of similar length
        together, so decoding and the network share the cores evenly and memory does not grow with the list.

        Args:
            sources: as for :meth:`predict`.
            jobs: threads; by default :attr:`threads`.
            sample_rate_hz: of arrays.
            min_confidence: as for :meth:`predict`.
        """

        def recognize(chunk: tuple[Source, ...]) -> list[Prediction | Failure]:
            return self._recognize_chunk(chunk, sample_rate_hz, min_confidence)

        parts = chunks(sources, CHUNK_RECORDINGS)
        for answers in _map(recognize, parts, jobs or self.threads):
            yield from answers

    def probabilities(self, waveforms: Sequence[Floats]) -> Recognized:
        """The model's bare answers for waveforms at the model's rate, as one batch."""
        with self._apart.caller():
            return _run(self._session, waveforms)

    def timeline(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        min_confidence: float | None = None,
        config: TimelineConfig | None = None,
    ) -> Timeline:
        """Emotion over time in a recording of any length, in flat memory: see :mod:`affekt.recognition.timeline`.

        Raises:
            AudioError: as for :meth:`predict`, but recordings may be silent.
            ConfigError: windows that the model cannot take.
        """
        from affekt.recognition.timeline import make_timeline

        rate = self.card.sample_rate_hz
        if isinstance(source, np.ndarray):
            samples = _array_at_rate(source, sample_rate_hz, rate)
            size = round(BLOCK_SECONDS * rate)
            blocks: Iterable[Floats] = (samples[start : start + size] for start in range(0, len(samples), size))
        else:
            blocks = audio.blocks(source, rate, BLOCK_SECONDS)
        return make_timeline(self, blocks, _name(source), self._threshold(min_confidence), config)

    def stream(
        self,
        sample_rate_hz: int = 16_000,
        hop_seconds: float = 1.0,
        window_seconds: float = 3.0,
        activity: str = "energy",
        min_confidence: float | None = None,
    ) -> Stream:
        """A live stream: feed it samples, and it answers once every hop; see :mod:`affekt.recognition.stream`.

        Raises:
            ConfigError: a hop, window, rate or detector that cannot be used.
        """
        from affekt.recognition.stream import Stream

        threshold = self._threshold(min_confidence)
        return Stream(self, sample_rate_hz, hop_seconds, window_seconds, activity, threshold)

    def map_windows(self, batches: Iterable[Sequence[Floats]]) -> Iterator[Recognized]:
        """Answers for a long row of batches, in order, on all threads; only a few batches are held at a time."""
        return _map(self._beside_others, batches, self.threads)

    def _beside_others(self, waveforms: Sequence[Floats]) -> Recognized:
        """One batch of many, on one core."""
        return _run(self._shared_session, waveforms)

    @cached_property
    def _shared_session(self) -> onnxruntime.InferenceSession:
        """For many recordings: each thread of ours runs on its own core, and none of onnxruntime's beside them."""
        return self._session if self.threads == 1 else _session(self.content, self.name, threads=1)

    def _recognize_chunk(
        self, sources: Sequence[Source], sample_rate_hz: int | None, min_confidence: float | None
    ) -> list[Prediction | Failure]:
        answers: dict[int, Prediction | Failure] = {}
        waveforms: dict[int, Floats] = {}
        for index, source in enumerate(sources):
            try:
                waveforms[index] = self.waveform(source, sample_rate_hz)
            except AffektError as error:
                answers[index] = Failure(_name(source), error)
        for batch in self._batches(waveforms):
            names = [_name(sources[index]) for index in batch]
            clips = [waveforms[index] for index in batch]
            answers |= zip(batch, self._predictions(clips, names, self._beside_others, min_confidence), strict=True)
        return [answers[index] for index in range(len(sources))]

    def _batches(self, waveforms: dict[int, Floats]) -> Iterator[list[int]]:
        """Recordings of similar length together, none of the batches longer than :data:`BATCH_SECONDS`."""
        clip = self.card.clip_samples
        longest = BATCH_SECONDS * self.card.sample_rate_hz
        batch: list[int] = []
        for index in sorted(waveforms, key=lambda index: len(waveforms[index])):
            samples = min(len(waveforms[index]), clip) if self.card.masked else clip
            if batch and (len(batch) + 1) * samples > longest:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _predictions(
        self,
        waveforms: Sequence[Floats],
        names: Sequence[str],
        run: Callable[[Sequence[Floats]], Recognized],
        min_confidence: float | None,
    ) -> list[Prediction]:
        rate, clip = self.card.sample_rate_hz, self.card.clip_samples
        answers = run([waveform[:clip] for waveform in waveforms]).probabilities.tolist()
        threshold = self._threshold(min_confidence)
        return [
            Prediction.of(
                self.labels, answer, threshold, name, 0.0, min(len(waveform), clip) / rate, len(waveform) > clip
            )
            for answer, waveform, name in zip(answers, waveforms, names, strict=True)
        ]

    def waveform(self, source: Source, sample_rate_hz: int | None = None) -> Floats:
        """What :meth:`predict` hears of a recording: its clip at the model's rate, and one sample more if it goes on.

        Raises:
            AudioError: as for :meth:`predict`.
        """
        rate, clip = self.card.sample_rate_hz, self.card.clip_samples
        if isinstance(source, np.ndarray):
            waveform = _array_at_rate(source, sample_rate_hz, rate)[: clip + 1]
        else:
            waveform = audio.load(source, rate, max_seconds=self.card.clip_seconds + MARGIN_SECONDS)[: clip + 1]
        name = _name(source)
        if len(waveform) < SHORTEST_SECONDS * rate:
            got, expected = f"{1_000 * len(waveform) / rate:.0f} ms", f"at least {1_000 * SHORTEST_SECONDS:.0f} ms"
            raise AudioError(name, got=got, expected=expected)
        if np.abs(waveform).max() < QUIETEST_PEAK:
            raise AudioError(name, got="silence (no sample above -80 dB)", expected="speech")
        return waveform

    def _threshold(self, min_confidence: float | None) -> float:
        return self.card.unsure_below if min_confidence is None else min_confidence


def _run(session: onnxruntime.InferenceSession, waveforms: Sequence[Floats]) -> Recognized:
    samples = np.array([len(waveform) for waveform in waveforms], np.int64)
    padded = np.zeros((len(waveforms), samples.max()), np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    try:
        answer = Recognized(*session.run(["probabilities", "embedding"], {"waveform": padded, "samples": samples}))
    except Exception as error:  # onnxruntime's errors share no base class
        raise _unusable_model("one that cannot be run") from error
    _check_answer(answer, len(waveforms))
    return answer


def _check_answer(answer: Recognized, recordings: int) -> None:
    """A model of somebody else's, or a damaged one, may answer with anything."""
    probabilities = answer.probabilities
    if not (np.issubdtype(probabilities.dtype, np.floating) and probabilities.ndim == 2):
        raise _unusable_model(f"answers of type {probabilities.dtype}, shape {list(probabilities.shape)}")
    if len(probabilities) != recordings or not (np.abs(probabilities.sum(1) - 1) < SUM_TOLERANCE).all():
        raise _unusable_model("answers that are no probabilities")
    if (probabilities < 0).any():
        raise _unusable_model("negative probabilities")


def _unusable_model(got: str) -> CheckpointError:
    return CheckpointError("model", got=got, expected="an ONNX file written by `affekt export`")


def _map(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """An ordered map; with one thread in the caller's own, which saves the hand-over."""
    return map(function, items) if threads == 1 else ordered_map(function, items, threads)


def _array_at_rate(samples: Floats, from_hz: int | None, to_hz: int) -> Floats:
    """An array of samples, checked and resampled."""
    faults = list(_array_faults(np.asarray(samples), from_hz))
    if faults:
        raise AudioError.of(faults)
    if from_hz == to_hz:
        return np.asarray(samples, np.float32)
    import soxr

    return np.asarray(soxr.resample(np.asarray(samples, np.float32), from_hz, to_hz), np.float32)


def _array_faults(samples: NDArray[np.generic], rate_hz: int | None) -> Iterator[Fault]:
    lowest, highest = audio.LOWEST_RATE_HZ, audio.HIGHEST_RATE_HZ
    if rate_hz is None or not lowest <= rate_hz <= highest:
        remedy = "pass sample_rate_hz beside an array"
        yield Fault("array: sample rate", got=str(rate_hz), expected=f"{lowest} to {highest} Hz", remedy=remedy)
    if samples.ndim != 1:
        remedy = "average the channels: samples.mean(axis)" if samples.ndim == 2 else ""
        yield Fault("array: shape", got=str(samples.shape), expected="(samples,), mono", remedy=remedy)
    if not np.issubdtype(samples.dtype, np.floating):
        remedy = "divide integers by their largest value"
        yield Fault("array: type", got=str(samples.dtype), expected="floating point samples in [-1, 1]", remedy=remedy)
    elif not np.isfinite(samples).all():
        yield Fault("array", got="NaN or infinity", expected="finite samples")
    elif samples.size and np.abs(samples).max() > audio.LARGEST_PEAK:
        got, remedy = f"a peak of {np.abs(samples).max():g}", "divide integers by their largest value"
        yield Fault("array", got=got, expected="samples in [-1, 1]", remedy=remedy)


def _name(source: Source) -> str:
    return "array" if isinstance(source, np.ndarray) else audio.describe(source)


def _read(path: Path, bundled: bool) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        if bundled:
            got, remedy = "none in this installation", "pass an exported model: --model M.onnx"
            raise CheckpointError("bundled model", got=got, expected=str(path), remedy=remedy) from error
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise CheckpointError(f"model {path}", got=reason, expected="a file written by `affekt export`") from error
    if bundled:
        _verify(path, content)
    return content


def _verify(path: Path, content: bytes) -> None:
    """Compare a file with the SHA-256 in the file beside it."""
    listed = path.with_suffix(".sha256")
    words = listed.read_text(encoding="ascii", errors="replace").split() if listed.exists() else []
    expected = words[0] if words else "no file that says it"
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise CheckpointError(
            "bundled model", got=f"SHA-256 {got[:12]}...", expected=f"{expected[:20]}...", remedy="reinstall affekt"
        )


def _session(model: bytes, name: str, threads: int, cores: Sequence[int] = ()) -> onnxruntime.InferenceSession:
    """A model ready to run on so many threads; with `cores`, all but the caller's each on one of these."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if cores:  # which onnxruntime counts from 1
        affinities = ";".join(str(core + 1) for core in cores)
        options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        remedy = "export the checkpoint first: affekt export" if name.endswith(".safetensors") else ""
        expected = "an ONNX file written by `affekt export`"
        raise CheckpointError(
            f"model {name}", got="no model that can be loaded", expected=expected, remedy=remedy
        ) from error


def _check_ports(session: onnxruntime.InferenceSession, card: ModelCard, name: str) -> None:
    inputs = {port.name: port.type for port in session.get_inputs()}
    widths = {port.name: port.shape[-1] for port in session.get_outputs() if port.shape}
    if inputs != {"waveform": "tensor(float)", "samples": "tensor(int64)"} or "embedding" not in widths:
        got = f"inputs {', '.join(inputs)}; outputs {', '.join(widths)}"
        expected = "inputs waveform, samples; outputs probabilities, embedding"
        raise CheckpointError(f"model {name}", got=got, expected=expected)
    if widths.get("probabilities") != len(card.labels):
        got = f"{widths.get('probabilities')} probabilities"
        raise CheckpointError(f"model {name}", got=got, expected=f"one for each of the {len(card.labels)} labels")
