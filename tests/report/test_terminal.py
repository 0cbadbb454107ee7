"""The table in the terminal agrees with the summary and fits 80 columns."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from affekt.report import numbers
from affekt.report.terminal import print_table
from affekt.results import Results, summarize


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> dict[str, Any]:
    systems = ("baseline", "am-softmax-s30-m0.4")
    run = make_run(tmp_path_factory.mktemp("terminal") / "run", systems, left_out=("baseline/fold-0/seed-0",))
    return summarize(Results.read(run))


def printed(summary: dict[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(summary, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_figures_intervals_tests_and_protocol(summary: dict[str, Any]) -> None:
    text = printed(summary)
    assert " ".join(text.split()).startswith(summary["protocol_line"])
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    system = summary["systems"]["am-softmax-s30-m0.4"]
    ua = system["comparison"]["ua"]
    assert lines["am-softmax-s30-m0.4"].split() == [
        "am-softmax-s30-m0.4",
        *numbers.spread(system["ua"]["mean"], system["ua"]["sd_jobs"]).split(),
        *numbers.spread(system["wa"]["mean"], system["wa"]["sd_jobs"]).split(),
        numbers.points(ua["difference"]),
        numbers.p_value(ua["t_p_holm"]),
        *{"larger": ["better"], "not shown": ["not", "shown"]}[ua["verdict"]],
    ]
    assert numbers.interval(ua["t_low"], ua["t_high"], signed=True) in text
    assert "11 of 12 jobs are finished" in text
    assert "drawing speakers" in " ".join(text.split())
    assert "SYNTHETIC" not in text


def test_nothing_is_cut_off_at_80_columns(summary: dict[str, Any]) -> None:
    assert "…" not in printed(summary)
    assert max(map(len, printed(summary).splitlines())) <= 80


def test_a_pipe_shows_names_of_any_length(summary: dict[str, Any]) -> None:
    name = "a-system-of-a-very-long-name-" * 3
    assert name in printed(summary | {"systems": {name: summary["systems"]["baseline"]}})


def test_synthetic_audio_is_called_so(summary: dict[str, Any]) -> None:
    assert "SYNTHETIC AUDIO: says nothing about real speech" in printed(summary | {"synthetic": True})


def test_a_table_needs_no_plotting_library() -> None:
    program = "import sys; from affekt.report.terminal import print_table; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"matplotlib", "sklearn", "pandas"} & set(done.stdout.splitlines()) == set()
