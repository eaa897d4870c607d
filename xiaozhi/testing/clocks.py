"""Virtual time with an adjustable wall clock."""

from __future__ import annotations

from twisted.internet.task import Clock

EPOCH = 1_790_000_000.0
"""Wall-clock time at the start of virtual time, seconds since the epoch."""


class WallClock(Clock):
    """A monotonic virtual clock; see :func:`xiaozhi.runtime.clocks.wall_time`.

    :ivar ahead: seconds added to the wall clock; a test sets it to step the clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def wall_seconds(self) -> float:
        """Return the wall-clock time in seconds since the epoch."""
        return EPOCH + self.ahead + self.seconds()
