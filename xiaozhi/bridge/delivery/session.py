"""One end of a session: the part that both services share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import ProtocolError
from xiaozhi.bridge.delivery.incoming import Incoming
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.outgoing import Outgoing
from xiaozhi.bridge.delivery.shared import Received, Sent, SharedState
from xiaozhi.bridge.items import Item
from xiaozhi.interfaces import IEdgeEvents, IServiceEvents, ISessionLink
from xiaozhi.wire.messages import Audio, SessionClose, Uplink

Received_contra = TypeVar("Received_contra", contravariant=True)

_NONE: Mapping[str, int] = MappingProxyType({})


# The largest gap in packets: no credit is larger.
_LONGEST_GAP = 100_000


class OutOfOrder(Exception):
    """A gap in the sequences: the stream lost an item."""


class Receiver(Protocol[Received_contra]):
    """The event handler of either side, see :class:`~xiaozhi.interfaces.ISessionEvents`."""

    def received(self, message: Received_contra) -> None: ...
    def pause_sending(self) -> None: ...
    def resume_sending(self) -> None: ...
    def closed(self, code: str, message: str) -> None: ...


@implementer(IEdgeEvents, IServiceEvents)
class _Nobody:
    """Event handler before the acceptor made one, and after the end. It breaks the
    reference cycle, so that nothing waits for the garbage collector.
    """

    def received(self, message: object) -> None:
        pass

    def pause_sending(self) -> None:
        pass

    def resume_sending(self) -> None:
        pass

    def interrupted(self) -> None:
        pass

    def restored(self) -> tuple[Uplink, ...]:
        return ()

    def draining(self) -> None:
        pass

    def closed(self, code: str, message: str) -> None:
        pass


NOBODY = _Nobody()


@implementer(ISessionLink)
class SessionEnd(Generic[Sent, Received]):
    """Sends messages (``outgoing.Outgoing``) and delivers received ones to ``events``: once
    and in order, also when streams break.

    :ivar events: the event handler.
    :ivar over: closed by either side; nothing is sent or delivered any more.
    """

    __slots__ = ("_holds", "_in", "_out", "_read", "_shared", "events", "over", "session_id")
    _log = Logger()
    events: Receiver[Received]

    def __init__(
        self, shared: SharedState[Sent, Received], session_id: str, device_id: str
    ) -> None:
        self.session_id = session_id
        self.over = False
        self._shared = shared
        self._read = shared.incoming.read
        self._in = Incoming(shared.credit)
        self._out = Outgoing(shared, session_id, device_id, self, self._in)
        self._holds: frozenset[str] = frozenset()  # reasons to hold our audio back

    # --- ISessionLink

    @property
    def sequence(self) -> int:
        return self._out.last

    def send(self, message: Sent) -> None:
        if not self.over:
            self._out.send(message)

    def retract(self, unwanted: Callable[[object], bool]) -> None:
        if not self.over:
            self._out.retract(unwanted)

    def close(self, code: str, message: str) -> None:
        if self.over:
            return
        self.over = True
        self._out.close(SessionClose(code, message))
        self._left()
        self.events = NOBODY

    def pause(self) -> None:
        self._in.paused = True

    def resume(self) -> None:
        if self._in.paused:
            self._in.paused = False
            self._out.owe()

    @property
    def dropped(self) -> Mapping[str, int]:
        drops = self._out.drops
        return drops if drops is not None else _NONE

    # --- the stream

    def deliver(self, item: Item) -> None:
        """Process an item of this session.

        :raises OutOfOrder: the stream is broken.
        """
        ack = item.ack
        if ack:
            if ack > self._out.sequence:
                self._broken(f"message {ack} is acknowledged, {self._out.sequence} were sent")
                return
            self._out.acknowledged(ack, item.credit)
        sequence, incoming = item.sequence, self._in
        if sequence != incoming.received + 1:
            self._out_of_turn(item, sequence)
            return
        incoming.received = sequence
        try:
            message = self._read(item)
        except ProtocolError as error:
            if item.type == self._shared.incoming.skip:
                incoming.received = sequence - 1
                self._out_of_turn(item, sequence)
            else:
                self._unreadable(error)
            return
        if type(message) is Audio:
            if incoming.audio():
                self._out.owe(soon=False)
        else:
            self._out.owe()
            if isinstance(message, SessionClose):
                self._closed(message)
                return
        try:
            self.events.received(message)
        except Exception:
            self._failed()

    def settle(self) -> None:
        """Acknowledge the messages whose acknowledgement was deferred."""
        if self._in.owes:
            self._out.owe()

    def end(self, code: str, message: str) -> None:
        """End the session without notifying the other side; report it to ``events`` once."""
        if not self.over:
            self.over = True
            self._out.forget()
            self._left()
            self._tell_closed(code, message)

    # --- outgoing.Owner

    def introduce(self, outbox: Outbox) -> bool:
        raise NotImplementedError

    def hold(self, reason: str, on: bool) -> None:
        """Hold our audio back while any reason applies."""
        before = self._holds
        self._holds = before | {reason} if on else before - {reason}
        if bool(self._holds) == bool(before) or self.over:
            return
        try:
            if on:
                self.events.pause_sending()
            else:
                self.events.resume_sending()
        except Exception:
            self._failed()

    def backlog(self, waiting: bool) -> None:
        """Ignored here; the AI service's end overrides it."""

    def refused(self, code: str, message: str) -> None:
        self._log.warn(
            "session {session_id}: {message} [{code}]",
            session_id=self.session_id,
            message=message,
            code=code,
        )

    # --- for the two sides

    def _left(self) -> None:
        """Release the session: it is over."""

    def _closed(self, message: SessionClose) -> None:
        """Process the other side's close."""
        self.end(message.code, message.message)

    # --- inside

    def _out_of_turn(self, item: Item, sequence: int) -> None:
        if item.type == self._shared.incoming.skip:
            if sequence - self._in.received > _LONGEST_GAP:
                self._broken(f"{sequence} is skipped to from {self._in.received}")
                return
            self._in.skipped(sequence)
            self._out.owe()
        elif sequence == 0:
            if item.HasField("close"):
                self._closed(SessionClose(item.close.code, item.close.message))
        elif sequence <= self._in.received:
            self._shared.drops["duplicate"] += 1
            self._out.owe()
        else:
            raise OutOfOrder(f"message {sequence} came after {self._in.received}")

    def _unreadable(self, error: ProtocolError) -> None:
        self._out.owe()
        self._shared.drops["unreadable"] += 1
        self._shared.unreadable.add((self.session_id, str(error)))

    def _broken(self, why: str) -> None:
        """Sequence or credit is impossible: close this session only."""
        self._log.warn("session {session_id}: closed: {why}", session_id=self.session_id, why=why)
        if not self.over:
            events = self.events
            self.close("bad_message", "The session's count is wrong.")
            self._tell_closed("bad_message", "The session's count is wrong.", events)

    def _failed(self) -> None:
        """The event handler raised; close this session only."""
        self._log.failure(
            "session {session_id}: closed after an error in its own code",
            session_id=self.session_id,
        )
        if not self.over:
            events = self.events
            self.close("internal_error", "The session failed.")
            self._tell_closed("internal_error", "The session failed.", events)

    def _tell_closed(
        self, code: str, message: str, events: Receiver[Received] | None = None
    ) -> None:
        """Send ``events`` its last event."""
        events = events or self.events
        self.events = NOBODY
        try:
            events.closed(code, message)
        except Exception:
            self._log.failure("session {session_id}: error in closed()", session_id=self.session_id)
