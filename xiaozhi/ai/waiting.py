"""Waiting with a time limit, and waiting for something to be so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")
_END: Any = object()


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

    def passed(self) -> Deferred[None]:
        """Fires when the gate is open. May be cancelled."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        if self._is_open:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred


async def within(
    limit: float, clock: IReactorTime, awaitable: Awaitable[T], late: Callable[[], Exception]
) -> T:
    """Await, but no longer than ``limit`` seconds; then cancel it and raise ``late()``."""

    async def wait() -> T:
        return await awaitable

    def raise_late(_: Any, __: float) -> NoReturn:
        raise late()

    return await Deferred.fromCoroutine(wait()).addTimeout(limit, clock, raise_late)


async def each_within(
    first: float,
    between: float,
    clock: IReactorTime,
    stream: AsyncGenerator[T, None],
    late: Callable[[], Exception],
) -> AsyncGenerator[T, None]:
    """Pass a stream on, with limits for its first item and between items, in seconds."""
    limit = first
    async with aclosing(stream):
        while (item := await within(limit, clock, anext(stream, _END), late)) is not _END:
            yield item
            limit = between
