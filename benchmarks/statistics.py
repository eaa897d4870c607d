"""Seconds measured, as a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Count, and median, 99th percentile and maximum in ms (None where there is nothing)."""
    if not seconds:
        return {"count": 0, "p50": None, "p99": None, "max": None}
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "p50": _ms(median(ordered)),
        "p99": _ms(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]),
        "max": _ms(ordered[-1]),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
