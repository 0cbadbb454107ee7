"""Recordings by speaker: the shift of each, and answers that are adapted to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affekt.errors import AudioError, ConfigError
from affekt.recognition.adaptation import Shift, baseline_shift, parameters_of, speaker_shift
from affekt.recognition.prediction import Failure, Prediction
from affekt.recognition.sources import Source

if TYPE_CHECKING:
    from affekt.recognition.recognizer import Recognizer

Floats = NDArray[np.float32]


def shift_of(
    recognizer: Recognizer,
    recordings: Iterable[Source],
    baseline: Iterable[Source],
    sample_rate_hz: int | None = None,
) -> Shift:
    """The shift of one speaker.

    Args:
        recognizer: without an adaptation.
        recordings: of the speaker; those that cannot be used are left out.
        baseline: of the speaker when calm; all must be usable.
        sample_rate_hz: of arrays that do not bring their own.

    Raises:
        ConfigError: a model without parameters for this, or both or none of the two kinds.
        AudioError: no recording in which somebody speaks.
    """
    recordings, baseline = list(recordings), list(baseline)
    if bool(recordings) == bool(baseline):
        got = "both" if baseline else "neither"
        raise ConfigError("adaptation", got=got, expected="recordings of a speaker, or of the speaker when calm")
    kind = "baseline" if baseline else "speaker"
    parameters = parameters_of(recognizer.card, kind, recognizer.name)
    head = recognizer.output_layer
    found = list(_embeddings(recognizer, recordings or baseline, sample_rate_hz, skip=not baseline))
    if not found:
        raise AudioError("adaptation", got="no recording in which somebody speaks", expected="one or more")
    embeddings = np.concatenate(found)
    return baseline_shift(embeddings, parameters) if baseline else speaker_shift(embeddings, head, parameters)


def _embeddings(
    recognizer: Recognizer, sources: Iterable[Source], sample_rate_hz: int | None, skip: bool
) -> Iterator[Floats]:
    """Embeddings of the speech in each recording, [stretches, features]."""
    for source in sources:
        try:
            found = recognizer.speech_embeddings(source, sample_rate_hz)
        except AudioError:
            if not skip:
                raise
            continue
        if len(found):
            yield found


def predict_speakers(
    recognizer: Recognizer,
    sources: Sequence[Source | Failure],
    speakers: Sequence[str],
    sample_rate_hz: int | None,
    options: Mapping[str, Any],
) -> Iterator[Prediction | Failure]:
    """Predictions in the order of the sources, each adapted to its speaker by all recordings of this speaker.

    Args:
        recognizer: the model.
        sources: recordings and segments; failures are passed on.
        speakers: who speaks in each.
        sample_rate_hz: of arrays that do not bring their own.
        options: keyword arguments of `Recognizer.predict_many`.

    Raises:
        ConfigError: as many speakers as sources are needed, and a model that can be adapted.
    """
    if len(speakers) != len(sources):
        got = f"{len(speakers)} for {len(sources)} recordings"
        raise ConfigError("speakers", got=got, expected="one for each recording")
    parameters_of(recognizer.card, "speaker", recognizer.name)
    return _predictions(recognizer, sources, speakers, sample_rate_hz, options)


def _predictions(
    recognizer: Recognizer,
    sources: Sequence[Source | Failure],
    speakers: Sequence[str],
    sample_rate_hz: int | None,
    options: Mapping[str, Any],
) -> Iterator[Prediction | Failure]:
    answers: dict[int, Prediction | Failure] = {}
    for index, (source, speaker) in enumerate(zip(sources, speakers, strict=True)):
        if isinstance(source, Failure):
            yield source
            continue
        if index not in answers:
            same = [
                other
                for other, name in enumerate(speakers)
                if name == speaker and not isinstance(sources[other], Failure)
            ]
            own = [sources[other] for other in same]
            voice = adapted_to(recognizer, own, sample_rate_hz)
            found = voice.predict_many(iter(own), sample_rate_hz=sample_rate_hz, **options)
            answers |= zip(same, found, strict=True)
        yield answers.pop(index)


def by_speaker(
    recognizer: Recognizer, sources: Sequence[Source | Failure], speakers: Sequence[str]
) -> Iterator[Recognizer]:
    """The recognizer adapted to the speaker of each source, in the order of the sources.

    Raises:
        ConfigError: a model that cannot be adapted.
    """
    parameters_of(recognizer.card, "speaker", recognizer.name)
    known: dict[str, Recognizer] = {}
    for speaker in speakers:
        if speaker not in known:
            own = [source for source, name in zip(sources, speakers, strict=True) if name == speaker]
            usable = [source for source in own if not isinstance(source, Failure)]
            known[speaker] = adapted_to(recognizer, usable) if usable else recognizer
        yield known[speaker]


def adapted_to(recognizer: Recognizer, sources: Sequence[Source], sample_rate_hz: int | None = None) -> Recognizer:
    """The recognizer adapted to one speaker; as it is where none of the recordings can be used."""
    try:
        return recognizer.adapted(sources, sample_rate_hz=sample_rate_hz)
    except AudioError:
        return recognizer
