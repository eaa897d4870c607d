"""The differences between SQLite and PostgreSQL.

Functions that take a cursor run in one of the pool's threads.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Protocol

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from xiaozhi.base.errors import StoreError
from xiaozhi.storage.schema import sqlite_form

_UPGRADE_LOCK = 0x7869616F7A6869
"""Key of the advisory lock an upgrade holds: ``xiaozhi`` in ASCII."""


class SqlDialect(Protocol):
    """One kind of database, with the address of one.

    :ivar address: without a password, for logs.
    :ivar advice: remedy when it cannot be reached.
    :ivar driver: the DB-API module's import name.
    :ivar threads: the most useful connections; None: as configured.
    :ivar failures: the root of the driver's exceptions.
    :ivar rejections: those caused by a record.
    """

    address: str
    advice: str
    driver: str
    threads: int | None
    failures: type[Exception]
    rejections: tuple[type[Exception], ...]

    def prepare(self) -> None:
        """Prepare for the first connection.

        :raises OSError: the place cannot be made or used.
        """

    def connect_arguments(self) -> dict[str, Any]:
        """Return the arguments of the driver's ``connect``."""

    def opened(self, connection: Any) -> None:
        """Set up a new connection."""

    def lost(self, connection: Any) -> bool:
        """Whether a connection is of no further use."""

    def interrupt(self, connection: Any) -> None:
        """Make a call that blocks on a connection in another thread fail now."""

    def lock_schema(self, cursor: Any) -> None:
        """Begin a transaction that excludes other upgrades."""

    def alone(self, cursor: Any, job: str) -> bool:
        """Take a job's lock until the transaction ends; return False if another has it."""

    def has_table(self, cursor: Any, name: str) -> bool: ...

    def ddl(self, statement: str) -> str:
        """Translate a schema statement to this dialect."""

    def sql(self, statement: str) -> str:
        """Translate a statement with ``%s`` for parameters to this dialect."""

    def insert(
        self, cursor: Any, table: str, columns: str, rows: Sequence[Sequence[object]]
    ) -> None:
        """Insert rows, skipping those whose key exists."""

    def execute_each(self, cursor: Any, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute one statement for every row, in order."""

    def time_to(self, at: datetime) -> object: ...

    def time_from(self, value: Any) -> datetime: ...


class Sqlite:
    """A SQLite file, or ``:memory:``."""

    driver = "sqlite3"
    threads: int | None = 1  # SQLite allows one writer at a time
    advice = "Check that the directory exists and that this user may write there."
    failures: type[Exception] = sqlite3.Error
    rejections: tuple[type[Exception], ...] = (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        sqlite3.InterfaceError,
    )

    def __init__(self, path: str, *, busy_timeout: float = 5.0) -> None:
        """:param busy_timeout: seconds to wait for another process's transaction."""
        self.path = path
        self.address = f"sqlite:///{path}"
        self._busy_timeout = busy_timeout

    def prepare(self) -> None:
        if self.path == ":memory:":
            return
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), mode=0o700, exist_ok=True)
        # It holds transcripts: readable by the owner only.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))

    def connect_arguments(self) -> dict[str, Any]:
        # The pool's thread uses it; the reactor's thread closes it after that thread ended.
        return {
            "database": self.path,
            "timeout": self._busy_timeout,
            "check_same_thread": False,
        }

    def opened(self, connection: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        self._write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")

    def _write_ahead(self, connection: Any) -> None:
        """Turn WAL on. If that changes the file, as for a new one, SQLite fails at once
        while another process uses it; only a transaction waits.
        """
        until = monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > until:
                    raise
            connection.execute("BEGIN EXCLUSIVE")
            connection.rollback()

    def lost(self, connection: Any) -> bool:
        return False

    def interrupt(self, connection: Any) -> None:
        connection.interrupt()

    def lock_schema(self, cursor: Any) -> None:
        cursor.execute("BEGIN IMMEDIATE")

    def alone(self, cursor: Any, job: str) -> bool:
        return True  # one writer at a time

    def has_table(self, cursor: Any, name: str) -> bool:
        cursor.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
        return cursor.fetchone() is not None

    def ddl(self, statement: str) -> str:
        return sqlite_form(statement)

    def sql(self, statement: str) -> str:
        return statement.replace("%s", "?")

    def insert(
        self, cursor: Any, table: str, columns: str, rows: Sequence[Sequence[object]]
    ) -> None:
        marks = ", ".join("?" * len(rows[0]))
        cursor.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING", rows
        )

    def execute_each(self, cursor: Any, statement: str, rows: Sequence[Sequence[object]]) -> None:
        cursor.executemany(self.sql(statement), rows)

    def time_to(self, at: datetime) -> object:
        return at.astimezone(UTC).isoformat(timespec="microseconds")

    def time_from(self, value: Any) -> datetime:
        return datetime.fromisoformat(value).astimezone(UTC)


class Postgresql:
    """A PostgreSQL database, by its libpq URI."""

    driver = "psycopg2"
    threads: int | None = None
    advice = "Check that the server is running and that address, user and password are right."
    failures: type[Exception] = psycopg2.Error
    rejections: tuple[type[Exception], ...] = (psycopg2.IntegrityError, psycopg2.DataError)

    # Without these a vanished server holds a thread for hours. The address may override
    # them.
    _defaults: Mapping[str, str] = {
        "connect_timeout": "5",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "15000",
        "application_name": "xiaozhi-im",
    }

    def __init__(self, url: str) -> None:
        """:raises StoreError: invalid address; the error does not repeat it."""
        try:
            given = psycopg2.extensions.parse_dsn(url)
        except psycopg2.Error:
            raise StoreError(
                "bad_store_url",
                "store.url: is not a PostgreSQL address:"
                " expected postgresql://user:password@host:port/database",
            ) from None
        user = f"{given['user']}@" if "user" in given else ""
        port = f":{given['port']}" if "port" in given else ""
        self.address = f"postgresql://{user}{given.get('host', '')}{port}/{given.get('dbname', '')}"
        self._arguments = {**self._defaults, **given}

    def prepare(self) -> None:
        pass

    def connect_arguments(self) -> dict[str, Any]:
        return dict(self._arguments)

    def opened(self, connection: Any) -> None:
        pass

    def lost(self, connection: Any) -> bool:
        return bool(connection.closed)

    def interrupt(self, connection: Any) -> None:
        # Not cancel(): it asks the server, which may hang.
        with (
            suppress(psycopg2.Error, OSError),
            socket.socket(fileno=os.dup(connection.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)

    def lock_schema(self, cursor: Any) -> None:
        cursor.execute("SET LOCAL lock_timeout = '30s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_UPGRADE_LOCK,))

    def alone(self, cursor: Any, job: str) -> bool:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (job,))
        return bool(cursor.fetchone()[0])

    def has_table(self, cursor: Any, name: str) -> bool:
        cursor.execute("SELECT to_regclass(%s)", (name,))
        return cursor.fetchone()[0] is not None

    def ddl(self, statement: str) -> str:
        return statement

    def sql(self, statement: str) -> str:
        return statement

    def insert(
        self, cursor: Any, table: str, columns: str, rows: Sequence[Sequence[object]]
    ) -> None:
        psycopg2.extras.execute_values(
            cursor,
            f"INSERT INTO {table} ({columns}) VALUES %s ON CONFLICT DO NOTHING",
            rows,
            page_size=500,
        )

    def execute_each(self, cursor: Any, statement: str, rows: Sequence[Sequence[object]]) -> None:
        psycopg2.extras.execute_batch(cursor, statement, rows)

    def time_to(self, at: datetime) -> object:
        return at

    def time_from(self, value: Any) -> datetime:
        at: datetime = value.astimezone(UTC)
        return at
