"""Files of people to fuzz: manifests, tables of segments, TOML and fold files."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from affekt.config import as_table, load
from affekt.data.corpora import prepare
from affekt.data.labels import LABEL_SETS, label_set
from affekt.data.manifest import Manifest
from affekt.data.protocols import FoldPlan, make_folds
from affekt.errors import AffektError
from affekt.recognition.sources import Segment
from affekt.recognition.turns import read_turns
from affekt.training.recipes import RECIPES, Recipe
from affekt.training.systems import resolve
from fuzz.model_files import LABELS
from fuzz.mutations import TEXTS, VALUES, edited, mutated


@cache
def manifest(folder: Path) -> Manifest:
    """Twelve utterances of three speakers, all columns filled."""
    rows = [
        {"id": f"u{index}", "path": f"a/{index}.wav", "label": LABELS[index % 4], "speaker": f"s{index // 4}"}
        | {"start": 0.25, "end": 1.5, "gender": "female", "text_id": f"t{index % 2}", "corpus": "own", "votes.sad": 2}
        for index in range(12)
    ]
    return Manifest.from_rows(rows, folder)


@cache
def tables() -> dict[str, bytes]:
    """The same manifest in both formats."""
    with tempfile.TemporaryDirectory() as name:
        found = {}
        for suffix in (".csv", ".parquet"):
            path = Path(name) / f"m{suffix}"
            manifest(Path(name)).write(path)
            found[suffix] = path.read_bytes()
    return found


OLD_HEADER = b"# root: ../x\n"
TIMES = [b"0 days 00:00:01.500000", b"1:02.5", b"00:00:01", b"0.5s", b'"0,5"', b"NaT", b"1h 2m", b"-1 days +23:59:59"]


def table_texts() -> SearchStrategy[bytes]:
    """CSV with other time formats, other columns, and the header of version 0.1."""
    timed = st.sampled_from(TIMES).map(lambda time: tables()[".csv"].replace(b",1.5,", b"," + time + b","))
    return st.tuples(st.sampled_from([b"", OLD_HEADER]), timed).map(b"".join)


def manifests() -> SearchStrategy[tuple[str, bytes]]:
    cells = st.lists(st.lists(TEXTS, min_size=1, max_size=6), min_size=1, max_size=6)
    header = "id,path,label,start,end,speaker\n"
    own = cells.map(lambda rows: (".csv", (header + "\n".join(map(",".join, rows))).encode("utf-8", "replace")))
    people = table_texts().flatmap(lambda text: st.tuples(st.just(".csv"), st.just(text) | mutated([text])))
    return (
        own
        | people
        | st.sampled_from([".csv", ".parquet"]).flatmap(
            lambda suffix: st.tuples(st.just(suffix), mutated([tables()[suffix]]))
        )
    )


def use_manifest(table: tuple[str, bytes], folder: Path) -> None:
    suffix, content = table
    path = folder / f"m{suffix}"
    path.write_bytes(content)
    if suffix == ".csv":
        (folder / "a").mkdir(exist_ok=True)
        for index in range(6):
            (folder / "a" / f"{index}.wav").touch()
        with contextlib.suppress(AffektError):
            prepare("table", path, check_audio=False)
    read = Manifest.read(path)
    read.soft_labels(LABELS)
    read.audio_paths()
    read.write(folder / "again.csv")
    read.select(LABEL_SETS["basic4"])


SEGMENTS = (
    (".csv", b"path,start,end,speaker,label\na.wav,0,0:01.5,A,sad\na.wav,1.5,NaT,B,\n"),
    (".tsv", b"file\tonset\tduration\na\t0\t0,5s\n"),
    (".rttm", b"SPEAKER a 1 0.00 1.50 <NA> <NA> A <NA> <NA>\nSPEAKER a 1 1.50 0.5 <NA> <NA> B <NA> <NA>\n"),
    (
        ".TextGrid",
        b'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\ntiers? <exists>\nsize = 1\n'
        b'item []:\n item [1]:\n  class = "IntervalTier"\n  name = "words"\n  xmin = 0\n  xmax = 2\n'
        b'  intervals: size = 1\n  intervals [1]:\n   xmin = 0\n   xmax = 2\n   text = "a ""b"" 1"\n',
    ),
    (
        ".TextGrid",
        b'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n1\n'
        b'"IntervalTier"\n"w"\n0\n2\n1\n0\n2\n"x"\n',
    ),
)


def segment_tables() -> SearchStrategy[tuple[str, bytes]]:
    return st.sampled_from(SEGMENTS).flatmap(lambda table: st.tuples(st.just(table[0]), mutated([table[1]])))


def use_segments(table: tuple[str, bytes], folder: Path) -> None:
    suffix, content = table
    (folder / "a.wav").touch()
    path = folder / f"t{suffix}"
    path.write_bytes(content)
    for turn in read_turns(path).turns:
        if isinstance(turn.item, Segment):
            start, end = turn.item.start_seconds or 0.0, turn.item.end_seconds
            assert 0 <= start < np.inf
            assert end is None or start < end < np.inf
        else:
            assert str(turn.item)


TABLES: tuple[dict[str, Any], ...] = (
    as_table(RECIPES["robust"]),
    {"own": {"loss": "focal", "loss_options": {"gamma": 2.0}, "network": {"filters": [8, 8], "pools": [2, 2]}}},
    {"name": "two", "classes": {"high": ["angry"], "low": ["sad", "neutral"]}},
)
"""A recipe, a system and a label set."""


def toml() -> SearchStrategy[bytes]:
    texts = [dumped(table) for table in TABLES]
    deep = st.sampled_from([b"a = " + b"[" * 100_000, b"a = " + b"1" * 5_000, b"[" + b"a." * 4_000 + b"a]\n"])
    return mutated(texts) | st.sampled_from(TABLES).flatmap(edited).map(dumped) | deep


def dumped(tree: Any) -> bytes:
    """The tree as TOML if possible; else similar text."""
    try:
        return tomli_w.dumps(tree).encode()
    except (TypeError, ValueError, AttributeError, OverflowError):
        return json.dumps(tree).encode()


def use_toml(content: bytes, folder: Path) -> None:
    path = folder / "own.toml"
    path.write_bytes(content)
    refusals: list[AffektError] = []
    readers: tuple[Callable[[], object], ...] = (
        lambda: load(Recipe, path),
        lambda: resolve(str(path)),
        lambda: label_set(path),
    )
    for read in readers:
        try:
            read()
        except AffektError as error:
            refusals.append(error)
    if len(refusals) == len(readers):  # it is none of the three
        raise refusals[0]


@cache
def plan() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        make_folds(manifest(Path()), "speaker", 3, 0).write(Path(name) / "folds.json")
        found: dict[str, Any] = json.loads((Path(name) / "folds.json").read_text())
    return found


def fold_files() -> SearchStrategy[bytes]:
    text = json.dumps(plan()).encode()
    trees = edited(plan()) | VALUES
    return mutated([text]) | trees.map(lambda tree: json.dumps(tree).encode()) | st.just(b"[" * 100_000)


def use_folds(content: bytes, folder: Path) -> None:
    path = folder / "folds.json"
    path.write_bytes(content)
    FoldPlan.read(path, manifest(Path()))
    FoldPlan.read(path).line("own", 4, 1)
