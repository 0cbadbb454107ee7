"""Features of openSMILE (Eyben et al. 2010), an optional extra: `pip install affekt[opensmile]`.

Mind its license: free for research, not for products. What is extracted here is the original's, to the digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affekt.errors import ConfigError
from affekt.features.log_mel import Extractor

Level = Literal["functionals", "descriptors"]
LEVELS = {"functionals": "Functionals", "descriptors": "LowLevelDescriptors"}
SIZES = {
    ("eGeMAPSv02", "functionals"): 88,
    ("eGeMAPSv02", "descriptors"): 25,
    ("IS09", "functionals"): 384,
    ("IS09", "descriptors"): 16,
    ("IS13", "functionals"): 6373,
    ("IS13", "descriptors"): 65,
    ("ComParE_2016", "functionals"): 6373,
    ("ComParE_2016", "descriptors"): 65,
}
"""Numbers a vector has, by set and level: known without openSMILE, so that any machine can read a checkpoint."""


@dataclass(frozen=True)
class OpenSmile:
    """A feature set of openSMILE, one vector a recording (functionals) or one every 10 ms (low-level descriptors).

    Attributes:
        feature_set, level: which; see :data:`SIZES`.
        sample_rate_hz: rate of the waveforms.
        clip_seconds: longer recordings are cut to this length.

    Raises:
        ConfigError: a set or level that is not in :data:`SIZES`.

    >>> OpenSmile().dims
    88
    """

    feature_set: str = "eGeMAPSv02"
    level: Level = "functionals"
    sample_rate_hz: int = 16_000
    clip_seconds: float = 30.0

    def __post_init__(self) -> None:
        if (self.feature_set, self.level) not in SIZES:
            known = ", ".join(f"{name} {level}" for name, level in SIZES)
            raise ConfigError("features", got=f"{self.feature_set} {self.level}", expected=f"one of {known}")

    @property
    def hop_seconds(self) -> float:
        return self.clip_seconds if self.level == "functionals" else 0.01

    @property
    def clip_frames(self) -> int:
        return round(self.clip_seconds / self.hop_seconds)

    @property
    def dims(self) -> int:
        return SIZES[self.feature_set, self.level]

    @property
    def silence(self) -> float:
        return 0.0

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its vectors.

        Raises:
            ConfigError: openSMILE is not installed.
        """
        smile = self._smile()

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames dims"]:
            table = smile.process_signal(samples.cpu().numpy(), self.sample_rate_hz)
            values = np.nan_to_num(table.to_numpy(np.float32), posinf=0.0, neginf=0.0)
            return torch.from_numpy(values).to(device)

        return extract

    def _smile(self) -> Any:
        try:
            import opensmile
        except ImportError as error:
            remedy = "pip install 'affekt[opensmile]', and mind its license"
            raise ConfigError("features opensmile", got="no opensmile", remedy=remedy) from error
        level = opensmile.FeatureLevel[LEVELS[self.level]]
        return opensmile.Smile(opensmile.FeatureSet[self.feature_set], level)
