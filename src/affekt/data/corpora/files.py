"""Find the recordings of a release, also if they were converted, renamed or copied by other systems.

Suffixes match in any case. Files and folders whose name starts with a dot (such as AppleDouble ``._x``) and
``__MACOSX`` are ignored. Symbolic links are followed; cycles are harmless. A recording is identified by its stem, so it
is found after conversion to another format. Names are compared in Unicode's composed form, since macOS stores the
decomposed one.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from affekt.audio.containers import EXTRA
from affekt.audio.folders import SNDFILE_SUFFIXES, can_decode, needs_extra
from affekt.data.corpora.release import Note, noted

PREFERRED = (".wav", ".flac", ".aiff", ".aif", ".aifc", ".w64", ".caf", ".au", ".sph", ".ogg", ".oga", ".opus", ".mp3")
"""Suffixes of recordings, the preferred one first where the same recording is there twice; others come after them."""
EXTRACT = (
    f"pip install 'affekt[{EXTRA}]', or extract the sound beside them, for example with "
    "`ffmpeg -i x.mp4 -ac 1 -ar 16000 x.wav`"
)


@dataclass(frozen=True, slots=True)
class AudioFiles:
    """Recordings under a root.

    Attributes:
        root: the folder that the paths start from.
        files: relative paths, preferred formats first, then by name.
        videos: relative paths of media that could be decoded with the extra `containers`.
        notes: file names and folders that cannot be used.
    """

    root: Path
    files: tuple[PurePosixPath, ...]
    videos: tuple[PurePosixPath, ...]
    notes: tuple[Note, ...]

    def by_stem(self) -> dict[str, PurePosixPath]:
        """The preferred file of each stem."""
        index: dict[str, PurePosixPath] = {}
        for file in self.files:
            index.setdefault(stem_key(file), file)
        return index


def find(root: Path, folders: Iterable[Path] | None = None) -> AudioFiles:
    """Find recordings in some folders below a root (by default in all of it), recursively.

    Args:
        root: the folder that the paths start from.
        folders: folders to search; by default the root.
    """
    files: list[PurePosixPath] = []
    videos: list[PurePosixPath] = []
    unusable: list[str] = []
    closed: list[str] = []
    for path in _walk([root] if folders is None else list(folders), closed):
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a Path per file makes large trees slow
        if not (can_decode(suffix) or needs_extra(suffix)):
            continue
        relative = PurePosixPath(Path(path).relative_to(root).as_posix())
        if not _writable_in_a_table(str(relative)):
            unusable.append(ascii(str(relative)))
        else:
            (files if can_decode(suffix) else videos).append(relative)
    notes = [
        *noted("folders that cannot be opened", closed, failed=True),
        *noted("file names that no table can hold", unusable, "rename them: UTF-8, no space at the ends", failed=True),
    ]
    return AudioFiles(root, tuple(sorted(files, key=_preference)), tuple(sorted(videos)), tuple(notes))


def stem_key(path: PurePosixPath | str) -> str:
    """The key that two names of the same recording share: the stem, composed and in lower case.

    >>> stem_key("samples/WR0_fear_1.wav") == stem_key("wr0_fear_1.OPUS")
    True
    """
    return unicodedata.normalize("NFC", PurePosixPath(path).stem).casefold()


def decodable(path: Path | PurePosixPath) -> bool:
    """Whether a file of this suffix can be decoded here; a suffix that is not known may be."""
    return not needs_extra(path.suffix)


def branches(root: Path, pattern: re.Pattern[str]) -> tuple[Path, list[Path]]:
    """The folders of a release whose names match, and the folder that holds them.

    Users may give a folder that is one level too high or too low. So the matching folders may be those of the root, its
    siblings if the root itself matches, or those of a folder inside it. Without a match the whole root is searched.
    """
    candidates = [root, root.parent] if pattern.fullmatch(root.name) else [root, *_subfolders(root)]
    for base in candidates:
        matching = [folder for folder in _subfolders(base) if pattern.fullmatch(folder.name)]
        if matching:
            return base, matching
    return root, [root]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not _passed_over(path.name) and path.is_dir())
    except OSError:
        return []


def _walk(folders: list[Path], closed: list[str]) -> Iterator[str]:
    """Paths of all files below some folders, each folder once, also with cycles of links."""
    visited: set[tuple[int, int]] = set()
    for folder in folders:
        for base, inner, names in os.walk(folder, followlinks=True, onerror=lambda error: closed.append(_where(error))):
            status = os.stat(base)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in visited:
                inner.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            inner[:] = sorted(name for name in inner if not _passed_over(name))
            yield from (os.path.join(base, name) for name in names if not _passed_over(name))  # noqa: PTH118


def _where(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _writable_in_a_table(path: str) -> bool:
    """Whether a manifest returns the path unchanged: it is stored as UTF-8 and without surrounding spaces."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return path == path.strip()


def _preference(file: PurePosixPath) -> tuple[int, PurePosixPath]:
    suffix = file.suffix.lower()
    place = PREFERRED.index(suffix) if suffix in PREFERRED else len(PREFERRED) + (suffix not in SNDFILE_SUFFIXES)
    return place, file
