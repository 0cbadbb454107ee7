"""Comparison of a user's copy with the full release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from affekt.data.corpora.release import Corpus, Note, Row
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest


def compare_release(corpus: Corpus, rows: list[Row]) -> list[Note]:
    """Notes on numbers of utterances per label and of speakers that differ from the full release.

    >>> corpus = Corpus("c", "C", ("en",), "", "", "", "", read=lambda root: None, speakers=1, label_counts={"sad": 3})
    >>> for note in compare_release(corpus, [{"label": "sad", "speaker": "c-1"}]):
    ...     print(note)
    release: got 1 utterances, sad 1 (-2), expected 3
    """
    notes = []
    counts = Counter(row["label"] for row in rows)
    if corpus.label_counts and (differences := _differences(counts, corpus.label_counts)):
        notes.append(Note("release", got=f"{len(rows)} utterances, {differences}", expected=str(corpus.utterances)))
    speakers = len({row["speaker"] for row in rows})
    if corpus.speakers and speakers != corpus.speakers:
        notes.append(Note("speakers", got=str(speakers), expected=str(corpus.speakers)))
    return notes


def compare_classes(corpus: Corpus, labels: LabelSet, manifest: Manifest) -> list[Note]:
    """Notes on numbers of utterances per class of a label set, and per session if known, that are not as expected."""
    expected = {name: count for name, count in corpus.expected_counts(labels).items() if count}
    sessions = zip(manifest.table["session"], manifest.labels, strict=True)
    got = Counter((session.removeprefix(f"{corpus.name}-"), label) for session, label in sessions)
    parts = [_differences(Counter(manifest.labels), expected)]
    for session, counts in corpus.session_counts.get(labels.name, {}).items():
        here = {label: got[session, label] for label in labels.classes}
        total = _difference("all", sum(here.values()), sum(counts.values()))
        details = ", ".join(filter(None, (total, _differences(here, counts))))
        parts.append(f"session {session}: {details}" if details else "")
    different = "; ".join(filter(None, parts))
    if not expected or not different:
        return []
    remedy = "results on another number do not compare with published ones; see the other notes for what is missing"
    wanted = f"{sum(expected.values())} ({', '.join(f'{name} {count}' for name, count in expected.items())})"
    got_all = f"{len(manifest)} utterances, {different}"
    return [Note(f"label set {labels.name}", got=got_all, expected=wanted, remedy=remedy, warning=True)]


def _differences(counts: Mapping[str, int], expected: Mapping[str, int]) -> str:
    """Each count that differs from the expected one, with the difference."""
    names = dict.fromkeys([*expected, *counts])
    return ", ".join(filter(None, (_difference(name, counts.get(name, 0), expected.get(name, 0)) for name in names)))


def _difference(name: str, got: int, expected: int) -> str:
    return f"{name} {got} ({got - expected:+d})" if got != expected else ""
