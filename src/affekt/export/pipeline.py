"""The pipeline of a trained model in PyTorch: the definition that an exported file is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.features.frontends import EncoderStates, WhisperLogMel
from affekt.features.log_mel import FeatureConfig, LogMel, Normalizer
from affekt.nn.encoder import WhisperEncoder
from affekt.nn.encoder_classifier import Detectors
from affekt.training.checkpoint import Checkpoint

Features = FeatureConfig | WhisperLogMel | EncoderStates


class PipelineOutput(NamedTuple):
    """The outputs of the pipeline, or of its file, for a batch.

    Attributes:
        probabilities: calibrated, float32 [batch, classes].
        embedding: the deep feature, float32 [batch, features].
    """

    probabilities: Float[Tensor, "batch classes"]
    embedding: Float[Tensor, "batch features"]


class Pipeline(nn.Module):
    """Waveform -> clip -> features -> normalizer -> network -> logits / temperature -> softmax.

    Args:
        network: takes normalized features and lengths, gives scores and embedding.
        features: the front end that it was trained with.
        normalizer: of the features; None: features are used as they are.
        logits: from the network's scores to the logits of the softmax (`Loss.logits`).
        temperature: what the logits are divided by.
        masked: whether the network hides padding; by default as its configuration says, and true for encoders.
        detectors: scores of the embedding beside the classes.
        encoder: computes the features, where these are an encoder's states.

    >>> from affekt.nn import Network, NetworkConfig
    >>> network = Network(NetworkConfig(filters=(4, 4), pools=(2, 2)), mels=40, classes=3)
    >>> pipeline = Pipeline(network, FeatureConfig(), Normalizer((0.0,) * 40, (1.0,) * 40))
    >>> pipeline(torch.zeros(2, 8_000), torch.tensor([8_000, 100])).probabilities.shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        network: nn.Module,
        features: Features,
        normalizer: Normalizer | None = None,
        logits: Callable[[Tensor], Tensor] = lambda scores: scores,
        temperature: float = 1.0,
        masked: bool | None = None,
        detectors: Detectors | None = None,
        encoder: WhisperEncoder | None = None,
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.features = features
        self.normalizer = normalizer or Normalizer((0.0,) * features.dims, (1.0,) * features.dims)
        self.logits = logits
        self.temperature = temperature
        self.detectors = detectors
        self.encoder = encoder
        own = bool(getattr(getattr(network, "config", None), "masked", not isinstance(features, FeatureConfig)))
        self.masked = own if masked is None else masked
        self.log_mel = LogMel(features) if isinstance(features, FeatureConfig) else self.whisper_features.module()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Pipeline:
        """The pipeline of a trained model.

        Raises:
            ConfigError: a system whose front end has no form in ONNX.
        """
        features, normalizer = checkpoint.system.features, checkpoint.normalizer
        if not isinstance(features, Features):
            got, expected = f"features of {type(features).__name__}", "log-mel features or an encoder's"
            raise ConfigError(f"export of {checkpoint.system.name}", got=got, expected=expected)
        network, loss = checkpoint.build()
        encoder = checkpoint.encoder() if isinstance(features, EncoderStates) else None
        return cls(network, features, normalizer, loss.logits, checkpoint.temperature, encoder=encoder)

    @property
    def whisper_features(self) -> WhisperLogMel:
        """Input of the encoder."""
        assert not isinstance(self.features, FeatureConfig)
        return self.features.log_mel if isinstance(self.features, EncoderStates) else self.features

    def prepare(
        self, waveform: Float[Tensor, "batch samples"], samples: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames dims"], Int[Tensor, " batch"]]:
        """Normalized features and valid frames."""
        if not isinstance(self.features, FeatureConfig):
            return self._prepare_encoder(waveform, samples)
        config = self.features
        clipped = waveform[:, : config.clip_samples]
        clipped = clipped * (torch.arange(clipped.shape[1]) < samples[:, None])
        if not self.masked:
            clipped = nn.functional.pad(clipped, (0, config.clip_samples - clipped.shape[1]))
        lengths = ((samples + config.hop_samples - 1) // config.hop_samples).clamp(1, config.clip_frames)
        own = samples.clamp(max=config.clip_samples)
        return self.normalizer(self.log_mel(clipped, own)), lengths

    def _prepare_encoder(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        log_mel, lengths = self.whisper_input(waveform, samples)
        if not isinstance(self.features, EncoderStates):
            return self.normalizer(log_mel), lengths
        assert self.encoder is not None
        states, lengths = self.features.states(self.encoder, log_mel, lengths)
        return self.normalizer(states), lengths

    def whisper_input(
        self, waveform: Float[Tensor, "batch samples"], samples: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames mels"], Int[Tensor, " batch"]]:
        """Whisper's log-mel features of a batch and each recording's frames."""
        config = self.whisper_features
        own = samples.clamp(max=config.clip_samples)
        lengths = torch.tensor([config.frames(count) for count in own.tolist()])
        return self.log_mel(waveform[:, : config.clip_samples], own), lengths

    @torch.inference_mode()
    def forward(self, waveform: Float[Tensor, "batch samples"], samples: Int[Tensor, " batch"]) -> PipelineOutput:
        """Probabilities and embedding of a batch.

        Args:
            waveform: padded to a common length with anything.
            samples: each recording's own.
        """
        scores, embedding = self.network(*self.prepare(waveform, samples))
        return PipelineOutput((self.logits(scores) / self.temperature).softmax(-1), embedding)
