"""The waveform cache: what it returns is what decoding returns, and nothing stale or damaged is ever read."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from affekt import audio
from affekt.data import waveform_store
from affekt.data.manifest import Manifest
from affekt.data.waveform_store import WaveformStore
from affekt.errors import AudioError, ConfigError, Fault
from affekt.runtime import processes

SUFFIXES = ("wav", "flac", "wav", "aiff", "wav", "wav")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six recordings at three rates; the last row is a part of the first file."""
    root = tmp_path / "corpus with späces"
    root.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for index, suffix in enumerate(SUFFIXES):
        noise = rng.uniform(-0.5, 0.5, 4_000 + 500 * index)
        soundfile.write(root / f"{index}.{suffix}", noise, (16_000, 8_000, 22_050)[index % 3])
        rows.append({"id": f"u{index}", "path": f"{index}.{suffix}", "label": "sad"})
    rows.append({"id": "part", "path": "0.wav", "label": "sad", "start": 0.05, "end": 0.15})
    return Manifest.from_rows(rows, root)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded since the test began."""
    files: list[Path] = []
    load = audio.load

    def record(source: Path, *arguments: float, **options: float) -> np.ndarray:
        files.append(source)
        return load(source, *arguments, **options)

    monkeypatch.setattr(audio, "load", record)
    return files


def only_cache(folder: Path) -> Path:
    (cache,) = folder.iterdir()
    return cache


def test_rows_are_what_decoding_gives(manifest: Manifest, tmp_path: Path) -> None:
    opened = WaveformStore.open(manifest, tmp_path / "cache")
    whole = [audio.load(path) for path in manifest.audio_paths()]
    expected = [*whole[:-1], audio.load(manifest.audio_paths()[-1], start_seconds=0.05, end_seconds=0.15)]
    assert len(opened) == len(expected) == 7
    for row, samples in enumerate(expected):
        np.testing.assert_array_equal(opened[row], samples)
        assert opened.hashes[row] == hashlib.sha256(samples.tobytes()).hexdigest()
    assert opened.lengths.tolist() == [len(samples) for samples in expected]
    assert [len(samples) for samples in opened] == opened.lengths.tolist()
    np.testing.assert_array_equal(opened[-1], expected[-1])
    np.testing.assert_array_equal(np.concatenate(opened[1:3]), np.concatenate(expected[1:3]))
    with pytest.raises(IndexError):
        opened[7]
    assert opened.failures == []
    with pytest.raises(ValueError, match="read-only"):
        opened[0][0] = 1.0


def test_decoding_happens_once(manifest: Manifest, tmp_path: Path, decoded: list[Path]) -> None:
    first = WaveformStore.open(manifest, tmp_path / "cache")
    assert sorted(decoded) == sorted(manifest.audio_paths())
    decoded.clear()
    again = WaveformStore.open(manifest, tmp_path / "cache", jobs=1)
    assert decoded == []
    np.testing.assert_array_equal(first.waveforms, again.waveforms)
    assert (first.hashes, first.starts.tolist()) == (again.hashes, again.starts.tolist())


def test_moved_and_renamed_files_with_the_same_content_are_not_decoded_again(
    manifest: Manifest, tmp_path: Path, decoded: list[Path]
) -> None:
    WaveformStore.open(manifest, tmp_path / "cache")
    decoded.clear()
    manifest.root.rename(tmp_path / "elsewhere")
    moved = Manifest(manifest.table, tmp_path / "elsewhere")
    assert len(WaveformStore.open(moved, tmp_path / "cache")) == 7
    assert decoded == []


def test_a_changed_file_is_decoded_although_size_and_time_are_the_same(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest.audio_paths()[2]
    before = WaveformStore.open(manifest, tmp_path / "cache")[2]
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[1_000] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = WaveformStore.open(manifest, tmp_path / "cache")[2]
    np.testing.assert_array_equal(after, audio.load(path))
    assert not np.array_equal(after, before)


def test_another_rate_is_another_cache(manifest: Manifest, tmp_path: Path) -> None:
    WaveformStore.open(manifest, tmp_path / "cache", 16_000)
    opened = WaveformStore.open(manifest, tmp_path / "cache", 8_000)
    np.testing.assert_array_equal(opened[0], audio.load(manifest.audio_paths()[0], 8_000))


def test_another_part_is_another_cache(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest.audio_paths()[-1]
    for start, end in ((0.05, 0.15), (0.0, 0.15), (0.05, 0.2), (np.nan, 0.2)):
        other = Manifest(manifest.table.assign(start=start, end=end).tail(1).reset_index(drop=True), manifest.root)
        expected = audio.load(path, start_seconds=None if np.isnan(start) else start, end_seconds=end)
        np.testing.assert_array_equal(WaveformStore.open(other, tmp_path / "cache")[0], expected)


def test_another_version_of_the_resampler_is_another_cache(
    manifest: Manifest, tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    WaveformStore.open(manifest, tmp_path / "cache")
    decoded.clear()
    monkeypatch.setattr("soxr.__version__", "99.0")
    WaveformStore.open(manifest, tmp_path / "cache")
    assert len(decoded) == 7


def flip_a_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: flip_a_byte(cache / waveform_store.WAVEFORMS, 0),
        lambda cache: flip_a_byte(cache / waveform_store.WAVEFORMS, -1),
        lambda cache: flip_a_byte(cache / waveform_store.INDEX, 70),
        lambda cache: flip_a_byte(cache / waveform_store.INDEX, -3),
        lambda cache: os.truncate(cache / waveform_store.WAVEFORMS, 1_000),
        lambda cache: os.truncate(cache / waveform_store.INDEX, 100),
        lambda cache: os.truncate(cache / waveform_store.INDEX, 0),
        lambda cache: (cache / waveform_store.INDEX).write_bytes(b"\xff\xfe\x00"),
        lambda cache: (cache / waveform_store.WAVEFORMS).unlink(),
        lambda cache: (cache / waveform_store.INDEX).unlink(),
    ],
)
def test_a_damaged_cache_is_rebuilt(
    manifest: Manifest, tmp_path: Path, decoded: list[Path], damage: Callable[[Path], None]
) -> None:
    WaveformStore.open(manifest, tmp_path / "cache")
    damage(only_cache(tmp_path / "cache"))
    decoded.clear()
    opened = WaveformStore.open(manifest, tmp_path / "cache")
    assert len(decoded) == 7
    np.testing.assert_array_equal(opened[0], audio.load(manifest.audio_paths()[0]))
    decoded.clear()
    WaveformStore.open(manifest, tmp_path / "cache")
    assert decoded == []  # and whole again
    only_cache(tmp_path / "cache")  # with nothing left over


def test_failures_are_collected_and_the_rest_delivered(manifest: Manifest, tmp_path: Path, decoded: list[Path]) -> None:
    paths = manifest.audio_paths()
    paths[1].write_text("not audio")
    paths[3].unlink()
    for _ in range(2):  # decoded, then read from the cache
        opened = WaveformStore.open(manifest, tmp_path / "cache")
        assert opened.usable.tolist() == [True, False, True, False, True, True, True]
        assert [fault.what for fault in opened.failures] == [f"u1: {paths[1]}", f"{paths[3]} (utterance u3)"]
        assert opened.failures[1].got == "no such file"
        assert (opened.lengths[1], opened.hashes[1]) == (0, "")
        np.testing.assert_array_equal(opened[4], audio.load(paths[4]))
        with pytest.raises(AudioError, match=r"u1: .*no audio that can be decoded"):
            opened[1]
    assert len(decoded) == 6 + 2  # all but the missing file once, and this test twice

    kept = opened.where(opened.usable)
    assert manifest.where(opened.usable).ids == ["u0", "u2", "u4", "u5", "part"]
    assert kept.failures == []
    np.testing.assert_array_equal(kept[2], opened[4])
    assert kept.hashes[2] == opened.hashes[4]


def test_processes_write_the_same_cache(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[Path]
) -> None:
    """Byte for byte, failures among them; and nothing of how it was made is left."""
    manifest.audio_paths()[1].write_text("not audio")
    manifest.audio_paths()[3].unlink()
    many = Manifest(
        pd.concat([manifest.table.assign(id=f"{copy}-" + manifest.table["id"]) for copy in "abc"]), manifest.root
    )
    WaveformStore.open(many, tmp_path / "threads", jobs=2)
    assert decoded
    decoded.clear()
    monkeypatch.setattr(processes, "RECORDINGS_PER_PROCESS", 10)
    opened = WaveformStore.open(many, tmp_path / "processes", jobs=2)
    assert decoded == []  # by this process
    caches = [only_cache(tmp_path / name) for name in ("threads", "processes")]
    contents = [{path.name: path.read_bytes() for path in cache.iterdir()} for cache in caches]
    assert contents[0] == contents[1]
    named = [re.search(r"[abc]-u\d", fault.what) for fault in opened.failures]
    assert [name and name[0] for name in named] == ["a-u1", "a-u3", "b-u1", "b-u3", "c-u1", "c-u3"]


def test_a_missing_file_that_appears_is_decoded(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest.audio_paths()[3]
    data = path.read_bytes()
    path.unlink()
    assert len(WaveformStore.open(manifest, tmp_path / "cache").failures) == 1
    path.write_bytes(data)
    assert WaveformStore.open(manifest, tmp_path / "cache").failures == []


def test_all_failures_are_reported_if_nothing_can_be_decoded(tmp_path: Path) -> None:
    manifest = Manifest.from_rows([{"id": name, "path": f"{name}.wav", "label": "sad"} for name in "ab"], tmp_path)
    for _ in range(2):
        with pytest.raises(AudioError) as error:
            WaveformStore.open(manifest, tmp_path / "cache")
        assert [fault.what for fault in error.value.faults] == [
            f"{tmp_path}/{name}.wav (utterance {name})" for name in "ab"
        ]


def test_files_that_change_meanwhile_are_refused(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing, vanishing = manifest.audio_paths()[1:3]
    load = audio.load

    def load_and_change(source: Path, *arguments: float, **options: float) -> np.ndarray:
        samples = load(source, *arguments, **options)
        if source == growing:
            with source.open("ab") as file:
                file.write(b"more")
        if source == vanishing:
            source.unlink()
        return samples

    monkeypatch.setattr(audio, "load", load_and_change)
    with pytest.raises(AudioError) as error:
        WaveformStore.open(manifest, tmp_path / "cache")
    assert [fault.what for fault in error.value.faults] == [str(growing), str(vanishing)]
    assert list((tmp_path / "cache").iterdir()) == []


def test_lossless_copies_have_equal_hashes(tmp_path: Path) -> None:
    noise = (np.random.default_rng(0).uniform(-0.5, 0.5, 5_000) * 2**15).astype(np.int16)
    for suffix in ("wav", "flac", "aiff", "caf"):
        soundfile.write(tmp_path / f"a.{suffix}", noise, 16_000, subtype="PCM_16")
    soundfile.write(tmp_path / "other.wav", noise[::-1], 16_000)
    names = ["a.wav", "a.flac", "a.aiff", "a.caf", "other.wav"]
    manifest = Manifest.from_rows([{"id": name, "path": name, "label": "sad"} for name in names], tmp_path)
    hashes = WaveformStore.open(manifest, tmp_path / "cache").hashes
    assert len(set(hashes[:4])) == 1
    assert hashes[4] != hashes[0]


def open_and_hash(manifest: Manifest, folder: Path) -> str:
    return hashlib.sha256(WaveformStore.open(manifest, folder, jobs=2).waveforms.tobytes()).hexdigest()


def test_processes_that_build_at_once_agree(manifest: Manifest, tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        results = pool.starmap(open_and_hash, [(manifest, tmp_path / "cache")] * 4, chunksize=1)
    assert set(results) == {open_and_hash(manifest, tmp_path / "other")}
    only_cache(tmp_path / "cache")


def test_a_cache_that_another_process_publishes_first_is_used(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one finishes between our renaming away and our renaming into place."""
    folder = tmp_path / "cache"
    rename = Path.rename

    def slow_rename(self: Path, target: Path) -> Path:
        if self.name == "fresh":
            monkeypatch.undo()
            WaveformStore.open(manifest, folder)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow_rename)
    assert len(WaveformStore.open(manifest, folder)) == 7
    only_cache(folder)


def test_leftovers_of_killed_processes_are_removed_after_a_day(manifest: Manifest, tmp_path: Path) -> None:
    old, new = tmp_path / "cache" / ".key.old", tmp_path / "cache" / ".key.new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    yesterday = time.time() - 25 * 60 * 60
    os.utime(old, (yesterday, yesterday))
    WaveformStore.open(manifest, tmp_path / "cache")
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_written(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="set AFFEKT_CACHE"):
        WaveformStore.open(manifest, tmp_path / "file")


def test_a_disk_that_returns_something_else(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waveform_store, "_is_whole", lambda *_: False)
    with pytest.raises(ConfigError, match="damaged as soon as it is written"):
        WaveformStore.open(manifest, tmp_path / "cache")


def test_a_file_that_breaks_while_it_is_hashed(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest

    def fail_once(file: object, name: str) -> object:
        if getattr(file, "name", None) == str(manifest.audio_paths()[5]):
            raise OSError(5, "Input/output error")
        return digest(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", fail_once)
    (fault,) = WaveformStore.open(manifest, tmp_path / "cache").failures
    path = manifest.audio_paths()[5]
    assert fault == Fault(f"u5: {path}", got="Input/output error", expected="a readable audio file")


def test_the_environment_names_the_folder(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFEKT_CACHE", str(tmp_path / "chosen"))
    WaveformStore.open(manifest)
    only_cache(tmp_path / "chosen")
    monkeypatch.delenv("AFFEKT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert waveform_store.default_folder() == tmp_path / ".cache" / "affekt"


def test_few_results_wait_in_memory() -> None:
    """Decoding runs ahead of writing by a bounded number of waveforms, however many there are."""
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        return item

    results = waveform_store._in_order(work, range(1_000), jobs=2)
    assert [next(results) for _ in range(10)] == list(range(10))
    time.sleep(0.05)
    assert len(started) <= 10 + (1 + 2 * waveform_store.AHEAD_PER_JOB) * waveform_store.TOGETHER
    assert list(results) == list(range(10, 1_000))


def test_the_byte_identical_pair_of_ravdess(corpora: Path, tmp_path: Path) -> None:
    folder = "ravdess/Audio_Speech_Actors_01-24/Actor_07"
    paths = sorted((corpora / folder).glob("03-01-03-*.flac"))
    rows = [{"id": path.stem, "path": f"{folder}/{path.name}", "label": "happy"} for path in paths]
    hashes = WaveformStore.open(Manifest.from_rows(rows, corpora), tmp_path).hashes
    equal = [path.stem for path, digest in zip(paths, hashes, strict=True) if hashes.count(digest) > 1]
    assert equal == ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]
