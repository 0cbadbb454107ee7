"""Fold lists of EmoBox (Ma et al., Interspeech 2024): ``fold_1/emodb_train_fold_1.jsonl``, ``..._test_...`` and so on.

A line names a recording by ``key`` and ``wav``, e.g. ``emodb-03a01Fa`` and ``downloads/emodb/wav/03a01Fa.wav``. Its
counterpart in the manifest is the one whose folder and stem, or else stem or id, are equal but for case and separators.
Lists cover all emotions of a corpus, a manifest often only some: emotions (``emo``) of which the manifest has not one
recording are left out, single recordings that are missing are a fault. Where a fold has no list ``valid``, a fifth of
its training list validates, stratified and seeded, as EmoBox does.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from affekt.data.manifest import Manifest
from affekt.data.protocols.audit import Fold
from affekt.data.protocols.splits import validation_of
from affekt.data.protocols.utterances import Utterances, refuse, some
from affekt.errors import Fault, ProtocolError

VALIDATION_SHARE = 0.2
FOLD_FOLDER = re.compile(r"fold_?(\d+)")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a list."""

    key: str
    wav: str
    dataset: str
    emotion: str

    def names(self) -> tuple[str, ...]:
        """Possible names of the recording, the most specific first."""
        path = PurePosixPath(self.wav)
        key = self.key.removeprefix(f"{self.dataset}-")
        return tuple(map(_plain, (f"{path.parent.name}/{path.stem}", path.stem, key)))


def read_emobox(folder: str | Path, manifest: Manifest, utterances: Utterances, seed: int) -> tuple[Fold, ...]:
    """Folds of a corpus's folder of lists, e.g. ``EmoBox/data/emodb``.

    Args:
        folder: that holds ``fold_1``, ``fold_2`` ...
        manifest: of the same corpus.
        utterances: of the same manifest.
        seed: of the validation parts that no list names.

    Raises:
        ProtocolError: every list that is missing or unreadable, and every recording that the manifest lacks.
    """
    lists = _lists(Path(folder))
    found = _matches((entry for parts in lists.values() for entry in _entries(parts)), _index(manifest))
    refuse(_unmatched_faults(lists, found))
    folds = []
    for number, parts in enumerate(lists.values()):
        ids = {part: tuple(found[entry] for entry in entries if entry in found) for part, entries in parts.items()}
        train, validation = ids["train"], ids.get("valid", ())
        if "valid" not in ids:
            validation = validation_of(utterances, train, VALIDATION_SHARE, seed)
            train = tuple(sorted(set(train) - set(validation)))
        folds.append(Fold(number, train, validation, ids["test"]))
    return tuple(folds)


def _lists(folder: Path) -> dict[str, dict[str, list[_Entry]]]:
    """Entries of each fold's parts."""
    folders = [path for path in folder.iterdir() if path.is_dir() and FOLD_FOLDER.fullmatch(path.name)]
    if not folders:
        raise ProtocolError(
            f"fold lists {folder}", got="no folder fold_1", expected="a corpus's folder of EmoBox lists"
        )
    faults: list[Fault] = []
    lists: dict[str, dict[str, list[_Entry]]] = {}
    for path in sorted(folders, key=lambda path: int(FOLD_FOLDER.sub(r"\1", path.name))):
        lists[path.name] = {}
        for part in ("train", "valid", "test"):
            found = sorted(path.glob(f"*_{part}_{path.name}.jsonl"))
            if len(found) == 1:
                lists[path.name][part] = list(_parse(found[0], faults))
            elif part != "valid" or found:
                got = f"{len(found)} lists"
                faults.append(Fault(f"{path}: {part}", got=got, expected=f"one, *_{part}_{path.name}.jsonl"))
    refuse(faults)
    return lists


def _parse(path: Path, faults: list[Fault]) -> Iterator[_Entry]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(path), got=str(error), expected="a readable list"))
        return
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
            yield _Entry(str(data["key"]), str(data["wav"]), str(data["dataset"]), str(data["emo"]))
        except (ValueError, TypeError, KeyError):
            faults.append(Fault(f"{path}: line {number}", got=line[:60], expected="JSON with key, dataset, wav, emo"))


def _entries(parts: Mapping[str, Sequence[_Entry]]) -> list[_Entry]:
    return [entry for entries in parts.values() for entry in entries]


def _plain(name: str) -> str:
    """A name without regard to case and separators.

    >>> _plain("DC/a01") == _plain("DC_a01")
    True
    """
    return re.sub(r"[\W_]+", "-", name.casefold())


def _index(manifest: Manifest) -> Mapping[str, set[str]]:
    """Name -> ids of the utterances that may be called so."""
    index: dict[str, set[str]] = defaultdict(set)
    for id, path in zip(manifest.ids, map(PurePosixPath, manifest.table["path"]), strict=True):
        for name in (id, path.stem, f"{path.parent.name}/{path.stem}"):
            index[_plain(name)].add(id)
    return index


def _matches(entries: Iterable[_Entry], index: Mapping[str, set[str]]) -> dict[_Entry, str]:
    """The one utterance that each entry means, where there is one.

    Entries of different recordings never share an utterance: it belongs to the one that names it most specifically.
    """
    claims: dict[str, list[tuple[int, _Entry]]] = defaultdict(list)
    for entry in dict.fromkeys(entries):
        for rank, name in enumerate(entry.names()):
            if len(index.get(name, ())) == 1:
                claims[next(iter(index[name]))].append((rank, entry))
                break
    matches: dict[_Entry, str] = {}
    for id, claimants in claims.items():
        best = min(rank for rank, _ in claimants)
        first = [entry for rank, entry in claimants if rank == best]
        if len({entry.wav for entry in first}) == 1:
            matches |= dict.fromkeys(first, id)
    return matches


def _unmatched_faults(
    lists: Mapping[str, Mapping[str, Sequence[_Entry]]], found: Mapping[_Entry, str]
) -> Iterator[Fault]:
    emotions = {entry.emotion for entry in found}
    if not emotions:
        yield Fault("fold lists", got="no recording of the manifest", expected="lists of the manifest's corpus")
    for fold, parts in lists.items():
        for part, entries in parts.items():
            wanted = [entry for entry in entries if entry.emotion in emotions]
            missing = [entry.key for entry in wanted if entry not in found]
            if missing:
                yield Fault(
                    f"{fold} {part}",
                    got=f"{len(missing)} of {len(wanted)} recordings that the manifest lacks ({some(missing)})",
                    expected="all of the lists' recordings",
                    remedy="complete the corpus and prepare it again",
                )
