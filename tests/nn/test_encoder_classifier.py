"""The linear model on the encoder: which states count, and what the detectors say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affekt.errors import ConfigError
from affekt.nn.encoder_classifier import Detectors, EncoderClassifier, active_span


def levels(*decades: float) -> torch.Tensor:
    """Log-mel of frames with all power in one band: [1, frames, 80], a frame's level in factors of ten."""
    features = torch.full((1, len(decades), 80), -50.0)
    features[0, :, 3] = torch.tensor(decades) / 4
    return features


def test_quiet_ends_are_left_out() -> None:
    """Worked example: states of two frames each; 35 dB below the loudest, 1e-3.5, is quiet; a quiet middle stays."""
    features = levels(-9, -9, -9, -3.4, 0, 0, -9, -9, -3.4, -9, -9, -9, -9)
    span = active_span(features, None, trim_db=35.0, margin=0)
    assert span.tolist() == [[False, True, True, True, True, False, False]]
    assert active_span(features, None, 35.0, margin=1).tolist() == [[True] * 6 + [False]]
    assert active_span(features, None, 33.0, margin=0).sum() == 1


def test_frames_past_the_end_are_not_heard() -> None:
    features = levels(-9, -9, 0, 0, -2, -9, 5, 5)
    alone = active_span(features[:, :5], None, 35.0, margin=0)
    together = active_span(features, torch.tensor([5]), 35.0, margin=0)
    assert alone.tolist() == [[False, True, True]]
    assert together.tolist() == [[False, True, True, False]]


def test_trimming_changes_the_embedding_only_where_there_are_quiet_ends() -> None:
    torch.manual_seed(0)
    plain = EncoderClassifier(80, 4, width=12, heads=3, hidden=16).eval()
    trimmed = EncoderClassifier(80, 4, width=12, heads=3, hidden=16, trim_db=35.0).eval()
    trimmed.load_state_dict(plain.state_dict())
    loud, quiet = torch.rand(1, 60, 80), torch.rand(1, 60, 80)
    quiet[:, 30:] -= 4
    with torch.inference_mode():
        assert torch.equal(plain.pooled(loud), trimmed.pooled(loud))
        assert not torch.allclose(plain.pooled(quiet), trimmed.pooled(quiet), atol=1e-3)


def test_outliers_by_the_definition() -> None:
    """The oracle inverts the covariance that the components stand for."""
    draw = np.random.default_rng(0)
    axes = np.linalg.qr(draw.normal(size=(9, 2)))[0]
    mean, variances, rest = draw.normal(size=9), np.array([6.0, 2.0]), 0.5
    covariance = rest * np.eye(9) + (axes * (variances - rest)) @ axes.T
    z = draw.normal(size=(5, 9))
    expected = np.einsum("bi,ij,bj->b", z - mean, np.linalg.inv(covariance), z - mean) / 9
    detectors = Detectors(outlier_mean=mean, outlier_axes=axes, outlier_variances=variances, outlier_rest=rest)
    np.testing.assert_allclose(detectors(torch.tensor(z, dtype=torch.float32))["outlier"], expected, rtol=1e-5)


def test_half_a_detector_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 1 of four"):
        Detectors(outlier_mean=np.zeros(3))
