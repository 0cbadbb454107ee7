"""Files of systems on Whisper's encoder: against PyTorch, in batches, in 8 bits."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.export import onnx_file
from affekt.export.graph.encoder_operators import EncoderProducts, Product
from affekt.export.graph.encoder_quantization import (
    LARGEST_PAIR,
    LARGEST_WEIGHT,
    quantized_products,
    round_pairs,
    weight_steps,
)
from affekt.export.pipeline import Pipeline
from affekt.features.frontends import EncoderStates, WhisperLogMel
from affekt.features.log_mel import Normalizer
from affekt.nn.encoder import EncoderShape, WhisperEncoder
from affekt.nn.encoder_classifier import Detectors, EncoderClassifier
from affekt.nn.zoo.encoder_back_end import EncoderBackEnd, TunedEncoder
from affekt.nn.zoo.linear import ShrunkLinear
from affekt.recognition.card import ModelCard
from affekt.recognition.output_layer import HEAD_KEY

WIDTH, SIZES = 24, {"width": 24, "heads": 3, "hidden": 40, "layers": 2}
DESCRIPTION = onnx_file.Description(("angry", "happy", "neutral", "sad"), license="MIT")


def shaken(module: torch.nn.Module, seed: int = 0) -> Any:
    """Random values for everything, norms and buffers too, so that none of them can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                positive = name.endswith(("running_var", "scale")) or "norm.weight" in name
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5 if positive else
                             torch.randn(tensor.shape, generator=generator) * 0.3)  # fmt: skip
    return module.eval()


def make_pipeline(kind: str, top: float | None = 5.4, **options: Any) -> Pipeline:
    log_mel = WhisperLogMel(top=top, decades=6.0, clip_seconds=2.0)
    statistics = Normalizer(tuple(np.linspace(-1, 1, 2 * WIDTH)), tuple(np.linspace(0.5, 2, 2 * WIDTH)))
    if kind == "classifier":
        network = shaken(EncoderClassifier(80, 4, **SIZES, **options))
        return Pipeline(network, log_mel, temperature=0.7, detectors=make_detectors())
    if kind == "tuned":
        return Pipeline(shaken(TunedEncoder(80, 4, **SIZES, cells=5, **options)), log_mel)
    encoder = shaken(WhisperEncoder(EncoderShape(**SIZES)))
    if kind == "linear":
        features = EncoderStates(2, WIDTH, pooled=True, trim_db=20.0, log_mel=log_mel)
        return Pipeline(shaken(ShrunkLinear(2 * WIDTH, 4)), features, statistics, encoder=encoder)
    features = EncoderStates(2, WIDTH, pool=3 if kind == "averaged" else 1, log_mel=log_mel)
    halves = Normalizer(statistics.mean[:WIDTH], statistics.std[:WIDTH])
    return Pipeline(shaken(EncoderBackEnd(WIDTH, 4, cells=5, **options)), features, halves, encoder=encoder)


def make_detectors() -> Detectors:
    draw = np.random.default_rng(1)
    axes = np.linalg.qr(draw.normal(size=(2 * WIDTH, 3)))[0]
    return Detectors(draw.normal(size=2 * WIDTH), 0.3, draw.normal(size=2 * WIDTH), axes, [5.0, 3.0, 2.0], 0.4)


def model_of(pipeline: Pipeline, products: EncoderProducts | None = None) -> bytes:
    return onnx_file.build(pipeline, onnx_file._card(pipeline, DESCRIPTION, "float32"), products).SerializeToString()


def recordings(count: int = 6) -> list[np.ndarray]:
    """Noise from less than a frame to more than a clip."""
    return onnx_file.noise(WhisperLogMel(clip_seconds=2.0), count)


@pytest.mark.parametrize("top", [None, 5.4])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("classifier", {"trim_db": 20.0}),
        ("classifier", {}),
        ("classifier", {"head": "cosine"}),
        ("tuned", {"pooling": "attention"}),
        ("tuned", {"pooling": "combined"}),
        ("back end", {"pooling": "combined", "head": "cosine"}),
        ("back end", {"pooling": "statistics"}),
        ("averaged", {"pooling": "attention"}),
        ("linear", {}),
    ],
    ids=str,
)
def test_parity_in_one_batch_of_all_lengths(kind: str, options: dict[str, Any], top: float | None) -> None:
    pipeline = make_pipeline(kind, top, **options)
    found = onnx_file.compare(pipeline, model_of(pipeline), onnx_file._batches(recordings()))
    assert found.largest_difference < onnx_file.TOLERANCE
    assert found.equal_decisions == 1


def test_alone_equals_in_a_batch() -> None:
    """Neither a loud neighbor nor garbage past the end is heard; in whole numbers too."""
    pipeline = make_pipeline("classifier", trim_db=20.0)
    products = quantized_products(pipeline.network.encoder, features_of(pipeline))
    for given in (None, products):
        session = onnxruntime.InferenceSession(model_of(pipeline, given))
        waveform = np.random.default_rng(0).normal(scale=0.1, size=(2, 20_000)).astype(np.float32)
        waveform[0] *= 8
        together = session.run(None, {"waveform": waveform, "samples": np.array([20_000, 7_001])})
        alone = session.run(None, {"waveform": waveform[1:, :7_001], "samples": np.array([7_001])})
        for both, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(both[1], single[0], atol=2e-5, rtol=1e-5)


def test_detectors_and_the_output_layer_are_in_the_file(tmp_path: Path) -> None:
    pipeline, path = make_pipeline("classifier"), tmp_path / "m.onnx"
    description = onnx_file.Description(
        DESCRIPTION.labels, detection={"speech_below": 0.4, "outlier_above": 3.0}, adaptation={"speaker": {"least": 2}}
    )
    onnx_file.export(pipeline, description, path)
    session = onnxruntime.InferenceSession(path)
    assert [port.name for port in session.get_outputs()] == ["probabilities", "embedding", "speech", "outlier"]
    waveform = recordings()[4][None]
    feeds = {"waveform": waveform, "samples": np.array([waveform.shape[1]])}
    probabilities, embedding, speech, outlier = session.run(None, feeds)
    expected = pipeline.detectors(torch.from_numpy(embedding))
    np.testing.assert_allclose(speech, expected["speech"], atol=1e-5)
    np.testing.assert_allclose(outlier, expected["outlier"], rtol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    head = json.loads(metadata[HEAD_KEY])
    weight = np.frombuffer(base64.b64decode(head["weight"]), np.float32).reshape(4, 2 * WIDTH)
    logits = (embedding @ weight.T + np.float32(head["bias"])) / 0.7
    np.testing.assert_allclose(torch.from_numpy(logits).softmax(1), probabilities, atol=1e-5)
    card = ModelCard.from_metadata(metadata, "m")
    assert (card.speech_below, card.outlier_above, card.adaptation) == (0.4, 3.0, {"speaker": {"least": 2}})


def features_of(pipeline: Pipeline, waveforms: list[np.ndarray] | None = None) -> list[torch.Tensor]:
    extract = pipeline.whisper_features.extractor()
    clip = pipeline.whisper_features.clip_samples
    return [extract(torch.from_numpy(waveform[:clip])) for waveform in waveforms or recordings()]


def times(product: Product, x: torch.Tensor, scale: bool = True) -> torch.Tensor:
    """A product as its whole numbers say, in floating point that is exact for them."""
    x = x.double()
    if product.scale is not None and scale:
        x = x * torch.from_numpy(product.scale)
    assert product.steps is not None
    whole = ((x / product.step).round() + product.zero).clamp(0, 255) - product.zero
    weight = torch.from_numpy(product.weight).double() * torch.from_numpy(product.steps)
    return whole * product.step @ weight + torch.from_numpy(product.bias)


def simulated(products: EncoderProducts, log_mel: torch.Tensor) -> torch.Tensor:
    """States of one recording by the products' numbers, written with PyTorch's layers."""

    def unfolded(x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, (0, 0, 1, 1))
        return torch.cat([padded[:-2], padded[1:-1], padded[2:]], 1)

    def norm(x: torch.Tensor, weight: np.ndarray) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:]) * torch.from_numpy(weight)

    x = F.gelu(times(products.conv1, unfolded(log_mel.double())))
    x = F.gelu(times(products.conv2, unfolded(x * torch.from_numpy(products.conv2.scale))[::2], scale=False))
    x = x + torch.from_numpy(products.positions)[: len(x)]
    for layer in products.layers:
        projected = times(layer.projections, norm(x, layer.attention_norm))
        query, key, value = (part.unflatten(1, (products.heads, -1)).transpose(0, 1) for part in projected.chunk(3, 1))
        attended = (query @ key.mT).softmax(-1) @ value
        x = x + times(layer.mixing, attended.transpose(0, 1).flatten(1))
        x = x + times(layer.narrowing, F.gelu(times(layer.widening, norm(x, layer.final_norm))))
    return x


def test_whole_numbers_compute_what_they_say() -> None:
    """Roundings of halves may differ; over a recording's mean and deviation they hardly show."""
    pipeline = make_pipeline("classifier")
    products = quantized_products(pipeline.network.encoder, features_of(pipeline))
    session = onnxruntime.InferenceSession(model_of(pipeline, products))
    for waveform, log_mel in zip(recordings(), features_of(pipeline), strict=True):
        feeds = {"waveform": waveform[None], "samples": np.array([len(waveform)])}
        states = simulated(products, log_mel)
        pooled = torch.cat([states.mean(0), (states.var(0, correction=0) + 1e-8).sqrt()])
        wanted = (pooled.float() - pipeline.network.mean) / pipeline.network.scale
        np.testing.assert_allclose(session.run(["embedding"], feeds)[0][0], wanted, atol=0.02)


def test_int8_is_near_float32(tmp_path: Path) -> None:
    waveforms = recordings(24)
    small, large = tmp_path / "int8.onnx", tmp_path / "float32.onnx"
    pipeline = make_pipeline("classifier")
    card = onnx_file.export(pipeline, DESCRIPTION, small, "int8", waveforms)
    onnx_file.export(pipeline, DESCRIPTION, large)
    assert card.precision == "int8"
    assert card.measures["export"]["mean_difference"] < 0.02
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert {"MatMulIntegerToFloat", "QuantizeLinear"} <= kinds
    assert small.stat().st_size < large.stat().st_size
    whole = [node.op_type for node in onnx.load(small).graph.node].count("MatMulIntegerToFloat")
    assert whole == 2 + 4 * SIZES["layers"]


def test_loudness_keeps_the_first_convolution_in_float32(tmp_path: Path) -> None:
    onnx_file.export(make_pipeline("classifier", top=None), DESCRIPTION, tmp_path / "m.onnx", "int8", recordings())
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 1 + 4 * SIZES["layers"]


def test_pairs_of_weights_fit_sixteen_bits() -> None:
    """The worst bytes against each pair of rows stay in range, and rounding together beats rounding one by one."""
    draw = np.random.default_rng(0)
    weight = draw.standard_t(3, size=(301, 7)).astype(np.float32)
    inputs = torch.from_numpy(draw.normal(size=(500, 301)).astype(np.float32)).cumsum(1)  # neighbors go together
    steps = weight_steps(weight)
    scaled = torch.from_numpy((weight / steps).T)
    whole = round_pairs(scaled, inputs.T @ inputs / len(inputs))
    assert float(whole.abs().max()) <= LARGEST_WEIGHT
    pairs = F.pad(whole, (0, 1)).unflatten(1, (-1, 2))
    for sign in (1, -1):
        sums = (sign * pairs).clamp_min(0).sum(2)
        assert float(sums.max()) <= LARGEST_PAIR
        assert 255 * float(sums.max()) <= 32_767
    assert float(whole.abs().max()) > 63
    together = (inputs @ (whole - scaled).T).square().mean()
    one_by_one = (inputs @ (scaled.round() - scaled).T).square().mean()
    assert float(together) < 0.5 * float(one_by_one)


def test_other_networks_on_the_encoder_are_refused() -> None:
    pipeline = make_pipeline("back end")
    pipeline.network = torch.nn.Linear(WIDTH, 4)
    with pytest.raises(ConfigError, match="got a Linear on EncoderStates, expected an encoder with a linear model"):
        onnx_file.build(pipeline, onnx_file._card(pipeline, DESCRIPTION, "float32"))
    with pytest.raises(ConfigError, match="no recordings"):
        onnx_file.export(pipeline, DESCRIPTION, Path("m.onnx"), "int8")
