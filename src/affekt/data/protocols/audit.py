"""Audit of folds: groups that the parts share are refused or recorded, as the protocol says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd

from affekt.data.protocols.utterances import COLUMNS, DUPLICATES, Grouping, Rows, Utterances, refuse, some
from affekt.errors import Fault

PARTS = ("train", "validation", "test")
YES, NO, UNKNOWN = "yes", "no", "unknown"


@dataclass(frozen=True, slots=True)
class Fold:
    """Ids of the utterances that one model is trained, validated and tested on.

    Attributes:
        index: number of the fold, from 0.
        train: utterances that the weights are fitted to.
        validation: utterances that decide when to stop and which settings are kept.
        test: utterances that are measured, once.
        held_out: the speaker, session or corpus that is tested, if it is one.
    """

    index: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    held_out: str = ""

    def parts(self) -> dict[str, tuple[str, ...]]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a protocol.

    Attributes:
        disjoint: groups that no two parts of a fold may share. (Utterances and duplicates they never may.)
        every_class: whether validation and test must hold every class. (Training always must.)
    """

    disjoint: tuple[str, ...] = ()
    every_class: bool = True


RULES: Mapping[str, Rules] = MappingProxyType(
    {
        "random": Rules(),
        "speaker": Rules(disjoint=("speakers",)),
        "text": Rules(disjoint=("texts",)),
        "session": Rules(disjoint=("sessions",), every_class=False),
        "loso": Rules(disjoint=("speakers",), every_class=False),
        "corpus": Rules(disjoint=("corpora",), every_class=False),
        "emobox": Rules(every_class=False),
        "fixed": Rules(every_class=False),
    }
)
"""Protocols by name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether parts share something: ``yes``, ``no``, or ``unknown`` if the manifest does not tell.

    Attributes:
        test: the test part, with training or validation.
        validation: the validation part, with training.
        examples: some groups that the test part shares.
    """

    test: str
    validation: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit of all folds of a plan.

    Attributes:
        shared: ``speakers``, ``sessions``, ``texts``, ``corpora`` and ``duplicates`` -> the finding; sessions and
            corpora only if there are several.
        missing_classes: parts of folds without an utterance of some class.
        unused: utterances of the manifest that are in no fold.
    """

    shared: Mapping[str, Finding] = field(default_factory=dict)
    missing_classes: tuple[str, ...] = ()
    unused: int = 0


def audit(folds: Sequence[Fold], utterances: Utterances, protocol: str) -> Audit:
    """Audit folds by the rules of their protocol.

    Args:
        folds: the folds.
        utterances: the manifest's rows and their groups.
        protocol: a name in :data:`RULES`.

    Raises:
        ProtocolError: everything that the protocol forbids, with examples: unknown or repeated ids, empty parts,
            classes that are missing, and speakers, sessions, texts, corpora or duplicates on both sides.
    """
    index = pd.Index(utterances.ids, dtype=object)
    rows = [{part: _rows(ids, index) for part, ids in fold.parts().items()} for fold in folds]
    refuse(fault for fold, parts in zip(folds, rows, strict=True) for fault in _id_faults(fold, parts, utterances))
    rules = RULES[protocol]
    missing = [
        gap for fold, parts in zip(folds, rows, strict=True) for gap in _missing_classes(fold, parts, utterances)
    ]
    forbidden = [gap for gap in missing if rules.every_class or gap.part == "train"]
    leaks = [
        leak for fold, parts in zip(folds, rows, strict=True) for leak in _leaks(fold, parts, utterances, protocol)
    ]
    refuse([*map(_missing_class_fault, forbidden), *leaks])
    used = np.zeros(len(utterances.ids), bool)
    used[np.concatenate([part for parts in rows for part in parts.values()])] = True
    return Audit(
        {name: _finding(rows, utterances.shared[name]) for name in _reported(utterances)},
        tuple(map(str, missing)),
        int((~used).sum()),
    )


def _rows(ids: Sequence[str], index: pd.Index) -> Rows:
    """The row of each id; -1 where the manifest lacks it."""
    return np.asarray(index.get_indexer(pd.Index(ids, dtype=object)), np.int64)


def _id_faults(fold: Fold, rows: Mapping[str, Rows], utterances: Utterances) -> Iterator[Fault]:
    for part, ids in fold.parts().items():
        if not ids:
            yield Fault(f"fold {fold.index}: {part}", got="no utterance", expected="at least one")
        unknown = [ids[place] for place in np.flatnonzero(rows[part] < 0)]
        if unknown:
            yield Fault(
                f"fold {fold.index}: {part}",
                got=f"{len(unknown)} ids that the manifest lacks ({some(unknown)})",
                expected="ids of the manifest",
                remedy="use the manifest, and its label set, that the folds were made for",
            )
    known = np.concatenate([part[part >= 0] for part in rows.values()])
    twice = utterances.names(np.flatnonzero(np.bincount(known, minlength=1) > 1))
    if twice:
        yield Fault(f"fold {fold.index}", got=f"{some(twice)} more than once", expected="each utterance in one part")


@dataclass(frozen=True, slots=True)
class _Gap:
    fold: int
    part: str
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return f"fold {self.fold} {self.part}: {', '.join(self.classes)}"


def _missing_classes(fold: Fold, parts: Mapping[str, Rows], utterances: Utterances) -> Iterator[_Gap]:
    for part, rows in parts.items():
        present = set(utterances.labels.codes[rows].tolist())
        absent = tuple(name for code, name in enumerate(utterances.labels.names) if code not in present)
        if absent:
            yield _Gap(fold.index, part, absent)


def _missing_class_fault(gap: _Gap) -> Fault:
    return Fault(
        f"fold {gap.fold}: {gap.part}",
        got=f"no utterance of {', '.join(gap.classes)}",
        expected="every class",
        remedy="use fewer folds, another seed or fewer classes",
    )


def _leaks(fold: Fold, parts: Mapping[str, Rows], utterances: Utterances, protocol: str) -> Iterator[Fault]:
    """Groups that two parts share although the protocol forbids it."""
    for name in (*RULES[protocol].disjoint, DUPLICATES):
        grouping = utterances.shared[name]
        for first, second in _pairs(name):
            codes = _common(grouping, parts[first], parts[second])
            if len(codes):
                pairs = [_witnesses(grouping, code, parts[first], parts[second], utterances) for code in codes]
                yield Fault(
                    f"fold {fold.index}: {name} in both {first} and {second}",
                    got=some(pairs),
                    expected=f"none under protocol {protocol}",
                    remedy="leave one of them out" if name == DUPLICATES else "",
                )


def _pairs(name: str) -> tuple[tuple[str, str], ...]:
    """Parts that may not share it; corpora are kept out of the test part only, for validation needs some too."""
    tested = (("train", "test"), ("validation", "test"))
    return tested if name == "corpora" else (*tested, ("train", "validation"))


def _common(grouping: Grouping, first: Rows, second: Rows) -> Rows:
    """Codes that occur in both; the last slot takes in the unknown code -1, and is dropped."""
    found = np.zeros((2, len(grouping.names) + 1), bool)
    found[0, grouping.codes[first]] = True
    found[1, grouping.codes[second]] = True
    return np.flatnonzero(found[:, :-1].all(axis=0))


def _witnesses(grouping: Grouping, code: int, first: Rows, second: Rows, utterances: Utterances) -> str:
    """An utterance of either side that shares the code."""
    ids = [utterances.ids[rows[np.argmax(grouping.codes[rows] == code)]] for rows in (first, second)]
    if grouping is utterances.shared[DUPLICATES]:
        return " = ".join(ids)
    return f"{grouping.names[code]} ({', '.join(ids)})"


def _reported(utterances: Utterances) -> list[str]:
    several = [name for name in ("sessions", "corpora") if len(utterances.shared[name].names) > 1]
    return [name for name in (*COLUMNS, DUPLICATES) if name in ("speakers", "texts", DUPLICATES) or name in several]


def _finding(folds: Sequence[Mapping[str, Rows]], grouping: Grouping) -> Finding:
    test, validation = set[int](), set[int]()
    unknown = False
    for parts in folds:
        learnt = np.concatenate([parts["train"], parts["validation"]])
        test |= set(_common(grouping, learnt, parts["test"]).tolist())
        validation |= set(_common(grouping, parts["train"], parts["validation"]).tolist())
        unknown |= bool((grouping.codes[np.concatenate([learnt, parts["test"]])] < 0).any())
    examples = tuple(grouping.names[code] for code in sorted(test)[:3])
    return Finding(_status(test, unknown), _status(validation, unknown), examples)


def _status(shared: set[int], unknown: bool) -> str:
    return YES if shared else UNKNOWN if unknown else NO
