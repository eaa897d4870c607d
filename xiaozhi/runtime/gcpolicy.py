"""When the garbage collector may work in a process that serves devices."""

from __future__ import annotations

import gc
from time import perf_counter
from typing import Any

# Seconds at least between two full collections, and how many times as long as the last
# one took: so they have a ten-thousandth of the time. But never longer than the last one
# says: what refers to itself must not stay for half an hour where many are connected.
_AT_LEAST = 60.0
_TIMES = 10_000
_AT_MOST = 300.0


class GcPolicy:
    """Has the collector rest, and look at everything only now and then.

    A full collection looks at all that lives, every connection included, and nothing
    else happens meanwhile: with 10 000 connections a quarter of a second. What is there
    at the start is not looked at again, young objects always are. What has lived for
    a while and refers to itself is only found by a full one, which by itself would come
    after many millions of objects. Sessions, connections and streams that are over do not
    wait for it: they are taken apart at their end (``test_letting_go``).

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
        self._next = self._clock.callLater(self._pause(took), self._collect)

    @staticmethod
    def _pause(took: float) -> float:
        return min(max(_AT_LEAST, took * _TIMES), _AT_MOST)
