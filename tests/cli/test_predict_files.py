"""`affekt predict` with files: outputs that would overwrite, lists that resume, embeddings, segments and channels."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from affekt import cli
from affekt.recognition.recognizer import Recognizer

RATE = 16_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(small_model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call `affekt predict` with the small model; exit code, output, errors."""

    def call(*words: object) -> tuple[int, str, str]:
        code = cli.main(["predict", *map(str, words), "--model", str(small_model)])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


@pytest.fixture
def folder(tmp_path: Path, babble: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two folders of recordings of the same names, and one of the same stem."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one/x.wav", "two/x.wav", "one/y.wav", "one/y.flac")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, babble(0.5 + seed / 4, seed), RATE)
    return tmp_path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("words", [["--timeline", "--format", "csv"], ["--format", "csv"], []])
@pytest.mark.parametrize("output", ["one/x.wav", "two/../one/x.wav", "link.wav", "hard.csv", "new.mp3"])
def test_recordings_are_never_overwritten(run: Run, folder: Path, words: list[str], output: str) -> None:
    (folder / "link.wav").symlink_to(folder / "one/x.wav")
    os.link(folder / "one/x.wav", folder / "hard.csv")
    content = (folder / "one/x.wav").read_bytes()
    code, out, err = run("one/x.wav", *words, "-o", output)
    assert (code, out) == (2, "")
    assert "output" in err
    assert (folder / "one/x.wav").read_bytes() == content
    assert not (folder / "new.mp3").exists()


def test_tables_and_models_are_never_overwritten(folder: Path, small_model: Path, capsys: Any) -> None:
    (folder / "turns.csv").write_text("path,start,end\none/x.wav,0,0.4\n")
    shutil.copy(small_model, folder / "model.csv")
    words = ["predict", "one/x.wav", "--model", "model.csv", "-o", "model.csv"]
    assert cli.main(words) == 2
    assert cli.main(["predict", "--segments", "turns.csv", "-o", "turns.csv"]) == 2
    assert (folder / "turns.csv").read_text().startswith("path,start,end\n")
    assert (folder / "model.csv").read_bytes() == small_model.read_bytes()
    assert "the input would be overwritten" in capsys.readouterr().err


def test_equal_names_do_not_share_an_output(run: Run, folder: Path) -> None:
    assert run("one", "two", "--timeline", "--format", "rttm", "-o", "out")[0] == 0
    written = sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*.rttm"))
    assert written == ["one/x.rttm", "one/y.flac.rttm", "one/y.wav.rttm", "two/x.rttm"]


def test_a_timeline_never_lands_on_a_recording(run: Run, folder: Path) -> None:
    """A recording that is called as the output of another would be."""
    shutil.copy(folder / "one/x.wav", folder / "one/y.wav.csv")
    code, _, err = run("one/y.wav", "one/y.flac", "one/y.wav.csv", "--timeline", "--format", "csv", "-o", "one")
    assert code == 2
    assert "y.wav.csv" in err
    assert soundfile.info(folder / "one/y.wav.csv").frames > 0


def test_lists_into_files(run: Run, folder: Path) -> None:
    """Failed recordings are rows too; the layout is the suffix's."""
    words = ["one/x.wav", "missing.wav", "two/x.wav"]
    for name in ("a.csv", "a.json", "a.jsonl"):
        code, out, err = run(*words, "-o", folder / "deep" / name)
        assert (code, out) == (1, "")
        assert err.count("affekt: failed") == 1
    rows = rows_of((folder / "deep/a.csv").read_text())
    lines = [json.loads(line) for line in (folder / "deep/a.jsonl").read_text().splitlines()]
    assert lines == json.loads((folder / "deep/a.json").read_text())
    for found in (rows, lines):
        assert [row["source"] for row in found] == words
    assert rows[1]["error"] == "No such file: missing.wav"
    assert (rows[1]["label"], rows[0]["error"]) == ("", "")
    assert lines[1]["error"] == "No such file: missing.wav"
    printed = rows_of(run(*words, "--format", "csv")[1])
    assert printed == rows


@pytest.mark.parametrize("output", ["x.doc", "x", "out/"])
def test_suffixes_that_name_no_layout(run: Run, folder: Path, output: str) -> None:
    code, _, err = run("one/x.wav", "-o", output)
    assert code == 2
    assert "expected one of .csv, .json, .jsonl" in err


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("cut", [0, 1, 40, 0.3, 0.6, 0.99, 1.0])
def test_cut_off_lists_are_continued(
    run: Run, folder: Path, suffix: str, cut: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["one", "missing.wav", "two", "-o", f"a.{suffix}"]
    assert run(*words)[0] == 1
    whole = (folder / f"a.{suffix}").read_bytes()
    kept = whole[: cut if isinstance(cut, int) and cut != 1.0 else round(cut * len(whole))]
    (folder / f"a.{suffix}").write_bytes(kept)
    heard: list[str] = []
    load = Recognizer._opened

    def opened(self: Recognizer, segment: Any, options: Any) -> Any:
        heard.append(segment.source)
        return load(self, segment, options)

    monkeypatch.setattr(Recognizer, "_opened", opened)
    code, _, err = run(*words, "--resume")
    assert code == 1
    assert (folder / f"a.{suffix}").read_bytes() == whole
    done = max(0, kept.count(b"\n") - (suffix == "csv"))
    assert len(heard) == 5 - done
    assert ("note: resumed after" in err) == (b"\n" in kept)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["-o", "a.csv"], "continue it with --resume, or replace it with --force"),
        (["-o", "a.jsonl"], "continue it with --resume, or replace it with --force"),
        (["-o", "a.csv", "--adapt", "speaker"], "choose another name, or replace it with --force"),
        (["-o", "a.json"], "choose another name, or replace it with --force"),
        (["--embeddings", "e.npy"], "choose another name, or replace it with --force"),
        (["-o", "new.csv", "--resume", "--embeddings", "e.npy"], "choose another name"),
        (["--timeline", "-o", "a.json"], "choose another name, or replace it with --force"),
        (["--timeline", "-o", "out"], "choose another name, or replace it with --force"),
    ],
)
def test_earlier_answers_are_never_replaced_unasked(
    run: Run, folder: Path, words: list[str], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused in one line before the model is loaded; --force replaces them."""
    (folder / "out").mkdir()
    names = ("a.csv", "a.jsonl", "a.json", "e.npy", "out/x.json")
    for name in names:
        (folder / name).write_text("an hour of work\n")
    with monkeypatch.context() as patched:
        patched.setattr(Recognizer, "load", lambda *_, **__: pytest.fail("work has started"))
        code, out, err = run("one/x.wav", *words)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert line.endswith(f": got an existing file, expected a new one; {remedy}")
    assert all((folder / name).read_text() == "an hour of work\n" for name in names)
    if "--force" in remedy and "--adapt" not in words:
        assert run("one/x.wav", *words, "--force")[0] == 0
        written = Path("out/x.json" if words[-1] == "out" else words[-1])
        assert [name for name in names if (folder / name).read_bytes() != b"an hour of work\n"] == [written.as_posix()]


def test_resume_and_force_contradict_each_other(run: Run, folder: Path) -> None:
    code, _, err = run("one/x.wav", "-o", "a.csv", "--resume", "--force")
    assert (code, "force: got --resume with it" in err) == (2, True)


def test_a_list_of_others_is_not_continued(run: Run, folder: Path) -> None:
    run("one/x.wav", "-o", "a.csv")
    before = (folder / "a.csv").read_bytes()
    (folder / "b.csv").write_text("a,b\n1,2\n")
    for output in ("a.csv", "b.csv"):
        code, _, err = run("two/x.wav", "-o", output, "--resume")
        assert code == 2
        assert f"output {output}" in err
    assert (folder / "a.csv").read_bytes() == before
    assert run("two/x.wav", "-o", "a.json", "--resume")[0] == 2
    assert run("two/x.wav", "--resume")[0] == 2


def test_embeddings(run: Run, folder: Path, small_model: Path) -> None:
    code, _, _ = run("one/x.wav", "missing.wav", "two/x.wav", "--embeddings", "e.npy")
    table = np.load(folder / "e.npy")
    recognizer = Recognizer.load(small_model)
    assert (code, table.dtype, table.shape[0]) == (1, np.float32, 3)
    np.testing.assert_allclose(table[2], recognizer.embed("two/x.wav"), rtol=1e-5)
    assert np.isnan(table[1]).all()
    assert run("one/x.wav", "--embeddings", "e.csv")[0] == 2
    assert run("one/x.wav", "--embeddings", "one/x.wav")[0] == 2


@pytest.mark.parametrize("columns", [80, 100, 60])
def test_the_table_fits_the_terminal(
    run: Run, folder: Path, babble: Any, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    long = folder / "recordings of a very long project name" / "interview with the seventeenth speaker.wav"
    long.parent.mkdir()
    soundfile.write(long, babble(1.0), RATE)
    head, line, other = run(long, "one/x.wav", "--min-confidence", "1")[1].splitlines()
    assert max(len(head), len(line), len(other)) <= columns
    assert "..." in line
    assert line.split("  ")[0].endswith(".wav")
    assert "unsure" in line
    assert "%" in line


def test_nothing_is_cut_through_a_pipe(run: Run, folder: Path, babble: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    long = folder / "recordings of a very long project name" / "interview with the seventeenth speaker.wav"
    long.parent.mkdir()
    soundfile.write(long, babble(1.0), RATE)
    head, line = run(long)[1].splitlines()
    assert line.startswith(f"{long}  ")
    assert head.split()[-4:] == ["angry", "happy", "neutral", "sad"]


TURNS = "path;speaker;start;end;label\n../one/x.wav;A;0,1;0,4;mine\n../one/y.wav;B;0:00.2;;\n"


@pytest.fixture
def turns(folder: Path) -> Path:
    """A table with its own columns, one of which is called as one of the answers'."""
    (folder / "tables").mkdir()
    (folder / "tables/turns.csv").write_text(TURNS)
    return folder / "tables/turns.csv"


def test_segments_of_a_table(run: Run, turns: Path, small_model: Path) -> None:
    code, out, err = run("--segments", turns, "--format", "csv")
    rows = rows_of(out)
    assert (code, err) == (0, "")
    assert [(row["speaker"], row["given.label"], row["start"]) for row in rows] == [
        ("A", "mine", "0,1"),
        ("B", "", "0:00.2"),
    ]
    assert [(row["start_seconds"], row["end_seconds"]) for row in rows] == [("0.1", "0.4"), ("0.2", "1.0")]
    recognizer = Recognizer.load(small_model)
    expected = recognizer.predict("one/x.wav", start_seconds=0.1, end_seconds=0.4)
    assert rows[0]["label"] == expected.label
    assert float(rows[0]["prob.sad"]) == pytest.approx(expected.probabilities["sad"], abs=1e-5)
    lines = [json.loads(line) for line in run("--segments", turns, "--format", "jsonl")[1].splitlines()]
    assert (lines[0]["speaker"], lines[0]["label"]) == ("A", expected.label)


def test_rows_with_faults_fail_alone(run: Run, folder: Path) -> None:
    rows = ["0,0.4", "0.3,0.1", "later,1", "9,10", "0,0.9", "-1,0.3", ",", "NaT,0 days 00:00:00.3", "0,0.05"]
    (folder / "turns.csv").write_text("\n".join(["start,end", *rows, ""]))
    code, out, err = run("one/x.wav", "--segments", "turns.csv", "--format", "csv")
    found = rows_of(out)
    assert code == 1
    assert [bool(row["error"]) for row in found] == [False, True, True, True, True, True, False, False, True]
    assert err.count("affekt: failed") == 6
    assert "turns.csv: row 4: start: got 'later', expected seconds" in err
    assert "end: got 0.9 s, expected at most its length" in err


def test_line_ends_of_old_macs(run: Run, folder: Path) -> None:
    Path("turns.csv").write_bytes(b"start,end\r0,0.2\r0.2,0.4\r")
    assert len(rows_of(run("one/x.wav", "--segments", "turns.csv", "--format", "csv")[1])) == 2


def test_rttm_names_its_recording(run: Run, folder: Path) -> None:
    (folder / "one/x.rttm").write_text(
        "SPKR-INFO x 1 <NA>\nSPEAKER x 1 0.00 0.20 <NA> <NA> A <NA> <NA>\n"
        "SPEAKER x 1 0.20 0.25 <NA> <NA> B <NA> <NA>\nSPEAKER z 1 0 1 <NA> <NA> B <NA> <NA>\n"
    )
    code, out, err = run("--segments", "one/x.rttm", "--format", "csv")
    rows = rows_of(out)
    assert code == 1
    assert [(row["speaker"], row["end_seconds"]) for row in rows[:2]] == [("A", "0.2"), ("B", "0.45")]
    assert "z" in err
    assert "No such file: one/z (x.rttm: line 4); name the recording" in err
    assert run("two/x.wav", "--segments", "one/x.rttm")[1].count("two/x.wav") == 2


LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.2
            text = ""
        intervals [2]:
            xmin = 0.2
            xmax = 0.5
            text = "he said ""no"" 2 times"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 0.5
        points: size = 1
        points [1]:
            number = 0.1
            mark = "x"
"""
SHORT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.5
<exists>
1
"IntervalTier"
"words"
0
0.5
2
0
0.2
""
0.2
0.5
"he said ""no"" 2 times"
"""


@pytest.mark.parametrize("content", [LONG_GRID.encode(), SHORT_GRID.encode(), LONG_GRID.encode("utf-16")])
def test_textgrids(run: Run, folder: Path, content: bytes) -> None:
    (folder / "one/x.TextGrid").write_bytes(content)
    code, out, _ = run("--segments", "one/x.TextGrid", "--format", "csv")
    (row,) = rows_of(out)
    assert code == 0
    assert (row["tier"], row["text"], row["start_seconds"]) == ("words", 'he said "no" 2 times', "0.2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"who,when\nx.wav,1\n", "got the columns 'who', 'when'"),
        ("a.csv", b"", "got the columns none"),
        ("a.csv", b"start,end\n", "got no segments"),
        ("a.csv", b'start,end\n0,"' + b"x" * 200_000 + b'"\n', "field larger than field limit"),
        ("a.rttm", b"SPEAKER x 1 0\n", "got 4 fields in line 1"),
        ("a.TextGrid", b"hello", "got no TextGrid"),
        ("a.TextGrid", LONG_GRID[:400].encode(), "breaks off"),
        ("a.csv", b"RIFF\0\0\0\0WAVE", "got no text"),
        ("none.csv", None, "No such file: none.csv"),
    ],
)
def test_files_that_are_no_tables(run: Run, folder: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    code, out, err = run("one/x.wav", "--segments", name)
    assert (code, out) == (2, "")
    assert message in err


def test_a_table_given_as_a_recording(run: Run, turns: Path) -> None:
    code, _, err = run(turns, "one/x.wav")
    assert code == 1
    assert f"{turns}: got a table of segments, expected a recording; affekt predict --segments {turns}" in err


@pytest.fixture
def call(folder: Path, babble: Callable[..., Any]) -> Path:
    """A stereo recording whose channels differ."""
    soundfile.write(folder / "call.wav", np.stack([babble(1.0), babble(1.0, 7)], 1), RATE, subtype="FLOAT")
    return folder / "call.wav"


def test_each_channel_has_an_answer(run: Run, call: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(run(call, "one/x.wav", "--channels", "each", "--format", "csv")[1])
    assert [(Path(row["source"]).name, row["channel"]) for row in rows] == [
        ("call.wav", "left"),
        ("call.wav", "right"),
        ("x.wav", ""),
    ]
    recognizer = Recognizer.load(small_model)
    for row in rows[:2]:
        expected = recognizer.predict(call, channel=row["channel"])  # type: ignore[arg-type]
        assert float(row["prob.sad"]) == pytest.approx(expected.probabilities["sad"], abs=1e-5)
    assert "[right]" in run(call, "--channels", "right")[1]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(call.read_bytes())))
    assert len(rows_of(run("-", "--channels", "each", "--format", "csv")[1])) == 2


def test_failures_name_the_channel(run: Run, folder: Path) -> None:
    """In lists of every format and as timelines; the channels of a recording could not be told apart."""
    soundfile.write("short.wav", np.full((160, 2), 0.1), RATE)
    words = ["short.wav", "one/x.wav", "--channels", "each"]
    code, out, err = run(*words, "--format", "csv")
    assert (code, [row["channel"] for row in rows_of(out)]) == (1, ["left", "right", ""])
    expected = "got 10 ms, expected at least 100 ms"
    assert err.splitlines() == [f"affekt: failed: short.wav [{side}]: {expected}" for side in ("left", "right")]
    assert [row["error"] for row in rows_of(out)[:2]] == [
        line.removeprefix("affekt: failed: ") for line in err.splitlines()
    ]
    run(*words, "-o", "a.json")
    assert [row.get("channel") for row in json.loads(Path("a.json").read_text())] == ["left", "right", None]
    code, _, err = run("one/x.wav", "--channels", "right", "--timeline")
    assert (code, "failed: one/x.wav [right]: got 1 channel, expected a right channel" in err) == (1, True)
    code, _, err = run("one/x.wav", "--channels", "right")
    assert (code, "failed: one/x.wav [right]: got 1 channel, expected a right channel" in err) == (1, True)


def test_silence_is_no_failure(run: Run, folder: Path) -> None:
    """Alone and in a list, as a timeline and in one channel; a file without samples stays a failure."""
    soundfile.write("quiet.wav", np.zeros(RATE), RATE)
    soundfile.write("half.wav", np.stack([np.zeros(8_000), np.sin(np.arange(8_000))], 1), RATE)
    code, out, err = run("quiet.wav")
    assert (code, out.splitlines()[1].split(), err) == (0, ["quiet.wav", "1.00", "no", "speech", "silent"], "")
    code, out, err = run("quiet.wav", "one/x.wav", "--format", "csv")
    assert (code, rows_of(out)[0]["reason"], err) == (0, "silence", "")
    code, out, err = run("quiet.wav", "--timeline")
    assert (code, out, err) == (0, "quiet.wav: 0.0 s of speech in 1.0 s (silence)\n", "")
    code, out, err = run("half.wav", "--channels", "each", "--format", "csv")
    assert (code, [row["reason"] == "silence" for row in rows_of(out)], err) == (0, [True, False], "")
    code, _, _ = run("quiet.wav", "one/x.wav", "--embeddings", "e.npy")
    assert (code, np.isnan(np.load("e.npy")).any(1).tolist()) == (0, [True, False])
    soundfile.write("empty.wav", np.zeros(0), RATE)
    code, _, err = run("empty.wav")
    assert (code, "failed: empty.wav: got no samples" in err) == (1, True)


def test_timelines_of_channels_are_files_of_their_own(run: Run, call: Path) -> None:
    assert run(call, "--channels", "each", "--timeline", "--format", "textgrid", "-o", "out")[0] == 0
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == ["call.left.TextGrid", "call.right.TextGrid"]
    assert Path("out", names[0]).read_bytes() != Path("out", names[1]).read_bytes()


def test_segments_of_a_channel(run: Run, call: Path) -> None:
    Path("turns.csv").write_text("start,duration\n0,0.5\n0.5,0.5\n")
    rows = rows_of(run(call, "--segments", "turns.csv", "--channels", "each", "--format", "csv")[1])
    assert [(row["channel"], row["start_seconds"]) for row in rows] == [
        ("left", "0.0"),
        ("right", "0.0"),
        ("left", "0.5"),
        ("right", "0.5"),
    ]


def test_only_the_first_clip(run: Run, folder: Path, babble: Any) -> None:
    soundfile.write("long.wav", babble(9.0), RATE)
    code, out, err = run("long.wav", "--first", "--format", "json")
    assert (code, json.loads(out)[0]["end_seconds"], json.loads(out)[0]["truncated"]) == (0, 7.5, True)
    assert "only its first 7.5 s were analyzed" in err
