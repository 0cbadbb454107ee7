"""Write the generated blocks of README.md: the output of `affekt predict`, and the table of results.

    python scripts/readme.py            write them
    python scripts/readme.py --speech   write the synthetic recordings of examples/ first

Every figure is from results/, from the bundled model or from a command that is run here; a test compares the blocks.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import soundfile

from affekt.data.corpora import synthetic
from affekt.recognition.models import BUNDLED
from affekt.runtime.atomic_files import write_bytes

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
RESULTS = REPOSITORY / "results"
SPEECH = {"a": "synthetic-04-s01-angry-01", "b": "synthetic-04-s01-neutral-01", "c": "synthetic-04-s01-sad-01"}
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
    text = README.read_text(encoding="utf-8")
    for name, block in (("predict", prediction()), ("results", results())):
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
    trained = dict(_speakers_held_out())
    lines = [
        "| UA in %, four classes; chance is 25 | bundled model, corpus unseen | trained on it, other speakers |",
        "|---|---|---|",
    ]
    lines += [
        f"| {NAMES.get(corpus, corpus)} | {_ua(unseen.get(corpus))} | {_ua(trained.get(corpus))} |"
        for corpus in dict.fromkeys([*unseen, *trained])
    ]
    if unseen:
        mean = sum(row["ua"] for row in unseen.values()) / len(unseen)
        lines.append(f"| mean | {100 * mean:.1f} | |")
    return "\n".join([*lines, "", *_size_and_speed()])


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
    for path in sorted((RESULTS / "benchmarks").glob("*-cores.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        rows = {row["work"]: row["ours"] for part in measured["rows"].values() for row in part if row["ours"]}
        clip = next((row for work, row in rows.items() if "7.5 s clip" in work and "bundled" in work), None)
        folder = next((row for work, row in rows.items() if work.startswith("affekt predict FOLDER")), None)
        if clip and folder:
            facts = measured["facts"]
            yield (
                f"{facts['cores']} cores of {facts['cpu']} take {clip['median']:.1f} ms for a clip of 7.5 s "
                f"and recognize a folder {folder['median']:,.0f} times faster than real time."
            )


if __name__ == "__main__":
    sys.exit(main())
