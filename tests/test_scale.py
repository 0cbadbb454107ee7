"""The sheet of a large run: its arithmetic, and that the page shows what the rates give."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts import scale

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def rates() -> Any:
    """A clip of 3.6 s costs 36 ms; so a million of them, which are 1000 hours, cost 10 core hours."""
    return scale.Rates("a machine", 3.6, 0.036, 0.01, 1e-5, 200.0, {"WAV": 1e8, "Opus": 1e7})


def test_worked_example(rates: Any) -> None:
    inputs = scale.Inputs(1000.0, 0.5, node_cores=2, node_gigabits=1.0, core_hour_price=0.5)
    sheet = scale.work_out(rates, inputs, 1e8)
    assert sheet.clips == pytest.approx(1e6)
    assert sheet.core_hours == pytest.approx(10)
    assert sheet.nodes == 1  # 24 core hours in half a day
    assert sheet.compute_price == pytest.approx(5)
    assert sheet.audio_terabytes == pytest.approx(0.1)
    assert sheet.storage_price == pytest.approx(2)
    assert sheet.answers_terabytes == pytest.approx(2e-4)
    assert sheet.node_gigabits == pytest.approx(2 / 0.036 * 1e5 * 8 / 1e9)
    assert sheet.drivers == 1
    assert sheet.seconds_per_clip == pytest.approx({"the cores": 0.018, "the network": 8e-4, "a single driver": 1e-5})
    assert (sheet.bottleneck, sheet.dearest) == ("the cores", "the cores")
    assert scale.work_out(rates, replace(inputs, months=3.0), 1e8).dearest == "keeping the audio"


def test_each_part_can_be_in_the_way(rates: Any) -> None:
    inputs = scale.Inputs(1000.0, 1.0, node_cores=1, node_gigabits=0.01)
    assert scale.work_out(rates, inputs, 1e8).bottleneck == "the network"
    assert scale.work_out(rates, inputs, 1e7).bottleneck == "the cores"
    slow = replace(rates, driver_seconds=1.0)
    assert scale.work_out(slow, inputs, 1e7).bottleneck == "a single driver"
    assert scale.work_out(slow, inputs, 1e7).drivers == 12  # a million seconds in a day of 86,400
    assert scale.work_out(rates, replace(inputs, days=0.1), 1e8).nodes == 5  # 10 core hours in 2.4


def test_the_page_shows_what_the_rates_give() -> None:
    page = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
    sheet = scale.render(scale.read_rates(), scale.Inputs())
    assert page == scale.insert(page, sheet)
    assert sheet.count("10,000,000") == 1  # as it says


def test_the_page_is_replaced_between_its_marks() -> None:
    page = f"before\n{scale.BEGIN}old\n{scale.END}after\n"
    assert scale.insert(page, "new") == f"before\n{scale.BEGIN}\nnew\n{scale.END}after\n"


def test_other_inputs(rates: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(scale, "read_rates", lambda: rates)
    monkeypatch.setattr(sys, "argv", ["scale.py", "--print", "--hours", "2000", "--node-cores", "4"])
    scale.main()
    printed = capsys.readouterr().out
    assert "| hours of audio (`--hours`) | 2,000 |" in printed
    assert "| cores of a node (`--node-cores`) | 4 |" in printed
    assert "| core hours | 20 | 20 |" in printed


def test_rates_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "CLIPS", 2)
    monkeypatch.setattr(scale, "RUNS", 1)
    measured = scale.measure()
    assert measured.bytes_per_hour["WAV, 16 bit"] == pytest.approx(3600 * 16_000 * 2, rel=0.01)  # and its header
    assert measured.bytes_per_hour["Opus"] < measured.bytes_per_hour["FLAC"] < measured.bytes_per_hour["WAV, 16 bit"]
    assert 0 < measured.decoding_seconds < measured.recognition_seconds
    assert measured.line_bytes > 100
