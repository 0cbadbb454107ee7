"""Tables of segments: the turns of a call or the utterances of a file, from CSV, RTTM or Praat's TextGrid.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> _ = (folder / "call.wav").write_bytes(b"x")
>>> _ = (folder / "turns.csv").write_text("path,start,end,speaker\\ncall.wav,0,0:02.5,A\\n")
>>> (turn,) = read_turns(folder / "turns.csv").turns
>>> turn.item.start_seconds, turn.item.end_seconds, turn.row
(0.0, 2.5, {'path': 'call.wav', 'start': '0', 'end': '0:02.5', 'speaker': 'A'})
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from affekt.audio.folders import can_decode
from affekt.data.times import parse_seconds
from affekt.errors import NO_FILE, AudioError, ConfigError, reason
from affekt.recognition.prediction import Failure
from affekt.recognition.sources import Channel, Segment, segment_of

PATHS = ("path", "file", "filename", "filepath", "audio", "wav", "recording", "audio_path", "file_name")
STARTS = ("start", "start_seconds", "start_time", "begin", "onset", "from")
ENDS = ("end", "end_seconds", "end_time", "stop", "offset", "to")
DURATIONS = ("duration", "duration_seconds", "dur", "length")
CHANNELS = ("channel",)
"""Names of columns, in the order of preference; upper and lower case are alike."""


class Turn(NamedTuple):
    """One row of a table: the segment of a recording, or its fault; and the row's own columns."""

    item: Segment | Failure
    row: dict[str, str]


@dataclass(frozen=True)
class Turns:
    """A table of segments.

    Attributes:
        columns: names of the table's own columns.
        turns: its rows, in order.
    """

    columns: tuple[str, ...]
    turns: tuple[Turn, ...]


def read_turns(path: str | Path, recordings: Sequence[str] = (), channel: Channel = "mix") -> Turns:
    """Read a table of segments.

    A CSV file (with commas, semicolons or tabs) has columns for the start and for the end or the duration, and
    optionally one for the recording's path, relative to the table; a table with paths alone, such as a manifest, stands
    for whole recordings. RTTM and TextGrid files name their recording by its
    stem, beside the table. Recordings that are given are used instead, by name or stem; a single one is that of rows
    without a path.

    Args:
        path: the table.
        recordings: paths of recordings that the rows refer to.
        channel: which channel to hear.

    Returns:
        A row each; rows whose recording or times cannot be used hold a :class:`Failure`.

    Raises:
        ConfigError: a file that cannot be read, is no such table or lacks a column.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), got=reason(error), expected="a CSV, RTTM or TextGrid file") from error
    text = _decoded(content, path)
    readers = {".rttm": _rttm_rows, ".textgrid": _textgrid_rows}
    try:
        rows = list(readers.get(path.suffix.lower(), _csv_rows)(text, path))
    except csv.Error as error:
        raise ConfigError(f"segments {path}", got=str(error), expected="CSV") from error
    if not rows:
        raise ConfigError(f"segments {path}", got="no segments", expected="at least one")
    find = _Recordings(path, tuple(recordings))
    return Turns(tuple(rows[0].own), tuple(_turn(row, find, channel) for row in rows))


class _Row(NamedTuple):
    """One segment as its file states it: where, the recording's name, times, and all columns."""

    where: str
    recording: str
    start: Any
    end: Any
    duration: Any
    own: dict[str, str]


def _turn(row: _Row, find: _Recordings, channel: Channel) -> Turn:
    """A row's segment, or its fault."""
    name = row.recording or row.where
    try:
        recording = find(row.recording)
        name = recording
        start = _seconds(row.start, f"{row.where}: start")
        end = _seconds(row.end, f"{row.where}: end")
        duration = _seconds(row.duration, f"{row.where}: duration")
        if end is None and duration is not None:
            end = (start or 0.0) + duration
        return Turn(segment_of(recording, start, end, channel), row.own)
    except AudioError as error:
        faults = [fault if fault.what.startswith(row.where) else fault.at(row.where) for fault in error.faults]
        return Turn(Failure(name, AudioError.of(faults)), row.own)


def _seconds(value: Any, what: str) -> float | None:
    try:
        return parse_seconds(value)
    except ValueError as error:
        raise AudioError(what, got=repr(value), expected=str(error)) from error


class _Recordings:
    """Finds the recordings that rows name."""

    def __init__(self, table: Path, given: tuple[str, ...]) -> None:
        self._table, self._given = table, given
        self._found: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The path of a recording.

        Raises:
            AudioError: none, or several that it may be.
        """
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> str:
        if self._given:
            same = [path for path in self._given if name in (path, Path(path).name, Path(path).stem)]
            same = same or [path for path in self._given if name and Path(path).stem == Path(name).stem]
            chosen = same if name and (same or len(self._given) > 1) else list(self._given)
            if len(chosen) == 1:
                return chosen[0]
            got = f"{len(chosen)} of the given recordings" if chosen else "none of the given recordings"
            raise AudioError(f"recording {name!r}", got=got, expected="one of that name")
        beside = self._table.parent / (name or self._table.stem)
        if beside.is_file():
            return str(beside)
        candidates = [path for path in sorted(beside.parent.glob(_literal(beside.name) + ".*")) if _is_recording(path)]
        if len(candidates) == 1:
            return str(candidates[0])
        if candidates:
            got = f"several recordings ({', '.join(path.name for path in candidates[:3])})"
            raise AudioError(f"recording {name!r}", got=got, expected="one", remedy="name it before --segments")
        remedy = "name the recording before --segments"
        raise AudioError(str(beside), got=NO_FILE, expected="an audio file", remedy=remedy)


def _is_recording(path: Path) -> bool:
    return path.is_file() and can_decode(path.suffix)


def _literal(name: str) -> str:
    """A name in a pattern."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def _decoded(content: bytes, path: Path) -> str:
    """The text of a table: UTF-8, or UTF-16 as Praat writes it, else Latin-1; sound is refused."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:4_096]:
        raise ConfigError(f"segments {path}", got="no text", expected="a CSV, RTTM or TextGrid file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _csv_rows(text: str, path: Path) -> Iterator[_Row]:
    head = text.partition("\n")[0]
    delimiter = max("\t;,", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=None), delimiter=delimiter)
    names = {str(name).strip().lower(): str(name) for name in reader.fieldnames or ()}

    def column(options: Sequence[str]) -> str | None:
        return next((names[option] for option in options if option in names), None)

    start, end, duration = column(STARTS), column(ENDS), column(DURATIONS)
    recording = column(PATHS)
    whole = recording is not None and not (start or end or duration)
    if not whole and (start is None or (end is None and duration is None)):
        got = f"the columns {', '.join(map(repr, names.values())) or 'none'}"
        expected = "start and end (or duration), and path unless one recording is given"
        raise ConfigError(f"segments {path}", got=got, expected=expected)
    for number, row in enumerate(reader, start=2):
        own = {str(key): str(value or "") for key, value in row.items() if key is not None}
        name, *times = (row.get(name) if name else None for name in (recording, start, end, duration))
        yield _Row(f"{path.name}: row {number}", str(name or "").strip(), times[0], times[1], times[2], own)


def _rttm_rows(text: str, path: Path) -> Iterator[_Row]:
    """The SPEAKER lines: type, file, channel, start, duration, orthography, subtype, name, confidence, lookahead."""
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        if len(fields) < 8:
            got, expected = f"{len(fields)} fields in line {number}", "at least 8 in a SPEAKER line"
            raise ConfigError(f"segments {path}", got=got, expected=expected)
        own = {"file": fields[1], "start": fields[3], "duration": fields[4], "speaker": fields[7]}
        yield _Row(f"{path.name}: line {number}", fields[1], fields[3], None, fields[4], own)


def _textgrid_rows(text: str, path: Path) -> Iterator[_Row]:
    """The labelled intervals of all interval tiers; Praat's long and short text forms hold the same values in order."""
    found = re.finditer(r'"((?:[^"]|"")*)"|(?<![\w\[])(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w\]])', text)
    values = [float(match[2]) if match[2] else match[1].replace('""', '"') for match in found]
    if values[:2] != ["ooTextFile", "TextGrid"] or len(values) < 5:
        raise ConfigError(f"segments {path}", got="no TextGrid", expected="Praat's text form, long or short")
    place = 5  # after xmin, xmax and the number of tiers
    number = 0
    try:
        for _ in range(int(float(values[4]))):
            kind, tier, count = values[place], str(values[place + 1]), int(float(values[place + 4]))
            place += 5
            width = 3 if kind == "IntervalTier" else 2
            for interval in range(count):
                start, end, label = (*values[place : place + width], "")[:3]
                place += width
                number += 1
                if width == 3 and str(label).strip():
                    own = {"tier": tier, "start": str(start), "end": str(end), "text": str(label)}
                    yield _Row(f"{path.name}: {tier}, interval {interval + 1}", "", start, end, None, own)
    except (IndexError, ValueError, TypeError) as error:
        raise ConfigError(f"segments {path}", got="a TextGrid that breaks off", expected="all its tiers") from error
