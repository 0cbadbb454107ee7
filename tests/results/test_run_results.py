"""Run directories come back as they were written, and damage is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affekt.errors import AffektError, CheckpointError, ConfigError
from affekt.results import JobDirectory, JobKey, Results
from affekt.results.run_directory import file_sha256, result_digest

JOB = "focal/fold-1/seed-0"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Path:
    return make_run(tmp_path_factory.mktemp("reading") / "run", systems=("baseline", "focal"))


@pytest.fixture
def run(tmp_path: Path, pristine: Path) -> Path:
    """A run directory that the test may damage."""
    return shutil.copytree(pristine, tmp_path / "run")


def flip(path: Path, position: int = -3) -> None:
    """Change one bit of one byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change entries of a result.json, as a faulty writer would, with the hashes as the files now are."""
    path = folder / "result.json"
    result = json.loads(path.read_text())
    result["sha256"] = {name: file_sha256(folder / name) for name in result["sha256"] if (folder / name).exists()}
    path.write_text(json.dumps(result | changes))


def refusal(run: Path, kind: type[AffektError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        Results.read(run)
    return str(caught.value)


def test_everything_comes_back(run: Path) -> None:
    results = Results.read(run)
    assert results.systems == ("baseline", "focal")
    assert results.classes == ("angry", "happy", "neutral", "sad")
    assert (results.corpus, results.protocol, results.recipe, results.seeds) == ("emodb", "random", "paper", (0, 1))
    assert results.protocol_line.startswith("emodb 4-class | random 3-fold, 2 seeds |")
    assert [(fold.index, fold.test) for fold in results.folds] == [(0, 32), (1, 32), (2, 32)]
    assert len(results.jobs) == 12
    assert results.missing == ()
    assert not results.synthetic


def test_rows_of_a_job_are_those_of_its_files(run: Path) -> None:
    results = Results.read(run)
    written = pd.read_csv(run / JOB / "predictions.csv")
    read = results.of("focal", 1, 0)
    assert read["id"].tolist() == written["id"].tolist()
    assert read["predicted"].tolist() == written["predicted"].tolist()
    np.testing.assert_array_equal(results.probabilities(read), written.iloc[:, 4:].to_numpy())
    np.testing.assert_array_equal(results.embeddings("focal", 1, 0), np.load(run / JOB / "embeddings.npy"))
    assert results.history("focal", 1, 0)["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert results.of("focal", 7, 0).empty


def test_jobs_without_a_result_are_missing_not_wrong(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("baseline", "focal"), left_out=("focal/fold-0/seed-1",))
    (run / JOB / "result.json").unlink()  # killed while it was written
    results = Results.read(run)
    assert results.missing == (JobKey("focal", 0, 1), JobKey("focal", 1, 0))
    assert results.finished("focal") == [
        JobKey("focal", 0, 0),
        JobKey("focal", 1, 1),
        JobKey("focal", 2, 0),
        JobKey("focal", 2, 1),
    ]
    assert results.of("focal", 1, 0).empty


@pytest.mark.parametrize("name", ["model.safetensors", "history.csv", "predictions.csv", "embeddings.npy"])
def test_one_flipped_bit_is_refused_by_name(run: Path, name: str) -> None:
    flip(run / JOB / name)
    message = refusal(run)
    assert message.startswith(f"{run / JOB / name}: got sha256 ")
    assert message.endswith(f"delete {run / JOB} and run the experiment again")
    assert [fault.what for fault in JobDirectory(run / JOB).damage()] == [str(run / JOB / name)]


def test_no_bit_of_the_measures_can_be_flipped_unseen(run: Path) -> None:
    """Whatever digit of WA, UA, F1 or the confusion matrix changes, it no longer agrees with the predictions."""
    path = run / JOB / "result.json"
    text = path.read_text()
    for name in ("wa", "ua", "macro_f1", "confusion"):
        position = text.index(f'"{name}"') + len(name) + 4
        position += next(i for i, letter in enumerate(text[position:]) if letter.isdigit() and letter != "0")
        digit = "8" if text[position] == "9" else "9"
        path.write_text(text[:position] + digit + text[position + 1 :])
        assert f"{path}: got {name} = " in refusal(run)
    path.write_text(text)
    assert len(Results.read(run).jobs) == 12


def test_all_damage_is_reported_at_once(run: Path) -> None:
    flip(run / JOB / "history.csv")
    flip(run / "baseline/fold-0/seed-0/embeddings.npy")
    (run / "baseline/fold-2/seed-1/predictions.csv").unlink()
    lines = refusal(run).splitlines()
    assert [line.split(": got ")[0].rsplit("/", 1)[1] for line in lines] == [
        "embeddings.npy",
        "predictions.csv",
        "history.csv",
    ]


def test_a_result_that_says_its_own_hash_is_held_to_it(run: Path) -> None:
    """Numbers that no prediction gives, such as the best epoch, can only be known by the hash."""
    result = json.loads((run / JOB / "result.json").read_text())
    result["digest"] = result_digest(result)
    (run / JOB / "result.json").write_text(json.dumps(result))
    assert len(Results.read(run).jobs) == 12
    for name in ("best_epoch", "parameters", "seconds"):
        (run / JOB / "result.json").write_text(json.dumps(result | {name: result[name] + 1}))
        assert f"{JOB}/result.json: got content that is not what was written" in refusal(run)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "{}", "[" * 100_000])
def test_a_result_that_is_none_is_refused(run: Path, text: str) -> None:
    (run / JOB / "result.json").write_text(text, encoding="latin-1")
    assert f"{JOB}/result.json: got" in refusal(run)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"system": "baseline"}, "'focal'"),
        ({"fold": 2}, "1"),
        ({"seed": "0"}, "0"),
        ({"parameters": -1}, "a number, 0 or more"),
        ({"best_epoch": 2.5}, "a number, 0 or more"),
        ({"seconds": float("nan")}, "a number, 0 or more"),
        ({"epochs": True}, "a number, 0 or more"),
        ({"ua": float("nan")}, "as in predictions.csv"),
        ({"wa": None}, "as in predictions.csv"),
    ],
)
def test_a_result_must_fit_its_job(run: Path, change: dict[str, Any], expected: str) -> None:
    rewrite(run / JOB, **change)
    name, value = next(iter(change.items()))
    message = refusal(run)
    assert f"{JOB}/result.json: got {name} = {value!r}, expected" in message
    assert expected in message


def test_large_files_may_be_left_out_but_not_unlisted(run: Path) -> None:
    for path in run.glob("*/*/*/model.safetensors"):
        path.unlink()
    assert Results.read(run).embeddings("focal", 1, 1).shape == (32, 8)
    text = (run / JOB / "result.json").read_text()
    rewrite(run / JOB, sha256={"history.csv": "0" * 64})
    message = refusal(run)
    assert "embeddings.npy: got no hash in result.json" in message
    assert "predictions.csv: got no hash in result.json" in message
    (run / JOB / "result.json").write_text(text)
    (run / JOB / "embeddings.npy").unlink()  # means over the other jobs would be other numbers
    assert f"{JOB}/embeddings.npy: got no file, expected the deep features of all jobs, or of none" in refusal(run)
    for path in run.glob("*/*/*/embeddings.npy"):
        path.unlink()
    assert Results.read(run).embeddings("focal", 1, 0) is None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("label,predicted", "predicted,label", "columns id, speaker, predicted, label"),
        (",angry,", ",agner,", "'agner', expected one of angry, happy, neutral, sad"),
        ("\nu", "\nw", "other utterances, e.g. u"),
        (",0.1", ",7.1", "probabilities that are none"),
        (",0.1", ",0.3", "probabilities that are none"),
        (",0.1", ",nan0.1", "probabilities that are none"),
        ("\n", ',"\n', "expected a readable CSV table"),
    ],
)
def test_predictions_must_keep_their_contract(run: Path, old: str, new: str, complaint: str) -> None:
    path = run / JOB / "predictions.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    rewrite(run / JOB)
    message = refusal(run)
    assert message.startswith(f"{path}: got ")
    assert complaint in message


def test_an_utterance_predicted_twice_is_refused(run: Path) -> None:
    path = run / JOB / "predictions.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    rewrite(run / JOB)
    assert f"{path}: got an utterance twice, expected the test part of the fold" in refusal(run)


@pytest.mark.parametrize("array", [np.zeros((31, 8)), np.zeros(32), np.full((32, 8), np.nan), np.array([{}] * 32)])
def test_features_must_fit_the_predictions(run: Path, array: np.ndarray) -> None:
    np.save(run / JOB / "embeddings.npy", array, allow_pickle=True)
    rewrite(run / JOB)
    assert f"{JOB}/embeddings.npy: got" in refusal(run)


def test_a_history_without_its_columns_is_refused(run: Path) -> None:
    (run / JOB / "history.csv").write_text("epoch,train_accuracy\n1,0.5\n")
    rewrite(run / JOB)
    with pytest.raises(CheckpointError, match=r"history\.csv: got no column validation_accuracy"):
        Results.read(run).history("focal", 1, 0)


def test_not_a_run_directory(tmp_path: Path) -> None:
    assert "no config.toml" in refusal(tmp_path, ConfigError)
    (tmp_path / "config.toml").write_text("experiment = 3\n")
    assert "a table [experiment]" in refusal(tmp_path, ConfigError)


def test_all_faults_of_a_configuration_at_once(run: Path) -> None:
    (run / "config.toml").write_text('[experiment]\ncorpus = 3\nclasses = ["a", "a"]\nsystems = ["../x"]\nseeds = 0\n')
    lines = refusal(run, ConfigError).splitlines()
    names = [line.split("experiment.")[1].split(":")[0] for line in lines]
    assert names == ["corpus", "protocol", "recipe", "line", "classes", "systems", "seeds"]


def test_seeds_may_be_listed(run: Path) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace("seeds = 2", "seeds = [1, 5]"))
    results = Results.read(run)
    assert results.seeds == (1, 5)
    assert len(results.missing) == 6


def test_a_run_without_a_finished_job(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("a",), folds=2, seeds=1, left_out=("a/fold-0/seed-0", "a/fold-1/seed-0"))
    assert "got no finished job, expected at least one" in refusal(run, ConfigError)


@pytest.mark.parametrize("text", ["", "{}", '{"folds": 3}', '{"folds": [{"index": 0, "train": []}]}'])
def test_broken_folds(run: Path, text: str) -> None:
    (run / "folds.json").write_text(text)
    assert refusal(run, ConfigError).startswith(f"{run / 'folds.json'}: got ")
