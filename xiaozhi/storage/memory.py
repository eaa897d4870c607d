"""Dialogues kept in the process: they outlive sessions, not the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from xiaozhi.errors import StoreError
from xiaozhi.interfaces import IDialogueStore
from xiaozhi.storage.forms import aware
from xiaozhi.values import DialogueEntry, Role

_ID_LENGTH = 255


@implementer(IDialogueStore)
class MemoryDialogueStore:
    """:param capacity: entries of all devices; beyond, the oldest are forgotten."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[UUID, DialogueEntry] = OrderedDict()
        self._open = False

    def start(self) -> Deferred[None]:
        self._open = True
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._open = False
        return succeed(None)

    def append(self, entries: Sequence[DialogueEntry]) -> Deferred[None]:
        if not self._open:
            return fail(_closed())
        for entry in entries:
            if entry.at.tzinfo is None or entry.said.role is Role.SYSTEM:
                return fail(_rejected("a time without a time zone, or what is not said"))
            if len(entry.device_id) > _ID_LENGTH:
                return fail(_rejected("a device id that is too long"))
        for entry in entries:
            self._entries.setdefault(entry.id, entry)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return succeed(None)

    def latest(self, device_id: str, limit: int, since: datetime) -> Deferred[list[DialogueEntry]]:
        if not self._open:
            return fail(_closed())
        found: list[DialogueEntry] = []
        for entry in reversed(self._entries.values()):
            if len(found) == limit:
                break
            if entry.device_id == device_id and entry.at >= aware(since):
                found.append(entry)
        return succeed(found[::-1])

    def forget(self, device_id: str) -> Deferred[None]:
        return self._remove([e for e in self._entries.values() if e.device_id == device_id])

    def purge(self, before: datetime, limit: int) -> Deferred[int]:
        old = [e for e in self._entries.values() if e.at < before]
        old.sort(key=lambda entry: entry.at.astimezone(UTC))
        return self._remove(old[:limit]).addCallback(lambda _: len(old[:limit]))

    def _remove(self, entries: Sequence[DialogueEntry]) -> Deferred[None]:
        if not self._open:
            return fail(_closed())
        for entry in entries:
            del self._entries[entry.id]
        return succeed(None)


def _closed() -> StoreError:
    return StoreError("store_closed", "the dialogue store is not open")


def _rejected(reason: str) -> StoreError:
    return StoreError("store_rejected", f"the dialogue store: {reason}")
