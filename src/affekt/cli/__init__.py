"""The command line: a table of verbs, each imported when it is called.

A verb is a function that calls the library and returns an exit code: 0 (or None) for success, 1 if some inputs failed
and the others were delivered. :func:`main` turns exceptions into one line each on standard error and an exit code: 2
for errors of usage or input, 130 after Ctrl-C, 70 for a defect of affekt.

A verb's module imports nothing heavy at its top, so that every help page works in the core install.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import importlib.util
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from affekt import __version__
from affekt.cli.framework.calls import call
from affekt.cli.framework.help_pages import HELP, front_page
from affekt.config import is_run_config, read_toml
from affekt.errors import NO_FILE, AffektError, ConfigError, Fault, gathered
from affekt.runtime.logs import log_as, say


class Verb(NamedTuple):
    """A command.

    Attributes:
        function: where its function is, as `module:name`.
        summary: first line of the function's docstring, so that `affekt --help` imports no verb.
        extras: optional dependencies that it needs.
    """

    function: str
    summary: str
    extras: tuple[str, ...] = ()


VERBS: dict[str, Verb] = {
    "predict": Verb(
        "affekt.cli.predict:predict",
        "Recognize the emotion of recordings: files, folders, patterns, or `-` for standard input.",
    ),
    "stream": Verb(
        "affekt.cli.stream:stream",
        "Recognize emotion live, one line per hop, from the microphone or from raw samples on standard input.",
    ),
    "serve": Verb(
        "affekt.cli.serve:serve",
        "Serve a page and an API that recognize emotions in recordings and live streams.",
        ("serve",),
    ),
    "info": Verb(
        "affekt.cli.info:info", "Show the card of a model; or the parameters of the paper's networks, and this machine."
    ),
    "evaluate": Verb(
        "affekt.cli.evaluate:evaluate",
        "Measure a model on a manifest: WA, UA, per class, calibration, with intervals over speakers.",
        ("train",),
    ),
    "demo": Verb(
        "affekt.cli.demo:demo",
        "Train and compare the paper's four systems on a synthetic corpus; a few minutes.",
        ("train",),
    ),
    "corpora": Verb(
        "affekt.cli.corpora:corpora", "List the corpora that affekt reads, with their licenses and sources.", ("train",)
    ),
    "prepare": Verb(
        "affekt.cli.prepare:prepare",
        "Read a corpus into a manifest: labels, speakers, texts, and notes on every irregularity.",
        ("train",),
    ),
    "train": Verb(
        "affekt.cli.train:train", "Train one model for use, calibrate it, and export it to ONNX.", ("train",)
    ),
    "export": Verb(
        "affekt.cli.export:export",
        "Write a trained model as one ONNX file: raw waveform in, calibrated probabilities out.",
        ("train",),
    ),
    "experiment": Verb(
        "affekt.cli.experiment:experiment",
        "Train and compare systems over folds and seeds; resumes where it was interrupted.",
        ("train",),
    ),
    "tune": Verb(
        "affekt.cli.tune:tune",
        "Search the settings of a system on the validation part of one fold; resumes.",
        ("train", "tune"),
    ),
    "report": Verb(
        "affekt.cli.report:report",
        "Write tables, paired tests and plots of an experiment, finished or not; of several, as a study.",
        ("train",),
    ),
    "fuse": Verb(
        "affekt.cli.fuse:fuse", "Add the late fusion of trained systems to a run's tables and tests.", ("train",)
    ),
    "reproduce": Verb(
        "affekt.cli.reproduce:reproduce",
        "Repeat the paper's experiment on IEMOCAP or another corpus and report beside its figures; resumes.",
        ("train",),
    ),
    "completion": Verb("affekt.cli.completion:completion", "Print the completion script of a shell."),
}
"""Every command, in the order of `affekt --help`."""

EXTRAS = {
    "plot": ("matplotlib",),
    "audformat": ("audformat",),
    "mic": ("sounddevice",),
    "opensmile": ("opensmile",),
    "mlflow": ("mlflow",),
    "ray": ("ray",),
    "serve": ("fastapi", "multipart", "prometheus_client", "python_multipart", "starlette", "uvicorn", "websockets"),
    "ssl": ("transformers",),
    "tensorboard": ("tensorboard",),
    "train": (
        "filelock",
        "jaxtyping",
        "matplotlib",
        "onnx",
        "onnxscript",
        "pandas",
        "pyarrow",
        "rich",
        "safetensors",
        "scipy",
        "sklearn",
        "tomli_w",
        "torch",
    ),
    "tune": ("optuna",),
}
"""Extra -> top-level modules that it installs."""

VERSION, ASK_HELP = "--version", "help"
RECORDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".webm", ".aiff", ".aif")
DONE, MEND, DEFECT, INTERRUPTED, PIPE_CLOSED = 0, 2, 70, 130, 141  # 70 is EX_SOFTWARE; 130 and 141 are 128 + signal


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    Errors show no traceback, unless the environment variable AFFEKT_DEBUG is set.

    Args:
        argv: the words after `affekt`; by default those of this process.

    Returns:
        0 for success; see the module for the other codes.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        log_as("text")
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold what the terminal's encoding lacks
        code = _run(words)
        sys.stdout.flush()
        if argv is None:
            gc.freeze()  # the process is about to end: skip the search for unused objects
    except KeyboardInterrupt:
        return _say(["interrupted"], INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does. What Python still has to flush goes to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        if any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error)):
            return _say(["interrupted"], INTERRUPTED)  # some libraries turn it into an ImportError
        if os.environ.get("AFFEKT_DEBUG"):
            raise
        return _explain(error, next(iter(words), ""))
    return code


def _run(words: list[str]) -> int:
    verb, *rest = words or HELP
    if verb == ASK_HELP:
        verb, rest = (rest[0], list(HELP[1:])) if rest and rest[0] not in HELP else (HELP[1], [])
    if verb in HELP:
        summaries = ((name, row.summary) for name, row in VERBS.items())
        print(front_page("affekt", "Speech emotion recognition: recognize, train, compare, serve.", summaries), end="")
        return DONE
    if verb == VERSION:
        print(__version__)
        return DONE
    return call(function_of(verb), f"affekt {verb}", rest, partial(_options_in_file, verb), _requirement(verb)) or DONE


def function_of(verb: str) -> Callable[..., int | None]:
    """Import the function of a verb.

    Args:
        verb: name of a command.

    Raises:
        ConfigError: an unknown command, with the closest known one.
    """
    if verb not in VERBS:
        raise _unknown(verb)
    module, _, name = VERBS[verb].function.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def _unknown(verb: str) -> ConfigError:
    near = difflib.get_close_matches(verb, (*VERBS, ASK_HELP, *HELP, VERSION), n=1)
    remedy = f"did you mean {near[0]}?" if near else "see `affekt --help`"
    if verb == "-" or Path(verb).suffix.lower() in RECORDINGS or Path(verb).exists():
        remedy = f"to recognize a recording: `affekt predict {shlex.quote(verb)}`"
    return ConfigError(verb, got=f"an unknown {'option' if verb[:1] == '-' != verb else 'command'}", remedy=remedy)


def _requirement(verb: str) -> str:
    """The note of a help page about the extras that a verb needs; says whether they are installed."""
    extras = VERBS[verb].extras
    missing = [module for extra in extras for module in EXTRAS[extra] if not importlib.util.find_spec(module)]
    state = "not installed" if missing else "installed"
    several = "s" if len(extras) > 1 else ""
    return f"Needs the extra{several} {' and '.join(extras)} ({state}): {_install(extras)}" if extras else ""


def _install(extras: Iterable[str]) -> str:
    return f"pip install 'affekt[{','.join(extras)}]'"


def _options_in_file(verb: str, path: str) -> dict[str, Any]:
    """The tables of a TOML file; for an experiment, also the options that repeat another run's `config.toml`."""
    data = read_toml(path)
    if verb == "experiment" and is_run_config(data):
        return options_of_run(Path(path), data)
    return data


def options_of_run(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `affekt experiment` that repeat a run, from its `config.toml` and the `folds.json` beside it."""
    facts, folds = data["experiment"], path.with_name("folds.json")
    kept = {name: facts[name] for name in ("folds", "fold_seed", "seeds", "threads") if name in facts}
    own = {"systems": str(path), "recipe": str(path)} | ({"labels": str(path)} if "labels" in data else {})
    return kept | own | {"protocol": str(folds) if folds.exists() else facts.get("protocol", "random")}


def _explain(error: Exception, verb: str) -> int:
    """Print one line per fault, and return the exit code."""
    if isinstance(error, AffektError):
        return _say(("error: " + "\\n".join(str(fault).splitlines()) for fault in gathered(error.faults)), MEND)
    missing = next(filter(None, map(_missing_extra, _causes(error))), None)
    if missing:
        module, extra = missing
        needed = VERBS[verb].extras if verb in VERBS else ()
        extras = needed if any(module in EXTRAS[name] for name in needed) else (extra,)
        return _say([f"error: {module} is not installed; {_install(extras)}"], MEND)
    if isinstance(error, FileNotFoundError) and error.filename:
        return _say([f"error: {Fault(str(error.filename), NO_FILE)}"], MEND)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return _say([f"error: {place}{error.strerror or error}"], MEND)
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return _say([f"internal error: {reason}; please report it with what AFFEKT_DEBUG=1 shows"], DEFECT)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _missing_extra(error: BaseException) -> tuple[str, str] | None:
    """The missing module of an import error, and the extra that installs it."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return next(((module, extra) for extra, modules in EXTRAS.items() if module in modules), None)


def _say(messages: Iterable[str], code: int) -> int:
    for message in messages:
        say(message, logging.ERROR)
    return code
