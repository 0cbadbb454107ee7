"""Archives, which users give where an unpacked folder is meant."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar"})
_MAGIC = (
    b"PK\3\4",  # zip
    b"PK\5\6",  # empty zip
    b"\x1f\x8b",  # gzip
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",  # zstd
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
)
_TAR_OFFSET, _TAR = 257, b"ustar"


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its content, or by its suffix where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_TAR_OFFSET + len(_TAR))
    except OSError:
        return path.suffix.lower() in SUFFIXES
    return head.startswith(_MAGIC) or head[_TAR_OFFSET:] == _TAR or (path.suffix.lower() in SUFFIXES)


def archives_in(folder: Path) -> list[str]:
    """Names of the archives directly in a folder."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError:
        return []
