"""Notices devices that are gone, silent, or never said hello."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.im.session.context import LinkContext
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.nobody import nothing
from xiaozhi.im.websocket import closecodes
from xiaozhi.interfaces import IDeviceTransport

# Not to look again in the same tick.
_LEAST = 0.05
_CONGESTED_LOOK = 1.0
# Between two signs of activity in the log.
_TELL = 60.0

Expire = Callable[[int, str], None]


class Watchdog:
    """One device's timeouts: one entry in the shared wheel, moved when it comes up.

    :ivar active: when the device last sent a text or a packet.
    :ivar heard: when it last gave another sign of life, e.g. a pong.
    :ivar greeted: whether its hello has come.
    :ivar paused: nothing is read at present, so silence proves nothing.
    """

    __slots__ = (
        "_down",
        "_edge",
        "_expire",
        "_keep",
        "_kept",
        "_pinged",
        "_since",
        "_tick",
        "_told",
        "_touch",
        "_transport",
        "active",
        "greeted",
        "heard",
        "paused",
    )

    def __init__(
        self,
        edge: LinkContext,
        transport: IDeviceTransport,
        down: Delivery,
        expire: Expire,
        touch: Callable[[], None] = lambda: None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        """
        :param expire: called with the close code and the reason.
        :param touch: called while the device is active, about once a minute.
        :param keep: called instead of ``expire`` when nobody says anything: sends
            something, so that the device does not take its socket for dead.
        """
        self._edge = edge
        self._transport = transport
        self._down = down
        self._expire = expire
        self._touch = touch
        self._keep = keep
        self._kept = 0.0
        self._since = self._told = self.active = self.heard = edge.clock.seconds()
        self._pinged = 0.0
        self._tick: int | None = None
        self.greeted = False
        self.paused = False

    def start(self) -> None:
        """Watch from now on."""
        self._next(self._edge.clock.seconds())

    def stop(self) -> None:
        """Watch no longer."""
        if self._tick is not None:
            self._edge.timeouts.cancel(self._tick, self._look)
            self._tick = None

    def close(self) -> None:
        """The connection is over."""
        self.stop()
        self._expire = self._touch = nothing
        self._keep = self._keep and nothing

    def hurry(self) -> None:
        """The device does not read its socket: look more often."""
        self.stop()
        self._next(self._edge.clock.seconds())

    def resume(self) -> None:
        """Reading goes on; what was not read meanwhile does not count as silence."""
        self.paused = False
        self.active = self._edge.clock.seconds()

    @property
    def seconds(self) -> float:
        """Since the connection was made."""
        return self._edge.clock.seconds() - self._since

    def _look(self) -> None:
        self._tick = None
        now = self._edge.clock.seconds()
        link = self._edge.settings.link
        if not self.greeted and now - self._since >= link.hello_timeout:
            self._expire(closecodes.POLICY, "hello_timeout")
        elif self._down.overdue(now):
            self._expire(closecodes.POLICY, "slow_reader")
        elif not self.paused and self._keep is None and self._silent(now) >= link.idle_timeout:
            self._expire(closecodes.NORMAL, "idle")
        elif not self.paused and self._dead(now):
            self._expire(closecodes.INTERNAL, "ping_timeout")
        else:
            if self._keep is not None and self._silent(now) >= link.keep_interval:
                self._kept = now
                self._keep()
            self._tell(now)
            self._next(now)

    def _silent(self, now: float) -> float:
        return now - max(self._last_message(), self._kept)

    def _tell(self, now: float) -> None:
        # Who is paused has more to say than is taken.
        if now - self._told >= _TELL and (self.paused or self._last_message() > self._told):
            self._told = now
            self._touch()

    def _last_message(self) -> float:
        return max(self.active, self._down.active)

    def _dead(self, now: float) -> bool:
        link = self._edge.settings.link
        heard = max(self.active, self.heard)
        if self._pinged > heard:
            return now - self._pinged >= link.ping_timeout
        if now - heard >= link.ping_interval:
            self._pinged = now
            self._transport.ping()
        return False

    def _next(self, now: float) -> None:
        """Look again when the next thing can be overdue."""
        link = self._edge.settings.link
        heard = max(self.active, self.heard)
        if self.paused:
            due = now + link.ping_interval
        elif self._pinged > heard:
            due = self._pinged + link.ping_timeout
        else:
            due = heard + link.ping_interval
        if not self.paused:
            limit = link.idle_timeout if self._keep is None else link.keep_interval
            due = min(due, now + limit - self._silent(now))
        if not self.greeted:
            due = min(due, self._since + link.hello_timeout)
        if self._down.congested is not None:
            due = min(due, now + _CONGESTED_LOOK)
        self._tick = self._edge.timeouts.at(max(due, now + _LEAST), self._look)
