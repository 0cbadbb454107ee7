"""A release becomes a manifest: facts, comparison with what should be there, errors; and the real corpora."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from affekt.data.corpora import CORPORA, prepare
from affekt.data.corpora.expected_counts import compare_classes
from affekt.data.labels import EMOTIONS, LABEL_SETS, LabelSet
from affekt.data.manifest import Manifest
from affekt.data.vocabulary import WORDS, canonical
from affekt.errors import AffektError, ConfigError, CorpusError, ManifestError

Make = Callable[..., Path]
FOUR = LABEL_SETS["iemocap4"]
NEMO_SPEAKERS = {f"nemo-{name}0" for name in ("EB", "IC", "KD", "KS", "MK", "MP", "SM", "TP", "WR")}
PUBLISHED = [name for name, corpus in CORPORA.items() if corpus.label_counts and not corpus.generated]


@pytest.mark.parametrize(
    ("corpus", "utterances", "speakers"),
    [
        ("iemocap", 10_039, 10),
        ("emodb", 535, 10),
        ("ravdess", 1_440, 24),
        ("crema-d", 7_442, 91),
        ("savee", 480, 4),
        ("tess", 2_800, 2),
        ("emovo", 588, 6),
        ("nemo", 4_481, 9),
        ("ased", 2_474, 65),
        ("urdu", 400, 29),
        ("turev-db", 1_735, 6),
        ("meld", 13_708, 304),
        ("esd", 35_000, 20),
    ],
)
def test_label_counts_add_up_to_the_published_size(corpus: str, utterances: int, speakers: int) -> None:
    assert (CORPORA[corpus].utterances, CORPORA[corpus].speakers) == (utterances, speakers)


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_facts_are_complete_and_in_the_vocabulary(corpus: str) -> None:
    facts = CORPORA[corpus]
    assert set(facts.label_counts) <= set(EMOTIONS)
    assert re.match("https?://", facts.page)
    assert all(re.fullmatch("[a-z]{2}(-[A-Z]{2})?", language) for language in facts.languages)
    assert facts.license
    assert facts.layout


def test_every_canonical_label_has_a_word_and_no_word_has_two() -> None:
    assert set(WORDS) == set(EMOTIONS)
    assert all(canonical(label) == label for label in EMOTIONS)
    words = [word for spellings in WORDS.values() for word in spellings]
    assert len(words) == len(set(words))


def test_expected_counts_follow_the_label_set() -> None:
    assert CORPORA["emodb"].expected_counts(FOUR) == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    assert CORPORA["ravdess"].expected_counts(FOUR)["neutral"] == 96, "calm is not neutral"
    assert CORPORA["ravdess"].expected_counts(LABEL_SETS["ekman7"])["neutral"] == 96 + 192


def test_a_part_of_the_release_is_a_note_and_a_part_of_the_classes_a_warning(release: Make) -> None:
    names = [f"wav/03a01{code}{take}.wav" for code in "WFNT" for take in "ab"]
    manifest, notes = prepare("emodb", release(*names), FOUR)
    assert Counter(manifest.labels) == dict.fromkeys(FOUR.classes, 2)
    said = {note.what: note for note in notes}
    assert (said["release"].expected, said["release"].warning, said["release"].failed) == ("535", False, False)
    assert "bored 0 (-81)" in said["release"].got
    assert said["label set iemocap4"].warning
    assert said["label set iemocap4"].expected == "339 (angry 127, happy 71, neutral 79, sad 62)"


@pytest.mark.parametrize(("sad", "difference"), [(2, "sad 2 (-1)"), (3, ""), (4, "sad 4 (+1)")])
def test_one_utterance_more_or_less_is_a_difference(sad: int, difference: str) -> None:
    facts = replace(CORPORA["folders"], name="f", label_counts={"sad": 3, "angry": 2, "calm": 9})
    rows = [{"id": f"{n}", "path": "x.wav", "label": "sad" if n < sad else "angry"} for n in range(sad + 2)]
    two = LabelSet("two", {"sad": ("sad",), "angry": ("angry",)})
    notes = compare_classes(facts, two, Manifest.from_rows(rows, "."))
    assert [note.got for note in notes] == ([f"{sad + 2} utterances, {difference}"] if difference else [])


def test_only_recordings_of_the_label_set_are_decoded(release: Make) -> None:
    root = release("wav/03a01Wa.wav", "wav/03a01Na.wav")
    (root / "wav" / "03a01La.wav").write_bytes(b"broken and bored")
    two = LabelSet("two", {"angry": ("angry",), "neutral": ("neutral",)})
    _, notes = prepare("emodb", root, two)
    assert not any(note.failed for note in notes)
    manifest, notes = prepare("emodb", root)
    assert [note.items[0].partition(":")[0] for note in notes if note.failed] == ["wav/03a01La.wav"]
    assert "bored" not in manifest.labels


def test_speakers_are_unique_across_corpora_and_prefixed_once(release: Make) -> None:
    root = release("03a01Wa.wav")
    (root / "t.csv").write_text("path,label,speaker,session,corpus\n03a01Wa.wav,sad,emodb-03,,emodb\n")
    assert prepare("emodb", root)[0].table["speaker"].tolist() == ["emodb-03"]
    row = prepare("table", root / "t.csv")[0].table.iloc[0]
    assert (row["speaker"], row["session"], row["corpus"]) == ("emodb-03", "", "emodb")


@pytest.mark.parametrize("corpus", sorted(set(CORPORA) - {"synthetic"}))
def test_nothing_found_says_what_was_expected_and_where_it_is_had(tmp_path: Path, corpus: str) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    for root in (tmp_path, tmp_path / "readme.txt", tmp_path / "nowhere"):
        with pytest.raises(AffektError) as error:
            prepare(corpus, root)
        assert "Traceback" not in str(error.value)
        assert all(str(fault) for fault in error.value.faults)
        if corpus in PUBLISHED:
            assert isinstance(error.value, CorpusError)
            assert CORPORA[corpus].page in str(error.value)


def test_unknown_corpora_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="corpus: got 'iemocap4', expected one of iemocap, emodb, "):
        prepare("iemocap4", tmp_path)
    with pytest.raises(ConfigError, match="corpus emodb: options: got pattern, expected no options"):
        prepare("emodb", tmp_path, pattern="x")


def test_a_label_set_without_utterances_is_refused(release: Make) -> None:
    with pytest.raises(ManifestError, match="no utterance for happy, neutral, sad"):
        prepare("turev-db", release("Angry/1157_kz_beste.wav"), FOUR)


def test_nothing_that_can_be_decoded_is_an_error_with_the_reasons(release: Make) -> None:
    root = release("wav/03a01Wa.wav")
    (root / "wav" / "03a01Wa.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"no recording that can be used\n.*03a01Wa\.wav: an empty file"):
        prepare("emodb", root)


def test_names_that_no_table_can_hold_are_left_out_and_said(release: Make) -> None:
    root = release("wav/03a01Wa.wav", " wav/03a01Na.wav")
    bytes_root = bytes(root / "wav")
    (root / "wav" / "03a01Ta.wav").write_bytes((root / "wav" / "03a01Wa.wav").read_bytes())
    Path.rename(root / "wav" / "03a01Ta.wav", Path(bytes_root.decode()) / "\udcff03a01Ta.wav")
    manifest, notes = prepare("emodb", root)
    assert manifest.ids == ["03a01Wa"]
    [failed] = [note for note in notes if note.failed]
    assert failed.items == ("' wav/03a01Na.wav'", "'wav/\\udcff03a01Ta.wav'")


def test_decomposed_names_match_composed_ones(release: Make, tmp_path: Path) -> None:
    root = release("Ma\u0308rz.flac")  # as macOS writes it
    (root / "t.csv").write_text("path,label\nM\u00e4rz.wav,sad\n", encoding="utf-8")
    assert len(prepare("table", root / "t.csv")[0]) == 1


class TestRealCorpora:
    def test_emodb(self, corpora: Path) -> None:
        manifest, notes = prepare("emodb", corpora / "emodb", FOUR)
        assert Counter(manifest.labels) == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
        assert manifest.table["speaker"].nunique() == 10
        assert [note.what for note in notes] == ["release"], "339 of 535, and nothing else"

    def test_ravdess(self, corpora: Path) -> None:
        manifest, notes = prepare("ravdess", corpora / "ravdess")
        assert (len(manifest), manifest.table["speaker"].nunique()) == (1440, 24)
        said = {note.what: note for note in notes}
        folder = "Actor_07/03-01-03-01-02-0"
        assert said.pop("duplicated, recordings with exactly the same sound").items == (
            f"{folder}1-07.flac = {folder}2-07.flac",
        )
        assert "the lowest peak is 0.005" in said.pop("very quiet recordings").remedy
        assert said == {}
        four, _ = prepare("ravdess", corpora / "ravdess", FOUR, check_audio=False)
        assert Counter(four.labels) == {"angry": 192, "happy": 192, "neutral": 96, "sad": 192}

    def test_nemo(self, corpora: Path) -> None:
        manifest, notes = prepare("nemo", corpora / "nemo", check_audio=False)
        assert (len(manifest), notes) == (4481, [])
        assert set(manifest.table["speaker"]) == NEMO_SPEAKERS
        assert manifest.table["text_id"].nunique() == 90
        four, notes = prepare("nemo", corpora / "nemo", FOUR, check_audio=False)
        assert (len(four), notes) == (3076, [])

    @pytest.mark.slow
    def test_all_of_nemo_decodes(self, corpora: Path) -> None:
        manifest, notes = prepare("nemo", corpora / "nemo")
        assert (len(manifest), notes) == (4481, [])
