"""Write the recordings that the server's page offers for a try: two computed voices, of no person.

python scripts/page_examples.py [FOLDER]

They are lossless FLAC files of 16 kHz, the same bit for bit each time: utterances of the synthetic corpus
(:mod:`affekt.data.synthesis`), joined with a pause. They show how the page works and nothing about its accuracy.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from affekt.data.corpora.synthetic import generate
from affekt.runtime.atomic_files import write_bytes

FOLDER = Path(__file__).parents[1] / "src" / "affekt" / "serving" / "page"
RATE_HZ = 16_000
PAUSE_SECONDS = 0.8
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "example-one-voice.flac": ("synthetic-06-s03-neutral-01", "synthetic-06-s02-neutral-01"),
    "example-changing-voice.flac": (
        "synthetic-06-s01-neutral-01",
        "synthetic-06-s03-angry-01",
        "synthetic-06-s02-sad-01",
    ),
}
"""Utterances of each file."""


def make() -> Iterator[tuple[str, NDArray[np.int16]]]:
    """Name and 16-bit samples of each example."""
    wanted = {name for names in EXAMPLES.values() for name in names}
    found = {row["id"]: samples for row, samples in generate(speakers=6, sentences=3) if row["id"] in wanted}
    pause = np.zeros(round(PAUSE_SECONDS * RATE_HZ), np.float32)
    for file, names in EXAMPLES.items():
        parts = [found[names[0]]]
        for _, name in pairwise(names):
            parts += [pause, found[name]]
        yield file, np.round(np.concatenate(parts) * 32_767).astype(np.int16)


def encode(samples: NDArray[np.int16]) -> bytes:
    """A FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, samples in make():
        write_bytes(folder / name, encode(samples))
        print(folder / name, f"{len(samples) / RATE_HZ:.1f} s")
