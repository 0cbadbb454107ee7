"""Model files to fuzz: checkpoints and ONNX models, forged as an attacker would."""

from __future__ import annotations

import contextlib
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import safetensors.torch
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from onnx import helper

from affekt.export.onnx_file import Description, Pipeline, export
from affekt.features.log_mel import FeatureConfig, Normalizer
from affekt.losses import make_loss
from affekt.nn import Network, NetworkConfig
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.devices import seeded
from affekt.training.checkpoint import Checkpoint, _digest
from affekt.training.systems import System
from fuzz.mutations import NUMBERS, edited, mutated
from fuzz.recordings import RATE_HZ, check_prediction, voice

LABELS = ("angry", "happy", "neutral", "sad")
FEATURES = FeatureConfig(mels=12, clip_seconds=3.0)
NORMALIZER = Normalizer((-6.0,) * 12, (2.0,) * 12)


@cache
def checkpoint() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Card and tensors of a small checkpoint."""
    with tempfile.TemporaryDirectory() as name, seeded(0):
        system = System("own", NetworkConfig((4, 4), pools=(2, 2), lstm_cells_per_direction=4), features=FEATURES)
        network, _ = system.build(4)
        path = Path(name) / "m.safetensors"
        Checkpoint(system, LABELS, NORMALIZER, network.state_dict(), provenance={"corpus": "none"}).save(path)
        with safetensors.safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return json.loads(file.metadata()["affekt"]), tensors


def packed(card: Any, tensors: dict[str, torch.Tensor]) -> bytes:
    """A file with a valid hash, as an attacker would make it."""
    if isinstance(card, dict):
        card = {key: value for key, value in card.items() if key != "sha256"}
        card["sha256"] = _digest(card, tensors)
    return safetensors.torch.save(tensors, {"affekt": json.dumps(card)})


def checkpoints() -> SearchStrategy[bytes]:
    card, tensors = checkpoint()
    whole = packed(card, tensors)
    huge = [{"lstm_cells_per_direction": 10**6}, {"filters": [10**5, 10**5]}, {"kernel": 10**5 + 1}, {"filters": []}]
    forged = edited(card) | st.sampled_from(huge).map(
        lambda shape: card | {"system": card["system"] | {"network": card["system"]["network"] | shape}}
    )
    fewer = st.sets(st.sampled_from(sorted(tensors)), max_size=3).map(
        lambda gone: {name: tensor for name, tensor in tensors.items() if name not in gone}
    )
    return mutated([whole]) | st.builds(packed, forged, fewer)


def use_checkpoint(content: bytes, folder: Path) -> None:
    path = folder / "m.safetensors"
    path.write_bytes(content)
    loaded = Checkpoint.load(path)
    loaded.build()


@cache
def exported() -> bytes:
    """A small model, as `affekt export` writes it."""
    with tempfile.TemporaryDirectory() as name, seeded(0):
        network = Network(NetworkConfig((4, 4), pools=(2, 2), lstm_cells_per_direction=4, masked=True), 12, 4)
        loss = make_loss("softmax", 4, network.embedding_size)
        path = Path(name) / "m.onnx"
        export(Pipeline(network, FEATURES, NORMALIZER, loss.logits), Description(LABELS, license="CC0-1.0"), path)
        return path.read_bytes()


@cache
def recognizer() -> Recognizer:
    return Recognizer(exported(), threads=1)


@st.composite
def models(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        return draw(mutated([exported()]))
    model = onnx.load_model_from_string(exported())
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(FORGERIES))(draw, model)
    return bytes(model.SerializeToString())


def forge_card(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    for entry in model.metadata_props:
        with contextlib.suppress(ValueError):
            entry.value = json.dumps(draw(edited(json.loads(entry.value))))


def forge_location(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    """A model with external weights."""
    tensor = draw(st.sampled_from(list(model.graph.initializer)))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=draw(st.sampled_from(["/etc/passwd", "../../../etc/passwd", "w"])))


def forge_shape(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    tensor = draw(st.sampled_from(list(model.graph.initializer)))
    tensor.dims[:] = draw(st.lists(st.sampled_from(NUMBERS[:10]), max_size=4))


def forge_node(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    node = draw(st.sampled_from(list(model.graph.node)))
    node.op_type = draw(st.sampled_from(["Loop", "If", "Identity", "Exp", "Log", "Div", "NonZero", "Gemm", "Unknown"]))


def forge_output(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    """A model that loads and returns other outputs."""
    node = helper.make_node(
        draw(st.sampled_from(["Log", "Neg", "ReduceSum", "Shape", "Cast"])), ["p"], ["probabilities"]
    )
    if node.op_type == "Cast":
        node.attribute.append(helper.make_attribute("to", onnx.TensorProto.DOUBLE))
    for other in model.graph.node:
        other.output[:] = ["p" if name == "probabilities" else name for name in other.output]
    model.graph.node.append(node)


FORGERIES = (forge_card, forge_location, forge_shape, forge_node, forge_output)


def use_model(content: bytes, folder: Path) -> None:
    check_prediction(Recognizer(content, threads=1).predict(voice(1.2), RATE_HZ).to_dict())
