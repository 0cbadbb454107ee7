"""Measures of the model file on corpora and sounds that trained nothing: one table for each question."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.measures.metrics import confusion_matrix, expected_calibration_error, recall, unweighted_accuracy
from affekt.measures.statistics import Clusters, cluster_bootstrap
from affekt.recognition.adaptation import baseline_shift, parameters_of, speaker_shift
from affekt.recognition.prediction import Recognized
from affekt.recognition.recognizer import Recognizer
from bundled.recordings import CLASSES, RATE_HZ, Corpus, Waveform, evenly
from bundled.sounds import KINDS, sound
from bundled.variations import (
    Generator,
    babble,
    clipped,
    colored,
    companded,
    faster,
    generator,
    low_pass,
    mp3,
    opus,
    reverberated,
    with_noise,
)

Change = Callable[[Waveform, Generator, Sequence[Waveform]], Waveform]
PER_CLASS = 40
"""Recordings of each class and corpus under each condition, spread evenly over the corpus."""
OTHERS_PER_CORPUS = 300
SOUNDS_PER_KIND = 5
ENROLLED = 3


def conditions() -> dict[str, Change]:
    """Changes that a recording may go through, by name."""
    found: dict[str, Change] = {"as recorded": lambda x, rng, voices: x}
    for hertz in (3_400, 4_000, 5_500):
        found[f"band up to {hertz / 1000:g} kHz"] = lambda x, rng, voices, h=hertz: low_pass(x, h)
    for rate in (24, 64):
        found[f"MP3, {rate} kbit/s"] = lambda x, rng, voices, r=rate: mp3(x, r)
    found["Opus, 12 kbit/s"] = lambda x, rng, voices: opus(x, 0.976)
    found["mu-law, 8 kHz"] = lambda x, rng, voices: companded(x)
    if has_amr():
        found["AMR, 12.2 kbit/s"] = lambda x, rng, voices: amr(x)
    for snr in (20, 10, 5):
        found[f"white noise, {snr} dB"] = lambda x, rng, voices, s=snr: with_noise(x, colored(rng, len(x)), s)
        found[f"babble, {snr} dB"] = lambda x, rng, voices, s=snr: with_noise(x, babble(rng, len(x), voices, 6), s)
    found["reverberation, 0.5 s, 0 dB"] = lambda x, rng, voices: reverberated(x, rng, 0.5, 0.0)
    for share in (0.01, 0.1):
        found[f"clipping, {share:.0%} of samples"] = lambda x, rng, voices, s=share: clipped(x, s)
    for decibels in (-40, -20, 20):
        gain = 10 ** (decibels / 20)
        found[f"level {decibels:+d} dB, 16 bits"] = lambda x, rng, voices, g=gain: in_16_bits(0.1 * g * x)
    for factor in (0.9, 1.1):
        found[f"speed {factor:g}"] = lambda x, rng, voices, f=factor: faster(x, f)
    for seconds in (1.0, 2.0):
        found[f"first {seconds:g} s"] = lambda x, rng, voices, s=seconds: x[: round(s * RATE_HZ)]
    return found


def in_16_bits(x: Waveform) -> Waveform:
    """Limited to full scale and rounded."""
    rounded: Waveform = np.round(np.clip(x, -1, 1) * 32_767).astype(np.float32) / np.float32(32_767)
    return rounded


def has_amr() -> bool:
    """Whether PyAV is here, with the codec of mobile telephones."""
    try:
        import av
    except ImportError:
        return False
    return "libopencore_amrnb" in av.codecs_available


def amr(x: Waveform) -> Waveform:
    """Adaptive Multi-Rate, narrow band, at 12.2 kbit/s."""
    import av

    buffer = io.BytesIO()
    pcm = np.round(32_000 * x / (np.abs(x).max() + 1e-6)).astype(np.int16)
    with av.open(buffer, "w", format="amr") as file:
        stream = file.add_stream("libopencore_amrnb", rate=8_000, layout="mono")
        stream.bit_rate = 12_200
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        resampler = av.AudioResampler(format="s16", layout="mono", rate=8_000, frame_size=160)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return np.asarray(audio.load(buffer.getvalue(), RATE_HZ)[: len(x)], np.float32)


def run(recognizer: Recognizer, waveforms: Sequence[Waveform]) -> Recognized:
    """The model's answers, recording by recording."""
    answers = list(recognizer.map_windows([x] for x in waveforms))
    columns = [np.concatenate(column) for column in zip(*answers, strict=True)]
    return Recognized(*columns)


class Answers:
    """Answers for recordings of one corpus, with what is true of them."""

    def __init__(self, recognizer: Recognizer, corpus: Corpus, answer: Recognized) -> None:
        card = recognizer.card
        assert answer.speech is not None
        assert answer.outlier is not None
        assert card.speech_below is not None
        assert card.outlier_above is not None
        self.corpus, self.answer = corpus, answer
        self.speech = answer.speech >= card.speech_below
        self.typical = answer.outlier <= card.outlier_above
        confidence = answer.probabilities.max(1)
        self.sure = self.speech & self.typical & (confidence >= card.unsure_below)

    def described(self) -> dict[str, Any]:
        """UA with its 95 % interval over speakers, recalls, calibration, sure answers, those of other emotions."""
        rows = self.corpus.of_class
        labels, probabilities = self.corpus.labels[rows], self.answer.probabilities[rows]
        found = accuracy(labels, probabilities.argmax(1), self.corpus.speakers[rows])
        sure, weight = self.sure[rows], 1 / np.bincount(labels)[labels]
        found["ece"] = rounded(expected_calibration_error(probabilities.astype(np.float64), labels))
        found["coverage"] = rounded(np.average(sure, weights=weight))
        if sure.any():
            found["sure_right"] = rounded(np.average(probabilities.argmax(1) == labels, weights=weight * sure))
        found["speech_passed"] = rounded(self.speech.mean())
        found["typical"] = rounded(self.typical.mean())
        if not rows.all():
            found |= {"others": int((~rows).sum()), "others_sure": rounded(self.sure[~rows].mean())}
        return found


def accuracy(labels: NDArray[np.int64], predicted: NDArray[np.int64], speakers: NDArray[np.str_]) -> dict[str, Any]:
    """UA with its interval, and the recall of each class."""
    clusters = Clusters.of(speakers.tolist(), [str(row) for row in range(len(labels))])
    counts = np.zeros((clusters.count, len(CLASSES), len(CLASSES)))
    np.add.at(counts, (clusters.index, labels, predicted), 1)
    low, high = cluster_bootstrap(counts, unweighted_accuracy, seed=0)
    confusion = confusion_matrix(labels, predicted, len(CLASSES))
    return {
        "utterances": len(labels),
        "speakers": clusters.count,
        "ua": rounded(unweighted_accuracy(confusion)),
        "ua_low": rounded(low),
        "ua_high": rounded(high),
        "recall": dict(zip(CLASSES, np.round(recall(confusion), 4).tolist(), strict=True)),
    }


def rounded(value: Any) -> float:
    """Four digits, as a plain float."""
    return round(float(value), 4)


def measure(recognizer: Recognizer, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """All tables."""
    unseen, speaker, baseline = {}, {}, {}
    for corpus in corpora:
        others = np.flatnonzero(~corpus.of_class)
        some = others[np.linspace(0, len(others) - 1, min(OTHERS_PER_CORPUS, len(others))).astype(int)]
        part = corpus.take(np.sort(np.concatenate([np.flatnonzero(corpus.of_class), some])))
        answer = run(recognizer, part.waveforms)
        unseen[corpus.name] = Answers(recognizer, part, answer).described()
        speaker[corpus.name] = adapted(recognizer, part, answer.embeddings)
        baseline[corpus.name] = enrolled(recognizer, part, answer.embeddings)
        print(corpus.name, unseen[corpus.name], flush=True)
    tables = {"unseen": unseen, "adapt_speaker": speaker, "adapt_baseline": baseline}
    tables = {name: {"corpora": rows, "mean": means(rows)} for name, rows in tables.items()}
    return tables | {"conditions": robustness(recognizer, corpora), "sounds": no_speech(recognizer)}


def means(rows: dict[str, Any]) -> dict[str, float]:
    """Means over corpora of what is a share."""
    names = ("ua", "coverage", "sure_right", "speech_passed", "typical", "others_sure")
    return {n: rounded(np.mean([row[n] for row in rows.values()])) for n in names if all(n in r for r in rows.values())}


def adapted(recognizer: Recognizer, corpus: Corpus, embeddings: NDArray[np.float32]) -> dict[str, Any]:
    """Answers with each speaker's shift taken out, estimated from the speaker's unlabeled recordings of all classes."""
    head, parameters = recognizer.output_layer, parameters_of(recognizer.card, "speaker", recognizer.name)
    predicted = np.zeros(len(embeddings), np.int64)
    for speaker in np.unique(corpus.speakers):
        rows = np.flatnonzero(corpus.of_class & (corpus.speakers == speaker))
        shift = speaker_shift(embeddings[rows], head, parameters)
        predicted[rows] = head.logits(embeddings[rows] - shift.vector).argmax(1)
    rows = np.flatnonzero(corpus.of_class)
    return accuracy(corpus.labels[rows], predicted[rows], corpus.speakers[rows])


def enrolled(recognizer: Recognizer, corpus: Corpus, embeddings: NDArray[np.float32]) -> dict[str, Any]:
    """Answers with three neutral recordings of each speaker known; these are not counted."""
    head, parameters = recognizer.output_layer, parameters_of(recognizer.card, "baseline", recognizer.name)
    labels, kept, predicted = corpus.labels, [], np.zeros(len(embeddings), np.int64)
    for speaker in np.unique(corpus.speakers):
        rows = np.flatnonzero(corpus.of_class & (corpus.speakers == speaker))
        neutral = generator("enrolled", speaker).permutation(rows[labels[rows] == CLASSES.index("neutral")])[:ENROLLED]
        if len(neutral):
            rest = np.setdiff1d(rows, neutral)
            shift = baseline_shift(embeddings[neutral], parameters)
            predicted[rest] = head.logits(embeddings[rest] - shift.vector).argmax(1)
            kept.append(rest)
    rows = np.concatenate(kept)
    return accuracy(labels[rows], predicted[rows], corpus.speakers[rows])


def robustness(recognizer: Recognizer, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """Mean UA over corpora under each condition, and its difference from the same recordings as they are."""
    parts = [corpus.take(evenly(corpus, PER_CLASS)) for corpus in corpora]
    found: dict[str, Any] = {}
    for name, change in conditions().items():
        rows = {}
        for part in parts:
            changed = [
                np.asarray(change(x, generator(name, one), part.waveforms), np.float32)
                for x, one in zip(part.waveforms, part.ids, strict=True)
            ]
            rows[part.name] = Answers(recognizer, part, run(recognizer, changed)).described()
        found[name] = means(rows) | {"corpora": {corpus: row["ua"] for corpus, row in rows.items()}}
        found[name]["difference"] = rounded(found[name]["ua"] - found["as recorded"]["ua"])
        print(name, found[name], flush=True)
    return {"recordings": sum(len(part.ids) for part in parts), "rows": found}


def no_speech(recognizer: Recognizer) -> dict[str, Any]:
    """Sounds that are not speech, drawn anew: the share that gets an emotion, sure or not, of each kind."""
    card = recognizer.card
    assert card.speech_below is not None
    shares = {}
    for kind in KINDS:
        answer = run(recognizer, [sound(kind, number, "measure") for number in range(SOUNDS_PER_KIND)])
        assert answer.speech is not None
        shares[kind] = rounded((answer.speech >= card.speech_below).mean())
    taken = {kind: share for kind, share in shares.items() if share > 0}
    count = len(KINDS) * SOUNDS_PER_KIND
    return {
        "sounds": count,
        "kinds": len(KINDS),
        "given_an_emotion": rounded(np.mean(list(shares.values()))),
        "of": taken,
    }


def for_card(found: dict[str, Any]) -> dict[str, Any]:
    """The main figures, for the file's card."""
    rows = found["conditions"]["rows"]
    return {
        "unseen": {
            name: {k: row[k] for k in ("ua", "ua_low", "ua_high")} for name, row in found["unseen"]["corpora"].items()
        },
        "unseen_mean": found["unseen"]["mean"],
        "adapted_mean_ua": {name: found[f"adapt_{name}"]["mean"]["ua"] for name in ("speaker", "baseline")},
        "left_out_mean_ua": found["left_out"]["mean_ua"],
        "points_from_clean": {name: round(100 * row["difference"], 1) for name, row in rows.items()},
        "sounds_given_an_emotion": found["sounds"]["given_an_emotion"],
    }
