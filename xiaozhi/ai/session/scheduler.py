"""Fair scheduling of sessions' messages, in slices of the reactor's time.

A packet of sound takes some 0.1 ms: it is decoded, checked for voice, and fed to a
recogniser. Packets come in batches, for many sessions or many for one, and nothing else may
have to wait for a whole batch: after :data:`SLICE` the reactor runs other work first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xiaozhi.base import trace
from xiaozhi.wire.messages import Audio, Uplink

Request = trace.TracedMessage | None
M = TypeVar("M", bound=Uplink)


class MessageHandler(Protocol):
    """Handles the messages of one session, each with the request it belongs to."""

    def hear(self, audio: Audio, request: Request) -> None:
        """Take a packet of sound."""

    def handle(self, message: Uplink, request: Request) -> None:
        """Take any other message."""


#: Seconds of work at a time; the message that runs when it is over is finished.
SLICE = 0.0008

# Seconds from the beginning of a slice to that of the next, where nothing waits. Scheduling
# a call for each reactor iteration would cost an iteration more for every packet.
_PERIOD = 2 * SLICE

# Packets that wait in one session; beyond, its oldest is dropped.
_MOST = 256


# Messages that wait for their session to be opened, besides sound, and bytes of all of
# them; beyond, the session opens with what is there.
_HELD, _HELD_BYTES = 256, 4 << 20


class Scheduler:
    """Shares the reactor's time between all sessions of a process.

    :param timer: the clock that work is measured by.
    """

    def __init__(self, clock: IReactorTime, timer: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._timer = timer
        # Inboxes with messages, served round-robin. Bound: one entry a session.
        self._waiting: deque[SessionInbox] = deque()
        self._began = -_PERIOD
        self._left = 0.0
        self._next: IDelayedCall | None = None

    def inbox(self, overflow: Callable[[], None]) -> SessionInbox:
        """Make the inbox of a session, which holds messages until it is opened.

        :param overflow: called when the inbox cannot hold any more; opens it.
        """
        return SessionInbox(self, overflow)

    def takes(self) -> bool:
        """Return whether a message may be handled at once; otherwise it has to wait."""
        if self._waiting:
            return False
        now = self._timer()
        if now - self._began >= _PERIOD:
            self._began, self._left = now, SLICE
        return self._left > 0

    def spend(self, work: Callable[[M, Request], None], message: M, request: Request) -> None:
        """Have a message handled within the present slice."""
        began = self._timer()
        try:
            work(message, request)
        finally:
            self._left -= self._timer() - began

    def wait(self, inbox: SessionInbox) -> None:
        """Serve an inbox that has got its first message."""
        self._waiting.append(inbox)
        self._later()

    def _later(self) -> None:
        if self._next is None:
            self._next = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next = None
        self._began, self._left = self._timer(), SLICE
        while self._waiting and self._left > 0:
            inbox = self._waiting.popleft()
            inbox.work()
            if inbox.waiting:
                self._waiting.append(inbox)
        if self._waiting:
            self._later()


class SessionInbox:
    """One session's messages on their way to it, in order.

    Bound: 256 packets of sound, of which the oldest is dropped; other messages are bounded
    by the bridge, and until the inbox is opened by 256 messages and 4 MiB: with more, it
    has its owner open it.

    :ivar dropped: packets.
    """

    def __init__(self, scheduler: Scheduler, overflow: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._overflow = overflow
        # Of the handler; None: the inbox is not open yet.
        self._hear: Callable[[Audio, Request], None] | None = None
        self._handle: Callable[[Uplink, Request], None] | None = None
        self._messages: deque[tuple[Uplink, Request]] = deque()
        self._sound = 0
        self._bytes = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Messages in it."""
        return len(self._messages)

    def open(self, handler: MessageHandler) -> None:
        """Hand over the messages held so far, and those to come, to a handler."""
        self._hear, self._handle = handler.hear, handler.handle
        if self._messages:
            self._scheduler.wait(self)

    def put(self, message: Uplink, request: Request = None) -> None:
        """Handle a message now, or in its turn."""
        hear, handle = self._hear, self._handle
        if hear is None or handle is None:
            self._hold(message, request)
            return
        if self._messages:
            self._append(message, request)
        elif type(message) is not Audio:
            self._scheduler.spend(handle, message, request)
        elif self._scheduler.takes():
            self._scheduler.spend(hear, message, request)
        else:
            self._scheduler.wait(self)
            self._append(message, request)

    def work(self) -> None:
        """Handle the oldest message, unless the session is over meanwhile."""
        if self._messages and self._hear is not None and self._handle is not None:
            message, request = self._messages.popleft()
            if type(message) is Audio:
                self._sound -= 1
                self._scheduler.spend(self._hear, message, request)
            else:
                self._scheduler.spend(self._handle, message, request)

    def clear(self) -> None:
        """Drop all messages and let go of the handler: the session is over."""
        self._messages.clear()
        self._sound = self._bytes = 0
        self._hear = self._handle = _drop
        self._overflow = _nothing

    def _hold(self, message: Uplink, request: Request) -> None:
        self._append(message, request)
        self._bytes += _size(message)
        if len(self._messages) - self._sound > _HELD or self._bytes > _HELD_BYTES:
            self._overflow()

    def _append(self, message: Uplink, request: Request) -> None:
        self._messages.append((message, request))
        if type(message) is Audio:
            self._sound += 1
            if self._sound > _MOST:
                self._drop()

    def _drop(self) -> None:
        for at, (message, _) in enumerate(self._messages):
            if type(message) is Audio:
                del self._messages[at]
                break
        self._sound -= 1
        self.dropped += 1


def _nothing() -> None:
    """Do nothing."""


def _drop(message: object, request: Request) -> None:
    """Handle a message after the end of its session."""


def _size(message: Uplink) -> int:
    """Return about how many bytes a message holds."""
    held = [getattr(message, name, None) for name in ("payload", "data", "text", "url")]
    sizes = (len(each) for each in held if isinstance(each, bytes | str))
    return 100 + sum(sizes)
