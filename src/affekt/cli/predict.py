"""`affekt predict`: emotions of recordings, of parts of them, or over time."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from affekt.cli.framework.arguments import Option
from affekt.errors import ConfigError, Fault
from affekt.recognition.bulk import Voices, recognition, timelines
from affekt.recognition.prediction import Failure, Prediction
from affekt.recognition.requests import Channels, Request, find_requests, speakers_of, turn_requests
from affekt.runtime.outputs import refuse_overwriting, refuse_replacing
from affekt.runtime.ray_cluster import RayCluster

if TYPE_CHECKING:
    from affekt.recognition.listing import ListLayout
    from affekt.recognition.recognizer import Recognizer
    from affekt.recognition.timeline import Timeline

Layout = Literal["table", "json", "jsonl", "csv", "audacity", "textgrid", "rttm", "srt", "vtt", "html", "png"]
LISTS = ("table", "json", "jsonl", "csv")


def predict(
    *paths: str,
    segments: Path | None = None,
    model: Path | None = None,
    format: Layout | None = None,
    output: Annotated[Path | None, Option("-o")] = None,
    resume: bool = False,
    force: bool = False,
    embeddings: Path | None = None,
    min_confidence: float | None = None,
    channels: Channels = "mix",
    first: bool = False,
    adapt: Literal["speaker"] | None = None,
    baseline: tuple[Path, ...] = (),
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
        force: replace files that exist already, instead of refusing to.
        embeddings: also write the embeddings, float32 [recordings, features], to this .npy file; NaN where one
            failed or is silent.
        min_confidence: mark predictions below this as unsure; by default the model's threshold.
        channels: the mean of all channels, one of them, or one answer for each.
        first: only the first 7.5 s (the model's clip) are analyzed.
        adapt: adapt to each speaker by the speaker's own recordings: those of one folder, or of one name in the column
            `speaker` of the table of segments. Every recording is heard twice.
        baseline: a recording in which the speaker is calm, to adapt to this voice; may be given several times.
        timeline: emotion over time: the segments of each recording instead of one answer.
        window_seconds: with `--timeline`: length of a window.
        hop_seconds: with `--timeline`: step between windows.
        activity: with `--timeline`: speech detector.
        jobs: recordings to process at a time; by default one per core.
        engine: `ray` distributes the recordings over a cluster whose nodes read them by the same paths.
        ray: with `--engine ray`: the cluster.
    """
    _check(paths, segments, format, output, min_confidence, jobs, timeline)
    _check_files(output, resume, force, embeddings, timeline)
    _check_engine(engine, ray, paths, jobs, timeline)
    _check_adaptation(adapt, baseline, engine, resume)
    requests, own = _requests(paths, segments, channels)
    inputs = [segments, model, *baseline, *(request.name for request in requests)]
    refuse_overwriting([output, embeddings], inputs)
    if not force:
        _refuse_replacing(None if timeline else output, format, embeddings, resume, adapt is None)
    speakers = _speakers(requests) if adapt else None
    voices = Voices(tuple(map(str, baseline)), None if speakers is None else tuple(speakers))
    told = _Told()
    if timeline:
        from affekt.recognition.formats.delivery import deliver_timelines

        cut = (window_seconds, hop_seconds, activity)
        items = [request.item for request in requests]
        answers = _timelines(model, jobs, items, min_confidence, cut, voices)
        deliver_timelines(told.usable(answers), format, output, requests, force)
    else:
        listed = _List(requests, own, channels, format, output, resume)
        options = {"min_confidence": min_confidence, "first": first}
        cluster = (ray or RayCluster()) if engine == "ray" else None
        listed.deliver(model, options, jobs, cluster, voices, told)
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
    stated = output.suffix.lower().removeprefix(".") if output is not None and not timeline else ""
    if layout in LISTS and stated in LISTS and layout != stated:
        faults.append(Fault("format", f"{layout} with --output {output}", stated, "leave --format out"))
    if layout == "table" and output is not None:
        faults.append(Fault("format", "table with --output", "a format for files", "leave --format out"))
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        faults.append(Fault("min-confidence", f"{min_confidence:g}", "0 to 1"))
    if jobs is not None and jobs < 1:
        faults.append(Fault("jobs", str(jobs), "at least 1"))
    if faults:
        raise ConfigError.of(faults)


def _check_files(output: Path | None, resume: bool, force: bool, embeddings: Path | None, timeline: bool) -> None:
    """Options of files that contradict each other."""
    odd = (
        ("resume", resume and output is None, "no --output", "--output with a csv or jsonl file"),
        ("resume", resume and timeline, "--timeline with it", "a list of answers"),
        ("force", resume and force, "--resume with it", "one of the two"),
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


def _check_adaptation(adapt: str | None, baseline: Sequence[Path], engine: str, resume: bool) -> None:
    """Options of an adaptation that contradict others."""
    odd = (
        ("baseline", bool(adapt and baseline), "--adapt with it", "one of the two"),
        ("engine", bool((adapt or baseline) and engine == "ray"), "ray with an adaptation", "local"),
        ("resume", bool(adapt and resume), "--adapt with it", "the whole list, which the adaptation needs"),
    )
    faults = [Fault(what, got, expected) for what, holds, got, expected in odd if holds]
    if faults:
        raise ConfigError.of(faults)


def _speakers(requests: Sequence[Request]) -> list[str]:
    """The speaker of each recording; a note says what that rests on."""
    speakers, rule = speakers_of(requests)
    counts = Counter(speakers)
    named = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:5])
    more = f", and {len(counts) - 5} more" if len(counts) > 5 else ""
    plural = "s" if len(counts) != 1 else ""
    print(f"affekt: note: adapted to {len(counts)} speaker{plural} ({rule}): {named}{more}", file=sys.stderr)
    if len(counts) == 1:
        print("affekt: note: if these are several people, give a folder per speaker", file=sys.stderr)
    return speakers


def _requests(paths: Sequence[str], segments: Path | None, channels: Channels) -> tuple[list[Request], tuple[str, ...]]:
    """Everything to recognize, and the names of the columns that rows bring."""
    if segments is not None:
        return turn_requests(segments, paths, channels)
    return find_requests(paths, channels, lambda text: print(f"affekt: note: {text}", file=sys.stderr)), ()


def _refuse_replacing(
    output: Path | None, layout: str | None, embeddings: Path | None, resume: bool, resumable: bool
) -> None:
    """Refuse files of earlier answers, unless they are resumed."""
    refuse_replacing([embeddings], remedy="choose another name" if resume else "")
    if output is not None and not resume:
        from affekt.recognition.listing import RESUMED, layout_of

        resumable = resumable and layout_of(output, layout) in RESUMED
        refuse_replacing([output], remedy="continue it with --resume, or replace it with --force" * resumable)


def _timelines(
    model: Path | None,
    jobs: int | None,
    items: Sequence[Any],
    min_confidence: float | None,
    cut: tuple[float | None, float | None, str],
    voices: Voices,
) -> Iterator[Timeline | Failure]:
    """The timelines; the model is loaded for the first of them, after all checks of the outputs."""
    yield from timelines(_load(model, jobs), items, min_confidence, cut, voices)


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
        from affekt.recognition.listing import finished_rows, layout_of

        self.requests, self.own, self.channels = list(requests), own, channels
        self.output = output
        self.layout: ListLayout = layout_of(output, layout) if output else layout or "table"  # type: ignore[assignment]
        self.rows = finished_rows(output, self.layout) if output and resume else None
        wanted = [request.name for request in self.requests[: len(self.rows or ())]]
        if [row["source"] for row in self.rows or ()] != wanted:
            got, remedy = "answers for other recordings", "write to another file"
            raise ConfigError(f"output {output}", got=got, expected="the beginning of this list", remedy=remedy)

    def deliver(
        self,
        model: Path | None,
        options: dict[str, Any],
        jobs: int | None,
        cluster: RayCluster | None,
        voices: Voices,
        told: _Told,
    ) -> None:
        """Recognize what is missing, and write it as it comes."""
        from affekt.recognition.listing import AnswerWriter

        done = self.rows or []
        told.failures += sum(bool(row.get("error")) for row in done)
        left = self.requests[len(done) :]
        if self.rows is not None:
            print(f"affekt: note: resumed after {len(done)} of {len(self.requests)} answers", file=sys.stderr)
        items = [request.item for request in left]
        with recognition(model, items, options, jobs, cluster, voices) as (labels, answers), self._file() as file:
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
