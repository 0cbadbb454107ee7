"""openSMILE as a front end: the original's numbers, its sizes, and a word where it is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from affekt.errors import ConfigError
from affekt.features.frontends import OpenSmile
from affekt.features.frontends.opensmile import LEVELS, SIZES

PROGRAM = """
import numpy as np, torch, opensmile
from affekt.features.frontends import OpenSmile
from affekt.features.frontends.opensmile import LEVELS, SIZES
tone = (0.1 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)).astype(np.float32)
for (name, level), size in SIZES.items():
    smile = opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel[LEVELS[level]])
    assert smile.num_features == size, (name, level, smile.num_features)
own = OpenSmile().extractor()(torch.from_numpy(tone)).numpy()
smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
np.testing.assert_array_equal(own, smile.process_signal(tone, 16_000).to_numpy(np.float32))
assert OpenSmile("IS09", "descriptors").extractor()(torch.from_numpy(tone)).shape[1] == 16
print("the same", flush=True)
"""


@pytest.mark.slow
def test_numbers_are_the_originals() -> None:
    """In a process of its own: openSMILE may fall at its interpreter's end."""
    pytest.importorskip("opensmile")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "the same", done.stderr[-2000:]


def test_sizes_are_known_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    assert OpenSmile().dims == 88
    assert (OpenSmile().clip_frames, OpenSmile("IS09", "descriptors").clip_frames) == (1, 3_000)
    assert {level for _, level in SIZES} == set(LEVELS)
    with pytest.raises(ConfigError, match=r"pip install 'affekt\[opensmile\]'"):
        OpenSmile().extractor()


def test_numbers_that_are_none_become_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import pandas as pd

    class Smile:
        def process_signal(self, samples, rate):
            return pd.DataFrame([[1.0, np.nan, np.inf]])

    monkeypatch.setattr(OpenSmile, "_smile", lambda self: Smile())
    assert OpenSmile().extractor()(torch.zeros(10)).tolist() == [[1.0, 0.0, 0.0]]
