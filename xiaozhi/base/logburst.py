"""Log bursts: one log line for many equal events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Timers(Protocol):
    """The part of a reactor that a log burst needs."""

    def callLater(self, delay: float, callable: Callable[..., Any], /) -> Any: ...


class LogBurst(Generic[T]):
    """Reports the first event at once, and only the number of those that follow soon after.

    While events continue, the number is reported every ``window``. A quiet ``window`` ends
    the burst; the next event is a first one again.

    :param report: called with the number of events and the latest one.
    :param window: seconds.
    """

    def __init__(
        self, clock: Timers, report: Callable[[int, T], object], window: float = 10.0
    ) -> None:
        self._clock = clock
        self._report = report
        self._window = window
        self._timer: Any = None
        self._unreported: list[T] = []  # the latest; none or one
        self._count = 0

    def add(self, what: T) -> None:
        """Count one more event."""
        if self._timer is None:
            self._arm()
            self._report(1, what)
        else:
            self._count += 1
            self._unreported = [what]

    def stop(self) -> None:
        """Report the events not reported yet. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()

    def _arm(self) -> None:
        self._timer = self._clock.callLater(self._window, self._over)

    def _over(self) -> None:
        self._timer = None
        if self._unreported:
            self._arm()
        self._flush()

    def _flush(self) -> None:
        count, self._count = self._count, 0
        unreported, self._unreported = self._unreported, []
        for latest in unreported:
            self._report(count, latest)
