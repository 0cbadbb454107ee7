"""Timelines to standard output, to a file, or into a folder with the structure of the recordings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affekt.errors import ConfigError
from affekt.recognition.prediction import Failure
from affekt.recognition.requests import Request
from affekt.runtime.outputs import outputs_under, refuse_overwriting, refuse_replacing

if TYPE_CHECKING:
    from affekt.recognition.timeline import Timeline


def deliver_timelines(
    timelines: Iterable[Timeline],
    layout: str | None,
    output: Path | None,
    requests: Sequence[Request],
    force: bool = False,
) -> None:
    """Print timelines, or write each to its file.

    Args:
        timelines: of the requests that succeeded, in order.
        layout: `table`, `json`, `jsonl` or a name in :data:`affekt.recognition.formats.FORMATS`; None: as the suffix of
            the output says, else a table, or JSON in a folder.
        output: a file for one timeline, or a folder; None: standard output.
        requests: all that was asked for, which name the files in a folder.
        force: replace files that exist already.

    Raises:
        ConfigError: a format or place that does not fit, or a file that exists; nothing has been written then, and no
            timeline computed.
    """
    if output is not None:
        _write_timelines(timelines, layout, output, requests, force)
    elif layout in (None, "table"):
        for timeline in timelines:
            print(timeline, flush=True)
    elif layout == "json":
        _print_json(timeline.to_dict() for timeline in timelines)
    elif layout == "jsonl":
        for timeline in timelines:
            print(json.dumps(timeline.to_dict(), ensure_ascii=False), flush=True)
    elif layout == "csv":
        _print_segments(timelines)
    else:
        _print_one(timelines, str(layout), len(requests))


def _print_json(items: Iterable[dict[str, Any]]) -> None:
    """A JSON list, item by item as they come."""
    separator = "[\n"
    for item in items:
        print(separator + json.dumps(item, ensure_ascii=False), end="", flush=True)
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]")


def _print_segments(timelines: Iterable[Timeline]) -> None:
    from affekt.recognition.answer_rows import prediction_columns, print_csv

    for index, timeline in enumerate(timelines):
        rows = (segment.to_row() for segment in timeline.segments)
        print_csv(prediction_columns(timeline.labels), rows, sys.stdout, header=index == 0)


def _print_one(timelines: Iterable[Timeline], layout: str, count: int) -> None:
    from affekt.recognition.formats import FORMATS

    if layout == "png" or count > 1:
        got = "standard output" if layout == "png" else f"standard output for {count} recordings"
        raise ConfigError(
            f"format {layout}", got=got, expected="--output with a file, or a folder for several recordings"
        )
    for timeline in timelines:
        print(FORMATS[layout].render(timeline), end="")


def _write_timelines(
    timelines: Iterable[Timeline], layout: str | None, output: Path, requests: Sequence[Request], force: bool
) -> None:
    from affekt.recognition.formats import FORMATS, of_suffix, write

    is_file = bool(output.suffix) and not output.is_dir()
    if is_file and len(requests) > 1:
        got = f"{output} for {len(requests)} recordings"
        raise ConfigError("output", got=got, expected="a folder", remedy="add --format")
    name = layout or (of_suffix(output) if is_file else "json")
    if name not in FORMATS:
        raise ConfigError("format", got=name, expected=f"one of {', '.join(FORMATS)} with --output")
    places = [output] * len(requests) if is_file else _places(output, requests, FORMATS[name].suffix)
    refuse_overwriting(places, [request.name for request in requests])
    refuse_replacing(dict.fromkeys(places), force)
    by_name = {_key(request): place for request, place in zip(requests, places, strict=True)}
    for timeline in timelines:
        path = by_name[timeline.source, timeline.channel]
        write(timeline, path, name)
        print(f"{timeline.source}: {path}", flush=True)


def _key(request: Request) -> tuple[str, str | None]:
    """The key that tells the timeline of a request from those of others."""
    from affekt.recognition.sources import channel_of

    return request.name, None if isinstance(request.item, Failure) else channel_of(request.item)


def _places(folder: Path, requests: Sequence[Request], suffix: str) -> list[Path]:
    """An output for each request, in the folder structure of the recordings; channels have names of their own."""
    usual = [(request.base or Path(), Path(request.name.strip("<>"))) for request in requests]
    places = outputs_under(folder, usual, suffix)
    channels = [_key(request)[1] for request in requests]
    return [
        place.with_name(f"{place.name.removesuffix(suffix)}.{channel.replace(' ', '-')}{suffix}") if channel else place
        for place, channel in zip(places, channels, strict=True)
    ]
