"""Periodic jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

_PAUSE = 0.1
"""Seconds between two portions, so that others can use the database."""


class PeriodicJob:
    """Runs a job at an interval, in portions until nothing is left to do.

    Repeated failures are logged once; the job is retried at the next interval.

    :ivar name: for the log: ``purging dialogues``.
    :ivar done: units done since the start.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        portion: Callable[[int], Awaitable[int]],
        clock: IReactorTime,
        *,
        interval: float,
        size: int = 1000,
        first: float | None = None,
    ) -> None:
        """
        :param portion: does at most the given number of units and returns the number done.
        :param interval: seconds from the end of one round to the next.
        :param size: units in a portion.
        :param first: seconds until the first round; None: ``interval``.
        """
        self.done = 0
        self.name = name
        self._portion = portion
        self._clock = clock
        self._interval = interval
        self._size = size
        self._first = interval if first is None else first
        self._failing = False
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Schedule the first round."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    def stop(self) -> None:
        """Start no further portion."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    async def _run(self) -> None:
        await self._sleep(self._first)
        while True:
            await self._round()
            await self._sleep(self._interval)

    async def _round(self) -> None:
        try:
            while (count := await self._portion(self._size)) >= self._size:
                self.done += count
                await self._sleep(_PAUSE)
        except CancelledError:
            raise
        except Exception as error:
            if not self._failing:
                self._log.warn("{name}: {error}", name=self.name, error=str(error))
            self._failing = True
        else:
            self.done += count
            self._failing = False

    async def _sleep(self, seconds: float) -> None:
        pause: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(seconds, pause.callback, None)
        await pause
