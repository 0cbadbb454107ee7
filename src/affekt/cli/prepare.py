"""`affekt prepare`: read a corpus release on disk into a checked manifest."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from affekt.audio.bulk_decoding import DecodedFile, start_decoders
from affekt.cli.framework.arguments import Option
from affekt.data.labels import label_set
from affekt.data.manifest import is_manifest
from affekt.errors import ConfigError
from affekt.runtime.outputs import refuse_overwriting, refuse_replacing

if TYPE_CHECKING:
    from affekt.data.corpora.release import Note
    from affekt.data.manifest import Manifest

SUFFIXES = (".csv", ".parquet")


def prepare(
    corpus: str,
    root: Path,
    *,
    output: Annotated[Path, Option("-o")],
    labels: str | None = None,
    check_audio: bool = True,
    columns: dict[str, str] | None = None,
    audio: Path | None = None,
    pattern: str | None = None,
    table: str | None = None,
    column: str | None = None,
    force: bool = False,
) -> int:
    """Read a corpus into a manifest: labels, speakers, texts, and notes on every irregularity.

    Args:
        corpus: name of the corpus; `affekt corpora` lists them. `table` and `folders` read corpora of your own.
        root: folder of the release, or file of a table. An archive must be unpacked first.
        output: manifest to write, .csv or .parquet; paths in it are relative to its folder.
        labels: keep the utterances of a label set (iemocap4, basic4, ekman7, or a TOML file), merged to its classes.
        check_audio: decode every recording and leave out those that cannot be decoded.
        columns: for `table`: names of its columns, e.g. `--columns.label emotion --columns.speaker spk`.
        audio: for `table`: folder that its paths start from; by default the table's own.
        pattern: for `folders`: regular expression on the path; its named groups become columns, e.g.
            `(?P<speaker>[^/_]+)_`.
        table: for `audformat`: table with the labels.
        column: for `audformat`: column with the labels.
        force: replace a manifest that exists already, instead of refusing to.
    """
    if output.suffix not in SUFFIXES:
        raise ConfigError("output", got=repr(str(output)), expected=f"a name ending in {' or '.join(SUFFIXES)}")
    _refuse_input(output, root)
    refuse_replacing([output], force)
    chosen = label_set(labels) if labels is not None else None
    given = {"columns": columns, "audio": audio, "pattern": pattern, "table": table, "column": column}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with (start_decoders() if check_audio else None) or nullcontext() as decoders:
        from affekt.data.corpora import find_corpus  # imported while the decoders start, which takes as long
        from affekt.data.corpora import prepare as prepare_corpus

        facts = find_corpus(corpus)
        manifest, notes = prepare_corpus(corpus, root, chosen, check_audio, _progress, decoders, **options)
    manifest.write(output)
    classes = chosen.classes if chosen else sorted(set(manifest.labels))
    print("\n".join([facts.title, "", *_counts(manifest, classes), "", *_said(notes)]))
    print(f"license: {facts.license}{f' ({facts.page})' if facts.page else ''}")
    print(f"written: {output}, with paths relative to its folder")
    return int(any(note.failed for note in notes))


def _refuse_input(output: Path, root: Path) -> None:
    """Refuse to write onto the table that is read, or onto a table of the release."""
    refuse_overwriting([output], [root])
    inside = root.is_dir() and output.resolve().is_relative_to(root.resolve())
    if inside and output.exists() and not is_manifest(output):
        remedy = "choose another name, or delete it first"
        raise ConfigError("output", got=f"{output}, a file of the corpus", expected="a new file", remedy=remedy)


def _counts(manifest: Manifest, classes: Iterable[str]) -> list[str]:
    speakers = len(set(manifest.table["speaker"]) - {""})
    counts = manifest.table["label"].value_counts()
    rows = [f"  {name:<14}{counts[name]:>7,}" for name in classes]
    spoken = f"{speakers:,} speaker{'s' * (speakers != 1)}" if speakers else "unknown speakers"
    return [f"{len(manifest):,} utterance{'s' * (len(manifest) != 1)}, {spoken}", *rows]


def _said(notes: list[Note]) -> list[str]:
    """One line per note; a blank line after them, if there are any."""
    lines = [f"{'failed' if note.failed else 'warning' if note.warning else 'note'}: {note}" for note in notes]
    return [*lines, ""] if lines else []


def _progress(sounds: Iterable[DecodedFile], total: int) -> Iterable[DecodedFile]:
    """A progress bar on standard error while recordings are decoded, if it is a terminal."""
    if not sys.stderr.isatty():
        return sounds
    from rich.console import Console
    from rich.progress import track

    return track(sounds, "decoding", total=total, console=Console(stderr=True), transient=True)
