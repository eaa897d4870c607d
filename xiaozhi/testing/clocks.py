"""Virtual time with a wall clock beside it, which can be set."""

from __future__ import annotations

from twisted.internet.task import Clock

EPOCH = 1_790_000_000.0
"""Where the wall clock stands when virtual time begins."""


class WallClock(Clock):
    """A monotonic virtual clock; see :func:`xiaozhi.runtime.clocks.wall_time`.

    :ivar ahead: seconds by which the wall clock was set; a test changes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def wall_seconds(self) -> float:
        """Seconds since the epoch."""
        return EPOCH + self.ahead + self.seconds()
