"""`affekt predict`: emotions of recordings, each as a whole or over time."""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from affekt.audio.folders import scan
from affekt.cli.framework.arguments import Option
from affekt.errors import AffektError, AudioError, ConfigError, Fault
from affekt.recognition.bulk import predict_in_processes, predict_on_ray
from affekt.recognition.models import BUNDLED
from affekt.recognition.prediction import Failure, Prediction
from affekt.runtime.cpu_affinity import available_cores
from affekt.runtime.processes import suitable
from affekt.runtime.ray_cluster import RayCluster

if TYPE_CHECKING:
    from affekt.recognition.recognizer import Recognizer
    from affekt.recognition.sources import Source
    from affekt.recognition.timeline import Timeline

Layout = Literal["table", "json", "jsonl", "csv", "audacity", "textgrid", "rttm", "html", "png"]
LISTS = ("table", "json", "jsonl", "csv")

Answer = TypeVar("Answer", Prediction, "Timeline")


def predict(
    *paths: str,
    model: Path | None = None,
    format: Layout | None = None,
    output: Annotated[Path | None, Option("-o")] = None,
    min_confidence: float | None = None,
    timeline: bool = False,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    activity: Literal["energy", "silero", "none"] = "energy",
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    ray: RayCluster | None = None,
) -> int:
    """Recognize the emotion of recordings: files, folders, patterns, or `-` for standard input.

    One line a recording, in the order given; folders are searched through all their levels. A recording that cannot be
    used costs one line on standard error and exit code 1, and the others are delivered.

    Args:
        paths: wav, flac, ogg, opus, mp3, aiff and what else libsndfile reads; at any rate, with any channels.
        model: a file written by `affekt export`; by default the one that comes with affekt.
        format: table, json, jsonl or csv. With `--timeline` also audacity, textgrid, rttm, html or png.
        output: with `--timeline`: write there instead of printing. A file, whose suffix says the format, or a folder.
        min_confidence: mark predictions below this as unsure; by default the model's own threshold.
        timeline: emotion over time: segments of each recording instead of one answer.
        window_seconds: with `--timeline`: what is heard at a time.
        hop_seconds: with `--timeline`: from one window to the next.
        activity: with `--timeline`: how speech is found.
        jobs: recordings to work on at a time; by default one per core.
        engine: `ray` shares the recordings out among the nodes of a cluster, which must find them by the same paths.
        ray: with `--engine ray`: which cluster.
    """
    _check(paths, format, output, min_confidence, jobs, timeline)
    _check_engine(engine, ray, paths, jobs, timeline)
    failures: list[Failure] = []
    sources = list(_sources(paths))
    if timeline:
        cut = (window_seconds, hop_seconds, activity)
        answers = _timelines(_load(model, jobs), sources, min_confidence, cut)
        _deliver_timelines(_usable(answers, failures), format, output, len(sources))
    else:
        with _recognition(model, sources, min_confidence, jobs, engine, ray) as (labels, recognized):
            _PRINTERS[format or "table"](_noted(_usable(recognized, failures)), labels, sources)
    return int(bool(failures))


def _check(
    paths: Sequence[str],
    layout: str | None,
    output: Path | None,
    min_confidence: float | None,
    jobs: int | None,
    timeline: bool,
) -> None:
    faults: list[AffektError] = []
    if not paths:
        faults.append(
            ConfigError("paths", got="none", expected="recordings, folders, patterns, or - for standard input")
        )
    if layout is not None and layout not in LISTS and not timeline:
        remedy = f"{layout} shows a timeline: add --timeline"
        faults.append(ConfigError("format", got=layout, expected=f"one of {', '.join(LISTS)}", remedy=remedy))
    if output is not None and not timeline:
        remedy = "redirect standard output, or add --timeline"
        faults.append(ConfigError("output", got=str(output), expected="--timeline with it", remedy=remedy))
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        faults.append(ConfigError("min-confidence", got=f"{min_confidence:g}", expected="0 to 1"))
    if jobs is not None and jobs < 1:
        faults.append(ConfigError("jobs", got=str(jobs), expected="at least 1"))
    if faults:
        raise ConfigError.of(fault for error in faults for fault in error.faults)


def _check_engine(engine: str, ray: RayCluster | None, paths: Sequence[str], jobs: int | None, timeline: bool) -> None:
    """Options that contradict each other."""
    odd = (
        ("ray", ray is not None and engine != "ray", "options of a cluster", "--engine ray with them"),
        ("engine", timeline and engine == "ray", "ray with --timeline", "local: a timeline is one recording's"),
        ("engine", jobs is not None and engine == "ray", "ray with --jobs", "local: a cluster has its own CPUs"),
        ("paths", "-" in paths and engine == "ray", "-, which nodes cannot read", "files"),
    )
    faults = [Fault(what, got, expected) for what, holds, got, expected in odd if holds]
    if faults:
        raise ConfigError.of(faults)


def _sources(paths: Iterable[str]) -> Iterator[Source | Failure]:
    """Recordings in the order given; a path that leads to none is a failure in its place."""
    noted: set[str] = set()
    for path in paths:
        if path == "-":
            yield sys.stdin.buffer
        elif Path(path).is_dir():
            yield from _folder(path, noted)
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = glob.glob(path, recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
            yield from sorted(matches) or (_nothing(path, "a pattern that matches nothing"),)
        else:
            yield path


def _folder(path: str, noted: set[str]) -> Sequence[str | Failure]:
    """Recordings in a folder; a note on standard error, once per folder, counts the files that are passed over."""
    found = scan(Path(path))
    note = found.note()
    if not found.recordings:
        return [_nothing(path, f"a folder without recordings{note and f' ({note})'}")]
    if note and path not in noted:
        noted.add(path)
        print(f"affekt: note: {path}: {note}", file=sys.stderr)
    return found.recordings


def _nothing(path: str, got: str) -> Failure:
    return Failure(path, AudioError(path, got=got, expected="recordings"))


@contextmanager
def _recognition(
    model: Path | None,
    sources: Sequence[Source | Failure],
    min_confidence: float | None,
    jobs: int | None,
    engine: str,
    ray: RayCluster | None,
) -> Iterator[tuple[tuple[str, ...], Iterator[Prediction | Failure]]]:
    """The model's labels, and an answer for each source.

    A single recording is worked on by all cores, many are shared out among them, very many among processes.
    """
    usable = [source for source in sources if not isinstance(source, Failure)]
    paths = [source for source in usable if isinstance(source, str)]
    processes = suitable(len(paths), jobs or available_cores())
    if engine == "local" and paths == usable and processes:
        with closing(predict_in_processes(model, paths, min_confidence, processes)) as said:
            yield next(said).labels, _in_place(sources, (answer for part in said for answer in part.answers))
        return
    recognizer = _load(model, jobs)
    if engine == "ray":
        path, names = model or BUNDLED, map(str, usable)
        with closing(predict_on_ray(path.read_bytes(), path.name, names, min_confidence, ray)) as answers:
            yield recognizer.labels, _in_place(sources, answers)
    elif len(usable) == 1:
        alone = _attempts(usable, lambda source: recognizer.predict(source, min_confidence=min_confidence))
        yield recognizer.labels, _in_place(sources, alone)
    else:
        yield recognizer.labels, _in_place(sources, recognizer.predict_many(usable, min_confidence=min_confidence))


def _load(model: Path | None, jobs: int | None) -> Recognizer:
    """The model, in this process; its libraries are imported now, since they take longest of all."""
    from affekt.recognition.recognizer import Recognizer

    return Recognizer.load(model, threads=jobs)


def _in_place(sources: Iterable[Source | Failure], answers: Iterator[Answer | Failure]) -> Iterator[Answer | Failure]:
    """Failures where they are, an answer for each other source."""
    for source in sources:
        yield source if isinstance(source, Failure) else next(answers)


def _timelines(
    recognizer: Recognizer,
    sources: Sequence[Source | Failure],
    min_confidence: float | None,
    cut: tuple[float | None, float | None, str],
) -> Iterator[Timeline | Failure]:
    from affekt.recognition.timeline import TimelineConfig

    config = TimelineConfig(*cut)
    config.resolved(recognizer.card)
    return _attempts(sources, lambda source: recognizer.timeline(source, min_confidence=min_confidence, config=config))


def _attempts(sources: Iterable[Source | Failure], recognize: Callable[[Source], Answer]) -> Iterator[Answer | Failure]:
    for source in sources:
        if isinstance(source, Failure):
            yield source
            continue
        try:
            yield recognize(source)
        except AudioError as error:
            yield Failure(str(source), error)


def _usable(answers: Iterable[Answer | Failure], failures: list[Failure]) -> Iterator[Answer]:
    """Answers without the failures, which go to standard error, a line each, and to the list."""
    for answer in answers:
        if isinstance(answer, Failure):
            failures.append(answer)
            print(f"affekt: failed: {answer}", file=sys.stderr)
        else:
            yield answer


def _noted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Says where only the beginning of a recording was heard."""
    for prediction in predictions:
        if prediction.truncated:
            note = f"only its first {prediction.end_seconds:g} s were heard; --timeline hears all of it"
            print(f"affekt: note: {prediction.source}: {note}", file=sys.stderr)
        yield prediction


def _print_table(predictions: Iterable[Prediction], labels: Sequence[str], sources: Sequence[object]) -> None:
    width = max((len(str(source)) for source in sources if isinstance(source, str)), default=7)
    columns = [(label, max(len(label), 5)) for label in labels]
    head = "  ".join(f"{label:>{size}}" for label, size in columns)
    print(f"{'source':<{width}}  {'seconds':>7}  {'label':<12}  {'sure':<6}  {head}")
    for answer in predictions:
        values = "  ".join(f"{answer.probabilities[label]:>{size}.3f}" for label, size in columns)
        seconds = answer.end_seconds - answer.start_seconds
        sure = "unsure" if answer.unsure else f"{answer.confidence:.0%}"
        print(f"{answer.source:<{width}}  {seconds:>7.2f}  {answer.label:<12}  {sure:<6}  {values}", flush=True)


def _print_json(predictions: Iterable[Prediction], labels: Sequence[str], sources: Sequence[object]) -> None:
    _print_list(prediction.to_dict() for prediction in predictions)


def _print_lines(predictions: Iterable[Prediction], labels: Sequence[str], sources: Sequence[object]) -> None:
    for prediction in predictions:
        print(json.dumps(prediction.to_dict(), ensure_ascii=False), flush=True)


def _print_csv(predictions: Iterable[Prediction], labels: Sequence[str], sources: Sequence[object]) -> None:
    from affekt.recognition.formats.tables import prediction_columns, print_csv

    print_csv(prediction_columns(labels), (prediction.to_row() for prediction in predictions), sys.stdout)


_PRINTERS: dict[str, Callable[[Iterable[Prediction], Sequence[str], Sequence[object]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "jsonl": _print_lines,
    "csv": _print_csv,
}


def _print_list(items: Iterable[dict[str, Any]]) -> None:
    """A JSON list, item by item as they come."""
    separator = "[\n"
    for item in items:
        print(separator + json.dumps(item, ensure_ascii=False), end="", flush=True)
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]")


def _deliver_timelines(timelines: Iterable[Timeline], layout: str | None, output: Path | None, count: int) -> None:
    if output is not None:
        _write_timelines(timelines, layout, output, count)
    elif layout in (None, "table"):
        for timeline in timelines:
            print(timeline, flush=True)
    elif layout == "json":
        _print_list(timeline.to_dict() for timeline in timelines)
    elif layout == "jsonl":
        for timeline in timelines:
            print(json.dumps(timeline.to_dict(), ensure_ascii=False), flush=True)
    elif layout == "csv":
        _print_segments(timelines)
    else:
        _print_one(timelines, str(layout), count)


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


def _write_timelines(timelines: Iterable[Timeline], layout: str | None, output: Path, count: int) -> None:
    from affekt.recognition.formats import FORMATS, of_suffix, write

    is_file = bool(output.suffix) and not output.is_dir()
    if is_file and count > 1:
        raise ConfigError("output", got=f"{output} for {count} recordings", expected="a folder", remedy="add --format")
    name = layout or (of_suffix(output) if is_file else "json")
    if name not in FORMATS:
        raise ConfigError("format", got=name, expected=f"one of {', '.join(FORMATS)} with --output")
    for timeline in timelines:
        path = output if is_file else output / (Path(timeline.source).stem + FORMATS[name].suffix)
        write(timeline, path, name)
        print(f"{timeline.source}: {path}", flush=True)
