"""Experiments: the same command gives the same numbers, whatever happened meanwhile, and no two are ever mixed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import tomli_w
import torch
from filelock import FileLock
from torch import Tensor

from affekt.config import load
from affekt.data.labels import LABEL_SETS
from affekt.data.manifest import Manifest
from affekt.data.waveform_store import WaveformStore
from affekt.errors import AffektError, CheckpointError, ConfigError, Fault
from affekt.experiments.jobs import finish, run_job, run_jobs, take
from affekt.experiments.loading import Data
from affekt.experiments.plan import Experiment, TrainingJob, plan_experiment
from affekt.features.log_mel import LogMel
from affekt.results import Results
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch
from affekt.training.fitting import fit
from affekt.training.recipes import Recipe
from affekt.training.systems import System, resolve

FILES = ("model.safetensors", "history.csv", "predictions.csv", "embeddings.npy", "result.json")
EXACT = ("model.safetensors", "predictions.csv", "embeddings.npy")  # the others hold times


@pytest.fixture
def plan(bursts: Path) -> Callable[..., tuple[Experiment, list[Fault]]]:
    """Plan an experiment of two tiny systems on two folds; arguments change it."""

    def make(out: Path, **changes: Any) -> tuple[Experiment, list[Fault]]:
        manifest = changes.pop("manifest", None) or Manifest.read(bursts / "manifest.csv")
        systems = changes.pop("systems", None) or resolve(str(bursts / "systems.toml"))
        options = {
            "folds": 2,
            "recipe": load(Recipe, bursts / "recipe.toml"),
            "device": "cpu",
            "cache": bursts / "cache",
        }
        return plan_experiment(manifest, systems, out, **(options | changes))

    return make


@pytest.fixture(scope="module")
def finished(bursts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of four finished jobs, not to be changed."""
    out = tmp_path_factory.mktemp("run") / "finished"
    recipe, manifest = load(Recipe, bursts / "recipe.toml"), Manifest.read(bursts / "manifest.csv")
    systems, cache = resolve(str(bursts / "systems.toml")), bursts / "cache"
    experiment, failures = plan_experiment(manifest, systems, out, folds=2, recipe=recipe, device="cpu", cache=cache)
    assert failures == []
    run_jobs(experiment, experiment.jobs)
    finish(experiment)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that may be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def run(experiment: Experiment) -> list[str]:
    """Run all jobs; which epochs were trained."""
    seen: list[str] = []
    run_jobs(experiment, experiment.jobs, lambda job, epoch: seen.append(f"{job.name}:{epoch.epoch}"))
    return seen


def numbers(out: Path) -> dict[str, bytes]:
    """Every file that holds no times."""
    files = [path for path in out.rglob("*") if path.name in EXACT]
    return {str(path.relative_to(out)): path.read_bytes() for path in (*files, out / "summary.json")}


JOB = Path("focal/fold-1/seed-0")


# ----------------------------------------------------------------------------------------------------- what is written


def test_a_run_directory_has_what_the_contract_says(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert names == {"config.toml", "environment.json", "folds.json", "summary.json", "baseline", "focal"}
    for system in ("baseline", "focal"):
        for fold in range(2):
            folder = finished / system / f"fold-{fold}" / "seed-0"
            assert {path.name for path in folder.iterdir()} == {*FILES, ".lock"}
    history = pd.read_csv(finished / JOB / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    result = json.loads((finished / JOB / "result.json").read_text())
    assert (result["system"], result["fold"], result["seed"], result["epochs"]) == ("focal", 1, 0, 3)
    assert result["protocol"] == "bursts 4-class | random 2-fold, 1 seed | speakers shared: yes | texts shared: yes"


def test_the_configuration_is_complete(finished: Path, bursts: Path) -> None:
    config = tomllib.loads((finished / "config.toml").read_text())
    assert config["experiment"]["classes"] == ["angry", "happy", "neutral", "sad"]
    assert config["experiment"]["systems"] == ["baseline", "focal"]
    assert config["recipe"]["train"]["learning_rate"] == 0.003
    assert config["systems"]["focal"]["network"]["filters"] == [16, 16]
    assert config["systems"]["focal"]["network"]["masked"] is True  # by the recipe
    folds = json.loads((finished / "folds.json").read_text())["folds"]
    ids = set(Manifest.read(bursts / "manifest.csv").ids)
    assert {id for fold in folds for id in fold["test"]} == ids
    for fold in folds:
        assert {*fold["train"], *fold["validation"], *fold["test"]} == ids


def test_predictions_are_what_the_checkpoint_says_of_the_recordings(finished: Path, bursts: Path) -> None:
    """From the files alone: recording, features, normalizer, network, temperature, posterior."""
    checkpoint = Checkpoint.load(finished / JOB / "model.safetensors")
    network, loss = checkpoint.build()
    table = pd.read_csv(finished / JOB / "predictions.csv")
    manifest = Manifest.read(bursts / "manifest.csv")
    facts = manifest.table.set_index("id").loc[table["id"]]
    assert table["label"].tolist() == facts["label"].tolist()
    assert table["speaker"].tolist() == facts["speaker"].tolist()
    embeddings = np.load(finished / JOB / "embeddings.npy")
    for row in range(0, len(table), 5):
        waveform, _ = soundfile.read(bursts / f"{table['id'][row]}.wav", dtype="float32")
        features = LogMel(checkpoint.system.features)(torch.from_numpy(waveform[None]))
        with torch.inference_mode():
            scores, embedding = network(checkpoint.normalizer(features), torch.tensor([features.shape[1]]))
            posterior = (loss.logits(scores) / checkpoint.temperature).softmax(1)[0].numpy()
        said = table.loc[row, [f"prob.{name}" for name in checkpoint.classes]].to_numpy(np.float64)
        np.testing.assert_allclose(said, posterior, atol=1e-4)
        np.testing.assert_allclose(embeddings[row], embedding[0].numpy(), atol=1e-4)
        assert table["predicted"][row] == checkpoint.classes[int(posterior.argmax())]


def test_no_job_sees_its_test_part(finished: Path) -> None:
    """The normalizer in a checkpoint is that of the fold's training part, so it differs from fold to fold only."""
    normalizers = {path.parts[-4:-2]: Checkpoint.load(path).normalizer for path in finished.rglob("model.safetensors")}
    assert normalizers["baseline", "fold-0"] == normalizers["focal", "fold-0"] != normalizers["focal", "fold-1"]


# ---------------------------------------------------------------------------------------------------- the same numbers


def test_run_twice_is_the_same_bit_for_bit(finished: Path, plan: Any, tmp_path: Path) -> None:
    experiment, _ = plan(tmp_path / "again")
    assert len(run(experiment)) == 12
    finish(experiment)
    assert numbers(tmp_path / "again") == numbers(finished)
    assert (tmp_path / "again" / "folds.json").read_bytes() == (finished / "folds.json").read_bytes()


def test_what_is_done_is_not_run_again(copy: Path, plan: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name in FILES}
    experiment, _ = plan(copy)
    assert all(job.done for job in experiment.jobs)
    assert run(experiment) == []
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name in FILES} == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_job_is_run_again_and_comes_back(
    copy: Path, finished: Path, plan: Any, name: str, damage: str
) -> None:
    path = copy / JOB / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = content.index(b'": {') if name == "result.json" else len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    experiment, _ = plan(copy)
    optional = damage == "gone" and name in ("model.safetensors", "embeddings.npy")  # a report needs neither
    assert [job.name for job in experiment.jobs if not job.done] == ([] if optional else [str(JOB)])
    if (name, damage) in (("predictions.csv", "flipped"), ("result.json", "cut")):
        assert run(experiment) == [f"{JOB}:{epoch}" for epoch in (1, 2, 3)]
        finish(experiment)
        assert numbers(copy) == numbers(finished)


@pytest.mark.parametrize("measure", ["wa", "ua", "macro_f1", "confusion", "seed"])
def test_a_result_that_was_tampered_with_is_refused(copy: Path, plan: Any, measure: str) -> None:
    """An older one, which does not say its own hash: it is not run again; but no number is computed from it."""
    path = copy / JOB / "result.json"
    result = json.loads(path.read_text())
    del result["digest"]
    result[measure] = [[0] * 4] * 4 if measure == "confusion" else 0.123
    path.write_text(json.dumps(result))
    experiment, _ = plan(copy)
    assert run(experiment) == []
    with pytest.raises(CheckpointError, match=rf"{measure} = .*delete .* and run the experiment again"):
        finish(experiment)


@pytest.mark.parametrize("name", ["best_epoch", "parameters", "total_seconds"])
def test_a_changed_number_that_no_prediction_gives_is_noticed(copy: Path, finished: Path, plan: Any, name: str) -> None:
    path = copy / JOB / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {name: result[name] + 1}))
    experiment, _ = plan(copy)
    assert [job.name for job in experiment.jobs if not job.done] == [str(JOB)]
    with pytest.raises(CheckpointError, match=r"result\.json: got content that is not what was written"):
        finish(experiment)


def test_every_changed_bit_of_the_configuration_is_refused_or_changes_nothing(copy: Path, plan: Any) -> None:
    """Systems and seeds may be added, so that a changed name or number would pass for that."""
    path = copy / "config.toml"
    content = path.read_bytes()
    for name in (b"seeds = 1", b'"focal"', b"experiment"):
        place = content.index(name) + len(name) - 2
        for bit in (1, 2, 4):
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            with pytest.raises(ConfigError, match=r"config\.toml: got "):
                plan(copy)
    path.write_bytes(content)
    plan(copy)
    assert path.read_bytes() == content


def test_a_full_disk_is_said_of_each_job_and_all_goes_on_afterwards(
    finished: Path, plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, _ = plan(tmp_path / "run")
    fsync = os.fsync

    def full(number: int) -> None:
        if os.fstat(number).st_size > 10_000 and stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AffektError) as raised:
            run(experiment)
    assert len(raised.value.faults) == 4
    assert re.match(r"job baseline/fold-0/seed-0: .*/state\.pt: got No space left on device", str(raised.value))
    assert not list((tmp_path / "run").rglob("*.tmp"))
    run(experiment)
    finish(experiment)
    assert numbers(tmp_path / "run") == numbers(finished)


@pytest.mark.parametrize(("column", "value"), [("speaker", "s9"), ("label", "sad"), ("text_id", "t9")])
def test_an_utterance_that_is_another_now_is_named(
    copy: Path, plan: Any, bursts: Path, column: str, value: str
) -> None:
    table = Manifest.read(bursts / "manifest.csv").table
    table.loc[0, column] = value
    lines = faults_of(lambda: plan(copy, manifest=Manifest(table, bursts)))
    assert lines[0].startswith(f"s0-angry-0: {column}: got '{value}', expected '")
    assert "as it was started" in lines[0]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", None])
def test_damage_to_what_is_known_of_them_blames_no_utterance(copy: Path, plan: Any, content: bytes | None) -> None:
    path = copy / ".utterances.json"
    whole = path.read_bytes()
    place = whole.index(b'"s0"') + 2
    path.write_bytes(whole[:place] + b"9" + whole[place + 1 :] if content is None else content)
    plan(copy)
    assert path.read_bytes() == whole


def test_utterances_that_are_gone_are_named(copy: Path, plan: Any, bursts: Path) -> None:
    """Before anything else that follows from it, such as folds that cannot be made any more."""
    manifest = Manifest.read(bursts / "manifest.csv")
    few = manifest.where(np.arange(len(manifest)) < 4)
    with pytest.raises(AffektError) as raised:
        plan(copy, manifest=few)
    lines = [str(fault) for fault in raised.value.faults]
    assert lines[0].startswith("s0-neutral-0: got nothing, expected an utterance, as it was started")
    assert sum("as it was started" in line and "nothing" in line for line in lines) == 20
    assert "24 more utterances: got others, expected those that it was started with" in lines


def test_what_a_killed_process_left_is_cleared(copy: Path, plan: Any) -> None:
    shutil.rmtree(copy / JOB)
    (copy / JOB).mkdir()
    (copy / JOB / ".model.safetensors.123.tmp").write_bytes(b"half")
    (copy / JOB / "state.pt").write_bytes(b"half")
    experiment, _ = plan(copy)
    assert len(run(experiment)) == 3
    assert {path.name for path in (copy / JOB).iterdir()} == {*FILES, ".lock"}


class KilledError(Exception):
    pass


def test_a_job_goes_on_from_its_last_epoch(copy: Path, finished: Path, plan: Any) -> None:
    shutil.rmtree(copy / JOB)
    (copy / "summary.json").unlink()
    experiment, _ = plan(copy)

    def kill(job: TrainingJob, epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run_jobs(experiment, experiment.jobs, kill)
    assert {path.name for path in (copy / JOB).iterdir()} == {"state.pt", ".lock"}
    assert run(experiment) == [f"{JOB}:3"]
    finish(experiment)
    assert numbers(copy) == numbers(finished)


def test_seeds_are_of_corpus_protocol_fold_seed_and_system(plan: Any, tmp_path: Path) -> None:
    experiment, _ = plan(tmp_path / "run", seeds=2)
    assert len({experiment.job_seed(job) for job in experiment.jobs}) == len(experiment.jobs) == 8
    speaker, _ = plan(tmp_path / "speaker", protocol="speaker", seeds=2)
    assert not {*map(experiment.job_seed, experiment.jobs)} & {*map(speaker.job_seed, speaker.jobs)}
    assert [job.seed for job in experiment.jobs] == [0] * 4 + [1] * 4  # an interrupted run has all systems on some seed


def test_a_job_that_another_process_holds_is_left_to_it(copy: Path, plan: Any) -> None:
    shutil.rmtree(copy / JOB)
    experiment, _ = plan(copy)
    job = next(job for job in experiment.jobs if job.name == str(JOB))
    job.folder.mkdir()
    with FileLock(job.folder / ".lock"):
        assert take(experiment, job, lambda job, epoch: None) is False
        assert not job.done
    assert take(experiment, job, lambda job, epoch: None) is True
    assert job.done


def test_threads_are_the_experiment_s_and_given_back(copy: Path, plan: Any) -> None:
    shutil.rmtree(copy / JOB)
    experiment, _ = plan(copy)
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        run_jobs(experiment, experiment.jobs, lambda job, epoch: seen.append(torch.get_num_threads()))
        assert seen == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------------------------------------------- one run, one folder


@pytest.fixture(autouse=True)
def no_change_when_refused(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever is refused leaves the configuration of the run as it was."""
    if "refused" not in request.node.name or "copy" not in request.fixturenames:
        yield
        return
    path = request.getfixturevalue("copy") / "config.toml"
    before = path.read_bytes()
    yield
    assert path.read_bytes() == before


def faults_of(make: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        make()
    return [str(fault) for fault in raised.value.faults]


def test_another_experiment_is_refused_with_all_differences(copy: Path, plan: Any, bursts: Path) -> None:
    recipe = load(Recipe, bursts / "recipe.toml")
    recipe = replace(recipe, train=replace(recipe.train, max_epochs=9, augment=replace(recipe.train.augment, warp=0.1)))
    systems = (System("baseline"), System("focal", loss="am-softmax"))
    lines = faults_of(lambda: plan(copy, recipe=recipe, systems=systems, folds=3, fold_seed=7, threads=2))
    config = copy / "config.toml"
    assert f"{config}: folds: got 3, expected 2, as it was started; choose another folder with -o" in lines
    assert (
        f"{config}: recipe.train.max_epochs: got 9, expected 3, as it was started; choose another folder with -o"
        in lines
    )
    named = [line.removeprefix(f"{config}: ").partition(":")[0] for line in lines]
    expected = ["folds", "fold_seed", "threads", "recipe.train.augment.warp", "recipe.train.max_epochs"]
    assert named[:5] == expected
    assert {"systems.baseline.features.mels", "systems.baseline.network.filters", "systems.focal.loss"} <= {*named[5:]}


@pytest.mark.parametrize("change", ["label", "recording", "fold"])
def test_the_same_names_with_other_content_are_refused(
    copy: Path, plan: Any, bursts: Path, tmp_path: Path, change: str
) -> None:
    root = shutil.copytree(bursts, tmp_path / "bursts")
    table = Manifest.read(root / "manifest.csv").table
    options: dict[str, Any] = {}
    if change == "label":
        table.loc[:1, "label"] = "sad"
        table.loc[44:45, "label"] = "angry"
    elif change == "recording":
        soundfile.write(root / table["path"][0], np.sin(np.arange(4_000)), 16_000)
    else:
        folds = json.loads((copy / "folds.json").read_text())
        fold = folds["folds"][0]
        fold["train"][0], fold["validation"][0] = fold["validation"][0], fold["train"][0]
        (tmp_path / "folds.json").write_text(json.dumps(folds))
        options["protocol"] = tmp_path / "folds.json"
    lines = faults_of(lambda: plan(copy, manifest=Manifest(table, root), **options))
    expected = f"{copy / 'config.toml'}: got other recordings, labels or folds, expected those that it was started with"
    assert lines[-1] == f"{expected}; choose another folder with -o"
    named = {line.partition(": got")[0] for line in lines[:-1]}
    changed = [f"s0-angry-{take}: label" for take in (0, 1)] + [f"s5-neutral-{take}: label" for take in (0, 1)]
    assert named == {"label": {*changed}, "recording": {"s0-angry-0: audio"}, "fold": set()}[change]


@pytest.mark.parametrize("content", ["", "[experiment]\nname = 3\n", "experiment = 3\n", "[experiment\n"])
def test_a_folder_of_something_else_is_refused(plan: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "config.toml").write_text(content)
    (line,) = faults_of(lambda: plan(tmp_path))
    assert line.startswith(str(tmp_path / "config.toml"))


def test_systems_and_seeds_may_be_added(copy: Path, finished: Path, plan: Any, bursts: Path) -> None:
    both = resolve(str(bursts / "systems.toml"))
    more = replace(both[0], name="am-softmax", loss="am-softmax")
    added, _ = plan(copy, systems=(more,))
    assert len(run(added)) == 6
    seeds, _ = plan(copy, systems=both[:1], seeds=2)
    assert len(run(seeds)) == 6
    results = finish(seeds)
    assert results.systems == ("baseline", "focal", "am-softmax")
    assert results.seeds == (0, 1)
    assert results.protocol_line.split(" | ")[1] == "random 2-fold, 2 seeds"
    assert [str(job) for job in results.missing][:2] == ["focal/fold-0/seed-1", "focal/fold-1/seed-1"]
    kept = {name: content for name, content in numbers(copy).items() if "seed-0" in name and "am-softmax" not in name}
    assert kept == {name: content for name, content in numbers(finished).items() if name != "summary.json"}


def test_fewer_seeds_and_systems_forget_nothing(copy: Path, plan: Any, bursts: Path) -> None:
    plan(copy, seeds=3)
    plan(copy, systems=resolve(str(bursts / "systems.toml"))[1:], seeds=1)
    config = tomllib.loads((copy / "config.toml").read_text())["experiment"]
    assert (config["seeds"], config["systems"]) == (3, ["baseline", "focal"])
    assert "random 2-fold, 3 seeds" in config["line"]


def test_what_a_newer_version_added_has_its_default(copy: Path, plan: Any) -> None:
    config = tomllib.loads((copy / "config.toml").read_text())
    del config["systems"]["focal"]["features"]["floor"], config["recipe"]["train"]["gradient_clip"]
    (copy / "config.toml").write_text(tomli_w.dumps(config))
    experiment, _ = plan(copy)
    assert all(job.done for job in experiment.jobs)


def test_own_classes_are_compared_by_their_names(plan: Any, tmp_path: Path, bursts: Path) -> None:
    def squares(scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return scores.square().mean()

    own = replace(resolve(str(bursts / "systems.toml"))[0], loss=squares)
    plan(tmp_path / "run", systems=(own,))
    plan(tmp_path / "run", systems=(own,))
    (line,) = faults_of(lambda: plan(tmp_path / "run", systems=(replace(own, loss="focal"),)))
    assert "systems.baseline.loss: got 'focal', expected " in line
    assert "squares" in line


# ------------------------------------------------------------------------------------------------------------ bad input


def test_numbers_that_make_no_experiment(plan: Any, tmp_path: Path) -> None:
    lines = faults_of(lambda: plan_experiment(None, (), tmp_path, seeds=0, threads=0))  # type: ignore[arg-type]
    assert lines == [f"{name}: got 0, expected at least 1" for name in ("systems", "seeds", "threads")]
    assert list(tmp_path.iterdir()) == []


def test_systems_that_cannot_be_built_are_found_before_anything_is_trained(plan: Any, tmp_path: Path) -> None:
    three = System("three", loss="focal", loss_options={"alpha": [1.0, 2.0, 3.0]})
    lines = faults_of(lambda: plan(tmp_path / "run", systems=(three, System("x"), System("x", loss="focal"))))
    assert lines[0] == "system x: got 2 of that name, expected one"
    assert lines[1].startswith("system three: loss focal: alpha: got ")
    assert len(lines) == 2
    assert not (tmp_path / "run").exists()


def test_unknown_recipes_and_devices(plan: Any, tmp_path: Path) -> None:
    for option in ("recipe", "device"):
        (line,) = faults_of(lambda option=option: plan(tmp_path / "run", **{option: "nix"}))  # type: ignore[misc]
        assert line.startswith(f"{option}: got 'nix'")


def test_one_class_is_none(plan: Any, tmp_path: Path, bursts: Path) -> None:
    manifest = Manifest.read(bursts / "manifest.csv")
    (line,) = faults_of(lambda: plan(tmp_path / "run", manifest=manifest.where(np.array(manifest.labels) == "sad")))
    assert line == "classes: got sad, expected at least 2; choose other --labels"


def test_recordings_that_cannot_be_decoded_are_left_out_and_named(plan: Any, tmp_path: Path, bursts: Path) -> None:
    root = shutil.copytree(bursts, tmp_path / "bursts")
    manifest = Manifest.read(root / "manifest.csv")
    (root / manifest.table["path"][3]).write_text("no audio")
    experiment, failures = plan(tmp_path / "run", manifest=manifest)
    assert [manifest.table["path"][3] in str(fault) for fault in failures] == [True]
    assert len(experiment.data.manifest) == 47
    ids = [*experiment.data.manifest.ids]
    assert manifest.ids[3] not in ids
    clips = next(iter(experiment.data.clips.values()))
    for row in (0, 3, 46):  # features, labels and ids still belong together
        samples, _ = soundfile.read(bursts / f"{ids[row]}.wav", dtype="float32")
        assert len(clips[row]) == -(-len(samples) // 160)
        assert experiment.data.classes[experiment.data.labels[row]] in ids[row]


def test_labels_choose_the_classes(plan: Any, tmp_path: Path) -> None:
    experiment, _ = plan(tmp_path / "run", labels=LABEL_SETS["iemocap4"])
    assert experiment.data.classes == ("angry", "happy", "neutral", "sad")


def test_utterances_of_small_corpora_are_repeated(bursts: Path) -> None:
    """48 utterances: 36 of a corpus, 9 of another (4 times smaller: twice), 3 of a third (12 times: round(3.46))."""
    table = Manifest.read(bursts / "manifest.csv").table.copy()
    table["corpus"] = ["large"] * 36 + ["small"] * 9 + ["tiny"] * 3
    data = Data(Manifest(table, bursts), ("a", "b"), np.arange(48) % 2, {})
    part = data.balanced(data.part(table["id"]))
    assert np.bincount(part.rows).tolist() == [1] * 36 + [2] * 9 + [3] * 3
    assert np.array_equal(part.labels, part.rows % 2)


def test_speakers_of_different_corpora_are_different_and_empty_ones_unknown(bursts: Path) -> None:
    table = Manifest.read(bursts / "manifest.csv").table.iloc[:5].copy()
    table["corpus"] = ["one", "one", "other", "one", "other"]
    table["speaker"] = ["a", "b", "a", "", "a"]
    data = Data(Manifest(table, bursts), ("a", "b"), np.arange(5) % 2, {})
    part = data.part(table["id"])
    assert part.speakers is not None
    assert part.speakers.tolist() == [0, 1, 2, -1, 2]
    repeated = data.balanced(data.part(table["id"].iloc[:3]))
    assert repeated.speakers is not None
    assert repeated.speakers.tolist() == part.speakers[repeated.rows].tolist()


def test_the_protocol_line_states_a_clip_length_that_is_not_the_paper_s(
    plan: Any, tmp_path: Path, bursts: Path
) -> None:
    recipe = load(Recipe, bursts / "recipe.toml")
    short, _ = plan(tmp_path / "short", recipe=replace(recipe, clip_seconds=0.2))
    usual, _ = plan(tmp_path / "usual", recipe=replace(recipe, clip_seconds=7.5))
    assert short.line == f"{usual.line} | clips of 0.2 s"
    assert "clips" not in usual.line
    assert tomllib.loads((tmp_path / "short/config.toml").read_text())["experiment"]["line"] == short.line
    clips = [next(iter(experiment.data.clips.values())) for experiment in (short, usual)]
    assert int(clips[0].lengths.max()) < int(clips[1].lengths.max())
    with pytest.raises(ConfigError, match=r"recipe\.clip_seconds: got 7\.5, expected 0\.2"):
        plan(tmp_path / "short", recipe=replace(recipe, clip_seconds=7.5))


@pytest.mark.parametrize("balance", [True, False])
def test_the_recipe_says_whether_training_is_balanced(
    plan: Any, tmp_path: Path, bursts: Path, monkeypatch: pytest.MonkeyPatch, balance: bool
) -> None:
    table = Manifest.read(bursts / "manifest.csv").table.copy()
    table["corpus"] = ["large"] * 42 + ["small"] * 6
    recipe = replace(load(Recipe, bursts / "recipe.toml"), balance_corpora=balance)
    experiment, _ = plan(tmp_path / "run", manifest=Manifest(table, bursts), recipe=recipe)
    parts = []
    monkeypatch.setattr("affekt.experiments.jobs.fit", lambda *given, **_: parts.extend(given[2:4]) or fit(*given))
    run_job(experiment, experiment.jobs[0])
    train, validation = (np.bincount(part.rows, minlength=48) for part in parts)
    assert set(train[:42]) == {0, 1} == set(validation)
    ratio = (train[:42] > 0).sum() / (train[42:] > 0).sum()
    assert set(train[42:]) == {0, round(ratio**0.5) if balance else 1}
    assert ratio > 2.25  # so that the first differs from the second


def test_every_system_has_waveforms_at_its_own_rate(plan: Any, tmp_path: Path, bursts: Path) -> None:
    first = resolve(str(bursts / "systems.toml"))[0]
    features = replace(first.features, sample_rate_hz=8_000, fft_samples=256, high_hz=4_000.0)
    slow = replace(first, name="slow", features=features)
    experiment, _ = plan(tmp_path / "run", systems=(first, slow))
    store = WaveformStore.open(experiment.data.manifest, bursts / "cache", 8_000)
    clips = experiment.data.clips[features]
    for row in (0, 20, 47):
        samples = torch.from_numpy(np.array(store[row][:3_200]))[None]
        assert torch.equal(clips[row], LogMel(features)(samples)[0])
    assert abs(clips.lengths - experiment.data.clips[first.features].lengths).max() <= 1


def test_a_job_that_fails_does_not_stop_the_others(plan: Any, tmp_path: Path, bursts: Path) -> None:
    good = resolve(str(bursts / "systems.toml"))[0]

    def diverging(scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return scores.sum() * float("inf")

    experiment, _ = plan(tmp_path / "run", systems=(replace(good, name="bad", loss=diverging), good))
    done: list[str] = []
    with pytest.raises(AffektError) as raised:
        run_jobs(experiment, experiment.jobs, on_done=lambda job: done.append(job.name))
    assert done == ["baseline/fold-0/seed-0", "baseline/fold-1/seed-0"]
    starts = [f"job bad/fold-{fold}/seed-0: training of bad, epoch 1: got a loss of " for fold in range(2)]
    assert [str(fault)[: len(start)] for fault, start in zip(raised.value.faults, starts, strict=True)] == starts
    results = finish(experiment)
    assert [str(job) for job in results.missing] == ["bad/fold-0/seed-0", "bad/fold-1/seed-0"]
    assert isinstance(results, Results)


def test_progress_is_told(plan: Any, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    plan(tmp_path / "run", on_progress=lambda *step: told.append(step))
    assert told == [("features", done, 48) for done in range(1, 49)]


def test_the_folder_cannot_be_a_file(plan: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=os.strerror(17) if os.name == "posix" else ""):
        plan(tmp_path / "file")
