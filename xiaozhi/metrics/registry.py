"""The registry of a service's metrics, and their text for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector as _RegistryCollector

from xiaozhi.metrics.families import Collector, Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The type of :meth:`Metrics.text`."""


class _Adapter(_RegistryCollector):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> list[Family]:
        return list(self._collector.collect())


class Metrics:
    """The metrics of one service, collected at each scrape."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def add(self, collector: Collector) -> None:
        """Add the metrics of a collector."""
        self._registry.register(_Adapter(collector))

    def families(self) -> list[Family]:
        """Return all metrics with their current values."""
        return list(self._registry.collect())

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format. Takes some milliseconds; never waits."""
        return generate_latest(self._registry)
