"""Write results/reliability.md from the measurements in results/reliability/*.json.

make faults fuzz load
python scripts/reliability.py [results/reliability]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from affekt.runtime.atomic_files import write_bytes

FOLDER = Path(__file__).parents[1] / "results" / "reliability"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder = parser.parse_args().folder
    write_bytes(folder.with_suffix(".md"), page(folder).encode())


def page(folder: Path) -> str:
    """The page for the measurements in a folder; missing ones are named, with their command."""
    parts = {"faults": faults, "fuzz": fuzz, "load": load}
    lines = ["# Reliability", "", "Written by `python scripts/reliability.py` from what the commands below measured."]
    for name, part in parts.items():
        path = folder / f"{name}.json"
        lines += ["", f"## `make {name}`", ""]
        lines += part(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ["Not measured yet."]
    return "\n".join([*lines, ""])


def faults(facts: dict[str, Any]) -> Iterator[str]:
    kinds = facts["faults"]
    yield "A small experiment suffers a fault and is started again. Recovered: its summary is then the undisturbed one,"
    yield "bit for bit. Refused: the command names the damaged file. All else is a loss."
    yield ""
    rows = [(name, sum(counts.values()), *counts.values()) for name, counts in kinds.items()]
    yield from table(("fault", "injected", "recovered", "refused", "lost"), rows)
    totals = [sum(row[column] for row in rows) for column in range(1, 5)]
    yield ""
    yield (
        f"In all {totals[0]} faults: {totals[1]} recovered identically, {totals[2]} refused, {totals[3]} lost. A full "
        f"disk was {facts['full_disk']}. Seed {facts['seed']}, {facts['seconds']:.0f} s on {machine(facts)}."
    )


def fuzz(facts: dict[str, Any]) -> Iterator[str]:
    yield "Hostile input. A finding is a traceback, more than 5 s, more than 500 MiB, a file outside the working"
    yield "folder, or code that was run."
    yield ""
    rows = [
        (
            row["target"],
            f"{row['inputs']:,}",
            f"{row['refused']:,}",
            f"{row['slowest_seconds']:.2f} s",
            f"{row['seconds']:.0f} s",
            len(row["findings"]),
            len(row.get("mended", ())),
        )
        for row in facts["targets"]
    ]
    yield from table(("target", "inputs", "refused", "slowest", "time", "findings", "mended"), rows)
    yield ""
    yield "Mended: what an earlier run of the target found, and this one, of later code, did not; each has a test in"
    yield "tests/test_fuzz.py or beside the tests of its module."
    for row in facts["targets"]:
        yield from (f"* {row['target']}: {name}" for name in row.get("mended", ()))
    yield ""
    yield f"Inputs chosen by {facts['guided_by']}, on {machine(facts)}."


def load(facts: dict[str, Any]) -> Iterator[str]:
    good, mixed = facts["rows"]["good"], facts["rows"].get("mixed")
    yield f"*good*: {good['clients']} clients, each asking again as soon as it is answered."
    if mixed:
        times = mixed["arrivals_per_second"] / good["good_per_second"]
        yield (
            f"*mixed*: {mixed['arrivals_per_second']:.0f} requests a second, {times:.1f} times what *good* gives, of "
            "all kinds: good, bad, slow, aborted, huge, timelines."
        )
    yield ""
    yield from table(("", *facts["rows"]), [(name, *map(value, facts["rows"].values())) for name, value in LOAD_ROWS])
    yield ""
    yield f"Server and clients on one machine: {machine(facts)}."
    for name, row in facts["rows"].items():
        yield ""
        yield f"Answers, {name}: {', '.join(f'{what} {count:,}' for what, count in row['answers'].items())}."


LOAD_ROWS = (
    ("time", lambda row: f"{row['seconds']:.0f} s"),
    ("good answers a second", lambda row: f"{row['good_per_second']:.1f}"),
    ("p50", lambda row: f"{1_000 * row['p50_seconds']:.0f} ms"),
    ("p95", lambda row: f"{1_000 * row['p95_seconds']:.0f} ms"),
    ("p99", lambda row: f"{1_000 * row['p99_seconds']:.0f} ms"),
    ("p99 of refusals", lambda row: milliseconds_or_dash(row.get("refused_p99_seconds"))),
    ("p99 of the clients' own lateness", lambda row: milliseconds_or_dash(row.get("clients_late_p99_seconds"))),
    ("5xx or 429 that say nothing of when to come again", lambda row: len(row["errors"])),
    ("answers that differ from those alone", lambda row: row["different"]),
    ("memory in the second third", lambda row: f"{row['memory_mib']['second_third']:.0f} MiB"),
    ("memory in the last third", lambda row: f"{row['memory_mib']['last_third']:.0f} MiB"),
    ("memory at most", lambda row: f"{row['memory_mib']['peak']:.0f} MiB"),
    ("ready again after", lambda row: f"{row['recovery_seconds']:.2f} s"),
    ("a killed worker replaced after", lambda row: seconds_or_dash(row.get("replaced_seconds"))),
    ("processes that served, in all", lambda row: row.get("processes", "-")),
)
"""What is said of each part of the load test; a dash stands for what was not measured."""


def seconds_or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def milliseconds_or_dash(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1_000 * seconds:.0f} ms"


def machine(facts: dict[str, Any]) -> str:
    known = facts["machine"]
    return f"{known['cpu']}, {known['cores']} cores, {known['platform']}, Python {known['python']}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    yield from (f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    main()
