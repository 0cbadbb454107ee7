"""The front of the command line: help in any install, hints for common slips, completion of shells."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from affekt import cli
from affekt.cli import completion
from affekt.cli.framework.arguments import arguments_of

CORE = {"numpy", "onnxruntime", "soundfile", "soxr"}
OPTIONAL = sorted({module for modules in cli.EXTRAS.values() for module in modules})


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def in_the_core(*words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process where every optional library is missing."""
    absent = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))"
    spec = f"import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n in {OPTIONAL!r} else f(n)"
    program = f"{absent}; {spec}; from affekt.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_help_needs_no_extra_and_names_it(verb: str) -> None:
    done = in_the_core(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: affekt {verb}" in done.stdout
    extras = cli.VERBS[verb].extras
    said = f"(not installed): pip install 'affekt[{','.join(extras)}]'" in " ".join(done.stdout.split())
    assert said == bool(extras)


@pytest.mark.parametrize(
    ("words", "extras"),
    [
        (["tune", "m.csv", "-o", "x"], "train,tune"),
        (["corpora"], "train"),
        (["prepare", "emodb", ".", "-o", "m.csv"], "train"),
        (["train", "m.csv", "-o", "x"], "train"),
        (["evaluate", "bundled", "m.csv"], "train"),
        (["experiment", "m.csv", "-o", "x"], "train"),
        (["report", "x"], "train"),
        (["fuse", "x", "--systems", "a,b"], "train"),
        (["demo"], "train"),
        (["reproduce", "."], "train"),
        (["export", "x.safetensors", "-o", "x.onnx"], "train"),
        (["info", "x.safetensors"], "train"),
        (["serve"], "serve"),
        (["serve", "--engine", "ray"], "serve"),
        (["stream"], "mic"),
    ],
)
def test_a_verb_names_all_extras_that_it_needs(words: list[str], extras: str) -> None:
    done = in_the_core(*words)
    assert done.returncode == 2
    assert re.fullmatch(rf"affekt: error: \w+ is not installed; pip install 'affekt\[{extras}\]'\n", done.stderr), (
        done.stderr
    )


def test_python_names_the_extra_too() -> None:
    done = in_the_core("corpora")
    program = done.args[2].replace("from affekt.cli import main; sys.exit(main())", "from affekt import make_folds")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = "ModuleNotFoundError: pandas is not installed; affekt.make_folds needs it: pip install 'affekt[train]'"
    assert done.stderr.splitlines()[-1] == expected


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_option_has_a_help_text_of_its_own(verb: str) -> None:
    texts = [argument.help for argument in arguments_of(cli.function_of(verb))]
    assert sorted(texts) == sorted({*texts})


def test_pictures_need_the_extra_for_plots_alone(tmp_path: Path) -> None:
    recording = Path(__file__).parents[2] / "examples" / "a.wav"  # synthetic speech
    done = in_the_core("predict", str(recording), "--timeline", "-o", str(tmp_path / "a.png"))
    assert (done.returncode, done.stderr) == (
        2,
        "affekt: error: matplotlib is not installed; pip install 'affekt[plot]'\n",
    )
    assert next(extra for extra, modules in cli.EXTRAS.items() if "matplotlib" in modules) == "plot"


@pytest.mark.parametrize("words", [["help"], ["help", "--help"], ["--help"], []])
def test_help_without_a_command(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, _ = run(capfd, *words)
    assert code == 0
    assert out.startswith("Usage: affekt COMMAND [OPTIONS]")
    assert "affekt predict call.wav" in out


def test_help_of_a_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "help", "predict") == run(capfd, "predict", "--help")
    code, _, err = run(capfd, "help", "predct")
    assert (code, err) == (2, "affekt: error: predct: got an unknown command; did you mean predict?\n")


@pytest.mark.parametrize("name", ["call.wav", "my call.MP3", "clip.webm"])
def test_a_recording_alone_is_a_hint_to_predict(capfd: pytest.CaptureFixture[str], name: str) -> None:
    code, _, err = run(capfd, name)
    assert code == 2
    quoted = f"'{name}'" if " " in name else name
    assert (
        err == f"affekt: error: {name}: got an unknown command; to recognize a recording: `affekt predict {quoted}`\n"
    )


def test_a_folder_alone_is_a_hint_to_predict(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert f"`affekt predict {tmp_path}`" in run(capfd, str(tmp_path))[2]


def completed(*words: str) -> list[str]:
    """The words that bash offers for the last word."""
    script = subprocess.run(
        [sys.executable, "-m", "affekt", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    line = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}"
    program = f'{script}\n{line}\n_affekt\necho "${{COMPREPLY[*]}}"'
    return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_and_values() -> None:
    assert completed("affekt", "pre") == ["prepare", "predict"] or completed("affekt", "pre") == ["predict", "prepare"]
    assert completed("affekt", "help", "tun") == ["tune"]
    assert completed("affekt", "experiment", "m.csv", "--train.max") == ["--train.max-epochs"]
    assert completed("affekt", "report", "run", "--formats", "") == ["html", "markdown", "latex"]
    assert completed("affekt", "predict", "call") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(shell: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, script, _ = run(capfd, "completion", shell)
    assert code == 0
    assert "train.max-epochs" in script
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script)
    done = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_fish_completes_values(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    (tmp_path / "script").write_text(run(capfd, "completion", "fish")[1])
    ask = f"source {tmp_path}/script; complete -C 'affekt report run --projection '"
    said = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in said.splitlines()] == ["pca", "tsne"]


def test_quotes_in_help_texts_survive() -> None:
    word = completion.Word(("--a",), help="the paper's [x]: y. More.")
    assert "the paper'\\''s (x)\\: y]" in completion.zsh({"v": "V."}, {"v": [word]})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("predict none.wav", "failed: No such file: none.wav"),
        ("predict none/", "failed: No such folder: none/"),
        ("predict --segments none.csv", "error: No such file: none.csv"),
        ("predict a.wav --model none.onnx", "error: No such file: none.onnx; `affekt export` writes models"),
        ("evaluate bundled none.csv", "error: No such file: none.csv; `affekt prepare` writes manifests"),
        ("prepare nemo none -o m.csv", "error: No such folder: none; the release is at "),
        ("prepare table none.csv -o m.csv", "error: No such file: none.csv"),
        ("train none.csv -o m", "error: No such file: none.csv; `affekt prepare` writes manifests"),
        ("train none.csv -o m --recipe none.toml", "error: No such file: none.toml"),
        (
            "train none.csv -o m --encoder nowhere",
            "error: No such folder: nowhere; the encoder is a folder with",
        ),
        ("report none", "error: No such folder: none; a run is a folder that `affekt experiment` made"),
        ("export none.safetensors -o m.onnx", "error: No such file: none.safetensors; `affekt train` writes"),
    ],
)
def test_paths_that_lead_nowhere_are_said_so(
    words: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == (1 if line.startswith("failed") else 2)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.replace(f"{tmp_path}/", "").startswith(f"affekt: {line}")


INTERRUPTED = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as stop:
                raise {raised}
sys.meta_path.insert(0, Finder())
from affekt.__main__ import run
sys.exit(run())
"""


@pytest.mark.parametrize("module", ["affekt.cli", "affekt.errors", "affekt.recognition.recognizer", "onnxruntime"])
@pytest.mark.parametrize("raised", ["", "ImportError('initialization failed') from stop"])
def test_an_interrupt_while_modules_are_imported_is_one_line(module: str, raised: str) -> None:
    """Some libraries in C turn Ctrl-C into an ImportError."""
    if raised and module.startswith("affekt."):
        pytest.skip("these modules are Python")
    recording = Path(__file__).parents[2] / "examples" / "a.wav"  # synthetic speech
    program = INTERRUPTED.format(module=module, raised=raised)
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", str(recording)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "affekt: interrupted\n")


def test_the_program_imports_nothing_before_it_can_be_interrupted() -> None:
    program = "import sys; before = set(sys.modules); import affekt.__main__; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["__future__", "affekt", "affekt.__main__"]
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"affekt": "affekt.__main__:run"}
