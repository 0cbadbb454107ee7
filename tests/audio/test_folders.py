"""Folders: recordings are found by their suffix, and the other files are counted with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from affekt.audio import containers, folders


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_recordings_and_what_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "available", lambda: False)
    names = ("b/2.WAV", "a.sph", "tv.mp2", "memo.m4a", "b/memo.m4a", "x.webm", "notes.txt", "README", ".hidden.wav")
    fill(tmp_path, *names)
    found = folders.scan(tmp_path)
    assert [Path(path).name for path in found.recordings] == ["a.sph", "tv.mp2", "2.WAV"]
    expected = (
        "passed over 5 files: 2 .m4a, 1 .webm (pip install 'affekt[containers]' reads them), 1 without a suffix, 1 .txt"
    )
    assert found.note() == expected


def test_with_pyav_containers_are_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "available", lambda: True)
    fill(tmp_path, "memo.m4a", "x.webm", "voice.3gp", "old.wma", "a.txt")
    found = folders.scan(tmp_path)
    assert len(found.recordings) == 4
    assert found.note() == "passed over 1 file: 1 .txt"


def test_many_suffixes_are_summed_up(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav", *(f"{index}.s{index % 7}" for index in range(20)))
    assert folders.scan(tmp_path).note() == "passed over 20 files: 3 .s0, 3 .s1, 3 .s2, 3 .s3, 8 others"


def test_nothing_passed_over_needs_no_words(tmp_path: Path) -> None:
    fill(tmp_path, "a.wav")
    assert folders.scan(tmp_path).note() == ""


def test_links_in_circles_end(tmp_path: Path) -> None:
    fill(tmp_path, "inner/a.wav")
    (tmp_path / "inner" / "up").symlink_to(tmp_path)
    assert len(folders.scan(tmp_path).recordings) == 1
