"""One model for use: what is left out is named, what is finished is kept, what is interrupted resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affekt.cli import main
from affekt.config import load
from affekt.data.manifest import Manifest
from affekt.data.training_audio import TrainingAudio
from affekt.data.waveform_store import WaveformStore
from affekt.errors import ConfigError
from affekt.experiments.train_model import train_model
from affekt.recognition.recognizer import Recognizer
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch, TrainingInterrupted
from affekt.training.recipes import Recipe
from affekt.training.systems import resolve

Train = Callable[..., tuple[Checkpoint, dict[str, Any]]]


@pytest.fixture
def train(bursts: Path) -> Train:
    """`train(out, ...)`: a tiny system on the bursts, three epochs."""

    def run(out: Path, **options: Any) -> tuple[Checkpoint, dict[str, Any]]:
        manifest = options.pop("manifest", None) or Manifest.read(bursts / "manifest.csv")
        system = resolve(str(bursts / "systems.toml"))[0]
        recipe = options.pop("recipe", None) or load(Recipe, bursts / "recipe.toml")
        return train_model(manifest, system, out, recipe=recipe, cache=bursts / "cache", **options)

    return run


def stop_after(number: int) -> Callable[[Epoch], None]:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == number:
            raise KeyboardInterrupt

    return stop


class TestInterrupted:
    def test_the_best_epoch_is_kept_and_the_same_call_ends_as_if_left_alone(self, train: Train, tmp_path: Path) -> None:
        whole, measures = train(tmp_path / "whole")
        with pytest.raises(TrainingInterrupted) as stop:
            train(tmp_path / "cut", on_epoch=stop_after(2))
        assert len(stop.value.fitted.history) == 2
        kept = Checkpoint.load(tmp_path / "cut" / "model.safetensors")
        assert kept.provenance["interrupted_after_epoch"] == 2
        assert len(pd.read_csv(tmp_path / "cut" / "history.csv")) == 2
        resumed, again = train(tmp_path / "cut")
        assert again == measures
        assert "interrupted_after_epoch" not in resumed.provenance
        for name, tensor in whole.weights.items():
            assert tensor.equal(resumed.weights[name]), name
        assert not (tmp_path / "cut" / "state.pt").exists()

    def test_what_is_kept_is_the_best_and_not_the_last(self, train: Train, tmp_path: Path, bursts: Path) -> None:
        """With a rate that destroys the network, the second epoch is worse; the kept weights are the first's."""
        recipe = load(Recipe, bursts / "recipe.toml")
        recipe = replace(recipe, train=replace(recipe.train, monitor="loss", learning_rate=1.0))
        seen: list[Epoch] = []

        def stop(epoch: Epoch) -> None:
            seen.append(epoch)
            if epoch.epoch == 3:
                raise KeyboardInterrupt

        with pytest.raises(TrainingInterrupted) as stopped:
            train(tmp_path / "m", recipe=recipe, on_epoch=stop)
        best = min(seen, key=lambda epoch: epoch.validation_loss).epoch
        assert stopped.value.fitted.best_epoch == best
        measures = json.loads((tmp_path / "m" / "validation.json").read_text())
        assert measures["best_epoch"] == best
        assert measures["ua"] == pytest.approx(seen[best - 1].validation_ua)

    def test_before_the_first_epoch_nothing_is_kept(self, train: Train, tmp_path: Path) -> None:
        def stop(what: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as error:
            train(tmp_path / "m", on_progress=stop)
        assert not isinstance(error.value, TrainingInterrupted)
        assert list((tmp_path / "m").iterdir()) == []

    def test_the_command_says_so(
        self, bursts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from affekt.experiments.progress import ModelProgress

        words = ["train", str(bursts / "manifest.csv"), "-o", str(tmp_path / "m"), "--system", one(bursts, tmp_path)]
        words += ["--recipe", str(bursts / "recipe.toml"), "--cache", str(bursts / "cache")]
        with monkeypatch.context() as patch:
            patch.setattr(ModelProgress, "on_model_epoch", lambda self, epoch: stop_after(2)(epoch))
            assert main(words) == 130
        error = capsys.readouterr().err
        assert "interrupted after epoch 2; the best epoch so far" in error
        assert "the same command resumes" in error
        assert main(words) == 0
        assert "affekt predict --model" in capsys.readouterr().out
        assert Recognizer.load(tmp_path / "m" / "model.onnx").labels == ("angry", "happy", "neutral", "sad")
        assert main(words) == 2
        assert "a finished model" in capsys.readouterr().err
        assert main([*words, "--force", "--license", "CC0-1.0"]) == 0
        assert "license of the weights: CC0-1.0" in capsys.readouterr().out
        assert Recognizer.load(tmp_path / "m" / "model.onnx").card.license == "CC0-1.0"


def one(bursts: Path, folder: Path) -> str:
    """A file with the first of the tiny systems."""
    text = (bursts / "systems.toml").read_text().split("[focal]")[0]
    (folder / "one.toml").write_text(text)
    return str(folder / "one.toml")


class TestFolder:
    def test_a_finished_model_is_not_replaced(self, train: Train, tmp_path: Path) -> None:
        train(tmp_path / "m")
        before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
        with pytest.raises(ConfigError, match=r"got a finished model, expected a new folder; .*--force"):
            train(tmp_path / "m", seed=1)
        assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
        train(tmp_path / "m", seed=1, force=True)
        assert (tmp_path / "m" / "model.safetensors").read_bytes() != before["model.safetensors"]

    def test_files_of_something_else_are_not_replaced(self, train: Train, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text("[experiment]\n")
        with pytest.raises(ConfigError, match=r"got other files of that name: config\.toml"):
            train(tmp_path)
        assert (tmp_path / "config.toml").read_text() == "[experiment]\n"


class TestLeftOut:
    @pytest.fixture
    def damaged(self, bursts: Path, tmp_path: Path) -> Manifest:
        """The bursts, one absent and one no audio."""
        table = Manifest.read(bursts / "manifest.csv").table.copy()
        (tmp_path / "wav").mkdir()
        for path in table["path"]:
            (tmp_path / "wav" / path).symlink_to(bursts / path)
        (tmp_path / "wav" / table["path"][3]).unlink()
        (tmp_path / "wav" / table["path"][5]).unlink()
        (tmp_path / "wav" / table["path"][5]).write_bytes(b"no audio" * 99)
        return Manifest(table, tmp_path / "wav")

    def test_recordings_are_named_and_everything_else_is_delivered(
        self, damaged: Manifest, bursts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damaged.write(tmp_path / "m.csv")
        words = ["train", str(tmp_path / "m.csv"), "-o", str(tmp_path / "m"), "--system", one(bursts, tmp_path)]
        assert main([*words, "--recipe", str(bursts / "recipe.toml"), "--cache", str(tmp_path / "cache")]) == 1
        out, error = capsys.readouterr()
        gone, broken = damaged.ids[3], damaged.ids[5]
        assert f"affekt: left out: No such file: {damaged.audio_paths()[3]} (utterance {gone})" in error
        assert f"affekt: left out: {broken}: " in error
        assert "left out: 2 recordings, named in" in out
        named = json.loads((tmp_path / "m" / "validation.json").read_text())["left_out"]
        assert len(named) == 2
        assert named[0].endswith(f"(utterance {gone})")
        assert named[1].startswith(f"{broken}: ")
        assert (tmp_path / "m" / "model.onnx").exists()

    def test_the_report_of_an_experiment_names_them(
        self, damaged: Manifest, bursts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damaged.write(tmp_path / "m.csv")
        words = ["experiment", str(tmp_path / "m.csv"), "-o", str(tmp_path / "run"), "--folds", "2", "--jobs", "1"]
        words += ["--systems", one(bursts, tmp_path), "--recipe", str(bursts / "recipe.toml")]
        assert main([*words, "--train.max-epochs", "1", "--cache", str(tmp_path / "cache")]) == 1
        gone, broken = damaged.ids[3], damaged.ids[5]
        assert f"(utterance {gone})" in capsys.readouterr().err
        for report in ("report.md", "report.html", "report.tex"):
            found = sorted((tmp_path / "run").rglob(report))
            assert found, report
            text = found[0].read_text()
            assert "Recordings left out (2)" in text
            assert gone in text
            assert broken in text

    @pytest.mark.parametrize("verb", ["train", "experiment"])
    def test_a_wrong_folder_is_one_line_however_many_recordings(
        self, verb: str, bursts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = Manifest.read(bursts / "manifest.csv").table
        Manifest(table, tmp_path / "nowhere").write(tmp_path / "m.csv")
        words = [verb, str(tmp_path / "m.csv"), "-o", str(tmp_path / "m"), "--cache", str(tmp_path / "cache")]
        assert main(words) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("affekt: error: No such file: ")
        assert "(utterance s0-angry-0), " in line
        assert line.endswith(" and 45 more")

    def test_many_are_one_line(self, bursts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        table = Manifest.read(bursts / "manifest.csv").table
        (tmp_path / "wav").mkdir()
        rows = table["speaker"].isin(["s0", "s1", "s2", "s3"])
        for path in table["path"][rows]:
            (tmp_path / "wav" / path).symlink_to(bursts / path)
        Manifest(table, tmp_path / "wav").write(tmp_path / "m.csv")
        words = ["train", str(tmp_path / "m.csv"), "-o", str(tmp_path / "m"), "--system", one(bursts, tmp_path)]
        assert main([*words, "--recipe", str(bursts / "recipe.toml"), "--cache", str(tmp_path / "cache")]) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
        assert len(lines) == 1
        assert "left out: No such file: " in lines[0]
        assert lines[0].endswith(" and 13 more")


class TestProvenance:
    def test_the_card_names_every_recording_that_was_seen(self, train: Train, bursts: Path, tmp_path: Path) -> None:
        made, _ = train(tmp_path / "m")
        seen = TrainingAudio.of(made.provenance)
        manifest = Manifest.read(bursts / "manifest.csv")
        hashes = WaveformStore.open(manifest, bursts / "cache").hashes
        assert all(value in seen for value in hashes)
        assert seen.corpora == {"bursts": 48}
        assert "license" not in made.provenance

    def test_columns_of_numbers_are_refused(self, train: Train, bursts: Path, tmp_path: Path) -> None:
        table = Manifest.read(bursts / "manifest.csv").table
        rng = np.random.default_rng(0)
        numbers = Manifest(table.assign(label=[f"{value:.3f}" for value in rng.random(len(table))]), bursts)
        with pytest.raises(ConfigError, match=r"got numbers \(0\.\d+, .*expected classes"):
            train(tmp_path / "m", manifest=numbers)
