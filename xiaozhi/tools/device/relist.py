"""Scheduling of the listings of a device's tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class ToolListing:
    """Runs one listing at a time, at most as often as an interval allows.

    A device may report changes without end. However many it reports, one listing runs, at most
    one more waits, and there is a pause between the two.

    :param work: lists the tools once; raises nothing but ``CancelledError``.
    :param interval: returns the minimum seconds from the end of a listing to the next.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        interval: Callable[[], float],
        clock: IReactorTime,
    ) -> None:
        # Dropped by stop(): they may form a reference cycle with the owner.
        self._parts: tuple[Callable[[], Awaitable[None]], Callable[[], float]] | None
        self._parts = work, interval
        self._clock = clock
        self._running: Deferred[None] | None = None
        self._due: IDelayedCall | None = None
        self._started = self._busy = self._wanted = False
        self._ended = 0.0

    def start(self) -> Deferred[None]:
        """List the tools for the first time. Fires at the end, whatever the result."""
        self._started = True
        return self._begin()

    def again(self) -> None:
        """List the tools again as soon as that is allowed; before :meth:`start`, do nothing."""
        if self._parts is None or not self._started:
            return
        if self._busy:
            self._wanted = True
        elif self._due is None:
            _, interval = self._parts
            wait = self._ended + interval() - self._clock.seconds()
            self._due = self._clock.callLater(max(0.0, wait), self._begin)

    def stop(self) -> None:
        """Cancel the running and the waiting listing. Idempotent."""
        self._parts = None
        due, self._due = self._due, None
        if due is not None:
            due.cancel()
        if self._running is not None:
            self._running.cancel()

    def _begin(self) -> Deferred[None]:
        self._due = None
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    async def _run(self) -> None:
        if self._parts is None:
            return
        work, _ = self._parts
        self._busy, self._wanted = True, False
        try:
            await work()
        except CancelledError:
            return
        finally:
            self._busy = False
            self._ended = self._clock.seconds()
        if self._wanted:
            self.again()


async def _no_work() -> None:
    """Do nothing: the listing was stopped."""


def _no_interval() -> float:
    return 0.0
