"""One recording that several rows name: with other labels, with other speakers, or simply twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from affekt.data.corpora.release import Note, Row, noted


def contradictions(rows: Iterable[Row]) -> list[Note]:
    """Notes on rows that name the same part of the same file.

    >>> rows = [{"path": "a.wav", "label": label, "speaker": "x"} for label in ("happy", "sad", "happy")]
    >>> for note in contradictions(rows):
    ...     print(note)
    one recording under different labels: 1 (a.wav is happy 2 times, sad); correct the table
    """
    groups: dict[tuple[str, float, float], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["path"], row.get("start") or 0.0, row.get("end") or 0.0].append(row)
    repeated = [(key, group) for key, group in groups.items() if len(group) > 1]
    labels, speakers, twice = [], [], []
    for (path, start, end), group in repeated:
        name = path + (f" from {start:g} s" if start else "") + (f" to {end:g} s" if end else "")
        said = Counter(str(row["label"]) for row in group)
        spoken = Counter(str(row.get("speaker") or "") for row in group)
        if len(said) > 1:
            labels.append(f"{name} is {_tally(said)}")
        if len(set(spoken) - {""}) > 1:
            speakers.append(f"{name} is of {_tally(spoken)}")
        if len(said) == 1:
            twice.append(f"{name} {len(group)} times")
    return [
        *(replace(note, warning=True) for note in noted("one recording under different labels", labels, MEND)),
        *(replace(note, warning=True) for note in noted("one recording under different speakers", speakers, MEND)),
        *noted("recordings that are listed more than once", twice),
    ]


MEND = "correct the table"


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count} times" if count > 1 else name for name, count in counts.items() if name)
