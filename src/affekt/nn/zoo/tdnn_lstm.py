"""[4] Time-delay layers and LSTMs on the raw waveform: Sarma, Ghahremani, Povey, Goel, Sarma & Dehak, Interspeech 2018.

"Emotion identification from raw speech signals using DNNs". A bank of filters is learned on the waveform; time-delay
layers and LSTMs alternate; an attention that reaches a few frames back and ahead follows; and every frame is labeled.
The widths are a choice: the abstract fixes the design alone.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.nn.blocks import frame_mask
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import uniform_weights, weighted_mean
from affekt.nn.zoo.sequence import Convolution, SequenceNorm, forward_lstm, only_valid, valid_frames

WINDOW_SAMPLES, STEP_SAMPLES, STEPS_PER_FRAME = 500, 20, 8  # at 16 kHz: 31.25 ms, 1.25 ms, and frames of 10 ms
FRAME_SAMPLES = STEP_SAMPLES * STEPS_PER_FRAME
SMALLEST_AMPLITUDE = 1e-3
REACH_FRAMES = tuple(range(-15, 7, 3))  # where the attention looks
TDNN_OFFSETS = ((1,), (3, 3), (3, 3))
"""Time-delay layers before each LSTM, each of them seeing the frames at -offset, 0 and +offset."""


class FilterBank(nn.Module):
    """Learned filters on the waveform: convolution, magnitude, logarithm, mean over 10 ms, a linear layer.

    >>> FilterBank(100)(torch.zeros(2, 16_000, 1), None)[0].shape
    torch.Size([2, 100, 100])
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, filters, WINDOW_SAMPLES, STEP_SAMPLES)
        self.norm = SequenceNorm(filters)
        self.linear = nn.Linear(filters, filters)

    def forward(
        self, waveform: Float[Tensor, "batch samples 1"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch filters frames"], Bool[Tensor, "batch frames"] | None]:
        valid, _ = valid_frames(waveform, lengths)
        frames = -(-waveform.shape[1] // FRAME_SAMPLES)
        mask = None if lengths is None else frame_mask(-(-lengths // FRAME_SAMPLES), frames)
        needed = (frames * STEPS_PER_FRAME - 1) * STEP_SAMPLES + WINDOW_SAMPLES
        responses = self.filters(F.pad(valid[..., 0], (0, needed - waveform.shape[1]))[:, None])
        level = (responses.abs() + SMALLEST_AMPLITUDE).log()
        x = self.norm(F.avg_pool1d(level, STEPS_PER_FRAME), mask)
        return only_valid(F.relu(self.linear(x.transpose(1, 2))).transpose(1, 2), mask), mask


class TimeDelay(nn.Module):
    """Frames at -offset, 0 and +offset seen together, ReLU, batch norm, dropout."""

    def __init__(self, channels: int, out_channels: int, offset: int, dropout: float) -> None:
        super().__init__()
        self.convolution = Convolution(channels, out_channels, kernel=3, dilation=offset)
        self.norm = SequenceNorm(out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch channels frames"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch out_channels frames"]:
        normed = self.norm(F.relu(self.convolution(x, mask)[0]), mask)
        return only_valid(self.dropout(normed), mask)


class RestrictedAttention(nn.Module):
    """Multi-head attention of a frame to a few frames around it (Povey et al. 2018), added to its input."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(features, features) for _ in range(4))

    def weights(
        self, x: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames heads offsets"]:
        """Attention of each frame to the frames at :data:`REACH_FRAMES`; sums to 1 over those that exist."""
        query, key = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.query, self.key))
        scores = torch.einsum("bthd,btohd->btho", query, _around(key)) / query.shape[-1] ** 0.5
        valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        exists = _around(valid[..., None])[..., 0] | ~valid[..., None]  # the attention of padding is arbitrary
        weights: Tensor = scores.masked_fill(~exists[:, :, None], torch.finfo(scores.dtype).min).softmax(-1)
        return weights

    def forward(
        self, x: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames features"]:
        value = _around(self.value(x).unflatten(2, (self.heads, -1)))
        heard = torch.einsum("btho,btohd->bthd", self.weights(x, mask), value).flatten(2)
        added: Tensor = x + self.output(heard)
        return added


def _around(x: Tensor) -> Tensor:
    """[batch, frames, ...] -> [batch, frames, offsets, ...]: the frames at each offset, zero outside the utterance."""
    before, after, frames = -REACH_FRAMES[0], REACH_FRAMES[-1], x.shape[1]
    padded = F.pad(x.flatten(2), (0, 0, before, after)).unflatten(2, x.shape[2:])
    return torch.stack([padded[:, before + offset : before + offset + frames] for offset in REACH_FRAMES], dim=2)


class TDNNLSTM(nn.Module):
    """Filter bank, (time-delay layers, LSTM) three times, restricted attention, and the classes at every frame.

    The scores of an utterance are the mean over its frames of their log-posteriors, which is how it is recognized.
    Under the loss "softmax" with `log_posteriors` this is the cross-entropy of every frame with its utterance's label,
    weighted by 1 / frames: every utterance counts alike.

    Args:
        dims: 1, the waveform.
        classes: number of classes.
        head: "linear" only.
        filters: of the filter bank.
        width: channels of the time-delay layers and cells of the LSTMs.
        projection: length of the LSTMs' output.
        heads: of the attention.
        dropout: after each time-delay layer.

    >>> sum(parameter.numel() for parameter in TDNNLSTM(1, 4).parameters())
    6395380
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        filters: int = 100,
        width: int = 512,
        projection: int = 128,
        heads: int = 4,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if dims != 1 or head != "linear":
            got = f"{dims} features, a {head} head"
            expected = "the waveform, and a loss on logits such as softmax"
            raise ConfigError("network tdnn-lstm", got=got, expected=expected)
        self.bank = FilterBank(filters)
        self.delays, self.lstms = nn.ModuleList(), nn.ModuleList()
        channels = filters
        for offsets in TDNN_OFFSETS:
            widths = [channels, *[width] * len(offsets)]
            self.delays.append(
                nn.ModuleList(TimeDelay(widths[i], width, offset, dropout) for i, offset in enumerate(offsets))
            )
            self.lstms.append(nn.LSTM(width, width, proj_size=projection, batch_first=True))
            channels = projection
        self.attention = RestrictedAttention(projection, heads)
        self.embedding_size = projection
        self.head = HEADS[head](projection, classes)

    def frames(
        self, waveform: Float[Tensor, "batch samples dims"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch frames features"], Bool[Tensor, "batch frames"] | None]:
        """The last hidden layer every 10 ms, and the mask."""
        x, mask = self.bank(waveform, lengths)
        for delays, lstm in zip(self.delays, self.lstms, strict=True):
            for delay in delays:  # type: ignore[attr-defined]
                x = delay(x, mask)
            x = forward_lstm(lstm, x.transpose(1, 2), mask).transpose(1, 2)  # type: ignore[arg-type]
        return self.attention(x.transpose(1, 2), mask), mask

    def forward(
        self, features: Float[Tensor, "batch samples dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        hidden, mask = self.frames(features, lengths)
        weights = uniform_weights(hidden, mask)
        log_posteriors = self.head(hidden).log_softmax(-1)
        return Output(weighted_mean(log_posteriors, weights), weighted_mean(hidden, weights))
