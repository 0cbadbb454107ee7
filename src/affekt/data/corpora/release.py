"""Facts about a corpus, the result of reading a release, and notes on its irregularities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from affekt.data.labels import LabelSet
from affekt.errors import Fault

Row: TypeAlias = dict[str, Any]
"""One utterance; keys are the columns of :mod:`affekt.data.manifest`."""

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Note(Fault):
    """One kind of irregularity of a release, in one line however many files it concerns.

    Attributes:
        items: names of the files or rows concerned; the line shows their number and the first few.
        failed: True if the items are left out of the manifest though they should be in it.
        warning: True if results on this manifest may be misleading.

    >>> print(Note("missing recordings", items=("a", "b", "c", "d", "e"), remedy="fetch the release again"))
    missing recordings: 5 (a, b, c and 2 more); fetch the release again
    >>> print(Note("speakers", got="9", expected="10"))
    speakers: got 9, expected 10
    """

    items: tuple[str, ...] = ()
    failed: bool = False
    warning: bool = False

    def __str__(self) -> str:
        what = f"{self.what}: {len(self.items):,} ({_examples(self.items)})" if self.items else self.what
        return str(Fault(what, self.got, self.expected, self.remedy))


def _examples(items: tuple[str, ...]) -> str:
    shown = ", ".join(items[:EXAMPLES])
    return f"{shown} and {len(items) - EXAMPLES:,} more" if len(items) > EXAMPLES else shown


def noted(what: str, items: Iterable[str], remedy: str = "", *, failed: bool = False) -> list[Note]:
    """A list with one note on the items; an empty list without items.

    >>> noted("missing recordings", [])
    []
    """
    names = tuple(items)
    return [Note(what, remedy=remedy, items=names, failed=failed)] if names else []


@dataclass(frozen=True)
class Release:
    """The result of reading a release.

    Attributes:
        rows: one per utterance whose recording is there. Speakers and sessions are named as the corpus names them;
            :func:`affekt.data.corpora.prepare` makes them unique across corpora.
        root: folder that the paths in the rows start from.
        notes: what is missing, extra, duplicated or contradictory.
        label_column: what the user's table calls the column of the labels.
    """

    rows: list[Row]
    root: Path
    notes: list[Note] = field(default_factory=list)
    label_column: str = "label"


@dataclass(frozen=True)
class Corpus:
    """Facts about a corpus, and its reader.

    Attributes:
        name: how users ask for it.
        title: its full name.
        languages: BCP 47 tags; the first is used where a reader does not say.
        style: ``acted``, ``improvised``, ``scripted``, ``natural``, or empty if it varies or is unknown.
        license: in short.
        page: web page of the release.
        layout: what a release looks like on disk.
        read: reads a folder (or file) on disk.
        speakers: in the full release; 0 if any number is right.
        label_counts: utterances per canonical label in the full release; empty if any number is right.
        session_counts: label set -> session -> class -> utterances, if known.
        options: keyword arguments of the reader.
        remarks: advice for users of the corpus.
        generated: whether `read` creates the corpus if the root is empty or does not exist.
    """

    name: str
    title: str
    languages: tuple[str, ...]
    style: str
    license: str
    page: str
    layout: str
    read: Callable[..., Release]
    speakers: int = 0
    label_counts: Mapping[str, int] = field(default_factory=dict)
    session_counts: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    remarks: str = ""
    generated: bool = False

    @property
    def utterances(self) -> int:
        """Utterances in the full release; 0 where any number is right."""
        return sum(self.label_counts.values())

    def expected_counts(self, labels: LabelSet) -> dict[str, int]:
        """Utterances of the full release in each class of a label set, in the order of its classes."""
        counts = Counter[str]()
        for label, number in self.label_counts.items():
            if name := labels.class_of(label):
                counts[name] += number
        return {name: counts[name] for name in labels.classes}
