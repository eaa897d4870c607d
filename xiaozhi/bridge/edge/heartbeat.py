"""Heartbeats: liveness and round-trip time of a stream."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Heartbeat:
    """Sends one ping at a time: the next follows ``interval`` after an answer, or at once
    after ``timeout`` without one.

    :param ping: sends a ping with this number.
    :param dead: called once, after ``misses`` missing answers in a row.
    :ivar rtt: the last round trip in seconds; None before the first.
    :ivar missed: missing answers in a row.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: float,
        timeout: float,
        misses: int,
        ping: Callable[[int], None],
        dead: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._timeout = timeout
        self._misses = misses
        self._ping = ping
        self._dead = dead
        self._number = 0
        self.missed = 0
        self._sent_at: float | None = None  # None: answered
        self._timer: IDelayedCall | None = None
        self.rtt: float | None = None

    def start(self) -> None:
        """Ping now and repeat until :meth:`stop`."""
        self._timer = None
        self._number += 1
        self._sent_at = self._clock.seconds()
        self._timer = self._clock.callLater(self._timeout, self._overdue)
        self._ping(self._number)

    def answered(self, number: int) -> None:
        """Process an answer. One to an older ping proves liveness but is not measured."""
        self.missed = 0
        if self._timer is None or number != self._number or self._sent_at is None:
            return
        self.rtt = self._clock.seconds() - self._sent_at
        self._sent_at = None
        self._timer.cancel()
        self._timer = self._clock.callLater(self._interval, self.start)

    def stop(self) -> None:
        """Stop pinging. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self) -> None:
        self._timer = None
        self.missed += 1
        if self.missed >= self._misses:
            self._dead()
        else:
            self.start()
