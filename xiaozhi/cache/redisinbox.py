"""The inbox of all processes that share a Redis."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as NoReceipt
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Receipt
from xiaozhi.cache.hub import RedisHub
from xiaozhi.cache.letters import Letter, Letters
from xiaozhi.cache.settings import InboxSettings
from xiaozhi.interfaces import IDeviceInbox, IInboxReader
from xiaozhi.wire.mail import Mail

_AGAIN = 0.5
"""Seconds until the next try for letters that another session has leased."""

_AT_ONCE = 50
"""Devices per script call; bounds how long a call occupies Redis and the reactor."""

_UNSETTLED = 1000
"""Sent letters that could not be settled in Redis; the oldest are forgotten."""


@dataclass(slots=True, eq=False)
class _Reader:
    """A session at this edge.

    :ivar busy: its letters are being fetched or settled.
    :ivar again: more may have arrived.
    """

    device_id: str
    session_id: str
    deliver: Callable[[Mail], bool]
    busy: bool = False
    again: bool = False
    retry: IDelayedCall | None = None


@implementer(IDeviceInbox, IInboxReader)
class RedisInbox:
    """Inbox in Redis. Posting stores a letter and notifies the device's node, which fetches
    it and sends a receipt. No letter travels in a notification, which may be lost: the node
    then finds it with the device's next letter or at its next connection.
    """

    _log = Logger()

    def __init__(self, hub: RedisHub, settings: InboxSettings) -> None:
        """:param hub: started before and stopped after this."""
        self._hub = hub
        self._timeout = settings.receipt_timeout
        self._letters = Letters(hub, settings)
        self._readers: dict[str, _Reader] = {}
        self._receipts: dict[str, Deferred[str]] = {}
        self._unsettled: OrderedDict[str, tuple[_Reader, Letter]] = OrderedDict()
        hub.on("mail", self._told)
        hub.on("receipt", self._confirmed)
        hub.when_back(self._back)

    def stop(self) -> None:
        """Stop reading for all sessions. Idempotent."""
        for reader in list(self._readers.values()):
            self.detach(reader.device_id, reader.session_id)

    # --- IDeviceInbox

    def post(self, device_id: str, mail: Mail, ttl: float) -> Deferred[Receipt]:
        return Deferred.fromCoroutine(self._post(device_id, mail, ttl))

    async def _post(self, device_id: str, mail: Mail, ttl: float) -> Receipt:
        hub = self._hub
        reader = self._readers.get(device_id)
        # Without Redis a device of this edge can still be reached.
        if reader is not None and hub.trouble() and reader.deliver(mail):
            return Receipt(True, hub.node)
        letter = Letter(uuid4().hex, hub.channels + hub.node, mail)
        receipt: Deferred[str] = Deferred()
        self._receipts[letter.letter_id] = receipt
        try:
            posted = await self._letters.put(device_id, letter, ttl)
            if not posted.node:
                return Receipt(False, expires=posted.expires)
            try:
                return Receipt(True, await receipt.addTimeout(self._timeout, hub.reactor))
            except NoReceipt:
                return Receipt(False, expires=posted.expires if ttl > 0 else 0.0)
        finally:
            del self._receipts[letter.letter_id]

    def _confirmed(self, message: str) -> None:
        letter_id, _, node = message.partition(" ")
        receipt = self._receipts.get(letter_id)
        if receipt is not None and not receipt.called:
            receipt.callback(node)

    # --- IInboxReader

    def attach(self, device_id: str, session_id: str, deliver: Callable[[Mail], bool]) -> None:
        former = self._readers.get(device_id)
        if former is not None:
            self.detach(device_id, former.session_id)
        reader = self._readers[device_id] = _Reader(device_id, session_id, deliver)
        self._look(reader)

    def detach(self, device_id: str, session_id: str) -> None:
        reader = self._readers.get(device_id)
        if reader is not None and reader.session_id == session_id:
            del self._readers[device_id]
            if reader.retry is not None:
                reader.retry.cancel()
                reader.retry = None

    def _told(self, device_id: str) -> None:
        reader = self._readers.get(device_id)
        if reader is not None:
            self._look(reader)

    def _back(self) -> None:
        """Settle sent letters and look for new ones: Redis is back."""
        for letter_id, (reader, letter) in list(self._unsettled.items()):
            del self._unsettled[letter_id]
            Deferred.fromCoroutine(self._settle(reader, [letter])).addErrback(self._broken)
        Deferred.fromCoroutine(self._look_at_all()).addErrback(self._broken)

    async def _look_at_all(self) -> None:
        devices = list(self._readers)
        try:
            for at in range(0, len(devices), _AT_ONCE):
                for device_id in await self._letters.waiting(devices[at : at + _AT_ONCE]):
                    self._told(device_id)
        except StoreError as error:
            # Lost again; this runs again at its return.
            self._log.debug("inboxes: {error}", error=error)

    def _look(self, reader: _Reader) -> None:
        """Fetch and send a device's letters."""
        reader.again = True
        if not reader.busy:
            reader.busy = True
            Deferred.fromCoroutine(self._serve(reader)).addErrback(self._broken)

    async def _serve(self, reader: _Reader) -> None:
        try:
            while reader.again and self._is_here(reader):
                reader.again = False
                letters = await self._letters.take(reader.device_id, reader.session_id)
                if letters is None:
                    self._retry(reader)
                elif letters:
                    sent = self._send(reader, letters)
                    await self._settle(reader, sent)
        except StoreError as error:
            # Retried when Redis is back.
            self._log.debug("inbox of {device}: {error}", device=reader.device_id, error=error)
        finally:
            reader.busy = False

    def _send(self, reader: _Reader, letters: list[Letter]) -> list[Letter]:
        """Send letters.

        :return: those sent now, or earlier but not settled.
        """
        sent = []
        for letter in letters:
            if self._unsettled.pop(letter.letter_id, None) is None and not (
                self._is_here(reader) and reader.deliver(letter.mail)
            ):
                break
            sent.append(letter)
        return sent

    async def _settle(self, reader: _Reader, sent: list[Letter]) -> None:
        try:
            await self._letters.settle(reader.device_id, reader.session_id, sent)
        except StoreError:
            for letter in sent:
                self._unsettled[letter.letter_id] = (reader, letter)
            while len(self._unsettled) > _UNSETTLED:
                self._unsettled.popitem(last=False)

    def _is_here(self, reader: _Reader) -> bool:
        return self._readers.get(reader.device_id) is reader

    def _retry(self, reader: _Reader) -> None:
        def again() -> None:
            reader.retry = None
            self._look(reader)

        if reader.retry is None and self._is_here(reader):
            reader.retry = self._hub.reactor.callLater(_AGAIN, again)

    def _broken(self, failure: Failure) -> None:
        self._log.failure("inbox: delivery to a device failed", failure)
