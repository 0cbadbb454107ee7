"""The clip length of a corpus that leaves as many recordings whole as the paper's does on its own."""

from __future__ import annotations

import numpy as np

from affekt.audio import probe
from affekt.data.manifest import Manifest
from affekt.errors import AudioError

WHOLE_SHARE = 0.856
"""Share of the 5,531 utterances of IEMOCAP that 7.5 s leave whole."""


def clip_length_seconds(manifest: Manifest, share: float = WHOLE_SHARE) -> float:
    """The quantile of the durations of the recordings, from their headers, rounded to 10 ms.

    Args:
        manifest: recordings; each counts as a whole, without the start and end of its row.
        share: of recordings that are no longer than the result, in (0, 1].

    Raises:
        AudioError: a recording whose header does not say how long it is.
    """
    durations = []
    for path in manifest.audio_paths():
        seconds = probe(path).duration_seconds
        if seconds is None:
            raise AudioError(str(path), got="no duration in the header", remedy="give the clip length in seconds")
        durations.append(seconds)
    return round(float(np.quantile(durations, share)), 2)
