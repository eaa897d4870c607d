"""Time limits, gates and cancellation for coroutines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from xiaozhi.base.errors import ProviderError

T = TypeVar("T")


class Gate:
    """A gate, open or closed, that many coroutines may wait for."""

    def __init__(self, *, is_open: bool) -> None:
        self._is_open = is_open
        # Bound: one entry per waiting coroutine.
        self._waiting: list[Deferred[None]] = []

    def close(self) -> None:
        self._is_open = False

    def open(self) -> None:
        self._is_open = True
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    @property
    def is_open(self) -> bool:
        """Whether the gate is open."""
        return self._is_open

    def passed(self) -> Deferred[None]:
        """Wait for the gate to open; can be cancelled."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        if self._is_open:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred


def forget_frames(failure: Failure) -> Failure:
    """Drop the frames of a cancellation's traceback: they form a cycle with it and would
    keep the session alive until the garbage collector runs.
    """
    if failure.check(CancelledError):
        failure.cleanFailure()
    return failure


class Limit:
    """A time limit, which can be paused, for one awaitable.

    :param seconds: limit of the total without pauses, and of each pause.
    :param late: returns the error to raise at the limit.
    """

    def __init__(self, seconds: float, clock: IReactorTime, late: Callable[[], Exception]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._late = late
        self._due: IDelayedCall | None = None

    async def run(self, awaitable: Awaitable[T]) -> T:
        """Await it; cancel it at the limit."""

        async def wait() -> T:
            return await awaitable

        # Before the awaitable starts, because it may pause the limit at once.
        due = self._due = self._clock.callLater(self._seconds, lambda: waiting.cancel())
        waiting = Deferred.fromCoroutine(wait())
        waiting.addErrback(forget_frames)
        try:
            return await waiting
        finally:
            if not due.active():
                raise self._late() from None
            due.cancel()

    def extend(self, seconds: float) -> None:
        """Extend the limit, unless it has passed."""
        if self._due is not None and self._due.active():
            self._due.delay(seconds)

    async def held_up(self, awaitable: Awaitable[T]) -> T:
        """Pause the limit while awaiting something; call within :meth:`run`."""
        due = self._due
        if due is None or not due.active():
            return await awaitable
        left = due.getTime() - self._clock.seconds()
        due.reset(self._seconds)
        try:
            return await awaitable
        finally:
            if due.active():
                due.reset(left)


async def within(
    limit: float, clock: IReactorTime, awaitable: Awaitable[T], late: Callable[[], Exception]
) -> T:
    """Await for at most ``limit`` seconds; then cancel and raise ``late()``."""
    return await Limit(limit, clock, late).run(awaitable)


async def each_within(
    first: float,
    between: float,
    clock: IReactorTime,
    stream: AsyncGenerator[T, None],
    handle: Callable[[T], Awaitable[None]],
    late: Callable[[], Exception],
) -> None:
    """Handle each item of a stream, then close it.

    :param first: maximum seconds to wait for the first item; ``between``: for each later one.
        Then the wait is cancelled and ``late()`` raised.
    :param handle: awaited for each item before the next.
    """
    waits, is_late = True, False

    def give_up() -> None:
        nonlocal is_late
        # The limit does not run while an item is handled.
        if waits:
            is_late = True
            reading.cancel()

    # One timer and one Deferred for all items: a stream has hundreds, and is rarely late.
    due = clock.callLater(first, give_up)

    async def read() -> None:
        nonlocal waits, due
        async with aclosing(stream):
            async for item in stream:
                waits = False
                await handle(item)
                waits = True
                if due.active():
                    due.reset(between)
                else:
                    due = clock.callLater(between, give_up)

    reading = Deferred.fromCoroutine(read())
    try:
        await reading
    finally:
        if due.active():
            due.cancel()
        if is_late:
            raise late() from None


def late(stage: str) -> Callable[[], ProviderError]:
    """Return the error of a turn's stage that takes too long: ``STAGE_timeout``."""
    return lambda: ProviderError(f"{stage}_timeout", f"{stage}: time is up", retryable=True)
