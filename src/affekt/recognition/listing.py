"""Lists of answers, one per recording or segment: a table for the terminal, CSV, JSON and JSON lines.

Answers are written as they come. A file that was cut off can be continued: see :func:`finished_rows`.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from affekt.errors import ConfigError
from affekt.recognition.answer_rows import prediction_columns, print_csv
from affekt.recognition.prediction import NO_SPEECH, Failure, Prediction

ListLayout = Literal["table", "json", "jsonl", "csv"]
LISTS: tuple[ListLayout, ...] = get_args(ListLayout)
RESUMED: tuple[ListLayout, ...] = ("csv", "jsonl")
"""Layouts whose files can be continued."""
FILES: dict[str, ListLayout] = {".csv": "csv", ".json": "json", ".jsonl": "jsonl"}
"""Layouts by the suffix of a file."""
GIVEN = "given."
"""Prefix of a table's own columns whose names the answers need."""
OTHER_NAMES = ("channel", "adapted", "error", "probabilities")
"""Names in answers beside those of :func:`affekt.recognition.answer_rows.prediction_columns`."""
NARROWEST = 12
"""Columns of the terminal that a source gets at least; probabilities give way to it."""

Answer = Prediction | Failure
Row = Mapping[str, str]


@dataclass
class AnswerWriter:
    """Writes answers in one layout.

    Attributes:
        file: where to.
        layout: how.
        labels: class names of the model.
        sources: names of all recordings to come, which set the width of the table's first column; on a terminal they
            are shortened to fit.
        own: names of the columns that rows bring from a table of segments.
        channels: whether answers differ by channel.
        failures: whether failed recordings are listed too, with an `error`; CSV always lists them.
        continued: how many answers the file holds already; None: not even what comes before them.
    """

    file: TextIO
    layout: ListLayout
    labels: Sequence[str]
    sources: Sequence[str] = ()
    own: Sequence[str] = ()
    channels: bool = False
    failures: bool = False
    continued: int | None = None
    _written: int = field(default=0, init=False)

    def begin(self) -> None:
        """Write what comes before the first answer."""
        self._written = self.continued or 0
        if self.layout == "table":
            room = shutil.get_terminal_size((80, 24)).columns if self.file.isatty() else sys.maxsize
            self._table = _Table(self.labels, self.sources, self.channels, room)
            self._print(self._table.head())
        elif self.layout == "csv" and self.continued is None:
            print_csv(self._columns(), (), self.file)
            self.file.flush()

    def add(self, answer: Answer, row: Row | None = None) -> None:
        """Write one answer, with the columns of its row in a table of segments."""
        listed = isinstance(answer, Prediction) or self.failures or self.layout == "csv"
        if not listed:
            return
        own = {self._renamed(name): text for name, text in (row or {}).items()}
        if self.layout == "csv":
            values = answer.to_row() if isinstance(answer, Prediction) else answer.to_dict()
            print_csv(self._columns(), [own | values], self.file, header=False)
        elif self.layout == "jsonl":
            self._print(json.dumps(own | answer.to_dict(), ensure_ascii=False))
        elif self.layout == "json":
            text = json.dumps(own | answer.to_dict(), ensure_ascii=False)
            print(("[\n" if not self._written else ",\n") + text, end="", file=self.file, flush=True)
        elif isinstance(answer, Prediction):
            self._print(self._table.line(answer))
        self._written += 1

    def end(self) -> None:
        """Write what comes after the last answer."""
        if self.layout == "json":
            self._print("\n]" if self._written else "[]")

    def _columns(self) -> list[str]:
        channel = ["channel"] if self.channels else []
        return [*map(self._renamed, self.own), *prediction_columns(self.labels), *channel, "adapted", "error"]

    def _renamed(self, name: str) -> str:
        """A table's column under a name that no column of the answers has."""
        return (
            GIVEN + name
            if name in {*prediction_columns(self.labels), "channel", "adapted", "error", "probabilities"}
            else name
        )

    def _print(self, text: str) -> None:
        print(text, file=self.file, flush=True)


class _Table:
    """A table that fits the columns of a terminal: long sources are shortened in the middle."""

    def __init__(self, labels: Sequence[str], sources: Sequence[str], channels: bool, room: int) -> None:
        self._labels = labels
        self._columns = [(label, max(len(label), 5)) for label in labels]
        self._label_width = max(len(NO_SPEECH), *map(len, labels))
        longest = max((len(source) + len(" [right]") * channels for source in sources), default=7)
        fixed = len(self._rest("", "", "", ""))
        probabilities = sum(2 + width for _, width in self._columns)
        if room - fixed - probabilities < min(longest, NARROWEST):
            self._columns, probabilities = [], 0
        self._width = max(len("source"), min(longest, room - fixed - probabilities))

    def head(self) -> str:
        names = "".join(f"  {label:>{width}}" for label, width in self._columns)
        return f"{'source':<{self._width}}{self._rest('seconds', 'label', 'conf.', '')}{names}".rstrip()

    def line(self, answer: Prediction) -> str:
        channel = f" [{answer.channel}]" if answer.channel else ""
        source = shortened(answer.source, self._width - len(channel)) + channel
        seconds = f"{answer.end_seconds - answer.start_seconds:.2f}"
        spoken = answer.label != NO_SPEECH
        unsure = ("unsure" if spoken else "silent" if answer.silent else "") if answer.unsure else ""
        rest = self._rest(seconds, answer.label, f"{answer.confidence:.0%}" if spoken else "", unsure)
        values = "".join(f"  {answer.probabilities[label]:>{width}.3f}" for label, width in self._columns)
        return f"{source:<{self._width}}{rest}{values if spoken else ''}".rstrip()

    def _rest(self, seconds: str, label: str, confidence: str, unsure: str) -> str:
        return f"  {seconds:>7}  {label:<{self._label_width}}  {confidence:>5}  {unsure:<6}"


def shortened(text: str, width: int) -> str:
    """A text that fits, cut in the middle: the ends of paths tell most.

    >>> shortened("recordings/2024/november/call-17.wav", 20)
    'recordi...all-17.wav'
    """
    if len(text) <= width:
        return text
    if width <= 3:
        return text[-width:] if width > 0 else ""
    head = (width - 3) * 2 // 5 + (width - 3) % 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def layout_of(path: Path, layout: str | None) -> ListLayout:
    """The layout of an output file, which its suffix states unless one was asked for.

    Raises:
        ConfigError: neither states a layout for a list of answers.
    """
    chosen = layout or FILES.get(path.suffix.lower())
    if chosen in ("csv", "json", "jsonl"):
        return chosen  # type: ignore[return-value]
    got = f"format {layout}" if layout else f"the suffix {path.suffix!r}"
    expected = f"one of {', '.join(FILES)}, or --format csv, json or jsonl"
    raise ConfigError(f"output {path}", got=got, expected=expected, remedy="add --timeline for other formats")


def finished_rows(path: Path, layout: ListLayout) -> list[dict[str, Any]] | None:
    """The answers in a file that was perhaps cut off; a line that breaks off is taken out of the file.

    Args:
        path: a file that :class:`AnswerWriter` began.
        layout: csv or jsonl.

    Returns:
        Its answers; None if the file is missing or holds no whole line.

    Raises:
        ConfigError: a layout that cannot be continued, or a file of anything else.
    """
    if layout not in RESUMED:
        got, expected = f"the format {layout}", "csv or jsonl, whose lines can be continued"
        raise ConfigError("resume", got=got, expected=expected)
    if not path.exists():
        return None
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        rows = (_csv_rows if layout == "csv" else _json_rows)(whole.decode()) if whole else None
    except (ValueError, csv.Error) as error:
        expected = f"the {layout} output of affekt predict"
        raise ConfigError(f"output {path}", got="other lines", expected=expected) from error
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return rows


def _csv_rows(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = list(reader)
    if "source" not in (reader.fieldnames or ()) or any(None in row or None in row.values() for row in rows):
        raise ValueError("a row of another length")
    return rows


def _json_rows(text: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    if not all(isinstance(row, dict) and "source" in row for row in rows):
        raise ValueError("no answers")
    return rows
