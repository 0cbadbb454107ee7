"""`affekt predict`: what is found, what is printed, and the exit codes."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from affekt import cli
from affekt.cli.predict import LISTS
from affekt.recognition import bulk
from affekt.recognition.recognizer import Recognizer
from affekt.runtime import processes

RATE = 16_000


@pytest.fixture
def run(small_model: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call `affekt predict` with the small model; exit code, output, errors."""

    def call(*words: object) -> tuple[int, str, str]:
        code = cli.main(["predict", *map(str, words), "--model", str(small_model)])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


@pytest.fixture
def folder(tmp_path: Path, babble: Callable[..., Any]) -> Path:
    """Three recordings in two levels, and what is no recording."""
    names = ("b.wav", "a b ä.FLAC", "deep/c.ogg")
    (tmp_path / "deep").mkdir()
    for seed, name in enumerate(names):
        soundfile.write(tmp_path / name, babble(0.5 + seed, seed), RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "._b.wav").write_bytes(b"AppleDouble")
    (tmp_path / "deep" / "around").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


def test_folders_and_patterns(run: Any, folder: Path) -> None:
    """Every level, in order, each recording once, whatever its name; links that lead in a circle end."""
    code, out, err = run(folder, f"{folder}/deep/*.ogg", "--format", "jsonl")
    sources = [json.loads(line)["source"] for line in out.splitlines()]
    found = [str(folder / name) for name in ("a b ä.FLAC", "b.wav", "deep/c.ogg", "deep/c.ogg")]
    assert (code, sources) == (0, found)
    assert err == f"affekt: note: {folder}: passed over 1 file: 1 .txt\n"


def test_formats_say_the_same(run: Any, folder: Path) -> None:
    code, out, _ = run(folder, "--format", "json")
    as_json = json.loads(out)
    assert (code, len(as_json)) == (0, 3)
    rows = list(csv.DictReader(io.StringIO(run(folder, "--format", "csv")[1])))
    assert [row["label"] for row in rows] == [answer["label"] for answer in as_json]
    assert [float(row["prob.sad"]) for row in rows] == pytest.approx(
        [answer["probabilities"]["sad"] for answer in as_json], abs=1e-6
    )
    head, *table = run(folder)[1].splitlines()
    assert head.split()[-4:] == ["angry", "happy", "neutral", "sad"]
    place = head.index("label")
    assert [line[place:].split()[0] for line in table] == [answer["label"] for answer in as_json]


def test_a_bad_file_costs_one_line(run: Any, folder: Path) -> None:
    words = (folder / "b.wav", folder / "notes.txt", folder / "none.wav", "/dev/null", folder / "deep/c.ogg")
    code, out, err = run(*words, "--format", "jsonl")
    assert code == 1
    assert [Path(json.loads(line)["source"]).name for line in out.splitlines()] == ["b.wav", "c.ogg"]
    assert [line.startswith("affekt: failed: ") for line in err.splitlines()] == [True] * 3
    assert "notes.txt: got no audio" in err
    assert "No such file: " in err
    assert "/dev/null: got a device, pipe or socket" in err


@pytest.fixture
def alike(folder: Path, babble: Callable[..., Any]) -> Path:
    """The folder with so many recordings that there are several chunks, and one that is none."""
    for seed in range(40):
        soundfile.write(folder / f"d{seed:02}.wav", babble(0.2 + seed % 7 / 10, seed), RATE)
    (folder / "d17.wav").write_text("no audio")
    return folder


@pytest.mark.parametrize("layout", LISTS)
def test_processes_say_what_threads_say(run: Any, alike: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    words = (alike, alike / "nothing*", "--jobs", 2, "--format", layout)
    threads = run(*words)
    monkeypatch.setattr(processes, "RECORDINGS_PER_PROCESS", 20)
    monkeypatch.setattr(Recognizer, "predict_many", None)  # of this process
    assert run(*words) == threads
    assert threads[0] == 1
    assert threads[2].count("\n") == 3


def test_a_model_that_is_none_is_named_by_processes_too(
    alike: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "RECORDINGS_PER_PROCESS", 20)
    words = ("predict", str(alike), "--model", str(alike / "b.wav"), "--jobs")
    said = [(cli.main([*words, jobs]), *capsys.readouterr()) for jobs in ("1", "2")]  # in this process, and in others
    assert said[0] == said[1]
    assert said[0][0] == 2


DEADLY = """
import os
from affekt.recognition import bulk
make = bulk._make_worker
def recognizer(model, min_confidence):
    work = make(model, min_confidence)
    def answer(shard):
        if any("d23" in source for source in shard):
            os.kill(os.getpid(), 9)
        return work(shard)
    return answer
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_recording_at_which_a_process_dies_costs_one_line(
    run: Any, alike: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its chunk are delivered, in their places."""
    place = tmp_path_factory.mktemp("deadly")
    (place / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(place)
    expected = [json.loads(line) for line in run(alike, "--jobs", 2, "--format", "jsonl")[1].splitlines()]
    monkeypatch.setattr(processes, "RECORDINGS_PER_PROCESS", 20)
    monkeypatch.setattr(bulk, "_make_worker", importlib.import_module("deadly").recognizer)
    code, out, err = run(alike, "--jobs", 2, "--format", "jsonl")
    found = [json.loads(line) for line in out.splitlines()]
    wanted = [answer for answer in expected if "d23" not in answer["source"]]
    assert (code, len(wanted)) == (1, len(expected) - 1)
    assert [answer["source"] for answer in found] == [answer["source"] for answer in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
    deadly = [line for line in err.splitlines() if "d23" in line]
    assert len(deadly) == 1
    assert "got a process that ended by signal 9 at it" in deadly[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_ends_processes_too(alike: Path, small_model: Path) -> None:
    """One line, exit code 130, and no process is left."""
    script = (
        "import sys; from affekt import cli; from affekt.runtime import processes; "
        "processes.RECORDINGS_PER_PROCESS = 20; sys.exit(cli.main())"
    )
    words = ["predict", *[str(alike)] * 200, "--model", str(small_model), "--jobs", "2"]
    command = [sys.executable, "-c", script, *words, "--format", "jsonl"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        _, err = process.communicate()  # ends when nobody holds the pipes any more
    assert process.returncode == 130
    first, *others = [line for line in err.splitlines() if "d17" not in line]
    assert first.endswith("passed over 1 file: 1 .txt")
    assert others == ["affekt: interrupted"]


def test_nothing_found(run: Any, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, f"{tmp_path}/*.wav", "--format", "json")
    assert (code, json.loads(out)) == (1, [])
    assert "got a folder without recordings" in err
    assert "got a pattern that matches nothing" in err


def test_names_with_brackets_are_names(run: Any, tmp_path: Path, babble: Any) -> None:
    soundfile.write(tmp_path / "take[1].wav", babble(1.0), RATE)
    assert run(tmp_path / "take[1].wav")[0] == 0


def test_standard_input(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (folder / "b.wav").read_bytes()
    from_file = json.loads(run(folder / "b.wav", "--format", "json")[1])[0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, _ = run("-", "--format", "json")
    assert code == 0
    assert json.loads(out)[0]["probabilities"] == from_file["probabilities"]


def test_long_recordings_are_heard_to_their_end(run: Any, tmp_path: Path, babble: Any) -> None:
    soundfile.write(tmp_path / "long.wav", babble(9.0), RATE)
    code, out, err = run(tmp_path / "long.wav", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)[0]["end_seconds"] == 9.0


def test_threshold(run: Any, folder: Path) -> None:
    answers = json.loads(run(folder, "--format", "json", "--min-confidence", "1")[1])
    assert all(answer["unsure"] for answer in answers)
    assert not any(a["unsure"] for a in json.loads(run(folder, "--format", "json", "--min-confidence", "0")[1]))


def test_all_faults_of_the_options_at_once(run: Any, tmp_path: Path) -> None:
    code, out, err = run("--format", "rttm", "--output", tmp_path / "x", "--min-confidence", "2", "--jobs", "0")
    assert (code, out) == (2, "")
    assert [line.split(": ")[2] for line in err.splitlines()] == ["recordings", "format", "min-confidence", "jobs"]


def test_timelines_of_several(run: Any, folder: Path, tmp_path: Path) -> None:
    code, out, _ = run(folder, "--timeline", "--format", "json", "--window-seconds", "1", "--hop-seconds", "0.5")
    timelines = json.loads(out)
    assert (code, len(timelines)) == (0, 3)
    assert timelines[2]["config"]["hop_seconds"] == 0.5
    lines = run(folder, "--timeline", "--format", "jsonl")[1].splitlines()
    assert [json.loads(line)["source"] for line in lines] == [timeline["source"] for timeline in timelines]
    rows = list(csv.DictReader(io.StringIO(run(folder, "--timeline", "--format", "csv")[1])))
    assert {row["source"] for row in rows} == {timeline["source"] for timeline in timelines}
    assert "s of speech in" in run(folder, "--timeline")[1]


def test_timelines_into_a_folder(run: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.wav").write_text("no audio")
    code, out, err = run(folder, "--timeline", "--format", "textgrid", "--output", tmp_path / "out")
    assert code == 1
    assert "bad.wav" in err
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a b ä.TextGrid", "b.TextGrid", "deep/c.TextGrid"]
    assert len(out.splitlines()) == 3


def test_a_timeline_into_a_file(run: Any, folder: Path, tmp_path: Path) -> None:
    assert run(folder / "b.wav", "--timeline", "-o", tmp_path / "b.rttm")[0] == 0
    printed = run(folder / "b.wav", "--timeline", "--format", "rttm")[1]
    assert (tmp_path / "b.rttm").read_text() == printed
    assert printed.startswith("SPEAKER b 1 ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "png"], "format png: got standard output"),
        (["--format", "table", "-o", "x.csv"], "format: got table"),
        (["-o", "x.doc"], "got '.doc'"),
        (["--window-seconds", "9"], "timeline: window: got 9, expected 0.1 to 7.5 s"),
        (["--window-seconds", "0"], "timeline: window: got 0, expected 0.1 to 7.5 s"),
        (["--hop-seconds", "0"], "timeline: hop: got 0, expected 0.02 s to the window's length"),
        (["--format", "csv", "-o", "out.wav"], "output out.wav: got '.wav', the suffix of a recording"),
    ],
)
def test_timelines_that_cannot_be_delivered(run: Any, folder: Path, words: list[str], message: str) -> None:
    code, out, err = run(folder / "b.wav", "--timeline", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_several_timelines_do_not_fit_one_file(run: Any, folder: Path) -> None:
    for words in (["-o", "x.rttm"], ["--format", "rttm"]):
        code, _, err = run(folder, "--timeline", *words)
        assert code == 2
        assert "for 3 recordings" in err


def test_a_format_that_contradicts_the_suffix_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "answers.csv"
    assert cli.main(["predict", str(tmp_path), "--format", "json", "-o", str(output)]) == 2
    assert f"format: got json with --output {output}, expected csv" in capsys.readouterr().err
    assert not output.exists()
