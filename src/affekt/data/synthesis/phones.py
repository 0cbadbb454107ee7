"""The sounds: one symbol per phone, each a sequence of parts with steady targets.

Vowel formants are the men's means of Hillenbrand, Getty, Clark & Wheeler (1995), *Acoustic characteristics of American
English vowels*, JASA 97, 3099-3111, table V (i, e, a, o, u); F4 and the schwa are those of a uniform tube. Consonants
are after the loci and noise spectra in Klatt (1980), table III, and Stevens (1998), *Acoustic Phonetics*, rounded. All
are for a vocal tract of 17.5 cm; speakers scale them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from affekt.data.synthesis.voice import NASAL_POLE_HZ
from affekt.errors import ConfigError

ACCENT = "'"
"""Before the vowel of an accented syllable."""
PAUSE = "|"


@dataclass(frozen=True, slots=True)
class PhoneSegment:
    """A stretch of sound with steady targets; smoothing over the neighbors makes the transitions.

    Attributes:
        seconds: duration at a speaking rate of 1.
        formants_hz: F1-F4, also where there is no voice: the neighbors bend towards them.
        voicing, aspiration, frication: amplitudes of the sources; a vowel's voicing is 1.
        noise_hz, noise_bandwidth_hz: resonance of the frication.
        nasal_zero_hz: antiresonance of the nose.
    """

    seconds: float
    formants_hz: tuple[float, float, float, float]
    voicing: float = 0.0
    aspiration: float = 0.0
    frication: float = 0.0
    noise_hz: float = 4_000.0
    noise_bandwidth_hz: float = 3_000.0
    nasal_zero_hz: float = NASAL_POLE_HZ


LABIAL = (300.0, 900.0, 2_300.0, 3_300.0)
DENTAL = (300.0, 1_700.0, 2_600.0, 3_500.0)
PALATAL = (300.0, 1_900.0, 2_500.0, 3_400.0)
VELAR = (300.0, 1_600.0, 2_200.0, 3_300.0)
TUBE = (500.0, 1_500.0, 2_500.0, 3_500.0)


def _vowel(seconds: float, f1: float, f2: float, f3: float) -> tuple[PhoneSegment, ...]:
    return (PhoneSegment(seconds, (f1, f2, f3, TUBE[3]), voicing=1.0),)


def _nasal(locus: tuple[float, float, float, float], zero_hz: float) -> tuple[PhoneSegment, ...]:
    return (PhoneSegment(0.065, locus, voicing=0.5, nasal_zero_hz=zero_hz),)


def _plosive(
    locus: tuple[float, float, float, float], noise_hz: float, noise_bandwidth_hz: float, voiced: bool
) -> tuple[PhoneSegment, ...]:
    """Closure, burst and, if unvoiced, aspiration until the voice sets in."""
    closure = PhoneSegment(0.055 if voiced else 0.07, locus, voicing=0.15 if voiced else 0.0)
    burst = PhoneSegment(0.010, locus, frication=1.0, noise_hz=noise_hz, noise_bandwidth_hz=noise_bandwidth_hz)
    breath = (PhoneSegment(0.025, locus, aspiration=0.5),)
    return (closure, burst, *(() if voiced else breath))


def _fricative(
    locus: tuple[float, float, float, float], noise_hz: float, noise_bandwidth_hz: float, gain: float, voicing: float
) -> tuple[PhoneSegment, ...]:
    seconds = 0.065 if voicing else 0.095
    return (
        PhoneSegment(seconds, locus, voicing, frication=gain, noise_hz=noise_hz, noise_bandwidth_hz=noise_bandwidth_hz),
    )


PHONES: Mapping[str, tuple[PhoneSegment, ...]] = MappingProxyType(
    {
        "i": _vowel(0.095, 342, 2_322, 3_000),
        "e": _vowel(0.100, 476, 2_089, 2_691),
        "a": _vowel(0.115, 768, 1_333, 2_522),
        "o": _vowel(0.105, 497, 910, 2_459),
        "u": _vowel(0.095, 378, 997, 2_343),
        "@": _vowel(0.060, *TUBE[:3]),
        "m": _nasal(LABIAL, 1_000.0),
        "n": _nasal(DENTAL, 1_700.0),
        "l": (PhoneSegment(0.060, (360.0, 1_100.0, 2_800.0, 3_500.0), voicing=0.6),),
        "r": (PhoneSegment(0.055, (420.0, 1_250.0, 1_650.0, 3_300.0), voicing=0.6),),
        "j": (PhoneSegment(0.060, (280.0, 2_200.0, 2_950.0, 3_500.0), voicing=0.6),),
        "w": (PhoneSegment(0.060, (290.0, 700.0, 2_200.0, 3_300.0), voicing=0.6),),
        "p": _plosive(LABIAL, 900.0, 2_000.0, voiced=False),
        "t": _plosive(DENTAL, 4_200.0, 2_500.0, voiced=False),
        "k": _plosive(VELAR, 1_900.0, 900.0, voiced=False),
        "b": _plosive(LABIAL, 900.0, 2_000.0, voiced=True),
        "d": _plosive(DENTAL, 4_200.0, 2_500.0, voiced=True),
        "g": _plosive(VELAR, 1_900.0, 900.0, voiced=True),
        "f": _fricative(LABIAL, 5_000.0, 8_000.0, 0.25, voicing=0.0),
        "s": _fricative(DENTAL, 6_000.0, 2_000.0, 0.9, voicing=0.0),
        "S": _fricative(PALATAL, 3_200.0, 1_500.0, 0.9, voicing=0.0),
        "v": _fricative(LABIAL, 5_000.0, 8_000.0, 0.12, voicing=0.4),
        "z": _fricative(DENTAL, 6_000.0, 2_000.0, 0.5, voicing=0.4),
        "h": (PhoneSegment(0.060, TUBE, aspiration=0.6),),
        PAUSE: (PhoneSegment(0.130, TUBE),),
    }
)
VOWELS = frozenset("ieaou@")

TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "s01": "mal'a ti re b'onu, sak'i",
        "s02": "no v'eri dal'o pe mit'a",
        "s03": "S'elo ka r'ima du b'ane",
        "s04": "wi t'are | mon'i go l'esu",
        "s05": "je f'ola nik'e ra z'udo",
        "s06": "b'ari me s'ote la g'inu",
        "s07": "lu p'enda h'imo | ko r'esa",
        "s08": "te n'olu va S'iri m'ake",
        "s09": "da w'imo ser'a pu t'ole ni",
        "s10": "go m'ale, tin'u be f'oras",
    }
)
"""Ten sentences in no language, by text id: phones, accents, and spaces and commas that only help the eye."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One phone of a sentence."""

    symbol: str
    accented: bool = False

    @property
    def is_vowel(self) -> bool:
        return self.symbol in VOWELS


def parse(text: str) -> tuple[Spoken, ...]:
    """The phones of a sentence.

    >>> [phone.symbol for phone in parse("mal'a")], parse("mal'a")[-1].accented
    (['m', 'a', 'l', 'a'], True)

    Raises:
        ConfigError: symbols that are no phones, all of them named, or no vowel.
    """
    unknown = sorted(set(text) - set(PHONES) - set(f"{ACCENT} ,"))
    if unknown:
        raise ConfigError(
            f"sentence {text!r}", got=", ".join(map(repr, unknown)), expected=f"phones out of {' '.join(PHONES)}"
        )
    if not VOWELS & set(text):
        raise ConfigError(f"sentence {text!r}", got="no vowel", expected=f"at least one of {' '.join(sorted(VOWELS))}")
    phones, accented = [], False
    for symbol in text:
        accented = accented or symbol == ACCENT
        if symbol in PHONES:
            phones.append(Spoken(symbol, accented))
            accented = False
    return tuple(phones)
