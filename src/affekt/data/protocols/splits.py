"""The protocols that make folds.

All follow the proportions of Zhou & Liu (2020, section 4.1), 0.55 : 0.25 : 0.2 with five folds, as far as whole groups
allow: the test part is one fold, and 25/80 of the rest validate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from affekt.data.protocols.audit import Fold
from affekt.data.protocols.utterances import DUPLICATES, Rows, Utterances, refuse
from affekt.errors import Fault, ProtocolError

VALIDATION_SHARE = 0.25 / 0.8  # of what is not tested
SHUFFLES = 10  # partitions of few groups that are tried for the most even one ...
SHUFFLED_GROUPS = 200  # ... so many that this number of groups is placed in all

Codes = NDArray[np.int64]
Parts = tuple[Rows, Rows, Rows]  # train, validation, test


@dataclass(frozen=True, slots=True)
class Settings:
    """The user's choices.

    Attributes:
        folds: number of folds, if the protocol leaves it open.
        seed: seed of every choice.
        train_corpora: for `corpus`: the corpora to train on; empty for all.
        test_corpora: for `corpus`: the corpora to test, one fold each; empty for all.
    """

    folds: int = 5
    seed: int = 0
    train_corpora: tuple[str, ...] = ()
    test_corpora: tuple[str, ...] = ()


def random(utterances: Utterances, settings: Settings) -> Iterator[Fold]:
    """The paper's protocol: utterances at random, stratified by class; speakers and texts are shared.

    Copies of one recording go into the same part, so that none is both trained and tested on.
    """
    units = utterances.shared[DUPLICATES].units()
    labels = utterances.labels.codes[_first_of_each(units)]
    _require_members(utterances, labels, settings.folds, "recordings")
    outer = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    for index, (rest, test) in enumerate(outer.split(labels, labels)):
        train, validation = _stratified(labels, rest, settings.seed)
        parts = tuple(np.flatnonzero(np.isin(units, part)) for part in (train, validation, test))
        yield _fold(utterances, index, parts)


def speaker(utterances: Utterances, settings: Settings) -> Iterator[Fold]:
    """Speakers are trained, validated or tested on; every speaker is tested once."""
    return _by_group(utterances, settings, "speakers", "speaker")


def text(utterances: Utterances, settings: Settings) -> Iterator[Fold]:
    """Texts are trained, validated or tested on; every text is tested once."""
    return _by_group(utterances, settings, "texts", "text")


def session(utterances: Utterances, settings: Settings) -> Iterator[Fold]:
    """One session is tested and another one validates, the next in order; the seed rotates which one is next.

    Where a session has two speakers, as in IEMOCAP, some authors validate on one and test on the other. They talk to
    each other, so here the validation part never comes from the test session.
    """
    grouping = utterances.require("sessions", "session")
    order = np.argsort(grouping.names)
    _require_groups("session", "sessions", len(order), 3)
    for index, tested in enumerate(order):
        validating = order[(index + 1 + settings.seed % (len(order) - 1)) % len(order)]
        is_test, is_validation = grouping.codes == tested, grouping.codes == validating
        masks = (~is_test & ~is_validation, is_validation, is_test)
        yield _fold(utterances, index, tuple(map(np.flatnonzero, masks)), grouping.names[tested])


def leave_one_speaker_out(utterances: Utterances, settings: Settings) -> Iterator[Fold]:
    """Each speaker is tested alone; some of the others validate."""
    grouping = utterances.require("speakers", "loso")
    _require_groups("loso", "speakers", len(grouping.names), 3)
    for index, tested in enumerate(np.argsort(grouping.names)):
        is_test = grouping.codes == tested
        train, validation = _grouped(utterances.labels.codes, grouping.codes, np.flatnonzero(~is_test), settings.seed)
        yield _fold(utterances, index, (train, validation, np.flatnonzero(is_test)), grouping.names[tested])


def corpus(utterances: Utterances, settings: Settings) -> Iterator[Fold]:
    """Each corpus is tested by a model of the others, whose speakers are split into training and validation.

    If a corpus does not name its speakers, its recordings are split instead.
    """
    grouping = utterances.require("corpora", "corpus")
    _require_corpora(grouping.names, settings)
    by_corpus_and_class = grouping.codes * len(utterances.labels.names) + utterances.labels.codes
    groups = _speakers_and_copies(utterances)
    learnt = settings.train_corpora or tuple(sorted(grouping.names))
    for index, name in enumerate(settings.test_corpora or tuple(sorted(grouping.names))):
        tested = grouping.names.index(name)
        sources = [grouping.names.index(source) for source in learnt if source != name]
        rest = np.flatnonzero(np.isin(grouping.codes, sources))
        train, validation = _grouped(by_corpus_and_class, groups, rest, settings.seed)
        yield _fold(utterances, index, (train, validation, np.flatnonzero(grouping.codes == tested)), name)


SPLITS: Mapping[str, Callable[[Utterances, Settings], Iterator[Fold]]] = MappingProxyType(
    {
        "random": random,
        "speaker": speaker,
        "text": text,
        "session": session,
        "loso": leave_one_speaker_out,
        "corpus": corpus,
    }
)
"""The protocols that make folds, by name."""


def validation_of(utterances: Utterances, rest: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """A stratified share of some utterances, copies together, for lists without a validation part."""
    row_of = {name: row for row, name in enumerate(utterances.ids)}
    rows = np.array(sorted(row_of[id] for id in rest), np.int64)
    units = utterances.shared[DUPLICATES].units()[rows]
    labels = utterances.labels.codes[rows][_first_of_each(units)]
    _, validation = _stratified(labels, np.arange(len(labels)), seed, share)
    return utterances.names(rows[np.isin(units, np.unique(units)[validation])])


def _fold(utterances: Utterances, index: int, parts: Sequence[Rows], held_out: str = "") -> Fold:
    train, validation, test = (utterances.names(rows) for rows in parts)
    return Fold(index, train, validation, test, held_out)


def _first_of_each(units: Codes) -> Rows:
    """The first row of every unit, in the order of the units' codes."""
    return np.unique(units, return_index=True)[1]


def _stratified(labels: Codes, rest: Rows, seed: int, share: float = VALIDATION_SHARE) -> tuple[Rows, Rows]:
    """Train and validation of the rest, each class in proportion."""
    try:
        train, validation = next(
            StratifiedShuffleSplit(1, test_size=share, random_state=seed).split(rest, labels[rest])
        )
    except ValueError as error:  # fewer than two of a class, or fewer validating than there are classes
        raise _too_few(f"{len(rest)} recordings") from error
    return np.sort(rest[train]), np.sort(rest[validation])


def _by_group(utterances: Utterances, settings: Settings, name: str, protocol: str) -> Iterator[Fold]:
    grouping = utterances.require(name, protocol)
    labels, groups = utterances.labels.codes, grouping.codes
    _require_groups(protocol, name, len(grouping.names), max(3, settings.folds))
    _require_members(utterances, labels, settings.folds, "utterances")
    for index, test in enumerate(_evenly(labels, groups, settings.folds, settings.seed)):
        rest = np.setdiff1d(np.arange(len(labels)), test)
        train, validation = _grouped(labels, groups, rest, settings.seed)
        yield _fold(utterances, index, (train, validation, test))


def _grouped(labels: Codes, groups: Codes, rest: Rows, seed: int) -> tuple[Rows, Rows]:
    """Train and validation of the rest, whole groups in each: of its even parts, the one nearest to the share."""
    count = len(np.unique(groups[rest]))
    if count < 2:
        raise _too_few(f"{count} groups besides the test part")
    parts = _evenly(labels[rest], groups[rest], min(count, round(1 / VALIDATION_SHARE)), seed)
    target = np.bincount(labels[rest]) * VALIDATION_SHARE
    distances = [np.abs(np.bincount(labels[rest][part], minlength=len(target)) - target).sum() for part in parts]
    validation = rest[parts[int(np.argmin(distances))]]
    return np.setdiff1d(rest, validation), validation


def _evenly(labels: Codes, groups: Codes, parts: int, seed: int) -> list[Rows]:
    """Parts of whole groups, as equal in size and classes as can be: the best of several stratified partitions."""
    tries = int(np.clip(SHUFFLED_GROUPS // len(np.unique(groups)), 1, SHUFFLES))
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=np.random.RandomState(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes too rare for every part, which the audit names
        try:
            partitions = [[part for _, part in splitter.split(labels, labels, groups)] for _ in range(tries)]
        except ValueError as error:  # every class is too rare
            raise _too_few(f"{len(labels)} utterances for {parts} parts") from error
    return min(partitions, key=lambda partition: _unevenness(labels, partition))


def _too_few(got: str) -> ProtocolError:
    return ProtocolError(
        "validation part",
        got=got,
        expected="enough of every class to train and to validate",
        remedy="use another number of folds, fewer classes or protocol random",
    )


def _unevenness(labels: Codes, parts: Sequence[Rows]) -> float:
    """The largest deviation of a part's share of a class, or of all, from an equal share."""
    counts = np.array([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts], float)
    present = counts[:, counts.sum(0) > 0]
    shares = np.column_stack([present, present.sum(1)])
    return float(np.abs(shares / shares.sum(0) - 1 / len(parts)).max())


def _speakers_and_copies(utterances: Utterances) -> Codes:
    """Speakers where they are known, else recordings, with their copies."""
    speakers, recordings = utterances.shared["speakers"].codes, utterances.shared[DUPLICATES].units()
    return np.where(speakers >= 0, speakers, len(speakers) + recordings)


def _require_members(utterances: Utterances, labels: Codes, folds: int, what: str) -> None:
    counts = np.bincount(labels)
    refuse(
        Fault(
            f"class {name}",
            got=f"{count} {what}",
            expected=f"at least {max(3, folds)} for {folds} folds",
            remedy="use fewer folds or leave the class out",
        )
        for name, count in zip(utterances.labels.names, counts, strict=True)
        if count < max(3, folds)
    )


def _require_groups(protocol: str, name: str, count: int, least: int) -> None:
    if count < least:
        raise ProtocolError(
            f"protocol {protocol}",
            got=f"{count} {name}",
            expected=f"at least {least}, to train, validate and test on different ones",
            remedy="use fewer folds or protocol random",
        )


def _require_corpora(names: Sequence[str], settings: Settings) -> None:
    unknown = sorted({*settings.train_corpora, *settings.test_corpora} - set(names))
    faults = [Fault(f"corpus {name}", got="not in the manifest", expected=", ".join(sorted(names))) for name in unknown]
    learnt = settings.train_corpora or tuple(names)
    faults += [
        Fault(f"protocol corpus: {name}", got="no other corpus to train on", remedy="join manifests of several corpora")
        for name in settings.test_corpora or tuple(names)
        if not set(learnt) - {name}
    ]
    refuse(faults)
