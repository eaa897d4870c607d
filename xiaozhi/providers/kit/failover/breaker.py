"""Circuit breaker of one provider.

Closed: calls are made. Open: it failed several times in a row and gets no calls for a while. Half
open: that time is over, and one call probes whether it works again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import IReactorTime


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """See the module.

    :param limit: failures in a row that open the circuit.
    :param cooldown: seconds for which it stays open; doubled each time that the probe fails, up to
        ``longest``.
    :param turned: called with True when the circuit opens, with False when it closes.
    :ivar failures: failures in a row.
    :ivar epoch: number of openings and closings: a call that began before the last one, and has not
        answered since, does not affect the circuit.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limit: int,
        cooldown: float,
        longest: float,
        turned: Callable[[bool], None] = lambda is_open: None,
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._cooldown = cooldown
        self._longest = longest
        self._turned = turned
        self._open = False
        self._until = 0.0
        self._probe: Attempt | None = None
        self.epoch = 0
        self.failures = 0

    @property
    def state(self) -> BreakerState:
        if not self._open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.wait else BreakerState.HALF_OPEN

    @property
    def wait(self) -> float:
        """Seconds until the next attempt; 0 allows one, subject to :attr:`admits`."""
        return max(0.0, self._until - self._clock.seconds()) if self._open else 0.0

    @property
    def cooldown(self) -> float:
        """Seconds for which the circuit last opened, or would open."""
        # Failures above the limit reopened the circuit before any call succeeded.
        again = min(max(0, self.failures - self._limit), 30)
        return min(self._cooldown * 2.0**again, self._longest)

    @property
    def admits(self) -> bool:
        """Whether a call may be made; half open: one at a time."""
        return not self._open or (not self.wait and self._probe is None)

    def attempt(self) -> Attempt:
        """Begin a call, admitted or not, and return the object that receives its outcome."""
        attempt = Attempt(self, self.epoch)
        if self._open and self.admits:
            self._probe = attempt
        return attempt

    def works(self) -> None:
        """Close the circuit: the provider has begun to answer. Until a whole call succeeds, one
        more failure opens it again.
        """
        if self._open:
            self._open = False
            self._turn()
            self._turned(False)

    def succeeded(self) -> None:
        """Process a successful call: reset the failures."""
        self.works()
        self.failures = 0

    def failed(self, attempt: Attempt) -> None:
        """Count a call that failed because of the provider."""
        if attempt.epoch != self.epoch:
            return
        self.failures += 1
        if self.failures < self._limit:
            return
        was_open, self._open = self._open, True
        self._until = self._clock.seconds() + self.cooldown
        self._turn()
        if not was_open:
            self._turned(True)

    def over(self, attempt: Attempt) -> None:
        """Process the end of a call with any outcome."""
        if self._probe is attempt:
            self._probe = None

    def _turn(self) -> None:
        self.epoch += 1
        self._probe = None


class Attempt:
    """One call. Only the first reported outcome counts."""

    __slots__ = ("_breaker", "_over", "epoch")

    def __init__(self, breaker: Breaker, epoch: int) -> None:
        self._breaker = breaker
        self.epoch = epoch
        self._over = False

    def answers(self) -> None:
        """Report the first piece of an answer; the rest may still fail."""
        if not self._over:
            self._breaker.works()
            self.epoch = self._breaker.epoch

    def succeeded(self) -> None:
        if not self._ended():
            self._breaker.succeeded()

    def failed(self) -> None:
        if not self._ended():
            self._breaker.failed(self)

    def abandoned(self) -> None:
        """Report an outcome that does not concern the provider: cancelled, or a bad request."""
        self._ended()

    def _ended(self) -> bool:
        over, self._over = self._over, True
        self._breaker.over(self)
        return over
