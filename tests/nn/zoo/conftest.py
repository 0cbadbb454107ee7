"""Small configurations of the zoo's networks, and input for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from affekt.nn.zoo import make_network

ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
DIMS = {
    "lstm": 10,
    "lstm-attention": 32,
    "rnn-attention": 32,
    "cnn-blstm": 40,
    "tdnn-lstm": 1,
    "resnet-mha": 17,
    "crnn-3d": 24,
    "ecapa": 40,
    "ssl": 1,
    "svm": 10,
    "linear": 10,
    "encoder-back-end": 12,
    "tuned-encoder": 10,
    "encoder-classifier": 10,
}
WHISPER = {"width": 12, "heads": 3, "hidden": 20, "positions": 40}
SMALL: dict[str, dict[str, Any]] = {
    "lstm": {"cells": 8, "dense": 6, "input_dropout": 0.1, "dropout": 0.1},
    "lstm-attention": {"hidden": 16, "cells": 8},
    "rnn-attention": {"hidden": 16, "cells": 8},
    "cnn-blstm": {"maps": (3, 4, 5), "cells": 8, "dense": 6},
    "tdnn-lstm": {"filters": 10, "width": 16, "projection": 8, "heads": 2},
    "resnet-mha": {"width": 2, "heads": 4, "dense": 10},
    "crnn-3d": {"maps": 4, "convolutions": 3, "hidden": 16, "cells": 8, "dense": 6},
    "ecapa": {"channels": 16, "scale": 4, "bottleneck": 4, "embedding": 6},
    "ssl": {"config": ENCODER, "frozen": False},
    "svm": {},
    "linear": {},
    "encoder-back-end": {"cells": 8, "dropout": 0.1},
    "tuned-encoder": {"cells": 8, "dropout": 0.1, **WHISPER},
    "encoder-classifier": WHISPER,
}
FRAME_SAMPLES = 160


@pytest.fixture
def small() -> Callable[..., nn.Module]:
    """`small(name, **changes)`: a small seeded network of the zoo whose batch norms are far from the identity."""

    def make(name: str, head: Any = "linear", **changes: Any) -> nn.Module:
        if name == "ssl":
            pytest.importorskip("transformers")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = make_network(name, DIMS[name], 4, head, **SMALL[name] | changes)
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    nn.init.normal_(module.running_mean, std=0.3)
                    nn.init.uniform_(module.running_var, 0.5, 2.0)
        return network

    return make


@pytest.fixture
def ragged() -> Callable[..., tuple[Tensor, Tensor]]:
    """`ragged(name, 30, 20, padding=7.0)`: input of so many frames each, what follows the shorter ones is not zero."""

    def make(name: str, *frames: int, padding: float = 7.0, extra: int = 0) -> tuple[Tensor, Tensor]:
        unit = FRAME_SAMPLES if DIMS[name] == 1 else 1
        lengths = torch.tensor(frames) * unit
        if name in ("lstm", "svm", "linear"):
            lengths = torch.ones_like(lengths)  # utterances are isolated
        batch = torch.full((len(frames), int(lengths.max()) + extra * unit, DIMS[name]), padding)
        generator = torch.Generator().manual_seed(1)
        for row, length in zip(batch, lengths.tolist(), strict=True):
            row[:length] = torch.randn(length, DIMS[name], generator=generator)
        return batch, lengths

    return make
