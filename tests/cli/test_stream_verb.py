"""`affekt stream`: raw samples on standard input, a microphone that is not there, delays."""

from __future__ import annotations

import io
import json
import queue
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from affekt import cli
from affekt.recognition.recognizer import Recognizer

RATE = 16_000


def pcm(samples: Any) -> bytes:
    return np.round(samples * 32_768).clip(-32_768, 32_767).astype("<i2").tobytes()


@pytest.fixture
def run(
    small_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    def call(content: bytes, *words: str) -> tuple[int, str, str]:
        stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)))
        monkeypatch.setattr(sys, "stdin", stdin)
        code = cli.main(["stream", *words, "--model", str(small_model)])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


def test_a_line_every_hop(run: Any, small_model: Path, babble: Any) -> None:
    """The same answers as from the library, for samples that 16 bits can hold."""
    samples = np.concatenate([np.zeros(2 * RATE, np.float32), babble(2.5)])
    rounded = np.frombuffer(pcm(samples), "<i2").astype(np.float32) / 32_768
    wanted = Recognizer.load(small_model).stream(hop_seconds=0.5).feed(rounded)
    code, out, err = run(pcm(samples), "-", "--hop-seconds", "0.5", "--format", "jsonl")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [answer["label"] for answer in found] == [answer.label for answer in wanted]
    for line, answer in zip(found, wanted, strict=True):
        assert line["probabilities"] == pytest.approx(dict(answer.probabilities), abs=1e-5)
    assert re.search(r"from the last sample of a hop to its line: median [\d.]+ ms", err)


def test_lines_for_people(run: Any, babble: Any) -> None:
    code, out, _ = run(pcm(np.concatenate([np.zeros(RATE), babble(1.0)])), "-")
    first, second = out.splitlines()
    assert (code, first.split()) == (0, ["1.00", "s", "no", "speech", "(silence)"])
    assert second.split()[:2] == ["2.00", "s"]
    assert "neutral 0." in second


def test_channels_are_averaged_and_odd_bytes_wait(run: Any, babble: Any) -> None:
    mono = babble(1.0)
    stereo = np.stack([mono * 2, np.zeros_like(mono)], 1)
    one = run(pcm(mono), "-", "--format", "jsonl")[1]
    two = run(pcm(stereo) + b"\1", "-", "--channels", "2", "--format", "jsonl")[1]
    first, second = (json.loads(text)["probabilities"] for text in (one, two))
    assert second == pytest.approx(first, abs=0.01)


def test_lines_come_before_the_input_ends(small_model: Path, babble: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that stays open: the line of a hop appears although nothing follows it."""
    printed: queue.Queue[str] = queue.Queue()
    received = threading.Event()

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = pcm(babble(1.0))

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not self.content:
                received.wait(20)
            piece, self.content = self.content[: len(buffer)], self.content[len(buffer) :]
            buffer[: len(piece)] = piece
            return len(piece)

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(Pipe(), 64_000)))
    monkeypatch.setattr("builtins.print", lambda text, **_: printed.put(text))
    words = ["stream", "-", "--model", str(small_model), "--format", "jsonl"]
    worker = threading.Thread(target=cli.main, args=(words,), daemon=True)
    worker.start()
    assert json.loads(printed.get(timeout=20))["end_seconds"] == 1.0
    received.set()
    worker.join(20)


def test_too_little_input(run: Any) -> None:
    code, out, err = run(pcm(np.zeros(100)), "-")
    assert (code, out) == (0, "")
    assert "the input ended before its first hop of 1 s" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["call.wav"], "`affekt predict call.wav --timeline` reads files"),
        (["-", "--channels", "0"], "channels: got 0"),
        (["-", "--rate", "5"], "stream: rate: got 5"),
    ],
)
def test_options_that_cannot_be(run: Any, words: list[str], message: str) -> None:
    code, out, err = run(b"", *words)
    assert (code, out) == (2, "")
    assert message in err


class FakeStream:
    """A microphone that says one second of babble and then unplugs itself."""

    def __init__(self, rate: int, size: int, channels: int, dtype: str, callback: Any) -> None:
        self.callback, self.size = callback, size

    def __enter__(self) -> FakeStream:
        noise = np.random.default_rng(0).normal(scale=0.1, size=(RATE, 1)).astype(np.float32)
        for start in range(0, RATE, self.size):
            self.callback(noise[start : start + self.size], self.size, None, None)
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_microphone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(queue.Queue):  # type: ignore[type-arg]
        def get(self, *args: Any, **options: Any) -> Any:
            if self.empty():
                raise KeyboardInterrupt
            return super().get(*args, **options)

    fake = SimpleNamespace(InputStream=FakeStream, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]
    monkeypatch.setattr("affekt.cli.stream.queue.Queue", Interrupted)
    code, out, err = run(b"", "--activity", "none")
    assert (code, len(out.splitlines())) == (130, 1)
    assert "interrupted" in err


def test_no_microphone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError("Error querying device -1")

    fake = SimpleNamespace(InputStream=refuse, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]
    assert "microphone: got Error querying device -1" in run(b"")[2]
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, _, err = run(b"")
    assert (code, "pip install 'affekt[mic]'" in err) == (2, True)


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (bytes.fromhex("1a45dfa39f4286810142f7810142f281"), "a WebM or Matroska file"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "a WAV file"),
        (b"ID3\x04\0\0\0\0\x0f\x76" + bytes(20), "an MP3 file"),
    ],
)
def test_the_bytes_of_a_file_are_no_samples(run: Any, beginning: bytes, name: str) -> None:
    code, out, err = run(beginning + np.random.default_rng(0).bytes(100_000), "-")
    assert (code, out) == (2, "")
    assert f"stream: got {name}" in err
    assert "expected raw PCM samples without a header; decode it first: ffmpeg -i FILE -f s16le" in err


def test_a_single_sample_is_heard_to_its_end(run: Any) -> None:
    code, out, err = run(bytes(2), "-")
    assert (code, out) == (0, "")
    assert "the input ended before its first hop" in err
