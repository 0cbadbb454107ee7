"""`affekt predict`: emotions of recordings, of parts of them, or over time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from affekt.cli.framework.arguments import Option
from affekt.errors import AudioError, ConfigError, Fault
from affekt.recognition.bulk import recognition
from affekt.recognition.prediction import Failure, Prediction
from affekt.recognition.requests import Channels, Request, find_requests, turn_requests
from affekt.runtime.outputs import outputs_under, refuse_overwriting
from affekt.runtime.ray_cluster import RayCluster

if TYPE_CHECKING:
    from affekt.recognition.formats.listing import ListLayout
    from affekt.recognition.recognizer import Recognizer
    from affekt.recognition.timeline import Timeline, TimelineConfig

Layout = Literal["table", "json", "jsonl", "csv", "audacity", "textgrid", "rttm", "srt", "vtt", "html", "png"]
LISTS = ("table", "json", "jsonl", "csv")


def predict(
    *paths: str,
    segments: Path | None = None,
    model: Path | None = None,
    format: Layout | None = None,
    output: Annotated[Path | None, Option("-o")] = None,
    resume: bool = False,
    embeddings: Path | None = None,
    min_confidence: float | None = None,
    channels: Channels = "mix",
    first: bool = False,
    timeline: bool = False,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    activity: Literal["energy", "silero", "none"] = "energy",
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    ray: RayCluster | None = None,
) -> int:
    """Recognize the emotion of recordings: files, folders, patterns, or `-` for standard input.

    One line per recording, in the order given; folders are searched recursively. A recording is heard to its end: the
    answer for one longer than the model's clip is the mean over its speech. A recording that cannot be used gives one
    line on standard error and exit code 1, and all others are delivered.

    Args:
        paths: recordings in any format that libsndfile or the extra `containers` decodes, at any rate.
        segments: recognize the segments in this table instead: CSV with start, end (or duration) and path columns,
            RTTM or TextGrid. Recordings are found beside it, or named as PATHS.
        model: a file written by `affekt export`; by default the model that comes with affekt.
        format: table, json, jsonl or csv. With `--timeline` also audacity, textgrid, rttm, srt, vtt, html or png.
        output: write there instead of printing: a file whose suffix states the format, or a folder for timelines.
        resume: continue a partly written csv or jsonl file; recordings that are in it are not recognized again.
        embeddings: also write the embeddings, float32 [recordings, features], to this .npy file; NaN where one failed.
        min_confidence: mark predictions below this as unsure; by default the model's threshold.
        channels: the mean of all channels, one of them, or one answer for each.
        first: only the first 7.5 s (the model's clip) are analyzed.
        timeline: emotion over time: the segments of each recording instead of one answer.
        window_seconds: with `--timeline`: length of a window.
        hop_seconds: with `--timeline`: step between windows.
        activity: with `--timeline`: speech detector.
        jobs: recordings to process at a time; by default one per core.
        engine: `ray` distributes the recordings over a cluster whose nodes read them by the same paths.
        ray: with `--engine ray`: which cluster.
    """
    _check(paths, segments, format, output, min_confidence, jobs, timeline)
    _check_files(output, resume, embeddings, timeline)
    _check_engine(engine, ray, paths, jobs, timeline)
    requests, own = _requests(paths, segments, channels)
    refuse_overwriting([output, embeddings], [segments, model, *(request.name for request in requests)])
    told = _Told()
    if timeline:
        answers = _timelines(_load(model, jobs), requests, min_confidence, (window_seconds, hop_seconds, activity))
        _deliver_timelines(told.usable(answers), format, output, requests)
    else:
        listed = _List(requests, own, channels, format, output, resume)
        options = {"min_confidence": min_confidence, "first": first}
        cluster = (ray or RayCluster()) if engine == "ray" else None
        listed.deliver(model, options, jobs, cluster, told)
    if embeddings is not None:
        _write_embeddings(_load(model, jobs), requests, embeddings)
    return int(bool(told.failures))


class _Told:
    """Failures, each of which is printed to standard error once."""

    def __init__(self) -> None:
        self.failures = 0

    def hear(self, answer: Prediction | Timeline | Failure) -> None:
        """Print a failure; note a recording of which only the beginning was heard."""
        if isinstance(answer, Failure):
            self.failures += 1
            print(f"affekt: failed: {answer}", file=sys.stderr)
        elif isinstance(answer, Prediction) and answer.truncated:
            note = f"--first: only its first {answer.end_seconds:g} s were analyzed"
            print(f"affekt: note: {answer.source}: {note}", file=sys.stderr)

    def usable(self, answers: Iterable[Timeline | Failure]) -> Iterator[Timeline]:
        """Answers without the failures."""
        for answer in answers:
            self.hear(answer)
            if not isinstance(answer, Failure):
                yield answer


def _check(
    paths: Sequence[str],
    segments: Path | None,
    layout: str | None,
    output: Path | None,
    min_confidence: float | None,
    jobs: int | None,
    timeline: bool,
) -> None:
    """Refuse missing paths, formats that do not fit and numbers out of range, all at once."""
    faults: list[Fault] = []
    if not paths and segments is None:
        remedy = "see `affekt predict --help`"
        faults.append(Fault("recordings", "none", "files, folders, patterns, or - for standard input", remedy))
    if layout is not None and layout not in LISTS and not timeline:
        remedy = f"{layout} shows a timeline: add --timeline"
        faults.append(Fault("format", layout, f"one of {', '.join(LISTS)}", remedy))
    if timeline and segments is not None:
        faults.append(Fault("segments", "--timeline with them", "one of the two"))
    if layout == "table" and output is not None:
        faults.append(Fault("format", "table with --output", "a format for files", "leave --format out"))
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        faults.append(Fault("min-confidence", f"{min_confidence:g}", "0 to 1"))
    if jobs is not None and jobs < 1:
        faults.append(Fault("jobs", str(jobs), "at least 1"))
    if faults:
        raise ConfigError.of(faults)


def _check_files(output: Path | None, resume: bool, embeddings: Path | None, timeline: bool) -> None:
    """Options of files that contradict each other."""
    odd = (
        ("resume", resume and output is None, "no --output", "--output with a csv or jsonl file"),
        ("resume", resume and timeline, "--timeline with it", "a list of answers"),
        ("embeddings", embeddings is not None and timeline, "--timeline with them", "a list of answers"),
        ("embeddings", bool(embeddings and embeddings.suffix != ".npy"), str(embeddings), "a file ending in .npy"),
    )
    faults = [Fault(what, got, expected) for what, holds, got, expected in odd if holds]
    if faults:
        raise ConfigError.of(faults)


def _check_engine(engine: str, ray: RayCluster | None, paths: Sequence[str], jobs: int | None, timeline: bool) -> None:
    """Options of a cluster that contradict others."""
    odd = (
        ("ray", ray is not None and engine != "ray", "options of a cluster", "--engine ray with them"),
        ("engine", timeline and engine == "ray", "ray with --timeline", "local: a timeline is one recording's"),
        ("engine", jobs is not None and engine == "ray", "ray with --jobs", "local: a cluster has its own CPUs"),
        ("paths", "-" in paths and engine == "ray", "-, which nodes cannot read", "files"),
    )
    faults = [Fault(what, got, expected) for what, holds, got, expected in odd if holds]
    if faults:
        raise ConfigError.of(faults)


def _requests(paths: Sequence[str], segments: Path | None, channels: Channels) -> tuple[list[Request], tuple[str, ...]]:
    """Everything to recognize, and the names of the columns that rows bring."""
    if segments is not None:
        return turn_requests(segments, paths, channels)
    return find_requests(paths, channels, lambda text: print(f"affekt: note: {text}", file=sys.stderr)), ()


def _load(model: Path | None, jobs: int | None) -> Recognizer:
    """The model, in this process; its libraries are imported now, since they take longest of all."""
    from affekt.recognition.recognizer import Recognizer

    return Recognizer.load(model, threads=jobs)


class _List:
    """A list of answers, printed or written to a file."""

    def __init__(
        self,
        requests: Sequence[Request],
        own: Sequence[str],
        channels: Channels,
        layout: str | None,
        output: Path | None,
        resume: bool,
    ) -> None:
        from affekt.recognition.formats.listing import finished_rows, layout_of

        self.requests, self.own, self.channels = list(requests), own, channels
        self.output = output
        self.layout: ListLayout = layout_of(output, layout) if output else layout or "table"  # type: ignore[assignment]
        self.rows = finished_rows(output, self.layout) if output and resume else None
        wanted = [request.name for request in self.requests[: len(self.rows or ())]]
        if [row["source"] for row in self.rows or ()] != wanted:
            got, remedy = "answers for other recordings", "write to another file"
            raise ConfigError(f"output {output}", got=got, expected="the beginning of this list", remedy=remedy)

    def deliver(
        self, model: Path | None, options: dict[str, Any], jobs: int | None, cluster: RayCluster | None, told: _Told
    ) -> None:
        """Recognize what is missing, and write it as it comes."""
        from affekt.recognition.formats.listing import AnswerWriter

        done = self.rows or []
        told.failures += sum(bool(row.get("error")) for row in done)
        left = self.requests[len(done) :]
        if self.rows is not None:
            print(f"affekt: note: resumed after {len(done)} of {len(self.requests)} answers", file=sys.stderr)
        items = [request.item for request in left]
        with recognition(model, items, options, jobs, cluster) as (labels, answers), self._file() as file:
            names = [request.name for request in self.requests]
            listing = AnswerWriter(file, self.layout, labels, names, self.own, self.channels != "mix")
            listing.failures = self.output is not None
            listing.continued = None if self.rows is None else len(done)
            listing.begin()
            for request, answer in zip(left, answers, strict=True):
                told.hear(answer)
                listing.add(answer, request.row)
            listing.end()

    @contextmanager
    def _file(self) -> Iterator[TextIO]:
        if self.output is None:
            yield sys.stdout
            return
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("w" if self.rows is None else "a", encoding="utf-8", newline="") as file:
            yield file


def _write_embeddings(recognizer: Recognizer, requests: Sequence[Request], path: Path) -> None:
    """One row per request, in order."""
    from affekt.recognition.embeddings import write_embeddings

    write_embeddings(recognizer, [request.item for request in requests], path)


def _timelines(
    recognizer: Recognizer,
    requests: Sequence[Request],
    min_confidence: float | None,
    windows: tuple[float | None, float | None, str],
) -> Iterator[Timeline | Failure]:
    """The timeline of each request."""
    from affekt.recognition.timeline import TimelineConfig

    config = TimelineConfig(*windows)
    config.resolved(recognizer.card)
    return (_timeline(recognizer, request, min_confidence, config) for request in requests)


def _timeline(
    recognizer: Recognizer, request: Request, min_confidence: float | None, config: TimelineConfig
) -> Timeline | Failure:
    if isinstance(request.item, Failure):
        return request.item
    try:
        return recognizer.timeline(request.item, min_confidence=min_confidence, config=config)
    except AudioError as error:
        return Failure(request.name, error)


def _deliver_timelines(
    timelines: Iterator[Timeline], layout: str | None, output: Path | None, requests: Sequence[Request]
) -> None:
    if output is not None:
        _write_timelines(timelines, layout, output, requests)
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
    from affekt.recognition.formats.tables import prediction_columns, print_csv

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
    timelines: Iterable[Timeline], layout: str | None, output: Path, requests: Sequence[Request]
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
    by_name = {_key(request): place for request, place in zip(requests, places, strict=True)}
    for timeline in timelines:
        path = by_name[timeline.source, timeline.channel]
        write(timeline, path, name)
        print(f"{timeline.source}: {path}", flush=True)


def _key(request: Request) -> tuple[str, str | None]:
    """What tells the timeline of a request from those of others."""
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
