"""Audio in: read one recording, decode many, detect voice activity.

The names below are those of :mod:`affekt.audio.reader` and its parts, so ``from affekt import audio`` gives
``audio.load(...)``.
"""

from __future__ import annotations

from affekt.audio.byte_streams import Source, describe, open_regular, seekable
from affekt.audio.channels import Channels, channel_name, check_channels
from affekt.audio.decoders import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from affekt.audio.reader import LARGEST_PEAK, AudioInfo, Samples, blocks, load, probe, reading
from affekt.audio.remarks import remarks

__all__ = [
    "HIGHEST_RATE_HZ",
    "LARGEST_PEAK",
    "LOWEST_RATE_HZ",
    "AudioInfo",
    "Channels",
    "Samples",
    "Source",
    "blocks",
    "channel_name",
    "check_channels",
    "describe",
    "load",
    "open_regular",
    "probe",
    "reading",
    "remarks",
    "seekable",
]
