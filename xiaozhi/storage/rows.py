"""Conversion between log records and rows; all SQL of the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from xiaozhi.base.values import (
    EventLogged,
    LogDirection,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionRow,
    SessionStarted,
    SessionStatus,
)
from xiaozhi.storage.dialects import SqlDialect
from xiaozhi.storage.forms import aware, text, to_json

_TYPE_LENGTH = 50
"""Of ``message_type`` and ``event_type``; a device may send a longer one."""

_SESSION = (
    "session_id, device_id, client_id, user_id, connected_at, last_active_at, status, metadata,"
    " node"
)
_MESSAGE = "id, session_id, message_type, direction, content, created_at"
_EVENT = "id, session_id, event_type, created_at, event_data"


def write(cursor: Any, dialect: SqlDialect, records: Sequence[LogRecord]) -> None:
    """Write a batch.

    It uses one statement a kind where possible: sessions first, since the others refer to
    them; changes last and in order, so that the latest one wins.
    """
    sessions: list[tuple[object, ...]] = []
    messages: list[tuple[object, ...]] = []
    events: list[tuple[object, ...]] = []
    changes: list[tuple[object, ...]] = []
    for record in records:
        at = dialect.time_to(aware(record.at))
        match record:
            case SessionStarted():
                sessions.append(
                    (
                        record.session_id,
                        record.device_id,
                        record.client_id or None,
                        record.user_id,
                        at,
                        at,
                        SessionStatus.ACTIVE.value,
                        to_json(record.metadata),
                        text(record.node),
                        at,
                        at,
                    )
                )
            case MessageLogged():
                kind = text(record.message_type)[:_TYPE_LENGTH]
                content = None if record.content is None else text(record.content)
                messages.append(
                    (str(record.id), record.session_id, kind, record.direction.value, content, at)
                )
            case EventLogged():
                kind = text(record.event_type)[:_TYPE_LENGTH]
                events.append((str(record.id), record.session_id, kind, at, to_json(record.data)))
            case SessionChanged():
                ends = record.status is SessionStatus.DISCONNECTED
                changes.append((record.status.value, at, at, record.session_id, at, ends))
    if sessions:
        columns = f"{_SESSION}, created_at, updated_at"
        dialect.insert(cursor, "device_sessions", columns, sessions)
    if messages:
        dialect.insert(cursor, "message_logs", _MESSAGE, messages)
    if events:
        dialect.insert(cursor, "connection_events", _EVENT, events)
    if changes:
        dialect.execute_each(
            cursor,
            # A record written again after a crash must not undo a later one.
            "UPDATE device_sessions SET status = %s, last_active_at = %s, updated_at = %s"
            " WHERE session_id = %s AND (last_active_at <= %s OR %s)",
            changes,
        )


def read_session(cursor: Any, dialect: SqlDialect, session_id: str) -> SessionRow | None:
    statement = f"SELECT {_SESSION} FROM device_sessions WHERE session_id = %s"
    cursor.execute(dialect.sql(statement), (session_id,))
    row = cursor.fetchone()
    return None if row is None else _session(dialect, row)


def read_sessions_of(
    cursor: Any, dialect: SqlDialect, device_id: str, limit: int
) -> list[SessionRow]:
    statement = (
        f"SELECT {_SESSION} FROM device_sessions WHERE device_id = %s"
        " ORDER BY connected_at DESC, session_id DESC LIMIT %s"
    )
    cursor.execute(dialect.sql(statement), (device_id, limit))
    return [_session(dialect, row) for row in cursor.fetchall()]


def read_messages(
    cursor: Any, dialect: SqlDialect, session_id: str, limit: int
) -> list[MessageLogged]:
    rows = _latest(cursor, dialect, "message_logs", _MESSAGE, session_id, limit)
    return [
        MessageLogged(
            UUID(row[0]), row[1], row[2], LogDirection(row[3]), row[4], dialect.time_from(row[5])
        )
        for row in rows
    ]


def read_events(cursor: Any, dialect: SqlDialect, session_id: str, limit: int) -> list[EventLogged]:
    rows = _latest(cursor, dialect, "connection_events", _EVENT, session_id, limit)
    return [
        EventLogged(UUID(row[0]), row[1], row[2], dialect.time_from(row[3]), _mapping(row[4]))
        for row in rows
    ]


def purge(cursor: Any, dialect: SqlDialect, before: datetime, limit: int) -> int:
    """Delete old messages and events, then sessions that nothing refers to.

    :return: number of rows deleted.
    """
    if not dialect.alone(cursor, "purge"):
        return 0
    at = dialect.time_to(aware(before))
    gone = 0
    for table in ("message_logs", "connection_events"):
        statement = (
            f"DELETE FROM {table} WHERE id IN"
            f" (SELECT id FROM {table} WHERE created_at < %s ORDER BY created_at LIMIT %s)"
        )
        cursor.execute(dialect.sql(statement), (at, limit - gone))
        gone += int(cursor.rowcount)
    statement = (
        "DELETE FROM device_sessions WHERE session_id IN (SELECT session_id FROM device_sessions s"
        " WHERE last_active_at < %s AND status <> 'active'"
        " AND NOT EXISTS (SELECT 1 FROM message_logs m WHERE m.session_id = s.session_id)"
        " AND NOT EXISTS (SELECT 1 FROM connection_events e WHERE e.session_id = s.session_id)"
        " ORDER BY last_active_at LIMIT %s)"
    )
    cursor.execute(dialect.sql(statement), (at, limit - gone))
    return gone + int(cursor.rowcount)


def close_left(
    cursor: Any,
    dialect: SqlDialect,
    *,
    node: str,
    started: datetime,
    silent_since: datetime,
    limit: int,
) -> int:
    """Mark sessions without a living process as disconnected."""
    if not dialect.alone(cursor, "close_left"):
        return 0
    statement = (
        "UPDATE device_sessions SET status = 'disconnected' WHERE session_id IN"
        " (SELECT session_id FROM device_sessions WHERE status = 'active'"
        " AND (last_active_at < %s OR (node = %s AND connected_at < %s)) LIMIT %s)"
    )
    silent, begun = (dialect.time_to(aware(at)) for at in (silent_since, started))
    cursor.execute(dialect.sql(statement), (silent, text(node), begun, limit))
    return int(cursor.rowcount)


def _latest(
    cursor: Any, dialect: SqlDialect, table: str, columns: str, session_id: str, limit: int
) -> list[Any]:
    statement = (
        f"SELECT {columns} FROM {table} WHERE session_id = %s"
        " ORDER BY created_at DESC, id DESC LIMIT %s"
    )
    cursor.execute(dialect.sql(statement), (session_id, limit))
    return list(reversed(cursor.fetchall()))


def _session(dialect: SqlDialect, row: Any) -> SessionRow:
    return SessionRow(
        session_id=row[0],
        device_id=row[1],
        client_id=row[2] or "",
        user_id=row[3],
        connected_at=dialect.time_from(row[4]),
        last_active_at=dialect.time_from(row[5]),
        status=SessionStatus(row[6]),
        metadata=_mapping(row[7]),
        node=row[8],
    )


def _mapping(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found or {}
