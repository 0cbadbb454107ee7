"""The one family of exceptions that affekt raises on purpose.

Every message is built from the same four parts: *what* is wrong, what was *got*, what was *expected* and the *remedy*.
Libraries raise, the command line catches; one exception may carry many faults, so that a user mends them all at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

NO_FILE, NO_FOLDER = "no such file", "no such folder"
"""What was got where the thing that is wrong is a path that leads nowhere."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, in one line.

    >>> print(Fault("row 3: label", got="'agner'", expected="one of angry, happy", remedy="correct the label column"))
    row 3: label: got 'agner', expected one of angry, happy; correct the label column
    >>> print(Fault("call.wav", got=NO_FILE, expected="an audio file"))
    No such file: call.wav
    """

    what: str
    got: str = ""
    expected: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        found = ", ".join(
            part for part in (self.got and f"got {self.got}", self.expected and f"expected {self.expected}") if part
        )
        line = f"{self.what}: {found}" if found else self.what
        if self.leads_nowhere:
            line = f"{self.got.capitalize()}: {self.what}"
        return f"{line}; {self.remedy}" if self.remedy else line

    @property
    def leads_nowhere(self) -> bool:
        """Whether a path is wrong because nothing is there."""
        return self.got in (NO_FILE, NO_FOLDER)

    def at(self, where: str) -> Fault:
        """The same fault with the place that it was found at.

        >>> print(Fault("start", got="'x'", expected="seconds").at("row 4"))
        row 4: start: got 'x', expected seconds
        >>> print(Fault("call.wav", got=NO_FILE).at("row 4"))
        No such file: call.wav (row 4)
        """
        return replace(self, what=f"{self.what} ({where})" if self.leads_nowhere else f"{where}: {self.what}")


def reason(error: Exception) -> str:
    """The `got` of a file that could not be read: :data:`NO_FILE`, or the reason in one line.

    >>> reason(FileNotFoundError(2, "No such file or directory")), reason(PermissionError(13, "Permission denied"))
    ('no such file', 'Permission denied')
    """
    if isinstance(error, FileNotFoundError):
        return NO_FILE
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def gathered(faults: Iterable[Fault], shown: int = 3) -> list[Fault]:
    """Faults in few lines: those that say the same of more than `shown` things become one, with their number.

    >>> for fault in gathered(Fault(f"{n}.wav", "an empty file") for n in range(5_000)):
    ...     print(fault)
    5,000 times (0.wav, 1.wav, 2.wav and 4,997 more): got an empty file
    >>> for fault in gathered(Fault(f"{n}.wav", NO_FILE) for n in range(5_000)):
    ...     print(fault)
    No such file: 0.wav, 1.wav, 2.wav and 4,997 more
    """
    alike: dict[tuple[str, str, str], list[Fault]] = {}
    for fault in faults:
        alike.setdefault((fault.got, fault.expected, fault.remedy), []).append(fault)
    lines: list[Fault] = []
    for (got, expected, remedy), group in alike.items():
        if len(group) <= shown:
            lines += group
            continue
        what = f"{', '.join(fault.what for fault in group[:shown])} and {len(group) - shown:,} more"
        if not group[0].leads_nowhere:
            what = f"{len(group):,} times ({what})"
        lines.append(Fault(what, got, expected, remedy))
    return lines


class AffektError(Exception):
    """Base of all errors that a user can mend.

    Args:
        what: the thing that is wrong.
        got: what was found.
        expected: what would have been right.
        remedy: what to do now.

    >>> str(ConfigError("epochs", got="-1", expected="at least 1"))
    'epochs: got -1, expected at least 1'
    """

    faults: tuple[Fault, ...]

    def __init__(self, what: str = "", *, got: str = "", expected: str = "", remedy: str = "") -> None:
        self.faults = (Fault(what, got, expected, remedy),)
        super().__init__(str(self))

    @classmethod
    def of(cls, faults: Iterable[Fault]) -> Self:
        """One exception that carries several faults, each printed on its own line.

        Args:
            faults: at least one.

        Returns:
            The exception, to be raised.
        """
        error = cls()
        error.faults = tuple(faults)
        error.args = (str(error),)
        return error

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


class AudioError(AffektError):
    """A recording that cannot be read, decoded or used."""


class CorpusError(AffektError):
    """A corpus release on disk that is not what its authors ship."""


class ManifestError(AffektError):
    """A table of utterances that breaks the manifest's contract."""


class ConfigError(AffektError):
    """A configuration value, label set, system or option that does not exist or is out of range."""


class CheckpointError(AffektError):
    """A model or result file that is damaged, incomplete or not ours."""


class ProtocolError(AffektError):
    """Folds that share between training and test what their protocol forbids."""
