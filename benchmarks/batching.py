"""Cost of the model for a batch of recordings, compared with one run per recording.

    python -m benchmarks.batching [--model M.onnx]

One thread. Equal: recordings of the same length. Mixed: half of them half as long, so that batches are padded. The
variants run in turns; each figure is the best of several runs, in milliseconds per recording. The last line says
whether the answers equal those to single recordings, bit for bit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affekt.recognition.recognizer import Recognizer

Floats = NDArray[np.float32]

RATE_HZ = 16_000
RECORDINGS = 8
RUNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="by default the bundled one")
    recognizer = Recognizer.load(parser.parse_args().model, threads=1)
    sizes = [1, 2, 4, 8]
    print(f"{'recordings':<18}" + "".join(f"{f'batches of {size}':>14}" for size in sizes))
    for seconds in (1.0, 3.0, 7.5):
        for name, shares in (("equal", (1.0, 1.0)), ("mixed", (1.0, 0.5))):
            waveforms = noise([round(seconds * share * RATE_HZ) for share in shares * (RECORDINGS // 2)])
            best = measure(recognizer, waveforms, sizes)
            print(
                f"{f'{seconds:g} s, {name}':<18}"
                + "".join(f"{1_000 * best[size] / RECORDINGS:>14.1f}" for size in sizes)
            )
            print(f"{'  as alone':<18}" + "".join(f"{same(recognizer, waveforms, size)!s:>14}" for size in sizes))


def noise(lengths: Sequence[int]) -> list[Floats]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.normal(size=samples)).astype(np.float32) for samples in lengths]


def measure(recognizer: Recognizer, waveforms: Sequence[Floats], sizes: Sequence[int]) -> dict[int, float]:
    """Seconds for all waveforms, by batch size."""
    best = dict.fromkeys(sizes, float("inf"))
    for _ in range(RUNS):
        for size in sizes:
            started = time.perf_counter()
            answers(recognizer, waveforms, size)
            best[size] = min(best[size], time.perf_counter() - started)
    return best


def answers(recognizer: Recognizer, waveforms: Sequence[Floats], size: int) -> Floats:
    batches = [waveforms[start : start + size] for start in range(0, len(waveforms), size)]
    return np.concatenate([recognizer.probabilities(batch).probabilities for batch in batches])


def same(recognizer: Recognizer, waveforms: Sequence[Floats], size: int) -> bool:
    return np.array_equal(answers(recognizer, waveforms, size), answers(recognizer, waveforms, 1))


if __name__ == "__main__":
    main()
