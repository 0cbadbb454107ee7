"""The channels of a recording: their mix, one of them, or each by itself.

By default all channels are averaged to one. Where they hold the same sound with opposite signs, the average is silence
although every channel is loud: a microphone cable with swapped wires does that. :class:`Balance` notices it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from affekt.errors import AudioError, ConfigError

Channels: TypeAlias = Literal["mix", "each", "left", "right"] | int
"""`mix` averages all channels, `left` and `right` are the first two, an index counts from 0, `each` keeps all apart."""

NAMES = {"left": 0, "right": 1}
CANCELED = 0.05
"""Power of the mix, as a share of what independent channels would give, below which channels cancel (-13 dB)."""
SILENT_PEAK = 1e-4
"""-80 dB of full scale: below it a recording counts as silent."""
HEAR_ONE = "hear one channel: --channels left"


def check_channels(channels: Channels) -> None:
    """Refuse a choice of channels that no recording can have.

    Raises:
        ConfigError: neither one of the four words nor an index from 0.
    """
    is_index = isinstance(channels, int) and not isinstance(channels, bool) and channels >= 0
    if not is_index and channels not in ("mix", "each", "left", "right"):
        raise ConfigError("channels", got=repr(channels), expected="mix, each, left, right or an index from 0")


def channel_name(index: int, count: int) -> str:
    """The name of one channel among `count` of them.

    >>> channel_name(0, 2), channel_name(1, 2), channel_name(1, 6), channel_name(0, 1)
    ('left', 'right', 'channel 2', 'mono')
    """
    if count <= 2:
        return ("left", "right")[index] if count == 2 else "mono"
    return f"channel {index + 1}"


def select(frames: NDArray[np.float32], channels: Channels, name: str) -> NDArray[np.float32]:
    """The wanted channels of [frames, channels]: [frames] for one or the mix, [frames, channels] for `each`.

    Raises:
        AudioError: the recording lacks the channel.
    """
    count = frames.shape[1]
    if channels == "each":
        return frames
    if channels == "mix":
        return frames.mean(axis=1, dtype=np.float32) if count > 1 else frames[:, 0]
    index = NAMES[channels] if isinstance(channels, str) else channels
    if index >= count:
        got = f"{count} channel{'s' * (count > 1)}"
        wanted = f"{channels} channel" if isinstance(channels, str) else f"channel {index + 1}"
        raise AudioError(name, got=got, expected=f"a {wanted}", remedy="--channels mix takes all")
    return frames[:, index]


class Balance:
    """Compare the power of the mix with that of the channels.

    For n channels with powers p_i that are independent of each other, the mean of the channels has the power
    (p_1 + ... + p_n) / n^2. Equal channels give more, channels of opposite sign less.
    """

    def __init__(self) -> None:
        self._mix_power = 0.0
        self._channel_power = 0.0
        self._mix_peak = 0.0
        self._peak = 0.0
        self._count = 1

    def add(self, frames: NDArray[np.float32], mix: NDArray[np.float32]) -> None:
        """Take a part into account: its [frames, channels] and their mix [frames]."""
        self._count = frames.shape[1]
        self._mix_power += float(np.vdot(mix, mix))
        self._channel_power += float(np.vdot(frames, frames)) / self._count
        self._mix_peak = max(self._mix_peak, float(np.abs(mix).max()))
        self._peak = max(self._peak, float(np.abs(frames).max()))

    @property
    def cancel(self) -> bool:
        """Whether the channels are heard but cancel each other in the mix."""
        independent_power = self._channel_power / self._count
        return self._peak >= SILENT_PEAK and self._mix_power < CANCELED * independent_power

    def warning(self) -> str:
        """A warning that the mix is quieter than its channels, with the remedy; empty unless they :attr:`cancel`."""
        if not self.cancel:
            return ""
        ratio_db = 10 * np.log10(max(self._mix_power, 1e-12 * self._channel_power) / self._channel_power)
        return f"the channels cancel each other: their mix is {-ratio_db:.0f} dB quieter; {HEAR_ONE}"

    def check(self, name: str) -> None:
        """Refuse a silent mix of channels that cancel each other.

        Raises:
            AudioError: no sample of the mix is above -80 dB, but samples of the channels are.
        """
        if self.cancel and self._mix_peak < SILENT_PEAK:
            raise AudioError(name, got="channels that cancel each other when mixed", expected="speech", remedy=HEAR_ONE)
