"""Seeds that follow from what a random choice is for."""

from __future__ import annotations

import hashlib

import torch

from affekt.runtime.seeds import derive_seed, generator


def test_a_seed_is_the_beginning_of_a_hash() -> None:
    digest = hashlib.sha256(b"emodb\x1frandom\x1f0").digest()
    assert derive_seed("emodb", "random", 0) == int.from_bytes(digest[:8], "little") // 2


def test_every_part_and_the_order_of_parts_counts() -> None:
    parts = [("emodb", 0, 1), ("emodb", 1, 0), ("emodb", 0), ("emodb", 0, 1, ""), ("emodb01",), ("ravdess", 0, 1)]
    assert len({derive_seed(*part) for part in parts}) == len(parts)


def test_seeds_fit_every_generator() -> None:
    seeds = [derive_seed("purpose", number) for number in range(1_000)]
    assert len(set(seeds)) == 1_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert 0.4 < sum(seed >= 2**62 for seed in seeds) / 1_000 < 0.6


def test_a_generator_draws_the_same_whatever_was_drawn_before() -> None:
    first = torch.rand(4, generator=generator("noise", 3))
    torch.manual_seed(5)
    torch.rand(7)
    assert torch.equal(first, torch.rand(4, generator=generator("noise", 3)))
    assert not torch.equal(first, torch.rand(4, generator=generator("noise", 4)))
