"""A linear model on the encoder: mean and deviation of its states over time, standardized, and one output layer.

Strong shrinkage of the output layer is what lets it generalize across corpora; see `affekt.nn.zoo.linear` for the
solver. Detectors on the same embedding tell speech from other sounds and typical speech from other speech.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.nn.blocks import frame_mask
from affekt.nn.encoder import POSITIONS, EncoderShape, WhisperEncoder, load_pretrained
from affekt.nn.network import HEADS, Head, Output

MARGIN_STATES = 5
"""States of 20 ms that are kept before the first and after the last loud one."""
SMALLEST_VARIANCE = 1e-8


class EncoderClassifier(nn.Module):
    """Whisper's encoder, mean and deviation over time, standardization, output layer.

    The deep feature is the standardized vector.

    Args:
        dims: mel bands.
        classes, head: number of classes and kind of scores, as the loss requires.
        width, heads, hidden, layers, positions: the encoder's sizes, see :class:`affekt.nn.encoder.EncoderShape`.
        trim_db: states before the first and after the last one whose level is within this of the loudest do not
            count (but for a margin of 0.1 s); 0 counts all.

    >>> network = EncoderClassifier(80, 4, width=8, heads=2, hidden=16, trim_db=35.0)
    >>> tuple(network(torch.zeros(2, 100, 80), torch.tensor([100, 40])).embedding.shape)
    (2, 16)
    """

    mean: Tensor
    scale: Tensor

    as_is = True
    """Features are not normalized: the encoder's weights were trained on them as they are."""

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        width: int = 384,
        heads: int = 6,
        hidden: int = 1_536,
        layers: int = 1,
        positions: int = POSITIONS,
        trim_db: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = WhisperEncoder(EncoderShape(dims, width, heads, hidden, layers, positions))
        self.trim_db = trim_db
        self.embedding_size = 2 * width
        self.register_buffer("mean", torch.zeros(2 * width))
        self.register_buffer("scale", torch.ones(2 * width))
        self.head = HEADS[head](2 * width, classes)

    def load_pretrained(self) -> None:
        """Take the encoder's weights from the folder that AFFEKT_ENCODER names.

        Raises:
            ConfigError: no such folder, or an encoder of other sizes.
        """
        load_pretrained(self.encoder)

    def pooled(
        self, features: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch pooled"]:
        """Mean and deviation of the states over time, not standardized: [batch, 2 width]."""
        states, mask = self.encoder(features, lengths)
        if self.trim_db > 0:
            mask = active_span(features, lengths, self.trim_db)
        return mean_and_deviation(states, mask)

    def forward(
        self, features: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        """Scores and the standardized mean and deviation."""
        embedding = (self.pooled(features, lengths) - self.mean) / self.scale
        return Output(self.head(embedding), embedding)


def mean_and_deviation(
    states: Float[Tensor, "batch states width"], mask: Bool[Tensor, "batch states"] | None
) -> Float[Tensor, "batch pooled"]:
    """Mean and standard deviation over the valid states, side by side.

    >>> mean_and_deviation(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])).tolist()
    [[2.0, 1.0]]
    """
    valid = torch.ones_like(states[..., :1]) if mask is None else mask[..., None].to(states.dtype)
    count = valid.sum(1)
    mean = (states * valid).sum(1) / count
    variance = ((states - mean[:, None]).square() * valid).sum(1) / count
    return torch.cat([mean, (variance + SMALLEST_VARIANCE).sqrt()], 1)


def active_span(
    features: Float[Tensor, "batch frames mels"],
    lengths: Int[Tensor, " batch"] | None,
    trim_db: float,
    margin: int = MARGIN_STATES,
) -> Bool[Tensor, "batch states"]:
    """States from `margin` before the first to `margin` after the last one that is loud.

    A state's level is that of the louder of its two frames, and a frame's level the power of all its bands. A state is
    loud where its level is above the recording's largest minus `trim_db`. Levels are relative, so the features' `top`
    does not matter.

    Args:
        features: Whisper's log-mel.
        lengths: valid frames; None: all.
        trim_db: above 0.
        margin: in states.
    """
    level = torch.logsumexp(features * (4 * math.log(10)), 2) * (10 / math.log(10))
    if lengths is None:
        lengths = torch.full((len(features),), features.shape[1], device=features.device)
    level = level.masked_fill(~frame_mask(lengths, features.shape[1]), -math.inf)
    pairs = nn.functional.pad(level, (0, level.shape[1] % 2), value=-math.inf)
    level = pairs.unflatten(1, (-1, 2)).amax(2)
    loud = level > level.amax(1, keepdim=True) - trim_db
    place = torch.arange(level.shape[1], device=level.device)
    first = torch.where(loud, place, level.shape[1]).amin(1, keepdim=True)
    last = torch.where(loud, place, -1).amax(1, keepdim=True)
    valid = frame_mask((lengths + 1) // 2, level.shape[1])
    return valid & (place >= first - margin) & (place <= last + margin)


class Detectors(nn.Module):
    """Scores of an embedding z beside its class: is it speech, and how far is it from the training data.

    Speech is a logistic model, sigmoid(z . w + b), 0 to 1. The outlier score is the squared Mahalanobis distance for
    each dimension under probabilistic principal components (Tipping & Bishop 1999): with d = z - m and u = d P, it is
    (sum_i u_i^2 / v_i + (|d|^2 - |u|^2) / rest) / dimensions, about 1 on the training data.

    Args:
        speech_weight, speech_bias: w [features] and b; None: no speech score.
        outlier_mean: m [features]; None: no outlier score.
        outlier_axes: P [features, components], orthonormal.
        outlier_variances: v [components], along the axes.
        outlier_rest: variance along every other direction.

    Raises:
        ConfigError: some of the outlier score's numbers and not all.

    >>> detectors = Detectors(speech_weight=np.ones(2), speech_bias=0.0)
    >>> {name: score.tolist() for name, score in detectors(torch.zeros(1, 2)).items()}
    {'speech': [0.5]}
    """

    speech_weight: Tensor | None
    outlier_mean: Tensor | None
    outlier_projection: Tensor | None

    def __init__(
        self,
        speech_weight: ArrayLike | None = None,
        speech_bias: float = 0.0,
        outlier_mean: ArrayLike | None = None,
        outlier_axes: ArrayLike | None = None,
        outlier_variances: ArrayLike | None = None,
        outlier_rest: float | None = None,
    ) -> None:
        super().__init__()
        self.speech_bias = float(speech_bias)
        given = [value is not None for value in (outlier_mean, outlier_axes, outlier_variances, outlier_rest)]
        if any(given) != all(given):
            expected = "outlier_mean, outlier_axes, outlier_variances and outlier_rest, or none of them"
            raise ConfigError("detectors", got=f"{sum(given)} of four", expected=expected)
        self.register_buffer("speech_weight", None if speech_weight is None else _floats(speech_weight))
        self.register_buffer("outlier_mean", None if outlier_mean is None else _floats(outlier_mean))
        self.register_buffer("outlier_projection", None)
        self.outlier_rest = float(outlier_rest or 1.0)
        if outlier_axes is not None and outlier_variances is not None:  # u_i^2 (1 / v_i - 1 / rest), v_i > rest
            excess = 1 / self.outlier_rest - 1 / _floats(outlier_variances)
            self.outlier_projection = _floats(outlier_axes) * excess.clamp_min(0).sqrt()

    def forward(self, embedding: Float[Tensor, "batch features"]) -> dict[str, Float[Tensor, " batch"]]:
        """The scores by name."""
        scores = {}
        if self.speech_weight is not None:
            scores["speech"] = (embedding @ self.speech_weight + self.speech_bias).sigmoid()
        if self.outlier_projection is not None:
            assert self.outlier_mean is not None
            centered = embedding - self.outlier_mean
            inside = (centered @ self.outlier_projection).square().sum(1)
            scores["outlier"] = (centered.square().sum(1) / self.outlier_rest - inside) / embedding.shape[1]
        return scores


def _floats(values: ArrayLike) -> Tensor:
    return torch.tensor(np.asarray(values, np.float32))
