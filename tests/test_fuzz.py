"""Hostile input, some of every target; `make fuzz` goes on for minutes. And what was found, one test each."""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import HealthCheck, Phase, given, settings

from affekt import audio
from affekt.audio import opus
from affekt.config import read_toml
from affekt.data.labels import label_set
from affekt.data.manifest import Manifest
from affekt.data.protocols import FoldPlan
from affekt.data.waveform_store import WaveformStore
from affekt.errors import AffektError, AudioError, CheckpointError, ProtocolError
from affekt.recognition.recognizer import Recognizer
from affekt.training.checkpoint import Checkpoint
from fuzz.__main__ import Tally, joined
from fuzz.model_files import checkpoint, exported, packed, recognizer
from fuzz.recordings import WEBM, recordings, voice
from fuzz.targets import TARGETS
from fuzz.watch import MOST_GROWTH_MIB, ViolationError, watched

EXAMPLES = {"models": 60, "toml": 60, "websocket": 60}
USUAL_EXAMPLES = 120


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_what_none_may(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    for good in target.good():  # accepted, or the rest would prove nothing
        target.use(good, tmp_path)

    @settings(
        max_examples=EXAMPLES.get(name, USUAL_EXAMPLES),
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs())
    def attempt(value: Any) -> None:
        with watched(tmp_path):
            target.use(value, tmp_path)

    attempt()


# What the watch sees


class Trap:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def hidden(act: Callable[[], object]) -> None:
    with contextlib.suppress(BaseException):  # as a library might
        act()


def fill_new_pages(mib: float) -> None:
    """Not `bytes`: an allocator that another test told to keep freed memory could take those from there."""
    with mmap.mmap(-1, int(mib * 2**20)) as pages:
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1


VIOLATIONS: dict[str, Callable[[Path], object]] = {
    "open .* for writing": lambda folder: (folder.parent / "elsewhere.txt").write_text("x"),
    "open .*secret.txt for reading": lambda folder: (folder.parent / "secret.txt").read_bytes(),
    "os.system": lambda folder: os.system("true"),
    "subprocess.Popen": lambda folder: subprocess.run(["true"], check=True),
    "pickle.find_class": lambda folder: pickle.loads(pickle.dumps(Trap())),
    "open .*hidden": lambda folder: hidden(lambda: (folder.parent / "hidden").write_text("x")),
    "more memory": lambda folder: fill_new_pages(MOST_GROWTH_MIB + 100),
    "a refusal that names nothing": lambda folder: (_ for _ in ()).throw(AffektError()),
}


@pytest.mark.parametrize("seen", VIOLATIONS)
def test_the_watch_sees(seen: str, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(ViolationError, match=seen), watched(tmp_path / "inside"):
        VIOLATIONS[seen](tmp_path / "inside")
    assert not (tmp_path / "elsewhere.txt").exists()


def test_the_watch_sees_memory_below_an_earlier_peak(tmp_path: Path) -> None:
    fill_new_pages(2 * MOST_GROWTH_MIB)
    with pytest.raises(ViolationError, match="more memory"), watched(tmp_path):
        fill_new_pages(MOST_GROWTH_MIB + 100)


def test_the_watch_sees_slow_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0])
    monkeypatch.setattr("fuzz.watch.time.process_time", lambda: next(clock, 5.1))
    with pytest.raises(ViolationError, match=r"5\.1 s of work"), watched(tmp_path):
        pass


def test_the_watch_lets_be_what_is_allowed(tmp_path: Path) -> None:
    with watched(tmp_path) as refusals:
        (tmp_path / "a.txt").write_text("x")
        raise AffektError("this", got="that")
    assert [str(error) for error in refusals] == ["this: got that"]


# What was found


def test_a_fold_file_whose_protocol_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "folds.json").write_text('{"format": 1, "protocol": [], "folds": []}')
    with pytest.raises(ProtocolError, match=r"protocol: got \[\]"):
        FoldPlan.read(tmp_path / "folds.json")


@pytest.mark.parametrize("unused", ['"many"', "Infinity", "NaN", "1.5", "null", "[]"])
def test_a_fold_file_whose_audit_counts_in_no_numbers(tmp_path: Path, unused: str) -> None:
    audit = f'{{"shared": {{}}, "missing_classes": [], "unused": {unused}}}'
    part = '"train": ["a"], "validation": ["b"], "test": ["c"]'
    (tmp_path / "folds.json").write_text(f'{{"folds": [{{{part}}}], "audit": {audit}}}')
    with pytest.raises(ProtocolError, match="audit: got none that is complete"):
        FoldPlan.read(tmp_path / "folds.json")


@pytest.mark.skipif(not opus.version(), reason="no libopus on this machine")
def test_the_decoder_is_there_before_the_first_request(tmp_path: Path) -> None:
    """In a process of its own: the library is loaded before an input is used, not by it."""
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from affekt import audio
from fuzz.recordings import recordings
from fuzz.watch import watched
content = next(one for one in recordings() if b"OpusHead" in one)
with watched(Path({str(tmp_path)!r})):
    audio.load(content)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


NESTED = {"JSON": b"[" * 100_000, "TOML": b"a = " + b"[" * 100_000, "digits": b"a = " + b"1" * 5_000}


@pytest.mark.parametrize("content", NESTED.values(), ids=NESTED)
def test_files_nested_beyond_all_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    for read in (read_toml, label_set, FoldPlan.read):
        with pytest.raises(AffektError, match=r"a\.toml: got "):
            read(path)  # type: ignore[operator]


@pytest.mark.parametrize("shape", [{"lstm_cells_per_direction": 10**6}, {"filters": [10**5, 10**5]}])
def test_a_checkpoint_that_claims_to_be_huge_takes_no_memory(tmp_path: Path, shape: dict[str, Any]) -> None:
    card, tensors = checkpoint()
    network = card["system"]["network"] | shape
    (tmp_path / "m.safetensors").write_bytes(packed(card | {"system": card["system"] | {"network": network}}, tensors))
    with watched(tmp_path) as refusals:
        Checkpoint.load(tmp_path / "m.safetensors").build()
    assert "size mismatch" in str(refusals[0])


def forged(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_model_from_string(exported())
    change(model)
    return bytes(model.SerializeToString())


def point_elsewhere(model: onnx.ModelProto) -> None:
    """Weights that lie in another file, which is there and fits."""
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    Path("weights").write_bytes(tensor.raw_data)
    tensor.external_data.add(key="location", value="weights")
    tensor.external_data.add(key="length", value=str(len(tensor.raw_data)))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL


def test_a_model_reads_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no model that can be loaded"):
        Recognizer(forged(point_elsewhere), threads=1)
    assert Path("weights").exists()


@pytest.mark.parametrize(
    ("operation", "says"), [("Neg", "no probabilities"), ("Log", "no probabilities"), ("Shape", "2 probabilities")]
)
def test_a_model_that_answers_with_anything_else(operation: str, says: str) -> None:
    def answer_otherwise(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["p" if name == "probabilities" else name for name in node.output]
        model.graph.node.append(onnx.helper.make_node(operation, ["p"], ["probabilities"]))
        if operation == "Shape":
            model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64

    with pytest.raises(CheckpointError, match=says):
        Recognizer(forged(answer_otherwise), threads=1).predict(voice(1.2), 16_000)


def test_a_damaged_recording_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """libsndfile is led before the file's beginning by a chunk of a wrong length."""
    content = recordings()[9]  # AIFF
    for place in range(16, 64):
        damaged = content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :]
        with contextlib.suppress(AudioError):
            audio.load(damaged)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", [1e30, 3e38, -200.0])
def test_samples_beyond_all_loudness(value: float) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.full(16_000, value), 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a value of .* at 0\.000 s, expected samples in \[-1, 1\]"):
        audio.load(file)
    stream = recognizer().stream()
    with pytest.raises(AudioError, match="no samples"):
        stream.feed(np.full(100, value, np.float32))


# Bombs


def silence(hours: float, container: str = "FLAC", encoding: str = "PCM_16") -> bytes:
    """Hours of nothing in a small file, at the lowest rate."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 1_000, 1, format=container, subtype=encoding) as sound:
        for _ in range(round(60 * hours)):
            sound.write(np.zeros(60_000, np.int16))
    return file.getvalue()


def test_ten_hours_of_silence_are_never_in_memory_at_once(tmp_path: Path) -> None:
    """Ten hours may take their time; they may not take memory."""
    bomb, model = silence(hours=10), recognizer()
    assert len(bomb) < 2**20
    with watched(tmp_path, most_seconds=60.0) as refusals:
        answer = model.predict(bomb)
    assert (refusals, answer.reason, answer.end_seconds) == ([], "silence", 36_000.0)


def test_an_utterance_of_ten_hours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long.flac").write_bytes(silence(hours=10))
    soundfile.write(tmp_path / "a.wav", voice(0.5), 16_000)
    rows = [{"id": name, "path": path, "label": "sad"} for name, path in (("long", "long.flac"), ("a", "a.wav"))]
    rows.append(rows[0] | {"id": "part", "start": 30_000.0, "end": 30_001.0})
    with watched(tmp_path):
        store = WaveformStore.open(Manifest.from_rows(rows, tmp_path), tmp_path / "cache")
    assert store.lengths.tolist() == [0, 8_000, 16_000]
    assert "more than 1800 s" in str(store.failures[0])


HEADERS = {
    "WAV": b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\xff\xff\xff\x7f"
    + bytes(100),
    "AIFF": b"FORM\x7f\xff\xff\xffAIFFCOMM\0\0\0\x12\0\1\x7f\xff\xff\xff\0\x10\x40\x0c\xfa\0\0\0\0\0\0\0"
    b"SSND\x7f\xff\xff\xff\0\0\0\0\0\0\0\0" + bytes(100),
    "AU": b".snd\0\0\0\x18\x7f\xff\xff\xff\0\0\0\3\0\0\x3e\x80\0\0\0\1" + bytes(100),
    "WebM of nothing": WEBM,
    "WebM of endless nothing": WEBM + b"\xec\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(100_000),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_headers_that_claim_everything(tmp_path: Path, content: bytes) -> None:
    with watched(tmp_path) as refusals:
        assert len(audio.load(content)) == 50
    assert not refusals or re.search("that can(not)? be decoded|no samples", str(refusals[0]))


def test_a_table_of_a_billion_rows(tmp_path: Path) -> None:
    """Parquet says `the same again` in a few bytes."""
    rows = 20_000_000
    columns = {name: pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), ["a"]) for name in ("id", "path", "label")}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet", compression="zstd")
    assert (tmp_path / "m.parquet").stat().st_size < 200_000
    with watched(tmp_path) as refusals:
        Manifest.read(tmp_path / "m.parquet")
    assert "not more rows than its bytes" in str(refusals[0])


def test_the_long_run_counts_and_keeps_what_it_finds(tmp_path: Path) -> None:
    words = ["--seconds", "3", "--targets", "folds", "--findings", str(tmp_path / "findings"), "-o", str(tmp_path)]
    command = [sys.executable, "-m", "fuzz", *words]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "fuzz.json").read_text())["targets"]
    assert (row["target"], row["findings"]) == ("folds", {})
    assert row["inputs"] > row["refused"] > 0
    assert re.search(rf"^folds +{row['inputs']:,} +{row['refused']:,} ", done.stdout, re.MULTILINE)
    tally = Tally("folds", input=b"bad")
    for _ in range(2):
        tally.find(ValueError("what happened").with_traceback(traceback_of(ZeroDivisionError)), tmp_path / "findings")
    assert list(tally.findings.values()) == [f"what happened ({next((tmp_path / 'findings').glob('folds-*.txt'))})"]
    assert next((tmp_path / "findings").glob("folds-*.txt")).read_text().startswith("b'bad'\n")


def test_a_run_of_some_targets_keeps_the_others_and_what_was_mended() -> None:
    earlier = [{"target": "toml", "findings": {}}, {"target": "folds", "findings": {"a": "", "b": ""}, "mended": ["c"]}]
    again = joined([{"target": "folds", "findings": {"b": ""}}, {"target": "http", "findings": {}}], earlier)
    assert [(row["target"], row.get("mended")) for row in again] == [
        ("toml", None),
        ("folds", ["c", "a"]),
        ("http", []),
    ]


def traceback_of(kind: type[Exception]) -> TracebackType | None:
    try:
        raise kind
    except kind as error:
        return error.__traceback__
