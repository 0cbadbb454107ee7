"""Checkpoints: what is loaded is what was saved, bit for bit, or an error; and nothing in a file is ever executed."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from affekt.errors import CheckpointError
from affekt.features.log_mel import FeatureConfig, Normalizer
from affekt.nn import NetworkConfig
from affekt.nn.network import Output
from affekt.training.checkpoint import Checkpoint, _digest
from affekt.training.systems import System

CLASSES = ("angry", "happy", "neutral", "sad")
SMALL = NetworkConfig(filters=(4, 4), pools=(2, 2), lstm_cells_per_direction=3, pooling="combined", masked=True)
FEATURES = FeatureConfig(mels=8, fft_samples=1024, clip_seconds=2.0)
CENTRES = System("centers", network=SMALL, loss="center", loss_options={"weight": 0.1}, features=FEATURES)


def make(system: System = CENTRES) -> Checkpoint:
    """A checkpoint with random weights, in the memory layout that training leaves them in."""
    torch.manual_seed(0)
    network, loss = system.build(len(CLASSES))
    for parameter in loss.parameters():
        nn.init.normal_(parameter)
    network = network.to(memory_format=torch.channels_last)
    normalizer = Normalizer(tuple(np.linspace(-9, -7, 8).tolist()), tuple(np.linspace(1, 2, 8).tolist()))
    provenance = {"protocol": "emodb 4-class | random 5-fold", "fold": 3, "license": "CC0-1.0 — «frei»"}
    return Checkpoint(
        system, CLASSES, normalizer, network.state_dict(), loss.state_dict(), 1.2345678901234567, provenance
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make().save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def assert_same_tensors(left: dict[str, Tensor] | Any, right: dict[str, Tensor] | Any) -> None:
    assert sorted(left) == sorted(right)
    assert all(left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left)


def test_round_trip_is_exact(saved: Path) -> None:
    before, after = make(), Checkpoint.load(saved)
    assert_same_tensors(before.weights, after.weights)
    assert_same_tensors(before.loss_weights, after.loss_weights)
    assert len(after.loss_weights) == 1
    for name in ("system", "classes", "normalizer", "temperature", "provenance"):
        assert getattr(after, name) == getattr(before, name), name


def test_a_loaded_network_says_what_the_saved_one_said(saved: Path) -> None:
    features, lengths = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([40, 7, 22])
    before, loss_before = make().build()
    after, loss_after = Checkpoint.load(saved).build()
    assert torch.equal(before(features, lengths).scores, after(features, lengths).scores)
    assert torch.equal(loss_before.centers, loss_after.centers)
    assert not after.training


def test_equal_checkpoints_give_equal_bytes(tmp_path: Path) -> None:
    for number in range(8):  # safetensors writes several metadata keys in an order that changes from call to call
        make().save(tmp_path / f"{number}.safetensors")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 8


def test_every_flipped_byte_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, 8 + header, 40), *rng.integers(8 + header, len(whole), 40), 0, 7, 8, len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="affekt-checkpoint-1"):
            Checkpoint.load(saved)


@pytest.mark.parametrize("keep", [0, 4, 100, -4_000, -1])
def test_a_cut_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError):
        Checkpoint.load(saved)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=f"No such file: {path}; `affekt train` writes checkpoints"):
            Checkpoint.load(path)


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "executed"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    torch.save({"weights": Trap()}, tmp_path / "model.pt")
    for name in ("model.safetensors", "model.pt"):
        with pytest.raises(CheckpointError):
            Checkpoint.load(tmp_path / name)
    assert not trap.exists()
    pickle.loads((tmp_path / "model.safetensors").read_bytes())  # the trap is a real one
    assert trap.exists()


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> None:
    """Another writer's file: changed, with a hash that fits."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        card = json.loads(file.metadata()["affekt"])
    del card["sha256"]
    change(card, tensors)
    card["sha256"] = _digest(card, tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"affekt": json.dumps(card)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card, tensors: card.update(format="affekt-checkpoint-9"), "affekt-checkpoint-9"),
        (lambda card, tensors: card.pop("normalizer"), "normalizer"),
        (lambda card, tensors: card.update(system="mine:Net"), "does not hold"),
        (lambda card, tensors: card.update(classes=3), "does not hold"),
        (lambda card, tensors: card["system"].update(loss="nix"), "nix"),
        (lambda card, tensors: card["system"]["network"].update(filters="wide"), "filters"),
        (lambda card, tensors: tensors.update({"other.x": torch.zeros(1)}), "belong to nothing"),
        (lambda card, tensors: tensors["network.head.bias"].fill_(float("nan")), "not finite"),
    ],
)
def test_a_file_whose_description_does_not_hold_is_refused(saved: Path, change: Any, message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(saved)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for metadata in (None, {"format": "pt"}, {"affekt": "[]"}, {"affekt": "{"}):
        path.write_bytes(safetensors.torch.save({"network.x": torch.zeros(2)}, metadata))
        with pytest.raises(CheckpointError):
            Checkpoint.load(path)


@pytest.mark.parametrize("group", ["weights", "loss_weights"])
def test_missing_extra_and_misshapen_tensors_are_refused(group: str) -> None:
    whole = dict(getattr(make(), group))
    name = next(iter(whole))
    rest = {key: tensor for key, tensor in whole.items() if key != name}
    for wrong in (rest, whole | {"extra": torch.zeros(1)}, whole | {name: torch.zeros(7, 7)}):
        with pytest.raises(CheckpointError, match="its own network"):
            replace(make(), **{group: wrong}).build()


class Averages(nn.Module):
    """An own network: the mean of every band, and one layer."""

    def __init__(self, mels: int, classes: int, head: str) -> None:
        super().__init__()
        self.embedding_size = mels
        self.output = nn.Linear(mels, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Output:
        return Output(self.output(features.mean(1)), features.mean(1))


def test_own_classes_are_passed_in(tmp_path: Path) -> None:
    own = System("own", network=Averages, features=FEATURES)
    path = tmp_path / "own.safetensors"
    make(own).save(path)
    with pytest.raises(CheckpointError, match="pass the System"):
        Checkpoint.load(path)
    network, _ = Checkpoint.load(path, own).build()
    assert isinstance(network, Averages)
    assert torch.equal(network.output.weight, make(own).weights["output.weight"])


def test_a_system_with_other_features_is_not_passed_in(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"low_hz.: 20\.0.*low_hz=60\.0"):
        Checkpoint.load(saved, replace(CENTRES, features=replace(FEATURES, low_hz=60.0)))
