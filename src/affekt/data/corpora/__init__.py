"""Corpora: read a release on disk into a checked manifest. Nothing else in affekt knows corpora.

Each file reads one corpus, in the folders and under the names of its authors, and holds the facts about it: speakers,
meaning of the labels, number of utterances, license. Recordings that are missing, extra, duplicated, mislabeled or
undecodable, or that have a wrong suffix, are all noted at once.

>>> CORPORA["emodb"].utterances, CORPORA["emodb"].license
(535, 'CC0-1.0')
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

from affekt.audio.bulk_decoding import Decoders
from affekt.data.corpora import (
    ased,
    audformat,
    banglaser,
    crema_d,
    emodb,
    emovo,
    esd,
    iemocap,
    javanese,
    labeled_folders,
    meld,
    nemo,
    ravdess,
    savee,
    synthetic,
    table,
    tess,
    turev_db,
    urdu,
)
from affekt.data.corpora.archives import archives_in, is_archive
from affekt.data.corpora.contradictions import contradictions
from affekt.data.corpora.expected_counts import compare_classes, compare_release
from affekt.data.corpora.inspection import Progress, inspect
from affekt.data.corpora.release import Corpus, Note, Release, Row, noted
from affekt.data.labels import LabelSet, unusable_classes
from affekt.data.manifest import Manifest
from affekt.errors import NO_FILE, NO_FOLDER, ConfigError, CorpusError, Fault

__all__ = ["CORPORA", "Corpus", "Note", "Release", "find_corpus", "prepare"]

_MODULES = (
    *(iemocap, emodb, ravdess, crema_d, savee, tess, emovo, nemo, ased, urdu, turev_db, banglaser, javanese, meld, esd),
    *(synthetic, table, labeled_folders, audformat),
)
CORPORA: Mapping[str, Corpus] = MappingProxyType({module.CORPUS.name: module.CORPUS for module in _MODULES})


def find_corpus(name: str) -> Corpus:
    """A corpus by its name.

    Raises:
        ConfigError: there is none.
    """
    if name not in CORPORA:
        remedy = "own recordings are read as a table or as folders"
        raise ConfigError("corpus", got=repr(name), expected=f"one of {', '.join(CORPORA)}", remedy=remedy)
    return CORPORA[name]


def prepare(
    name: str,
    root: str | Path,
    labels: LabelSet | None = None,
    check_audio: bool = True,
    progress: Progress | None = None,
    decoders: Decoders | None = None,
    **options: Any,
) -> tuple[Manifest, list[Note]]:
    """Read a release on disk into a manifest.

    Args:
        name: one of `CORPORA`.
        root: the release's folder, or the one above or below it; the file for ``table``.
        labels: keep the utterances of this label set, relabeled to its classes; by default all.
        check_audio: decode every recording that is kept, and leave out those that cannot be decoded.
        progress: wraps the iteration over the decoded recordings, of known length, for a progress bar.
        decoders: running decoder processes; by default some are started if there are many recordings.
        options: further arguments of the corpus's reader (`Corpus.options`).

    Returns:
        The manifest, and notes on irregularities. A note that is `failed` names recordings that should be in the
        manifest and are not.

    Raises:
        ConfigError: no such corpus or option.
        CorpusError: the root holds nothing of this corpus, or nothing that can be used.
        ManifestError: the release breaks the manifest's contract, or a class has no utterance.
    """
    corpus = find_corpus(name)
    release = _read(corpus, Path(root).absolute(), options)
    _check_classes(release, labels)
    rows = [_finished(row, corpus) for row in release.rows]
    kept = [row for row in rows if labels is None or labels.class_of(row["label"])]
    heard: list[Note] = []
    if check_audio:
        Thread(target=_import_pandas).start()
        used, heard = inspect(kept, release.root, progress=progress, decoders=decoders)
        if kept and not used:
            raise CorpusError.of([Fault(f"{name}: {release.root}", got="no recording that can be used"), *heard])
        unusable = {row["id"] for row in kept} - {row["id"] for row in used}
        rows = [row for row in rows if row["id"] not in unusable]
    manifest = Manifest.from_rows(rows, release.root)
    notes = [*release.notes, *contradictions(kept), *heard, *compare_release(corpus, rows)]
    if labels is not None:
        manifest = manifest.select(labels)
        notes += compare_classes(corpus, labels, manifest)
    return manifest, notes


def _import_pandas() -> None:
    """Import pandas while recordings are decoded, since the import takes long."""
    with suppress(ImportError):  # the manifest reports it
        import_module("pandas")


def _read(corpus: Corpus, root: Path, options: Mapping[str, Any]) -> Release:
    unknown = sorted(set(options) - set(corpus.options))
    if unknown:
        expected = ", ".join(corpus.options) or "no options"
        raise ConfigError(f"corpus {corpus.name}: options", got=", ".join(unknown), expected=expected)
    had = f"the release is at {corpus.page}" if corpus.page else ""
    if not (root.exists() or corpus.generated):
        raise CorpusError(
            str(root), got=NO_FILE if corpus.name == "table" else NO_FOLDER, expected=corpus.layout, remedy=had
        )
    if root.is_file() and is_archive(root):
        raise CorpusError(f"{corpus.name}: {root}", got="an archive", remedy="unpack it first, and give the folder")
    release = corpus.read(root, **options)
    if not release.rows:
        packed = noted("archives", archives_in(root), "unpack them first")
        nothing = Fault(f"{corpus.name}: {root}", got="no utterance", expected=corpus.layout, remedy=had)
        raise CorpusError.of([nothing, *packed, *release.notes])
    return release


def _check_classes(release: Release, labels: LabelSet | None) -> None:
    """Refuse columns of numbers or of one label per row, unless the label set names them."""
    raw = [str(row["label"]) for row in release.rows]
    if labels is not None and any(labels.class_of(label) for label in raw):
        return
    if fault := unusable_classes(raw, release.label_column):
        raise CorpusError.of([fault])


def _finished(row: Row, corpus: Corpus) -> Row:
    """The row with the corpus's constants, and with names that are unique across corpora."""
    full = {"corpus": corpus.name, "language": corpus.languages[0], "style": corpus.style} | row
    for column in ("speaker", "session"):
        full[column] = _prefixed(full.get(column, ""), full["corpus"])
    return full


def _prefixed(name: str, corpus: str) -> str:
    """``03`` of emodb is ``emodb-03``; a name that says so already, and no name, stay."""
    return name if not name or name.startswith(f"{corpus}-") else f"{corpus}-{name}"
