"""Circuit breaker of one provider.

Closed: it is asked. Open: it failed several times in a row and is not asked for a while.
Half open: the while is over, and one call finds out whether it works again.
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

    :ivar failures: in a row, up to now.
    :ivar epoch: counts openings and closings: a call begun before one, which has not
        answered since, says nothing about later.
    :param limit: failures in a row that open it.
    :param cooldown: seconds for which it is open; twice as long each time that the probe
        fails, up to ``longest``.
    :param turned: called with True when it opens, with False when it closes again.
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
        """Seconds until the next try; 0 allows one, subject to :attr:`admits`."""
        return max(0.0, self._until - self._clock.seconds()) if self._open else 0.0

    @property
    def cooldown(self) -> float:
        """Seconds for which it opened last, or would open."""
        # Failures beyond the limit reopened it before any call succeeded.
        again = min(max(0, self.failures - self._limit), 30)
        return min(self._cooldown * 2.0**again, self._longest)

    @property
    def admits(self) -> bool:
        """Whether a call is welcome; half open: one at a time."""
        return not self._open or (not self.wait and self._probe is None)

    def attempt(self) -> Attempt:
        """Begin a call, welcome or not, and return the object that takes its outcome."""
        attempt = Attempt(self, self.epoch)
        if self._open and self.admits:
            self._probe = attempt
        return attempt

    def works(self) -> None:
        """The provider has begun to answer: close. Until a call succeeds as a whole, one
        more failure opens it again."""
        if self._open:
            self._open = False
            self._turn()
            self._turned(False)

    def succeeded(self) -> None:
        """A call succeeded as a whole: forget the failures."""
        self.works()
        self.failures = 0

    def failed(self, attempt: Attempt) -> None:
        """A call failed by the provider's fault: count it."""
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
        """A call ended with any outcome."""
        if self._probe is attempt:
            self._probe = None

    def _turn(self) -> None:
        self.epoch += 1
        self._probe = None


class Attempt:
    """One call. The first outcome reported counts."""

    __slots__ = ("_breaker", "_over", "epoch")

    def __init__(self, breaker: Breaker, epoch: int) -> None:
        self._breaker = breaker
        self.epoch = epoch
        self._over = False

    def answers(self) -> None:
        """The first piece of an answer has come; the rest may still fail."""
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
        """The call says nothing about the provider: cancelled, or a bad question."""
        self._ended()

    def _ended(self) -> bool:
        over, self._over = self._over, True
        self._breaker.over(self)
        return over
