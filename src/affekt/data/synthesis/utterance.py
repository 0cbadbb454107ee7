"""One utterance from end to end: speaker, emotion, sentence -> waveform as a microphone recorded it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from affekt.data.synthesis.phones import parse
from affekt.data.synthesis.prosody import make_glottis, make_tracks, time_sentence
from affekt.data.synthesis.speakers import Speaker, deliver
from affekt.data.synthesis.voice import Singles, speak

VOICE_GAIN = 0.01  # brings neutral speech to about -26 dB re full scale
DISTANCE_DB = 2.5  # standard deviation of the recording level from utterance to utterance
PEAK = 0.98


def say(speaker: Speaker, emotion: str, text: str, rng: np.random.Generator) -> Float[Singles, " samples"]:
    """The waveform of one utterance, float32 at 16 kHz within [-1, 1].

    Args:
        speaker: who says it.
        emotion: a key of :data:`affekt.data.synthesis.speakers.EMOTIONS`.
        text: phones, as :func:`affekt.data.synthesis.phones.parse` reads them.
        rng: everything that differs when the same is said again.
    """
    delivery = deliver(speaker, emotion, rng)
    score = time_sentence(parse(text), speaker.rate * 2**delivery.rate, 2**delivery.pauses, rng)
    voice = speak(make_tracks(score, speaker, delivery, rng), make_glottis(delivery), rng, speaker.tract_scale)
    return record(voice, speaker, rng)


def record(voice: Float[Singles, " samples"], speaker: Speaker, rng: np.random.Generator) -> Float[Singles, " samples"]:
    """Distance, microphone and background noise; louder than the converter bears is turned down, not clipped."""
    from scipy.signal import lfilter  # not before: it takes long, and all readers of corpora know this one

    gain = VOICE_GAIN * 10 ** (rng.normal(0, DISTANCE_DB) / 20)
    noise = 10 ** (speaker.noise_db / 20) * rng.standard_normal(len(voice))
    sound = lfilter([1.0, speaker.channel], [1.0], gain * voice + noise)
    return np.asarray(sound * min(1.0, PEAK / np.abs(sound).max()), np.float32)
