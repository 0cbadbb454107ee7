"""Features that take long to compute, kept in the cache and memory-mapped: computed once for each corpus and encoder.

A folder holds the frames of all utterances (`values.npy`, float16), where each utterance starts (`offsets.npy`) and
their hash. Its name is a hash of all that decides them: the front end, the encoder's weights, and each utterance's
audio. All processes that use it share the memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from affekt.data.waveform_store import default_folder
from affekt.errors import ConfigError
from affekt.features.clips import Clips
from affekt.features.frontends import EncoderStates
from affekt.features.log_mel import FrontEnd
from affekt.runtime.atomic_files import atomic_folder

FORMAT = "affekt-features-1"


def load_features(
    waveforms: Sequence[NDArray[np.float32]],
    hashes: Sequence[str],
    front_end: FrontEnd,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int], object] = lambda done: None,
) -> Clips:
    """Features of all utterances: from the cache where they are worth keeping, else computed.

    Args:
        waveforms: of the utterances, [samples] each.
        hashes: of each utterance's audio.
        front_end: which features.
        cache: folder of the caches; by default :func:`affekt.data.waveform_store.default_folder`.
        device: where the features are used.
        on_progress: called with the number of utterances done.

    Raises:
        ConfigError: no encoder to compute them with, or a cache that cannot be written.
    """
    if not isinstance(front_end, EncoderStates):
        return Clips.from_waveforms(waveforms, front_end, device, on_progress)
    folder = (cache or default_folder()) / f"features-{_key(front_end, hashes)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            kept = _read(folder, len(hashes), front_end)
            if kept is None:
                shutil.rmtree(folder, ignore_errors=True)  # damaged, if it is there
                _write(folder, Clips.from_waveforms(waveforms, front_end, device, on_progress))
                kept = _read(folder, len(hashes), front_end)
    except OSError as error:
        got = error.strerror or str(error)
        raise ConfigError(f"cache {folder}", got=got, expected="a folder to write in", remedy="pass --cache") from error
    if kept is None:
        raise ConfigError(
            f"cache {folder}", got="files that are damaged as soon as they are written", expected="a disk"
        )
    on_progress(len(hashes))
    return kept.to(device)


def _key(front_end: EncoderStates, hashes: Sequence[str]) -> str:
    facts = [FORMAT, asdict(front_end), front_end.digest(), list(hashes)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _write(folder: Path, clips: Clips) -> None:
    with atomic_folder(folder) as temporary:
        np.save(temporary / "values.npy", clips.values.cpu().numpy().astype(np.float16))
        np.save(temporary / "offsets.npy", clips.offsets.cpu().numpy())
        (temporary / "sha256").write_text(_digest(temporary))


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("values.npy", "offsets.npy"):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _read(folder: Path, utterances: int, front_end: EncoderStates) -> Clips | None:
    """The kept features; None where there are none, or not whole."""
    try:
        if (folder / "sha256").read_text() != _digest(folder):
            return None
        values = np.load(folder / "values.npy", mmap_mode="c")  # private copies of pages that are written: none is
        offsets = np.load(folder / "offsets.npy")
    except (OSError, ValueError):
        return None
    if values.ndim != 2 or values.shape[1] != front_end.dims or len(offsets) != utterances + 1:
        return None
    silence = torch.full((front_end.dims,), front_end.silence)
    return Clips(torch.from_numpy(values), torch.from_numpy(offsets), silence)
