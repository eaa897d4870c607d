"""Watchdog: timeouts of a device link."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.base.closing import CloseReason
from xiaozhi.im.session.context import EdgeTimers
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.settings import LinkSettings
from xiaozhi.interfaces import IDeviceChannel

# Minimum seconds until the next check, so that it is not in the same tick.
_LEAST = 0.05
_CONGESTED_LOOK = 1.0
# Seconds between two reports of activity.
_ACTIVITY = 60.0


class Watched(Protocol):
    """The link, as its watchdog sees it."""

    def expired(self, reason: CloseReason, detail: str) -> None:
        """Close the connection: a timeout has expired."""

    def active(self) -> None:
        """Record that the device is active; called about once a minute."""

    def keep_alive(self) -> None:
        """Send a message, so that the device does not consider its connection dead."""


class _NoLink:
    """The link of a closed watchdog."""

    def expired(self, reason: CloseReason, detail: str) -> None:
        pass

    def active(self) -> None:
        pass

    def keep_alive(self) -> None:
        pass


_NO_LINK: Watched = _NoLink()


class Watchdog:
    """One device's timeouts: a single entry in the shared wheel, moved whenever it is due.

    :ivar active: clock time of the device's last text or packet.
    :ivar heard: clock time of its last other sign of life, e.g. a pong.
    :ivar paused: whether reading is paused, so that silence proves nothing.
    """

    __slots__ = (
        "_channel",
        "_down",
        "_greeted",
        "_keep",
        "_kept",
        "_pinged",
        "_reported",
        "_settings",
        "_since",
        "_tick",
        "_timers",
        "_watched",
        "active",
        "heard",
        "paused",
    )

    def __init__(
        self,
        timers: EdgeTimers,
        settings: LinkSettings,
        channel: IDeviceChannel,
        down: Delivery,
        watched: Watched,
        *,
        keep: bool = False,
    ) -> None:
        """:param keep: keep an idle device connected instead of closing it."""
        self._timers = timers
        self._settings = settings
        self._channel = channel
        self._down = down
        self._watched: Watched = watched
        self._keep = keep
        self._kept = 0.0
        self._since = self._reported = self.active = self.heard = timers.clock.seconds()
        self._pinged = 0.0
        self._tick: int | None = None
        self._greeted = False
        self.paused = False

    def start(self) -> None:
        """Start the timeouts."""
        self._next(self._timers.clock.seconds())

    def stop(self) -> None:
        """Stop the timeouts."""
        if self._tick is not None:
            self._timers.timeouts.cancel(self._tick, self._look)
            self._tick = None

    def close(self) -> None:
        """Stop for good: the connection is over."""
        self.stop()
        self._watched = _NO_LINK

    def greeted(self) -> None:
        """End the hello timeout."""
        self._greeted = True

    def hurry(self) -> None:
        """Check more often: the device does not read its socket."""
        self.stop()
        self._next(self._timers.clock.seconds())

    def pause(self) -> None:
        """Stop reading from the device; its silence does not count meanwhile."""
        if not self.paused:
            self.paused = True
            self._channel.pause()

    def resume(self) -> None:
        """Read again; the paused time does not count as silence."""
        if self.paused:
            self.paused = False
            self.active = self._timers.clock.seconds()
            self._channel.resume()

    @property
    def seconds(self) -> float:
        """Seconds since the connection was made."""
        return self._timers.clock.seconds() - self._since

    def _look(self) -> None:
        self._tick = None
        now = self._timers.clock.seconds()
        link = self._settings
        if not self._greeted and now - self._since >= link.hello_timeout:
            self._watched.expired(CloseReason.LIMIT, "hello_timeout")
        elif self._down.overdue(now):
            self._watched.expired(CloseReason.LIMIT, "slow_reader")
        elif not self.paused and not self._keep and self._silent(now) >= link.idle_timeout:
            self._watched.expired(CloseReason.FINISHED, "idle")
        elif not self.paused and self._dead(now):
            self._watched.expired(CloseReason.FAULT, "ping_timeout")
        else:
            if self._keep and self._silent(now) >= link.keep_interval:
                self._kept = now
                self._watched.keep_alive()
            self._report(now)
            self._next(now)

    def _silent(self, now: float) -> float:
        return now - max(self._last_message(), self._kept)

    def _report(self, now: float) -> None:
        # A paused device has unread data, so it counts as active.
        since = now - self._reported
        if since >= _ACTIVITY and (self.paused or self._last_message() > self._reported):
            self._reported = now
            self._watched.active()

    def _last_message(self) -> float:
        return max(self.active, self._down.active)

    def _dead(self, now: float) -> bool:
        link = self._settings
        heard = max(self.active, self.heard)
        if self._pinged > heard:
            return now - self._pinged >= link.ping_timeout
        if now - heard >= link.ping_interval:
            self._pinged = now
            self._channel.probe()
        return False

    def _next(self, now: float) -> None:
        """Schedule the check at the next possible timeout."""
        link = self._settings
        heard = max(self.active, self.heard)
        if self.paused:
            due = now + link.ping_interval
        elif self._pinged > heard:
            due = self._pinged + link.ping_timeout
        else:
            due = heard + link.ping_interval
        if not self.paused:
            limit = link.idle_timeout if not self._keep else link.keep_interval
            due = min(due, now + limit - self._silent(now))
        if not self._greeted:
            due = min(due, self._since + link.hello_timeout)
        if self._down.congested is not None:
            due = min(due, now + _CONGESTED_LOOK)
        self._tick = self._timers.timeouts.at(max(due, now + _LEAST), self._look)
