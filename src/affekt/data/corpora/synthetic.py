"""The embedded corpus: synthetic speech in four emotions, made here, labeled as synthetic everywhere.

Ten speakers, five pairs of a woman and a man (a session each), say ten sentences of no language as angry, happy,
neutral and sad. The voices are :mod:`affekt.data.synthesis`; they follow the literature on emotional prosody and
nothing else. The corpus is for trying out a pipeline. It does not show how people sound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from itertools import product
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row
from affekt.data.manifest import Manifest
from affekt.data.synthesis.phones import TEXTS
from affekt.data.synthesis.speakers import EMOTIONS, gender, make_speaker
from affekt.data.synthesis.utterance import say
from affekt.data.synthesis.voice import SAMPLE_RATE_HZ, Singles
from affekt.errors import ConfigError, CorpusError, Fault
from affekt.runtime.atomic_files import atomic_folder

NAME = "synthetic"
SPEAKERS, SENTENCES = 10, len(TEXTS)
MOST_SPEAKERS, MOST_TAKES = 99, 99
FILE = re.compile(rf"synthetic-(?P<speaker>\d\d)-(?P<text>s\d\d)-(?P<emotion>{'|'.join(EMOTIONS)})-(?P<take>\d\d)")
MANIFEST_FILE = "manifest.csv"
README_FILE = "README.txt"


def generate(
    speakers: int = SPEAKERS, sentences: int = SENTENCES, utterances_per_cell: int = 1, seed: int = 0
) -> Iterator[tuple[Row, Float[Singles, " samples"]]]:
    """Yield utterances: the manifest's row and the waveform, float32 at 16 kHz.

    Each utterance depends only on its speaker, sentence, emotion, take and the seed: a corpus of fewer speakers or
    sentences is a part of the larger one, bit for bit.

    Args:
        speakers: 1 to 99, women and men in turn.
        sentences: 1 to 10.
        utterances_per_cell: how often each speaker says each sentence in each emotion, 1 to 99.
        seed: of everything; not negative.

    >>> row, waveform = next(generate(speakers=1, sentences=1))
    >>> row["id"], row["label"], waveform.dtype.name
    ('synthetic-01-s01-angry-01', 'angry', 'float32')

    Raises:
        ConfigError: numbers out of range, all of them named.
    """
    _check(speakers, sentences, utterances_per_cell, seed)
    return _generate(speakers, sentences, utterances_per_cell, seed)


def write(
    folder: str | Path,
    speakers: int = SPEAKERS,
    sentences: int = SENTENCES,
    utterances_per_cell: int = 1,
    seed: int = 0,
) -> Manifest:
    """Generate into an empty or new folder: 16-bit WAV files, a manifest and a note on their origin.

    The folder appears completely or not at all. Arguments as of :func:`generate`.

    Raises:
        ConfigError: numbers out of range.
        CorpusError: the folder is not empty, or cannot be written.
    """
    folder = Path(folder)
    utterances = generate(speakers, sentences, utterances_per_cell, seed)
    if not _is_vacant(folder):
        raise CorpusError(
            f"synthetic corpus {folder}", got="files in it", expected="an empty or new folder", remedy="choose another"
        )
    try:
        with atomic_folder(folder) as inside:
            table = _write_files(inside, utterances, seed).table
    except OSError as error:
        raise CorpusError(f"synthetic corpus {folder}", got=str(error), expected="a folder to write into") from error
    return Manifest(table, folder)


def read(root: Path) -> Release:
    """``synthetic-01/synthetic-01-s01-angry-01.wav``: speaker, sentence, emotion, take.

    An empty or new folder is filled with the corpus of seed 0 first.
    """
    if _is_vacant(root):
        write(root)
    listed = root / MANIFEST_FILE
    return read_by_name(root, FILE, _row, complete=Manifest.read(listed).ids if listed.is_file() else ())


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    return _facts(int(name["speaker"]), name["text"], name["emotion"])


def _facts(number: int, text_id: str, emotion: str) -> Row:
    """The facts of an utterance; speaker and session with their names within the corpus."""
    return {
        "label": emotion,
        "raw_label": emotion,
        "speaker": f"{number:02d}",
        "session": f"pair-{(number + 1) // 2:02d}",
        "gender": gender(number),
        "text_id": text_id,
    }


CORPUS = Corpus(
    name=NAME,
    title="affekt's embedded corpus of synthetic speech",
    languages=("und",),
    style="synthetic",
    license="CC0-1.0",
    page="docs/synthetic.md",
    layout="synthetic-01/synthetic-01-s01-angry-01.wav; an empty or new folder is filled",
    read=read,
    speakers=SPEAKERS,
    label_counts=dict.fromkeys(EMOTIONS, SPEAKERS * SENTENCES),
    generated=True,
    remarks="No human voice: made by a source-filter synthesizer, to try things on.",
)


def _check(speakers: int, sentences: int, utterances_per_cell: int, seed: int) -> None:
    limits = (
        ("speakers", speakers, 1, MOST_SPEAKERS),
        ("sentences", sentences, 1, SENTENCES),
        ("utterances_per_cell", utterances_per_cell, 1, MOST_TAKES),
        ("seed", seed, 0, 2**63 - 1),
    )
    faults = [
        Fault(name, got=repr(value), expected=f"a whole number from {least} to {most}")
        for name, value, least, most in limits
        if not isinstance(value, int) or not least <= value <= most
    ]
    if faults:
        raise ConfigError.of(faults)


def _generate(
    speakers: int, sentences: int, utterances_per_cell: int, seed: int
) -> Iterator[tuple[Row, Float[Singles, " samples"]]]:
    texts = list(TEXTS.items())[:sentences]
    cells = list(product(enumerate(texts), enumerate(EMOTIONS), range(1, utterances_per_cell + 1)))
    for number in range(1, speakers + 1):
        speaker = make_speaker(number, seed)
        for (sentence, (text_id, text)), (feeling, emotion), take in cells:
            rng = np.random.default_rng([seed, number, sentence, feeling, take])
            row = _facts(number, text_id, emotion) | {"language": "und", "corpus": NAME, "style": "synthetic"}
            row |= {"speaker": speaker.name, "session": f"{NAME}-{row['session']}"}
            row["id"] = f"{speaker.name}-{text_id}-{emotion}-{take:02d}"
            row["path"] = f"{speaker.name}/{row['id']}.wav"
            yield row, say(speaker, emotion, text, rng)


def _write_files(folder: Path, utterances: Iterator[tuple[Row, Float[Singles, " samples"]]], seed: int) -> Manifest:
    rows = []
    for row, waveform in utterances:
        path = folder / row["path"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_wav(waveform))
        rows.append(row)
    note = (
        f"Synthetic speech, generated by affekt (seed {seed}): no human voice is in it.\n{len(rows)} utterances, "
        "16 kHz, 16 bit, mono; manifest.csv says which is which. CC0-1.0: do with it what you like.\n"
    )
    (folder / README_FILE).write_text(note, encoding="utf-8")
    manifest = Manifest.from_rows(rows, folder)
    manifest.write(folder / MANIFEST_FILE)
    return manifest


def _wav(waveform: Float[Singles, " samples"]) -> bytes:
    from scipy.io import wavfile

    buffer = BytesIO()
    wavfile.write(buffer, SAMPLE_RATE_HZ, np.round(waveform * 32_767).astype(np.int16))
    return buffer.getvalue()


def _is_vacant(folder: Path) -> bool:
    """Whether a folder is empty or not there yet."""
    if folder.exists() and not folder.is_dir():
        raise CorpusError(f"synthetic corpus {folder}", got="a file", expected="a folder")
    return not folder.exists() or not any(folder.iterdir())
