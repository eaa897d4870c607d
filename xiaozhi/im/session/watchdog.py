"""Notices devices that are gone, silent, or never said hello."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.base.closing import CloseReason
from xiaozhi.im.session.context import EdgeTimers
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.settings import LinkSettings
from xiaozhi.interfaces import IDeviceChannel

# Not to look again in the same tick.
_LEAST = 0.05
_CONGESTED_LOOK = 1.0
# Between two signs of activity in the log.
_TELL = 60.0


class Watched(Protocol):
    """The link, as its watchdog calls it."""

    def expired(self, reason: CloseReason, detail: str) -> None:
        """Close the connection: a time is over."""

    def active(self) -> None:
        """The device is active; called about once a minute."""

    def keep_alive(self) -> None:
        """Send something, so that the device does not take its connection for dead."""


class _NoLink:
    """The link of a watchdog that is closed."""

    def expired(self, reason: CloseReason, detail: str) -> None:
        pass

    def active(self) -> None:
        pass

    def keep_alive(self) -> None:
        pass


_NO_LINK: Watched = _NoLink()


class Watchdog:
    """One device's timeouts: one entry in the shared wheel, moved when it comes up.

    :ivar active: when the device last sent a text or a packet.
    :ivar heard: when it last gave another sign of life, e.g. a pong.
    :ivar paused: nothing is read at present, so silence proves nothing.
    """

    __slots__ = (
        "_channel",
        "_down",
        "_greeted",
        "_keep",
        "_kept",
        "_pinged",
        "_settings",
        "_since",
        "_tick",
        "_timers",
        "_told",
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
        """:param keep: keep a silent device connected instead of closing it as idle."""
        self._timers = timers
        self._settings = settings
        self._channel = channel
        self._down = down
        self._watched: Watched = watched
        self._keep = keep
        self._kept = 0.0
        self._since = self._told = self.active = self.heard = timers.clock.seconds()
        self._pinged = 0.0
        self._tick: int | None = None
        self._greeted = False
        self.paused = False

    def start(self) -> None:
        """Watch from now on."""
        self._next(self._timers.clock.seconds())

    def stop(self) -> None:
        """Watch no longer."""
        if self._tick is not None:
            self._timers.timeouts.cancel(self._tick, self._look)
            self._tick = None

    def close(self) -> None:
        """The connection is over."""
        self.stop()
        self._watched = _NO_LINK

    def greeted(self) -> None:
        """The device has said hello."""
        self._greeted = True

    def hurry(self) -> None:
        """The device does not read its socket: look more often."""
        self.stop()
        self._next(self._timers.clock.seconds())

    def pause(self) -> None:
        """Stop reading from the device; its silence proves nothing meanwhile."""
        if not self.paused:
            self.paused = True
            self._channel.pause()

    def resume(self) -> None:
        """Read again; unread time does not count as silence."""
        if self.paused:
            self.paused = False
            self.active = self._timers.clock.seconds()
            self._channel.resume()

    @property
    def seconds(self) -> float:
        """Since the connection was made."""
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
            self._tell(now)
            self._next(now)

    def _silent(self, now: float) -> float:
        return now - max(self._last_message(), self._kept)

    def _tell(self, now: float) -> None:
        # A paused device has unread data, so it counts as active.
        if now - self._told >= _TELL and (self.paused or self._last_message() > self._told):
            self._told = now
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
        """Look again when the next thing can be overdue."""
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
