"""Recordings in folders: the suffixes that can be decoded here, and the reason why a scan passes over others."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from affekt.audio import containers

PCM_SUFFIXES = (
    ".wav",
    ".aiff",
    ".aif",
    ".aifc",
    ".w64",
    ".rf64",
    ".bwf",
    ".caf",
    ".au",
    ".snd",
    ".sph",
    ".nist",
    ".voc",
)
COMPRESSED_SUFFIXES = (".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mpga")
SNDFILE_SUFFIXES = frozenset((*PCM_SUFFIXES, *COMPRESSED_SUFFIXES))
"""Suffixes of files that libsndfile decodes."""
VOICE_SUFFIXES = (".m4a", ".m4b", ".aac", ".amr", ".awb", ".3gp", ".3g2", ".3gpp", ".mka", ".wma", ".spx", ".qcp")
MUSIC_SUFFIXES = (".ape", ".wv", ".tta", ".mpc", ".ac3", ".eac3")
VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".qt",
    ".webm",
    ".mkv",
    ".avi",
    ".flv",
    ".wmv",
    ".asf",
    ".m2ts",
    ".mpg",
    ".mpeg",
    ".vob",
)
CONTAINER_SUFFIXES = frozenset((*VOICE_SUFFIXES, *MUSIC_SUFFIXES, *VIDEO_SUFFIXES))
"""Suffixes of files that PyAV decodes, which the extra `containers` installs."""
NAMED = 4
"""Suffixes that a note lists before it sums up the others."""


def can_decode(suffix: str) -> bool:
    """Whether files with this suffix can be decoded in this installation.

    >>> can_decode(".WAV"), can_decode(".txt")
    (True, False)
    """
    lower = suffix.lower()
    return lower in SNDFILE_SUFFIXES or (lower in CONTAINER_SUFFIXES and containers.available())


def needs_extra(suffix: str) -> bool:
    """Whether files with this suffix could be decoded if the extra `containers` were installed."""
    return suffix.lower() in CONTAINER_SUFFIXES and not containers.available()


@dataclass(frozen=True, slots=True)
class Scan:
    """The files in a folder.

    Attributes:
        recordings: paths of files that can be decoded by their suffix, sorted folder by folder.
        passed_over: number of other files by suffix, in lower case.
    """

    recordings: tuple[str, ...]
    passed_over: dict[str, int]

    def note(self) -> str:
        """The files passed over, in one line; empty if there are none.

        >>> Scan((), {".txt": 1, ".csv": 2}).note()
        'passed over 3 files: 2 .csv, 1 .txt'
        """
        if not self.passed_over:
            return ""
        missing = [suffix for suffix in self.passed_over if needs_extra(suffix)]
        ranked = sorted(self.passed_over, key=lambda suffix: (suffix not in missing, -self.passed_over[suffix], suffix))
        counts = [f"{self.passed_over[suffix]} {suffix or 'without a suffix'}" for suffix in ranked]
        media = counts[: len(missing)]
        if media:
            media[-1] += f" (pip install 'affekt[{containers.EXTRA}]' reads {'it' if len(missing) == 1 else 'them'})"
        others = counts[len(missing) :]
        if len(others) > NAMED:
            rest = sum(self.passed_over[suffix] for suffix in ranked[len(missing) + NAMED :])
            others = [*others[:NAMED], f"{rest} others"]
        total = sum(self.passed_over.values())
        return f"passed over {total} file{'s' * (total > 1)}: {', '.join([*media, *others])}"


def scan(root: Path) -> Scan:
    """Find the recordings in a folder and the folders in it.

    Hidden files and folders are left out and not counted; symbolic links are followed, each folder once.
    """
    recordings: list[str] = []
    passed_over: Counter[str] = Counter()
    seen: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        seen.add(Path(folder).resolve())
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(folder, name).resolve() not in seen
        )
        for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
            if can_decode(path.suffix):
                recordings.append(str(path))
            else:
                passed_over[path.suffix.lower()] += 1
    return Scan(tuple(recordings), dict(passed_over))
