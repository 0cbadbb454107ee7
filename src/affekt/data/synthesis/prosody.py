"""From a sentence and a delivery to control tracks: durations, formant movements, pitch and loudness contours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from affekt.data.synthesis.phones import PAUSE, PHONES, PhoneSegment, Spoken
from affekt.data.synthesis.speakers import Delivery, Speaker
from affekt.data.synthesis.voice import FRAME_SECONDS, Floats, Glottis, Integers, Tracks

ACCENT_LENGTHENING = 1.25
FINAL_LENGTHENING = 1.4  # of the last vowel
MARGIN_SECONDS = 0.06  # silence before and after
TRANSITION_SECONDS = 0.09  # of the formants, at precision 0
ONSET_SECONDS = 0.035  # of the sources, at attack 0
DECLINATION_SEMITONES = 4.0  # fall of f0 over the utterance, before accents, at pitch range 0
ACCENT_SEMITONES = 3.5  # height of an accent, at pitch range 0
ACCENT_SECONDS = 0.12  # half its width
ACCENT_DB = 3.0
DECLINATION_DB = 5.0
FINAL_SECONDS = 0.25  # of the last movement of f0
FADE_SECONDS = 0.10  # of the voice at the end
LOWEST_HZ, HIGHEST_HZ = 60.0, 600.0
MODAL = Glottis(open_quotient=0.6, tilt_db=12.0, jitter=0.008, shimmer=0.04)
BREATH_DB = -28.0  # aspiration under the voice, at breath_db 0


@dataclass(frozen=True)
class Score:
    """A timed sentence: which part of which phone each frame belongs to.

    Attributes:
        parts: the sentence's parts in order.
        part_of_frame: index into `parts`.
        accents: frames of the middles of the accented vowels.
    """

    parts: tuple[PhoneSegment, ...]
    part_of_frame: Int[Integers, " frames"]
    accents: Int[Integers, " accents"]

    def track(self, name: str) -> Float[Floats, " frames *values"]:
        """The parts' targets, frame by frame."""
        return np.array([getattr(part, name) for part in self.parts])[self.part_of_frame]


def time_sentence(phones: tuple[Spoken, ...], rate: float, pause_scale: float, rng: np.random.Generator) -> Score:
    """Give every part its duration in frames.

    Args:
        phones: the sentence, with one vowel at least.
        rate: divides all durations.
        pause_scale: multiplies the pauses' durations further.
        rng: each phone's duration varies by 8 %.
    """
    last_vowel = max(index for index, phone in enumerate(phones) if phone.is_vowel)
    silence = PhoneSegment(MARGIN_SECONDS, PHONES[phones[0].symbol][0].formants_hz)
    parts, seconds, accented = [silence], [MARGIN_SECONDS], []
    for index, phone in enumerate(phones):
        scale = np.exp(rng.normal(0, 0.08)) / rate
        scale *= ACCENT_LENGTHENING if phone.accented else 1.0
        scale *= FINAL_LENGTHENING if index == last_vowel else 1.0
        scale *= pause_scale if phone.symbol == PAUSE else 1.0
        if phone.accented:
            accented.append(len(parts))
        parts += PHONES[phone.symbol]
        seconds += [part.seconds * scale for part in PHONES[phone.symbol]]
    parts.append(PhoneSegment(MARGIN_SECONDS, parts[-1].formants_hz))
    frames = np.maximum(np.round(np.array([*seconds, MARGIN_SECONDS]) / FRAME_SECONDS), 2).astype(int)
    ends = np.cumsum(frames)
    return Score(tuple(parts), np.repeat(np.arange(len(parts)), frames), (ends - frames // 2)[accented])


def make_tracks(score: Score, speaker: Speaker, delivery: Delivery, rng: np.random.Generator) -> Tracks:
    """The movements of one utterance."""
    level = 10 ** (loudness_contour_db(score, delivery) / 20)
    onset_frames = ONSET_SECONDS / FRAME_SECONDS * 2**-delivery.attack
    transition_frames = TRANSITION_SECONDS / FRAME_SECONDS * 2**-delivery.precision
    voicing = smooth(score.track("voicing"), onset_frames)
    voicing *= np.clip(_left_seconds(score) / FADE_SECONDS, 0, 1)
    aspiration = smooth(score.track("aspiration"), 3) + voicing * 10 ** ((BREATH_DB + delivery.breath_db) / 20)
    shift = np.array([1 + delivery.formants, 1 + delivery.formants, 1.0, 1.0])
    return Tracks(
        f0_hz=pitch_contour_hz(score, speaker, delivery, rng),
        voicing=voicing * level,
        aspiration=aspiration * level,
        frication=smooth(score.track("frication"), 2) * level,
        formants_hz=smooth(score.track("formants_hz"), transition_frames) * speaker.tract_scale * shift,
        nasal_zero_hz=smooth(score.track("nasal_zero_hz"), 4),
        noise_hz=score.track("noise_hz"),
        noise_bandwidth_hz=score.track("noise_bandwidth_hz"),
    )


def make_glottis(delivery: Delivery) -> Glottis:
    """The voice quality of one utterance."""
    roughness = 2**delivery.irregularity
    return Glottis(
        open_quotient=float(np.clip(MODAL.open_quotient + delivery.open_quotient, 0.3, 0.9)),
        tilt_db=float(np.clip(MODAL.tilt_db + delivery.tilt_db, 0.5, 25.0)),
        jitter=MODAL.jitter * roughness,
        shimmer=MODAL.shimmer * roughness,
    )


def pitch_contour_hz(
    score: Score, speaker: Speaker, delivery: Delivery, rng: np.random.Generator
) -> Float[Floats, " frames"]:
    """Declination + accents, scaled by the pitch range, + the final movement + slow drift."""
    frames = len(score.part_of_frame)
    declination = DECLINATION_SEMITONES * np.linspace(0.5, -0.5, frames)
    excursions = declination + ACCENT_SEMITONES * _bumps(score)
    final = delivery.final_semitones * np.clip(1 - _left_seconds(score) / FINAL_SECONDS, 0, 1)
    drift = smooth(rng.standard_normal(frames), 20)
    semitones = delivery.pitch_semitones + excursions * 2**delivery.pitch_range + final + drift
    return np.clip(speaker.f0_hz * 2 ** (semitones / 12), LOWEST_HZ, HIGHEST_HZ)


def loudness_contour_db(score: Score, delivery: Delivery) -> Float[Floats, " frames"]:
    """Level + declination + accents, whose heights follow the range of the pitch."""
    declination = DECLINATION_DB * np.linspace(0.5, -0.5, len(score.part_of_frame))
    return delivery.loudness_db + declination + ACCENT_DB * 2**delivery.pitch_range * _bumps(score)


def smooth(track: Float[Floats, " frames *values"], width_frames: float) -> Float[Floats, " frames *values"]:
    """Weighted mean under a Hann window of that many frames: steps become transitions.

    >>> smooth(np.array([0.0, 0, 0, 1, 1, 1]), 2).tolist()
    [0.0, 0.0, 0.25, 0.75, 1.0, 1.0]
    """
    from scipy.ndimage import convolve1d

    window = np.hanning(2 * round(width_frames / 2) + 3)[1:-1]
    return np.asarray(convolve1d(track, window / window.sum(), axis=0, mode="nearest"))


def _bumps(score: Score) -> Float[Floats, " frames"]:
    """A raised cosine of height 1 at each accent."""
    distance_seconds = FRAME_SECONDS * (np.arange(len(score.part_of_frame)) - score.accents[:, None])
    phase = np.clip(np.abs(distance_seconds) / ACCENT_SECONDS, 0, 1)
    return np.asarray((0.5 + 0.5 * np.cos(np.pi * phase)).sum(axis=0))


def _left_seconds(score: Score) -> Float[Floats, " frames"]:
    """Time that each frame is before the end of the last phone; negative after it."""
    return FRAME_SECONDS * np.arange(len(score.part_of_frame), dtype=np.float64)[::-1] - MARGIN_SECONDS
