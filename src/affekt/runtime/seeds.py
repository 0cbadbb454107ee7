"""Seeds derived from the purpose of a random draw, so that no draw depends on earlier ones."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: object) -> int:
    """A 63-bit seed: the SHA-256 of any printable parts, e.g. corpus, protocol, fold, seed, system and purpose.

    >>> derive_seed("emodb", 0) == derive_seed("emodb", 0), derive_seed("emodb", 0) == derive_seed("emodb", 1)
    (True, False)
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*parts: object) -> torch.Generator:
    """A torch generator on the CPU, seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
