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
from xiaozhi.values import DeviceNote, DialogueEntry, NoteKind, Role

_ID_LENGTH = 255


@implementer(IDialogueStore)
class MemoryDialogueStore:
    """:param capacity: entries of all devices, and notes; beyond, the oldest are forgotten."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[UUID, DialogueEntry] = OrderedDict()
        self._notes: OrderedDict[tuple[str, NoteKind], DeviceNote] = OrderedDict()
        self._open = False

    def start(self) -> Deferred[None]:
        self._open = True
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._open = False
        return succeed(None)

    def append(self, entries: Sequence[DialogueEntry | DeviceNote]) -> Deferred[None]:
        if not self._open:
            return fail(_closed())
        for entry in entries:
            prompt = isinstance(entry, DialogueEntry) and entry.said.role is Role.SYSTEM
            if entry.at.tzinfo is None or prompt:
                return fail(_rejected("a time without a time zone, or what is not said"))
            if len(entry.device_id) > _ID_LENGTH:
                return fail(_rejected("a device id that is too long"))
        for entry in entries:
            if isinstance(entry, DialogueEntry):
                self._entries.setdefault(entry.id, entry)
            else:
                key = entry.device_id, entry.kind
                known = self._notes.pop(key, None)
                self._notes[key] = known if known is not None and known.id == entry.id else entry
        for held in (self._entries, self._notes):
            while len(held) > self._capacity:
                held.popitem(last=False)
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

    def notes(self, device_id: str) -> Deferred[list[DeviceNote]]:
        if not self._open:
            return fail(_closed())
        found = (self._notes.get((device_id, kind)) for kind in NoteKind)
        return succeed([note for note in found if note is not None])

    def forget(self, device_id: str) -> Deferred[None]:
        kept: list[DialogueEntry | DeviceNote] = [*self._entries.values(), *self._notes.values()]
        return self._remove([each for each in kept if each.device_id == device_id])

    def purge(self, before: datetime, limit: int) -> Deferred[int]:
        old: list[DialogueEntry | DeviceNote] = [
            entry for entry in self._entries.values() if entry.at < before
        ]
        old += [
            note
            for note in self._notes.values()
            if note.kind is NoteKind.SUMMARY and note.at < before
        ]
        old.sort(key=lambda each: each.at.astimezone(UTC))
        return self._remove(old[:limit]).addCallback(lambda _: len(old[:limit]))

    def _remove(self, kept: Sequence[DialogueEntry | DeviceNote]) -> Deferred[None]:
        if not self._open:
            return fail(_closed())
        for each in kept:
            if isinstance(each, DialogueEntry):
                del self._entries[each.id]
            else:
                del self._notes[each.device_id, each.kind]
        return succeed(None)


def _closed() -> StoreError:
    return StoreError("store_closed", "the dialogue store is not open")


def _rejected(reason: str) -> StoreError:
    return StoreError("store_rejected", f"the dialogue store: {reason}")
