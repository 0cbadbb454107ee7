"""Timelines as files for other tools: tables, Audacity, Praat, diarization tools, subtitles and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from affekt.errors import ConfigError
from affekt.recognition.formats import audacity, picture, rttm, subtitles, tables, textgrid
from affekt.recognition.timeline import Timeline
from affekt.runtime.atomic_files import write_bytes


@dataclass(frozen=True)
class Format:
    """A way to write a timeline: the suffix of its files, and their content."""

    suffix: str
    render: Callable[[Timeline], str | bytes]


FORMATS: dict[str, Format] = {
    "csv": Format(".csv", tables.to_csv),
    "json": Format(".json", tables.to_json),
    "audacity": Format(".txt", audacity.to_labels),
    "textgrid": Format(".TextGrid", textgrid.to_textgrid),
    "rttm": Format(".rttm", rttm.to_rttm),
    "srt": Format(".srt", subtitles.to_srt),
    "vtt": Format(".vtt", subtitles.to_vtt),
    "html": Format(".html", picture.to_html),
    "png": Format(".png", picture.to_png),
}
"""Formats by name."""


def of_suffix(path: Path) -> str:
    """The name of the format that a file's suffix asks for.

    >>> of_suffix(Path("call.textgrid"))
    'textgrid'

    Raises:
        ConfigError: no format has it.
    """
    for name, known in FORMATS.items():
        if known.suffix.lower() == path.suffix.lower():
            return name
    suffixes = ", ".join(known.suffix for known in FORMATS.values())
    raise ConfigError(f"output {path}", got=repr(path.suffix), expected=f"one of {suffixes}")


def write(timeline: Timeline, path: Path, name: str | None = None) -> None:
    """Write a timeline, atomically, in a format given by name or by the file's suffix.

    Raises:
        ConfigError: no such format.
    """
    content = FORMATS[name or of_suffix(path)].render(timeline)
    write_bytes(path, content.encode() if isinstance(content, str) else content)
