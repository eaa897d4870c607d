"""Send side of a session: ordering, retention until acknowledged, credit.

Everything sent gets a place in the session's order and is kept until the other
side acknowledges it. What cannot be sent now waits (``pending.PendingQueue``), without
a place yet. Audio needs credit: the other side says how many packets it takes.
When it runs low our side is asked to hold its audio back; without any, messages
wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.logburst import LogBurst
from xiaozhi.bridge.delivery.incoming import Incoming
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.pending import Bounds, PendingQueue
from xiaozhi.bridge.delivery.unacknowledged import UnacknowledgedMessages
from xiaozhi.bridge.items import ItemDirection, acknowledgement, address, skip
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.wire.messages import Audio, Playback, SessionClose

_log = Logger()

# Credit of a side that announced none: it does without.
_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class SharedState:
    """The shared state of all session ends of one bridge.

    :ivar outgoing: and ``incoming``: how items are made and read here.
    :ivar credit: audio packets the other side may send ahead of what was received.
    :ivar drops: messages dropped since the start, by reason.
    :ivar unreadable: session and reason of what was received and could not be read.
    """

    outgoing: ItemDirection
    incoming: ItemDirection
    bounds: Bounds
    credit: int
    clock: IReactorTime
    drops: Counter[str]
    unreadable: LogBurst[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        told = LogBurst[tuple[str, str]](self.clock, _tell_unreadable)
        object.__setattr__(self, "unreadable", told)

    @property
    def wall_ms(self) -> int:
        """The time, in ms since the epoch."""
        return int(wall_time(self.clock)() * 1000)


def _tell_unreadable(count: int, latest: tuple[str, str]) -> None:
    session_id, why = latest
    _log.warn(
        "session {session_id}: {count} message(s) skipped: {why}",
        session_id=session_id,
        count=count,
        why=why,
    )


class Owner(Protocol):
    """The end of the session that sends."""

    def introduce(self, outbox: Outbox) -> bool:
        """Tell a new stream of the session.

        :return: False: it is over, and the other side never heard of it.
        """

    def hold(self, reason: str, on: bool) -> None:
        """Our audio is to be held back for this reason, or for it no longer."""

    def backlog(self, waiting: bool) -> None:
        """Messages begin to wait, or none waits any more."""

    def refused(self, code: str, message: str) -> None:
        """A message was dropped that should not have been.

        :param code: ``ai_unavailable``, once per outage; ``too_large``; ``bad_message``.
        """


class _NoOwner:
    """Takes the owner's place at the end: neither refers to the other, and both are gone
    as soon as nobody needs them."""

    def introduce(self, outbox: Outbox) -> bool:
        return False

    def hold(self, reason: str, on: bool) -> None:
        pass

    def backlog(self, waiting: bool) -> None:
        pass

    def refused(self, code: str, message: str) -> None:
        pass


_NO_OWNER: Owner = _NoOwner()


class Outgoing:
    """See the module. A ``Sender`` to its outbox.

    :param incoming: the other direction, acknowledged on what is sent here.
    :ivar sequence: of the last message sent.
    X.
    :ivar drops: what was dropped, by reason; None: nothing was.
    :ivar closing: nothing follows what waits, see :meth:`close`.
    """

    __slots__ = (
        "_audio_sent",
        "_device_id",
        "_granted",
        "_hold_at",
        "_holding",
        "_incoming",
        "_introduced",
        "_make",
        "_outbox",
        "_owner",
        "_pending",
        "_reserve",
        "_session_id",
        "_shared",
        "_told",
        "_unacknowledged_limit",
        "_write_audio",
        "closing",
        "drops",
        "sequence",
        "unacknowledged",
    )

    def __init__(
        self, shared: SharedState, session_id: str, device_id: str, owner: Owner, incoming: Incoming
    ) -> None:
        self.sequence = 0
        self.unacknowledged = UnacknowledgedMessages()
        self.drops: Counter[str] | None = None
        self.closing = False
        self._shared = shared
        self._make = shared.outgoing.make
        self._write_audio = shared.outgoing.audio(session_id)
        self._session_id = session_id
        self._device_id = device_id
        self._owner = owner
        self._incoming = incoming
        self._outbox: Outbox | None = None
        self._introduced = False  # this stream was told of us
        # Not None: new messages go behind what is there.
        self._pending: PendingQueue | None = PendingQueue(shared.bounds, self.dropped)
        self._told = False  # of an overflow, in this outage
        # Audio packets sent and how many may be, since the other side began to count;
        # where to begin to hold back, and whether we do.
        self._audio_sent = self._granted = self._hold_at = 0
        self._holding = False
        self._reserve = self._unacknowledged_limit = 0

    # --- sending

    @property
    def last(self) -> int:
        """Sequence of the last message given to :meth:`send`; while messages wait, the
        one it will have if none of them is dropped."""
        return self.sequence + (len(self._pending) if self._pending is not None else 0)

    def send(self, message: Any) -> None:
        """Send it now, or let it wait."""
        outbox = self._outbox
        if (
            self._pending is not None
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
            outbox.gather(item, hurry=not message.ahead)
            if self._audio_sent >= self._hold_at:
                self._hold(True)
        elif type(message) is Playback:
            outbox.gather(item)  # many are sent together, and none is awaited
        else:
            outbox.put(item)

    def retract(self, unwanted: Callable[[Any], bool]) -> None:
        """Drop messages that wait, and do not send again those that may be lost."""
        count = self.unacknowledged.void(unwanted)
        if self._pending is not None:
            count += self._pending.remove(unwanted)
        for _ in range(count):
            self.dropped("retracted")

    def close(self, message: SessionClose) -> None:
        """Send the last message, behind what waits; neither needs credit any more."""
        self.closing = True
        self.send(message)
        if self._pending is not None and self._outbox is not None:
            self._outbox.queue_up(self)
            self._outbox.release()
        if self._pending is None:
            self._owner = _NO_OWNER

    def acknowledged(self, ack: int, credit: int) -> None:
        """The other side says what it has received, and how much audio it takes in all."""
        self.unacknowledged.acknowledge(ack)
        if credit > self._granted:
            self._granted = credit
            self._hold_at = credit - self._reserve
        outbox = self._outbox
        if self._pending is not None and outbox is not None:
            outbox.queue_up(self)
            outbox.release()
        if self._holding and self._audio_sent < self._hold_at:
            self._hold(False)

    def owe(self, *, soon: bool = True) -> None:
        """Have what was received acknowledged soon."""
        self._incoming.owes = True
        if self._outbox is not None:
            self._outbox.owe(self, soon=soon)

    def dropped(self, reason: str) -> None:
        """Count a message that is not sent."""
        self._shared.drops[reason] += 1
        if self.drops is None:
            self.drops = Counter()
        self.drops[reason] += 1

    # --- on and off streams

    def board(self, outbox: Outbox) -> None:
        """Send by this outbox from now on, beginning at its next ``release``."""
        self.unboard()
        self._introduced = False
        self._outbox = outbox
        outbox.queue_up(self)

    def unboard(self) -> None:
        """The stream is gone: what is sent from now on waits."""
        self._outbox = None
        if self._pending is None:
            self._pending = PendingQueue(self._shared.bounds, self.dropped)

    def forget(self) -> None:
        """The session is over, and nothing that waits is to be sent any more."""
        if self._pending is not None:
            self._pending.clear()
        self._pending = None
        self._owner = _NO_OWNER

    def free(self) -> None:
        """Nobody limits our audio at present."""
        self._hold(False)

    def take_credit(self, credit: int) -> None:
        """The other side opens its window anew, for what we send from now on and what
        is still kept.

        :param credit: 0: it does not count.
        """
        bounds = self._shared.bounds
        self._audio_sent = self.unacknowledged.audio
        self._unacknowledged_limit = bounds.messages + (credit or bounds.audio)
        # What is left when we ask to hold back is for what is already being said.
        self._reserve = credit // 4
        self._granted = credit or _UNLIMITED
        self._hold_at = self._granted - self._reserve
        self._hold(self._audio_sent >= self._hold_at)

    @property
    def has_credit(self) -> bool:
        """Whether :meth:`take_credit` was ever called."""
        return self._granted > 0

    def item(self, outbox: Outbox, message: Any, sequence: int) -> bytes:
        """Make an item with all the address it needs: alone it has to say everything."""
        message_id = ""
        if type(message) is Audio:
            item = self._write_audio(message, sequence)
        else:
            made = self._make(message, self._session_id, sequence)
            message_id = made.message_id = f"{self._session_id}-{sequence}"
            item = bytes(made.SerializeToString())
        if outbox.stream.batching:
            return item
        now = self._shared.wall_ms
        message_id = message_id or f"{self._session_id}-{sequence}"
        return item + address(self._shared.outgoing, message_id, self._device_id, now)

    # --- Sender

    def send_waiting(self) -> None:
        """Put into the outbox what waited, as far as there is credit; it has room."""
        outbox = self._outbox
        if self._pending is None or outbox is None:
            return
        if not self._introduced:
            if not self._owner.introduce(outbox):
                return
            self._introduced = True
            self._resend(outbox)
        now = self._shared.clock.seconds()
        while self._pending is not None and (message := self._pending.next(now)) is not None:
            if not self._may_send(message):
                return  # the next acknowledgement calls again
            self._pending.take(message)
            item = self._placed(outbox, message)
            if item is not None:
                outbox.add(item)
            if self._audio_sent >= self._hold_at:
                self._hold(True)
        self._pending = None
        self._told = False
        self._owner.backlog(False)
        if self.closing:
            self._owner = _NO_OWNER

    def acknowledgement(self) -> bytes | None:
        """See :class:`~xiaozhi.bridge.delivery.outbox.Sender`."""
        if not self._incoming.owes:
            return None
        return acknowledgement(self._shared.outgoing, self._session_id) + self._incoming.receipt()

    # --- inside

    def _may_send(self, message: Any) -> bool:
        if len(self.unacknowledged) >= self._unacknowledged_limit:
            return self.closing
        return type(message) is not Audio or self._audio_sent < self._granted or self.closing

    def _placed(self, outbox: Outbox, message: Any) -> bytes | None:
        """Give a message its place, and keep it; None if no stream can carry it."""
        sequence = self.sequence + 1
        try:
            item = self.item(outbox, message, sequence)
        except (TypeError, ValueError) as error:  # a number out of range, half a surrogate pair
            self.dropped("unsendable")
            reason = f"The message cannot be carried: {type(error).__name__}."
            self._owner.refused("bad_message", reason)
            return None
        if type(message) is Audio:
            self._audio_sent += 1
        elif len(item) > outbox.max_item_bytes:
            self.dropped("too_large")
            self._owner.refused("too_large", "The message is too large.")
            return None
        self.sequence = sequence
        self.unacknowledged.add(message, self._shared.clock.seconds())
        return item + self._incoming.receipt() if self._incoming.owes else item

    def _wait(self, message: Any) -> None:
        waiting, begins = self._pending, self._pending is None
        if waiting is None:
            waiting = self._pending = PendingQueue(self._shared.bounds, self.dropped)
            if self._outbox is not None:
                self._outbox.queue_up(self)
        accepted = waiting.add(message, self._shared.clock.seconds())
        if not accepted and not self._told:
            self._told = True
            self._owner.refused(
                "ai_unavailable", "The service does not answer; a message was lost."
            )
        if begins:
            self._owner.backlog(True)

    def _resend(self, outbox: Outbox) -> None:
        """Once more what was not acknowledged; too old audio becomes a gap."""
        shared, unacknowledged = self._shared, self.unacknowledged
        stale = unacknowledged.expire(shared.clock.seconds() - shared.bounds.audio_age)
        for _ in range(stale):
            self.dropped("audio_stale")
        void = 0
        for sequence, message in unacknowledged:
            if message is None:
                void = sequence
                continue
            if void:
                outbox.add(skip(shared.outgoing, self._session_id, void))
                void = 0
            outbox.add(self.item(outbox, message, sequence))
        if void:
            outbox.add(skip(shared.outgoing, self._session_id, void))

    def _hold(self, on: bool) -> None:
        if on is not self._holding:
            self._holding = on
            self._owner.hold("credit", on)
