"""Emotion vocabulary and named label sets.

A *canonical* label is one of :data:`EMOTIONS`; every corpus reader maps its own codes to these. A *label set* says
which canonical labels an experiment uses and how they merge into classes; the order of its classes is that of every
probability vector, confusion matrix and checkpoint. Label sets are data: own ones come from a TOML file.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from affekt.errors import ConfigError, Fault, reason

EMOTIONS = (
    "angry",
    "bored",
    "calm",
    "contemptuous",
    "disgusted",
    "excited",
    "fearful",
    "frustrated",
    "happy",
    "neutral",
    "sad",
    "sarcastic",
    "sleepy",
    "surprised",
    "other",
    "unknown",
)
"""Canonical labels. `other`: annotated as an emotion outside the list; `unknown`: annotators did not agree."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """An ordered choice of classes and the canonical labels that each class takes in.

    Attributes:
        name: how users ask for it.
        members: class name -> the labels merged into it; the order of the keys is the order of the classes.

    >>> LABEL_SETS["iemocap4"].class_of("excited")
    'happy'
    >>> LABEL_SETS["iemocap4"].class_of("fearful") is None
    True
    """

    name: str
    members: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        claimed = [label for labels in self.members.values() for label in labels]
        faults = [
            Fault(f"label set {self.name}", got=f"{label!r} in more than one class", expected="each label in one class")
            for label in sorted({label for label in claimed if claimed.count(label) > 1})
        ]
        if len(self.members) < 2:
            faults.append(Fault(f"label set {self.name}", got=f"{len(self.members)} classes", expected="at least 2"))
        if faults:
            raise ConfigError.of(faults)
        object.__setattr__(self, "members", MappingProxyType(dict(self.members)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in their fixed order."""
        return tuple(self.members)

    def class_of(self, label: str) -> str | None:
        """The class of a canonical label.

        Args:
            label: a canonical label, such as `excited`.

        Returns:
            The class that it belongs to; None if the set leaves it out.
        """
        return next((name for name, labels in self.members.items() if label in labels), None)


LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType(
    {
        label_set.name: label_set
        for label_set in (
            LabelSet(
                "iemocap4",
                {"angry": ("angry",), "happy": ("happy", "excited"), "neutral": ("neutral",), "sad": ("sad",)},
            ),
            LabelSet(
                "basic4",
                {"angry": ("angry",), "happy": ("happy",), "neutral": ("neutral",), "sad": ("sad",)},
            ),
            LabelSet(
                "ekman7",
                {
                    "angry": ("angry",),
                    "disgusted": ("disgusted",),
                    "fearful": ("fearful",),
                    "happy": ("happy", "excited"),
                    "neutral": ("neutral", "calm"),
                    "sad": ("sad",),
                    "surprised": ("surprised",),
                },
            ),
        )
    }
)
"""Built-in label sets. `iemocap4` is the paper's: *excited* is merged into *happy* (Zhou & Liu 2020, section 4.1)."""


CONTINUOUS = frozenset({"arousal", "valence", "dominance", "activation", "intensity", "score", "rating"})
"""Names of columns that hold measurements and no classes."""
MOST_CODES = 20
"""Whole numbers count as codes of classes if they are at most so many, each of at least two utterances."""


def unusable_classes(labels: Iterable[str], column: str = "label") -> Fault | None:
    """The reason why a column cannot be one of classes: it holds measurements, or something else in every row.

    Args:
        labels: the cells, one per utterance.
        column: its name in the user's table.

    Returns:
        The fault; None if the column is usable.

    >>> print(unusable_classes(["0.4", "0.1", "0.4"], "arousal"))
    column 'arousal': got numbers (0.4, 0.1), expected classes; choose another column, or cut the numbers into classes
    >>> unusable_classes(["0", "1", "1", "0"]) is None
    True
    """
    cells = list(labels)
    counts = Counter(cells)
    shown = ", ".join(list(counts)[:3]) + (" ..." if len(counts) > 3 else "")
    if cells and all(map(_is_number, counts)):
        codes = all(cell.lstrip("+-").isdigit() for cell in counts)
        if column.lower() in CONTINUOUS or not codes or (len(counts) > 2 and not _are_codes(counts, len(cells))):
            remedy = "choose another column, or cut the numbers into classes"
            return Fault(f"column {column!r}", f"numbers ({shown})", "classes", remedy)
    own = len(set(counts) - set(EMOTIONS))
    if own > len(cells) / 2 and (len(counts) == len(cells) >= 2 or len(cells) >= 20):
        got = f"{len(counts):,} different labels in {len(cells):,} rows ({shown})"
        return Fault(f"column {column!r}", got, "classes of several utterances each", "choose another column")
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _are_codes(counts: Counter[str], total: int) -> bool:
    return len(counts) <= MOST_CODES and 2 * len(counts) <= total


def label_set(name_or_path: str | Path) -> LabelSet:
    """A built-in label set by name, or one read from a TOML file.

    The file holds a name and one list per class::

        name = "arousal"
        [classes]
        high = ["angry", "happy", "excited", "fearful"]
        low = ["sad", "neutral", "bored", "calm"]

    The `config.toml` of a run that was given a label set brings it back.

    Raises:
        ConfigError: no such set, an unreadable file, or a label in two classes.
    """
    if str(name_or_path) in LABEL_SETS:
        return LABEL_SETS[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise ConfigError(
            "label set",
            got=repr(str(name_or_path)),
            expected=f"one of {', '.join(LABEL_SETS)}, or a .toml file",
        )
    return _read_label_set(path)


def _read_label_set(path: Path) -> LabelSet:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), got=reason(error), expected="a TOML file with a label set") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, endless digits; lists in lists in lists
        raise ConfigError(f"label set {path}", got=str(error), expected="a readable TOML file") from error
    if isinstance(data.get("experiment"), dict) and isinstance(data.get("labels"), dict):
        data = data["labels"]  # the configuration of a run
    classes = data.get("classes")
    unknown = sorted(set(data) - {"name", "classes"})
    if unknown:
        raise ConfigError(f"label set {path}", got=f"unknown keys {', '.join(unknown)}", expected="name, [classes]")
    if not isinstance(classes, dict) or not all(_is_list_of_text(labels) for labels in classes.values()):
        raise ConfigError(
            f"label set {path}", got=f"classes = {classes!r}", expected="[classes] with a list of labels each"
        )
    return LabelSet(str(data.get("name", path.stem)), {name: tuple(labels) for name, labels in classes.items()})


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
