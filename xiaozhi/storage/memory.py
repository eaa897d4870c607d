"""Dialogues in memory: they outlive sessions, not the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice, takewhile
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import DeviceNote, DialogueEntry, NoteKind, Role
from xiaozhi.interfaces import IDialogueStore
from xiaozhi.storage.forms import aware

_ID_LENGTH = 255
_Kept = DialogueEntry | DeviceNote


@implementer(IDialogueStore)
class MemoryDialogueStore:
    """Dialogues of all devices in memory.

    :param capacity: entries of all devices, and notes; beyond, the oldest are forgotten.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[UUID, DialogueEntry] = OrderedDict()
        # The same by device, so that opening a session does not scan all devices.
        self._talks: dict[str, dict[UUID, DialogueEntry]] = {}
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
                self._talks.setdefault(entry.device_id, {}).setdefault(entry.id, entry)
            else:
                key = entry.device_id, entry.kind
                known = self._notes.pop(key, None)
                self._notes[key] = known if known is not None and known.id == entry.id else entry
        while len(self._entries) > self._capacity:
            self._drop(next(iter(self._entries.values())))
        while len(self._notes) > self._capacity:
            self._drop(next(iter(self._notes.values())))
        return succeed(None)

    def latest(self, device_id: str, limit: int, since: datetime) -> Deferred[list[DialogueEntry]]:
        if not self._open:
            return fail(_closed())
        found: list[DialogueEntry] = []
        for entry in reversed(self._talks.get(device_id, {}).values()):
            if len(found) == limit:
                break
            if entry.at >= aware(since):
                found.append(entry)
        return succeed(found[::-1])

    def notes(self, device_id: str) -> Deferred[list[DeviceNote]]:
        if not self._open:
            return fail(_closed())
        found = (self._notes.get((device_id, kind)) for kind in NoteKind)
        return succeed([note for note in found if note is not None])

    def forget(self, device_id: str) -> Deferred[None]:
        notes = (self._notes.get((device_id, kind)) for kind in NoteKind)
        kept: list[_Kept] = [*self._talks.get(device_id, {}).values(), *filter(None, notes)]
        return self._remove(kept).addCallback(lambda _: None)

    def purge(self, before: datetime, limit: int) -> Deferred[int]:
        # In order of time: after the first newer one all are newer.
        entries = takewhile(lambda each: each.at < before, self._entries.values())
        notes = takewhile(lambda each: each.at < before, self._notes.values())
        summaries = (note for note in notes if note.kind is NoteKind.SUMMARY)
        old: list[_Kept] = [*islice(entries, limit), *islice(summaries, limit)]
        old.sort(key=lambda each: each.at.astimezone(UTC))
        return self._remove(old[:limit])

    def _remove(self, kept: Sequence[_Kept]) -> Deferred[int]:
        if not self._open:
            return fail(_closed())
        for each in kept:
            self._drop(each)
        return succeed(len(kept))

    def _drop(self, each: _Kept) -> None:
        if isinstance(each, DeviceNote):
            del self._notes[each.device_id, each.kind]
            return
        del self._entries[each.id]
        talk = self._talks[each.device_id]
        del talk[each.id]
        if not talk:
            del self._talks[each.device_id]


def _closed() -> StoreError:
    return StoreError("store_closed", "the dialogue store is not open")


def _rejected(reason: str) -> StoreError:
    return StoreError("store_rejected", f"the dialogue store: {reason}")
