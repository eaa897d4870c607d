"""One end of a session: what the edge's and the AI service's have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import ProtocolError
from xiaozhi.bridge.delivery.incoming import Incoming
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.outgoing import Outgoing, SharedState
from xiaozhi.bridge.items import Item
from xiaozhi.interfaces import ISessionEvents, ISessionLink
from xiaozhi.wire.messages import Audio, SessionClose

_NONE: Mapping[str, int] = MappingProxyType({})


# Packets that can be missing: no credit is larger.
_LONGEST_GAP = 100_000


class OutOfOrder(Exception):
    """Something is missing before what came: the stream has lost it."""


@implementer(ISessionEvents)
class _Nobody:
    """Stands in before the acceptor has made who is to be told, and after the end: the two
    ends of a session let go of each other, so that nothing waits for the collector."""

    def received(self, message: Any) -> None:
        pass

    def pause_sending(self) -> None:
        pass

    def resume_sending(self) -> None:
        pass

    def interrupted(self) -> None:
        pass

    def restored(self) -> tuple[Any, ...]:
        return ()

    def draining(self) -> None:
        pass

    def closed(self, code: str, message: str) -> None:
        pass


NOBODY: ISessionEvents = _Nobody()


@implementer(ISessionLink)
class SessionEnd:
    """Sends (``outgoing.Outgoing``), and tells what comes: once and in order, whatever
    streams do.

    :ivar events: whom to tell.
    :ivar over: closed by either side; nothing is sent or told any more.
    """

    __slots__ = ("_holds", "_in", "_out", "_read", "_shared", "events", "over", "session_id")
    _log = Logger()
    events: ISessionEvents

    def __init__(self, shared: SharedState, session_id: str, device_id: str) -> None:
        self.session_id = session_id
        self.over = False
        self._shared = shared
        self._read = shared.incoming.read
        self._in = Incoming(shared.credit)
        self._out = Outgoing(shared, session_id, device_id, self, self._in)
        self._holds: frozenset[str] = frozenset()  # why we have to hold our audio back

    # --- ISessionLink

    @property
    def sequence(self) -> int:
        return self._out.last

    def send(self, message: Any) -> None:
        if not self.over:
            self._out.send(message)

    def retract(self, unwanted: Callable[[Any], bool]) -> None:
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
        """An item of this session came.

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
            if type(message) is SessionClose:
                self._closed(message)
                return
        try:
            self.events.received(message)
        except Exception:
            self._failed()

    def settle(self) -> None:
        """Acknowledge what was received but not worth an answer yet."""
        if self._in.owes:
            self._out.owe()

    def end(self, code: str, message: str) -> None:
        """It is over, and the other side knows: tell, unless it was over before."""
        if not self.over:
            self.over = True
            self._out.forget()
            self._left()
            self._tell_closed(code, message)

    # --- outgoing.Owner

    def introduce(self, outbox: Outbox) -> bool:
        raise NotImplementedError

    def hold(self, reason: str, on: bool) -> None:
        """Have our audio held back while there is any reason to."""
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
        """Nothing that anybody must know."""

    def refused(self, code: str, message: str) -> None:
        self._log.warn(
            "session {session_id}: {message} [{code}]",
            session_id=self.session_id,
            message=message,
            code=code,
        )

    # --- for the two sides

    def _left(self) -> None:
        """The session is over: let go of it."""

    def _closed(self, message: SessionClose) -> None:
        """The other side closed it."""
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
        """The other side counts what cannot be: end this session, and only this one."""
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

    def _tell_closed(self, code: str, message: str, events: ISessionEvents | None = None) -> None:
        """The last that ``events`` hears."""
        events = events or self.events
        self.events = NOBODY
        try:
            events.closed(code, message)
        except Exception:
            self._log.failure("session {session_id}: error in closed()", session_id=self.session_id)
