"""The loudspeaker: a bounded queue, and the playing times as a listener hears them.

Nothing is decoded here. Playing is arithmetic on the clock: a packet starts when the
previous one ends, or on arrival if that is later, which makes a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Packets queued undecoded, as in the firmware: a full queue drops the newest. Two more are
# decoded ahead (§3.3).
UNDECODED = 40
DECODED = 2


class Speaker:
    """Plays packets in real time.

    :param drained: called when the queue runs empty.
    :ivar overflowed: number of packets dropped because the queue was full.
    """

    def __init__(self, clock: IReactorTime, drained: Callable[[], None]) -> None:
        self._clock = clock
        self._drained = drained
        self._starts: deque[float] = deque()
        self._until = 0.0
        self._timer: IDelayedCall | None = None
        self._running = False
        self.overflowed = 0

    @property
    def playing(self) -> bool:
        return self._until > self._clock.seconds() + 1e-9

    @property
    def waiting(self) -> int:
        """Number of queued packets that have not begun to play."""
        self._forget_started()
        return len(self._starts)

    def begin(self) -> None:
        """Begin an answer: silence before its first packet is not a gap."""
        self._running = False

    def clear(self) -> int:
        """Discard packets that have not begun to play. :return: their number."""
        self._forget_started()
        lost = len(self._starts)
        if lost:
            self._until = self._starts[0]
            self._starts.clear()
            self._arm()
        return lost

    def play(self, duration_ms: float) -> float | None:
        """Queue a packet.

        :return: ms of silence before it; None if the queue was full and the packet was
            dropped.
        """
        self._forget_started()
        if len(self._starts) >= UNDECODED + DECODED:
            self.overflowed += 1
            return None
        now = self._clock.seconds()
        gap = max(0.0, (now - self._until) * 1000) if self._running else 0.0
        start = max(now, self._until)
        self._running = True
        self._until = start + duration_ms / 1000
        self._starts.append(start)
        self._arm()
        return gap

    def stop(self) -> None:
        """Switch off: clear the queue and cancel the timer."""
        self._starts.clear()
        self._until = 0.0
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _forget_started(self) -> None:
        now = self._clock.seconds()
        while self._starts and self._starts[0] <= now:
            self._starts.popleft()

    def _arm(self) -> None:
        # One timer that rearms itself costs less than one per packet.
        if self._timer is None:
            delay = max(0.0, self._until - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.playing:
            self._arm()
        else:
            self._drained()
