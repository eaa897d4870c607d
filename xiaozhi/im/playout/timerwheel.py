"""One timer for many calls."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil, floor

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

# Due times are multiples of the tick only up to rounding.
_FUZZ = 1e-6

Call = Callable[[], object]


class TickWheel:
    """Runs calls at times of an absolute clock, rounded up to a tick.

    Thousands of devices share it: the reactor has one delayed call, and only while calls
    wait. Ticks do not drift, and a late tick runs all calls that are due.
    """

    __slots__ = ("_buckets", "_clock", "_tick", "_ticks", "_timer", "_timer_tick")
    _log = Logger()

    def __init__(self, clock: IReactorTime, tick: float = 0.01) -> None:
        """:param tick: seconds."""
        self._clock = clock
        self._tick = tick
        self._buckets: dict[int, dict[Call, None]] = {}
        self._ticks: list[int] = []
        self._timer: IDelayedCall | None = None
        self._timer_tick = 0

    def at(self, due: float, call: Call) -> int:
        """Run ``call`` once, at the first tick that is not before ``due``.

        The same call scheduled twice for one tick runs once.

        :param due: seconds on the clock; a past time means the reactor's next iteration.
        :return: the tick, for :meth:`cancel`.
        """
        number = ceil(due / self._tick - _FUZZ)
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {call: None}
            heappush(self._ticks, number)
            if self._timer is None or number < self._timer_tick:
                self._arm(number)
        else:
            bucket[call] = None
        return number

    def before(self, now: float) -> float:
        """Return the time of the last tick, from which a clock can start without rounding."""
        return floor(now / self._tick + _FUZZ) * self._tick

    def cancel(self, number: int, call: Call) -> None:
        """Undo :meth:`at`; does nothing if it has run."""
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket.pop(call, None)
            if not bucket and not any(self._buckets.values()):
                self.stop()

    def stop(self) -> None:
        """Drop all calls."""
        self._buckets.clear()
        self._ticks.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_tick = number
        delay = max(0.0, number * self._tick - self._clock.seconds())
        self._timer = self._clock.callLater(delay, self._run)

    def _run(self) -> None:
        self._timer = None
        reached = floor(self._clock.seconds() / self._tick + _FUZZ)
        due: list[Call] = []
        while self._ticks and self._ticks[0] <= reached:
            due.extend(self._buckets.pop(heappop(self._ticks)))
        for call in due:
            try:
                call()
            except Exception:
                self._log.failure("a timed call raised an exception")
        # Buckets of cancelled calls need no wake-up.
        while self._ticks and not self._buckets[self._ticks[0]]:
            del self._buckets[heappop(self._ticks)]
        if self._ticks and (self._timer is None or self._ticks[0] < self._timer_tick):
            self._arm(self._ticks[0])
