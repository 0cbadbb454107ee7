"""Sounds that are not speech, made from a generator: they train the speech detector and measure it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from bundled.recordings import RATE_HZ, Waveform
from bundled.variations import Generator, colored, generator, low_pass, pass_band, reverberated, with_noise
from bundled.variations import hum as mains_hum

Floats = NDArray[Any]


def seconds(samples: int) -> Floats:
    """Times of samples."""
    return np.arange(samples) / RATE_HZ


def between(rng: Generator, low: float, high: float) -> float:
    """Uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def harmonics(rng: Generator, hertz: Any, samples: int, count: int, fall: float = 1.0, vibrato: float = 0.0) -> Floats:
    """A periodic sound of random harmonics below 7.6 kHz; `hertz` is a number or one for each sample."""
    waving = hertz * (1 + vibrato * np.sin(2 * np.pi * rng.uniform(4, 7) * seconds(samples)))
    phase = 2 * np.pi * np.cumsum(waving * np.ones(samples)) / RATE_HZ
    total = np.zeros(samples)
    for number in range(1, count + 1):
        if number * np.max(hertz) < 7_600:
            total += rng.uniform(0.3, 1) / number**fall * np.sin(number * phase + rng.uniform(0, 6.28))
    return total


def faded(samples: int, attack_seconds: float = 0.02, release_seconds: float = 0.1) -> Floats:
    """A gain that rises at the start and falls at the end."""
    gain = np.ones(samples)
    attack, release = int(attack_seconds * RATE_HZ), int(release_seconds * RATE_HZ)
    gain[:attack] = np.linspace(0, 1, attack)
    gain[-release:] *= np.linspace(1, 0, release)
    return gain


def faint(rng: Generator, samples: int, low: float = -5.0, high: float = -2.5) -> Floats:
    """White noise of a random small amplitude, in powers of 10."""
    return rng.standard_normal(samples) * 10 ** rng.uniform(low, high)


def tone(rng: Generator, n: int) -> Floats:
    return np.sin(2 * np.pi * between(rng, 80, 6_000) * seconds(n))


def chord(rng: Generator, n: int) -> Floats:
    root, third = between(rng, 110, 500), rng.choice([3, 4])
    return np.sum([harmonics(rng, root * 2 ** (step / 12), n, 5, 1.2) for step in (0, third, 7)], 0) * faded(n)


def sweep(rng: Generator, n: int) -> Floats:
    shape = rng.choice(["linear", "logarithmic"])
    return signal.chirp(seconds(n), between(rng, 80, 6_000), n / RATE_HZ, between(rng, 80, 6_000), method=shape)


def siren(rng: Generator, n: int) -> Floats:
    wave = signal.square if rng.random() < 0.4 else np.sin
    rate, depth = rng.uniform(0.2, 6), rng.uniform(0.1, 0.5)
    hertz = between(rng, 400, 1_500) * (1 + depth * wave(2 * np.pi * rate * seconds(n)))
    return harmonics(rng, hertz, n, int(rng.integers(1, 5)))


def tremolo(rng: Generator, n: int) -> Floats:
    carrier = tone(rng, n) if rng.random() < 0.5 else colored(rng, n, rng.uniform(0, 6))
    return carrier * (1 + rng.uniform(0.5, 1) * np.sin(2 * np.pi * rng.uniform(1, 30) * seconds(n)))


def white_noise(rng: Generator, n: int) -> Floats:
    return colored(rng, n, rng.uniform(-1, 1))


def pink_noise(rng: Generator, n: int) -> Floats:
    return colored(rng, n, rng.uniform(2, 4.5))


def brown_noise(rng: Generator, n: int) -> Floats:
    return colored(rng, n, rng.uniform(5, 9))


def blue_noise(rng: Generator, n: int) -> Floats:
    return colored(rng, n, rng.uniform(-7, -2))


def band_noise(rng: Generator, n: int) -> Floats:
    low_hz = between(rng, 200, 5_000)
    return pass_band(colored(rng, n), low_hz, min(low_hz * rng.uniform(1.1, 3), 7_800))


def hum(rng: Generator, n: int) -> Floats:
    return mains_hum(rng, n) + colored(rng, n, 4) * rng.uniform(0, 0.1)


def clicks(rng: Generator, n: int) -> Floats:
    gap = rng.uniform(0.05, 0.8)
    even = np.arange(0, n - 500, int(gap * RATE_HZ))
    sound = faint(rng, n)
    for start in even if rng.random() < 0.5 else rng.integers(0, n - 500, len(even) + 1):
        size = int(rng.integers(5, 400))
        decay = np.exp(-5 * np.arange(size) / size)
        sound[start : start + size] += rng.standard_normal(size) * decay * rng.uniform(0.5, 1)
    return sound


def engine(rng: Generator, n: int) -> Floats:
    speed = np.interp(seconds(n), np.linspace(0, n / RATE_HZ, 6), rng.uniform(0.7, 1.4, 6))
    return 0.4 * harmonics(rng, rng.uniform(20, 90) * speed, n, 40, 0.7) + colored(rng, n, 6)


def motor(rng: Generator, n: int) -> Floats:
    sound = harmonics(rng, rng.uniform(100, 400), n, 20, rng.uniform(0.3, 1), 0.002)
    return sound * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(5, 30) * seconds(n))) + rng.uniform(0.1, 1) * colored(
        rng, n, 2
    )


def melody(rng: Generator, n: int) -> Floats:
    sound, start = np.zeros(n), 0
    root, timbre = between(rng, 130, 600), rng.integers(3)
    while start < n - 3_000:
        size = min(int(rng.choice([0.15, 0.2, 0.3, 0.4, 0.6]) * RATE_HZ), n - start)
        hertz = root * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        plucked = np.exp(-seconds(size) * rng.uniform(2, 8))
        gain = plucked if timbre == 0 else faded(size, 0.01 * (1 + 4 * (timbre == 2)), 0.04)
        vibrato = 0.006 * (timbre == 2)
        note = harmonics(rng, hertz, size, int(rng.integers(3, 12)), rng.uniform(0.6, 1.5), vibrato)
        sound[start : start + size] += note * gain
        start += size
    return sound


def music(rng: Generator, n: int) -> Floats:
    sound = melody(rng, n) + 0.5 * melody(rng, n) + 0.4 * chord(rng, n)
    for start in range(0, n - 4_000, int(rng.uniform(0.3, 0.7) * RATE_HZ)):
        hit = rng.standard_normal(3_000) * np.exp(-np.arange(3_000) / 500)
        sound[start : start + 3_000] += hit * rng.uniform(0.2, 1)
    return sound


def drums(rng: Generator, n: int) -> Floats:
    sound, size = np.zeros(n), 5_000
    time = seconds(size)
    kick = np.sin(2 * np.pi * (60 * time + 8 * (1 - np.exp(-30 * time)))) * np.exp(-15 * time)
    for beat, start in enumerate(range(0, n - size, int(rng.uniform(0.15, 0.5) * RATE_HZ))):
        noise = 0.6 * rng.standard_normal(size) * np.exp(-time * (60 if beat % 2 else 25))
        sound[start : start + size] += kick if beat % 4 == 0 else noise
    return sound


def bells(rng: Generator, n: int) -> Floats:
    sound = np.zeros(n)
    for _ in range(int(rng.integers(1, 8))):
        start, hertz = int(rng.integers(0, n - 4_000)), between(rng, 200, 2_000)
        time = seconds(n - start)
        for ratio in (0.5, 1, 1.19, 1.56, 2, 2.74, 3.76):
            if hertz * ratio < 7_800:
                partial = np.sin(2 * np.pi * hertz * ratio * time) * np.exp(-time * rng.uniform(1, 6))
                sound[start:] += rng.uniform(0.2, 1) * partial
    return sound


def dialing(rng: Generator, n: int) -> Floats:
    sound = faint(rng, n)
    size, gap = (int(rng.uniform(low, 0.3) * RATE_HZ) for low in (0.06, 0.04))
    for start in range(0, n - size, size + gap):
        low_hz, high_hz = rng.choice([697, 770, 852, 941]), rng.choice([1_209, 1_336, 1_477, 1_633])
        sound[start : start + size] += sum(np.sin(2 * np.pi * hertz * seconds(size)) for hertz in (low_hz, high_hz))
    return sound


def ringing(rng: Generator, n: int) -> Floats:
    on, off = rng.uniform(0.2, 2, 2)
    hertz, second = rng.choice([350, 400, 425, 440, 480]), rng.choice([0, 1])
    time = seconds(n)
    both = np.sin(2 * np.pi * hertz * time) + second * np.sin(2 * np.pi * (hertz + rng.choice([25, 40, 50])) * time)
    return both * (time % (on + off) < on) + 1e-3 * rng.standard_normal(n)


def birds(rng: Generator, n: int) -> Floats:
    sound = 0.01 * colored(rng, n, 4)
    for _ in range(int(rng.integers(4, 30))):
        size, hertz = int(rng.uniform(0.03, 0.25) * RATE_HZ), rng.uniform(1_800, 6_000)
        start = int(rng.integers(0, n - size))
        chirp = signal.chirp(seconds(size), hertz, size / RATE_HZ, hertz * rng.uniform(0.6, 1.5))
        sound[start : start + size] += (chirp * np.hanning(size)).astype(np.float32)
    return sound


def rain(rng: Generator, n: int) -> Floats:
    sound = colored(rng, n, rng.uniform(-1, 3))
    drops = rng.integers(0, n, n // 200)
    sound[drops] += 3 * rng.standard_normal(len(drops)).astype(np.float32)
    return sound


def wind(rng: Generator, n: int) -> Floats:
    gusts = np.interp(seconds(n), np.linspace(0, n / RATE_HZ, 10), rng.uniform(0.1, 1, 10) ** 2)
    return pass_band(colored(rng, n, 5), 0, rng.uniform(400, 2_000), 2) * gusts


def knocks(rng: Generator, n: int) -> Floats:
    sound, time = 10 ** rng.uniform(-4, -2) * colored(rng, n, 3), seconds(3_000)
    for start in rng.integers(0, n - 3_000, int(rng.integers(2, 14))):
        knock = np.sin(2 * np.pi * rng.uniform(80, 500) * time) * np.exp(-40 * time)
        hit = knock + 0.3 * rng.standard_normal(3_000) * np.exp(-90 * time)
        sound[start : start + 3_000] += hit.astype(np.float32)
    return sound


def buzzer(rng: Generator, n: int) -> Floats:
    wave = signal.sawtooth if rng.random() < 0.5 else signal.square
    return wave(2 * np.pi * rng.uniform(60, 1_500) * seconds(n))


def beeps(rng: Generator, n: int) -> Floats:
    gate = signal.square(2 * np.pi * rng.uniform(1, 8) * seconds(n), rng.uniform(0.2, 0.8)) > 0
    return tone(rng, n) * gate + faint(rng, n, -5, -2)


def slam(rng: Generator, n: int) -> Floats:
    start = int(rng.integers(0, n // 2))
    sound = 10 ** rng.uniform(-4, -2.5) * colored(rng, n, 3)
    sound[start:] += colored(rng, n - start, 4) * np.exp(-seconds(n - start) * rng.uniform(3, 15)).astype(np.float32)
    return sound


def idle_line(rng: Generator, n: int) -> Floats:
    return rng.integers(-1, 2, n) / 32_768 + rng.choice([0, 1e-4]) * colored(rng, n, rng.uniform(-2, 6))


TONAL = (tone, chord, sweep, siren, tremolo, melody, music, bells, dialing, ringing, buzzer, beeps, birds)
NOISY = (white_noise, pink_noise, brown_noise, blue_noise, band_noise, hum, engine, motor, rain, wind, idle_line)
SUDDEN = (clicks, drums, knocks, slam)
KINDS: dict[str, Callable[[Generator, int], Floats]] = {kind.__name__: kind for kind in (*TONAL, *NOISY, *SUDDEN)}


def sound(kind: str, number: int, purpose: str = "train") -> Waveform:
    """One sound of a kind, 1.2 to 5 s, some of them in a room, in noise or through a narrow band."""
    rng = generator("sound", purpose, kind, number)
    samples = int(rng.uniform(1.2, 5) * RATE_HZ)
    made = np.asarray(KINDS[kind](rng, samples), np.float32)
    if rng.random() < 0.25:
        made = reverberated(made, rng, rng.uniform(0.1, 0.8), rng.uniform(-12, 3))
    if rng.random() < 0.3:
        made = with_noise(made, colored(rng, samples, rng.uniform(0, 6)), rng.uniform(10, 40))
    if rng.random() < 0.2:
        made = low_pass(made, int(rng.uniform(3_000, 6_000)))
    return np.asarray(0.9 * made / (np.abs(made).max() + 1e-9), np.float32)
