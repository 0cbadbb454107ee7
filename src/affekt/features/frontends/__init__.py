"""Front ends beside log-mel, for prior systems and for networks on the waveform; one file each.

A front end is a frozen dataclass that implements :class:`affekt.features.log_mel.FrontEnd`.
"""

from __future__ import annotations

from collections.abc import Mapping

from affekt.features.frontends.deltas import Deltas
from affekt.features.frontends.descriptors import Descriptors
from affekt.features.frontends.encoder_states import EncoderStates
from affekt.features.frontends.functionals import LogMelFunctionals, SpeechFunctionals
from affekt.features.frontends.opensmile import OpenSmile
from affekt.features.frontends.spectrogram import Spectrogram
from affekt.features.frontends.waveform import Waveform
from affekt.features.frontends.whisper_log_mel import WhisperLogMel
from affekt.features.log_mel import FeatureConfig, FrontEnd

__all__ = [
    "FRONT_ENDS",
    "Deltas",
    "Descriptors",
    "EncoderStates",
    "LogMelFunctionals",
    "OpenSmile",
    "Spectrogram",
    "SpeechFunctionals",
    "Waveform",
    "WhisperLogMel",
    "front_end_name",
]

FRONT_ENDS: Mapping[str, type[FrontEnd]] = {
    "log-mel": FeatureConfig,
    "deltas": Deltas,
    "spectrogram": Spectrogram,
    "waveform": Waveform,
    "descriptors": Descriptors,
    "log-mel-functionals": LogMelFunctionals,
    "speech-functionals": SpeechFunctionals,
    "opensmile": OpenSmile,
    "whisper-log-mel": WhisperLogMel,
    "encoder-states": EncoderStates,
}
"""Front ends by the name that configuration files use."""


def front_end_name(front_end: FrontEnd) -> str | None:
    """The name of a front end's kind; None for a user-defined one.

    >>> front_end_name(Waveform())
    'waveform'
    """
    return next((name for name, kind in FRONT_ENDS.items() if type(front_end) is kind), None)
