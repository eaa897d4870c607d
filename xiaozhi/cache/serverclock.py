"""The one clock that all processes share: that of their Redis."""

from __future__ import annotations

from collections.abc import Callable

_SURE = 0.1
"""Seconds that an answer may have taken to be a good reading."""


class SharedClock:
    """Tells Redis' time between two readings of it.

    The clocks of machines differ and are set; what has passed on one of them since a
    reading is known well enough. So edges never compare their own clocks.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """:param monotonic: seconds on a clock that nobody sets."""
        self._monotonic = monotonic
        self._ahead: float | None = None

    def start(self) -> float:
        """A reading begins. :return: for :meth:`read`."""
        return self._monotonic()

    def read(self, started: float, micros: int) -> None:
        """A reading came.

        :param micros: microseconds since the epoch on Redis' clock.
        """
        took = self._monotonic() - started
        if took <= _SURE or self._ahead is None:
            self._ahead = micros / 1e6 - (started + took / 2)

    def micros(self) -> int:
        """Microseconds since the epoch on Redis' clock; 0 before the first reading."""
        if self._ahead is None:
            return 0
        return round((self._monotonic() + self._ahead) * 1e6)
