"""The command line: exit codes, one line per error, options from flags and files, and what may not be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from affekt import __version__, cli
from affekt.export.onnx_file import export_checkpoint
from affekt.features.log_mel import Normalizer
from affekt.nn import NetworkConfig, parameter_ledger
from affekt.training.checkpoint import Checkpoint
from affekt.training.systems import System

PROBE = '''
"""A verb that does what its first argument says."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from affekt.errors import AudioError, ConfigError, Fault


@dataclass(frozen=True)
class Optimizer:
    """How weights move.

    Attributes:
        rate: the learning rate.
    """

    rate: float = 0.1
    beta: float | None = 0.9


@dataclass(frozen=True)
class Train:
    """How to train.

    Attributes:
        max_epochs: passes over the data, at most.
        optimizer: the optimizer.
    """

    max_epochs: int = 100
    optimizer: Optimizer = Optimizer()
    filters: tuple[int, ...] = (1, 2)
    weights: dict[str, float] = field(default_factory=dict)
    mirror: bool = False


def probe(deed: str, *, out: Path | None = None, train: Train = Train(), config: Path | None = None) -> int | None:
    """Does a deed.

    There is more to say about deeds.

    Args:
        deed: what to do.
        out: where to.
        train: training options.
        config: a TOML file with values for any of these options; flags win.
    """
    return DEEDS[deed](locals())


def show(given):
    print(json.dumps({"out": str(given["out"]), "train": asdict(given["train"])}))


def fail(error):
    def deed(given):
        raise error
    return deed


def no_torch(given):
    try:
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    except ModuleNotFoundError as error:
        raise ImportError("cannot import this verb") from error


def endless(given):
    while True:
        print("line")


DEEDS = {
    "show": show,
    "some": lambda given: 1,
    "nothing": lambda given: None,
    "faults": fail(AudioError.of([Fault("a.wav", "text", "audio"), Fault("b.wav", "nothing", "audio", "mend it")])),
    "no-torch": no_torch,
    "disk": fail(OSError(28, "No space left on device", "run/model")),
    "stop": fail(KeyboardInterrupt()),
    "defect": fail(ZeroDivisionError("division\\nby zero")),
    "endless": endless,
    "odd-name": lambda given: print("\\udcff.wav"),
}
'''


@pytest.fixture(autouse=True)
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "probe_verb.py").write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.VERBS, "probe", cli.Verb("probe_verb:probe", "Does a deed."))
    monkeypatch.delitem(sys.modules, "probe_verb", raising=False)
    monkeypatch.delenv("AFFEKT_DEBUG", raising=False)


CALL_PROBE = """
import sys
from affekt.cli import VERBS, Verb, main
VERBS["probe"] = Verb("probe_verb:probe", "Does a deed.")
sys.exit(main())
"""


def environment() -> dict[str, str]:
    """This process's environment, in which a child finds the modules that this process finds."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return inherited | {"PYTHONPATH": os.pathsep.join(sys.path)}


def python(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(("deed", "code"), [("nothing", 0), ("some", 1)])
def test_a_verb_decides_between_done_and_partly_done(capfd: pytest.CaptureFixture[str], deed: str, code: int) -> None:
    assert run(capfd, "probe", deed) == (code, "", "")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["probe", "faults"],
            2,
            "error: a.wav: got text, expected audio|error: b.wav: got nothing, expected audio; mend it",
        ),
        (["probe", "no-torch"], 2, "error: torch is not installed; pip install 'affekt[train]'"),
        (["probe", "disk"], 2, "error: run/model: No space left on device"),
        (["probe", "stop"], 130, "interrupted"),
        (
            ["probe", "defect"],
            70,
            "internal error: ZeroDivisionError: division by zero; please report it with what AFFEKT_DEBUG=1 shows",
        ),
        (["prob"], 2, "error: prob: got an unknown command; did you mean probe?"),
        (["--versio"], 2, "error: --versio: got an unknown option; did you mean --version?"),
        (["xyz"], 2, "error: xyz: got an unknown command; see `affekt --help`"),
        (["probe"], 2, "error: DEED: got nothing, expected TEXT; see `affekt probe --help`"),
        (
            ["probe", "show", "--train.max-epoch", "3"],
            2,
            "error: --train.max-epoch: got an unknown option; did you mean --train.max-epochs?",
        ),
        (["probe", "show", "--a\nb"], 2, "error: --a\\nb: got an unknown option; see `affekt probe --help`"),
        (["probe", "show", "-x"], 2, "error: -x: got an unknown option; see `affekt probe --help`"),
        (["probe", "show", "--out"], 2, "error: --out: expected one argument; see `affekt probe --help`"),
        (["probe", "show", "--train", "3"], 2, "error: --train: got an unknown option; did you mean --train."),
        (
            ["probe", "show", "again"],
            2,
            "error: again: got a word too many, expected `affekt probe DEED [OPTIONS]`",
        ),
        (
            ["probe", "--train.max-epochs", "many", "--train.filters", "1", "--train.filters", "x"],
            2,
            "error: DEED: got nothing, expected TEXT|error: --train.max-epochs: got 'many', expected a whole number"
            "|error: --train.filters[1]: got 'x', expected a whole number",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_each(
    capfd: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    got, out, err = run(capfd, *words)
    lines = [f"affekt: {line}" for line in message.split("|")]
    assert (got, out) == (code, "")
    assert len(err.splitlines()) == len(lines)
    assert all(said.startswith(line) for said, line in zip(err.splitlines(), lines, strict=True))


def test_a_defect_shows_its_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFEKT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe", "defect"])


def test_flags_reach_nested_configurations(capfd: pytest.CaptureFixture[str]) -> None:
    words = "probe show --train.max-epochs 50 --train.optimizer.beta none --train.filters 3 --train.filters 4"
    code, out, _ = run(capfd, *words.split())
    train = json.loads(out)["train"]
    assert code == 0
    assert train == {
        "max_epochs": 50,
        "optimizer": {"rate": 0.1, "beta": None},
        "filters": [3, 4],
        "weights": {},
        "mirror": False,
    }


FILE = """
out = "runs/x"
[train]
max_epochs = 7
filters = [5, 6]
mirror = true
optimizer.beta = "none"
weights = { angry = 2.0 }
"""


def test_a_file_gives_what_flags_leave_open(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(FILE)
    code, out, _ = run(capfd, *f"probe show --config {tmp_path}/own.toml --train.max-epochs 9".split())
    assert code == 0
    assert json.loads(out) == {
        "out": "runs/x",
        "train": {
            "max_epochs": 9,
            "optimizer": {"rate": 0.1, "beta": None},
            "filters": [5, 6],
            "weights": {"angry": 2.0},
            "mirror": True,
        },
    }


def test_every_fault_of_a_file_is_named(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("outt = 1\nout = 2\n[train]\nmax_epochs = 'many'\nmirrors = true\n")
    code, _, err = run(capfd, "probe", "show", "--config", str(path))
    assert code == 2
    assert err.splitlines() == [
        f"affekt: error: {path}: outt: got an unknown key; did you mean out?",
        f"affekt: error: {path}: out: got 2, expected a path",
        f"affekt: error: {path}: train.max_epochs: got 'many', expected a whole number",
        f"affekt: error: {path}: train.mirrors: got an unknown key; did you mean mirror?",
    ]


def test_a_file_holds_options_alone(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('manifest = "m.csv"\n')
    code, _, err = run(capfd, "experiment", "m.csv", "-o", "x", "--config", str(tmp_path / "own.toml"))
    assert code == 2
    assert f"{tmp_path}/own.toml: manifest: got an unknown key, expected one of out, systems" in err


def test_a_file_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capfd, "probe", "show", "--config", "missing.toml")
    assert (code, err) == (2, "affekt: error: No such file: missing.toml\n")


def test_a_verbs_own_page_holds_its_docstring_and_its_options(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "probe", "--help")
    assert code == 0
    assert "Does a deed." in out
    assert "There is more to say about deeds." in out
    assert "passes over the data, at most." in out
    assert "--train.optimizer.rate" in out


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_first_page_lists_every_verb(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, _ = run(capfd, *words)
    assert code == 0
    assert all(verb in out for verb in cli.VERBS)
    assert "probe_verb" not in sys.modules


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "--version") == (0, f"{__version__}\n", "")


def test_names_that_the_terminal_cannot_show_are_escaped() -> None:
    done = python(CALL_PROBE, "probe", "odd-name")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\udcff.wav\n", "")


@pytest.mark.parametrize("deed", ["endless", "show"])
def test_a_reader_that_leaves_early_is_no_error(deed: str) -> None:
    command = [sys.executable, "-c", CALL_PROBE, "probe", deed]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "affekt", "--version"], capture_output=True, text=True, env=environment(), check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_every_setting_of_training_is_a_flag(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "experiment", "--help")
    assert code == 0
    assert "--train.max-epochs" in out
    assert "--train.augment.warp" in out


def test_info_prints_the_ledger_of_the_paper(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "info")
    assert code == 0
    assert "baseline 380,292, combined attentive pooling 380,548" in out
    assert "+256 = +0.067 %" in out
    assert out.startswith("affekt ")
    assert __version__ in out.splitlines()[0]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small network with random weights, as `affekt train` saves one."""
    system = System("tiny", NetworkConfig(filters=(4, 4), pools=(2, 2)), "focal", {"gamma": 2.0})
    network, loss = system.build(2)
    normalizer = Normalizer((0.0,) * 40, (1.0,) * 40)
    weights, loss_weights = network.state_dict(), loss.state_dict()
    saved = Checkpoint(system, ("angry", "sad"), normalizer, weights, loss_weights, 1.5, {"corpus": "emodb"})
    saved.save(tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_info_of_a_checkpoint(capfd: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    code, out, _ = run(capfd, "info", str(checkpoint))
    said = dict(line.split("  ", 1) for line in out.splitlines())
    parameters = sum(row.parameters for row in parameter_ledger(NetworkConfig((4, 4), pools=(2, 2)), classes=2))
    assert code == 0
    assert {name: value.strip() for name, value in said.items()} == {
        "system": "tiny",
        "loss": "focal gamma=2.0",
        "classes": "angry, sad",
        "input": "16000 Hz mono, up to 7.5 s",
        "trainable parameters": f"{parameters:,}",
        "temperature": "1.500",
        "provenance.corpus": "emodb",
    }


def test_info_of_an_exported_model(capfd: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    export_checkpoint(Checkpoint.load(checkpoint), checkpoint.with_suffix(".onnx"))
    code, out, _ = run(capfd, "info", str(checkpoint.with_suffix(".onnx")))
    assert code == 0
    assert "angry, sad" in out
    assert "temperature 1.500" in out


def test_info_shows_the_main_facts_and_all_on_request(capfd: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    row = {"ua": 0.5, "ua_low": 0.25, "ua_high": 0.75, "recall": {"angry": 0.4, "sad": 0.6}}
    measures = {"across": {"what": "other corpora", "corpora": {"emodb": row}}, "precision": {"used": "float32"}}
    path = checkpoint.with_suffix(".onnx")
    export_checkpoint(Checkpoint.load(checkpoint), path, measures=measures)
    code, out, _ = run(capfd, "info", str(path))
    assert code == 0
    assert "other corpora\n  emodb  UA 50.0 % [25.0, 75.0]\n" in out
    assert "recall" not in out
    assert "measures.across.corpora.emodb.recall.sad" in run(capfd, "info", str(path), "--all")[1]


@pytest.mark.parametrize("name", ["none.safetensors", "none.onnx", "probe_verb.py"])
def test_info_of_what_is_no_model(capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    code, _, err = run(capfd, "info", str(tmp_path / name))
    assert code == 2
    assert err.startswith("affekt: error: ")
    assert name in err
    assert len(err.splitlines()) == 1


def test_info_without_torch_says_how_to_get_the_ledger() -> None:
    done = python("import sys; sys.modules['torch'] = None; from affekt.cli import main; sys.exit(main())", "info")
    assert done.returncode == 0, done.stderr
    assert "pip install 'affekt[train]'" in done.stdout
    assert __version__ in done.stdout.splitlines()[0]
