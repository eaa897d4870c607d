"""Dialogues in SQLite or PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.base.values import DeviceNote, DialogueEntry, NoteKind, Role, ToolCall, Utterance
from xiaozhi.interfaces import IDialogueStore
from xiaozhi.storage.database import Database
from xiaozhi.storage.dialects import SqlDialect
from xiaozhi.storage.forms import aware, text, to_json

_COLUMNS = "id, device_id, role, content, calls, call_id, created_at"
_NOTE_COLUMNS = "id, device_id, kind, content, upto, created_at"


@implementer(IDialogueStore)
class SqlDialogueStore(Database):
    """The tables ``dialogue_entries`` and ``device_notes``. The database assigns their
    numbers, so order does not depend on the writers' clocks.
    """

    def append(self, entries: Sequence[DialogueEntry | DeviceNote]) -> Deferred[None]:
        return self._run(partial(_write, dialect=self._dialect, entries=tuple(entries)))

    def latest(self, device_id: str, limit: int, since: datetime) -> Deferred[list[DialogueEntry]]:
        return self._run(
            partial(_read, dialect=self._dialect, device_id=device_id, limit=limit, since=since)
        )

    def notes(self, device_id: str) -> Deferred[list[DeviceNote]]:
        return self._run(partial(_read_notes, dialect=self._dialect, device_id=device_id))

    def forget(self, device_id: str) -> Deferred[None]:
        return self._run(partial(_forget, dialect=self._dialect, device_id=device_id))

    def purge(self, before: datetime, limit: int) -> Deferred[int]:
        return self._run(partial(_purge, dialect=self._dialect, before=before, limit=limit))


def _write(cursor: Any, dialect: SqlDialect, entries: Sequence[DialogueEntry | DeviceNote]) -> None:
    rows = [_row(dialect, entry) for entry in entries if isinstance(entry, DialogueEntry)]
    if rows:
        dialect.insert(cursor, "dialogue_entries", _COLUMNS, rows)
    for note in entries:
        if isinstance(note, DeviceNote):
            _write_note(cursor, dialect, note)


def _write_note(cursor: Any, dialect: SqlDialect, note: DeviceNote) -> None:
    others = "DELETE FROM device_notes WHERE device_id = %s AND kind = %s AND id <> %s"
    device_id, kind = text(note.device_id), note.kind.value
    cursor.execute(dialect.sql(others), (device_id, kind, str(note.id)))
    upto = None if note.upto is None else str(note.upto)
    row = (str(note.id), device_id, kind, text(note.text), upto, dialect.time_to(aware(note.at)))
    dialect.insert(cursor, "device_notes", _NOTE_COLUMNS, [row])


def _read_notes(cursor: Any, dialect: SqlDialect, device_id: str) -> list[DeviceNote]:
    statement = f"SELECT {_NOTE_COLUMNS} FROM device_notes WHERE device_id = %s ORDER BY number"
    cursor.execute(dialect.sql(statement), (text(device_id),))
    # Two simultaneous writers leave two notes of a kind.
    found: dict[NoteKind, DeviceNote] = {}
    for note_id, owner, kind, words, upto, at in cursor.fetchall():
        reach = None if upto is None else UUID(str(upto))
        found[NoteKind(kind)] = DeviceNote(
            UUID(str(note_id)), owner, dialect.time_from(at), NoteKind(kind), words, reach
        )
    return list(found.values())


def _read(
    cursor: Any, dialect: SqlDialect, device_id: str, limit: int, since: datetime
) -> list[DialogueEntry]:
    statement = (
        f"SELECT {_COLUMNS} FROM dialogue_entries WHERE device_id = %s AND created_at >= %s"
        " ORDER BY number DESC LIMIT %s"
    )
    cursor.execute(dialect.sql(statement), (text(device_id), dialect.time_to(aware(since)), limit))
    return [_entry(dialect, row) for row in reversed(cursor.fetchall())]


def _forget(cursor: Any, dialect: SqlDialect, device_id: str) -> None:
    for table in ("dialogue_entries", "device_notes"):
        cursor.execute(dialect.sql(f"DELETE FROM {table} WHERE device_id = %s"), (text(device_id),))


def _purge(cursor: Any, dialect: SqlDialect, before: datetime, limit: int) -> int:
    # Two simultaneous purges would wait for each other's rows.
    if not dialect.alone(cursor, "dialogue_entries"):
        return 0
    removed = 0
    for table, which in (("dialogue_entries", ""), ("device_notes", " AND kind = 'summary'")):
        statement = (
            f"DELETE FROM {table} WHERE number IN (SELECT number FROM {table}"
            f" WHERE created_at < %s{which} ORDER BY created_at LIMIT %s)"
        )
        time = dialect.time_to(aware(before))
        cursor.execute(dialect.sql(statement), (time, limit - removed))
        removed += int(cursor.rowcount)
    return removed


def _row(dialect: SqlDialect, entry: DialogueEntry) -> tuple[object, ...]:
    said = entry.said
    calls = [
        {"id": call.call_id, "name": call.name, "arguments": call.arguments} for call in said.calls
    ]
    return (
        str(entry.id),
        text(entry.device_id),
        said.role.value,
        text(said.text),
        to_json(calls),
        text(said.call_id),
        dialect.time_to(aware(entry.at)),
    )


def _entry(dialect: SqlDialect, row: Any) -> DialogueEntry:
    entry_id, device_id, role, words, calls, call_id, at = row
    found = json.loads(calls) if isinstance(calls, str) else calls
    made = tuple(ToolCall(call["id"], call["name"], call["arguments"]) for call in found)
    said = Utterance(Role(role), words, made, call_id)
    return DialogueEntry(UUID(entry_id), device_id, dialect.time_from(at), said)
