"""Hidden states of Whisper's encoder as features: the encoder is frozen, and networks are trained on its states.

The weights come from a folder when features are computed (AFFEKT_ENCODER, or `--encoder`), and every checkpoint keeps a
copy of them. States are the same whenever they are computed, so an experiment computes them once for each corpus and
keeps them in 16 bits (:mod:`affekt.experiments.kept_features`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from affekt.errors import ConfigError, Fault
from affekt.features.frontends.whisper_log_mel import HOP_SAMPLES, RATE_HZ, WhisperLogMel
from affekt.features.log_mel import Extractor
from affekt.nn.encoder import WhisperEncoder, encoder_folder, read_encoder
from affekt.nn.encoder_classifier import active_span, mean_and_deviation

TOP = 5.4
"""Value of each recording's loudest band, about that of a recording at full scale."""


@dataclass(frozen=True)
class EncoderStates:
    """States after Whisper's first layers, every 20 ms or averaged over windows, or their statistics over all time.

    Attributes:
        layers: transformer layers after the convolution stem.
        width: length of the encoder's states.
        pool: states are averaged over windows of so many, the last one perhaps in part; 8 are 160 ms.
        pooled: whether an utterance is one vector, mean and standard deviation over time (2 x width).
        trim_db: of pooled states, those before the first and after the last one within this of the loudest do not
            count; 0 counts all.
        log_mel: the encoder's input.

    Raises:
        ConfigError: values out of range, all at once.
    """

    layers: int = 1
    width: int = 384
    pool: int = 1
    pooled: bool = False
    trim_db: float = 0.0
    log_mel: WhisperLogMel = field(default_factory=lambda: WhisperLogMel(top=TOP))

    def __post_init__(self) -> None:
        faults = []
        if self.layers < 0:
            faults.append(Fault("features.layers", str(self.layers), "0 or more"))
        if self.width < 1:
            faults.append(Fault("features.width", str(self.width), "at least 1"))
        if not 1 <= self.pool <= 100 or (self.pooled and self.pool != 1):
            faults.append(
                Fault("features.pool", str(self.pool), "1 to 100, and 1 where states are pooled over all time")
            )
        if not 0 <= self.trim_db <= 60:
            faults.append(Fault("features.trim_db", str(self.trim_db), "0 to 60"))
        if faults:
            raise ConfigError.of(faults)

    @property
    def sample_rate_hz(self) -> int:
        return RATE_HZ

    @property
    def clip_seconds(self) -> float:
        return self.log_mel.clip_seconds

    @property
    def clip_samples(self) -> int:
        return self.log_mel.clip_samples

    @property
    def hop_samples(self) -> int:
        return 2 * HOP_SAMPLES * self.pool

    @property
    def hop_seconds(self) -> float:
        return self.hop_samples / RATE_HZ

    @property
    def clip_frames(self) -> int:
        return 1 if self.pooled else -(-self.log_mel.clip_frames // (2 * self.pool))

    @property
    def dims(self) -> int:
        return 2 * self.width if self.pooled else self.width

    @property
    def silence(self) -> float:
        """Value past an utterance's end; networks hide it."""
        return 0.0

    def encoder(self) -> WhisperEncoder:
        """The encoder in the folder that AFFEKT_ENCODER names, read once.

        Raises:
            ConfigError: no such folder, or another width than stated.
        """
        folder = encoder_folder()
        file = folder / "model.safetensors"
        written = file.stat().st_mtime_ns if file.exists() else 0
        encoder = _read(folder, written, self.layers, -(-self.log_mel.clip_frames // 2))
        if encoder.shape.width != self.width:
            got, expected = f"states of {encoder.shape.width} numbers", f"{self.width}"
            raise ConfigError(
                "encoder", got=got, expected=expected, remedy="set features.width, or use another encoder"
            )
        return encoder

    def states(
        self, encoder: WhisperEncoder, log_mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch states dims"], Int[Tensor, " batch"]]:
        """Features of a batch from its log-mel, and how many each utterance has."""
        states, mask = encoder(log_mel, lengths)
        if not self.pooled:
            return mean_of_windows(states, mask, self.pool), -(-lengths // (2 * self.pool))
        if self.trim_db > 0:
            mask = active_span(log_mel, lengths, self.trim_db)
        return mean_and_deviation(states, mask)[:, None], torch.ones_like(lengths)

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its features."""
        extract_log_mel, encoder = self.log_mel.extractor(device), self.encoder().to(device)

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "states dims"]:
            log_mel = extract_log_mel(samples)
            length = torch.tensor([len(log_mel)], device=log_mel.device)
            with torch.inference_mode():
                return self.states(encoder, log_mel[None], length)[0][0]

        return extract

    def digest(self) -> str:
        """A hash of the encoder's weights, which decide the features with the settings."""
        return weights_digest(self.encoder())


@lru_cache(maxsize=2)
def _read(folder: Path, written: int, layers: int, positions: int) -> WhisperEncoder:
    """The encoder in a folder whose weights were `written` at that time."""
    return read_encoder(folder, layers, positions).requires_grad_(False)


def mean_of_windows(
    states: Float[Tensor, "batch states width"], mask: Bool[Tensor, "batch states"] | None, pool: int
) -> Float[Tensor, "batch windows width"]:
    """Mean over windows of `pool` states, of the valid ones alone; zero where there are none.

    >>> states, mask = torch.tensor([[[1.0], [3.0], [8.0], [9.0]]]), torch.tensor([[True, True, True, False]])
    >>> mean_of_windows(states, mask, 2).tolist()
    [[[2.0], [8.0]]]
    """
    if pool == 1:
        return states
    valid = torch.ones_like(states[..., :1]) if mask is None else mask[..., None].to(states.dtype)
    missing = (0, 0, 0, -states.shape[1] % pool)
    sums, counts = (
        torch.nn.functional.pad(part, missing).unflatten(1, (-1, pool)).sum(2) for part in (states * valid, valid)
    )
    means: Tensor = sums / counts.clamp_min(1)
    return means


def weights_digest(encoder: WhisperEncoder) -> str:
    """SHA-256 of an encoder's parameters.

    >>> from affekt.nn.encoder import EncoderShape
    >>> len(weights_digest(WhisperEncoder(EncoderShape(width=8, heads=2, hidden=8))))
    64
    """
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
