"""The order in which sessions' messages are worked on, a little at a time.

A packet of sound takes some 0.1 ms: it is decoded, listened to, and fed to a recogniser.
They come in batches, for many sessions or many for one, and nothing else may have to
wait for all of it: after :data:`SLICE` the reactor does something else first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xiaozhi.base import trace
from xiaozhi.wire.messages import Audio, Uplink

Handle = Callable[[Uplink, "trace.TracedMessage | None"], None]

#: Seconds of work at a time; one message more may be begun before it is over.
SLICE = 0.0008

# Seconds from the beginning of a slice to that of the next, where nothing waits. To learn
# of each turn of the reactor would cost a turn more for every packet.
_PERIOD = 2 * SLICE

# Packets that wait in one session; beyond, its oldest is dropped.
_MOST = 256


class Scheduler:
    """Shared by all sessions of a process.

    :param timer: the clock that work is measured by.
    """

    def __init__(self, clock: IReactorTime, timer: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._timer = timer
        # Those with something in them, in turns. Bound: one entry a session.
        self._waiting: deque[SessionInbox] = deque()
        self._began = -_PERIOD
        self._left = 0.0
        self._next: IDelayedCall | None = None

    def tray(self, handle: Handle) -> SessionInbox:
        """A session's.

        :param handle: is given each message, and for what request it works.
        """
        return SessionInbox(self, handle)

    def takes(self) -> bool:
        """Whether a message may be handled at once; otherwise it has to wait."""
        if self._waiting:
            return False
        if self._timer() - self._began >= _PERIOD:
            self._begin()
        return self._left > 0

    def spend(self, handle: Handle, message: Uplink, request: trace.TracedMessage | None) -> None:
        """Handle a message within the present slice."""
        began = self._timer()
        try:
            handle(message, request)
        finally:
            self._left -= self._timer() - began

    def wait(self, tray: SessionInbox) -> None:
        """There is something in it from now on."""
        self._waiting.append(tray)
        self._later()

    def _begin(self) -> None:
        self._began = self._timer()
        self._left = SLICE

    def _later(self) -> None:
        if self._next is None:
            self._next = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next = None
        self._begin()
        while self._waiting and self._left > 0:
            tray = self._waiting.popleft()
            tray.work()
            if tray.waiting:
                self._waiting.append(tray)
        if self._waiting:
            self._later()


class SessionInbox:
    """One session's messages on their way to it, in order.

    Bound: 256 packets of sound, of which the oldest is dropped; words are bounded by the
    bridge.

    :ivar dropped: packets.
    """

    def __init__(self, desk: Scheduler, handle: Handle) -> None:
        self._desk = desk
        self._handle = handle
        self._messages: deque[tuple[Uplink, trace.TracedMessage | None]] = deque()
        self._sound = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Messages in it."""
        return len(self._messages)

    def put(self, message: Uplink, request: trace.TracedMessage | None = None) -> None:
        """A message has come: it is handled now, or in its turn."""
        desk = self._desk
        is_sound = type(message) is Audio
        if not self._messages:
            if not is_sound or desk.takes():
                desk.spend(self._handle, message, request)
                return
            desk.wait(self)
        self._messages.append((message, request))
        if is_sound:
            self._sound += 1
            if self._sound > _MOST:
                self._drop()

    def work(self) -> None:
        """Handle the oldest, if the session is not over meanwhile."""
        if self._messages:
            message, request = self._messages.popleft()
            self._sound -= type(message) is Audio
            self._desk.spend(self._handle, message, request)

    def clear(self) -> None:
        """The session is over."""
        self._messages.clear()
        self._sound = 0

    def _drop(self) -> None:
        for at, (message, _) in enumerate(self._messages):
            if type(message) is Audio:
                del self._messages[at]
                break
        self._sound -= 1
        self.dropped += 1
