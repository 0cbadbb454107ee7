"""What the benchmarks compute from what they measure: ratios, shares, tables, and how an interrupted run goes on."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affekt.nn import NetworkConfig, parameter_ledger
from benchmarks import __main__ as driver
from benchmarks import keras_peer, openvino_peer, recognition
from benchmarks.agreement import Spoken, corpus_rows
from benchmarks.clip_peer import WAYS, whisper_features
from benchmarks.growth import grown
from benchmarks.rows import Figure, Row, Target, compared, seconds_in_turns
from benchmarks.setting import Setting, encoder_pipeline, forward_gflop, noise, training_gflop
from benchmarks.table import COLUMNS, cells, markdown, plot, text
from benchmarks.training import check_parameters
from benchmarks.worker import Worker

REPOSITORY = Path(__file__).parents[1]


def test_ratio_is_how_many_times_better_ours_is_turn_by_turn() -> None:
    faster = compared("work", [1.0, 2.0, 4.0], "peer", [3.0, 8.0, 4.0], "ms")  # ratios 3, 4, 1
    assert faster.ratio == Figure(3.0, 2.0, 3.5, "", 3)
    rate = compared("work", [10.0, 30.0], "peer", [5.0, 5.0], "x real time")  # ratios 2, 6: more is better
    assert rate.ratio == Figure(4.0, 3.0, 5.0, "", 2)


@pytest.mark.parametrize(("unit", "limit", "share"), [("ms", 5.0, 0.5), ("GB/s", 40.0, 0.25)])
def test_share_is_one_at_the_limit_and_less_before_it(unit: str, limit: float, share: float) -> None:
    assert Row("work", Figure.of(10.0, unit), limit="limit", limit_value=limit).share == share
    assert Row("work", Figure.of(limit, unit), limit="limit", limit_value=limit).share == 1.0


def test_targets_are_of_the_ratio_or_of_ours() -> None:
    row = compared("work", [2.0], "peer", [9.0], "ms", target=Target("ratio", at_least=4.5))
    assert row.met is True
    assert Row("work", Figure.of(0.9, "s"), target=Target("ours", at_most=0.8)).met is False
    assert Row("work", note="not measured", target=Target("ours", at_most=0.8)).met is None
    assert Row("work", Figure.of(1.0)).met is None


def test_rows_survive_json() -> None:
    row = compared(
        "work", [2.0, 3.0], "peer", [9.0, 8.0], "ms", limit="l", limit_value=1.0, target=Target("ratio", 4.5)
    )
    grown_row = Row("growth", points=((1.0, 2.0, 3.0), (10.0, 20.0, 3.0)), note="said")
    for one in (row, grown_row):
        assert Row.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_calls_take_turns_after_their_warm_up() -> None:
    order: list[str] = []
    seconds = seconds_in_turns({"a": lambda: order.append("a"), "b": lambda: 0.25}, turns=2, warm_ups=1)
    assert order == ["a"] * 3
    assert seconds["b"] == [0.25, 0.25]  # what it says itself
    assert len(seconds["a"]) == 2


def test_table_says_what_is_known_and_what_is_not() -> None:
    measured = compared(
        "one clip", [4.0], "theirs", [8.0], "ms", limit="roof", limit_value=1.0, target=Target("ratio", 2)
    )
    missing = Row("a corpus", note="not measured: no corpus nemo")
    assert cells(measured) == ("one clip", "4 ms", "theirs: 8 ms", "2", "roof: 1", "25%", "ratio >= 2", "met")
    assert cells(missing)[:2] == ("a corpus", "not measured")
    page = markdown([measured, missing], {"cpu": "a | b"}, "Title")
    assert "* a corpus: not measured: no corpus nemo" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}
    assert [line.split()[0] for line in text([measured, missing]).splitlines()[:3]] == ["work", "one", "a"]


def test_growth_is_an_exponent_of_the_largest_sizes() -> None:
    row = grown("reading", [(10, 5.0, 1.0), (100, 0.1, 1.0), (1_000, 10.0, 7.0)], "rows")
    assert row.ours is not None
    assert row.ours.median == pytest.approx(2.0)
    assert row.met is False


def test_growths_are_plotted(tmp_path: Path) -> None:
    plot([Row("reading", points=((1.0, 1.0, 9.0), (10.0, 5.0, 9.0))), Row("none")], tmp_path / "growth.svg")
    drawn = (tmp_path / "growth.svg").read_text()
    assert drawn.startswith("<?xml")
    plot([Row("reading", points=((1.0, 1.0, 9.0), (10.0, 5.0, 9.0)))], tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == drawn


def test_arithmetic_of_the_papers_network() -> None:
    images = ((750 * 40, 1, 128), (375 * 20, 128, 128), (188 * 10, 128, 64), (94 * 5, 64, 64), (47 * 3, 64, 64))
    images += ((24 * 2, 64, 64),)
    convolutions = sum(size * inputs * 9 * outputs for size, inputs, outputs in images)
    lstm = 24 * 2 * 4 * 32 * (2 * 64 + 32)
    assert forward_gflop() == pytest.approx(2e-9 * (convolutions + lstm))
    assert training_gflop() == pytest.approx(3 * forward_gflop() - 2e-9 * 750 * 40 * 9 * 128)


def test_keras_trains_the_same_network() -> None:
    pytest.importorskip("keras", reason="no Keras; `make bench` installs it")
    pytest.importorskip("tensorflow", reason="no TensorFlow; `make bench` installs it")
    parameters = keras_peer.trainable_parameters(keras_peer.build()) + keras_peer.SECOND_BIASES
    assert parameters == 380_292


def test_another_network_is_no_peer() -> None:
    check_parameters(sum(row.parameters for row in parameter_ledger(NetworkConfig(), classes=4)))
    with pytest.raises(RuntimeError, match="380,292"):
        check_parameters(380_036)


PEER = """
from benchmarks.worker import serve
print("chatter")
serve({"add": lambda: print("more chatter"), "fail": lambda: 1 / 0}, {"name": "peer"})
"""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "some_peer.py").write_text(PEER.replace('print("chatter")\n', ""))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    return "some_peer"


def test_a_peer_times_itself_and_may_print(peer: str) -> None:
    with Worker(peer) as worker:
        assert worker.facts == {"name": "peer"}
        add = worker.call("add")
        assert all(0 <= add() < 5 for _ in range(3))


def test_a_peer_that_fails_says_why(peer: str) -> None:
    with Worker(peer) as worker, pytest.raises(RuntimeError, match="ZeroDivisionError"):
        worker.call("fail")()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`bench(*arguments, failing=...)`: a run of the driver whose two benchmarks take no time."""
    monkeypatch.setattr(driver, "BENCHMARKS", {"first": "m:f", "second": "m:f"})
    monkeypatch.setattr(driver, "identity", lambda options: "the same code")
    measured: list[str] = []

    def run(*arguments: str, failing: str = "") -> tuple[int, list[str], dict[str, Any]]:
        def one(words: list[str]) -> str:
            name = words[words.index("--only") + 1]
            measured.append(name)
            row = Row(f"{name} work", Figure.of([1.0, 2.0], "ms"))
            Path(words[words.index("-o") + 1]).write_text(json.dumps([row.to_dict()]))
            return "it broke" if name == failing else ""

        measured.clear()
        monkeypatch.setattr(driver, "run", one)
        monkeypatch.setattr(sys, "argv", ["benchmarks", "-o", str(tmp_path), *arguments])
        code = driver.main()
        (path,) = tmp_path.glob("*.json")
        return code, list(measured), json.loads(path.read_text())

    return run


def test_what_fails_costs_the_others_nothing_and_is_tried_again(bench: Any) -> None:
    code, measured, record = bench(failing="first")
    assert (code, measured, record["complete"]) == (1, ["first", "second"], False)
    assert record["failures"] == {"first": "it broke"}
    assert list(record["rows"]) == ["second"]
    code, measured, record = bench()
    assert (code, measured, record["complete"], record["failures"]) == (0, ["first"], True, {})


def test_a_complete_run_is_followed_by_a_fresh_one_and_a_name_by_that_alone(bench: Any) -> None:
    bench()
    assert bench("second")[1] == ["second"]
    assert bench()[1] == ["first", "second"]


def test_other_code_starts_anew_and_keeps_what_was_there(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = bench()[2]
    monkeypatch.setattr(driver, "identity", lambda options: "other code")
    assert list(bench("second")[2]["rows"]) == ["second"]
    (kept,) = tmp_path.glob("*.json.earlier")
    assert json.loads(kept.read_text())["rows"] == before["rows"]


def test_identity_follows_the_environments() -> None:
    options = argparse.Namespace(core=None)
    assert driver.identity(options) == driver.identity(options)
    assert driver.identity(argparse.Namespace(core=Path("x"))) != driver.identity(options)


def test_every_benchmark_is_a_function() -> None:
    from importlib import import_module

    for place in driver.BENCHMARKS.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(f"benchmarks.{module}"), name)), place


def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nonsense"])
    with pytest.raises(SystemExit, match="2"):
        driver.main()
    assert "nonsense" in capsys.readouterr().err


def test_agreement_counts_decisions_and_says_how_close_the_others_were() -> None:
    """Five recordings: one decided otherwise, on a call of 0.50 to 0.46; one of a label that the model lacks."""
    labels = ["happy", "happy", "sad", "sad", ""]
    float32 = np.array([[0.9, 0.1, 0.0], [0.50, 0.46, 0.04], [0.2, 0.7, 0.1], [0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    int8 = float32.copy()
    int8[1] = [0.47, 0.49, 0.04]
    spoken = Spoken([np.zeros(1, np.float32)] * 5, labels)
    answers = {"float32": float32.astype(np.float32), "int8": int8.astype(np.float32)}
    equal, ua = corpus_rows("model, corpus", ("happy", "sad", "other"), spoken, answers)
    assert equal.ours
    assert equal.ours.median == pytest.approx(80.0)
    assert equal.note == (
        "5 recordings; probabilities differ by 0.030 at most; where decisions differ, fp32's two best by 0.040 at most"
    )
    assert ua.ours
    assert ua.ours.median == pytest.approx(25.0)
    assert ua.note == "int8 75.00 %, fp32 100.00 %, 4 recordings of the classes"


def times(*ways: str) -> dict[str, list[float]]:
    """A made-up measurement of every way to recognize a clip."""
    return {way: [float(index + 1), index + 2.0] for index, way in enumerate(ways)}


def test_the_encoder_may_take_a_third_longer_than_the_papers_network() -> None:
    each = times(*WAYS) | {"int8": [3.0, 3.0], "encoder-int8": [3.8, 3.8]}
    rows = recognition.encoder_rows(each, "one clip", Setting({}))
    assert [row.met for row in rows] == [None, None, True]
    slower = recognition.encoder_rows(each | {"encoder-int8": [4.0, 4.0]}, "one clip", Setting({}))
    assert slower[-1].met is False


def test_openvino_is_a_peer_of_both_networks_or_named_as_missing() -> None:
    rows = recognition.openvino_rows(times(*WAYS), "one clip")
    assert len(rows) == 6
    assert sum("encoder" in row.work for row in rows) == 3
    without = recognition.openvino_rows(times("int8", "encoder-int8"), "one clip")
    assert [row.ours for row in without] == [None]
    assert "OpenVINO not measured" in without[0].note


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_openvino_computes_the_same_network(tmp_path: Path, int8: bool) -> None:
    """Its scores on a clip are PyTorch's, nearly in 8 bits."""
    if missing := openvino_peer.missing():
        pytest.skip(f"no {missing}; `make bench` installs it")
    pipeline = encoder_pipeline()
    (tmp_path / "plain.onnx").write_bytes(recognition.plain_model(pipeline))
    run = openvino_peer.compiled(tmp_path / "plain.onnx", partial(whisper_features, pipeline), threads=1, int8=int8)
    features = torch.from_numpy(whisper_features(pipeline, noise()))
    with torch.inference_mode():
        expected = pipeline.network(features).scores.numpy()
    np.testing.assert_allclose(next(iter(run().values())), expected, atol=0.2 if int8 else 1e-3)


def published(processor: str, work: str, peer: str = "") -> Row:
    """A row of a table in `results/benchmarks`."""
    found = json.loads((REPOSITORY / f"results/benchmarks/{processor}.json").read_text(encoding="utf-8"))["rows"]
    rows = (Row.from_dict(row) for part in found.values() for row in part)
    return next(row for row in rows if (row.work, row.peer) == (work, peer))


def test_the_figures_in_the_documentation_are_those_of_the_tables() -> None:
    page = " ".join((REPOSITORY / "docs/benchmarks.md").read_text(encoding="utf-8").split())
    newest, first = "amd-epyc-family-26-model-2-2-cores", "amd-epyc-2-cores"
    full = published(newest, "training, full clips, batch 32", "Keras 3, TensorFlow, fp32")
    own = published(newest, "training, EmoDB's own lengths, masked, bucketed", "Keras 3, padded clips")
    assert full.ours
    assert full.ratio
    assert own.ratio
    step = (
        f"a step takes {full.ours.median:.3g} ms per utterance there, {full.ratio.median:.3g} times faster than Keras"
    )
    assert f"{step}, and {own.ratio.median:.3g} times at EmoDB's own lengths" in page
    clip = "one 7.5 s clip, waveform to probabilities, 2 threads"
    small = published(first, f"{clip}, int8", "onnxruntime, plain fp32 export, torch's features").ours
    bundled = published(first, f"{clip}, the bundled model").ours
    assert small
    assert bundled
    assert f"gives {small.median:.1f} ms for int8 and {bundled.median:.1f} ms for the bundled model" in page


def test_the_speed_in_the_readme_agrees_with_the_table() -> None:
    """It is measured by `scripts/readme.py`, the table by `make bench`: the same model, the same processor."""
    speed = json.loads((REPOSITORY / "results/bundled/speed.json").read_text(encoding="utf-8"))
    clip = "one 7.5 s clip, waveform to probabilities"
    for name, threads in (("one_thread_ms", "1 thread"), ("all_threads_ms", "2 threads")):
        measured = published("amd-epyc-family-26-model-2-2-cores", f"{clip}, {threads}, the bundled model").ours
        assert measured
        assert speed[name] == pytest.approx(measured.median, rel=0.25)
