"""Which recordings a model was trained on."""

from __future__ import annotations

import hashlib

import pytest

from affekt.data.training_audio import KEY, TrainingAudio, describe


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def test_every_recording_is_found_and_no_other() -> None:
    names = [f"u{number}" for number in range(5_000)]
    table = describe(["a" if number % 2 else "b" for number in range(5_000)], list(map(digest, names)))
    seen = TrainingAudio.of({KEY: table})
    assert all(digest(name) in seen for name in names)
    assert not any(digest(f"v{number}") in seen for number in range(1_000))
    assert seen.corpora == {"a": 2_500, "b": 2_500}
    assert len(str(table)) < 5_000 * 6 + 500, "a card stays small"


def test_the_hash_of_a_corpus_does_not_depend_on_the_order() -> None:
    one, two = describe(["c"] * 2, [digest("x"), digest("y")]), describe(["c"] * 2, [digest("y"), digest("x")])
    assert one == two
    assert one["c"]["sha256"] == hashlib.sha256("\n".join(sorted([digest("x"), digest("y")])).encode()).hexdigest()


def test_a_model_knows_what_its_start_was_trained_on() -> None:
    start = {KEY: describe(["emodb"], [digest("x")])}
    seen = TrainingAudio.of({KEY: describe(["mine"], [digest("y")]), "started_from": start})
    assert digest("x") in seen
    assert digest("y") in seen
    assert seen.corpora == {"emodb": 1, "mine": 1}


@pytest.mark.parametrize("damaged", [None, 3, {"a": 3}, {"a": {"recordings": "?"}}, {"a": {"recordings": 5}}])
def test_a_damaged_table_counts_as_absent(damaged: object) -> None:
    seen = TrainingAudio.of({KEY: damaged, "corpora": "own"})
    assert digest("x") not in seen
    assert "own" not in seen.corpora
