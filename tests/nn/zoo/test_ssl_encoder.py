"""Self-supervised encoders, with small random configurations: no weights are fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from affekt.errors import ConfigError
from affekt.nn.zoo import make_network

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("pooling", ["attention", "combined", "statistics"])
def test_every_encoder_under_every_pooling(kind: str, pooling: str, small, ragged) -> None:
    network = small("ssl", kind=kind, pooling=pooling).eval()
    waveform, lengths = ragged("ssl", 60, 35)
    with torch.inference_mode():
        together = network(waveform, lengths)
        alone = network(waveform[1:, : lengths[1]])
    assert together.embedding.shape == (2, network.embedding_size)
    torch.testing.assert_close(together.scores[1], alone.scores[0], atol=1e-5, rtol=1e-4)


def test_a_frozen_encoder_learns_nothing_and_stays_calm(small, ragged) -> None:
    network = small("ssl", frozen=True).train()
    assert network.pooling.training
    assert not network.encoder.training
    scores, _ = network(*ragged("ssl", 40, 30))
    scores.sum().backward()
    assert all(parameter.grad is None for parameter in network.encoder.parameters())
    assert network.layers.grad is not None
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 3 + 32 * 4 + 4  # layers, head


def test_pretrained_weights_come_from_a_folder_when_training_starts(tmp_path: Path, small) -> None:
    donor = small("ssl")
    donor.encoder.save_pretrained(tmp_path)
    network = small("ssl", pretrained=str(tmp_path))
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter.zero_()
    network.load_pretrained()
    for own, given in zip(network.encoder.parameters(), donor.encoder.parameters(), strict=True):
        assert torch.equal(own, given)


def test_bad_weights_are_named(tmp_path: Path, small) -> None:
    with pytest.raises(ConfigError, match=r"No such folder: .*none"):
        small("ssl", pretrained=str(tmp_path / "none")).load_pretrained()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="weights of this encoder"):
        small("ssl", pretrained=str(tmp_path)).load_pretrained()


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of wav2vec2, hubert, wavlm"):
        make_network("ssl", 1, 4, kind="whisper")
