"""The AI service's end of a session."""

from __future__ import annotations

from typing import Protocol

from zope.interface import implementer

from xiaozhi.base import trace
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.session import NOBODY, SessionEnd
from xiaozhi.bridge.delivery.shared import SharedState
from xiaozhi.bridge.items import Item, opened
from xiaozhi.interfaces import IServiceEvents, IServiceLink
from xiaozhi.wire.messages import Downlink, SessionClose, SessionOpen, Uplink


class Carrier(Protocol):
    """A stream as a session sees it.

    :ivar outbox: where to write.
    :ivar sessions: sessions on it, by id.
    :ivar credit: audio packets that the edge accepts of a new session; 0: no flow control.
    """

    outbox: Outbox
    sessions: dict[str, ServerSession]
    credit: int

    def session_left(self, session: ServerSession) -> None:
        """Drop later items of a session that is over."""


@implementer(IServiceLink)
class ServerSession(SessionEnd[Downlink, Uplink]):
    """Moves between streams as the edge resumes it.

    Messages that the stream does not accept wait (``pending.Bounds``). Meanwhile the
    session is asked to hold its audio back: ``pause_sending`` may be called within its own
    ``send``.

    :ivar incarnation: see ``SessionOpen``.
    :ivar farewell: our close message; None: we did not close it.
    """

    __slots__ = ("_carrier", "_owner", "farewell", "incarnation")
    events: IServiceEvents

    def __init__(
        self,
        shared: SharedState[Downlink, Uplink],
        opening: SessionOpen,
        owner: AiSessionOwner,
        sequence: int,
    ) -> None:
        """:param sequence: the last one that the edge knows was received."""
        super().__init__(shared, opening.session_id, opening.device.device_id)
        self.events = NOBODY
        self.incarnation = opening.incarnation
        self.farewell: SessionClose | None = None
        self._owner = owner
        self._carrier: Carrier | None = None
        self._in.begin(sequence)

    def accepted(self, events: IServiceEvents) -> None:
        """Deliver to ``events`` from now on."""
        self.events = events
        if self._holds:
            events.pause_sending()

    def restore(self, opening: SessionOpen) -> None:
        """Deliver the state that the session's former process had."""
        with trace.working_for(trace.TracedMessage(self.session_id, self._in.received)):
            for message in opening.restored:
                if not self.over:
                    try:
                        self.events.received(message)
                    except Exception:
                        self._failed()

    def deliver(self, item: Item) -> None:
        # Logs and vendors know the work for this message by its id.
        token = trace.enter(trace.TracedMessage(self.session_id, item.sequence))
        try:
            super().deliver(item)
        finally:
            trace.leave(token)

    # --- on and off streams

    @property
    def carrier(self) -> Carrier | None:
        """The session's stream; None: the edge may resume it on another."""
        return self._carrier

    def attach(self, carrier: Carrier) -> None:
        """Continue on this stream; the edge is notified at its outbox's next ``release``."""
        self.detach()
        if not self._out.has_credit:
            self._out.take_credit(carrier.credit)
        self._carrier = carrier
        carrier.sessions[self.session_id] = self
        self._out.board(carrier.outbox)
        if carrier.outbox.blocked:
            self.backlog(True)

    def detach(self) -> None:
        """Detach from a stream that broke or that the edge left."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            if carrier.sessions.get(self.session_id) is self:
                del carrier.sessions[self.session_id]
            self._out.unboard()
            self.backlog(True)

    def resumed(self, item: Item) -> None:
        """Process the edge's acknowledgement."""
        self._out.acknowledged(item.ack, item.credit)

    # --- for the bridge

    def drain(self) -> None:
        """Ask the session to end when idle: the process stops soon."""
        try:
            self.events.draining()
        except Exception:
            self._failed()

    def dismiss(self) -> None:
        """End running work and move the session: the process stops."""
        if not self.over:
            events = self.events
            self.close("moving", "")
            self._tell_closed("draining", "The AI service is stopping.", events)

    # --- SessionEnd

    def close(self, code: str, message: str) -> None:
        if not self.over:
            self.farewell = SessionClose(code, message)
        super().close(code, message)

    def introduce(self, outbox: Outbox) -> bool:
        item = opened(self.session_id, self.incarnation)
        outbox.add(item + self._in.receipt())
        return True

    def _left(self) -> None:
        if self._carrier is not None:
            self._carrier.session_left(self)
        else:
            self._out.forget()
        self._owner.session_left(self)

    def backlog(self, waiting: bool) -> None:
        self.hold("backlog", waiting)


class AiSessionOwner(Protocol):
    """The owner of the table of sessions."""

    def session_left(self, session: ServerSession) -> None:
        """It is over."""
