"""A plan of folds with its protocol and audit, and its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from affekt.data.manifest import Manifest
from affekt.data.protocols.audit import PARTS, RULES, UNKNOWN, Audit, Finding, Fold, audit
from affekt.data.protocols.utterances import DUPLICATES, Utterances, refuse, some
from affekt.errors import Fault, ProtocolError, reason
from affekt.runtime import atomic_files

FORMAT = 1
KEYS = ("format", "protocol", "seed", "adaptation", "audit", "folds")
FOLD_KEYS = ("index", "held_out", *PARTS)


@dataclass(frozen=True)
class FoldPlan:
    """Audited folds.

    Attributes:
        protocol: a name in :data:`affekt.data.protocols.RULES`.
        seed: seed of the folds.
        folds: the folds.
        audit: result of the audit.
        adaptation: what a normalizer may use besides the training part, e.g. ``test speaker's unlabeled audio``.
    """

    protocol: str
    seed: int
    folds: tuple[Fold, ...]
    audit: Audit
    adaptation: str = "none"

    def line(self, corpus: str, classes: int, seeds: int) -> str:
        """The protocol line of every result: what the parts share, and what they do not.

        >>> fold = Fold(0, ("a",), ("b",), ("c",))
        >>> shared = {"speakers": Finding("yes", "yes"), "texts": Finding("no", "no")}
        >>> FoldPlan("random", 0, (fold,), Audit(shared)).line("emodb", classes=4, seeds=3)
        'emodb 4-class | random 1-fold, 3 seeds | speakers shared: yes | texts shared: no'
        """
        return " | ".join((f"{corpus} {classes}-class", *self._clauses(seeds)))

    def _clauses(self, seeds: int) -> Iterator[str]:
        yield f"{self.protocol} {len(self.folds)}-fold, {seeds} seed{'s' if seeds != 1 else ''}"
        for name, finding in self.audit.shared.items():
            if name != DUPLICATES:
                yield f"{name} shared: {finding.test}"
            elif finding.test == UNKNOWN:
                yield "duplicates: not checked"
        if self.audit.missing_classes:
            yield f"parts without a class: {len(self.audit.missing_classes)} ({some(self.audit.missing_classes)})"
        if self.audit.unused:
            yield f"utterances unused: {self.audit.unused}"
        if self.adaptation != "none":
            yield f"adaptation: {self.adaptation}"

    def write(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1)
        atomic_files.write_bytes(path, text.encode())

    @classmethod
    def read(cls, path: str | Path, manifest: Manifest | None = None, hashes: Sequence[str] | None = None) -> FoldPlan:
        """Read a fold file; one of your own needs only ``{"folds": [{"train": [...], ...}]}``.

        Args:
            path: the JSON file.
            manifest: checks the ids, and the folds are audited again. Without it, the audit of the file is taken.
            hashes: content hashes of the manifest's rows, to find duplicates; without them, the file's finding on
                duplicates is taken.

        Raises:
            ProtocolError: every fault of the file, or what its protocol forbids.
        """
        data = _read_json(Path(path))
        refuse(replace(fault, what=f"{path}: {fault.what}") for fault in _faults(data, needs_audit=manifest is None))
        folds = tuple(_fold(index, fold) for index, fold in enumerate(data["folds"]))
        protocol, found = data.get("protocol", "fixed"), _parse_audit(data["audit"]) if "audit" in data else Audit()
        if manifest is not None:
            believed = found.shared.get(DUPLICATES)
            found = audit(folds, Utterances.of(manifest, hashes), protocol)
            if hashes is None and believed is not None:
                found = replace(found, shared={**found.shared, DUPLICATES: believed})
        return cls(protocol, data.get("seed", 0), folds, found, data.get("adaptation", "none"))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProtocolError(str(path), got=reason(error), expected="a fold file") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, lists in lists in lists
        raise ProtocolError(f"fold file {path}", got=str(error), expected="a readable JSON file") from error


def _faults(data: Any, needs_audit: bool) -> Iterator[Fault]:
    if not isinstance(data, dict):
        yield Fault("fold file", got=type(data).__name__, expected=f"an object with {', '.join(KEYS)}")
        return
    for key in data.keys() - set(KEYS):
        yield Fault(f"key {key}", got="an unknown key", expected=f"one of {', '.join(KEYS)}")
    if data.get("format", FORMAT) != FORMAT:
        yield Fault("format", got=repr(data["format"]), expected=str(FORMAT), remedy="update affekt")
    if str(data.get("protocol", "fixed")) not in RULES:
        yield Fault("protocol", got=repr(data["protocol"]), expected=f"one of {', '.join(RULES)}")
    for key, kind in (("seed", int), ("adaptation", str)):
        if not isinstance(data.get(key, kind()), kind):
            yield Fault(key, got=repr(data[key]), expected=kind.__name__)
    if "audit" in data or needs_audit:
        try:
            _parse_audit(data["audit"])
        except (KeyError, TypeError, AttributeError):
            yield Fault("audit", got="none that is complete", expected="the audit of a file that affekt wrote")
    yield from _fold_faults(data.get("folds"))


def _fold_faults(folds: Any) -> Iterator[Fault]:
    if not isinstance(folds, list) or not folds or not all(isinstance(fold, dict) for fold in folds):
        yield Fault("folds", got=type(folds).__name__, expected="a list of objects, at least one")
        return
    for index, fold in enumerate(folds):
        for key in fold.keys() - set(FOLD_KEYS):
            yield Fault(f"fold {index}: key {key}", got="an unknown key", expected=f"one of {', '.join(FOLD_KEYS)}")
        if fold.get("index", index) != index:
            yield Fault(f"fold {index}: index", got=repr(fold["index"]), expected=str(index))
        for part in PARTS:
            ids = fold.get(part)
            if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
                yield Fault(f"fold {index}: {part}", got=type(ids).__name__, expected="a list of ids")


def _fold(index: int, fold: dict[str, Any]) -> Fold:
    train, validation, test = (tuple(fold[part]) for part in PARTS)
    return Fold(index, train, validation, test, str(fold.get("held_out", "")))


def _parse_audit(data: Any) -> Audit:
    shared = {
        name: Finding(str(finding["test"]), str(finding["validation"]), tuple(finding["examples"]))
        for name, finding in data["shared"].items()
    }
    if not isinstance(data["unused"], int):
        raise TypeError("a number of utterances that is none")
    return Audit(shared, tuple(data["missing_classes"]), data["unused"])
