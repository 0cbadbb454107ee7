"""Systems: the paper's rows as rows, own ones from files, and every fault of a file at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.features.log_mel import FeatureConfig
from affekt.losses import Loss
from affekt.nn import Network, NetworkConfig
from affekt.training.systems import GROUPS, SYSTEMS, TABLE2, System, from_system_dict, load_systems, resolve

PAPER_ROWS = [
    ("softmax", {}, "attention"),
    *(("am-softmax", {"scale": s, "margin": m}, "attention") for s in (10, 30) for m in (0.1, 0.2, 0.4)),
    *(("focal", {"gamma": gamma, "alpha": alpha}, "attention") for gamma in (2, 5) for alpha in (1, 2, 4)),
    ("softmax", {}, "combined"),
]
"""Table 2, from top to bottom."""


def test_table_2_has_the_paper_s_14_rows() -> None:
    rows = [(system.loss, dict(system.loss_options), system.network.pooling) for system in TABLE2]  # type: ignore[union-attr]
    assert rows == PAPER_ROWS
    assert len({system.name for system in TABLE2}) == 14
    assert [system.name for system in TABLE2][:2] == ["baseline", "am-softmax-s10-m0.1"]
    for system in TABLE2:
        assert isinstance(system.network, NetworkConfig)
        assert not system.network.masked
        assert system.features == FeatureConfig()


def test_the_headline_has_the_settings_that_the_paper_found_best() -> None:
    found = {system.name: (system.loss, dict(system.loss_options)) for system in GROUPS["headline"]}
    assert found == {
        "baseline": ("softmax", {}),
        "am-softmax": ("am-softmax", {"scale": 10, "margin": 0.4}),
        "focal": ("focal", {"gamma": 2, "alpha": 2}),
        "combined": ("softmax", {}),
    }


def test_the_integration_is_every_loss_with_every_pooling() -> None:
    cells = {(system.loss, system.network.pooling) for system in GROUPS["integration"]}  # type: ignore[union-attr]
    losses = ("softmax", "am-softmax", "focal", "am-focal")
    assert cells == {(loss, pooling) for loss in losses for pooling in ("attention", "combined")}
    assert len(GROUPS["integration"]) == 8


def test_one_name_is_one_system_in_every_group() -> None:
    for group in GROUPS.values():
        assert all(SYSTEMS[system.name] == system for system in group)
        assert len({system.name for system in group}) == len(group)


def test_names_groups_and_files_in_the_order_asked_for_each_once(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[wide]\nloss = 'focal'\n[narrow]\n")
    names = [system.name for system in resolve(f"combined, headline,{tmp_path / 'own.toml'},baseline")]
    assert names == ["combined", "baseline", "am-softmax", "focal", "wide", "narrow"]
    assert resolve(["baseline"]) == (SYSTEMS["baseline"],)
    assert resolve("table2") == TABLE2


OWN = """
[wide-margin]
loss = "am-softmax"
loss_options = { scale = 20, margin = 0.5 }

[wide-margin.network]
filters = [16, 16]
pools = [4, 4]
lstm_cells_per_direction = 8
pooling = "combined"
masked = true

[weighted]
loss = "focal"
loss_options = { gamma = 3.0, alpha = [1.0, 2.0, 1.0, 1.0] }
features = { mels = 24, clip_seconds = 3.0 }

[counted]
loss = "focal"
loss_options = { alpha = "class-balanced", beta = 0.99 }
"""


def test_own_systems_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    wide, weighted, counted = load_systems(path)
    network = NetworkConfig((16, 16), 3, (4, 4), lstm_cells_per_direction=8, pooling="combined", masked=True)
    assert wide == System("wide-margin", network, "am-softmax", {"scale": 20, "margin": 0.5})
    options = {"gamma": 3.0, "alpha": (1.0, 2.0, 1.0, 1.0)}
    assert weighted == System(
        "weighted", loss="focal", loss_options=options, features=FeatureConfig(mels=24, clip_seconds=3.0)
    )
    _, loss = weighted.build(4)
    assert loss.alpha.tolist() == [1.0, 2.0, 1.0, 1.0]  # type: ignore[operator,union-attr]
    _, loss = counted.build(2, [1, 100])
    assert loss.alpha[0] > 10 * loss.alpha[1]  # type: ignore[index]


FAULTY = """
flat = 3
["bad name"]
los = "focal"
[twice]
name = "other"
network = 3
loss_options = { scale = 3 }
[numbers]
network = { pools = [2], pooling = "nix" }
loss = "am-softmax"
loss_options = { scale = -1, classes = 3, margim = 2 }
features = { mels = 0 }
[types]
loss = ["focal"]
loss_options = "x"
"""
FAULTS = [
    "[flat]: got 3",
    "[bad name]: los: got an unknown key; did you mean loss?",
    "[bad name]: system name: got 'bad name'",
    "[twice]: name: got an unknown key",
    "[twice]: network: got 3, expected a table",
    "[twice]: loss softmax: option 'scale': got an unknown name",
    "[numbers]: network.network: pools: got (2,)",
    "[numbers]: network.network: pooling: got 'nix'",
    "[numbers]: features.features.mels: got 0",
    "[numbers]: loss am-softmax: option 'classes': got an unknown name",
    "[numbers]: loss am-softmax: option 'margim': got an unknown name",
    "[numbers]: loss am-softmax: scale: got -1",
    "[types]: loss: got ['focal'], expected text",
    "[types]: loss_options: got 'x', expected a table",
]


def test_every_fault_of_every_file_and_name_at_once(tmp_path: Path) -> None:
    path = tmp_path / "faulty.toml"
    path.write_text(FAULTY)
    (tmp_path / "same.toml").write_text("[baseline]\nloss = 'focal'\n")
    (tmp_path / "broken.toml").write_text("[x\n")
    (tmp_path / "empty.toml").write_text("")
    files = [str(tmp_path / name) for name in ("same.toml", "none.toml", "broken.toml", "empty.toml")]
    with pytest.raises(ConfigError) as raised:
        resolve([str(path), "nix", "baseline", *files])
    lines = [str(fault) for fault in raised.value.faults]
    expected = [f"{path}: {fault}" for fault in FAULTS]
    expected += ["system: got 'nix', expected a group (headline, table2", "system baseline: got two that differ"]
    expected += [f"No such file: {files[1]}", f"{files[2]}: got ", f"systems {files[3]}: got no table"]
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", "-dash", ".hidden", "ä"])
def test_names_that_are_no_folder_names(name: str) -> None:
    with pytest.raises(ConfigError, match="system name"):
        System(name)


def test_options_are_checked_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError) as raised:
        System("x y", loss="focal", loss_options={"gamma": -1, "alpha": [1, 0], "delta": 3})
    wrong = [fault.what for fault in raised.value.faults]
    assert wrong == ["system name", "loss focal: option 'delta'", "loss focal: gamma", "loss focal: alpha"]
    with pytest.raises(ConfigError, match="loss: got 'nix', expected one of softmax, am-softmax"):
        System("x", loss="nix")


@pytest.mark.parametrize("name", SYSTEMS)
def test_descriptions_come_back(name: str) -> None:
    system = SYSTEMS[name]
    described = json.loads(json.dumps(system.to_dict()))
    assert from_system_dict(described) == system


@pytest.mark.parametrize("system", TABLE2, ids=lambda system: system.name)
def test_the_head_is_what_the_loss_wants_and_all_can_be_built(system: System) -> None:
    network, loss = system.build(4)
    assert system.head == loss.head == ("cosine" if system.loss == "am-softmax" else "linear")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    bias = 4 if system.loss == "am-softmax" else 0
    assert parameters == 380_292 - bias + 256 * (system.name == "combined")


class Hinge(Loss):
    """An own loss with an option, on cosines."""

    head = "cosine"

    def __init__(self, classes: int, features: int, margin: float = 1.0) -> None:
        super().__init__(classes, features)
        self.margin = margin

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.multi_margin_loss(scores, labels, margin=self.margin)


class Mean(nn.Module):
    """An own pooling."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features

    def forward(self, sequence: Tensor, mask: Tensor | None = None) -> Tensor:
        return sequence.mean(1)


def test_own_losses_poolings_and_networks() -> None:
    small = NetworkConfig((8,), 3, (2,), lstm_cells_per_direction=4, pooling=Mean)
    system = System("own", small, Hinge, {"margin": 0.5})
    network, loss = system.build(3)
    assert system.head == "cosine"
    assert (loss.margin, loss.classes, loss.features) == (0.5, 3, 8)  # type: ignore[union-attr]
    assert isinstance(network.pooling, Mean)  # type: ignore[union-attr]

    def squares(scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return scores.square().mean()

    function = System("function", small, squares, {"head": "cosine"})
    assert function.head == "cosine"
    _, loss = function.build(3)
    assert float(loss(torch.full((2, 3), 2.0), torch.zeros(2, 8), torch.tensor([0, 1]))) == 4.0
    assert System("linear", small, squares).head == "linear"

    def network_of(mels: int, classes: int, head: Any) -> nn.Module:
        return Network(small, mels, classes, head)

    own, _ = System("net", network_of).build(3)
    assert isinstance(own, Network)
    assert System("net", network_of).masked
    for made, key in ((system, "loss"), (function, "loss"), (System("net", network_of), "network")):
        described = json.loads(json.dumps(made.to_dict()))
        assert described[key].startswith(f"{__name__}:")
        with pytest.raises(ConfigError, match=rf"system: {key}"):
            from_system_dict(described)


def test_own_poolings_are_described_by_their_name() -> None:
    described = System("own", NetworkConfig(pooling=Mean)).to_dict()
    assert json.loads(json.dumps(described))["network"]["pooling"] == f"{__name__}:Mean"
    with pytest.raises(ConfigError, match="pooling"):
        from_system_dict(described)


def test_an_own_network_has_to_say_how_long_its_feature_is() -> None:
    for wrong in (nn.Linear(2, 2), None):
        with pytest.raises(ConfigError, match=r"network of own: .*embedding_size"):
            System("own", lambda mels, classes, head, made=wrong: made).build(4)  # type: ignore[misc,arg-type,return-value]
