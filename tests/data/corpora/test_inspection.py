"""Decoding every recording: what cannot be used, what is not what it says, what is there twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affekt.audio.bulk_decoding import TOGETHER, DecodedFile, decode
from affekt.data.corpora.inspection import inspect
from affekt.data.corpora.release import Note, Row

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 1_600)


def rows_of(root: Path) -> list[Row]:
    files = sorted(path for path in root.iterdir() if path.is_file())
    return [{"id": path.stem, "path": path.name, "label": path.stem.split("_")[0]} for path in files]


def inspected(root: Path) -> tuple[list[str], dict[str, Note]]:
    """Names that can be used, and notes by what they are about."""
    usable, notes = inspect(rows_of(root), root, jobs=2)
    return [row["path"] for row in usable], {note.what: note for note in notes}


def test_every_kind_of_damage_is_left_out_and_said_with_its_reason(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", NOISE, 16_000)
    soundfile.write(tmp_path / "none.wav", NOISE[:0], 16_000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan]), 16_000, subtype="FLOAT")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "page.wav").write_text("<html>404</html>")
    (tmp_path / "pointer.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    usable, notes = inspected(tmp_path)
    assert usable == ["good.wav"]
    [note] = notes.values()
    assert note.failed
    reasons = dict(item.split(": ", 1) for item in note.items)
    assert reasons["empty.wav"] == "an empty file"
    assert reasons["none.wav"] == "no samples"
    assert reasons["nan.wav"].startswith("NaN or infinity")
    assert reasons["pointer.wav"] == "a Git LFS pointer, fetch the sound with `git lfs pull`"
    assert reasons["page.wav"].startswith("no audio that can be decoded")


def test_many_files_are_each_judged_alone(tmp_path: Path) -> None:
    """More than threads take at a time: every third one is broken, every fourth one a copy of the first."""
    for index in range(3 * TOGETHER + 1):
        name = tmp_path / f"{index:02}_x.wav"
        if index % 3 == 1:
            name.write_bytes(b"broken")
        else:
            soundfile.write(name, NOISE if index % 4 == 0 else NOISE[index:], 16_000)
    usable, notes = inspected(tmp_path)
    assert usable == [f"{index:02}_x.wav" for index in range(3 * TOGETHER + 1) if index % 3 != 1]
    failed, copies = sorted(notes.values(), key=lambda note: not note.failed)
    assert [item.split(":")[0] for item in failed.items] == [f"{index:02}_x.wav" for index in range(1, 25, 3)]
    assert "00_x.wav = 08_x.wav = 3 more" in str(copies)


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000, format="AIFF")
    soundfile.write(tmp_path / "b.WAV", NOISE[1:], 16_000, format="FLAC")
    soundfile.write(tmp_path / "c.wav", NOISE[2:], 16_000, format="WAVEX")
    soundfile.write(tmp_path / "d.opus", NOISE[3:], 16_000, format="OGG", subtype="OPUS")
    soundfile.write(tmp_path / "e.mp3", NOISE[4:], 16_000)
    soundfile.write(tmp_path / "f.unheard-of", NOISE[5:], 16_000, format="WAV")
    usable, notes = inspected(tmp_path)
    assert len(usable) == 6
    [note] = notes.values()
    assert note.items == ("a.wav is AIFF", "b.WAV is FLAC")
    assert not note.failed


def test_equal_sound_is_found_whatever_file_holds_it(tmp_path: Path) -> None:
    whole_numbers = (NOISE * 32_767).astype(np.int16)
    soundfile.write(tmp_path / "sad_1.wav", whole_numbers, 16_000)
    soundfile.write(tmp_path / "sad_2.flac", whole_numbers, 16_000)
    soundfile.write(tmp_path / "sad_3.wav", NOISE[1:], 16_000)
    for name in ("happy_4", "sad_5", "sad_6"):
        soundfile.write(tmp_path / f"{name}.wav", NOISE[2:], 16_000)
    _, notes = inspected(tmp_path)
    assert notes["duplicated, recordings with exactly the same sound"].items == ("sad_1.wav = sad_2.flac",)
    contrary = notes["duplicated and mislabeled, exactly the same sound under different labels"]
    assert contrary.items == ("happy_4.wav = sad_5.wav = 1 more",)


def test_parts_of_one_file_are_no_duplicates(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", NOISE, 16_000)
    parts = [{"id": f"{n}", "path": "long.wav", "label": label} for n, label in enumerate(("sad", "happy"))]
    usable, notes = inspect(parts, tmp_path)
    assert (usable, notes) == (parts, [])


def test_levels_rates_and_channels_are_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000)
    soundfile.write(tmp_path / "b.wav", np.stack([NOISE, NOISE], 1)[1:], 48_000)
    soundfile.write(tmp_path / "c.wav", 0.01 * NOISE, 16_000)
    soundfile.write(tmp_path / "d.wav", 0 * NOISE, 16_000)
    _, notes = inspected(tmp_path)
    assert notes["recordings of digital silence"].items == ("d.wav",)
    assert str(notes["very quiet recordings"]) == (
        "very quiet recordings: 1 (c.wav); the lowest peak is 0.005, the median of all 0.25 of full scale"
    )
    assert notes["mixed sample rates"].got == "16000 Hz in 3, 48000 Hz in 1"
    assert notes["mixed channels"].got == "1 channel in 3, 2 channels in 1"


def test_a_recording_that_breaks_off_is_used_and_said(tmp_path: Path) -> None:
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, np.tile(NOISE, 100), 16_000, format="FLAC")
    (tmp_path / "cut.flac").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()
    usable, notes = inspected(tmp_path)
    assert usable == ["cut.flac"]
    assert notes["recordings that break off, what is there is used"].items == ("cut.flac",)


def test_decoding_measures_at_the_recording_s_own_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 8_000, subtype="DOUBLE")
    sound = decode(tmp_path / "a.wav")
    assert (sound.sample_rate_hz, sound.channels, sound.duration_seconds) == (8_000, 1, 0.2)
    assert sound.peak == pytest.approx(np.abs(NOISE).max())


def test_progress_sees_every_recording(tmp_path: Path, recording: Callable[..., Path]) -> None:
    for name in "abc":
        recording(tmp_path / f"{name}.wav")
    seen: list[tuple[int, int]] = []

    def progress(sounds: Iterable[DecodedFile], total: int) -> Iterator[DecodedFile]:
        for number, sound in enumerate(sounds):
            seen.append((number, total))
            yield sound

    inspect(rows_of(tmp_path), tmp_path, progress=progress)
    assert seen == [(0, 3), (1, 3), (2, 3)]
