"""`affekt experiment` and `affekt demo`: options from flags and files, exit codes, progress, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from affekt import cli
from affekt.cli import demo as demo_verb
from affekt.cli.shared import TrainChanges, changed_recipe, given, optional_fields, side_by_side
from affekt.config import as_table, load, merge
from affekt.data.protocols import Fold
from affekt.errors import ConfigError
from affekt.experiments import jobs as training_jobs
from affekt.experiments.plan import TrainingJob
from affekt.experiments.progress import ExperimentProgress, ModelProgress
from affekt.runtime.cpu_affinity import available_cores
from affekt.training.fitted import Epoch
from affekt.training.recipes import RECIPES, Recipe
from affekt.training.systems import System, resolve
from affekt.training.train_config import AugmentConfig, TrainConfig


@dataclass(frozen=True)
class Answer:
    """How a call ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(bursts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call `affekt experiment` on the small corpus, with two tiny systems and two folds; more words change it."""

    def call(*words: object) -> Answer:
        usual = {"--systems": bursts / "systems.toml", "--folds": 2, "--recipe": "quick", "--device": "cpu"}
        usual |= {"--train.max-epochs": 1, "--train.batch-size": 8}
        left_open = () if "--config" in words else [name for name in usual if name not in words]
        flags = [str(word) for name in left_open for word in (name, usual[name])]
        places = ["-o", str(tmp_path / "run"), "--cache", str(bursts / "cache")]
        code = cli.main(["experiment", str(bursts / "manifest.csv"), *places, *flags, *map(str, words)])
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture
def config(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    return lambda: tomllib.loads((tmp_path / "run" / "config.toml").read_text())


JOBS = [f"{system}/fold-{fold}/seed-0" for fold in range(2) for system in ("baseline", "focal")]


# -------------------------------------------------------------------------------------------------- from start to end


def test_from_a_manifest_to_a_report(run: Any, tmp_path: Path, config: Any) -> None:
    answer = run("--jobs", 1)
    assert answer.code == 0, answer.err
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"summary.json", "report.html", "config.toml", "baseline", "focal"} <= written
    line = "bursts 4-class | random 2-fold, 1 seed | speakers shared: yes | texts shared: yes"
    assert " ".join(answer.out.split()).count(line) == 1
    for name in ("baseline", "focal"):
        assert name in answer.out
    assert str(tmp_path / "run" / "report.html") in answer.out.splitlines()
    assert answer.err.splitlines() == [f"[{number}/4] {job}" for number, job in enumerate(JOBS, 1)]
    before = (tmp_path / "run" / "summary.json").read_bytes()
    again = run("--jobs", 2)  # all is done: nothing is started
    assert (again.code, again.err) == (0, answer.err)
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    assert json.loads(before)


def test_a_plan_trains_nothing(run: Any, tmp_path: Path) -> None:
    answer = run("--plan")
    assert answer.code == 0, answer.err
    assert "4 of 4 jobs left" in answer.out
    for job in JOBS:
        assert f"  {job}: at most " in answer.out
    assert not list((tmp_path / "run").rglob("result.json"))


# ------------------------------------------------------------------------------------------------------------- options


def test_flags_change_the_recipe_and_only_that(run: Any, config: Any) -> None:
    run("--plan", "--train.learning-rate", 0.001, "--train.augment.warp", 0.05)
    written = config()
    changes = {"max_epochs": 1, "batch_size": 8, "learning_rate": 0.001, "augment": {"warp": 0.05}}
    quick = RECIPES["quick"]
    assert written["recipe"] == as_table(replace(quick, name="quick, changed", train=merge(quick.train, changes)))
    assert written["experiment"]["recipe"] == "quick, changed"
    assert written["experiment"]["folds"] == 2


def test_clip_length_and_initial_weights_are_options_of_an_experiment(run: Any, config: Any, tmp_path: Path) -> None:
    answer = run("--clip-seconds", 0.2, "--initialization", "keras", "--jobs", 1)
    assert answer.code == 0, answer.err
    written = config()
    assert (written["recipe"]["clip_seconds"], written["recipe"]["initialization"]) == (0.2, "keras")
    assert written["experiment"]["line"].endswith(" | clips of 0.2 s")
    assert written["systems"]["baseline"]["network"]["initialization"] == "keras"
    assert {system["features"]["clip_seconds"] for system in written["systems"].values()} == {0.2}
    again = run("--config", tmp_path / "run" / "config.toml")
    assert (again.code, again.err) == (0, answer.err)  # nothing is trained again


def test_a_recipe_that_is_not_changed_keeps_its_name() -> None:
    assert changed_recipe("paper", None) is RECIPES["paper"]
    assert changed_recipe("paper", optional_fields(TrainConfig)(max_epochs=100)) is RECIPES["paper"]
    assert changed_recipe("paper", optional_fields(TrainConfig)(max_epochs=50)).train == TrainConfig(max_epochs=50)


def test_a_file_gives_what_flags_leave_open(run: Any, config: Any, tmp_path: Path, bursts: Path) -> None:
    file = tmp_path / "options.toml"
    lines = [
        f"systems = '{bursts / 'systems.toml'}'",
        "recipe = 'quick'",
        "folds = 3",
        "seeds = 2",
        "[train]",
        "max_epochs = 7",
    ]
    file.write_text("\n".join([*lines, "[train.augment]", "tempo = 0.1", "noise_snr_db = [1.0, 2.0]", ""]))
    answer = run("--plan", "--config", file, "--seeds", 1)
    assert answer.code == 0, answer.err
    train = config()["recipe"]["train"]
    assert (train["max_epochs"], train["augment"]["tempo"], train["augment"]["noise_snr_db"]) == (7, 0.1, [1.0, 2.0])
    assert (config()["experiment"]["folds"], config()["experiment"]["seeds"]) == (3, 1)
    assert train["batch_size"] == RECIPES["quick"].train.batch_size


def test_unknown_keys_and_flags_are_errors(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("fold = 3\n[train]\nmax_epoch = 7\nbatch_size = 'x'\n[train.augment]\nwrap = 1\n")
    answer = run("--config", file)
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert len(lines) == 4
    named = ["fold: got an unknown key; did you mean folds?", "train.max_epoch: got an unknown key; did you mean"]
    named += ["train.batch_size: got 'x', expected a whole number", "train.augment.wrap: got an unknown key"]
    for line, start in zip(lines, named, strict=True):
        assert line.startswith(f"affekt: error: {file}: {start}")
    for words in (["--train.max-epoch", 3], ["--fold", 3], ["--train.augment.wrap", 1]):
        answer = run(*words)
        assert (answer.code, len(answer.err.splitlines())) == (2, 1)
        assert str(words[0]) in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "papers"], "recipe: got 'papers', expected one of paper, "),
        (["--jobs", "0"], "--jobs: got 0, expected at least 1"),
        (["--threads", "0"], "threads: got 0, expected at least 1"),
        (["--seeds", "0"], "seeds: got 0, expected at least 1"),
        (["--folds", "1"], "folds and seed: got 1 folds"),
        (["--device", "tpu"], "device: got 'tpu', expected auto, or a present device: "),
        (["--systems", "nix"], "system: got 'nix'"),
        (["--labels", "nix"], "nix"),
        (["--protocol", "nix"], "protocol: got 'nix'"),
        (["--train.learning-rate", "-1"], "--train: train.learning_rate: got -1.0, expected above 0, at most 1"),
        (["--train.augment.warp", "2"], "augment.warp: got 2.0, expected in [0, 1)"),
    ],
)
def test_what_the_user_has_to_mend(run: Any, tmp_path: Path, words: list[str], said: str) -> None:
    answer = run(*words)
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("affekt: error: ")
    assert said in line
    assert not list(tmp_path.rglob("*.toml"))


def test_another_experiment_s_folder(run: Any) -> None:
    run("--plan")
    answer = run("--plan", "--train.learning-rate", 0.5, "--fold-seed", 3)
    assert answer.code == 2
    lines = [line.partition("config.toml: ")[2] for line in answer.err.splitlines()]
    end = ", as it was started; choose another folder with -o"
    assert lines == [f"fold_seed: got 3, expected 0{end}", f"recipe.train.learning_rate: got 0.5, expected 0.002{end}"]


# ---------------------------------------------------------------------------------------------- a run's own config.toml


def again(bursts: Path, out: Path, file: Path, *words: str) -> int:
    places = ["-o", str(out), "--cache", str(bursts / "cache"), "--device", "cpu", "--jobs", "1"]
    return cli.main(["experiment", str(bursts / "manifest.csv"), *places, "--config", str(file), *words])


def test_a_run_s_configuration_does_the_same_again(
    run: Any, tmp_path: Path, bursts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Everything that was chosen comes back from the file alone: recipe, systems, folds, labels; so do the numbers."""
    options = ["--protocol", "speaker", "--fold-seed", 3, "--labels", "basic4", "--train.learning-rate", 0.002]
    assert run(*options, "--systems", bursts / "systems.toml").code == 0
    first, second = tmp_path / "run", tmp_path / "second"
    assert again(bursts, second, first / "config.toml") == 0, capfd.readouterr().err
    for name in ("config.toml", "folds.json", "summary.json"):
        assert (second / name).read_bytes() == (first / name).read_bytes(), name
    table = Path(JOBS[0]) / "predictions.csv"
    assert (second / table).read_bytes() == (first / table).read_bytes()
    assert again(bursts, first, first / "config.toml") == 0  # in its own folder all is done
    capfd.readouterr()


def test_a_run_with_a_fused_system_is_gone_on_with_and_done_again(
    run: Any, tmp_path: Path, bursts: Path, config: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--jobs", 1).code == 0
    assert cli.main(["fuse", str(tmp_path / "run"), "--systems", "baseline,focal"]) == 0
    answer = run("--jobs", 1, "--seeds", 2)
    assert answer.code == 0, answer.err
    assert config()["experiment"]["systems"] == ["baseline", "focal", "fused"]
    assert config()["fusions"]["fused"]["members"] == ["baseline", "focal"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["systems"]["fused"]["jobs"] == 2
    capfd.readouterr()
    assert again(bursts, tmp_path / "other", tmp_path / "run" / "config.toml", "--plan") == 0, capfd.readouterr().err
    other = tomllib.loads((tmp_path / "other" / "config.toml").read_text())
    assert other["experiment"]["systems"] == ["baseline", "focal"]  # what can be trained
    capfd.readouterr()


def test_flags_still_change_what_a_run_s_configuration_says(
    run: Any, tmp_path: Path, bursts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run("--plan")
    words = ["--plan", "--seeds", "2", "--train.max-epochs", "9", "--systems", str(bursts / "systems.toml")]
    assert again(bursts, tmp_path / "other", tmp_path / "run" / "config.toml", *words) == 0, capfd.readouterr().err
    written = tomllib.loads((tmp_path / "other" / "config.toml").read_text())
    assert written["recipe"]["train"]["max_epochs"] == 9
    assert written["recipe"]["name"] == "quick, changed"
    assert written["experiment"]["seeds"] == 2


def test_a_second_protocol_or_recipe_is_refused_in_the_folder_of_the_first(run: Any, tmp_path: Path) -> None:
    assert run("--plan").code == 0
    before = (tmp_path / "run" / "config.toml").read_bytes()
    end = "as it was started; choose another folder with -o"
    answer = run("--plan", "--protocol", "speaker")
    assert answer.code == 2
    assert f"protocol: got 'speaker', expected 'random', {end}" in answer.err
    answer = run("--plan", "--recipe", "robust")
    assert answer.code == 2
    assert f"recipe: got 'robust, changed', expected 'quick, changed', {end}" in answer.err
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


def test_another_configuration_is_not_a_run_s(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("[experiment]\nfolds = 2\n[recipe]\nname = 'x'\nmask = 3\n[systems.a]\nlosss = 'focal'\n")
    answer = run("--plan", "--config", file)
    assert answer.code == 2
    assert "recipe" in answer.err or "mask" in answer.err
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------------ partial success


def test_a_failed_job_leaves_the_others_their_report(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = training_jobs.fit

    def failing(system: System, *arguments: Any, **options: Any) -> Any:
        if system.name == "focal":
            raise ConfigError("training of focal", got="a loss of nan")
        return fit(system, *arguments, **options)

    monkeypatch.setattr(training_jobs, "fit", failing)
    answer = run("--jobs", 1)
    assert answer.code == 1
    failed = [line for line in answer.err.splitlines() if line.startswith("affekt: failed: ")]
    assert failed == [f"affekt: failed: job {job}: training of focal: got a loss of nan" for job in JOBS[1::2]]
    assert "baseline" in answer.out
    assert (tmp_path / "run" / "report.html").exists()


def test_a_recording_that_cannot_be_decoded_leaves_the_others(
    tmp_path: Path, bursts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = (bursts / "manifest.csv").read_text().splitlines()
    for row in rows[1:]:
        name = row.split(",")[1]
        (tmp_path / name).write_bytes((bursts / name).read_bytes())
    (tmp_path / "s0-angry-0.wav").write_text("no audio")
    (tmp_path / "manifest.csv").write_text("\n".join([*rows, ""]))
    words = ["-o", str(tmp_path / "run"), "--systems", str(bursts / "systems.toml"), "--folds", "2", "--plan"]
    code = cli.main(["experiment", str(tmp_path / "manifest.csv"), *words, "--cache", str(tmp_path / "cache")])
    answer = Answer(code, *capfd.readouterr())
    assert answer.code == 1
    assert [
        line for line in answer.err.splitlines() if line.startswith("affekt: left out: ")
    ] == answer.err.splitlines()
    assert "s0-angry-0.wav" in answer.err
    assert "4 of 4 jobs left" in answer.out


# --------------------------------------------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_ends_everything_without_a_traceback(tmp_path: Path, bursts: Path, interruptible: list[str]) -> None:
    """The signal reaches the whole process group, as a terminal sends it: the program and its workers."""
    words = ["experiment", str(bursts / "manifest.csv"), "-o", str(tmp_path / "run"), "--device", "cpu"]
    words += ["--systems", str(bursts / "systems.toml"), "--folds", "2", "--cache", str(bursts / "cache")]
    words += ["--jobs", "2", "--train.max-epochs", "1000000", "--train.patience", "1000000"]
    process = subprocess.Popen([*interruptible, *words], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while process.poll() is None and not list(tmp_path.rglob("state.pt")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, errors) == (130, "affekt: interrupted\n")
    assert list((tmp_path / "run").rglob("state.pt"))  # what an interrupted job goes on from


# ------------------------------------------------------------------------------------------------------------ the parts


def test_options_have_every_field_and_give_back_what_was_given() -> None:
    changes = optional_fields(TrainConfig)
    assert [part.name for part in fields(changes)] == [part.name for part in fields(TrainConfig)]
    assert given(None) == given(changes()) == {}
    inner = optional_fields(AugmentConfig)(warp=0.0, time_masks=2)
    assert given(changes(max_epochs=3, bucketed=False, augment=inner)) == {
        "max_epochs": 3,
        "bucketed": False,
        "augment": {"warp": 0.0, "time_masks": 2},
    }


def test_jobs_side_by_side() -> None:
    assert side_by_side(3, "cpu") == 3
    assert side_by_side(None, "cpu") == available_cores()
    for wrong in (0, -1):
        with pytest.raises(ConfigError, match="--jobs"):
            side_by_side(wrong, "cpu")


def make_job(number: int) -> TrainingJob:
    return TrainingJob(System(f"system-{number}"), Fold(0, (), (), ()), 0, Path())


def make_epoch(number: int) -> Epoch:
    return Epoch(number, 1.0, 0.5, 1.0, 0.625, 0.5, 1e-4, 1.0)


def test_a_terminal_is_shown_bars_and_a_log_is_given_lines(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for terminal in ("1", ""):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        monkeypatch.setenv("COLUMNS", "160")
        with ExperimentProgress(max_epochs=20) as progress:
            progress.on_progress("features", 3, 7)
            progress.on_progress("features", 7, 7)
            progress.start_jobs(2)
            progress.on_epoch(make_job(1), make_epoch(4))
            progress.bar.refresh()
            progress.on_done(make_job(1))
            progress.on_done(make_job(2))
        _, err = capfd.readouterr()
        if terminal:
            for part in ("features", "7/7", "system-1/fold-0/seed-0: validation accuracy 0.625", "4/20", "2/2"):
                assert part in err, part
        else:
            assert err.splitlines() == ["[1/2] system-1/fold-0/seed-0", "[2/2] system-2/fold-0/seed-0"]


def test_a_single_training_tells_its_epochs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for terminal, expected in (("1", "training: validation UA 0.500"), ("", "[2/9] validation UA 0.500")):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        monkeypatch.setenv("COLUMNS", "160")
        with ModelProgress(max_epochs=9) as progress:
            progress.on_model_epoch(make_epoch(1))
            progress.on_model_epoch(make_epoch(2))
            progress.bar.refresh()
        assert expected in capfd.readouterr().err


def test_the_demo(
    bursts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From nothing to a report; here with fewer voices, smaller networks and one epoch."""
    tiny = load(Recipe, bursts / "recipe.toml")
    quick = replace(RECIPES["quick"], train=replace(tiny.train, max_epochs=1))
    monkeypatch.setattr("affekt.training.recipes.RECIPES", {"quick": quick})
    monkeypatch.setattr("affekt.training.systems.resolve", lambda names: resolve(str(bursts / "systems.toml")))
    monkeypatch.setattr(demo_verb, "SPEAKERS", 3)
    monkeypatch.setattr(demo_verb, "SENTENCES", 2)
    for _ in range(2):  # the second time goes on with what the first left
        code = cli.main(["demo", "-o", str(tmp_path / "demo"), "--folds", "2", "--jobs", "1"])
        out, err = capfd.readouterr()
        assert code == 0, err
        assert out.startswith("The embedded corpus is SYNTHETIC")
        assert "synthetic 4-class | random 2-fold, 1 seed | speakers shared: yes" in " ".join(out.split())
        assert "affekt prepare emodb PATH" in out
    assert (tmp_path / "demo" / "run" / "report.html").exists()
    assert len(list((tmp_path / "demo" / "corpus").rglob("*.wav"))) == 24


def test_a_number_of_epochs_that_is_typed_is_not_stretched() -> None:
    least = RECIPES["robust"].train.min_steps
    assert least > 0
    assert changed_recipe("robust", TrainChanges(learning_rate=1e-3)).train.min_steps == least
    assert changed_recipe("robust", TrainChanges(max_epochs=3)).train.min_steps == 0
    assert changed_recipe("robust", TrainChanges(max_epochs=3, min_steps=9)).train.min_steps == 9
