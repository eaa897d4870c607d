"""When the garbage collector may work in a process that serves devices."""

from __future__ import annotations

import gc
from time import perf_counter
from typing import Any

# Seconds at least between two full collections, and how many times as long as the last
# one took: so they have a ten-thousandth of the time, however many objects there are.
_AT_LEAST = 60.0
_TIMES = 10_000


class Collector:
    """Has the collector rest, and look at everything only now and then.

    A full collection looks at all that lives, every connection included, and nothing
    else happens meanwhile: with 10 000 connections a quarter of a second. What is there
    at the start is not looked at again, young objects always are. But what has lived for
    a while and refers to itself, such as a session or a connection that is over, is only
    found by a full one. By itself that would come after many millions of objects.

    :param clock: an ``IReactorTime``.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._next: Any = None

    def start(self) -> None:
        """Once everything that stays is there."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(2_000, 10, 1_000)
        self._next = self._clock.callLater(_AT_LEAST, self._collect)

    def stop(self) -> None:
        """Leave the collector to itself. Idempotent."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _collect(self) -> None:
        began = perf_counter()
        gc.collect()
        took = perf_counter() - began
        self._next = self._clock.callLater(max(_AT_LEAST, took * _TIMES), self._collect)
