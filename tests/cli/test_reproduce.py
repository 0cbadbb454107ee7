"""`affekt reproduce` plans the paper's experiment on IEMOCAP and, by the same command, on another corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from affekt import cli
from affekt.cli import reproduce as verb
from affekt.data.clip_length import clip_length_seconds
from affekt.data.manifest import Manifest
from affekt.experiments import plan


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, dict[str, Any]]]:
    """Arguments of every experiment that was planned; none is run."""
    seen: list[tuple[Path, dict[str, Any]]] = []

    class Planned:
        recipe = verb.changed_recipe("paper", None)

    def plan_experiment(manifest: Manifest, systems: Any, out: Path, **options: Any) -> tuple[Planned, int]:
        seen.append((out, options | {"manifest": manifest, "systems": [system.name for system in systems]}))
        return Planned(), 0

    monkeypatch.setattr(plan, "plan_experiment", plan_experiment)
    for name in ("say_left_out", "print_estimate", "conclude"):
        monkeypatch.setattr(verb, name, lambda *arguments: None)
    monkeypatch.setattr(verb, "run_with_progress", lambda *arguments: 0)
    return seen


@pytest.fixture
def crema_d(tmp_path: Path) -> Path:
    """Twenty recordings of CREMA-D, of 1.0 to 2.9 s."""
    rng = np.random.default_rng(0)
    for number in range(20):
        label = ("ANG", "HAP", "NEU", "SAD")[number % 4]
        path = tmp_path / "crema" / "AudioWAV" / f"10{number // 4:02d}_DFA_{label}_XX.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(16_000 + 1_600 * number), 16_000)
    return tmp_path / "crema"


def test_another_corpus_is_an_option(
    crema_d: Path, planned: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", str(crema_d), "--corpus", "crema-d"]) == 0
    out, options = planned[0]
    assert out == Path("runs/crema-d")
    assert (options["protocol"], options["seeds"], len(options["systems"])) == ("random", 1, 14)
    assert options["recipe"].clip_seconds == pytest.approx(np.quantile(np.arange(1.0, 2.95, 0.1), 0.856), abs=0.005)
    assert options["recipe"].train == verb.changed_recipe("paper", None).train
    assert (tmp_path / "runs/crema-d/iemocap4.csv").exists()


def test_the_paper_s_corpus_keeps_the_paper_s_clip(
    crema_d: Path, planned: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "PAPER_CORPUS", "crema-d")
    assert cli.main(["reproduce", str(crema_d), "--corpus", "crema-d", "-o", str(tmp_path / "out")]) == 0
    assert planned[0][1]["recipe"] == verb.changed_recipe("paper", None)
    again = ["reproduce", str(crema_d), "--corpus", "crema-d", "-o", str(tmp_path / "out"), "--clip-seconds", "2"]
    assert cli.main(again) == 0
    assert planned[1][1]["recipe"].clip_seconds == 2


def test_an_unknown_corpus_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", str(tmp_path), "--corpus", "crema_d"]) == 2
    assert "corpus: got 'crema_d', expected one of iemocap" in capfd.readouterr().err


def test_the_clip_length_is_a_quantile_of_the_durations(crema_d: Path) -> None:
    paths = sorted(path.name for path in (crema_d / "AudioWAV").iterdir())
    rows = [{"id": name, "path": f"AudioWAV/{name}", "label": "sad"} for name in paths]
    manifest = Manifest.from_rows(rows, crema_d)
    assert clip_length_seconds(manifest, 1.0) == pytest.approx(2.9)
    assert clip_length_seconds(manifest, 0.5) == pytest.approx(1.95)
