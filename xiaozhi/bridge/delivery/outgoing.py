"""Send side of a session: ordering, retention until acknowledged, credit.

Each message sent gets the session's next sequence and is kept until the other side
acknowledges it. A message that cannot be sent now waits in a ``pending.PendingQueue``,
without a sequence. Audio needs credit, which the other side grants in packets. When credit
runs low, the owner is asked to hold audio back; without credit, messages wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, Protocol

from xiaozhi.bridge.delivery.incoming import Incoming
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.pending import PendingQueue
from xiaozhi.bridge.delivery.shared import Sent, SharedState
from xiaozhi.bridge.delivery.unacknowledged import UnacknowledgedMessages
from xiaozhi.bridge.items import Item, acknowledgement, address, skip
from xiaozhi.wire.messages import Audio, Playback, SessionClose, Tts, TtsState

# Credit of a side that announces none and does no flow control.
_UNLIMITED = 1 << 62


class Owner(Protocol):
    """The end of the session that sends."""

    def introduce(self, outbox: Outbox) -> bool:
        """Announce the session on a new stream.

        :return: False: the session is over and was not announced.
        """

    def hold(self, reason: str, on: bool) -> None:
        """Hold our audio back for this reason, or release that hold."""

    def backlog(self, waiting: bool) -> None:
        """The first message is pending, or the last one was sent."""

    def refused(self, code: str, message: str) -> None:
        """A message was lost that the caller must know of.

        :param code: ``ai_unavailable``, once per outage; ``too_large``; ``bad_message``.
        """


class _NoOwner:
    """Replaces the owner at the end of a session, to break the reference cycle between the
    two.
    """

    def introduce(self, outbox: Outbox) -> bool:
        return False

    def hold(self, reason: str, on: bool) -> None:
        pass

    def backlog(self, waiting: bool) -> None:
        pass

    def refused(self, code: str, message: str) -> None:
        pass


_NO_OWNER: Owner = _NoOwner()


class Outgoing(Generic[Sent]):
    """Send side of one session; see the module. Acts as ``Sender`` of its outbox.

    :param incoming: the receive side, whose acknowledgements travel with our items.
    :ivar sequence: of the last message sent.
    :ivar unacknowledged: sent messages that the other side did not acknowledge yet.
    :ivar drops: dropped messages by reason; None: no drops.
    :ivar closing: the close is queued and nothing may follow it, see :meth:`close`.
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
        self,
        shared: SharedState[Sent, Any],
        session_id: str,
        device_id: str,
        owner: Owner,
        incoming: Incoming,
    ) -> None:
        self.sequence = 0
        self.unacknowledged: UnacknowledgedMessages[Sent | SessionClose] = UnacknowledgedMessages()
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
        self._introduced = False  # on this stream
        # Not None: new messages are appended here.
        self._pending: PendingQueue[Sent | SessionClose] | None = PendingQueue(
            shared.bounds, self.dropped
        )
        self._told = False  # the overflow was reported, in this outage
        # Audio packets sent and granted since the other side began to count; the number at
        # which we hold back, and whether we do.
        self._audio_sent = self._granted = self._hold_at = 0
        self._holding = False
        self._reserve = self._unacknowledged_limit = 0

    # --- sending

    @property
    def last(self) -> int:
        """Sequence of the last message given to :meth:`send`; if it is pending, the
        sequence it gets unless an earlier one is dropped.
        """
        return self.sequence + (len(self._pending) if self._pending is not None else 0)

    def send(self, message: Sent | SessionClose) -> None:
        """Send a message now, or queue it."""
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
        elif type(message) is Playback or _precedes_audio(message):
            outbox.gather(item)  # shares a message with others, or with its first sound
        else:
            outbox.put(item)

    def retract(self, unwanted: Callable[[object], bool]) -> None:
        """Drop pending messages, and do not resend unacknowledged ones."""
        count = self.unacknowledged.void(unwanted)
        if self._pending is not None:
            count += self._pending.remove(unwanted)
        for _ in range(count):
            self.dropped("retracted")

    def close(self, message: SessionClose) -> None:
        """Send the last message after all pending ones; none of them needs credit any more."""
        self.closing = True
        self.send(message)
        if self._pending is not None and self._outbox is not None:
            self._outbox.queue_up(self)
            self._outbox.release()
        if self._pending is None:
            self._owner = _NO_OWNER

    def acknowledged(self, ack: int, credit: int) -> None:
        """Process the other side's acknowledgement and its total of granted audio."""
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
        """Schedule an acknowledgement of received messages."""
        self._incoming.owes = True
        if self._outbox is not None:
            self._outbox.owe(self, soon=soon)

    def dropped(self, reason: str) -> None:
        """Count a dropped message."""
        self._shared.drops[reason] += 1
        if self.drops is None:
            self.drops = Counter()
        self.drops[reason] += 1

    # --- on and off streams

    def board(self, outbox: Outbox) -> None:
        """Attach to an outbox; sending begins at its next ``release``."""
        self.unboard()
        self._introduced = False
        self._outbox = outbox
        outbox.queue_up(self)

    def unboard(self) -> None:
        """Detach from a lost stream; messages wait from now on."""
        self._outbox = None
        if self._pending is None:
            self._pending = PendingQueue(self._shared.bounds, self.dropped)

    def forget(self) -> None:
        """Drop all messages: the session is over."""
        if self._pending is not None:
            self._pending.clear()
        self._pending = None
        self._owner = _NO_OWNER

    def free(self) -> None:
        """Lift the credit limit, until :meth:`take_credit`."""
        self._hold(False)

    def take_credit(self, credit: int) -> None:
        """Start a new credit window, for new messages and the unacknowledged ones.

        :param credit: packets; 0: the other side does no flow control.
        """
        bounds = self._shared.bounds
        self._audio_sent = self.unacknowledged.audio
        self._unacknowledged_limit = bounds.messages + (credit or bounds.audio)
        # Keep a reserve when asking to hold back, for audio already on its way to us.
        self._reserve = credit // 4
        self._granted = credit or _UNLIMITED
        self._hold_at = self._granted - self._reserve
        self._hold(self._audio_sent >= self._hold_at)

    @property
    def has_credit(self) -> bool:
        """Whether :meth:`take_credit` was ever called."""
        return self._granted > 0

    def control_item(self, outbox: Outbox, item: Item, sequence: int) -> bytes:
        """Encode an item other than audio with its full address, since it may travel alone."""
        item.message_id = f"{self._session_id}-{sequence}"
        encoded = bytes(item.SerializeToString())
        return encoded if outbox.stream.batching else self._addressed(encoded, sequence)

    # --- Sender

    def send_waiting(self) -> None:
        """Put pending messages into the outbox, as far as credit allows."""
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

    def _item(self, outbox: Outbox, message: Sent | SessionClose, sequence: int) -> bytes:
        if type(message) is Audio:
            item = self._write_audio(message, sequence)
            return item if outbox.stream.batching else self._addressed(item, sequence)
        made = self._make(message, self._session_id, sequence)
        return self.control_item(outbox, made, sequence)

    def _addressed(self, item: bytes, sequence: int) -> bytes:
        shared, message_id = self._shared, f"{self._session_id}-{sequence}"
        return item + address(shared.outgoing, message_id, self._device_id, shared.wall_ms)

    def _may_send(self, message: object) -> bool:
        if len(self.unacknowledged) >= self._unacknowledged_limit:
            return self.closing
        return type(message) is not Audio or self._audio_sent < self._granted or self.closing

    def _placed(self, outbox: Outbox, message: Sent | SessionClose) -> bytes | None:
        """Assign the next sequence and keep the message; None if no stream can carry it."""
        sequence = self.sequence + 1
        try:
            item = self._item(outbox, message, sequence)
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

    def _wait(self, message: Sent | SessionClose) -> None:
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
        """Resend unacknowledged messages; stale audio becomes a gap."""
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
            outbox.add(self._item(outbox, message, sequence))
        if void:
            outbox.add(skip(shared.outgoing, self._session_id, void))

    def _hold(self, on: bool) -> None:
        if on is not self._holding:
            self._holding = on
            self._owner.hold("credit", on)


def _precedes_audio(message: object) -> bool:
    return type(message) is Tts and message.state is TtsState.SENTENCE_START
