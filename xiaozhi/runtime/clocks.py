"""Two clocks: a monotonic one for timers, the wall clock for dates.

Twisted's reactors measure delays by ``time.time``. NTP, an operator or a resumed virtual
machine changes that clock: set back by 30 s, no timer fires for 30 s; set forward by a day,
every timeout expires. Both services therefore switch the reactor to ``time.monotonic`` before
any call is scheduled. Dates (in tokens, messages, rows) come from :func:`wall_time`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_WALL = "wall_seconds"


def use_monotonic_timers(reactor: Any) -> None:
    """Make a reactor's ``seconds`` monotonic, and with it ``callLater``.

    From then on ``reactor.seconds()`` is not a date. Scheduled calls keep their remaining
    delay. Idempotent.
    """
    if hasattr(reactor, _WALL):
        return
    before = reactor.seconds()
    pending = [(call, call.getTime() - before) for call in reactor.getDelayedCalls()]
    setattr(reactor, _WALL, time.time)
    reactor.seconds = time.monotonic
    for call, left in pending:
        call.seconds = time.monotonic
        call.reset(max(0.0, left))


def wall_time(clock: Any) -> Callable[[], float]:
    """Return the wall clock for a clock for timers: seconds since the epoch.

    :param clock: a reactor, or in tests a ``task.Clock``, which is its own wall clock
        unless it has ``wall_seconds``.
    """
    own: Callable[[], float] = getattr(clock, _WALL, None) or clock.seconds
    return own
