"""The network of Zhou & Liu 2020 (section 3.1, Fig. 1): convolutions, bidirectional LSTM, pooling, output layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from numbers import Integral, Real
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from affekt.errors import ConfigError, Fault
from affekt.nn.blocks import ConvModule, CosineHead, LinearHead, bidirectional_lstm, frame_mask, pooled_length
from affekt.nn.initialization import INITIALIZATIONS, Initialization, initialize_as_keras
from affekt.nn.pooling import POOLINGS

Head = Literal["linear", "cosine"]
HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": LinearHead, "cosine": CosineHead}


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of the network; the defaults are the paper's.

    Attributes:
        filters: output channels of each convolution module.
        kernel: height and width of every convolution, odd.
        pools: pooling window (frames and mels) of each module; 1 is none, as in the paper's sixth.
        dropout: share of the elements dropped after each module.
        lstm_cells_per_direction: the paper says 64 "on each direction" and a feature of 64 in all; only 32 fits its
            parameter counts.
        pooling: a name in :data:`affekt.nn.POOLINGS`, or a function from the number of features to an own pooling.
        masked: whether padding is hidden from every layer. The paper pads each clip to 7.5 s and hides nothing.
        initialization: initial weights, and momentum and epsilon of batch normalization: "pytorch", or "keras" as in
            the toolkit of the paper's authors (:mod:`affekt.nn.initialization`).

    Raises:
        ConfigError: values out of range, all at once.
    """

    filters: tuple[int, ...] = (128, 128, 64, 64, 64, 64)
    kernel: int = 3
    pools: tuple[int, ...] = (2, 2, 2, 2, 2, 1)
    dropout: float = 0.25
    lstm_cells_per_direction: int = 32
    pooling: str | Callable[[int], nn.Module] = "attention"
    masked: bool = False
    initialization: Initialization = "pytorch"

    def __post_init__(self) -> None:
        for name in ("filters", "pools"):
            if isinstance(getattr(self, name), list):  # as TOML and JSON write it
                object.__setattr__(self, name, tuple(getattr(self, name)))
        faults = _config_faults(self)
        if faults:
            raise ConfigError.of(faults)


class Output(NamedTuple):
    """Output of a network for a batch.

    Attributes:
        scores: logits W f + b ("linear" head), or the cosines of f and the rows of W ("cosine").
        embedding: f, the pooled deep feature.
    """

    scores: Float[Tensor, "batch classes"]
    embedding: Float[Tensor, "batch features"]


class Network(nn.Module):
    """Log-mel features in, scores of the classes and the deep feature out.

    The paper says nothing of initial weights; `config.initialization` chooses PyTorch's or Keras' defaults.

    Args:
        config: the shape.
        mels: mel bands of the features.
        classes: number of classes.
        head: "linear" or "cosine", as the loss asks for.

    Raises:
        ConfigError: an unknown head, too few mels or classes, or a pooling without `size`.

    >>> network = Network(NetworkConfig(), mels=40, classes=4)
    >>> scores, embedding = network(torch.randn(2, 100, 40))
    >>> tuple(scores.shape), tuple(embedding.shape)
    ((2, 4), (2, 64))
    """

    def __init__(self, config: NetworkConfig, mels: int, classes: int, head: Head = "linear") -> None:
        super().__init__()
        _check_sizes(mels, classes, head)
        self.config = config
        channels = (1, *config.filters)
        self.cnn = nn.ModuleList(
            ConvModule(channels[i], channels[i + 1], config.kernel, pool, config.dropout)
            for i, pool in enumerate(config.pools)
        )
        inputs = config.filters[-1] * reduce(pooled_length, config.pools, mels)
        cells = config.lstm_cells_per_direction
        self.blstm = nn.LSTM(inputs, cells, batch_first=True, bidirectional=True)
        self.pooling = _make_pooling(config.pooling, 2 * cells)
        self.embedding_size = int(self.pooling.size)  # type: ignore[arg-type]
        self.head = HEADS[head](self.embedding_size, classes)
        if config.initialization == "keras":
            initialize_as_keras(self)

    def forward(
        self, features: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        """Scores and embedding of a batch.

        Args:
            features: normalized log-mel features, padded to a common length.
            lengths: valid frames of each utterance, at least 1. Without the masked mode they are ignored: everything
                sees the padding. None: all frames are valid.
        """
        mask = frame_mask(lengths, features.shape[1]) if self.config.masked and lengths is not None else None
        x = features if mask is None else features.masked_fill(~mask[..., None], 0.0)
        x = x[:, None]
        for module in self.cnn:
            x, mask = module(x, mask)
        sequence = x.permute(0, 2, 3, 1).flatten(2)  # batch frames (mels channels)
        embedding = self.pooling(bidirectional_lstm(self.blstm, sequence, mask), mask)
        return Output(self.head(embedding), embedding)


class LedgerRow(NamedTuple):
    """One parameter tensor of a network: its name, shape and number of elements."""

    part: str
    shape: tuple[int, ...]
    parameters: int


def ledger(network: nn.Module) -> list[LedgerRow]:
    """Every trainable parameter of any network, in its order."""
    return [
        LedgerRow(name, tuple(parameter.shape), parameter.numel())
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]


def parameter_ledger(config: NetworkConfig, classes: int, mels: int = 40, head: Head = "linear") -> list[LedgerRow]:
    """The trainable parameters of :class:`Network`, counted on the module itself (but without memory for them).

    The paper gives 383K for the baseline and about +0.07 % for combined attentive pooling (section 4.3).

    >>> baseline = sum(row.parameters for row in parameter_ledger(NetworkConfig(), classes=4))
    >>> combined = sum(row.parameters for row in parameter_ledger(NetworkConfig(pooling="combined"), classes=4))
    >>> baseline, combined - baseline
    (380292, 256)
    """
    with torch.device("meta"):
        return ledger(Network(config, mels, classes, head))


def _config_faults(config: NetworkConfig) -> list[Fault]:
    name = config.pooling if isinstance(config.pooling, str) else None
    rules: dict[str, tuple[bool, str]] = {
        "filters": (_are_counts(config.filters), "a list of whole numbers, at least 1 each"),
        "kernel": (_is_count(config.kernel) and config.kernel % 2 == 1, "an odd whole number"),
        "pools": (
            _are_counts(config.pools) and _are_counts(config.filters) and len(config.pools) == len(config.filters),
            "one whole number for each of the filters, at least 1 each",
        ),
        "dropout": (_is_share(config.dropout), "a number in [0, 1)"),
        "lstm_cells_per_direction": (_is_count(config.lstm_cells_per_direction), "a whole number, at least 1"),
        "pooling": (
            callable(config.pooling) or name in POOLINGS,
            f"one of {', '.join(POOLINGS)}, or a function from the number of features to a module",
        ),
        "masked": (isinstance(config.masked, bool), "true or false"),
        "initialization": (config.initialization in INITIALIZATIONS, f"one of {', '.join(INITIALIZATIONS)}"),
    }
    return [
        Fault(f"network: {field}", got=repr(getattr(config, field)), expected=expected)
        for field, (holds, expected) in rules.items()
        if not holds
    ]


def _check_sizes(mels: int, classes: int, head: str) -> None:
    faults = []
    if not _is_count(mels):
        faults.append(Fault("network: mels", got=repr(mels), expected="a whole number, at least 1"))
    if not _is_count(classes) or classes < 2:
        faults.append(Fault("network: classes", got=repr(classes), expected="a whole number, at least 2"))
    if head not in HEADS:
        faults.append(Fault("network: head", got=repr(head), expected=f"one of {', '.join(HEADS)}"))
    if faults:
        raise ConfigError.of(faults)


def _make_pooling(pooling: str | Callable[[int], nn.Module], features: int) -> nn.Module:
    module = POOLINGS[pooling](features) if isinstance(pooling, str) else pooling(features)
    if not isinstance(module, nn.Module) or not _is_count(getattr(module, "size", None)):
        raise ConfigError(
            f"network: pooling {getattr(pooling, '__name__', pooling)}",
            got=f"{type(module).__name__} with size {getattr(module, 'size', 'missing')}",
            expected="a torch module whose attribute `size` is the length of its output",
        )
    return module


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _are_counts(values: object) -> bool:
    return isinstance(values, tuple) and len(values) > 0 and all(map(_is_count, values))


def _is_share(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < 1
