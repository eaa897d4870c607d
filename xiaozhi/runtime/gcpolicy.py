"""Garbage collection in a process that serves devices."""

from __future__ import annotations

import gc
from time import perf_counter
from typing import Any

# The pause after a full collection: a multiple of its duration, so that collections take a
# ten-thousandth of the time, within a minimum and a maximum in seconds. The maximum keeps
# cycles in a busy process from staying for half an hour.
_AT_LEAST = 60.0
_TIMES = 10_000
_AT_MOST = 300.0


class GcPolicy:
    """Runs full garbage collections rarely, on a timer.

    A full collection scans all objects, every connection included, and blocks the process:
    with 10 000 connections a quarter of a second. Objects that exist at the start are
    frozen; young objects are collected as usual. Only a full collection finds older cycles;
    Python itself would run one after many millions of objects. Sessions, connections and
    streams do not depend on it: they break their cycles at their end (``test_leaks``).

    :param clock: an ``IReactorTime``.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._next: Any = None

    def start(self) -> None:
        """Start; call when all long-lived objects exist."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(2_000, 10, 1_000)
        self._next = self._clock.callLater(_AT_LEAST, self._collect)

    def stop(self) -> None:
        """Restore Python's own policy. Idempotent."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _collect(self) -> None:
        began = perf_counter()
        gc.collect()
        took = perf_counter() - began
        self._next = self._clock.callLater(self._pause(took), self._collect)

    @staticmethod
    def _pause(took: float) -> float:
        return min(max(_AT_LEAST, took * _TIMES), _AT_MOST)
