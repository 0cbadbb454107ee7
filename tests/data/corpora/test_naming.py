"""Corpora whose file names say everything: one worked example each, and what is odd about a release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from affekt.data.corpora import CORPORA, prepare
from affekt.data.corpora.release import Note

Make = Callable[..., Path]


def read(corpus: str, root: Path, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Note]]:
    """Rows of the manifest, and the notes by what they are about."""
    manifest, notes = prepare(corpus, root, check_audio=False, **options)
    return manifest.table.to_dict("records"), {note.what: note for note in notes}


EXAMPLES = [
    ("emodb", "wav/03a01Fa.wav", "happy", "emodb-03", "male", "a01", "de"),
    ("emodb", "wav/16b10Lb.wav", "bored", "emodb-16", "female", "b10", "de"),
    ("ravdess", "Actor_07/03-01-02-02-01-02-07.wav", "calm", "ravdess-07", "male", "01", "en"),
    ("ravdess", "Actor_24/03-01-08-01-02-01-24.wav", "surprised", "ravdess-24", "female", "02", "en"),
    ("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav", "angry", "crema-d-1001", "male", "DFA", "en-US"),
    ("crema-d", "AudioWAV/1091_IEO_HAP_HI.wav", "happy", "crema-d-1091", "female", "IEO", "en-US"),
    ("savee", "AudioData/DC/su15.wav", "surprised", "savee-DC", "male", "su15", "en-GB"),
    ("savee", "AudioData/KL/n02.wav", "neutral", "savee-KL", "male", "common02", "en-GB"),
    ("savee", "ALL/JE_a07.wav", "angry", "savee-JE", "male", "a07", "en-GB"),
    ("tess", "OAF_angry/OAF_back_angry.wav", "angry", "tess-OAF", "female", "back", "en-CA"),
    ("tess", "YAF_pleasant_surprised/YAF_dog_ps.wav", "surprised", "tess-YAF", "female", "dog", "en-CA"),
    ("tess", "OAF_neutral/OA_bite_neutral.wav", "neutral", "tess-OAF", "female", "bite", "en-CA"),
    ("emovo", "f1/dis-f1-b1.wav", "disgusted", "emovo-f1", "female", "b1", "it"),
    ("emovo", "m3/rab-m3-n5.wav", "angry", "emovo-m3", "male", "n5", "it"),
    ("ased", "05Angry/a5-03-01-02-50.wav", "angry", "ased-50", "male", "a03", "am"),
    ("ased", "02Fearful/f2-07-02-01-33.wav", "fearful", "ased-33", "female", "common07", "am"),
    ("urdu", "Neutral/SM20_F8_N012.wav", "neutral", "urdu-SM20", "male", "", "ur"),
    ("urdu", "Sad/SF9_F1_S01.wav", "sad", "urdu-SF9", "female", "", "ur"),
    ("turev-db", "Sound Source/Angry/1157_kz_beste.wav", "angry", "turev-db-1157", "", "beste", "tr"),
    ("turev-db", "Sound Source/Calm/6783_sk_koku.wav", "calm", "turev-db-6783", "", "koku", "tr"),
    ("esd", "0011/Angry/0011_000351.wav", "angry", "esd-0011", "male", "en-001", "en"),
    ("esd", "0001/Surprise/train/0001_001750.wav", "surprised", "esd-0001", "female", "zh-350", "zh"),
    ("esd", "0010/Neutral/0010_000350.wav", "neutral", "esd-0010", "male", "zh-350", "zh"),
]


BY_NAME = list(dict.fromkeys(corpus for corpus, *_ in EXAMPLES))


@pytest.mark.parametrize(("corpus", "path", "label", "speaker", "gender", "text", "language"), EXAMPLES)
def test_a_name_tells_label_speaker_and_text(
    release: Make, corpus: str, path: str, label: str, speaker: str, gender: str, text: str, language: str
) -> None:
    root = release(path)
    manifest, notes = prepare(corpus, root, check_audio=False)
    [row] = manifest.table.to_dict("records")
    told = (row["label"], row["speaker"], row["gender"], row["text_id"], row["language"], row["corpus"], row["style"])
    assert told == (label, speaker, gender, text, language, corpus, CORPORA[corpus].style)
    assert manifest.audio_paths() == [root / path]
    assert not any("mislabeled" in note.what or "left out" in note.what for note in notes)


@pytest.mark.parametrize("corpus", BY_NAME)
def test_the_layout_that_is_advertised_is_read(release: Make, corpus: str) -> None:
    rows, _ = read(corpus, release(CORPORA[corpus].layout))
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("corpus", "path", "below"),
    [
        ("emodb", "wav/03a01Fa.wav", "wav"),
        ("ravdess", "Actor_07/03-01-02-02-01-02-07.wav", "Actor_07"),
        ("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV"),
        ("savee", "DC/a01.wav", "DC"),
        ("emovo", "f1/dis-f1-b1.wav", "f1"),
        ("ased", "05Angry/a5-03-01-02-50.wav", "05Angry"),
        ("turev-db", "Sound Source/Angry/1157_kz_beste.wav", "Sound Source"),
        ("esd", "0011/Angry/0011_000351.wav", "0011"),
    ],
)
def test_a_root_one_level_too_high_or_too_low_is_recognized(
    release: Make, corpus: str, path: str, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = release(path)
    for there in (root, root.parent, root / below):
        manifest, _ = prepare(corpus, there, check_audio=False)
        assert [file.is_file() for file in manifest.audio_paths()] == [True]
    monkeypatch.chdir(root / below)
    assert len(prepare(corpus, ".", check_audio=False)[0]) == 1


def test_one_speaker_s_folder_stands_for_the_release(release: Make) -> None:
    root = release("Actor_01/03-01-01-01-01-01-01.wav", "Actor_02/03-01-03-01-01-01-02.wav")
    manifest, _ = prepare("ravdess", root / "Actor_02", check_audio=False)
    assert manifest.ids == ["03-01-01-01-01-01-01", "03-01-03-01-01-01-02"]


def test_converted_and_renamed_files_are_found(release: Make, recording: Make, tmp_path: Path) -> None:
    names = ["03a01Fa.FLAC", "ä ö/08a01Na.OGG", "09a02Wb.Wav", "10b01Tc.opus", "11b02Ad.mp3"]
    root = release(*names)
    (root / "link.d").mkdir()
    (root / "link.d" / "12b03La.wav").symlink_to(root / names[2])
    (root / "circle").symlink_to(root)
    (root / "elsewhere").symlink_to(recording(tmp_path / "disk" / "13a01Ea.wav").parent)
    (root / "._03a01Fa.FLAC").write_bytes(b"\0\5\26\7Mac OS X")
    manifest, notes = prepare("emodb", root)
    assert sorted(manifest.ids) == ["03a01Fa", "08a01Na", "09a02Wb", "10b01Tc", "11b02Ad", "12b03La", "13a01Ea"]
    assert all(file.is_file() for file in manifest.audio_paths())
    assert not any(note.failed or "left out" in note.what for note in notes)
    manifest.write(tmp_path / "m" / "manifest.csv")
    again = manifest.read(tmp_path / "m" / "manifest.csv")
    assert again.table.drop(columns="path").equals(manifest.table.drop(columns="path"))
    assert again.audio_paths() == manifest.audio_paths()


def test_the_same_recording_twice_is_used_once_and_said(release: Make) -> None:
    root = release("wav/03a01Fa.wav", "flac/03a01Fa.flac", "copy/03a01Fa.wav")
    [row], notes = read("emodb", root)
    assert row["path"] == "copy/03a01Fa.wav"
    [twice] = [note for what, note in notes.items() if "there twice" in what]
    assert twice.items == ("wav/03a01Fa.wav", "flac/03a01Fa.flac")
    assert not twice.failed


def test_what_is_not_the_corpus_s_is_left_out_and_said(release: Make) -> None:
    root = release(
        "Actor_01/03-01-01-01-01-01-01.wav",
        "Actor_01/03-02-01-01-01-01-01.wav",  # sung
        "Actor_01/01-01-01-01-01-01-01.wav",  # from the film
        "Actor_01/notes.wav",
    )
    rows, notes = read("ravdess", root)
    assert len(rows) == 1
    [extra] = [note for what, note in notes.items() if "not named" in what]
    assert len(extra.items) == 3


def test_missing_recordings_are_named_where_the_corpus_is_a_grid(release: Make) -> None:
    _, notes = read("ravdess", release("Actor_01/03-01-01-01-01-01-01.wav"))
    missing = notes["missing recordings"]
    assert len(missing.items) == CORPORA["ravdess"].utterances - 1
    assert missing.items[0] == "03-01-01-01-01-02-01"
    assert str(missing).startswith("missing recordings: 1,439 (03-01-01-01-01-02-01, 03-01-01-01-02-01-01, ")
    assert notes["speakers"].expected == "24"


@pytest.mark.parametrize("corpus", ["savee", "esd"])
def test_a_grid_has_as_many_names_as_the_release_has_utterances(release: Make, corpus: str) -> None:
    _, notes = read(corpus, release(CORPORA[corpus].layout))
    assert len(notes["missing recordings"].items) == CORPORA[corpus].utterances - 1


def test_a_folder_that_contradicts_the_name_is_said(release: Make) -> None:
    root = release("0011/Happy/test/0011_000351.wav", "0011/Angry/0011_000352.wav")
    rows, notes = read("esd", root)
    assert [row["label"] for row in rows] == ["angry", "angry"]
    [wrong] = [note for what, note in notes.items() if "mislabeled" in what]
    assert wrong.items == ("0011/Happy/test/0011_000351.wav is angry by its name",)


def test_numbers_and_folders_outside_the_corpus_are_no_utterances(release: Make) -> None:
    rows, notes = read("esd", release("0011/Angry/0011_000351.wav", "0011/Sad/0011_001751.wav", "0011/0011_000000.wav"))
    assert len(rows) == 1
    assert any(len(note.items) == 2 for what, note in notes.items() if "left out" in what)
    rows, notes = read("turev-db", release("Angry/1157_kz_beste.wav", "Calm Down/1157_sk_koku.wav"))
    assert [row["label"] for row in rows] == ["angry"]
    rows, notes = read("savee", release("DC/a01.wav", "XY/a01.wav", "XY_a01.wav"))
    assert [row["id"] for row in rows] == ["DC_a01"]


@pytest.mark.usefixtures("without_containers")
def test_films_are_said_with_a_way_out(release: Make, tmp_path: Path) -> None:
    root = release("Actor_01/03-01-01-01-01-01-01.wav")
    for name in ("03-01-01-01-01-01-01.mp4", "03-01-03-01-01-01-01.mp4"):
        (root / "Actor_01" / name).write_bytes(b"film")
    _, notes = read("ravdess", root)
    [films] = [note for note in notes.values() if note.failed]
    assert films.items == ("Actor_01/03-01-03-01-01-01-01.mp4",)
    assert "ffmpeg" in films.remedy
