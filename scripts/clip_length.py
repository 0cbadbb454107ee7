"""Print the clip length that leaves as many recordings whole as the paper's 7.5 s leave on IEMOCAP: 85.6 %.

python scripts/clip_length.py crema-d.csv [SHARE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from affekt.data.clip_length import WHOLE_SHARE, clip_length_seconds
from affekt.data.manifest import Manifest
from affekt.errors import AffektError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("share", type=float, nargs="?", default=WHOLE_SHARE)
    arguments = parser.parse_args()
    try:
        print(f"{clip_length_seconds(Manifest.read(arguments.manifest), arguments.share):g} s")
    except AffektError as error:
        sys.exit("\n".join(f"error: {fault}" for fault in error.faults))
