"""The command line: one table of verbs, each imported when it is called and not before.

A verb is a function that takes what the user typed, calls the library and returns its exit code: 0 (or None) when all
is done, 1 when some inputs failed and the rest was delivered. :func:`main` turns everything else into one line on
standard error: 2 for what the user must mend, 130 after Ctrl-C, 70 for a defect of this program.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from affekt import __version__
from affekt.cli.framework.calls import call
from affekt.cli.framework.help_pages import HELP, front_page
from affekt.config import is_run_config, read_toml
from affekt.errors import AffektError, ConfigError
from affekt.runtime.logs import log_as, say

VERBS: dict[str, tuple[str, str]] = {
    "demo": (
        "affekt.cli.demo:demo",
        "The paper's four systems on a synthetic corpus, from waveforms to tests and a report.",
    ),
    "corpora": ("affekt.cli.corpora:corpora", "What is read, its license, where its release is had."),
    "prepare": (
        "affekt.cli.prepare:prepare",
        "Read a corpus release into a manifest: labels, speakers, texts, and notes on all that is odd about it.",
    ),
    "train": ("affekt.cli.train:train", "Train one model for use, calibrate it, and export it to ONNX."),
    "experiment": (
        "affekt.cli.experiment:experiment",
        "Train and compare systems over folds and seeds; resumes where it was interrupted.",
    ),
    "tune": (
        "affekt.cli.tune:tune",
        "Search a system's settings on one fold's validation part; resumes, and leaves the test part alone.",
    ),
    "report": (
        "affekt.cli.report:report",
        "Tables, paired tests and plots of an experiment, finished or not; several together as a study.",
    ),
    "fuse": (
        "affekt.cli.fuse:fuse",
        "Let trained systems of a run vote: a fused system, in the run's own tables and tests.",
    ),
    "reproduce": (
        "affekt.cli.reproduce:reproduce",
        "The paper's experiment on IEMOCAP: prepare, train, and report beside the paper's figures; resumes.",
    ),
    "evaluate": (
        "affekt.cli.evaluate:evaluate",
        "Measure a model on a manifest: WA, UA, per class, calibration, with intervals over speakers.",
    ),
    "predict": (
        "affekt.cli.predict:predict",
        "Recognize the emotion of recordings: files, folders, patterns, or `-` for standard input.",
    ),
    "stream": (
        "affekt.cli.stream:stream",
        "Recognize emotion live, a line every hop, from the microphone or from raw samples on standard input.",
    ),
    "export": (
        "affekt.cli.export:export",
        "Write a trained model as one ONNX file: raw waveform in, calibrated probabilities out.",
    ),
    "serve": (
        "affekt.cli.serve:serve",
        "Serve a page and an API that recognize emotions in recordings and live streams.",
    ),
    "info": (
        "affekt.cli.info:info",
        "The card of a model; or the parameter ledger of the paper's networks, and this machine.",
    ),
}
"""Verb -> (function, summary): the first line of the function's docstring, so that `affekt --help` imports no verb."""

EXTRAS = {
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
"""Extra -> the modules that are missing without it."""

VERSION = "--version"
DONE, MEND, DEFECT, INTERRUPTED, PIPE_CLOSED = 0, 2, 70, 130, 141  # 70 is EX_SOFTWARE; 130 and 141 are 128 + signal


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    No error shows a traceback, unless the environment variable AFFEKT_DEBUG is set.

    Args:
        argv: the words after `affekt`; by default those that this process was started with.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    log_as("text")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold what the terminal's encoding lacks
    try:
        code = _run(words)
        sys.stdout.flush()
        if argv is None:
            gc.freeze()  # the process ends now: nothing is won by looking for unused objects
    except KeyboardInterrupt:
        return _say(["interrupted"], INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left, as `| head` does. What Python still has to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        if os.environ.get("AFFEKT_DEBUG"):
            raise
        return _explain(error)
    return code


def _run(words: list[str]) -> int:
    verb, *rest = words or HELP
    if verb in HELP:
        summaries = ((name, summary) for name, (_, summary) in VERBS.items())
        print(front_page("affekt", "Speech emotion recognition with a declared protocol.", summaries), end="")
        return DONE
    if verb == VERSION:
        print(__version__)
        return DONE
    return call(_function(verb), f"affekt {verb}", rest, partial(_options_in_file, verb)) or DONE


def _function(verb: str) -> Callable[..., int | None]:
    """The function of a verb, whose module is imported now."""
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, (*VERBS, *HELP, VERSION), n=1)
        remedy = f"did you mean {near[0]}?" if near else "see `affekt --help`"
        raise ConfigError(verb, got=f"an unknown {'option' if verb.startswith('-') else 'command'}", remedy=remedy)
    module, _, name = VERBS[verb][0].partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def _options_in_file(verb: str, path: str) -> dict[str, Any]:
    """The tables of a TOML file; for an experiment, the options that another run's `config.toml` stands for."""
    data = read_toml(path)
    if verb == "experiment" and is_run_config(data):
        from affekt.cli.changes import options_of_run

        return options_of_run(Path(path), data)
    return data


def _explain(error: Exception) -> int:
    """Say in one line each what is wrong, and whose turn it is."""
    if isinstance(error, AffektError):
        return _say(("error: " + "\\n".join(str(fault).splitlines()) for fault in error.faults), MEND)
    missing = next(filter(None, map(_missing_extra, _causes(error))), None)
    if missing:
        module, extra = missing
        return _say([f"error: {module} is not installed; pip install 'affekt[{extra}]'"], MEND)
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
    """The module whose absence raised this error, and the extra that brings it."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return next(((module, extra) for extra, modules in EXTRAS.items() if module in modules), None)


def _say(messages: Iterable[str], code: int) -> int:
    for message in messages:
        say(message, logging.ERROR)
    return code
