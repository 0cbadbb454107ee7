"""Metrics for Prometheus: load, latency, refusals. They hold nothing about the content of recordings.

With several worker processes every page of `/metrics` shows the sum over all of them. Each process keeps its values in
memory-mapped files in the folder that `PROMETHEUS_MULTIPROC_DIR` names; whichever process is asked adds them up. Values
of a process that has died count on in counters and histograms and no longer in gauges.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Read by prometheus_client when it is imported: it must be set before a worker process starts."""


class Metrics:
    """The metrics of a server: of this process, or summed over all workers where :data:`FOLDER_VARIABLE` is set."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        folder = os.environ.get(FOLDER_VARIABLE)
        self._folder = Path(folder) if folder else None
        if self._folder is None:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "affekt_requests", "HTTP requests answered, by path and status", ("path", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "affekt_request_seconds", "Time to an answer", ("path",), buckets=SECONDS, registry=self.registry
        )
        self.batch_size = Histogram(
            "affekt_batch_size", "Recordings per run of the model", buckets=SIZES, registry=self.registry
        )
        self.audio_seconds = Counter("affekt_audio_seconds", "Audio analyzed", ("path",), registry=self.registry)
        self.gauge("workers", "Server processes")(1)

    def gauge(self, name: str, help_text: str) -> Callable[[float], None]:
        """A gauge that starts at 0; the function returned sets it."""
        gauge = Gauge(f"affekt_{name}", help_text, registry=self.registry, multiprocess_mode="livesum")
        gauge.set(0)
        return gauge.set

    def page(self) -> bytes:
        """All metrics in Prometheus's text format."""
        if self._folder is None:
            return generate_latest(self.registry)
        for process in _dead_processes(self._folder):
            mark_process_dead(process, str(self._folder))  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)


@contextmanager
def shared_by_workers() -> Iterator[None]:
    """A folder for the metrics of worker processes that are started in this context; removed at its end."""
    with TemporaryDirectory(prefix="affekt-metrics-") as folder:
        before = os.environ.get(FOLDER_VARIABLE)
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            os.environ.pop(FOLDER_VARIABLE)
            if before is not None:
                os.environ[FOLDER_VARIABLE] = before


def _dead_processes(folder: Path) -> Iterator[int]:
    """Processes that left gauges behind: a worker that was killed cannot remove its own."""
    found = {int(match[1]) for path in folder.glob("gauge_live*.db") if (match := re.search(r"_(\d+)\.db$", path.name))}
    for process in found:
        try:
            os.kill(process, 0)  # sends nothing
        except ProcessLookupError:
            yield process
        except PermissionError:
            continue
