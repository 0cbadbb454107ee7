"""From paths to what is to be recognized: files, folders, patterns, standard input, tables of segments, channels."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from affekt.errors import NO_FOLDER, AudioError
from affekt.recognition.bulk import Item, name_of
from affekt.recognition.prediction import Failure

Channels: TypeAlias = Literal["mix", "each", "left", "right"]
TABLES = (".csv", ".tsv", ".rttm", ".textgrid")
"""Suffixes of tables of segments."""


class Request(NamedTuple):
    """One answer that is wanted.

    Attributes:
        item: a recording, a segment of one, or why there is none.
        base: the folder that the recording was found in; None for standard input.
        row: the columns of its row in a table of segments.
    """

    item: Item | Failure
    base: Path | None = None
    row: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The name of the recording in answers."""
        return self.item.source if isinstance(self.item, Failure) else name_of(self.item)


def find_requests(paths: Iterable[str], channels: Channels, note: Callable[[str], object]) -> list[Request]:
    """Recordings in the order given; a path that leads to none is a failure in its place.

    Args:
        paths: files, folders, patterns, or `-` for standard input.
        channels: `each` asks for every channel by itself.
        note: told once about each folder whose files were passed over.
    """
    found = list(_found(paths, note))
    return found if channels == "mix" else [part for request in found for part in split(request, channels)]


def turn_requests(table: Path, paths: Sequence[str], channels: Channels) -> tuple[list[Request], tuple[str, ...]]:
    """The segments of a table, and the names of its own columns: see :func:`affekt.recognition.turns.read_turns`.

    Raises:
        ConfigError: a file that is no table of segments.
    """
    from affekt.recognition.turns import read_turns

    recordings = [request.name for request in _found(paths, note=lambda text: None)]
    turns = read_turns(table, recordings)
    requests = [Request(turn.item, table.parent, turn.row) for turn in turns.turns]
    parts = requests if channels == "mix" else [part for request in requests for part in split(request, channels)]
    return parts, turns.columns


def speakers_of(requests: Sequence[Request]) -> tuple[list[str], str]:
    """The speaker of each recording, and the rule: the column `speaker` of a table, else the folder it is in.

    >>> speakers_of([Request("anna/1.wav", Path("anna")), Request("ben/1.wav", Path("ben"))])
    (['anna', 'ben'], 'a folder per speaker')
    """
    if any("speaker" in (request.row or ()) for request in requests):
        return [(request.row or {}).get("speaker", "") for request in requests], "the column speaker"
    folders = [str(Path(request.name).parent) for request in requests]
    rule = "a folder per speaker" if len(set(folders)) > 1 else "taken as one speaker"
    return folders, rule


def split(request: Request, channels: Channels) -> Iterator[Request]:
    """A request for one channel, or one request for each channel."""
    if isinstance(request.item, Failure):
        yield request
        return
    from affekt import audio
    from affekt.recognition.sources import Segment

    whole = request.item if isinstance(request.item, Segment) else Segment(request.item)
    chosen: Sequence[Any] = (channels,)
    if channels == "each":
        if hasattr(whole.source, "read") and not whole.source.seekable():
            whole = Segment(_Held(whole.source.read(), name_of(whole)))
        try:
            count = audio.probe(whole.source).channels
        except AudioError as error:
            yield request._replace(item=Failure(name_of(whole), error))
            return
        chosen = {1: ("mix",), 2: ("left", "right")}.get(count, range(count))
    for channel in chosen:
        part = Segment(whole.source, whole.start_seconds, whole.end_seconds, channel)
        yield request._replace(item=part)


class _Held(io.BytesIO):
    """The bytes of a pipe, which several channels are read from."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _found(paths: Iterable[str], note: Callable[[str], object]) -> Iterator[Request]:
    noted: set[str] = set()
    for path in paths:
        if path == "-":
            yield Request(sys.stdin.buffer)
        elif Path(path).is_dir():
            yield from _folder(path, noted, note)
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
            for match in matches:
                yield Request(match, Path(match).parent)
            if not matches:
                yield _nothing(path, "a pattern that matches nothing")
        elif path.endswith(os.sep):
            yield _nothing(path, NO_FOLDER)
        elif Path(path).suffix.lower() in TABLES and Path(path).is_file():
            remedy = f"affekt predict --segments {path}"
            error = AudioError(path, got="a table of segments", expected="a recording", remedy=remedy)
            yield Request(Failure(path, error))
        else:
            yield Request(path, Path(path).parent)


def _folder(path: str, noted: set[str], note: Callable[[str], object]) -> Iterator[Request]:
    """Recordings in a folder; a note, once per folder, counts the files that are passed over."""
    from affekt.audio.folders import scan

    found = scan(Path(path))
    passed_over = found.note()
    if not found.recordings:
        yield _nothing(path, f"a folder without recordings{passed_over and f' ({passed_over})'}")
        return
    if passed_over and path not in noted:
        noted.add(path)
        note(f"{path}: {passed_over}")
    for recording in found.recordings:
        yield Request(recording, Path(path))


def _nothing(path: str, got: str) -> Request:
    return Request(Failure(path, AudioError(path, got=got, expected="recordings")))
