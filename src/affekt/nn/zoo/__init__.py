"""Prior systems and modern yardsticks, one file each; `docs/systems.md` says what is certain and what was chosen.

A network of the zoo is a class of (dims, classes, head, **options). It takes features and lengths, hides padding, gives
scores and the deep feature, and says how long that is (`embedding_size`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from affekt.errors import ConfigError, Fault
from affekt.nn.encoder_classifier import EncoderClassifier
from affekt.nn.network import Head
from affekt.nn.zoo.cnn_blstm import CNNBLSTM
from affekt.nn.zoo.crnn_3d import CRNN3D
from affekt.nn.zoo.dilated_resnet import DilatedResNet
from affekt.nn.zoo.ecapa import ECAPA
from affekt.nn.zoo.encoder_back_end import EncoderBackEnd, TunedEncoder
from affekt.nn.zoo.linear import ShrunkLinear
from affekt.nn.zoo.local_attention import LocalAttention
from affekt.nn.zoo.lstm import ContextualLSTM
from affekt.nn.zoo.lstm_attention import LSTMAttention
from affekt.nn.zoo.ssl_encoder import SSLEncoder
from affekt.nn.zoo.svm import LinearSVM
from affekt.nn.zoo.tdnn_lstm import TDNNLSTM

ZOO: Mapping[str, type[nn.Module]] = {
    "lstm": ContextualLSTM,
    "lstm-attention": LSTMAttention,
    "rnn-attention": LocalAttention,
    "cnn-blstm": CNNBLSTM,
    "tdnn-lstm": TDNNLSTM,
    "resnet-mha": DilatedResNet,
    "crnn-3d": CRNN3D,
    "ecapa": ECAPA,
    "ssl": SSLEncoder,
    "svm": LinearSVM,
    "linear": ShrunkLinear,
    "encoder-back-end": EncoderBackEnd,
    "tuned-encoder": TunedEncoder,
    "encoder-classifier": EncoderClassifier,
}
"""Networks by name, each made from the number of features, the number of classes, the head and its own options."""

GIVEN = ("dims", "classes", "head")


def zoo_faults(name: str, options: Mapping[str, Any]) -> list[Fault]:
    """Faults of a name and of the names of its options.

    >>> [str(fault) for fault in zoo_faults("lstm", {"cell": 3})]
    ["network lstm: option 'cell': got an unknown name, expected one of cells, dense, input_dropout, dropout"]
    """
    if name not in ZOO:
        return [Fault("network", repr(name), f"one of {', '.join(ZOO)}, or a table of the paper's network")]
    known = [option for option in inspect.signature(ZOO[name]).parameters if option not in GIVEN]
    expected = f"one of {', '.join(known)}"
    return [
        Fault(f"network {name}: option {option!r}", "an unknown name", expected)
        for option in options
        if option not in known
    ]


def make_network(name: str, dims: int, classes: int, head: Head = "linear", **options: Any) -> nn.Module:
    """A network of the zoo, by name.

    Raises:
        ConfigError: an unknown name or option, or features and losses that it cannot take.

    >>> make_network("lstm", dims=100, classes=4).embedding_size
    100
    """
    if faults := zoo_faults(name, options):
        raise ConfigError.of(faults)
    try:
        return ZOO[name](dims, classes, head, **options)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise ConfigError(f"network {name}", got=f"{options}: {error}", expected="options that it can take") from error
