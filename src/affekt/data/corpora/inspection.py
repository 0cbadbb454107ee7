"""Decode every recording once, to find those that cannot be used and those that are duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import TypeAlias

from affekt.audio.bulk_decoding import DecodedFile, Decoders, decoded
from affekt.data.corpora.release import Note, Row, noted

Progress: TypeAlias = Callable[[Iterable[DecodedFile], int], Iterable[DecodedFile]]
"""Wraps an iterable of known length for a progress bar."""

CONTAINERS = {
    ".wav": {"WAV", "WAVEX", "RF64", "NIST"},  # early speech corpora keep NIST SPHERE in .wav
    ".flac": {"FLAC"},
    ".ogg": {"OGG"},
    ".oga": {"OGG"},
    ".opus": {"OGG"},
    ".mp3": {"MP3", "MPEG"},
    ".aiff": {"AIFF"},
    ".aif": {"AIFF"},
    ".aifc": {"AIFF"},
    ".w64": {"W64"},
    ".caf": {"CAF"},
    ".au": {"AU"},
    ".sph": {"NIST"},
}
"""Formats that a file of each suffix should have."""
QUIET_PEAK = 0.01  # -40 dB of full scale


def inspect(
    rows: list[Row],
    root: Path,
    jobs: int | None = None,
    progress: Progress | None = None,
    decoders: Decoders | None = None,
) -> tuple[list[Row], list[Note]]:
    """Decode the recordings of some rows; `jobs` and `decoders` as in :func:`affekt.audio.bulk_decoding.decoded`.

    Returns:
        The rows whose recording can be used, and notes on all rows.
    """
    paths = list(dict.fromkeys(str(row["path"]) for row in rows))
    found: Iterable[DecodedFile] = decoded([str(root / path) for path in paths], jobs, decoders)
    sounds = dict(zip(paths, progress(found, len(paths)) if progress else found, strict=True))
    usable = [row for row in rows if not sounds[row["path"]].fault]
    return usable, [
        *_faults(sounds),
        *_formats(sounds),
        *_levels(sounds),
        *_copies(sounds, usable),
        *_ends(sounds, usable),
    ]


def _faults(sounds: Mapping[str, DecodedFile]) -> list[Note]:
    broken = [path for path, sound in sounds.items() if not sound.complete]
    return [
        *noted(
            "recordings that cannot be decoded, left out",
            (f"{path}: {sound.fault}" for path, sound in sounds.items() if sound.fault),
            failed=True,
        ),
        *noted("recordings that break off, what is there is used", broken, "fetch them again"),
    ]


def _formats(sounds: Mapping[str, DecodedFile]) -> list[Note]:
    good = [sound for sound in sounds.values() if not sound.fault]
    disguised = [
        f"{path} is {sound.container}"
        for path, sound in sounds.items()
        if not sound.fault and sound.container not in CONTAINERS.get(Path(path).suffix.lower(), {sound.container})
    ]
    rates = Counter(f"{sound.sample_rate_hz} Hz" for sound in good)
    channels = Counter(f"{sound.channels} channel{'s' * (sound.channels > 1)}" for sound in good)
    return [
        *noted("recordings that are not what their suffix says, decoded as what they are", disguised),
        *(Note(f"mixed {what}", got=_tally(kinds)) for what, kinds in _mixed(rates, channels)),
    ]


def _mixed(rates: Counter[str], channels: Counter[str]) -> list[tuple[str, Counter[str]]]:
    return [(what, kinds) for what, kinds in (("sample rates", rates), ("channels", channels)) if len(kinds) > 1]


def _tally(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} in {count}" for kind, count in kinds.most_common())


def _levels(sounds: Mapping[str, DecodedFile]) -> list[Note]:
    peaks = {path: sound.peak for path, sound in sounds.items() if not sound.fault}
    quiet = [path for path, peak in peaks.items() if 0 < peak < QUIET_PEAK]
    if quiet:
        lowest, middle = min(peaks[path] for path in quiet), median(peaks.values())
        remedy = f"the lowest peak is {lowest:.3f}, the median of all {middle:.2f} of full scale"
    cancels = (path for path, sound in sounds.items() if sound.cancels)
    unheard = (path for path, sound in sounds.items() if sound.unheard)
    return [
        *noted("recordings whose channels cancel each other when mixed", cancels, "extract one channel"),
        *noted("recordings with sound that was not decoded", unheard, "repair or convert them"),
        *noted("recordings of digital silence", (path for path, peak in peaks.items() if peak == 0)),
        *(noted("very quiet recordings", quiet, remedy) if quiet else []),
    ]


def _copies(sounds: Mapping[str, DecodedFile], rows: list[Row]) -> list[Note]:
    """Files with the same samples; those with different labels contradict each other."""
    groups: dict[bytes, dict[str, set[str]]] = {}
    for row in rows:
        same = groups.setdefault(sounds[row["path"]].digest, {})
        same.setdefault(row["path"], set()).add(row["label"])
    copied = [same for same in groups.values() if len(same) > 1]
    alike = [" = ".join(_shortened(list(same))) for same in copied if len(set.union(*same.values())) == 1]
    contrary = [" = ".join(_shortened(list(same))) for same in copied if len(set.union(*same.values())) > 1]
    return [
        *noted("duplicated, recordings with exactly the same sound", alike),
        *noted("duplicated and mislabeled, exactly the same sound under different labels", contrary),
    ]


def _shortened(paths: list[str]) -> list[str]:
    return paths if len(paths) <= 2 else [*paths[:2], f"{len(paths) - 2} more"]


def _ends(sounds: Mapping[str, DecodedFile], rows: list[Row]) -> list[Note]:
    """Parts that begin or end after their file does."""
    late = [
        row["id"]
        for row in rows
        if max(float(row.get("start") or 0), float(row.get("end") or 0)) > sounds[row["path"]].duration_seconds + 0.01
    ]
    return noted("parts that reach beyond the end of their file", late)
