"""Print the clip length that leaves as many recordings whole as the paper's 7.5 s leave on IEMOCAP: 85.6 %.

python scripts/clip_length.py crema-d.csv [SHARE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from affekt.data.manifest import Manifest

SHARE = 0.856


def clip_length(manifest: Manifest, share: float = SHARE) -> float:
    """The quantile of the durations of whole recordings, in seconds."""
    durations = [soundfile.info(path).duration for path in manifest.audio_paths()]
    return float(np.quantile(durations, share))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("share", type=float, nargs="?", default=SHARE)
    arguments = parser.parse_args()
    print(f"{clip_length(Manifest.read(arguments.manifest), arguments.share):.2f} s")
