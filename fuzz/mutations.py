"""Strategies: mutations of valid files, and arbitrary values."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
"""Where lengths and counts overflow."""
WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
HEADER_BYTES = 96
MOST_CHANGES = 6

TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "none", "nan", "inf", "-1", "1e999", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud7ff"]
    ),
    st.sampled_from(["=1+1", "a" * 5_000, "\u202ereversed", "\r\n", '"', "'", "CON", "%00", "${HOME}", "0" * 400]),
    st.text(max_size=12),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(NUMBERS) | st.integers(-(2**70), 2**70),
        st.floats(),
        TEXTS,
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)
"""JSON's values."""


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A valid file with some changes, half of them in its first bytes, where headers are."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, MOST_CHANGES))):
        end = len(content) if draw(st.booleans()) else min(len(content), HEADER_BYTES)
        place = draw(st.integers(0, max(0, end - 1)))
        change = draw(st.sampled_from(("bit", "number", "bytes", "delete", "repeat", "cut", "splice")))
        _change(draw, content, place, change, seeds)
    return bytes(content)


def _change(draw: st.DrawFn, content: bytearray, place: int, change: str, seeds: Sequence[bytes]) -> None:
    if change == "bit" and content:
        content[place] ^= 1 << draw(st.integers(0, 7))
    elif change == "number":
        width = draw(st.sampled_from(list(WIDTHS)))
        number = draw(st.sampled_from(NUMBERS)) % 2 ** (8 * width)
        content[place : place + width] = struct.pack(draw(st.sampled_from("<>")) + WIDTHS[width], number)
    elif change == "bytes":
        content[place:place] = draw(st.binary(max_size=16))
    elif change == "delete":
        del content[place : place + draw(st.integers(1, 64))]
    elif change == "repeat":
        content[place:place] = content[place : place + 64] * draw(st.integers(1, 40))
    elif change == "cut":
        del content[place:]
    else:
        content[place:] = draw(st.sampled_from(seeds))[place:]


@st.composite
def edited(draw: st.DrawFn, seed: Any) -> Any:
    """A tree of dicts and lists with some values, keys or branches replaced, dropped or duplicated."""
    if draw(st.integers(0, 11)) == 0:
        return draw(VALUES)
    if isinstance(seed, Mapping):
        tree = {key: draw(edited(value)) for key, value in seed.items() if draw(st.integers(0, 15))}
        return tree | draw(st.dictionaries(TEXTS, VALUES, max_size=1) if draw(st.integers(0, 7)) == 0 else st.just({}))
    if isinstance(seed, list | tuple):
        items = [draw(edited(value)) for value in seed[:8]] + list(seed[8:])
        return items * draw(st.sampled_from((1, 1, 1, 2)))
    return seed
