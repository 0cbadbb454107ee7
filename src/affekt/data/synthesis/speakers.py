"""Synthetic speakers, and the effect of an emotion on their voices.

A *delivery* says how one utterance departs from the average neutral voice, in parameters of production. The directions
in :data:`EMOTIONS` are those on which the reviews agree; the sizes are ours. Sources:

- B96: Banse & Scherer (1996), Acoustic profiles in vocal emotion expression, J. Pers. Soc. Psychol. 70, 614-636
- B00: Burkhardt & Sendlmeier (2000), Verification of acoustical correlates of emotional speech using formant-synthesis,
  ISCA Workshop on Speech and Emotion, 151-156
- J03: Juslin & Laukka (2003), Communication of emotions in vocal expression and music performance: different channels,
  same code?, Psychol. Bull. 129, 770-814
- M93: Murray & Arnott (1993), Toward the simulation of emotion in synthetic speech, JASA 93, 1097-1108
- S03: Scherer (2003), Vocal communication of emotion: a review of research paradigms, Speech Communication 40, 227-256
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float

from affekt.data.synthesis.voice import Floats

EXPRESSIVENESS = 1.4
"""How far an emotion moves the voice, as a factor on :data:`EMOTIONS`: the corpus's one dial of difficulty.

0: they cannot be told apart; larger: they separate. docs/synthetic.md has what was measured."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A departure from the average neutral voice. All zeros is neutral.

    Attributes:
        pitch_semitones: mean of f0.
        pitch_range: excursions of f0 and of loudness, in doublings.
        final_semitones: movement of f0 at the end of the utterance.
        rate: speaking rate, in doublings.
        pauses: length of the pauses, in doublings, beyond that of the rate.
        loudness_db: level.
        attack: steepness of voice onsets, in doublings.
        tilt_db: loss of the source at 3 kHz; less is more energy in the high frequencies.
        open_quotient: of the glottis; less is pressed, more is lax and breathy.
        breath_db: aspiration noise.
        irregularity: jitter and shimmer, in doublings.
        formants: F1 and F2, relative.
        precision: of articulation, speed of the formant movements, in doublings; less is slurred.
    """

    pitch_semitones: float = 0.0
    pitch_range: float = 0.0
    final_semitones: float = 0.0
    rate: float = 0.0
    pauses: float = 0.0
    loudness_db: float = 0.0
    attack: float = 0.0
    tilt_db: float = 0.0
    open_quotient: float = 0.0
    breath_db: float = 0.0
    irregularity: float = 0.0
    formants: float = 0.0
    precision: float = 0.0

    @property
    def vector(self) -> Float[Floats, " parameters"]:
        """The parameters in their order, to calculate with."""
        return np.array(astuple(self))


PARAMETERS = len(fields(Delivery))

EMOTIONS: Mapping[str, Delivery] = MappingProxyType(
    {
        "angry": Delivery(
            pitch_semitones=3.0,  # higher: B96, M93 ("very much higher"), S03, J03
            pitch_range=0.6,  # wider, more variable intensity: B96, M93, S03, J03
            final_semitones=-1.0,  # accents and falls are abrupt: M93; B96 falling in hot anger
            rate=0.25,  # faster: J03, M93, S03, B00
            pauses=-0.6,  # few pauses: J03
            loudness_db=6.0,  # louder: all
            attack=0.8,  # fast voice onsets: J03
            tilt_db=-7.0,  # more high-frequency energy: B96, S03, J03
            open_quotient=-0.14,  # tense, pressed: M93, B00
            breath_db=-2.0,
            irregularity=0.8,  # microstructural irregularity, jitter: J03; irregular phonation: B00
            formants=0.05,  # F1 up: J03, B96
            precision=0.5,  # tense, precise articulation: M93, J03
        ),
        "happy": Delivery(
            pitch_semitones=4.5,  # much higher: M93, J03; +50 % in B00
            pitch_range=0.9,  # much wider: M93, S03, J03; +100 % in B00
            final_semitones=3.0,  # upward inflections: M93; rising contours: J03
            rate=0.2,  # faster: J03, S03; +30 % in B00
            pauses=-0.4,
            loudness_db=3.5,  # louder: M93, S03, J03
            attack=0.5,  # fast voice onsets: J03
            tilt_db=-1.0,  # medium high-frequency energy: J03, S03
            open_quotient=-0.02,  # modal: B00
            breath_db=1.0,  # "breathy, blaring": M93
            irregularity=-0.4,  # microstructural regularity: J03
            formants=0.08,  # lips spread by the smile: B00 (F1, F2 + 10 %)
            precision=0.1,  # normal: M93
        ),
        "neutral": Delivery(),
        "sad": Delivery(
            pitch_semitones=-1.5,  # slightly lower: M93, S03, J03, B96
            pitch_range=-0.7,  # narrower: M93, S03, J03, B96
            final_semitones=-1.5,  # downward inflections: M93; falling contours: J03, S03
            rate=-0.3,  # slower: all
            pauses=0.8,  # more and longer pauses: J03
            loudness_db=-5.0,  # softer: all
            attack=-0.8,  # slow voice onsets: J03
            tilt_db=5.0,  # less high-frequency energy: B96, S03, J03
            open_quotient=0.10,  # breathy: B00
            breath_db=5.0,  # breathy: B00
            irregularity=0.4,  # microstructural irregularity: J03; jitter: B00
            formants=-0.04,  # F1 down: J03
            precision=-0.6,  # slurred: M93, J03
        ),
    }
)
"""What each emotion does at full strength."""

SPREAD = Delivery(
    pitch_semitones=1.5,
    pitch_range=0.35,
    final_semitones=2.0,
    rate=0.12,
    pauses=0.5,
    loudness_db=3.0,
    attack=0.5,
    tilt_db=2.5,
    open_quotient=0.05,
    breath_db=2.5,
    irregularity=0.5,
    formants=0.03,
    precision=0.3,
)
"""Standard deviation of each parameter over utterances, whatever is felt: what makes the emotions overlap."""

LIMITS = Delivery(
    pitch_semitones=12.0,
    pitch_range=1.6,
    final_semitones=8.0,
    rate=0.4,
    pauses=0.8,
    loudness_db=11.0,
    attack=2.0,
    tilt_db=12.0,
    open_quotient=0.25,
    breath_db=12.0,
    irregularity=2.0,
    formants=0.18,
    precision=1.5,
)
"""The furthest that a voice goes from the average one, either way."""

HABIT = 0.45
"""Standard deviation of a speaker's own factor on each entry of :data:`EMOTIONS`: nobody is angry like anybody else."""

STRENGTH = 0.4
"""Standard deviation of the strength of an emotion over utterances, around the speaker's mean."""


@dataclass(frozen=True)
class Speaker:
    """A voice and its habits.

    Attributes:
        number: 1, 2, ...; odd ones are women, even ones are men.
        f0_hz: median f0 of the neutral voice.
        tract_scale: formants relative to those of a tract of 17.5 cm.
        rate: speaking rate; 1 is about 5.5 syllables a second.
        expressiveness: mean strength of this speaker's emotions.
        neutral: how the neutral voice departs from the average.
        habits: factors on :data:`EMOTIONS`.
        channel: coefficient of the room and microphone, a first-order filter; above 0 dull, below 0 thin.
        noise_db: background noise, relative to full scale.
    """

    number: int
    gender: Literal["female", "male"]
    f0_hz: float
    tract_scale: float
    rate: float
    expressiveness: float
    neutral: Delivery
    habits: Mapping[str, Float[Floats, " parameters"]]
    channel: float
    noise_db: float

    @property
    def name(self) -> str:
        return f"synthetic-{self.number:02d}"


def gender(number: int) -> Literal["female", "male"]:
    """Women have odd numbers, men even ones."""
    return "female" if number % 2 else "male"


def make_speaker(number: int, seed: int) -> Speaker:
    """The speaker of that number; depends on the number and the seed alone.

    >>> make_speaker(1, seed=0).gender, make_speaker(2, seed=0).name
    ('female', 'synthetic-02')
    """
    rng = np.random.default_rng([seed, number])
    female = gender(number) == "female"
    # Means of f0 and the formants' ratio of women and men: Hillenbrand et al. (1995), table V.
    f0_hz = (205.0 if female else 120.0) * 2 ** (rng.normal(0, 2.0) / 12)
    return Speaker(
        number=number,
        gender=gender(number),
        f0_hz=float(f0_hz),
        tract_scale=float(np.clip(rng.normal(1.16 if female else 1.0, 0.03), 0.92, 1.25)),
        rate=float(np.exp(rng.normal(0, 0.08))),
        expressiveness=float(np.clip(rng.normal(1.0, 0.2), 0.5, 1.5)),
        neutral=Delivery(*(0.6 * SPREAD.vector * rng.standard_normal(PARAMETERS)).tolist()),
        habits={name: 1 + HABIT * rng.standard_normal(PARAMETERS) for name in EMOTIONS},
        channel=float(rng.uniform(-0.25, 0.25)),
        noise_db=float(rng.uniform(-75, -58)),
    )


def deliver(speaker: Speaker, emotion: str, rng: np.random.Generator) -> Delivery:
    """Draw the delivery of one utterance by this speaker: own voice + strength x habits x emotion + chance."""
    strength = EXPRESSIVENESS * speaker.expressiveness * np.clip(rng.normal(1, STRENGTH), 0, 2)
    felt = strength * speaker.habits[emotion] * EMOTIONS[emotion].vector
    chance = SPREAD.vector * np.clip(rng.standard_normal(PARAMETERS), -2, 2)
    limits = LIMITS.vector
    return Delivery(*np.clip(speaker.neutral.vector + felt + chance, -limits, limits).tolist())
