"""Waiting with a time limit, and waiting for something to be so."""

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
    """Open or closed; many may wait for it to open."""

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
        """Whether nobody would wait."""
        return self._is_open

    def passed(self) -> Deferred[None]:
        """Fires when the gate is open. May be cancelled."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        if self._is_open:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred


def forget_frames(failure: Failure) -> Failure:
    """Let a cancellation go without the frames it came through: they refer to it, and hold
    the session and all that was being done, until the garbage collector comes."""
    if failure.check(CancelledError):
        failure.cleanFailure()
    return failure


class Limit:
    """A time limit for one thing, which others may hold up at no cost.

    :param seconds: for all of it; and for each time that it is held up.
    :param late: the error to raise when time is up.
    """

    def __init__(self, seconds: float, clock: IReactorTime, late: Callable[[], Exception]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._late = late
        self._due: IDelayedCall | None = None

    async def run(self, awaitable: Awaitable[T]) -> T:
        """Await it; cancel it when time is up."""

        async def wait() -> T:
            return await awaitable

        # Before it begins: it may be held up at once.
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
        """Allow for so much more, if it is not over."""
        if self._due is not None and self._due.active():
            self._due.delay(seconds)

    async def held_up(self, awaitable: Awaitable[T]) -> T:
        """From within :meth:`run`: await something that costs none of its time."""
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
    """Await, but no longer than ``limit`` seconds; then cancel it and raise ``late()``."""
    return await Limit(limit, clock, late).run(awaitable)


async def each_within(
    first: float,
    between: float,
    clock: IReactorTime,
    stream: AsyncGenerator[T, None],
    handle: Callable[[T], Awaitable[None]],
    late: Callable[[], Exception],
) -> None:
    """Have each item of a stream handled, and close it.

    :param first: the limit of the wait for the first item, and ``between`` that for each
        one more, in seconds; beyond, the wait is cancelled and ``late()`` raised.
    :param handle: is done with an item before the next one is waited for.
    """
    waits, is_late = True, False

    def give_up() -> None:
        nonlocal is_late
        # While an item is still worked on nobody waits, and nothing is late.
        if waits:
            is_late = True
            reading.cancel()

    # One timer and one Deferred for all: a stream has some hundred items, and is nearly
    # never late.
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
    """Return the error for a stage of a turn that takes too long: ``STAGE_timeout``."""
    return lambda: ProviderError(f"{stage}_timeout", f"{stage}: time is up", retryable=True)
