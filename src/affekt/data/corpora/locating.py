"""The file of each path that a table names.

A path that exists is its own file. A path that does not exist may name a recording that was converted or moved; it is
answered by another file only if that file is the only candidate and no other row claims it, and the answer is noted.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from affekt.audio.folders import VIDEO_SUFFIXES
from affekt.data.corpora.files import decodable, find, stem_key
from affekt.data.corpora.release import Note, noted


@dataclass(frozen=True)
class Located:
    """The result of :func:`locate`.

    Attributes:
        files: for each path its file; None where there is none.
        notes: the paths that another file answers.
    """

    files: list[Path | None]
    notes: list[Note]


def locate(paths: Sequence[str], base: Path) -> Located:
    """Find the file of each path, relative to `base`.

    A path that is not there is answered by the file of the same folder and stem under another suffix, else by the file
    of the same stem anywhere below the base. A film is answered by the recording beside it: extracting the sound is how
    releases of films are prepared, and the manifest is then the same whether films can be decoded or not.

    Args:
        paths: as a table gives them, with slashes or backslashes; empty text is no path.
        base: folder that relative paths start from.
    """
    wanted = {path: _absolute(base, path) for path in dict.fromkeys(paths) if path}
    own = {path: file for path, file in wanted.items() if _exists(file) and decodable(file) and not _is_film(file)}
    search = _Search.of(base) if len(own) < len(wanted) else _Search()
    beside, elsewhere = _answers({path: file for path, file in wanted.items() if path not in own}, search, base)
    once = _claimed_once(beside | elsewhere, set(own.values()))
    found = {path: file for path, file in wanted.items() if _exists(file)} | once
    return Located([found.get(path) for path in paths], _notes(once, beside, wanted, base))


@dataclass(frozen=True)
class _Search:
    """Recordings below a base, by folder and stem, and by stem alone."""

    beside: Mapping[str, list[Path]] = field(default_factory=dict)
    by_stem: Mapping[str, list[Path]] = field(default_factory=dict)

    @classmethod
    def of(cls, base: Path) -> _Search:
        beside: dict[str, list[Path]] = defaultdict(list)
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for file in find(base).files:
            path = _absolute(base, str(file))
            beside[_without_suffix(str(file))].append(path)
            by_stem[stem_key(file)].append(path)
        return cls(beside, by_stem)


def _answers(absent: Mapping[str, Path], search: _Search, base: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The only candidate beside each path, and else the only one elsewhere."""
    beside: dict[str, Path] = {}
    elsewhere: dict[str, Path] = {}
    for path, file in absent.items():
        relative = os.path.relpath(file, base).replace("\\", "/")
        near = [other for other in search.beside.get(_without_suffix(relative), []) if other != file]
        near = [other for other in near if not (_is_film(file) and _is_film(other))]
        far = [] if near or _exists(file) else search.by_stem.get(stem_key(relative), [])
        if len(near) == 1:
            beside[path] = near[0]
        elif len(far) == 1:
            elsewhere[path] = far[0]
    return beside, elsewhere


def _claimed_once(answers: Mapping[str, Path], own: set[Path]) -> dict[str, Path]:
    """Without the files that are another row's own, or that would answer two different paths."""
    claims = Counter(answers.values())
    return {path: file for path, file in answers.items() if claims[file] == 1 and file not in own}


def _notes(once: Mapping[str, Path], beside: Mapping[str, Path], wanted: Mapping[str, Path], base: Path) -> list[Note]:
    said = {path: f"{path} is {Path(os.path.relpath(file, base)).as_posix()}" for path, file in once.items()}
    films = [path for path in said if _exists(wanted[path])]
    near = [path for path in said if path in beside and not _exists(wanted[path])]
    far = [path for path in said if path not in beside]
    remedy = "check that they are the right ones"
    return [
        *noted("films, the recording beside each is used", (said[path] for path in films)),
        *noted("paths that are there under another suffix or spelling", (said[path] for path in near)),
        *noted(
            "paths that are not there, the only recording of that name is used", (said[path] for path in far), remedy
        ),
    ]


def _exists(path: Path) -> bool:
    """Whether a file is there; no file has a path that the system refuses, such as one too long."""
    return os.path.isfile(path)  # noqa: PTH113


def _is_film(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _absolute(base: Path, path: str) -> Path:
    """The path without `..`, with links as they are; backslashes count as slashes where no file is so named."""
    file = Path(os.path.abspath(base / path))  # noqa: PTH100
    if "\\" in path and not _exists(file):
        file = Path(os.path.abspath(base / path.replace("\\", "/")))  # noqa: PTH100
    return file


def _without_suffix(path: str) -> str:
    file = PurePosixPath(path)
    return str(file.parent / stem_key(file))
