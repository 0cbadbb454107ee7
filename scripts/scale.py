"""Cost, storage and network of recognizing millions of hours, and the bottleneck.

    python scripts/scale.py --measure            measure this machine's rates: results/scale/rates.json, half a minute
    python scripts/scale.py                      compute the tables and write them into docs/scale.md
    python scripts/scale.py --print --hours 1e6 --days 1 --core-hour-price 0.02      other inputs: print the tables

Rates are measured on one core; sizes are those of encoded synthetic voices. Prices, days and the properties of a node
are assumptions; each is an option and listed in the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from affekt import Recognizer, audio
from affekt.data.corpora import synthetic
from affekt.recognition.bulk import SHARD_RECORDINGS
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.cpu_affinity import available_cores
from affekt.runtime.environment import cpu_name

ROOT = Path(__file__).parents[1]
RATES, PAGE = ROOT / "results" / "scale" / "rates.json", ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- written by scripts/scale.py -->\n", "<!-- end -->\n"
CLIP_SECONDS, CLIPS, RUNS = 7.5, 32, 3
ENCODINGS = {"WAV, 16 bit": ("WAV", "PCM_16"), "FLAC": ("FLAC", "PCM_16"), "Opus": ("OGG", "OPUS")}


@dataclass(frozen=True)
class Rates:
    """Measured rates of one core of a machine.

    Attributes:
        machine: processor and cores.
        clip_seconds: length of the recordings.
        recognition_seconds: to decode and recognize one of them, FLAC, among many.
        decoding_seconds: the decoding alone.
        driver_seconds: to take one answer in and print its line, in the process that gave the command.
        line_bytes: of an answer's line (JSON).
        bytes_per_hour: of audio, by encoding.
    """

    machine: str
    clip_seconds: float
    recognition_seconds: float
    decoding_seconds: float
    driver_seconds: float
    line_bytes: float
    bytes_per_hour: dict[str, float]


@dataclass(frozen=True)
class Inputs:
    """Assumptions."""

    hours: float = 1e7
    days: float = 7.0
    node_cores: int = 64
    node_gigabits: float = 10.0
    core_hour_price: float = 0.04
    terabyte_month_price: float = 20.0
    months: float = 1.0


WORDS = {
    "hours": "hours of audio",
    "days": "days that it may take",
    "node_cores": "cores of a node",
    "node_gigabits": "network of a node, Gbit/s",
    "core_hour_price": "price of a core for an hour",
    "terabyte_month_price": "price of a terabyte for a month",
    "months": "months that the audio is kept",
}


@dataclass(frozen=True)
class Sheet:
    """Results for audio in one encoding.

    Attributes:
        clips: recordings.
        core_hours, nodes: of work, and machines to do it in the time.
        audio_terabytes, answers_terabytes: to be kept.
        node_gigabits: that a node reads while all its cores work.
        drivers: commands among which the list is shared out, so that none is slower than the cluster.
        compute_price, storage_price: in the currency of the inputs.
        seconds_per_clip: how long each part of the whole takes for one clip; the largest is in the way. The driver's is
            that of a single one.
    """

    clips: float
    core_hours: float
    nodes: int
    audio_terabytes: float
    answers_terabytes: float
    node_gigabits: float
    drivers: int
    compute_price: float
    storage_price: float
    seconds_per_clip: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """The bottleneck."""
        return max(self.seconds_per_clip, key=self.seconds_per_clip.__getitem__)

    @property
    def dearest(self) -> str:
        """The largest cost."""
        return "the cores" if self.compute_price > self.storage_price else "keeping the audio"


def work_out(rates: Rates, inputs: Inputs, bytes_per_hour: float) -> Sheet:
    """Compute the results for audio with this number of bytes per hour.

    >>> rates = Rates("", 3.6, 0.036, 0.0, 0.001, 100.0, {})
    >>> sheet = work_out(rates, Inputs(hours=1000.0, days=1.0, node_cores=5, node_gigabits=1.0), 1e8)
    >>> sheet.clips, sheet.core_hours, sheet.nodes, sheet.drivers
    (1000000.0, 10.0, 1, 1)
    >>> round(sheet.node_gigabits, 3)  # 5 / 0.036 clips a second of 100 kB
    0.111
    """
    clips = inputs.hours * 3600 / rates.clip_seconds
    core_hours = clips * rates.recognition_seconds / 3600
    nodes = math.ceil(core_hours / (inputs.days * 24 * inputs.node_cores))
    clip_bits = 8 * bytes_per_hour * rates.clip_seconds / 3600
    terabytes = inputs.hours * bytes_per_hour / 1e12
    return Sheet(
        clips=clips,
        core_hours=core_hours,
        nodes=nodes,
        audio_terabytes=terabytes,
        answers_terabytes=clips * rates.line_bytes / 1e12,
        node_gigabits=inputs.node_cores / rates.recognition_seconds * clip_bits / 1e9,
        drivers=math.ceil(clips * rates.driver_seconds / (inputs.days * 24 * 3600)),
        compute_price=core_hours * inputs.core_hour_price,
        storage_price=terabytes * inputs.terabyte_month_price * inputs.months,
        seconds_per_clip={
            "the cores": rates.recognition_seconds / (nodes * inputs.node_cores),
            "the network": clip_bits / (nodes * inputs.node_gigabits * 1e9),
            "a single driver": rates.driver_seconds,
        },
    )


# ----------------------------------------------------------------------------------------------------------- measuring


def measure() -> Rates:
    """Measure this machine's rates, each the best of a few runs."""
    with tempfile.TemporaryDirectory() as place:
        clips = _clips(Path(place) / "voices")
        sizes = {name: _encode(clips, Path(place), *kind) for name, kind in ENCODINGS.items()}
        sources = sorted(map(str, Path(place).glob("*.flac")))
        recognizer = Recognizer.load(threads=1)
        answers = list(recognizer.predict_many(sources, jobs=1))
        shard = pickle.dumps((answers * SHARD_RECORDINGS)[:SHARD_RECORDINGS])
        lines = [json.dumps(answer.to_dict()) for answer in answers]
        return Rates(
            machine=f"{cpu_name()}, {available_cores()} cores",
            clip_seconds=CLIP_SECONDS,
            recognition_seconds=_best(lambda: list(recognizer.predict_many(sources, jobs=1))) / CLIPS,
            decoding_seconds=_best(lambda: [audio.load(source) for source in sources]) / CLIPS,
            driver_seconds=_best(lambda: _print(pickle.loads(shard))) / SHARD_RECORDINGS,
            line_bytes=float(np.mean([len(line.encode()) + 1 for line in lines])),
            bytes_per_hour=sizes,
        )


def _clips(folder: Path) -> list[NDArray[np.float32]]:
    """Clips of synthetic voices, one utterance after the other."""
    manifest = synthetic.write(folder, speakers=4, sentences=4)
    voices = np.concatenate([audio.load(path) for path in manifest.audio_paths()])
    size = round(CLIP_SECONDS * 16_000)
    return [np.resize(np.roll(voices, -number * size), size) for number in range(CLIPS)]


def _encode(clips: Sequence[NDArray[np.float32]], folder: Path, container: str, encoding: str) -> float:
    """Write the clips; return the bytes per hour."""
    total = 0
    for number, clip in enumerate(clips):
        path = folder / f"{number:02}.{container.lower()}"
        soundfile.write(path, clip, 16_000, format=container, subtype=encoding)
        total += path.stat().st_size
    return total * 3600 / (len(clips) * CLIP_SECONDS)


def _best(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _print(answers: Sequence[Any]) -> None:
    with Path("/dev/null").open("w") as nowhere:
        for answer in answers:
            print(json.dumps(answer.to_dict(), ensure_ascii=False), file=nowhere, flush=True)


# ------------------------------------------------------------------------------------------------------------- the page


def render(rates: Rates, inputs: Inputs) -> str:
    """The tables as Markdown."""
    return "\n".join([*_rate_lines(rates), "", *_input_lines(inputs), "", *_sheet_lines(rates, inputs), ""])


def _rate_lines(rates: Rates) -> Iterator[str]:
    speed = rates.clip_seconds / rates.recognition_seconds
    yield f"Measured on one core of {rates.machine}, on clips of {rates.clip_seconds:g} s:"
    yield ""
    yield "| measured | |"
    yield "|---|---|"
    yield f"| to decode and recognize a clip | {1e3 * rates.recognition_seconds:.1f} ms: {speed:.0f} times real time |"
    yield f"| of which decoding (FLAC) | {1e3 * rates.decoding_seconds:.1f} ms |"
    yield f"| for the driver to take in and print an answer | {1e6 * rates.driver_seconds:.0f} µs |"
    yield f"| a line of JSON | {rates.line_bytes:.0f} bytes |"
    for name, size in rates.bytes_per_hour.items():
        yield f"| an hour of audio, {name} | {size / 1e6:.1f} MB |"


def _input_lines(inputs: Inputs) -> Iterator[str]:
    yield "| assumed | |"
    yield "|---|---|"
    for name, value in asdict(inputs).items():
        yield f"| {WORDS[name]} (`--{name.replace('_', '-')}`) | {value:{',.0f' if value == int(value) else 'g'}} |"


def _sheet_lines(rates: Rates, inputs: Inputs) -> Iterator[str]:
    sheets = {name: work_out(rates, inputs, size) for name, size in rates.bytes_per_hour.items()}
    rows: dict[str, Callable[[Sheet], str]] = {
        "clips": lambda sheet: f"{sheet.clips:.2e}",
        "core hours": lambda sheet: f"{sheet.core_hours:,.0f}",
        "nodes": lambda sheet: f"{sheet.nodes:,}",
        "price of the cores": lambda sheet: f"{sheet.compute_price:,.0f}",
        "audio, TB": lambda sheet: f"{sheet.audio_terabytes:,.0f}",
        "price of keeping it": lambda sheet: f"{sheet.storage_price:,.0f}",
        "larger part of the price": lambda sheet: sheet.dearest,
        "answers, TB": lambda sheet: f"{sheet.answers_terabytes:,.2f}",
        "read by a node, Gbit/s": lambda sheet: f"{sheet.node_gigabits:.2f}",
        "read by all nodes, Gbit/s": lambda sheet: f"{sheet.nodes * sheet.node_gigabits:.1f}",
        "drivers needed": lambda sheet: f"{sheet.drivers}",
        "slowest part, with one driver": lambda sheet: sheet.bottleneck,
    }
    yield f"| worked out | {' | '.join(sheets)} |"
    yield "|---" * (len(sheets) + 1) + "|"
    for name, show in rows.items():
        yield f"| {name} | {' | '.join(map(show, sheets.values()))} |"
    parts = next(iter(sheets.values())).seconds_per_clip
    yield ""
    yield "Microseconds that each part takes for a clip while all of it works, by encoding:"
    yield ""
    yield f"| | {' | '.join(sheets)} |"
    yield "|---" * (len(sheets) + 1) + "|"
    for part in parts:
        yield f"| {part} | {' | '.join(f'{1e6 * sheet.seconds_per_clip[part]:.2f}' for sheet in sheets.values())} |"


def insert(page: str, sheet: str) -> str:
    """The page with the tables between its two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{sheet}\n{END}{after}"


def read_rates(path: Path = RATES) -> Rates:
    """The rates that were measured."""
    return Rates(**json.loads(path.read_text(encoding="utf-8")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--print", action="store_true")
    for part in fields(Inputs):
        assert part.default is not MISSING
        parser.add_argument(f"--{part.name.replace('_', '-')}", type=type(part.default), default=part.default)
    options = vars(parser.parse_args())
    measuring, printing = options.pop("measure"), options.pop("print")
    if measuring:
        write_bytes(RATES, (json.dumps(asdict(measure()), indent=2) + "\n").encode())
        return
    sheet = render(read_rates(), Inputs(**options))
    if printing:
        print(sheet)
    else:
        write_bytes(PAGE, insert(PAGE.read_text(encoding="utf-8"), sheet).encode())


if __name__ == "__main__":
    main()
