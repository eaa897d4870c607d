"""Items that wait to be written to one stream."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xiaozhi.bridge.items import MAX_BATCH
from xiaozhi.bridge.streams import IStream

# So many packets need not wait for more: sharing a message among them already
# makes it cheap, and a busy reactor may come to the timer late.
_ENOUGH = 16

# Where company comes often, so many of them are enough: with few it is worth the wait.
_COMPANY = 8

# Seconds that what is in no hurry waits to travel with something else.
_NO_HURRY = 0.05

# While many sessions send what waited, write as soon as so many have gathered.
_GATHERED = 128


class Sender(Protocol):
    """Has messages waiting for room on a stream."""

    def send_waiting(self) -> None:
        """Put all that waits into the outbox."""

    def acknowledgement(self) -> bytes | None:
        """Return the acknowledgement that is due, if any."""


class Outbox:
    """Gathers items for one stream.

    Audio waits a moment for company, and acknowledgements do so, too; anything else goes
    at once and takes what was gathered along, so order is kept. When the stream is
    full nothing is gathered here: sessions keep what they have, each within its own
    bounds, and get their turn in the order they came. So this holds at most what
    arrives in one ``coalesce``, or what one session kept on top of ``_GATHERED``.

    :param coalesce: seconds.
    :param busy: seconds, where sound has just been written before: then more is about to
        come, and a wait for it makes fewer messages; not less than ``coalesce``.
    :param max_item_bytes: what a single item may measure.
    :ivar blocked: the stream is full: do not put, :meth:`queue_up`.
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
        self._written = -self._busy  # when the timer last had something written
        self._items: list[bytes] = []
        self._timer: IDelayedCall | None = None
        self._later: IDelayedCall | None = None  # for what is in no hurry
        self._queue: dict[Sender, None] = {}  # ordered; a sender at most once
        self._owing: dict[Sender, None] = {}  # likewise

    def __len__(self) -> int:
        """Items on their way: gathered here or not carried yet."""
        return len(self._items) + self.stream.pending

    def gather(self, item: bytes, *, hurry: bool = True) -> None:
        """Send within ``coalesce`` or ``busy``, or once there is company enough.

        :param hurry: False: with what is written next, if that comes soon enough.
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
        """Send now."""
        self._items.append(item)
        self.flush()

    def add(self, item: bytes) -> None:
        """Only from :meth:`Sender.send_waiting`: send when its senders are through."""
        self._items.append(item)

    def owe(self, sender: Sender, *, soon: bool) -> None:
        """Ask for its ``acknowledgement`` within ``coalesce``, or with what is written
        next, if that comes soon enough: a message of its own costs more than it tells."""
        self._owing[sender] = None
        if soon:
            if self._timer is None:
                self._timer = self._clock.callLater(self._coalesce, self._due)
        else:
            self._wait()

    def flush(self) -> None:
        """Write what has gathered."""
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
        """Have ``send_waiting`` called at :meth:`release` or once there is room."""
        self._queue[sender] = None

    def release(self) -> None:
        """Let those who queue send, as far as there is room."""
        while self._queue and not self.blocked:
            sender = next(iter(self._queue))
            del self._queue[sender]
            sender.send_waiting()
            if len(self._items) >= _GATHERED:
                self.flush()
        self.flush()

    def writable(self) -> None:
        """The stream has room again."""
        self.blocked = False
        self.release()

    def close(self) -> None:
        """The stream is gone: forget everything."""
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
