"""Forbidden behavior: long run time, much memory, files opened elsewhere, executed code, foreign exceptions."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from affekt.errors import AffektError

MOST_SECONDS = 5.0
"""Of this process's time, which other processes on the machine do not lengthen."""
MOST_GROWTH_MIB = 500.0
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
READABLE = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    *(sys.prefix, sys.base_prefix, str(Path(__file__).parents[1] / "src")),
    *("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/usr/share/zoneinfo"),
)
"""Where libraries may look for themselves, and for facts about the machine."""
CODE = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "ctypes.dlopen")
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request")


class ViolationError(BaseException):
    """Forbidden behavior of an input; `except Exception` does not catch it."""


class _Watch:
    """The audit hook of the process, which cannot be removed; it is inactive unless an input is in use."""

    folder: str | None = None
    seen: list[str]

    def __init__(self) -> None:
        self.seen = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None:
            return
        if event in CODE or event in NETWORK:
            self.refuse(f"{event} {arguments!r}"[:300])
        if event == "open" and isinstance(arguments[0], str | bytes):
            self.open(os.path.normpath(Path(os.fsdecode(arguments[0])).absolute()), arguments[2])

    def open(self, path: str, flags: object) -> None:
        inside = f"{path}{os.sep}".startswith(f"{self.folder}{os.sep}")
        writing = isinstance(flags, int) and bool(flags & WRITING)
        if not inside and (writing or not path.startswith(READABLE)) and not path.endswith("__pycache__"):
            self.refuse(f"open {path} for {'writing' if writing else 'reading'}")

    def refuse(self, what: str) -> None:
        self.seen.append(what)
        raise ViolationError(what)


_WATCH = _Watch()


@contextlib.contextmanager
def watched(folder: Path, most_seconds: float = MOST_SECONDS) -> Iterator[list[AffektError]]:
    """Use an input inside the block, with all its files in `folder`; an AffektError is a valid outcome and is returned.

    Args:
        folder: where the input may be read and written.
        most_seconds: processor time that the block may take.

    Raises:
        ViolationError: too much time or memory, a file elsewhere, or executed code.
    """
    refusals: list[AffektError] = []
    forget_peak()
    started, memory, peak = time.process_time(), resident_mib(), peak_mib()
    _WATCH.folder, _WATCH.seen = str(folder.resolve()), []
    try:
        yield refusals
    except AffektError as error:
        if not all(fault.what for fault in error.faults):
            raise ViolationError("a refusal that names nothing") from error
        refusals.append(error)
    finally:
        _WATCH.folder = None
    if _WATCH.seen:  # in another thread, or hidden by a bare `except`
        raise ViolationError(_WATCH.seen[0])
    seconds, highest = time.process_time() - started, peak_mib()
    if seconds > most_seconds:
        raise ViolationError(f"{seconds:.1f} s of work")
    if highest > max(peak, memory + MOST_GROWTH_MIB):  # a new peak is this input's
        raise ViolationError(f"{highest - memory:.0f} MiB more memory")


def resident_mib() -> float:
    """Current memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mib() -> float:
    """Peak memory of this process since `forget_peak`, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def forget_peak() -> None:
    """Set the peak to the current memory, or an input could use as much as any earlier one unnoticed."""
    with contextlib.suppress(OSError):  # a kernel without it: only a peak above all earlier ones is seen
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
