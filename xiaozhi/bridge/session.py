"""One end of a session: what the edge's and the AI service's have in common."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.bridge.items import Direction, Item
from xiaozhi.bridge.outbox import Outbox
from xiaozhi.bridge.waiting import Bounds, Waiting
from xiaozhi.errors import ProtocolError
from xiaozhi.interfaces import ISessionEvents, ISessionLink
from xiaozhi.wire.messages import Audio, Flow, SessionClose


@dataclass(frozen=True, slots=True)
class Ends:
    """What all session ends of one bridge share.

    :ivar outgoing: and ``incoming``: how items are made and read here.
    :ivar drops: messages dropped since the start, by reason.
    """

    outgoing: Direction
    incoming: Direction
    bounds: Bounds
    clock: IReactorTime
    drops: Counter[str]


@implementer(ISessionLink)
class SessionEnd:
    """Sends in order, holds what cannot be sent yet, tells what comes.

    :ivar events: whom to tell.
    :ivar over: closed by either side; nothing is sent or told any more.
    """

    _log = Logger()
    events: ISessionEvents

    def __init__(self, ends: Ends, session_id: str, device_id: str) -> None:
        self.session_id = session_id
        self.over = False
        self._device_id = device_id
        self._ends = ends
        self._make = ends.outgoing.make
        self._read = ends.incoming.read
        self._outbox: Outbox | None = None
        self._waiting: Waiting | None = None  # not None: new messages go behind it
        self._sequence = 0  # of the last message sent
        self._received = 0  # of the last message received on this stream
        self._told = False  # of an overflow, in this outage
        self._pausing = False  # we asked the other side to hold its audio back
        self._holds: set[str] = set()  # why we have to hold ours back

    # --- ISessionLink

    def send(self, message: Any) -> None:
        if self.over:
            return
        sequence = self._sequence = self._sequence + 1
        outbox = self._outbox
        if self._waiting is not None or outbox is None or outbox.blocked:
            self._wait(sequence, message)
        elif type(message) is Audio:
            item = self._make(message, self.session_id, sequence)
            if not outbox.stream.batching:
                self._address(item, sequence)
            outbox.gather(item)
        else:
            item = self._control(outbox, sequence, message)
            if item is not None:
                outbox.put(item)

    def close(self, code: str, message: str) -> None:
        if self.over:
            return
        self.send(SessionClose(code, message))
        self.over = True
        self._left()

    def pause(self) -> None:
        if not self._pausing:
            self._pausing = True
            self.send(Flow(True))

    def resume(self) -> None:
        if self._pausing:
            self._pausing = False
            self.send(Flow(False))

    # --- the stream

    def deliver(self, item: Item) -> None:
        """An item of this session came."""
        self._received = item.sequence
        try:
            message = self._read(item)
        except ProtocolError as error:
            self._log.warn(
                "session {session_id}: a message is skipped: {error}",
                session_id=self.session_id,
                error=error,
            )
            return
        kind = type(message)
        if kind is Flow:
            self._hold("peer", message.paused)
        elif kind is SessionClose:
            self.end(message.code, message.message)
        else:
            try:
                self.events.received(message)
            except Exception:
                self._failed()

    def send_waiting(self) -> None:
        """Put into the outbox what waited; it has room."""
        waiting, outbox = self._waiting, self._outbox
        if waiting is None or outbox is None:
            return
        now = self._ends.clock.seconds()
        while (entry := waiting.pop(now)) is not None:
            item = self._control(outbox, *entry)
            if item is not None:
                outbox.add(item)
        self._waiting = None
        self._told = False
        self._backlog(False)

    def end(self, code: str, message: str) -> None:
        """It is over, and the other side knows: tell, unless it was over before."""
        if not self.over:
            self.over = True
            self._waiting = None
            self._left()
            self._tell_closed(code, message)

    # --- for the two sides

    def _left(self) -> None:
        """The session is over: let go of it."""

    def _backlog(self, waiting: bool) -> None:
        """Messages begin to wait, or none waits any more."""

    def _refused(self, code: str, message: str) -> None:
        """A message was dropped that should not have been.

        :param code: ``ai_unavailable``, once per outage; ``too_large``; ``bad_message``.
        """
        self._log.warn(
            "session {session_id}: {message} [{code}]",
            session_id=self.session_id,
            message=message,
            code=code,
        )

    def _hold(self, reason: str, on: bool) -> None:
        """Have our audio held back while there is any reason to."""
        before = bool(self._holds)
        (self._holds.add if on else self._holds.discard)(reason)
        if bool(self._holds) == before or self.over:
            return
        try:
            if on:
                self.events.pause_sending()
            else:
                self.events.resume_sending()
        except Exception:
            self._failed()

    # --- inside

    def _control(self, outbox: Outbox, sequence: int, message: Any) -> Item | None:
        """Make an item with all the address it needs; None if no stream can carry it."""
        try:
            item = self._make(message, self.session_id, sequence)
        except (TypeError, ValueError) as error:  # a number out of range, half a surrogate pair
            self._ends.drops["unsendable"] += 1
            self._refused("bad_message", f"The message cannot be carried: {type(error).__name__}.")
            return None
        if type(message) is not Audio:
            if item.ByteSize() > outbox.max_item_bytes:
                self._ends.drops["too_large"] += 1
                self._refused("too_large", "The message is too large.")
                return None
            item.message_id = f"{self.session_id}-{sequence}"
        if not outbox.stream.batching:
            self._address(item, sequence)
        return item

    def _address(self, item: Item, sequence: int) -> None:
        """What an item that travels alone has to say."""
        item.message_id = f"{self.session_id}-{sequence}"
        item.device_id = self._device_id
        item.timestamp = int(self._ends.clock.seconds() * 1000)

    def _wait(self, sequence: int, message: Any) -> None:
        waiting, begins = self._waiting, self._waiting is None
        if waiting is None:
            waiting = self._waiting = Waiting(self._ends.bounds, self._ends.drops)
            if self._outbox is not None:
                self._outbox.queue_up(self)
        accepted = waiting.add(sequence, message, self._ends.clock.seconds())
        if not accepted and not self._told:
            self._told = True
            self._refused("ai_unavailable", "The service does not answer; a message was lost.")
        if begins:
            self._backlog(True)

    def _failed(self) -> None:
        """Whom we told fell over: end this session, and only this one."""
        self._log.failure(
            "session {session_id}: closed after an error in its own code",
            session_id=self.session_id,
        )
        if not self.over:
            self.close("internal_error", "The session failed.")
            self._tell_closed("internal_error", "The session failed.")

    def _tell_closed(self, code: str, message: str) -> None:
        try:
            self.events.closed(code, message)
        except Exception:
            self._log.failure("session {session_id}: error in closed()", session_id=self.session_id)
