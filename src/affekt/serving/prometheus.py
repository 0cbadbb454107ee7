"""Counters and gauges for Prometheus: how much, how fast, how often refused. Nothing about what was heard."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One server's measures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self.audio_seconds = Counter("affekt_audio_seconds", "Audio that was heard", ("path",), registry=self.registry)

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A value that is looked up whenever somebody asks."""
        Gauge(f"affekt_{name}", help_text, registry=self.registry).set_function(value)

    def page(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)
