"""What every network of the zoo promises: its size, its shapes, its gradients, and that padding does not matter."""

from __future__ import annotations

import pytest
import torch

from affekt.errors import ConfigError
from affekt.nn.zoo import ZOO, make_network, zoo_faults

NAMES = list(ZOO)
SOLVED = ("svm", "linear")
COSINE = [name for name in NAMES if name not in ("tdnn-lstm", *SOLVED)]
PUBLISHED = {
    # name: (dims, options, millions of parameters in the papers, or counted from their layers)
    "lstm": (100, {}, 1.03),
    "lstm, all functionals": (6373, {}, 16.1),
    "lstm-attention": (32, {}, 1.14),
    "rnn-attention": (32, {}, 0.94),
    "cnn-blstm": (200, {}, 1.04),
    "cnn-blstm, 10 Hz": (400, {}, 1.86),
    "tdnn-lstm": (1, {}, 6.4),
    "tdnn-lstm, narrow": (1, {"width": 256, "projection": 64}, 1.7),
    "resnet-mha": (17, {}, 9.94),
    "resnet-mha, no attention": (17, {"heads": 0}, 8.89),
    "crnn-3d": (120, {}, 9.30),
    "crnn-3d, authors' pooling": (120, {"pool": (2, 4)}, 7.34),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_parameters_are_the_papers(row: str) -> None:
    dims, options, millions = PUBLISHED[row]
    with torch.device("meta"):
        network = make_network(row.partition(",")[0], dims, 4, **options)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str, small, ragged) -> None:
    network = small(name).eval()
    for lengths in ((1, 9), (31, 40, 33)):
        features, valid = ragged(name, *lengths)
        scores, embedding = network(features, valid)
        assert scores.shape == (len(lengths), 4)
        assert embedding.shape == (len(lengths), network.embedding_size)
        assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", NAMES)
def test_alone_in_a_batch_and_padded_further_is_the_same(name: str, small, ragged) -> None:
    network = small(name).eval()
    features, lengths = ragged(name, 40, 23, 31)
    longer, _ = ragged(name, 40, 23, 31, padding=-3.0, extra=17)
    with torch.inference_mode():
        together = network(features, lengths)
        padded = network(longer, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = network(features[row : row + 1, :length])
            torch.testing.assert_close(alone.scores[0], together.scores[row], atol=2e-6, rtol=1e-5)
            torch.testing.assert_close(alone.embedding[0], padded.embedding[row], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SOLVED])
def test_training_does_not_see_padding(name: str, small, ragged) -> None:
    """Batch norms included: their statistics are of the valid frames."""
    results = []
    for extra, padding in ((0, 7.0), (13, -2.0)):
        without = ("crnn-3d", "ecapa", "ssl", "encoder-classifier")
        network = small(name, **({"dropout": 0.0} if name not in without else {}))
        if name == "lstm":
            network.input_dropout.p = 0.0
        if name == "ssl":
            network.eval()  # transformers' encoders have dropout of their own
        scores, _ = network.train(name != "ssl")(*ragged(name, 40, 23, 31, padding=padding, extra=extra))
        scores.square().sum().backward()
        results.append((scores.detach(), [parameter.grad for parameter in network.parameters()]))
    (first, gradients), (second, others) = results
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SOLVED])
def test_every_parameter_has_a_gradient(name: str, small, ragged) -> None:
    network = small(name).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        scores, _ = network(*ragged(name, 40, 23, 31, 36, 28))
        torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2, 3, 1])).backward()
    without = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    unused = {
        "lstm": {"blstm.weight_hh_l0", "blstm.weight_hh_l0_reverse"},  # a single utterance has no history
        "ssl": {"encoder.encoder.layer_norm.weight", "encoder.encoder.layer_norm.bias"},  # after the last layer
    }
    assert set(without) == unused.get(name, set())


@pytest.mark.parametrize("name", COSINE)
def test_scores_are_the_head_applied_to_the_embedding(name: str, small, ragged) -> None:
    network = small(name, head="cosine").eval()
    scores, embedding = network(*ragged(name, 30, 20))
    directions = torch.nn.functional.normalize(network.head.weight)
    expected = torch.nn.functional.normalize(embedding) @ directions.T
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "dims", "head", "message"),
    [
        ("tdnn-lstm", 40, "linear", "40 features"),
        ("tdnn-lstm", 1, "cosine", "a cosine head"),
        ("svm", 8, "cosine", "a cosine head"),
        ("linear", 8, "cosine", "a cosine head"),
        ("crnn-3d", 40, "linear", "log-mel, delta and delta-delta"),
        ("ssl", 40, "linear", "the waveform"),
        ("rnn", 40, "linear", "got 'rnn', expected one of lstm, lstm-attention"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, dims: int, head: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_network(name, dims, 4, head)


def test_options_are_checked() -> None:
    faults = zoo_faults("ecapa", {"channel": 3, "dims": 1, "scale": 4})
    assert [fault.what for fault in faults] == ["network ecapa: option 'channel'", "network ecapa: option 'dims'"]
    with pytest.raises(ConfigError, match="network rnn-attention"):
        make_network("rnn-attention", 32, 4, cells="many")
