"""The edge's end of a session."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from zope.interface import implementer

from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.session import SessionEnd
from xiaozhi.bridge.delivery.shared import SharedState
from xiaozhi.bridge.edge.slot import StreamSlot
from xiaozhi.bridge.items import OPENED, Item, resume
from xiaozhi.interfaces import IEdgeEvents, IEdgeLink
from xiaozhi.wire.convert import request
from xiaozhi.wire.messages import Downlink, Error, SessionClose, SessionOpen, Uplink


class EdgeSessionOwner(Protocol):
    """Assigns stream slots to sessions."""

    def session_left(self, session: ClientSession) -> None:
        """The session is over."""

    def session_moves(self, session: ClientSession) -> None:
        """The session needs a slot, to any process."""


@implementer(IEdgeLink)
class ClientSession(SessionEnd[Uplink, Downlink]):
    """Moves between slots as they break, and between AI processes.

    :ivar process: boot id of the AI process that holds the session; empty: no process.
    :ivar target: that process's address, or the last one.
    """

    __slots__ = (
        "_confirmed",
        "_incarnation",
        "_moving",
        "_opening",
        "_owner",
        "_quiet_at",
        "_slot",
        "process",
        "target",
    )
    events: IEdgeEvents

    def __init__(
        self,
        shared: SharedState[Uplink, Downlink],
        opening: SessionOpen,
        events: IEdgeEvents,
        owner: EdgeSessionOwner,
    ) -> None:
        super().__init__(shared, opening.session_id, opening.device.device_id)
        self.events = events
        self.process = self.target = ""
        self._opening = opening
        self._owner = owner
        self._slot: StreamSlot | None = None
        self._incarnation = 0
        self._confirmed = False  # received items are of this incarnation
        self._quiet_at = -1  # our last sequence at the last loss
        self._moving = False  # leaving a stopping process, not reported as a loss

    # --- on and off slots

    def board(self, slot: StreamSlot) -> None:
        """Continue on this slot; it is notified at its outbox's next ``release``."""
        assert slot.outbox is not None
        self._slot = slot
        self.target = slot.target
        slot.sessions[self.session_id] = self
        self._confirmed = False
        self._out.board(slot.outbox)

    def unboard(self) -> None:
        """Leave a broken slot; messages wait from now on."""
        self._leave_slot()
        self._out.unboard()

    def forsake(self, *, lost: bool) -> None:
        """Give up the process; the next slot opens the session again.

        :param lost: the process lost the session's state: report an interruption, unless
            nothing was exchanged since the last report.
        """
        self.unboard()
        self.process = ""
        self._confirmed = False
        self._moving = not lost
        self._out.free()
        talked = self._in.received > 0 or self._out.sequence != self._quiet_at
        self._quiet_at = self._out.sequence
        self._in.begin()
        if lost and talked and self._incarnation:
            self._tell_interrupted()

    def stray(self) -> None:
        """Report an interruption: there is no process to move to."""
        if self._moving:
            self._moving = False
            self._tell_interrupted()

    # --- SessionEnd

    def deliver(self, item: Item) -> None:
        if self._confirmed:
            super().deliver(item)
        elif item.type == OPENED:
            if item.opened.incarnation == self._incarnation:
                self._confirmed = True
                self._out.acknowledged(item.ack, item.credit)
        elif not item.sequence and item.HasField("close"):  # refused
            self._closed(SessionClose(item.close.code, item.close.message))
        # else: of an earlier incarnation

    def introduce(self, outbox: Outbox) -> bool:
        slot = self._slot
        if slot is None or self.over:
            return False
        if slot.peer.process == self.process:
            device_id = self._opening.device.device_id
            item = resume(self.session_id, device_id, self._incarnation)
        else:
            restored = self._restored() if self._incarnation else ()
            if self.over:  # the handler raised
                return False
            self._incarnation += 1
            self.process = slot.peer.process
            opening = replace(self._opening, incarnation=self._incarnation, restored=restored)
            try:
                acknowledged = self._out.unacknowledged.acknowledged
                made = request(opening, self.session_id, acknowledged)
                item = self._out.control_item(outbox, made, acknowledged)
            except (TypeError, ValueError):  # half a surrogate pair, a number out of range
                self._log.failure("session {session_id} not opened", session_id=self.session_id)
                self.end("bad_message", "The hello cannot be carried.")
                return False
            self._out.take_credit(slot.peer.credit)
        outbox.add(item + self._in.receipt())
        return True

    def _tell_interrupted(self) -> None:
        try:
            self.events.interrupted()
        except Exception:
            self._failed()

    def _restored(self) -> tuple[Uplink, ...]:
        try:
            return tuple(self.events.restored())
        except Exception:
            self._failed()
            return ()

    def _closed(self, message: SessionClose) -> None:
        if message.code in ("moving", "unknown_session"):
            self.forsake(lost=message.code != "moving")
            if not self.over:
                self._owner.session_moves(self)
        else:
            super()._closed(message)

    def refused(self, code: str, message: str) -> None:
        super().refused(code, message)
        # Not within send(): its caller may be in the middle of a change.
        self._shared.clock.callLater(0, self._tell, Error(code, message))

    def _tell(self, error: Error) -> None:
        if not self.over:
            try:
                self.events.received(error)
            except Exception:
                self._failed()

    def _left(self) -> None:
        if self._slot is None:
            self._out.forget()
        # else: pending messages and the close still go out through the outbox
        self._leave_slot()
        self._owner.session_left(self)

    def _leave_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None and slot.sessions.get(self.session_id) is self:
            del slot.sessions[self.session_id]
