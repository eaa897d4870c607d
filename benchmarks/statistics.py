"""Summaries of measured times."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Return count, and median, 99th percentile and maximum in ms (None without values)."""
    if not seconds:
        return {"count": 0, "p50": None, "p99": None, "max": None}
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "p50": _ms(median(ordered)),
        "p99": _ms(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]),
        "max": _ms(ordered[-1]),
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares; 0 if there is no line."""
    count = len(points)
    if count < 2:
        return 0.0
    middle = sum(x for x, _ in points) / count
    height = sum(y for _, y in points) / count
    spread = sum((x - middle) ** 2 for x, _ in points)
    rise = sum((x - middle) * (y - height) for x, y in points)
    return rise / spread if spread else 0.0


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
