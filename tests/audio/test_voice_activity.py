"""Voice activity: worked examples, invariance to how samples arrive, and silero against its own wrapper."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affekt import audio
from affekt.audio import voice_activity
from affekt.audio.voice_activity import DETECTORS, EnergyGate, SileroVad, detector, regions
from affekt.errors import ConfigError

RATE = 16_000
Babble = Callable[..., Any]


def noise(seconds: float, level_db: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (10 ** (level_db / 20) * rng.normal(size=round(seconds * RATE))).astype(np.float32)


def has_silero() -> bool:
    try:
        voice_activity._silero_file(SileroVad.MODEL)
    except ConfigError:
        return False
    return True


def detect(name: str, samples: Any) -> Any:
    return detector(name, RATE).feed(samples)


@pytest.mark.parametrize("background_db", [-90, -60, -40])
def test_bursts_stand_out_of_any_background(background_db: float) -> None:
    """One second of noise 25 dB above a steady background, from second 2 to 3."""
    signal = noise(5, background_db, seed=1)
    signal[2 * RATE : 3 * RATE] += noise(1, background_db + 25, seed=2)
    flags = detect("energy", signal)
    assert len(flags) == 250
    assert flags[102:148].all()
    assert not flags[:98].any()
    assert not flags[152:].any()


def test_steady_noise_becomes_background() -> None:
    """A fan that starts is speech at first and background after some seconds."""
    flags = detect("energy", np.concatenate([noise(1, -80), noise(20, -45)]))
    assert flags[50:60].all()
    assert not flags[-100:].any()


def test_offset_is_not_sound() -> None:
    """A constant, as bad microphones add it, is silence."""
    assert not detect("energy", np.full(RATE, 0.3, np.float32)).any()


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "silero"] + ["silero"])
def test_cutting_does_not_matter(name: str, babble: Babble) -> None:
    if name == "silero" and not has_silero():
        pytest.skip("the package silero-vad is not installed")
    samples = np.concatenate([noise(0.7, -70), babble(1.5), noise(0.5, -70)])
    whole = detect(name, samples)
    fed = detector(name, RATE)
    cuts = np.sort(np.random.default_rng(0).integers(0, len(samples), 40))
    parts = np.concatenate([fed.feed(part) for part in np.split(samples, cuts)])
    np.testing.assert_array_equal(parts, whole)
    assert len(whole) == len(samples) // detector(name, RATE).frame_samples


def test_speech_is_found_in_real_recordings(corpora: Path) -> None:
    """A quiet corpus: each recording has silence at both ends and speech within."""
    for file in sorted((corpora / "ravdess").rglob("*.flac"))[::180]:
        flags = detect("energy", audio.load(file))
        assert 0.15 < flags.mean() < 0.9, file
        assert not flags[:5].any(), file


@pytest.mark.skipif(not has_silero(), reason="the package silero-vad is not installed")
def test_silero_tells_speech_from_noise(corpora: Path) -> None:
    speech = audio.load(corpora / "emodb" / "wav" / "03a01Fa.wav")
    flags = detect("silero", np.concatenate([noise(1, -30), speech, noise(1, -30)]))
    spoken = slice(RATE // 512 + 2, (RATE + len(speech)) // 512 - 2)
    assert flags[spoken].mean() > 0.8
    assert flags[: RATE // 512 - 1].mean() < 0.1


def test_silero_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(ConfigError, match=r"got no silero-vad package, .* pip install"):
        detector("silero", RATE)


def test_unknown_detectors_and_rates() -> None:
    with pytest.raises(ConfigError, match="got 'psychic', expected one of energy, silero, none"):
        detector("psychic", RATE)
    with pytest.raises(ConfigError, match="got 8000 Hz, expected 16000 Hz"):
        detector("silero", 8_000)


def test_regions() -> None:
    flags = np.array([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1], np.bool_)
    assert regions(flags, 1, 0) == [(1, 3), (5, 6), (10, 13)]
    assert regions(flags, 2, 2) == [(1, 6), (10, 13)]
    assert regions(flags, 1, 10) == [(1, 13)]
    assert regions(flags[:1], 1, 1) == []


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5), st.integers(0, 5))
def test_regions_frame_by_frame(flags: list[bool], shortest: int, longest_gap: int) -> None:
    speech = "".join("x" if flag else "." for flag in flags)
    closed = (
        re.sub(rf"(?<=x)\.{{1,{longest_gap}}}(?=x)", lambda gap: "x" * len(gap[0]), speech) if longest_gap else speech
    )
    expected = [run.span() for run in re.finditer("x+", closed) if len(run[0]) >= shortest]
    assert regions(np.array(flags, np.bool_), shortest, longest_gap) == expected


def test_a_nervous_gate_hears_more() -> None:
    """Options matter: with a smaller margin, less has to stand out."""
    signal = noise(3, -60)
    signal[RATE : 2 * RATE] += noise(1, -54, seed=3)
    assert EnergyGate(RATE, margin_db=3).feed(signal).sum() > EnergyGate(RATE).feed(signal).sum() + 20


def test_noise_after_digital_silence_is_no_speech() -> None:
    """The background of an edited recording falls to nothing; the noise that follows is not speech for that."""
    parts = [noise(2, -20), np.zeros(RATE // 5, np.float32), noise(1.5, -70), noise(2, -20)]
    flags = detect("energy", np.concatenate(parts))
    assert flags[:95].all()
    assert not flags[105:180].any()
    assert flags[190:280].all()
