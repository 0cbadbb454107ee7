"""Write the generated blocks of README.md: the output of `affekt predict`, the table of results, the study's headline.

    python scripts/readme.py            write them
    python scripts/readme.py --speech   write the synthetic recordings of examples/ first
    python scripts/readme.py --speed    measure the bundled model on this machine first, which should be idle

Every figure is from results/, from docs/study.md, which is made from results/, from the bundled model or from a command
that is run here; a test compares the blocks.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import soundfile

from affekt.data.corpora import synthetic
from affekt.recognition.models import BUNDLED
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.environment import environment

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
RESULTS = REPOSITORY / "results"
STUDY = REPOSITORY / "docs" / "study.md"
HEADLINE = "Table 2."
"""Start of the caption of the study's headline table."""
SPEED = RESULTS / "bundled" / "speed.json"
CLIP_SECONDS, RUNS = 7.5, 41
SPEECH = {"a": "synthetic-01-s01-happy-01", "b": "synthetic-04-s01-neutral-01", "c": "synthetic-04-s01-angry-01"}
"""Recordings in examples/ and the utterances of the synthetic corpus that they hold."""
COMMAND = "affekt predict examples/*.wav"
NAMES = {
    "emodb": "EmoDB (German)",
    "ravdess": "RAVDESS (English)",
    "nemo": "nEMO (Polish)",
    "emovo": "EMOVO (Italian)",
    "crema-d": "CREMA-D (English)",
    "banglaser": "BanglaSER (Bangla)",
    "javanese": "Javanese",
}
CORPUS_RUNS = "{corpus}-speaker-robust"
"""Runs of results/ whose training and test speakers differ."""


def main() -> int:
    """Write both blocks."""
    if "--speech" in sys.argv[1:]:
        write_speech(REPOSITORY / "examples")
    if "--speed" in sys.argv[1:]:
        write_bytes(SPEED, (json.dumps(measure_speed(), indent=1) + "\n").encode())
    text = README.read_text(encoding="utf-8")
    for name, block in (("predict", prediction()), ("results", results()), ("study", study())):
        text = replaced(text, name, block)
    write_bytes(README, text.encode())
    return 0


def write_speech(folder: Path) -> None:
    """Write the example recordings, 16-bit PCM at 16 kHz."""
    wanted = {utterance: name for name, utterance in SPEECH.items()}
    for row, waveform in synthetic.generate(speakers=4, sentences=1):
        if row["id"] in wanted:
            soundfile.write(folder / f"{wanted[row['id']]}.wav", waveform, synthetic.SAMPLE_RATE_HZ, subtype="PCM_16")


def block(text: str, name: str) -> str:
    """The generated block of this name.

    >>> block("x <!-- a --> 1 <!-- /a --> y", "a")
    '1'
    """
    return _pattern(name).search(text)[2].strip()  # type: ignore[index]


def replaced(text: str, name: str, content: str) -> str:
    """The text with another block of this name."""
    return _pattern(name).sub(lambda found: f"{found[1]}\n{content}\n{found[3]}", text)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->)(.*?)(<!-- /{name} -->)", re.DOTALL)


def prediction() -> str:
    """The command, and what it prints."""
    paths = [f"examples/{name}.wav" for name in SPEECH]
    command = [sys.executable, "-m", "affekt", "predict", *paths]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return f"```console\n$ {COMMAND}\n{done.stdout.rstrip()}\n```"


def results() -> str:
    """The table by corpus, and size and speed in a line."""
    measures = json.loads((RESULTS / "bundled" / "measures.json").read_text(encoding="utf-8"))
    unseen = unseen_corpora(measures)
    adapted = measures.get("adapt_speaker", {}).get("corpora", {})
    trained = dict(_speakers_held_out())
    lines = [
        "| UA in %, four classes; chance is 25 | bundled model, corpus unseen | the same, `--adapt speaker` | "
        "`compact`, trained on it, other speakers |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {NAMES.get(corpus, corpus)} | {_ua(unseen.get(corpus))} | {_ua(adapted.get(corpus))} | "
        f"{_ua(trained.get(corpus))} |"
        for corpus in dict.fromkeys([*unseen, *trained])
    ]
    if unseen:
        lines.append(f"| mean of the unseen corpora | {_mean(unseen)} | {_mean(adapted)} | |")
    return "\n".join([*lines, "", *_size_and_speed()])


def study() -> str:
    """The study's headline table: a row for each proposal, a column for each network and split."""
    rows = headline(STUDY.read_text(encoding="utf-8"))
    if not rows:
        return "No proposal has been measured on three corpora yet."
    columns = list(dict.fromkeys((row["Network"], row["Split"], row["Corpora"]) for row in rows))
    titles = [f"{network}, {split} splits, {corpora} corpora" for network, split, corpora in columns]
    lines = [f"| Gain in UA, points | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for proposal in dict.fromkeys(row["Proposal"] for row in rows):
        own = {(row["Network"], row["Split"], row["Corpora"]): row for row in rows if row["Proposal"] == proposal}
        cells = [_verdict(own[key]) if key in own else "" for key in columns]
        lines.append(f"| {proposal} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict(row: Mapping[str, str]) -> str:
    """A gain with its verdict, and with the corrected p-value where the interval excludes 0."""
    p = "" if row["Effect"] == "no difference shown" else f" (p = {row['p (Holm)']})".replace("= <", "< ")
    return f"{row['UA gain (points)']} {row['Effect']}{p}"


def headline(page: str) -> list[dict[str, str]]:
    """The rows of the study's headline table by column; none if the page has no such table.

    >>> headline("Table 2. C.\\n\\n| a | b |\\n|---|---:|\\n| 1 | +0.1 \\\\[0, 1\\\\] |\\n\\nA note.\\n")
    [{'a': '1', 'b': '+0.1 [0, 1]'}]
    """
    found = re.search(rf"^{re.escape(HEADLINE)}[^\n]*\n\n((?:\|[^\n]*\n)+)", page, re.MULTILINE)
    if found is None:
        return []
    names, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in found[1].splitlines())
    return [dict(zip(names, (re.sub(r"\\(.)", r"\1", cell) for cell in row), strict=True)) for row in rows]


def _mean(rows: Mapping[str, Mapping[str, float]]) -> str:
    return f"{100 * sum(row['ua'] for row in rows.values()) / len(rows):.1f}" if rows else ""


def unseen_corpora(measures: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Measures by corpus of the model, or of its recipe, on corpora that it was not trained on.

    `unseen` holds corpora that trained nothing; `across`, corpora that were left out one at a time.
    """
    found: dict[str, Mapping[str, float]] = {}
    for group in ("unseen", "across"):
        for corpus, row in measures.get(group, {}).get("corpora", {}).items():
            found.setdefault(corpus.replace("_", "-"), row)
    return found


def _speakers_held_out() -> Iterator[tuple[str, dict[str, float]]]:
    for corpus in NAMES:
        path = RESULTS / CORPUS_RUNS.format(corpus=corpus) / "summary.json"
        if path.exists():
            systems = json.loads(path.read_text(encoding="utf-8"))["systems"]
            pooled = systems["compact"]["pooled"]["ua"]
            yield corpus, {"ua": pooled["value"], "ua_low": pooled["low"], "ua_high": pooled["high"]}


def _ua(row: Mapping[str, float] | None) -> str:
    return "" if row is None else f"{100 * row['ua']:.1f} [{100 * row['ua_low']:.1f}, {100 * row['ua_high']:.1f}]"


def _size_and_speed() -> Iterator[str]:
    yield f"The model file has {BUNDLED.stat().st_size / 1e6:.1f} MB."
    speed = json.loads(SPEED.read_text(encoding="utf-8")) if SPEED.exists() else {}
    if speed.get("model_sha256") == _sha256(BUNDLED):  # figures of another model say nothing about this one
        yield (
            f"A clip of {speed['clip_seconds']:g} s takes {speed['one_thread_ms']:.0f} ms on one core of "
            f"{speed['cpu']}, and {speed['all_threads_ms']:.0f} ms on {speed['cores']}."
        )


def measure_speed() -> dict[str, Any]:
    """Median milliseconds from samples to a prediction, on one thread and on one per core of this machine."""
    noise = np.random.default_rng(0).normal(0, 0.1, round(CLIP_SECONDS * 16_000)).astype(np.float32)
    facts = environment()
    return {
        "model_sha256": _sha256(BUNDLED),
        "cpu": facts["cpu"],
        "cores": int(facts["cores"]),
        "onnxruntime": facts["onnxruntime"],
        "clip_seconds": CLIP_SECONDS,
        "runs": RUNS,
        "one_thread_ms": _median_ms(Recognizer.load(threads=1), noise),
        "all_threads_ms": _median_ms(Recognizer.load(), noise),
    }


def _median_ms(recognizer: Recognizer, samples: np.ndarray) -> float:
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        recognizer.predict(samples, 16_000)
        times.append(1e3 * (perf_counter() - start))
    return round(statistics.median(times), 2)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
