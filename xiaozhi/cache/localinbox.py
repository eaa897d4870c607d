"""The inbox of a single process."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Receipt
from xiaozhi.cache.settings import InboxSettings
from xiaozhi.interfaces import IDeviceInbox, IInboxReader
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.wire.mail import Mail


@dataclass(frozen=True, slots=True)
class _Reader:
    session_id: str
    deliver: Callable[[Mail], bool]


@dataclass(slots=True, eq=False)
class _Letter:
    """A queued message.

    :ivar mail: None after delivery.
    """

    mail: Mail | None
    expires: float


@implementer(IDeviceInbox, IInboxReader)
class LocalInbox:
    """Inbox of a single process; every call completes at once."""

    def __init__(self, clock: IReactorTime, node: str, settings: InboxSettings) -> None:
        self._clock = clock
        self._node = node
        self._settings = settings
        self._readers: dict[str, _Reader] = {}
        self._kept: dict[str, deque[_Letter]] = {}
        # All letters by expiry; the number orders ties.
        self._due: list[tuple[float, int, str, _Letter]] = []
        self._count = 0
        self._number = 0

    # --- IDeviceInbox

    def post(self, device_id: str, mail: Mail, ttl: float) -> Deferred[Receipt]:
        reader = self._readers.get(device_id)
        # Queued letters go first.
        if reader is not None and self._empty(device_id) and reader.deliver(mail):
            return succeed(Receipt(True, self._node))
        if ttl <= 0:
            return succeed(Receipt(False))
        self._purge()
        if len(self._kept.get(device_id, ())) >= self._settings.per_device:
            return fail(StoreError("inbox_full", f"{device_id} has not read enough of its inbox"))
        if self._count >= self._settings.total:
            return fail(StoreError("inboxes_full", "the inboxes of all devices are full"))
        expires = self._clock.seconds() + ttl
        letter = _Letter(mail, expires)
        self._kept.setdefault(device_id, deque()).append(letter)
        self._number += 1
        heapq.heappush(self._due, (expires, self._number, device_id, letter))
        self._count += 1
        return succeed(Receipt(False, expires=wall_time(self._clock)() + ttl))

    # --- IInboxReader

    def attach(self, device_id: str, session_id: str, deliver: Callable[[Mail], bool]) -> None:
        self._readers[device_id] = _Reader(session_id, deliver)
        self._empty(device_id)

    def detach(self, device_id: str, session_id: str) -> None:
        reader = self._readers.get(device_id)
        if reader is not None and reader.session_id == session_id:
            del self._readers[device_id]

    def _empty(self, device_id: str) -> bool:
        """Deliver queued letters; return whether none is left."""
        self._purge()
        kept = self._kept.get(device_id)
        reader = self._readers[device_id]
        while kept:
            letter = kept[0]
            if letter.mail is not None and not reader.deliver(letter.mail):
                return False
            self._forget(device_id, letter)
        return True

    def _purge(self) -> None:
        """Remove expired letters, and the entries of delivered ones."""
        now = self._clock.seconds()
        while self._due and (self._due[0][0] <= now or self._due[0][3].mail is None):
            _, _, device_id, letter = heapq.heappop(self._due)
            if letter.mail is not None:
                self._forget(device_id, letter)
        if len(self._due) > 2 * self._count + 100:
            self._due = [entry for entry in self._due if entry[3].mail is not None]
            heapq.heapify(self._due)

    def _forget(self, device_id: str, letter: _Letter) -> None:
        letter.mail = None
        self._count -= 1
        kept = self._kept[device_id]
        kept.remove(letter)
        if not kept:
            del self._kept[device_id]
