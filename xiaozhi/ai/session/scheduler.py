"""Fair scheduling of sessions' messages, in slices of the reactor's time.

An audio packet takes about 0.1 ms: it is decoded, checked for voice and fed to a recogniser.
Packets arrive in batches, for many sessions or many for one. Other work must not wait for a
whole batch, so the reactor runs other work after each :data:`SLICE`.
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
        """Handle an audio packet."""

    def handle(self, message: Uplink, request: Request) -> None:
        """Handle any other message."""


#: Seconds of work at a time; a message that has begun is finished.
SLICE = 0.0008

# Seconds from the beginning of a slice to that of the next while no inbox waits. A delayed
# call per reactor iteration would cost a further iteration for every packet.
_PERIOD = 2 * SLICE

# Packets that wait in one session; beyond that, its oldest is dropped.
_MOST = 256


# Messages other than audio that wait for their inbox to be opened, and their bytes including
# audio; beyond that, the owner must open the inbox.
_HELD, _HELD_BYTES = 256, 4 << 20


class Scheduler:
    """Shares the reactor's time between all sessions of a process.

    :param timer: measures the duration of work, in seconds.
    """

    def __init__(self, clock: IReactorTime, timer: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._timer = timer
        # Inboxes with messages, served round-robin. Bound: one entry per session.
        self._waiting: deque[SessionInbox] = deque()
        self._began = -_PERIOD
        self._left = 0.0
        self._next: IDelayedCall | None = None

    def inbox(self, overflow: Callable[[], None]) -> SessionInbox:
        """Make the inbox of a session, which holds messages until it is opened.

        :param overflow: called when the inbox is full before it is open; must open it.
        """
        return SessionInbox(self, overflow)

    def takes(self) -> bool:
        """Return whether a message may be handled now; otherwise it must wait."""
        if self._waiting:
            return False
        now = self._timer()
        if now - self._began >= _PERIOD:
            self._began, self._left = now, SLICE
        return self._left > 0

    def spend(self, work: Callable[[M, Request], None], message: M, request: Request) -> None:
        """Handle a message within the current slice."""
        began = self._timer()
        try:
            work(message, request)
        finally:
            self._left -= self._timer() - began

    def wait(self, inbox: SessionInbox) -> None:
        """Add an inbox that has received its first message to the queue."""
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
    """Queue of one session's messages, in order.

    Bound: 256 audio packets; beyond that, the oldest is dropped. The bridge bounds the other
    messages. Until the inbox is open, it holds up to 256 of them and 4 MiB in total; beyond
    that, it calls ``overflow``.

    :ivar dropped: audio packets dropped.
    """

    def __init__(self, scheduler: Scheduler, overflow: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._overflow = overflow
        # The handler's methods; None: the inbox is not open yet.
        self._hear: Callable[[Audio, Request], None] | None = None
        self._handle: Callable[[Uplink, Request], None] | None = None
        self._messages: deque[tuple[Uplink, Request]] = deque()
        self._sound = 0
        self._bytes = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """The number of queued messages."""
        return len(self._messages)

    def open(self, handler: MessageHandler) -> None:
        """Pass queued and further messages to a handler."""
        self._hear, self._handle = handler.hear, handler.handle
        if self._messages:
            self._scheduler.wait(self)

    def put(self, message: Uplink, request: Request = None) -> None:
        """Handle a message now, or queue it."""
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
        """Handle the oldest message, if any: the session may have ended meanwhile."""
        if self._messages and self._hear is not None and self._handle is not None:
            message, request = self._messages.popleft()
            if type(message) is Audio:
                self._sound -= 1
                self._scheduler.spend(self._hear, message, request)
            else:
                self._scheduler.spend(self._handle, message, request)

    def clear(self) -> None:
        """Drop all messages and the handler: the session is over."""
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
    """Drop a message that arrives after the end of its session."""


def _size(message: Uplink) -> int:
    """Return an estimate of a message's size in bytes."""
    held = [getattr(message, name, None) for name in ("payload", "data", "text", "url")]
    sizes = (len(each) for each in held if isinstance(each, bytes | str))
    return 100 + sum(sizes)
