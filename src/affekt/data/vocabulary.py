"""Words for emotions in corpora and in users' tables, and the canonical labels that they mean."""

from __future__ import annotations

import re

WORDS = {
    "angry": ("anger", "angry", "ang", "rage"),
    "bored": ("boredom", "bored"),
    "calm": ("calm",),
    "contemptuous": ("contempt", "contemptuous"),
    "disgusted": ("disgust", "disgusted", "dis"),
    "excited": ("excited", "excitement", "exc"),
    "fearful": ("fear", "fearful", "fea", "scared", "afraid"),
    "frustrated": ("frustration", "frustrated", "fru"),
    "happy": ("happiness", "happy", "hap", "joy", "joyful"),
    "neutral": ("neutral", "neutral state", "neu"),
    "sad": ("sadness", "sad"),
    "sarcastic": ("sarcasm", "sarcastic"),
    "sleepy": ("sleepiness", "sleepy"),
    "surprised": ("surprise", "surprised", "sur", "pleasant surprise", "pleasant surprised", "ps"),
    "other": ("other", "oth"),
    "unknown": ("unknown", "xxx"),
}
_CANONICAL = {word: label for label, words in WORDS.items() for word in words}


def canonical(word: str) -> str | None:
    """The canonical label that a word means; None if there is none.

    >>> canonical("Anger"), canonical("05Angry"), canonical("pleasant_surprise"), canonical("wav")
    ('angry', 'angry', 'surprised', None)
    """
    return _CANONICAL.get(" ".join(re.findall(r"[^\W\d_]+", word.lower())))


def gender(word: str) -> str:
    """``female`` or ``male``; empty for anything else.

    >>> gender("F"), gender(" male"), gender("?")
    ('female', 'male', '')
    """
    return {"f": "female", "female": "female", "woman": "female", "m": "male", "male": "male", "man": "male"}.get(
        word.strip().lower(), ""
    )
