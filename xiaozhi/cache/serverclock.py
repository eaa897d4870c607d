"""An estimate of Redis' clock, which all processes share."""

from __future__ import annotations

from collections.abc import Callable

_SURE = 0.1
"""The longest round trip, in seconds, of a usable reading."""


class SharedClock:
    """Estimates Redis' time between readings.

    Clocks of machines differ and are changed, but the time elapsed since a reading is known
    well enough. So edges never compare their own clocks.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """:param monotonic: seconds on a monotonic clock."""
        self._monotonic = monotonic
        self._ahead: float | None = None

    def start(self) -> float:
        """Begin a reading; return a value for :meth:`read`."""
        return self._monotonic()

    def read(self, started: float, micros: int) -> None:
        """Process a reading.

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
