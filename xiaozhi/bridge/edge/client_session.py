"""The edge's end of a session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.outgoing import SharedState
from xiaozhi.bridge.delivery.session import SessionEnd
from xiaozhi.bridge.edge.slot import StreamSlot
from xiaozhi.bridge.items import OPENED, Item, resume
from xiaozhi.interfaces import ISessionEvents
from xiaozhi.wire.messages import Error, SessionClose, SessionOpen


class EdgeSessionOwner(Protocol):
    """Assigns stream slots to sessions."""

    def session_left(self, session: ClientSession) -> None:
        """It is over."""

    def session_moves(self, session: ClientSession) -> None:
        """It needs a slot to any process."""


class ClientSession(SessionEnd):
    """Goes from slot to slot as they break, and from process to process.

    :ivar process: the boot id of the AI process that has it; empty: none has.
    :ivar target: the address where that is, or was.
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

    def __init__(
        self,
        shared: SharedState,
        opening: SessionOpen,
        events: ISessionEvents,
        owner: EdgeSessionOwner,
    ) -> None:
        super().__init__(shared, opening.session_id, opening.device.device_id)
        self.events = events
        self.process = self.target = ""
        self._opening = opening
        self._owner = owner
        self._slot: StreamSlot | None = None
        self._incarnation = 0
        self._confirmed = False  # what comes is of this incarnation
        self._quiet_at = -1  # our last message when we were last lost
        self._moving = False  # from a process that stops, to another, and nobody knows

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
        """The slot broke. What is sent from now on waits."""
        self._leave_slot()
        self._out.unboard()

    def forsake(self, *, lost: bool) -> None:
        """Have done with the process; the next slot will open the session anew.

        :param lost: it went with what it was doing: tell, unless nothing was said
            since that was told last.
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
        """There is no process to move to, for now."""
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
        elif not item.sequence and item.HasField("close"):  # not taken
            self._closed(SessionClose(item.close.code, item.close.message))
        # else: of the incarnation before

    def introduce(self, outbox: Outbox) -> bool:
        slot = self._slot
        if slot is None or self.over:
            return False
        if slot.peer.process == self.process:
            device_id = self._opening.device.device_id
            item = resume(self.session_id, device_id, self._incarnation)
        else:
            restored = self._restored() if self._incarnation else ()
            if self.over:  # it fell over when it was asked
                return False
            self._incarnation += 1
            self.process = slot.peer.process
            opening = replace(self._opening, incarnation=self._incarnation, restored=restored)
            try:
                item = self._out.item(outbox, opening, self._out.unacknowledged.acknowledged)
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

    def _restored(self) -> tuple[Any, ...]:
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
        # Not from within send(): whoever sends may be in the middle of something.
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
        # else: what waits, the close at its end, still goes out by the outbox
        self._leave_slot()
        self._owner.session_left(self)

    def _leave_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None and slot.sessions.get(self.session_id) is self:
            del slot.sessions[self.session_id]
