"""Connections before they have a link: limits by address, refusals, timers."""

from __future__ import annotations

from xiaozhi.im.counts import EdgeCounts
from xiaozhi.im.session.context import EdgeTimers
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.web.limits.peers import Peers
from xiaozhi.web.limits.refusals import Refusals


class Entrance:
    """Shared state of everything that accepts connections.

    :ivar peers: limits connections by address.
    :ivar refusals: counts and logs refused connections.
    """

    def __init__(self, settings: EdgeSettings, timers: EdgeTimers, counts: EdgeCounts) -> None:
        self.settings = settings
        self.timers = timers
        self.counts = counts
        self.peers = Peers(settings.gateway, timers.clock)
        self.refusals = Refusals(timers.clock, settings.gateway.log_interval)

    def stop(self) -> None:
        """Release the timers."""
        self.refusals.stop()
