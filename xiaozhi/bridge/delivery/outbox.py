"""Batching of items for one stream."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xiaozhi.bridge.items import MAX_BATCH
from xiaozhi.bridge.streams import IStream

# Packets that make a batch cheap enough to send at once; on a busy reactor the timer may be
# late.
_ENOUGH = 16

# The same while packets arrive often: a larger batch is worth the wait.
_COMPANY = 8

# Seconds that a packet not yet due may wait to share a message.
_NO_HURRY = 0.05

# While many sessions send their pending messages, write after this many items.
_GATHERED = 128


class Sender(Protocol):
    """A session with pending messages for a stream."""

    def send_waiting(self) -> None:
        """Put all pending messages into the outbox."""

    def acknowledgement(self) -> bytes | None:
        """Return the acknowledgement that is due, if any."""


class Outbox:
    """Gathers items for one stream.

    Audio and acknowledgements wait briefly to share a message. Anything else is sent at
    once, with the items gathered before it, so order is kept. While the stream is full
    nothing is gathered here: sessions queue within their own limits and send in the order
    they queued. The outbox holds at most the arrivals of one ``coalesce``, or one session's
    queue on top of ``_GATHERED``.

    :param coalesce: seconds.
    :param busy: seconds to wait when audio was written just before: more will follow, and
        fewer messages are cheaper; at least ``coalesce``.
    :param max_item_bytes: the largest size of an item.
    :ivar blocked: the stream is full: call :meth:`queue_up` instead of :meth:`put`.
    """

    __slots__ = (
        "_busy",
        "_clock",
        "_coalesce",
        "_items",
        "_later",
        "_owing",
        "_queue",
        "_timer",
        "_written",
        "blocked",
        "max_item_bytes",
        "stream",
    )

    def __init__(
        self,
        stream: IStream,
        clock: IReactorTime,
        coalesce: float,
        max_item_bytes: int,
        *,
        busy: float = 0.0,
    ) -> None:
        self.stream = stream
        self.blocked = False
        self.max_item_bytes = max_item_bytes
        self._clock = clock
        self._coalesce = coalesce
        self._busy = max(busy, coalesce)
        self._written = -self._busy  # time of the timer's last write
        self._items: list[bytes] = []
        self._timer: IDelayedCall | None = None
        self._later: IDelayedCall | None = None  # for packets that are not due yet
        self._queue: dict[Sender, None] = {}  # ordered; a sender at most once
        self._owing: dict[Sender, None] = {}  # likewise

    def __len__(self) -> int:
        """Number of items gathered here or in flight."""
        return len(self._items) + self.stream.pending

    def gather(self, item: bytes, *, hurry: bool = True) -> None:
        """Send within ``coalesce`` or ``busy``, or once the batch is large enough.

        :param hurry: False: may wait longer for the next write.
        """
        self._items.append(item)
        if len(self._items) >= (_ENOUGH if hurry else MAX_BATCH):
            self.flush()
        elif not hurry:
            self._wait()
        elif self._timer is None:
            often = self._clock.seconds() - self._written < self._busy
            self._timer = self._clock.callLater(self._busy if often else self._coalesce, self._due)
        elif len(self._items) == _COMPANY:
            self._timer.reset(self._coalesce)

    def put(self, item: bytes) -> None:
        """Send at once, after all gathered items."""
        self._items.append(item)
        self.flush()

    def add(self, item: bytes) -> None:
        """Append an item; call only from :meth:`Sender.send_waiting`."""
        self._items.append(item)

    def owe(self, sender: Sender, *, soon: bool) -> None:
        """Request the sender's ``acknowledgement`` within ``coalesce``, or with the next
        write if that comes soon: a message of its own is expensive.
        """
        self._owing[sender] = None
        if soon:
            if self._timer is None:
                self._timer = self._clock.callLater(self._coalesce, self._due)
        else:
            self._wait()

    def flush(self) -> None:
        """Write the gathered items."""
        if self._owing and not self.blocked:
            owing, self._owing = self._owing, {}
            for sender in owing:
                item = sender.acknowledgement()
                if item is not None:
                    self._items.append(item)
        if self._items:
            items, self._items = self._items, []
            if not self.stream.write(items):
                self.blocked = True

    def queue_up(self, sender: Sender) -> None:
        """Call the sender's ``send_waiting`` at :meth:`release` or when the stream is writable."""
        self._queue[sender] = None

    def release(self) -> None:
        """Let queued senders send, until the stream is full."""
        while self._queue and not self.blocked:
            sender = next(iter(self._queue))
            del self._queue[sender]
            sender.send_waiting()
            if len(self._items) >= _GATHERED:
                self.flush()
        self.flush()

    def writable(self) -> None:
        """Continue: the stream accepts items again."""
        self.blocked = False
        self.release()

    def close(self) -> None:
        """Drop everything: the stream is gone."""
        self._items.clear()
        self._queue.clear()
        self._owing.clear()
        for timer in (self._timer, self._later):
            if timer is not None:
                timer.cancel()
        self._timer = self._later = None

    def _wait(self) -> None:
        if self._later is None:
            self._later = self._clock.callLater(_NO_HURRY, self._late)

    def _late(self) -> None:
        self._later = None
        self.flush()

    def _due(self) -> None:
        self._timer = None
        self._written = self._clock.seconds()
        self.flush()
