"""Exported files against PyTorch: every pooling, head and mode, on noise and on real recordings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from affekt import audio
from affekt.errors import CheckpointError, ConfigError
from affekt.export import onnx_file
from affekt.export.graph.builder import OPSET
from affekt.features.log_mel import FeatureConfig
from affekt.nn import POOLINGS, NetworkConfig
from affekt.training.checkpoint import Checkpoint
from affekt.training.systems import System

MakePipeline = Callable[..., onnx_file.Pipeline]
DESCRIPTION = onnx_file.Description(("angry", "happy", "neutral", "sad"), license="CC0-1.0")


def agreement(pipeline: onnx_file.Pipeline, waveforms: Any) -> onnx_file.Agreement:
    model = onnx_file.build(pipeline, onnx_file._card(pipeline, DESCRIPTION, "float32"))
    return onnx_file.compare(pipeline, model.SerializeToString(), onnx_file._batches(waveforms))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_parity_on_noise(make_pipeline: MakePipeline, pooling: str, masked: bool) -> None:
    """Utterances of all lengths in one batch: a third of a frame, and longer than a clip."""
    pipeline = make_pipeline(masked, pooling, clip_seconds=2.0)
    found = agreement(pipeline, onnx_file.noise(pipeline.features, count=6))
    assert found.largest_difference < onnx_file.TOLERANCE
    assert found.equal_decisions == 1


@pytest.mark.parametrize(
    "options",
    [
        {"head": "cosine"},
        {"kernel": 5, "pools": (3, 2, 1)},
        {"mels": 23, "pools": (1, 2, 2)},
        {"clip_seconds": 0.77},
        {"level": 0.05},
    ],
    ids=["cosines", "large kernel and pool", "odd mels", "odd clip", "one loudness"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_parity_of_other_shapes(make_pipeline: MakePipeline, masked: bool, options: dict[str, Any]) -> None:
    pipeline = make_pipeline(masked, **{"clip_seconds": 2.0} | options)
    assert agreement(pipeline, onnx_file.noise(pipeline.features)).largest_difference < onnx_file.TOLERANCE


@pytest.mark.parametrize("masked", [False, True])
def test_parity_on_real_recordings(make_pipeline: MakePipeline, corpora: Path, masked: bool) -> None:
    """The paper's own network, untrained, on recordings of three corpora."""
    files = [
        next((corpora / folder).rglob(pattern))
        for folder, pattern in (("emodb", "*.wav"), ("ravdess", "*.flac"), ("nemo", "*.opus"))
    ]
    shape = NetworkConfig()
    pipeline = make_pipeline(masked, filters=shape.filters, pools=shape.pools)
    found = agreement(pipeline, [audio.load(file) for file in files])
    assert found.recordings == 3
    assert found.largest_difference < onnx_file.TOLERANCE


def test_alone_equals_in_a_batch(make_pipeline: MakePipeline) -> None:
    """A masked model's answer does not depend on what else is in the batch, nor on garbage past the end."""
    pipeline = make_pipeline(True)
    model = onnx_file.build(pipeline, onnx_file._card(pipeline, DESCRIPTION, "float32")).SerializeToString()
    session = onnxruntime.InferenceSession(model)
    waveform = np.random.default_rng(0).normal(scale=0.1, size=(2, 20_000)).astype(np.float32)
    together = session.run(None, {"waveform": waveform, "samples": np.array([20_000, 7_001])})
    alone = session.run(None, {"waveform": waveform[1:, :7_001], "samples": np.array([7_001])})
    for both, single in zip(together, alone, strict=True):
        np.testing.assert_allclose(both[1], single[0], atol=1e-5)


class OwnPooling(nn.Module):
    """The root mean square over the valid frames."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features

    def forward(self, sequence: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = torch.ones_like(sequence[..., 0]) if mask is None else mask.to(sequence.dtype)
        return (sequence.square() * weights[..., None]).sum(1).div(weights.sum(1, keepdim=True)).sqrt()


class OwnNetwork(nn.Module):
    """A linear layer on the means of the bands."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(40, 4)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        valid = torch.arange(features.shape[1]) < lengths[:, None]
        embedding = (features * valid[..., None]).sum(1) / lengths[:, None]
        return self.layer(embedding), embedding


class Untraceable(OwnNetwork):
    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if float(features.sum()) > 0:
            return self.layer(features[:, 0]), features[:, 0]
        return super().forward(features, lengths)


@pytest.mark.slow  # the first use of PyTorch's exporter imports for seconds
@pytest.mark.parametrize("masked", [False, True])
def test_parity_of_own_poolings(make_pipeline: MakePipeline, masked: bool) -> None:
    pipeline = make_pipeline(masked, OwnPooling, clip_seconds=1.0)
    assert agreement(pipeline, onnx_file.noise(pipeline.features)).largest_difference < onnx_file.TOLERANCE


@pytest.mark.slow  # the first use of PyTorch's exporter imports for seconds
def test_parity_of_own_networks(make_pipeline: MakePipeline) -> None:
    own = make_pipeline(clip_seconds=1.0)
    pipeline = onnx_file.Pipeline(OwnNetwork(), own.features, own.normalizer, masked=True)
    assert agreement(pipeline, onnx_file.noise(pipeline.features)).largest_difference < onnx_file.TOLERANCE


@pytest.mark.slow  # the first use of PyTorch's exporter imports for seconds
def test_networks_that_cannot_be_traced_are_refused(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    own = make_pipeline(clip_seconds=1.0)
    pipeline = onnx_file.Pipeline(Untraceable(), own.features, own.normalizer, masked=True)
    with pytest.raises(ConfigError, match="export of Untraceable"):
        onnx_file.export(pipeline, DESCRIPTION, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_file_carries_its_card(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    pipeline = make_pipeline(True)
    card = onnx_file.export(pipeline, DESCRIPTION, tmp_path / "deep" / "m.onnx")
    model = onnx.load(tmp_path / "deep" / "m.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["affekt.card"]) == json.loads(json.dumps(card.to_dict()))
    assert [entry.version for entry in model.opset_import] == [OPSET] == [card.opset]
    assert (card.temperature, card.license, card.masked) == (1.5, "CC0-1.0", True)
    assert card.features == {**card.features, "mels": 40, "hop_seconds": 0.01}
    assert card.normalizer["std"] == (2.0,) * 40
    assert card.measures["export"]["largest_difference"] < onnx_file.TOLERANCE


def test_int8_says_what_it_costs(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    pipeline = make_pipeline(True, filters=(8, 16, 16), clip_seconds=1.0)
    recordings = onnx_file.noise(pipeline.features, count=12, seed=1)
    card = onnx_file.export(pipeline, DESCRIPTION, tmp_path / "m.onnx", "int8", recordings)
    measured = card.measures["export"]
    assert card.precision == "int8"
    assert measured["recordings"] == 12
    assert 1e-5 < measured["largest_difference"] < 0.1
    assert "QLinearConv" in {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}


def test_int8_needs_recordings_and_our_network(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    own = make_pipeline()
    pipeline = onnx_file.Pipeline(OwnNetwork(), own.features, own.normalizer, masked=True)
    with pytest.raises(ConfigError) as caught:
        onnx_file.export(pipeline, DESCRIPTION, tmp_path / "m.onnx", "int8")
    assert [fault.got for fault in caught.value.faults] == ["a OwnNetwork", "no recordings"]


def test_a_file_that_differs_is_not_written(
    make_pipeline: MakePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file.front_end, "normalize", lambda graph, normalizer, features: features)
    with pytest.raises(CheckpointError, match=r"probabilities .* from PyTorch's, expected at most 0.0001"):
        onnx_file.export(make_pipeline(), DESCRIPTION, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_logits_must_be_a_multiple_of_the_scores(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    own = make_pipeline()
    pipeline = onnx_file.Pipeline(own.network, own.features, own.normalizer, torch.square)
    with pytest.raises(ConfigError, match="not a multiple of the scores"):
        onnx_file.export(pipeline, DESCRIPTION, tmp_path / "m.onnx")


def test_only_onnx_files_are_written(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got '\.pt', expected a file ending in \.onnx"):
        onnx_file.export(make_pipeline(), DESCRIPTION, tmp_path / "m.pt")


def test_checkpoints_are_exported_with_scale_and_temperature(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    """AM-softmax takes the softmax of scaled cosines; both s and T end up in the file."""
    shape = NetworkConfig((4, 4), pools=(2, 2), lstm_cells_per_direction=4, masked=True)
    system = System("am", shape, "am-softmax", {"scale": 20.0, "margin": 0.2}, FeatureConfig(clip_seconds=1.0))
    torch.manual_seed(0)
    network, _ = system.build(4, counts=[1] * 4)
    normalizer = make_pipeline().normalizer
    provenance = {"license": "CC BY-NC-SA 4.0", "seed": 3}
    weights = network.state_dict()
    checkpoint = Checkpoint(system, DESCRIPTION.labels, normalizer, weights, temperature=2.0, provenance=provenance)
    card = onnx_file.export_checkpoint(checkpoint, tmp_path / "m.onnx")
    assert (card.temperature, card.license) == (2.0, "CC BY-NC-SA 4.0")
    assert card.provenance["system"]["loss_options"] == {"scale": 20.0, "margin": 0.2}
    waveform, samples = onnx_file._batches(onnx_file.noise(system.features, seed=5))[0]
    session = onnxruntime.InferenceSession((tmp_path / "m.onnx").read_bytes())
    found = session.run(None, {"waveform": waveform.numpy(), "samples": samples.numpy()})[0]
    features, lengths = onnx_file.Pipeline.from_checkpoint(checkpoint).prepare(waveform, samples)
    with torch.no_grad():
        wanted = (20 * network.eval()(features, lengths).scores / 2).softmax(-1)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_other_front_ends_are_refused() -> None:
    class Other:
        sample_rate_hz = 16_000

    class OtherSystem:
        name = "raw"
        features = Other()

    checkpoint = Checkpoint(OtherSystem(), DESCRIPTION.labels, None, {})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="export of raw: got features of Other, expected log-mel features"):
        onnx_file.Pipeline.from_checkpoint(checkpoint)
