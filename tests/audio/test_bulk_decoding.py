"""What decoding many recordings shows, in threads and in processes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affekt.audio import bulk_decoding, containers
from affekt.audio.bulk_decoding import DecodedFile, Stretch, decoded, start_decoders, waveform, waveforms
from affekt.runtime import processes

DEADLY = """
import os
from affekt.audio import bulk_decoding
make = bulk_decoding._part_writer
def decoder():
    def decode(paths):
        if any("12.wav" in path for path in paths):
            os.kill(os.getpid(), 9)
        return bulk_decoding._decode_all(paths)
    return decode
def part_writer(scratch, sample_rate_hz):
    write = make(scratch, sample_rate_hz)
    return lambda stretches: os.kill(os.getpid(), 9) if stretches[0].name == "8" else write(stretches)
"""


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Twenty recordings, one of which is none."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4_000)
    names = [tmp_path / f"{index:02}.wav" for index in range(20)]
    for index, name in enumerate(names):
        soundfile.write(name, noise[100 * index :], 16_000)
    names[7].write_text("no audio")
    return list(map(str, names))


def test_processes_and_threads_find_the_same(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list(decoded(paths, jobs=2))
    assert [sound.duration_seconds for sound in threads] == [
        0.0 if index == 7 else (4_000 - 100 * index) / 16_000 for index in range(20)
    ]
    assert len({sound.digest for sound in threads}) == 20
    monkeypatch.setattr(processes, "RECORDINGS_PER_PROCESS", 10)
    monkeypatch.setattr(bulk_decoding, "decode", None)  # of this process
    assert list(decoded(paths, jobs=2)) == threads
    monkeypatch.setattr(bulk_decoding, "available_cores", lambda: 1)
    assert start_decoders() is None
    monkeypatch.setattr(bulk_decoding, "available_cores", lambda: 2)
    decoders = start_decoders()
    assert decoders is not None
    with decoders:
        assert list(decoded(paths[:5], decoders=decoders)) == threads[:5]


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_file_at_which_a_process_dies_is_the_only_one_without_an_answer(
    paths: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("deadly")
    (place / "deadly_decoder.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(place)
    threads = list(decoded(paths, jobs=2))
    monkeypatch.setattr(processes, "RECORDINGS_PER_PROCESS", 10)
    monkeypatch.setattr(bulk_decoding, "_decoder", importlib.import_module("deadly_decoder").decoder)
    threads[12] = DecodedFile(fault="a process that ended by signal 9 at it")
    assert list(decoded(paths, jobs=2)) == threads


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_waveforms_at_which_a_process_dies_are_decoded_here(
    paths: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept in a cache must not depend on such a chance."""
    place, scratch = tmp_path_factory.mktemp("deadly"), tmp_path_factory.mktemp("scratch")
    (place / "deadly_writer.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(bulk_decoding, "_part_writer", importlib.import_module("deadly_writer").part_writer)
    stretches = [Stretch(str(index), Path(path)) for index, path in enumerate(paths)]
    here: list[str] = []
    monkeypatch.setattr(bulk_decoding, "waveform", lambda one, rate: (here.append(one.name), waveform(one, rate))[1])
    found = [(entry, bytes(samples)) for entry, samples in waveforms(stretches, 16_000, scratch, 2)]
    assert here == [str(number) for number in range(8, 16)]
    assert found == [(entry, samples.tobytes()) for entry, samples in (waveform(one, 16_000) for one in stretches)]
    assert list(scratch.iterdir()) == []


def test_a_full_disk_is_said_as_such(paths: list[str], tmp_path: Path) -> None:
    """Here: a folder that is not there."""
    with pytest.raises(FileNotFoundError):
        list(waveforms([Stretch("a", Path(paths[0]))], 16_000, tmp_path / "nowhere", 2))


def test_remarks_become_properties_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A report counts them; a line for each of thousands of files would drown it."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    soundfile.write(tmp_path / "whole.wav", noise, 16_000)
    content = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[:-10_000])
    (tmp_path / "more.wav").write_bytes(content[:40] + (8_000).to_bytes(4, "little") + content[44:])
    soundfile.write(tmp_path / "cancels.wav", np.stack([noise, -0.9 * noise], axis=1), 16_000)
    names = ("whole", "cut", "more", "cancels")
    found = [bulk_decoding.decode(tmp_path / f"{name}.wav") for name in names]
    assert [file.complete for file in found] == [True, False, True, True]
    assert [file.unheard for file in found] == [False, False, True, False]
    assert [file.cancels for file in found] == [False, False, False, True]
    assert not caplog.records


def test_a_container_without_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "available", lambda: False)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x1cftypisom" + bytes(100))
    fault = bulk_decoding.decode(tmp_path / "a.mp4").fault
    assert fault.startswith("an MP4 or QuickTime file (mp4, m4a, mov, 3gp); pip install 'affekt[containers]' reads it")
