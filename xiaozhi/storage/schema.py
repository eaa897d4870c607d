"""The database schema, as a list of migrations.

The statements are PostgreSQL's. ``schema.sql`` at the top of the repository is
rendered from them by :func:`render`, and SQLite's form is translated from them.
A released migration is never edited; append a new one to change the schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

_HEADER = """\
-- XiaoZhi IM: sessions, messages, connection events, dialogues and devices. PostgreSQL 13 or newer.
--
-- Load it into an empty database with: psql -v ON_ERROR_STOP=1 -f schema.sql
-- The service does the same by itself at its first start.
--
-- Rendered from xiaozhi/storage/schema.py; do not edit here.
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: from the version before it to its own.

    :ivar statements: PostgreSQL, one statement each, without the semicolon.
    """

    description: str
    statements: tuple[str, ...]


VERSION_TABLE = """\
CREATE TABLE schema_version (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    version INTEGER NOT NULL
)"""

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "sessions, messages and connection events",
        (
            """\
CREATE TABLE device_sessions (
    session_id VARCHAR(255) PRIMARY KEY,
    device_id VARCHAR(255) NOT NULL,
    client_id VARCHAR(255),
    user_id VARCHAR(255) NOT NULL,
    connected_at TIMESTAMPTZ DEFAULT NOW(),
    last_active_at TIMESTAMPTZ DEFAULT NOW(),
    status VARCHAR(20) DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'disconnected')),
    metadata JSONB DEFAULT '{}',
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW()
)""",
            "CREATE INDEX idx_device_sessions_device_id ON device_sessions(device_id)",
            "CREATE INDEX idx_device_sessions_user_id ON device_sessions(user_id)",
            "CREATE INDEX idx_device_sessions_status ON device_sessions(status)",
            "CREATE INDEX idx_device_sessions_last_active ON device_sessions(last_active_at DESC)",
            """\
CREATE TABLE message_logs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id VARCHAR(255) NOT NULL REFERENCES device_sessions(session_id),
    message_type VARCHAR(50) NOT NULL,
    content TEXT,
    direction VARCHAR(10) CHECK (direction IN ('inbound', 'outbound')),
    created_at TIMESTAMPTZ DEFAULT NOW()
)""",
            "CREATE INDEX idx_message_logs_session_id ON message_logs(session_id)",
            "CREATE INDEX idx_message_logs_created_at ON message_logs(created_at DESC)",
            "CREATE INDEX idx_message_logs_type ON message_logs(message_type)",
            """\
CREATE TABLE connection_events (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id VARCHAR(255) NOT NULL REFERENCES device_sessions(session_id),
    event_type VARCHAR(50) NOT NULL,
    event_data JSONB DEFAULT '{}',
    created_at TIMESTAMPTZ DEFAULT NOW()
)""",
            "CREATE INDEX idx_connection_events_session_id ON connection_events(session_id)",
            "CREATE INDEX idx_connection_events_created_at ON connection_events(created_at DESC)",
            "CREATE INDEX idx_connection_events_type ON connection_events(event_type)",
        ),
    ),
    Migration(
        "dialogues",
        (
            """\
CREATE TABLE dialogue_entries (
    number BIGSERIAL PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    device_id VARCHAR(255) NOT NULL,
    role VARCHAR(20) NOT NULL CHECK (role IN ('user', 'assistant', 'tool')),
    content TEXT NOT NULL,
    calls JSONB NOT NULL DEFAULT '[]',
    call_id TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
)""",
            "CREATE INDEX idx_dialogue_entries_device_id ON dialogue_entries(device_id, number)",
            "CREATE INDEX idx_dialogue_entries_created_at ON dialogue_entries(created_at)",
        ),
    ),
    Migration(
        "which edge process has a session",
        ("ALTER TABLE device_sessions ADD COLUMN node VARCHAR(255) NOT NULL DEFAULT ''",),
    ),
    Migration(
        "what is known of a device beside its dialogue",
        (
            """\
CREATE TABLE device_notes (
    number BIGSERIAL PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    device_id VARCHAR(255) NOT NULL,
    kind VARCHAR(20) NOT NULL CHECK (kind IN ('role', 'summary')),
    content TEXT NOT NULL,
    upto UUID,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
)""",
            "CREATE INDEX idx_device_notes_device_id ON device_notes(device_id, kind)",
            "CREATE INDEX idx_device_notes_created_at ON device_notes(created_at)",
        ),
    ),
    Migration(
        "to whom a device id belongs, and who asks for one",
        (
            """\
CREATE TABLE device_revision (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    revision BIGINT NOT NULL
)""",
            # Above all revisions of an earlier registry whose tokens may still be valid.
            "INSERT INTO device_revision (revision) SELECT EXTRACT(EPOCH FROM NOW())",
            """\
CREATE TABLE devices (
    device_id VARCHAR(255) PRIMARY KEY,
    client_digest VARCHAR(64) NOT NULL,
    serial_digest VARCHAR(64) NOT NULL DEFAULT '',
    state VARCHAR(20) NOT NULL CHECK (state IN ('approved', 'revoked')),
    revision BIGINT NOT NULL UNIQUE,
    revoked_at BIGINT NOT NULL DEFAULT 0,
    used BOOLEAN NOT NULL DEFAULT FALSE,
    about VARCHAR(255) NOT NULL DEFAULT '',
    first_seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    last_seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
)""",
            "CREATE INDEX idx_devices_last_seen_at ON devices(last_seen_at)",
            """\
CREATE TABLE device_claims (
    code VARCHAR(6) PRIMARY KEY,
    device_id VARCHAR(255) NOT NULL,
    client_digest VARCHAR(64) NOT NULL,
    serial_digest VARCHAR(64) NOT NULL DEFAULT '',
    about VARCHAR(255) NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 1,
    first_seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    last_seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    expires_at TIMESTAMPTZ NOT NULL,
    UNIQUE (device_id, client_digest, serial_digest)
)""",
            "CREATE INDEX idx_device_claims_expires_at ON device_claims(expires_at)",
        ),
    ),
    Migration(
        "values that tools keep",
        (
            """\
CREATE TABLE tool_values (
    source VARCHAR(64) NOT NULL,
    owner VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    value TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    PRIMARY KEY (source, owner, name)
)""",
            "CREATE INDEX idx_tool_values_owner ON tool_values(owner)",
        ),
    ),
)
"""Migration ``n`` of this list leads to version ``n + 1``."""

_HEX = "lower(hex(randomblob({})))"
_RANDOM_UUID = (
    "("
    + " || '-' || ".join(
        (
            _HEX.format(4),
            _HEX.format(2),
            "'4' || substr(" + _HEX.format(2) + ", 2)",
            "'8' || substr(" + _HEX.format(2) + ", 2)",
            _HEX.format(6),
        )
    )
    + ")"
)

_TO_SQLITE: tuple[tuple[re.Pattern[str], str], ...] = (
    # SQLite ignores the length of a VARCHAR; PostgreSQL does not.
    (re.compile(r"(\w+) VARCHAR\((\d+)\)"), r"\1 TEXT CHECK (length(\1) <= \2)"),
    # Never reuse a number, even of a deleted row.
    (re.compile(r"\bBIGSERIAL PRIMARY KEY"), "INTEGER PRIMARY KEY AUTOINCREMENT"),
    (re.compile(r"\bTIMESTAMPTZ\b"), "TEXT"),
    (re.compile(r"\bJSONB\b"), "TEXT"),
    (re.compile(r"\bUUID\b"), "TEXT"),
    (re.compile(r"EXTRACT\(EPOCH FROM NOW\(\)\)"), "CAST(strftime('%s', 'now') AS INTEGER)"),
    # The same width as the store writes, so that texts sort like times.
    (re.compile(r"\bNOW\(\)"), "(strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now'))"),
    (re.compile(r"\bgen_random_uuid\(\)"), _RANDOM_UUID),
)


@cache
def sqlite_form(statement: str) -> str:
    """Translate a statement for SQLite: times become ISO 8601 texts in UTC, JSON and UUIDs
    texts; constraints, keys and indexes are kept.
    """
    for pattern, replacement in _TO_SQLITE:
        statement = pattern.sub(replacement, statement)
    return statement


def render(migrations: Sequence[Migration] = MIGRATIONS) -> str:
    """Return the text of ``schema.sql``."""
    parts = [_HEADER, "BEGIN;\n", VERSION_TABLE + ";\n"]
    for version, migration in enumerate(migrations, 1):
        parts.append(f"-- {version}: {migration.description}\n")
        parts.extend(f"{statement};\n" for statement in migration.statements)
    parts.append(f"INSERT INTO schema_version (version) VALUES ({len(migrations)});\n")
    parts.append("COMMIT;\n")
    return "\n".join(parts)
