"""Conversion of plain numbers to Prometheus metric families."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric

from xiaozhi.metrics.instruments import Histogram

Family = Metric
"""One metric with the current values of all its labels."""

Labels = Sequence[str]


class Collector(Protocol):
    """Provides metrics at each scrape."""

    def collect(self) -> Iterable[Family]:
        """Return all metrics, including those without a value at present."""


def counter(name: str, says: str, value: float) -> Family:
    """Make a counter.

    :param name: without ``_total``, which is added.
    """
    return CounterMetricFamily(name, says, value=value)


def counters(name: str, says: str, labels: Labels, rows: Iterable[tuple[Labels, float]]) -> Family:
    """Make a counter with labels; each of ``rows`` has the labels' values and a count."""
    family = CounterMetricFamily(name, says, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def gauge(name: str, says: str, value: float) -> Family:
    """Make a gauge, a value that can rise and fall."""
    return GaugeMetricFamily(name, says, value=value)


def gauges(name: str, says: str, labels: Labels, rows: Iterable[tuple[Labels, float]]) -> Family:
    """Make a gauge with labels; each of ``rows`` has the labels' values and a value."""
    family = GaugeMetricFamily(name, says, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def histogram(name: str, says: str, values: Histogram) -> Family:
    """Make a histogram.

    :param name: ends with its unit, ``_seconds``.
    """
    return HistogramMetricFamily(name, says, buckets=values.buckets(), sum_value=values.sum)


def histograms(
    name: str, says: str, labels: Labels, rows: Iterable[tuple[Labels, Histogram]]
) -> Family:
    """Make a histogram with labels; each of ``rows`` has the labels' values and a histogram."""
    family = HistogramMetricFamily(name, says, labels=labels)
    for names, values in rows:
        family.add_metric(names, values.buckets(), values.sum)
    return family


def name_of(family: Family) -> str:
    """Return the name in the text and in queries: a counter ends with ``_total``."""
    return f"{family.name}_total" if family.type == "counter" else str(family.name)
