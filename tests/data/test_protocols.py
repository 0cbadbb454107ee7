"""Protocols: what every fold keeps apart, what it may share and says so, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt.data.manifest import Manifest, concatenate
from affekt.data.protocols import Fold, FoldPlan, make_folds
from affekt.errors import ProtocolError

CLASSES = ("angry", "happy", "neutral", "sad")


def acted(speakers: int = 10, texts: int = 5, classes: Sequence[str] = CLASSES, corpus: str = "made") -> Manifest:
    """Every speaker says every text in every class, as in acted corpora; two speakers to a session."""
    rows = [
        {
            "id": f"{corpus}-{speaker:02}-{text:02}-{label}",
            "path": f"{speaker:02}/{text:02}-{label}.wav",
            "label": label,
            "speaker": f"{corpus}-{speaker:02}",
            "session": f"{corpus}-session{speaker // 2:02}",
            "text_id": f"t{text:02}",
            "corpus": corpus,
        }
        for speaker, text, label in product(range(speakers), range(texts), classes)
    ]
    return Manifest.from_rows(rows, ".")


@st.composite
def uneven(draw: st.DrawFn) -> Manifest:
    """Speakers who say six texts unequally often in each of two classes."""
    rows = [
        {"id": f"{speaker}{label}{take}", "path": "x.wav", "label": label, "speaker": speaker, "text_id": str(take % 6)}
        for speaker in "abcdefg"
        for label in ("happy", "sad")
        for take in range(draw(st.integers(6, 12)))
    ]
    return Manifest.from_rows(rows, ".")


def column(manifest: Manifest, name: str) -> dict[str, str]:
    return dict(zip(manifest.ids, manifest.table[name], strict=True))


def values(fold: Fold, of: Mapping[str, str]) -> dict[str, set[str]]:
    return {part: {of[id] for id in ids} for part, ids in fold.parts().items()}


def assert_partitions(plan: FoldPlan, manifest: Manifest) -> None:
    """In every fold each utterance is in one part; over all folds each is tested once."""
    for fold in plan.folds:
        assert sorted(fold.train + fold.validation + fold.test) == sorted(manifest.ids)
    assert sorted(id for fold in plan.folds for id in fold.test) == sorted(manifest.ids)


def lines_of(error: pytest.ExceptionInfo[ProtocolError]) -> list[str]:
    return str(error.value).splitlines()


# random, the paper's


@settings(max_examples=12, deadline=None)
@given(counts=st.lists(st.integers(40, 90), min_size=2, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_random_keeps_the_papers_proportions_in_every_class(counts: list[int], seed: int) -> None:
    rows = [
        {"id": f"{label}{n}", "path": "x.wav", "label": f"class{label}"}
        for label, count in enumerate(counts)
        for n in range(count)
    ]
    manifest = Manifest.from_rows(rows, ".")
    plan = make_folds(manifest, seed=seed)
    assert_partitions(plan, manifest)
    label_of = column(manifest, "label")
    for fold in plan.folds:
        for ids, share in ((fold.train, 0.55), (fold.validation, 0.25), (fold.test, 0.20)):
            assert abs(len(ids) - share * len(manifest)) < 2
            found = Counter(label_of[id] for id in ids)
            for label, count in enumerate(counts):
                assert abs(found[f"class{label}"] - share * count) < 2


def test_random_on_a_worked_example() -> None:
    manifest = acted(10, 10)  # 400 utterances, 100 of each class
    for fold in make_folds(manifest, "random").folds:
        assert [len(ids) for ids in fold.parts().values()] == [220, 100, 80]
        assert Counter(column(manifest, "label")[id] for id in fold.test) == dict.fromkeys(CLASSES, 20)


def test_seeds_decide_and_the_order_of_rows_does_not() -> None:
    manifest = acted(speakers=6, texts=6)
    shuffled = Manifest(manifest.table.sample(frac=1.0, random_state=0), manifest.root)
    for protocol in ("random", "speaker", "text", "loso", "session"):
        plan = make_folds(manifest, protocol, seed=7)
        assert plan.folds == make_folds(shuffled, protocol, seed=7).folds
        assert plan.folds != make_folds(manifest, protocol, seed=8).folds


def test_hashes_of_unlike_recordings_change_nothing() -> None:
    manifest = acted()
    hashes = [hashlib.sha256(id.encode()).hexdigest() for id in manifest.ids]
    for protocol in ("random", "speaker", "corpus"):
        if protocol == "corpus":
            manifest = concatenate([acted(corpus="a"), acted(corpus="b")])
            hashes = [str(row) for row in range(len(manifest))]
        assert make_folds(manifest, protocol).folds == make_folds(manifest, protocol, hashes=hashes).folds


@settings(max_examples=10, deadline=None)
@given(originals=st.lists(st.integers(0, 14), min_size=30, max_size=30))
def test_random_never_parts_copies(originals: list[int]) -> None:
    """Of each class, 15 recordings, 15 copies of any of them, and 10 more of which nothing is known."""
    rows = [{"id": f"{label}{n:02}", "path": "x.wav", "label": label} for label in ("happy", "sad") for n in range(40)]
    manifest = Manifest.from_rows(rows, ".")
    hashes = [""] * 80
    for row, label in ((0, "happy"), (40, "sad")):
        copies = originals[:15] if label == "happy" else originals[15:]
        hashes[row : row + 30] = [f"{label}{original}" for original in [*range(15), *copies]]
    plan = make_folds(manifest, "random", folds=3, seed=1, hashes=hashes)
    assert_partitions(plan, manifest)
    hash_of = dict(zip(manifest.ids, hashes, strict=True))
    for fold in plan.folds:
        for first, second in combinations(values(fold, hash_of).values(), 2):
            assert first & second <= {""}
    assert plan.audit.shared["duplicates"].test == "unknown"


# Groups: speakers, texts, sessions, corpora


@pytest.mark.parametrize(("protocol", "name"), [("speaker", "speaker"), ("loso", "speaker"), ("text", "text_id")])
@settings(max_examples=5, deadline=None)
@given(manifest=uneven(), seed=st.integers(0, 2**32 - 1))
def test_groups_are_never_parted(protocol: str, name: str, manifest: Manifest, seed: int) -> None:
    plan = make_folds(manifest, protocol, folds=3, seed=seed)
    assert_partitions(plan, manifest)
    of = column(manifest, name)
    for fold in plan.folds:
        for first, second in combinations(values(fold, of).values(), 2):
            assert not first & second
    assert plan.audit.shared[{"speaker": "speakers", "text_id": "texts"}[name]].test == "no"


def test_speaker_folds_are_even_in_size_and_class() -> None:
    manifest = acted(speakers=10)
    label_of, speaker_of = column(manifest, "label"), column(manifest, "speaker")
    for fold in make_folds(manifest, "speaker", seed=3).folds:
        assert {part: len(names) for part, names in values(fold, speaker_of).items()} in (
            {"train": 5, "validation": 3, "test": 2},
            {"train": 6, "validation": 2, "test": 2},
        )
        for ids in fold.parts().values():
            assert len(set(Counter(label_of[id] for id in ids).values())) == 1


def test_speakers_of_unequal_length_are_balanced() -> None:
    """One speaker says as much as four others; the five parts can be equal, and are."""
    rows = [
        {"id": f"{speaker}-{label}-{n}", "path": "x.wav", "label": label, "speaker": f"s{speaker}"}
        for speaker in range(17)
        for label in CLASSES
        for n in range(16 if speaker == 0 else 4)
    ]
    plan = make_folds(Manifest.from_rows(rows, "."), "speaker")
    assert [len(fold.test) for fold in plan.folds] == [64] * 5


def test_every_session_is_tested_and_the_next_one_validates() -> None:
    manifest = acted(speakers=10)
    session_of, speaker_of = column(manifest, "session"), column(manifest, "speaker")
    for seed in range(5):
        plan = make_folds(manifest, "session", seed=seed)
        assert_partitions(plan, manifest)
        for index, fold in enumerate(plan.folds):
            found = values(fold, session_of)
            assert found["test"] == {f"made-session{index:02}"} == {fold.held_out}
            assert found["validation"] == {f"made-session{(index + 1 + seed % 4) % 5:02}"}
            assert len(found["train"]) == 3
            assert not values(fold, speaker_of)["test"] & values(fold, speaker_of)["validation"]
    assert make_folds(manifest, "session").line("made", 4, 1) == (
        "made 4-class | session 5-fold, 1 seed | speakers shared: no | sessions shared: no | texts shared: yes"
        " | duplicates: not checked"
    )


def test_loso_tests_every_speaker_alone() -> None:
    manifest = acted(speakers=7)
    plan = make_folds(manifest, "loso", folds=3)
    assert [fold.held_out for fold in plan.folds] == [f"made-{speaker:02}" for speaker in range(7)]
    assert [len(values(fold, column(manifest, "speaker"))["validation"]) for fold in plan.folds] == [2] * 7


def several_corpora() -> Manifest:
    return concatenate([acted(6, corpus="a"), acted(8, corpus="b"), acted(4, corpus="c")])


def test_corpus_tests_each_on_the_others() -> None:
    manifest = several_corpora()
    plan = make_folds(manifest, "corpus")
    assert_partitions(plan, manifest)
    corpus_of, speaker_of = column(manifest, "corpus"), column(manifest, "speaker")
    for fold, name in zip(plan.folds, "abc", strict=True):
        found = values(fold, corpus_of)
        assert found["test"] == {name} == {fold.held_out}
        assert found["train"] == found["validation"] == set("abc") - {name}
        speakers = values(fold, speaker_of)
        assert not speakers["train"] & speakers["validation"]
    assert "speakers shared: no | texts shared: yes | corpora shared: no" in plan.line("a+b+c", 4, 1).replace(
        "sessions shared: no | ", ""
    )


def test_corpora_can_be_chosen() -> None:
    manifest = several_corpora()
    (fold,) = make_folds(manifest, "corpus", train_corpora=["a"], test_corpora=["c"]).folds
    found = values(fold, column(manifest, "corpus"))
    assert (found["train"], found["validation"], found["test"]) == ({"a"}, {"a"}, {"c"})
    plan = make_folds(manifest, "corpus", train_corpora=["a"], test_corpora=["c"])
    assert plan.line("x", 4, 1).endswith(f"utterances unused: {8 * 20}")


def test_a_corpus_without_speakers_is_parted_by_recording() -> None:
    manifest = several_corpora()
    table = manifest.table.assign(speaker=manifest.table["speaker"].where(manifest.table["corpus"] != "a", ""))
    hashes = [str(row // 2) for row in range(len(table))]  # pairs of copies
    plan = make_folds(Manifest(table, manifest.root), "corpus", hashes=hashes)
    assert_partitions(plan, manifest)
    for fold in plan.folds[1:]:
        assert {id[0] for id in fold.train} >= {"a"} <= {id[0] for id in fold.validation}
    assert "speakers shared: unknown" in plan.line("x", 4, 1)


def test_corpus_faults() -> None:
    with pytest.raises(ProtocolError) as error:
        make_folds(several_corpora(), "corpus", train_corpora=["a", "y"], test_corpora=["a", "z"])
    assert lines_of(error) == [
        "corpus y: got not in the manifest, expected a, b, c",
        "corpus z: got not in the manifest, expected a, b, c",
    ]
    with pytest.raises(ProtocolError, match="protocol corpus: made: got no other corpus to train on"):
        make_folds(acted(), "corpus")
    with pytest.raises(ProtocolError, match="expected protocol corpus"):
        make_folds(acted(), "random", test_corpora=["made"])


def test_texts_of_two_languages_are_two_texts() -> None:
    """Text 01 of one corpus is not text 01 of another in another language."""
    english, german = acted(4, corpus="a"), acted(4, corpus="b")
    english, german = (
        Manifest(manifest.table.assign(language=language), ".")
        for manifest, language in ((english, "en-US"), (german, "de"))
    )
    assert make_folds(concatenate([english, german]), "corpus").audit.shared["texts"].test == "no"
    assert make_folds(concatenate([english, english_copy()]), "corpus").audit.shared["texts"].test == "yes"


def english_copy() -> Manifest:
    return Manifest(acted(4, corpus="c").table.assign(language="en-GB"), ".")


# What cannot be kept is refused


@pytest.mark.parametrize(
    ("protocol", "name"), [("speaker", "speaker"), ("loso", "speaker"), ("session", "session"), ("text", "text_id")]
)
def test_a_manifest_that_does_not_tell_the_groups(protocol: str, name: str) -> None:
    table = acted().table
    table.loc[:4, name] = ""
    with pytest.raises(ProtocolError) as error:
        make_folds(Manifest(table, "."), protocol)
    assert lines_of(error) == [
        f"protocol {protocol}: got 5 of 200 utterances without a {name} (made-00-00-angry, made-00-00-happy, "
        f"made-00-00-neutral and 2 more), expected a {name} for each; fill the manifest's {name} column, or choose "
        "protocol random"
    ]


@pytest.mark.parametrize(
    ("protocol", "folds", "message"),
    [
        ("speaker", 5, "protocol speaker: got 2 speakers, expected at least 5"),
        ("loso", 5, "protocol loso: got 2 speakers, expected at least 3"),
        ("session", 5, "protocol session: got 1 sessions, expected at least 3"),
        ("text", 6, "protocol text: got 5 texts, expected at least 6"),
    ],
)
def test_too_few_groups(protocol: str, folds: int, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        make_folds(acted(speakers=2), protocol, folds=folds)


def test_too_few_of_some_classes_are_all_named() -> None:
    manifest = acted(classes=("happy", "sad"))
    rare = [{"id": f"r{n}", "path": "x.wav", "label": f"rare{n % 2}", "speaker": "s"} for n in range(6)]
    table = manifest.table.to_dict("records") + rare
    for protocol, what in (("random", "recordings"), ("speaker", "utterances")):
        with pytest.raises(ProtocolError) as error:
            make_folds(Manifest.from_rows(table, "."), protocol)
        assert lines_of(error) == [
            f"class rare{n}: got 3 {what}, expected at least 5 for 5 folds; use fewer folds or leave the class out"
            for n in range(2)
        ]


def test_too_little_to_validate() -> None:
    rows = [{"id": f"u{n}", "path": "x.wav", "label": f"l{n % 5}"} for n in range(15)]
    with pytest.raises(ProtocolError, match="validation part"):
        make_folds(Manifest.from_rows(rows, "."), "random", folds=3)
    said = ["s0 abc", "s1 abc", "s2 a", "s3 b", "s4 c"]  # without one of them, three parts but two of a class
    few = [
        {"id": who + label, "path": "x.wav", "label": label, "speaker": who}
        for who, labels in map(str.split, said)
        for label in labels
    ]
    with pytest.raises(ProtocolError, match=r"validation part: got \d utterances for 3 parts"):
        make_folds(Manifest.from_rows(few, "."), "speaker", folds=3)
    two = Manifest.from_rows(
        [{"id": f"u{n}", "path": "x.wav", "label": "ab"[n % 2], "speaker": f"s{n // 20}"} for n in range(60)], "."
    )
    with pytest.raises(ProtocolError, match="validation part: got 1 groups"):
        make_folds(two, "speaker", folds=2)


@pytest.mark.parametrize(("folds", "seed"), [(1, 0), (5, -1), (5, 2**32)])
def test_impossible_settings(folds: int, seed: int) -> None:
    with pytest.raises(ProtocolError, match=f"got {folds} folds, seed {seed}"):
        make_folds(acted(), folds=folds, seed=seed)


def test_an_unknown_protocol_lists_the_known() -> None:
    with pytest.raises(ProtocolError, match=r"got 'speakers', expected random, speaker, text, session, loso, corpus"):
        make_folds(acted(), "speakers")


def test_hashes_must_be_one_per_row() -> None:
    with pytest.raises(ProtocolError, match="content hashes: got 3, expected one per row, 200"):
        make_folds(acted(), hashes=["a", "b", "c"])


def test_copies_under_two_names_break_a_speaker_protocol() -> None:
    manifest = acted()
    hashes = [f"h{row}" for row in range(len(manifest))]
    hashes[-1] = hashes[0]
    with pytest.raises(ProtocolError) as error:
        make_folds(manifest, "speaker", hashes=hashes)
    assert any("duplicates in both" in line and "made-00-00-angry" in line for line in lines_of(error))
    assert all("made-09-04-sad" in line and line.endswith("leave one of them out") for line in lines_of(error))


# The protocol line


def test_the_line_says_what_is_shared_and_what_was_not_checked() -> None:
    manifest = Manifest(acted().table.assign(session="", text_id=""), ".")
    hashes = [str(row) for row in range(len(manifest))]
    plan = make_folds(manifest, hashes=hashes)
    assert (
        plan.line("emodb", 4, 3)
        == "emodb 4-class | random 5-fold, 3 seeds | speakers shared: yes | texts shared: unknown"
    )
    plan = make_folds(acted(), "random", adaptation="test speaker's unlabeled audio")
    assert plan.line("emodb", 4, 1) == (
        "emodb 4-class | random 5-fold, 1 seed | speakers shared: yes | sessions shared: yes | texts shared: yes"
        " | duplicates: not checked | adaptation: test speaker's unlabeled audio"
    )


def test_the_line_names_parts_without_a_class() -> None:
    manifest = acted(speakers=6)
    keep = ~((manifest.table["speaker"] == "made-02") & (manifest.table["label"] == "sad"))
    plan = make_folds(manifest.where(keep), "loso")
    assert "parts without a class: 1 (fold 2 test: sad)" in plan.line("made", 4, 1)


# Fold files


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    manifest = acted()
    hashes = [str(row) for row in range(len(manifest))]
    for protocol in ("random", "speaker", "session", "loso"):
        plan = make_folds(manifest, protocol, seed=3, hashes=hashes, adaptation="some")
        plan.write(tmp_path / "run" / "folds.json")
        assert FoldPlan.read(tmp_path / "run" / "folds.json") == plan
        assert FoldPlan.read(tmp_path / "run" / "folds.json", manifest) == plan
        assert FoldPlan.read(tmp_path / "run" / "folds.json", manifest, hashes) == plan
        assert make_folds(manifest, tmp_path / "run" / "folds.json", hashes=hashes) == plan
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["folds.json"]


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def own_fold(manifest: Manifest) -> dict[str, list[str]]:
    ids = sorted(manifest.ids)
    return {"train": ids[:120], "validation": ids[120:160], "test": ids[160:]}


def test_an_own_file_needs_nothing_but_ids(tmp_path: Path) -> None:
    manifest = acted()
    path = write(tmp_path / "own.json", {"folds": [own_fold(manifest)]})
    plan = make_folds(manifest, path, adaptation="none")
    assert plan.line("made", 4, 1) == (
        "made 4-class | fixed 1-fold, 1 seed | speakers shared: no | sessions shared: no | texts shared: yes"
        " | duplicates: not checked"
    )
    assert make_folds(manifest, path, adaptation="all").adaptation == "all"
    with pytest.raises(ProtocolError, match="audit: got none that is complete"):
        FoldPlan.read(path)


def test_every_fault_of_a_fold_file_at_once(tmp_path: Path) -> None:
    fold = {"train": "ab", "validation": [1], "test": ["c"], "index": 7, "dev": []}
    data = {"format": 2, "protocol": "best", "seed": "0", "adaptation": 1, "audit": {}, "folds": [fold], "x": 1}
    path = write(tmp_path / "bad.json", data)
    with pytest.raises(ProtocolError) as error:
        FoldPlan.read(path, acted())
    assert [line.removeprefix(f"{path}: ").partition(",")[0] for line in lines_of(error)] == [
        "key x: got an unknown key",
        "format: got 2",
        "protocol: got 'best'",
        "seed: got '0'",
        "adaptation: got 1",
        "audit: got none that is complete",
        "fold 0: key dev: got an unknown key",
        "fold 0: index: got 7",
        "fold 0: train: got str",
        "fold 0: validation: got list",
    ]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "readable JSON"), ("[]", "got list"), ('{"folds": []}', "folds: got")]
)
def test_files_that_are_no_fold_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ProtocolError, match=message):
        FoldPlan.read(tmp_path / "bad.json", acted())
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ProtocolError, match="readable JSON"):
        make_folds(acted(), tmp_path / "bad.json")
    for read in (FoldPlan.read, partial(make_folds, acted())):
        with pytest.raises(ProtocolError, match=r"No such file: .*absent\.json"):
            read(tmp_path / "absent.json")


def test_every_id_that_is_wrong_at_once(tmp_path: Path) -> None:
    good, manifest = own_fold(acted()), acted()
    folds = [
        good | {"train": [*good["train"], "x1", "x2", "x3", "x4"]},
        good | {"validation": [], "test": [*good["test"], good["train"][0], good["test"][0]]},
    ]
    with pytest.raises(ProtocolError) as error:
        FoldPlan.read(write(tmp_path / "f.json", {"folds": folds}), manifest)
    assert lines_of(error) == [
        "fold 0: train: got 4 ids that the manifest lacks (x1, x2, x3 and 1 more), expected ids of the manifest; use "
        "the manifest, and its label set, that the folds were made for",
        "fold 1: validation: got no utterance, expected at least one",
        "fold 1: got made-00-00-angry, made-08-00-angry more than once, expected each utterance in one part",
    ]


def test_a_file_is_held_to_the_protocol_that_it_names(tmp_path: Path) -> None:
    manifest = acted()
    ids = sorted(manifest.ids)
    half = [row // 4 % 2 == 0 for row in range(120)]  # four classes to a text
    train = [id for id, first in zip(ids, half, strict=False) if first]
    fold = {"train": train, "validation": ids[120:160], "test": sorted({*ids[:120]} - {*train})}
    for protocol, shared in (("speaker", "speakers"), ("session", "sessions"), ("text", "texts"), ("fixed", "")):
        path = write(tmp_path / "f.json", {"protocol": protocol, "folds": [fold]})
        if not shared:
            assert FoldPlan.read(path, manifest).audit.shared["speakers"].test == "yes"
            continue
        with pytest.raises(ProtocolError) as error:
            FoldPlan.read(path, manifest)
        assert any(line.startswith(f"fold 0: {shared} in both train and test: got ") for line in lines_of(error))
    with pytest.raises(ProtocolError, match=r"got made-00 \(made-00-00-angry, made-00-01-angry\), made-01 "):
        FoldPlan.read(write(tmp_path / "f.json", {"protocol": "speaker", "folds": [fold]}), manifest)


def test_a_file_that_parts_copies_is_refused(tmp_path: Path) -> None:
    manifest = acted()
    path = write(tmp_path / "f.json", {"folds": [own_fold(manifest)]})
    hashes = [str(row) for row in range(len(manifest))]
    order = sorted(range(len(manifest)), key=lambda row: manifest.ids[row])
    hashes[order[0]] = hashes[order[130]] = hashes[order[199]]
    with pytest.raises(ProtocolError) as error:
        make_folds(manifest, path, hashes=hashes)
    first, middle, last = (manifest.ids[order[row]] for row in (0, 130, 199))
    assert lines_of(error) == [
        f"fold 0: duplicates in both {parts}: got {pair}, expected none under protocol fixed; leave one of them out"
        for parts, pair in (
            ("train and test", f"{first} = {last}"),
            ("validation and test", f"{middle} = {last}"),
            ("train and validation", f"{first} = {middle}"),
        )
    ]


def test_classes_that_a_part_lacks(tmp_path: Path) -> None:
    """Training must hold every class; a random protocol promises it for every part."""
    manifest = acted()
    fold = {part: [id for id in ids if "sad" not in id] for part, ids in own_fold(manifest).items()}
    fold["test"] = own_fold(manifest)["test"]
    with pytest.raises(ProtocolError, match="fold 0: train: got no utterance of sad") as error:
        FoldPlan.read(write(tmp_path / "f.json", {"folds": [fold]}), manifest)
    assert len(lines_of(error)) == 1
    with pytest.raises(ProtocolError) as error:
        FoldPlan.read(write(tmp_path / "f.json", {"protocol": "random", "folds": [fold]}), manifest)
    assert [line.partition(",")[0] for line in lines_of(error)] == [
        "fold 0: train: got no utterance of sad",
        "fold 0: validation: got no utterance of sad",
    ]


def test_what_a_file_says_of_duplicates_is_believed_only_without_hashes(tmp_path: Path) -> None:
    manifest = acted()
    make_folds(manifest, hashes=[str(row) for row in range(len(manifest))]).write(tmp_path / "folds.json")
    assert FoldPlan.read(tmp_path / "folds.json", manifest).audit.shared["duplicates"].test == "no"
    unknown = [""] * len(manifest)
    assert FoldPlan.read(tmp_path / "folds.json", manifest, unknown).audit.shared["duplicates"].test == "unknown"


# EmoBox's lists


def entry(key: str, wav: str, emotion: str, dataset: str = "made") -> str:
    fields = {"key": f"{dataset}-{key}", "dataset": dataset, "wav": f"downloads/{dataset}/{wav}", "type": "raw"}
    return json.dumps(fields | {"sample_rate": 16_000, "length": 1.5, "task": "category", "emo": emotion, "channel": 1})


def emobox_lists(folder: Path, folds: Sequence[Mapping[str, Sequence[str]]], dataset: str = "made") -> Path:
    for number, parts in enumerate(folds, start=1):
        (folder / f"fold_{number}").mkdir(parents=True)
        for part, lines in parts.items():
            name = f"{dataset}_{part}_fold_{number}.jsonl"
            (folder / f"fold_{number}" / name).write_text("".join(line + "\n" for line in lines))
    return folder


def named_after(manifest: Manifest, ids: Sequence[str]) -> list[str]:
    """Lines as EmoBox writes them: the release's own suffix, upper or lower case, labels of the corpus."""
    paths, labels = column(manifest, "path"), column(manifest, "label")
    return [entry(f"take{n}", paths[id].upper().replace("-", "_"), labels[id].title()) for n, id in enumerate(ids)]


def test_emobox_lists(tmp_path: Path) -> None:
    manifest = acted(speakers=4)
    ids = sorted(manifest.ids)
    other = [entry(f"other{n}", f"00/other{n}.wav", "Boredom") for n in range(3)]
    folder = emobox_lists(
        tmp_path / "made",
        [
            {"train": named_after(manifest, ids[20:]) + other, "test": named_after(manifest, ids[:20])},
            {
                "train": named_after(manifest, ids[:40]),
                "valid": named_after(manifest, ids[40:60]),
                "test": named_after(manifest, ids[60:]) + other,
            },
        ],
    )
    (folder / "fold_1" / "made_test_fold1.jsonl").write_text("an older list, which EmoBox keeps beside the new one\n")
    plan = make_folds(manifest, folder, seed=5)
    first, second = plan.folds
    assert sorted(first.test) == ids[:20]
    assert sorted(first.train + first.validation) == ids[20:]
    assert len(first.validation) == 12  # a fifth of 60
    assert Counter(column(manifest, "label")[id] for id in first.validation) == dict.fromkeys(CLASSES, 3)
    assert [sorted(part) for part in second.parts().values()] == [ids[:40], ids[40:60], ids[60:]]
    assert plan.line("made", 4, 1).startswith("made 4-class | emobox 2-fold, 1 seed | speakers shared: no")
    assert make_folds(manifest, folder, seed=5) == plan
    assert make_folds(manifest, folder, seed=6).folds[0].validation != first.validation


def test_emobox_lists_that_order_folders_by_number(tmp_path: Path) -> None:
    manifest = acted(speakers=4)
    ids = sorted(manifest.ids)
    tests = [ids[n : n + 8] for n in range(0, 80, 8)]
    folds = [{"train": named_after(manifest, sorted({*ids} - {*t})), "test": named_after(manifest, t)} for t in tests]
    plan = make_folds(manifest, emobox_lists(tmp_path, [*folds, folds[0]]))
    assert [sorted(fold.test) for fold in plan.folds] == [*tests, tests[0]]


def test_emobox_recordings_of_one_stem_do_not_share_an_utterance(tmp_path: Path) -> None:
    """As in MELD, where two parts have recordings of the same name, and the manifest lacks one of them."""
    manifest = acted(speakers=4)
    ids, paths = sorted(manifest.ids), column(manifest, "path")
    taken = paths[ids[0]]
    train = [*named_after(manifest, ids[20:]), entry("twin", f"elsewhere/{Path(taken).name}", "Angry")]
    folder = emobox_lists(tmp_path, [{"train": train, "test": named_after(manifest, ids[:20])}])
    with pytest.raises(ProtocolError, match=r"fold_1 train: got 1 of 61 recordings .* lacks \(made-twin\)"):
        make_folds(manifest, folder)


def test_emobox_validation_keeps_copies_together(tmp_path: Path) -> None:
    manifest = acted(speakers=4)
    ids = sorted(manifest.ids)
    folder = emobox_lists(
        tmp_path, [{"train": named_after(manifest, ids[20:]), "test": named_after(manifest, ids[:20])}]
    )
    hashes = [f"{id[:7]}{id[10:]}{int(id[8:10]) // 2}" for id in manifest.ids]  # texts 0 and 1, 2 and 3 are copies
    (fold,) = make_folds(manifest, folder, hashes=hashes).folds
    hash_of = dict(zip(manifest.ids, hashes, strict=True))
    assert not values(fold, hash_of)["train"] & values(fold, hash_of)["validation"]


def test_emobox_names_are_matched_by_folder_stem_and_id(tmp_path: Path) -> None:
    """SAVEE's DC/a01.wav is DC_a01 in the lists; MELD has the same stems in three folders."""
    rows = []
    for n, (speaker, label) in enumerate(product(("DC", "JE", "JK"), "ah")):
        rows.append({"id": f"{speaker}_{label}01", "path": f"AudioData/{speaker}/{label}01.wav", "label": label})
        rows.append({"id": f"f{n}", "path": f"{('train', 'dev', 'test')[n // 2]}/dia{n % 2}_utt0.flac", "label": label})
    manifest = Manifest.from_rows(rows, tmp_path)
    parts: dict[str, list[str]] = {}
    for part, folder, speaker in (("train", "train", "DC"), ("valid", "dev", "JE"), ("test", "test", "JK")):
        parts[part] = [entry(f"{speaker}-{label}01", f"{speaker}_{label}01.wav", label) for label in "ah"]
        parts[part] += [entry(f"d{n}-{part}", f"{folder}/dia{n}_utt0.mp4", "ah"[n]) for n in range(2)]
    (fold,) = make_folds(manifest, emobox_lists(tmp_path / "lists", [parts])).folds
    assert fold.train == ("DC_a01", "DC_h01", "f0", "f1")
    assert fold.validation == ("JE_a01", "JE_h01", "f2", "f3")
    assert fold.test == ("JK_a01", "JK_h01", "f4", "f5")


def test_emobox_recordings_that_are_missing_or_ambiguous(tmp_path: Path) -> None:
    manifest = acted(speakers=4)
    ids = sorted(manifest.ids)
    missing = [entry(f"gone{n}", f"00/gone{n}.wav", "Sad") for n in range(2)]
    ambiguous = [entry("k", "elsewhere/00-sad.wav", "Sad")]  # of which speaker?
    folder = emobox_lists(
        tmp_path,
        [{"train": named_after(manifest, ids[20:]) + missing, "test": named_after(manifest, ids[:20]) + ambiguous}],
    )
    with pytest.raises(ProtocolError) as error:
        make_folds(manifest, folder)
    assert lines_of(error) == [
        "fold_1 train: got 2 of 62 recordings that the manifest lacks (made-gone0, made-gone1), expected all of the "
        "lists' recordings; complete the corpus and prepare it again",
        "fold_1 test: got 1 of 21 recordings that the manifest lacks (made-k), expected all of the lists' recordings; "
        "complete the corpus and prepare it again",
    ]


def test_emobox_lists_of_another_corpus(tmp_path: Path) -> None:
    lines = [entry("x", "x.wav", "anger")]
    with pytest.raises(ProtocolError, match="got no recording of the manifest"):
        make_folds(acted(), emobox_lists(tmp_path, [{"train": lines, "test": lines}]))


def test_emobox_lists_that_are_incomplete(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="got no folder fold_1"):
        make_folds(acted(), tmp_path)
    folder = emobox_lists(tmp_path, [{"train": ["{"], "test": ["[]", '{"key": "a"}']}, {"train": []}])
    (folder / "fold_2" / "other_train_fold_2.jsonl").touch()
    (folder / "fold_2" / "made_valid_fold_2.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ProtocolError) as error:
        make_folds(acted(), folder)
    assert [line.removeprefix(f"{tmp_path}/").partition(",")[0].partition(" 'utf")[0] for line in lines_of(error)] == [
        "fold_1/made_train_fold_1.jsonl: line 1: got {",
        "fold_1/made_test_fold_1.jsonl: line 1: got []",
        'fold_1/made_test_fold_1.jsonl: line 2: got {"key": "a"}',
        "fold_2: train: got 2 lists",
        "fold_2/made_valid_fold_2.jsonl: got",
        "fold_2: test: got 0 lists",
    ]


# The real corpora


def test_ravdess_keeps_its_identical_pair_together(corpora: Path) -> None:
    emotions = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry"}
    rows, hashes = [], []
    for path in sorted((corpora / "ravdess" / "Audio_Speech_Actors_01-24").rglob("*.flac")):
        _, _, emotion, _, text, _, actor = path.stem.split("-")
        if emotion in emotions:
            rows.append(
                {"id": path.stem, "path": path.name, "label": emotions[emotion], "speaker": actor, "text_id": text}
            )
            hashes.append(hashlib.sha256(path.read_bytes()).hexdigest())
    manifest = Manifest.from_rows(rows, corpora)
    assert (len(manifest), len(set(hashes))) == (672, 671)
    pair = {"03-01-03-01-02-01-07", "03-01-03-01-02-02-07"}
    parted = 0
    for seed in range(10):
        for fold in make_folds(manifest, seed=seed, hashes=hashes).folds:
            assert sum(not pair.isdisjoint(ids) for ids in fold.parts().values()) == 1
        for fold in make_folds(manifest, seed=seed).folds:
            parted += sum(not pair.isdisjoint(ids) for ids in fold.parts().values()) > 1
    assert parted > 10  # as most random folds do if nobody looks


def test_emodb_speakers(corpora: Path) -> None:
    codes = {"W": "angry", "F": "happy", "N": "neutral", "T": "sad"}
    rows = [
        {"id": p.stem, "path": p.name, "label": codes[p.stem[5]], "speaker": p.stem[:2], "text_id": p.stem[2:5]}
        for p in sorted((corpora / "emodb" / "wav").glob("*.wav"))
    ]
    manifest = Manifest.from_rows(rows, corpora)
    plan = make_folds(manifest, "speaker", hashes=[str(n) for n in range(len(rows))])
    assert_partitions(plan, manifest)
    assert [len(values(fold, column(manifest, "speaker"))["test"]) for fold in plan.folds] == [2] * 5
    shares = np.array([[len(ids) for ids in fold.parts().values()] for fold in plan.folds]) / len(manifest)
    np.testing.assert_allclose(shares, np.tile([0.55, 0.25, 0.20], (5, 1)), atol=0.06)
    assert (
        plan.line("emodb", 4, 1) == "emodb 4-class | speaker 5-fold, 1 seed | speakers shared: no | texts shared: yes"
    )
