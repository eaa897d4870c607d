"""One end of a session: what the edge's and the AI service's have in common.

Everything sent gets a place in the session's order and is kept until the other
side acknowledges it. What cannot be sent now waits (``waiting.Waiting``), without
a place yet. What comes is delivered once and in order, whatever streams do.

Audio needs credit: the other side says how many packets it takes. When it runs
low our side is asked to hold its audio back; without any, messages wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.bridge.items import Direction, Item, acknowledgement, skip
from xiaozhi.bridge.kept import Kept
from xiaozhi.bridge.outbox import Outbox
from xiaozhi.bridge.waiting import Bounds, Waiting
from xiaozhi.errors import ProtocolError
from xiaozhi.interfaces import ISessionEvents, ISessionLink
from xiaozhi.wire.messages import Audio, SessionClose

# Credit of a side that announced none: it does without.
_UNLIMITED = 1 << 62

_NONE: Mapping[str, int] = MappingProxyType({})


class OutOfOrder(Exception):
    """Something is missing before what came: the stream has lost it."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What all session ends of one bridge share.

    :ivar outgoing: and ``incoming``: how items are made and read here.
    :ivar credit: audio packets the other side may send ahead of what was received.
    :ivar drops: messages dropped since the start, by reason.
    """

    outgoing: Direction
    incoming: Direction
    bounds: Bounds
    credit: int
    clock: IReactorTime
    drops: Counter[str]


@implementer(ISessionLink)
class SessionEnd:
    """Sends in order, keeps and holds, tells what comes.

    :ivar events: whom to tell.
    :ivar over: closed by either side; nothing is sent or told any more.
    """

    __slots__ = (
        "_ack_every",
        "_audio_received",
        "_audio_sent",
        "_device_id",
        "_drops",
        "_ends",
        "_granted",
        "_hold_at",
        "_holds",
        "_introduced",
        "_kept",
        "_make",
        "_most_kept",
        "_outbox",
        "_owed",
        "_owes",
        "_pausing",
        "_read",
        "_received",
        "_reserve",
        "_sequence",
        "_told",
        "_waiting",
        "events",
        "over",
        "session_id",
    )
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
        self._introduced = False  # this stream was told of us
        self._waiting: Waiting | None = None  # not None: new messages go behind it
        self._sequence = 0  # of the last message sent
        self._kept = Kept()
        self._received = 0  # sequence of the last message received
        self._told = False  # of an overflow, in this outage
        self._drops: Counter[str] | None = None
        self._holds: frozenset[str] = frozenset()  # why we have to hold our audio back
        # Audio packets sent, and how many may be; where to begin to hold back.
        self._audio_sent = 0
        self._granted = self._hold_at = self._reserve = self._most_kept = 0
        # Audio packets received, and since we last said so.
        self._audio_received = self._owed = 0
        self._ack_every = max(1, ends.credit // 8)
        self._owes = False  # the other side is to be told of what was received
        self._pausing = False  # we grant no more credit

    # --- ISessionLink

    def send(self, message: Any) -> None:
        if self.over:
            return
        outbox = self._outbox
        if (
            self._waiting is not None
            or outbox is None
            or outbox.blocked
            or not self._may_send(message)
        ):
            self._wait(message)
            return
        item = self._placed(outbox, message)
        if item is None:
            return
        if type(message) is Audio:
            outbox.gather(item)
        else:
            outbox.put(item)

    def close(self, code: str, message: str) -> None:
        if self.over:
            return
        self.send(SessionClose(code, message))
        self.over = True
        self._left()

    def pause(self) -> None:
        self._pausing = True

    def resume(self) -> None:
        if self._pausing:
            self._pausing = False
            self._owe()

    @property
    def dropped(self) -> Mapping[str, int]:
        return self._drops if self._drops is not None else _NONE

    # --- the stream

    def deliver(self, item: Item) -> None:
        """An item of this session came.

        :raises OutOfOrder: the stream is broken.
        """
        ack = item.ack
        if ack:
            self._acknowledged(ack, item.credit)
        sequence = item.sequence
        if sequence != self._received + 1:
            self._out_of_turn(item, sequence)
            return
        self._received = sequence
        try:
            message = self._read(item)
        except ProtocolError as error:
            self._unreadable(item, error)
            return
        if type(message) is Audio:
            self._audio_received += 1
            self._owed += 1
            self._owes = True
            if self._owed >= self._ack_every:
                self._owe()
        else:
            self._owe()
            if type(message) is SessionClose:
                self._closed(message)
                return
        try:
            self.events.received(message)
        except Exception:
            self._failed()

    def acknowledgement(self) -> Item | None:
        """See :class:`~xiaozhi.bridge.outbox.Sender`."""
        if not self._owes:
            return None
        item = acknowledgement(self._ends.outgoing, self.session_id)
        self._acknowledge(item)
        return item

    def settle(self) -> None:
        """Acknowledge what was received but not worth an answer yet."""
        if self._owes:
            self._owe()

    def send_waiting(self) -> None:
        """Put into the outbox what waited, as far as there is credit; it has room."""
        outbox = self._outbox
        if self._waiting is None or outbox is None:
            return
        if not self._introduced:
            if not self._introduce(outbox):
                return
            self._introduced = True
            self._resend(outbox)
        now = self._ends.clock.seconds()
        while self._waiting is not None and (message := self._waiting.next(now)) is not None:
            if not self._may_send(message):
                return  # the next acknowledgement calls again
            self._waiting.take(message)
            item = self._placed(outbox, message)
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

    def _introduce(self, outbox: Outbox) -> bool:
        """Tell a new stream of this session.

        :return: False: it is over, and the other side never heard of it.
        """
        raise NotImplementedError

    def _board(self, outbox: Outbox) -> None:
        """Send by this outbox from now on, beginning at its next ``release``."""
        self._introduced = False
        if self._waiting is None:
            self._waiting = Waiting(self._ends.bounds, self._dropped)
        self._outbox = outbox
        outbox.queue_up(self)

    def _unboard(self) -> None:
        """The stream is gone: what is sent from now on waits."""
        self._outbox = None
        if self._waiting is None:
            self._waiting = Waiting(self._ends.bounds, self._dropped)

    def _left(self) -> None:
        """The session is over: let go of it."""

    def _closed(self, message: SessionClose) -> None:
        """The other side closed it."""
        self.end(message.code, message.message)

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

    def _take_credit(self, credit: int) -> None:
        """The other side opens its window anew: what it announced, for all we send
        from now on and what is still kept."""
        bounds = self._ends.bounds
        self._audio_sent = self._kept.audio
        self._most_kept = bounds.messages + (credit or bounds.audio)
        # What is left when we ask to hold back is for what is already being said.
        self._reserve = credit // 4
        self._granted = credit or _UNLIMITED
        self._hold_at = self._granted - self._reserve
        self._hold("credit", self._audio_sent >= self._hold_at)

    def _count_anew(self) -> None:
        """The other side begins to count what it sends at 1."""
        self._received = self._audio_received = self._owed = 0
        self._owes = False

    def _resend(self, outbox: Outbox) -> None:
        """Once more what was not acknowledged; too old audio becomes a gap."""
        ends, kept = self._ends, self._kept
        stale = kept.expire(ends.clock.seconds() - ends.bounds.audio_age)
        self._audio_sent -= stale
        for _ in range(stale):
            self._dropped("audio_stale")
        void = 0
        for sequence, message in kept:
            if message is None:
                void = sequence
                continue
            if void:
                outbox.add(skip(ends.outgoing, self.session_id, void))
                void = 0
            outbox.add(self._item(outbox, message, sequence))
        if void:
            outbox.add(skip(ends.outgoing, self.session_id, void))

    def _acknowledge(self, item: Item) -> None:
        """Say on ``item`` what was received and what may come."""
        item.ack = self._received
        if not self._pausing:
            item.credit = self._audio_received + self._ends.credit
        self._owed = 0
        self._owes = False

    def _dropped(self, reason: str) -> None:
        self._ends.drops[reason] += 1
        if self._drops is None:
            self._drops = Counter()
        self._drops[reason] += 1

    # --- inside: sending

    def _may_send(self, message: Any) -> bool:
        if len(self._kept) >= self._most_kept:
            return self.over
        return type(message) is not Audio or self._audio_sent < self._granted or self.over

    def _placed(self, outbox: Outbox, message: Any) -> Item | None:
        """Give a message its place, and keep it; None if no stream can carry it."""
        sequence = self._sequence + 1
        try:
            item = self._item(outbox, message, sequence)
        except (TypeError, ValueError) as error:  # a number out of range, half a surrogate pair
            self._dropped("unsendable")
            self._refused("bad_message", f"The message cannot be carried: {type(error).__name__}.")
            return None
        if type(message) is Audio:
            self._audio_sent = sent = self._audio_sent + 1
            if sent >= self._hold_at:
                self._hold("credit", True)
        elif item.ByteSize() > outbox.max_item_bytes:
            self._dropped("too_large")
            self._refused("too_large", "The message is too large.")
            return None
        self._sequence = sequence
        self._kept.add(message, self._ends.clock.seconds())
        if self._owes:
            self._acknowledge(item)
        return item

    def _item(self, outbox: Outbox, message: Any, sequence: int) -> Item:
        """Make an item with all the address it needs: alone it has to say everything."""
        item = self._make(message, self.session_id, sequence)
        batching = outbox.stream.batching
        if type(message) is not Audio or not batching:
            item.message_id = f"{self.session_id}-{sequence}"
        if not batching:
            item.device_id = self._device_id
            item.timestamp = int(self._ends.clock.seconds() * 1000)
        return item

    def _wait(self, message: Any) -> None:
        waiting, begins = self._waiting, self._waiting is None
        if waiting is None:
            waiting = self._waiting = Waiting(self._ends.bounds, self._dropped)
            if self._outbox is not None:
                self._outbox.queue_up(self)
        accepted = waiting.add(message, self._ends.clock.seconds())
        if not accepted and not self._told:
            self._told = True
            self._refused("ai_unavailable", "The service does not answer; a message was lost.")
        if begins:
            self._backlog(True)

    def _acknowledged(self, ack: int, credit: int) -> None:
        self._kept.acknowledge(ack)
        if credit > self._granted:
            self._granted = credit
            self._hold_at = credit - self._reserve
        outbox = self._outbox
        if self._waiting is not None and outbox is not None:
            outbox.queue_up(self)
            outbox.release()
        if self._holds and self._audio_sent < self._hold_at:
            self._hold("credit", False)

    # --- inside: receiving

    def _owe(self) -> None:
        self._owes = True
        if self._outbox is not None:
            self._outbox.owe(self)

    def _out_of_turn(self, item: Item, sequence: int) -> None:
        kind = item.type
        if kind == self._ends.incoming.skip:
            if sequence > self._received:
                self._received = sequence
            self._owe()
        elif sequence == 0:
            if item.HasField("close"):
                self._closed(SessionClose(item.close.code, item.close.message))
        elif sequence <= self._received:
            self._ends.drops["duplicate"] += 1
            self._repeated(item, sequence)
            self._owe()
        else:
            raise OutOfOrder(f"message {sequence} came after {self._received}")

    def _repeated(self, item: Item, sequence: int) -> None:
        """Something came that has been received before."""

    def _unreadable(self, item: Item, error: ProtocolError) -> None:
        self._owe()
        self._log.warn(
            "session {session_id}: a message is skipped: {error}",
            session_id=self.session_id,
            error=error,
        )

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
