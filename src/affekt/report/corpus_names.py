"""Corpora as their authors write them."""

from __future__ import annotations

CORPUS_NAMES = {
    "emodb": "EmoDB",
    "emovo": "EMOVO",
    "ravdess": "RAVDESS",
    "javanese": "Javanese",
    "banglaser": "BanglaSER",
    "nemo": "nEMO",
    "crema-d": "CREMA-D",
    "iemocap": "IEMOCAP",
}


def corpus_name(corpus: str) -> str:
    """The name of a corpus for a reader; that of an unknown one as it is.

    >>> corpus_name("crema-d"), corpus_name("mine")
    ('CREMA-D', 'mine')
    """
    return CORPUS_NAMES.get(corpus, corpus)
