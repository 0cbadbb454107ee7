"""Prior systems in an experiment: like any other, one prediction an utterance, and checkpoints that load back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from affekt.data.corpora import synthetic
from affekt.errors import ConfigError
from affekt.experiments.workers import run_experiment
from affekt.features.clips import Clips
from affekt.features.frontends import Deltas, Spectrogram, Waveform
from affekt.features.log_mel import FeatureConfig, Normalizer
from affekt.features.pieces import Segments
from affekt.report.quoted import TABLE_1
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Fitted, Subset, as_subset
from affekt.training.fitting import fit
from affekt.training.recipes import RECIPES, Recipe
from affekt.training.scoring import score
from affekt.training.systems import GROUPS, SYSTEMS, System, from_system_dict, load_systems
from affekt.training.train_config import TrainConfig

SMALL = {
    "lstm": {"cells": 4, "dense": 4},
    "lstm-attention": {"hidden": 8, "cells": 4},
    "rnn-attention": {"hidden": 8, "cells": 4},
    "cnn-blstm": {"maps": (2, 3, 4), "cells": 4, "dense": 4},
    "tdnn-lstm": {"filters": 4, "width": 8, "projection": 4, "heads": 2},
    "resnet-mha": {"width": 2, "heads": 2, "dense": 8},
    "crnn-3d": {"maps": 2, "convolutions": 2, "hidden": 8, "cells": 4, "dense": 4},
    "functionals-svm": {},
    "descriptors-svm": {},
    "ecapa": {"channels": 8, "scale": 2, "bottleneck": 4, "embedding": 4},
}
ONE_EPOCH = Recipe("one epoch", TrainConfig(batch_size=8, max_epochs=1, precision="float32"))


def small(name: str) -> System:
    """A row of the tables with a narrow network and pieces of a second."""
    system = SYSTEMS[name]
    segments = system.segments and replace(system.segments, seconds=1.0)
    return replace(system, network_options={**system.network_options, **SMALL[name]}, segments=segments)


def test_table_1_is_whole() -> None:
    assert {name for row in TABLE_1 for name in row.systems} == {system.name for system in GROUPS["table1"]}
    names = {system.name for system in GROUPS["study"]}
    assert names >= {system.name for group in ("table1", "table2", "integration") for system in GROUPS[group]}


@pytest.mark.parametrize("name", [*SMALL, "egemaps-svm"])
def test_what_files_say_brings_a_system_back(name: str) -> None:
    for system in (SYSTEMS[name], small(name) if name in SMALL else SYSTEMS[name]):
        assert from_system_dict(json.loads(json.dumps(system.to_dict()))) == system


def test_files_say_of_the_other_systems_what_they_always_said() -> None:
    keys = ["name", "loss", "loss_options", "network", "features"]
    for name in ("baseline", "am-softmax", "focal", "combined"):
        assert list(SYSTEMS[name].to_dict()) == keys
        assert "kind" not in SYSTEMS[name].to_dict()["features"]


def test_a_row_of_ones_own_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[mine]\nnetwork = "crnn-3d"\nnetwork_options = { maps = 8, pool = [2, 4] }\n'
        'features = { kind = "deltas", mels = 20 }\nsegments = { seconds = 2.0, combine = "max" }\n'
    )
    (mine,) = load_systems(path)
    options = {"maps": 8, "pool": (2, 4)}
    assert mine == System(
        "mine", "crnn-3d", features=Deltas(mels=20), network_options=options, segments=Segments(2.0, "max")
    )
    assert mine.build(4)[0].embedding_size == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('network = "crnn"', "network: got 'crnn', expected one of lstm"),
        ('network = "ecapa"\nnetwork_options = { width = 3 }', "network ecapa: option 'width': got an unknown name"),
        ('features = { kind = "cqt" }', "features.kind: got 'cqt', expected one of log-mel"),
        ('features = { kind = "spectrogram", bin = 3 }', "features: bin: got an unknown key"),
        ('features = { kind = "deltas", mels = 0 }', "mels: got 0, expected 1 to 256"),
        ("segments = { seconds = -1.0 }", "segments.seconds: got -1.0, expected above 0"),
        ('segments = { combine = "mean" }', "segments.seconds: got nothing"),
    ],
)
def test_faults_of_such_a_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[mine]\n{text}\n")
    with pytest.raises(ConfigError, match="mine") as caught:
        load_systems(path)
    assert message in str(caught.value)


@pytest.mark.slow
def test_an_experiment_of_them_all(tmp_path: Path) -> None:
    manifest = synthetic.write(tmp_path / "corpus", speakers=2, sentences=3)
    systems = [small(name) for name in SMALL]
    results = run_experiment(manifest, systems, tmp_path / "run", folds=2, recipe=ONE_EPOCH)
    for system in systems:
        own = results.predictions[results.predictions["system"] == system.name]
        assert sorted(own["id"]) == sorted(manifest.ids)
        folder = tmp_path / "run" / system.name / "fold-0" / "seed-0"
        table = pd.read_csv(folder / "predictions.csv")
        posteriors = table.filter(like="prob.").to_numpy()
        np.testing.assert_allclose(posteriors.sum(1), 1, atol=1e-5)
        loaded = Checkpoint.load(folder / "model.safetensors")
        assert loaded.system == system
        network, _ = loaded.build()
        embeddings = np.load(folder / "embeddings.npy")
        assert embeddings.shape == (len(table), network.embedding_size)
    again = run_experiment(manifest, systems, tmp_path / "run", folds=2, recipe=ONE_EPOCH)
    assert len(again.jobs) == 2 * len(systems)


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)


def test_a_loaded_checkpoint_says_what_the_trained_network_said(tmp_path: Path) -> None:
    system = small("crnn-3d")
    clips = Clips.from_waveforms([noise(0.5 + 0.4 * row, row) for row in range(6)], system.features)
    part = as_subset(range(4), np.array([0, 1, 0, 1]))
    fitted = fit(system, clips, part, part, 2, ONE_EPOCH.train, seed=0)
    Checkpoint(system, ("a", "b"), fitted.normalizer, fitted.network.state_dict(), fitted.loss.state_dict()).save(
        tmp_path / "c.safetensors"
    )
    loaded = Checkpoint.load(tmp_path / "c.safetensors")
    network, loss = loaded.build()
    back = Fitted(loaded.system, network, loss, loaded.normalizer, [], 1)
    rows = np.array([5, 0, 3])
    before, after = (score(which, clips, rows, ONE_EPOCH.train) for which in (fitted, back))
    np.testing.assert_array_equal(before.logits, after.logits)
    np.testing.assert_array_equal(before.embeddings, after.embeddings)


def test_an_utterance_is_scored_by_its_pieces() -> None:
    """Each piece alone, combined by hand."""
    system = small("crnn-3d")
    clips = Clips.from_waveforms([noise(2.4, 0), noise(0.7, 1)], system.features)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, loss = system.build(3)
    fitted = Fitted(system, network.eval(), loss, clips.normalizer([0, 1]), [], 1)
    logits = score(fitted, clips, np.array([0, 1]), ONE_EPOCH.train).logits
    features = fitted.normalizer(clips[0])
    with torch.inference_mode():
        pieces = [network(features[start : start + 100][None]).scores.softmax(1)[0] for start in (0, 70, 140)]
        whole = network(fitted.normalizer(clips[1])[None]).scores.softmax(1)[0]
    np.testing.assert_allclose(np.exp(logits[0]), torch.stack(pieces).amax(0).numpy(), rtol=1e-4)
    np.testing.assert_allclose(np.exp(logits[1]), whole.numpy(), rtol=1e-4)


@pytest.mark.parametrize("name", ["crnn-3d", "cnn-blstm", "functionals-svm", "tdnn-lstm"])
def test_normalizer_is_fitted_on_training_utterances_only(name: str) -> None:
    system = small(name)
    loud = [noise(1.3, row) * (1 + 9 * (row >= 4)) for row in range(8)]
    clips = Clips.from_waveforms(loud, system.features)
    train, rest = as_subset(range(4), np.arange(8) % 2), as_subset(range(4, 8), np.arange(8) % 2)
    fitted = fit(system, clips, train, rest, 2, ONE_EPOCH.train, seed=0)
    expected = Normalizer.fit([clips[row].numpy() for row in range(4)])
    assert fitted.normalizer == expected
    assert expected != Normalizer.fit([clips[row].numpy() for row in range(8)])


def test_training_sees_pieces_each_with_its_utterances_label() -> None:
    """With a network that says how many pieces of which length it was shown."""
    shown: list[tuple[int, int]] = []
    system = System("probe", probe(shown), features=Deltas(mels=4), segments=Segments(1.0))
    clips = Clips.from_waveforms([noise(seconds, 1) for seconds in (0.5, 2.5, 1.0)], system.features)
    train = Subset(np.arange(3), np.array([0, 1, 0]))
    fit(system, clips, train, train, 2, replace(ONE_EPOCH.train, batch_size=16), seed=0)
    assert shown[0] == (5, 100)  # 1 + 3 + 1 pieces, padded to the longest


def probe(shown: list[tuple[int, int]]):
    from affekt.nn import Output

    class Probe(torch.nn.Module):
        def __init__(self, dims: int, classes: int, head: str) -> None:
            super().__init__()
            self.embedding_size = dims
            self.output = torch.nn.Linear(dims, classes)

        def forward(self, features, lengths=None) -> Output:
            shown.append(tuple(features.shape[:2]))
            return Output(self.output(features.mean(1)), features.mean(1))

    return Probe


def test_recipes_change_what_they_can_change() -> None:
    robust = RECIPES["robust"]
    for front_end in (Waveform(), Spectrogram()):
        system = System("own", "ecapa", features=front_end)
        assert robust.apply(system) == system
    assert robust.apply(SYSTEMS["ecapa"]).features == FeatureConfig(level=robust.level)
