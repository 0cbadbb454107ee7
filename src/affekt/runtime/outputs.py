"""Checks of output paths, made before anything is written: no input and no earlier output is overwritten, and no two
inputs share an output.

>>> refuse_overwriting([Path("answers.csv")], inputs=[Path("call.wav")])
>>> found = [(Path("calls"), Path("calls/a/x.wav")), (Path("calls"), Path("calls/b/x.wav"))]
>>> for path in outputs_under(Path("out"), found, ".csv"):
...     print(path.as_posix())
out/a/x.csv
out/b/x.csv
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from affekt.errors import ConfigError, Fault

_RECORDINGS = (
    "3ga 3gp aac aif aifc aiff amr ape au avi caf flac m4a m4b mka mkv mov mp2 mp3 mp4 mpeg mpg oga ogg ogv opus rf64 "
    "snd sph voc w64 wav wave webm wma wmv wv"
)
RECORDING_SUFFIXES = frozenset(f".{name}" for name in _RECORDINGS.split())
"""Suffixes of recordings: no command writes text or a picture to a file with one of them."""


def refuse_overwriting(outputs: Iterable[str | Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Refuse outputs that are one of the inputs, by any path: relative, through a symbolic link or as a hard link.

    Outputs whose suffix is a recording's are refused too. Call it before anything is written.

    Args:
        outputs: files to write; None, standard output and folders are passed over.
        inputs: files to read; None, standard input and folders are passed over.

    Raises:
        ConfigError: all such outputs at once.
    """
    read = {key: str(path) for path in inputs if _is_file(path) for key in _keys(Path(str(path)))}
    faults = [fault for output in outputs if _is_file(output) for fault in _faults(Path(str(output)), read)]
    if faults:
        raise ConfigError.of(faults)


def refuse_replacing(outputs: Iterable[str | Path | None], force: bool = False, remedy: str = "") -> None:
    """Refuse outputs that exist already, unless they may be replaced. Call it before any work starts.

    Args:
        outputs: files to write; None, standard output, folders, devices and empty files are passed over.
        force: replace them.
        remedy: what to do instead; by default to choose another name or add `--force`.

    Raises:
        ConfigError: all such outputs at once.
    """
    remedy = remedy or "choose another name, or replace it with --force"
    faults = [] if force else [_existing(Path(path), remedy) for path in outputs if path and _holds_something(path)]
    if faults:
        raise ConfigError.of(faults)


def refuse_sharing(pairs: Iterable[tuple[str | Path, Path]]) -> None:
    """Refuse outputs that two different inputs would be written to.

    Args:
        pairs: an input and its output. The same input twice is no conflict.

    Raises:
        ConfigError: all such outputs at once, each with its inputs.

    >>> refuse_sharing([("a.wav", Path("a.csv")), ("a.flac", Path("a.csv"))])
    Traceback (most recent call last):
    affekt.errors.ConfigError: output a.csv: got 2 inputs (a.wav, a.flac), expected one; rename one of them
    """
    inputs: dict[Path, dict[Path, str]] = defaultdict(dict)
    for source, output in pairs:
        inputs[_absolute(output)].setdefault(_absolute(Path(source)), f"{output}\0{source}")
    faults = []
    for several in inputs.values():
        if len(several) > 1:
            names = [text.partition("\0") for text in several.values()]
            listed = ", ".join(source for _, _, source in names[:3]) + (", ..." if len(names) > 3 else "")
            faults.append(
                Fault(f"output {names[0][0]}", f"{len(names)} inputs ({listed})", "one", "rename one of them")
            )
    if faults:
        raise ConfigError.of(faults)


def outputs_under(folder: Path, inputs: Sequence[tuple[Path, Path]], suffix: str) -> list[Path]:
    """One output per input under a folder, in the inputs' folder structure.

    Inputs of one folder that differ by their suffix alone keep it: `a.wav` and `a.flac` become `a.wav.csv` and
    `a.flac.csv`.

    Args:
        folder: where the outputs go.
        inputs: for each input the folder that it was found in (for a file named by itself: its parent), and its path.
            With several such folders, their common parent is the top of the structure.
        suffix: of the outputs.

    Raises:
        ConfigError: two inputs that would still share an output.
    """
    if not inputs:
        return []
    bases = {_absolute(base) for base, _ in inputs}
    top = Path(os.path.commonpath(bases)) if _one_drive(bases) else None
    paths = [_absolute(path) for _, path in inputs]
    stems = [(path.relative_to(top) if top else path.relative_to(path.anchor)).with_suffix("") for path in paths]
    sources: dict[Path, set[Path]] = defaultdict(set)
    for stem, path in zip(stems, paths, strict=True):
        sources[stem].add(path)
    outputs = [
        folder / stem.with_name((stem.name if len(sources[stem]) == 1 else path.name) + suffix)
        for stem, path in zip(stems, paths, strict=True)
    ]
    refuse_sharing(zip(paths, outputs, strict=True))
    return outputs


def _is_file(path: str | Path | None) -> bool:
    return path is not None and str(path) != "-" and not Path(path).is_dir()


def _holds_something(path: str | Path) -> bool:
    path = Path(path)
    return path.is_file() and path.stat().st_size > 0


def _existing(output: Path, remedy: str) -> Fault:
    return Fault(f"output {output}", "an existing file", "a new one", remedy)


def _keys(path: Path) -> Iterator[object]:
    """Identities of a file: its absolute path without links, and its number on its device if it exists."""
    yield path.resolve()
    try:
        status = path.stat()
    except (OSError, ValueError):
        return
    yield status.st_dev, status.st_ino


def _faults(output: Path, read: dict[object, str]) -> Iterator[Fault]:
    same = next((read[key] for key in _keys(output) if key in read), None)
    if same is not None:
        yield Fault(f"output {output}", f"the input {same}", "another file", "the input would be overwritten")
    elif output.suffix.lower() in RECORDING_SUFFIXES:
        got = f"{output.suffix!r}, the suffix of a recording"
        yield Fault(f"output {output}", got, "the suffix of the format that is written", "is it a recording of yours?")


def _absolute(path: Path) -> Path:
    """An absolute path without `..`, with links left as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps `..`


def _one_drive(paths: Iterable[Path]) -> bool:
    return len({path.anchor for path in paths}) == 1
