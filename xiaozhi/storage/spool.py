"""Log records on disk while the session store is away.

Each process owns a SQLite file in the state directory. A transaction survives a crash of
the process; a crash of the machine may lose the last ones (WAL, ``synchronous = NORMAL``).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import (
    EventLogged,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionStarted,
)
from xiaozhi.interfaces import ISpool
from xiaozhi.storage.database import Connections, Database, Pool
from xiaozhi.storage.dialects import Sqlite
from xiaozhi.storage.forms import to_json
from xiaozhi.storage.schema import Migration

# Processes that may share a state directory.
_SLOTS = 256
# Approximate overhead of a row in octets.
_ROW = 60
# Rows dropped at a time when full: of a device, and of sessions.
_SHED_OF_ONE, _SHED = 50, 500

_KINDS: dict[str, Any] = {
    "started": SessionStarted,
    "changed": SessionChanged,
    "message": MessageLogged,
    "event": EventLogged,
}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}

MIGRATIONS = (
    Migration(
        "records in the order they were noted",
        (
            """\
CREATE TABLE spool (
    number BIGSERIAL PRIMARY KEY,
    kind TEXT NOT NULL,
    record TEXT NOT NULL,
    octets INTEGER NOT NULL
)""",
            "CREATE INDEX idx_spool_entries ON spool(number) WHERE kind IN ('message', 'event')",
            # Counting a full spool would take longer than writing to it.
            "CREATE TABLE totals (count INTEGER NOT NULL, octets INTEGER NOT NULL)",
            "INSERT INTO totals VALUES (0, 0)",
            """\
CREATE TRIGGER added AFTER INSERT ON spool BEGIN
    UPDATE totals SET count = count + 1, octets = octets + NEW.octets;
END""",
            """\
CREATE TRIGGER removed AFTER DELETE ON spool BEGIN
    UPDATE totals SET count = count - 1, octets = octets - OLD.octets;
END""",
        ),
    ),
    Migration(
        "how much each device has",
        (
            "ALTER TABLE spool ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
            (
                "CREATE INDEX idx_spool_owner ON spool(owner, number)"
                " WHERE kind IN ('message', 'event')"
            ),
            "CREATE TABLE shares (owner TEXT PRIMARY KEY, octets INTEGER NOT NULL)",
            "CREATE INDEX idx_shares ON shares(octets)",
            (
                "INSERT INTO shares SELECT owner, SUM(octets) FROM spool"
                " WHERE kind IN ('message', 'event') GROUP BY owner"
            ),
            """\
CREATE TRIGGER share_grown AFTER INSERT ON spool WHEN NEW.kind IN ('message', 'event') BEGIN
    INSERT INTO shares VALUES (NEW.owner, NEW.octets)
        ON CONFLICT (owner) DO UPDATE SET octets = octets + NEW.octets;
END""",
            """\
CREATE TRIGGER share_shrunk AFTER DELETE ON spool WHEN OLD.kind IN ('message', 'event') BEGIN
    UPDATE shares SET octets = octets - OLD.octets WHERE owner = OLD.owner;
    DELETE FROM shares WHERE owner = OLD.owner AND octets <= 0;
END""",
        ),
    ),
)


class _File(Sqlite):
    """The first file of a directory that no living process owns."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory / "spool.sqlite3"))
        self._directory = directory
        self._lock: int | None = None

    def prepare(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock is None:
            for number in range(1, _SLOTS + 1):
                path = self._directory / f"spool-{number}.sqlite3"
                self._lock = _locked(path)
                if self._lock is not None:
                    self.path = str(path)
                    self.address = f"sqlite:///{path}"
                    break
            else:
                raise OSError(f"{_SLOTS} processes use this directory already")
        super().prepare()

    def release(self) -> None:
        """Release the file for other processes."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def opened(self, connection: Any) -> None:
        super().opened(connection)
        connection.execute("PRAGMA journal_size_limit = 1048576")

    def others(self) -> list[Path]:
        """Return the directory's files that are not ours."""
        return [
            path
            for path in sorted(self._directory.glob("spool-*.sqlite3"))
            if str(path) != self.path
        ]


@implementer(ISpool)
class Spool(Database):
    """See :class:`~xiaozhi.interfaces.ISpool`; its errors are those of a database, and
    ``spool_broken``: the file is damaged.
    """

    _log = Logger()

    def __init__(
        self, directory: Path, reactor: Any, *, limit: int, pool: type[Pool] = Pool
    ) -> None:
        """:param limit: octets of records; beyond, the oldest messages and events are dropped."""
        self._file = _File(directory)
        super().__init__(
            self._file,
            reactor,
            name="spool",
            connections=Connections(pool=pool),
            migrations=MIGRATIONS,
        )
        self._limit = limit
        self.count = 0
        self.octets = 0
        self.oldest: datetime | None = None

    def put(self, records: Sequence[LogRecord], after: int = 0) -> Deferred[int]:
        return Deferred.fromCoroutine(self._put(tuple(records), after))

    def take(self, limit: int) -> Deferred[list[tuple[int, LogRecord | None]]]:
        return Deferred.fromCoroutine(self._counted(partial(_take, limit=limit)))

    def discard(self, through: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self._discard(through))

    def renew(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self._renew())

    async def _start(self) -> None:
        try:
            await super()._start()
            await self._counted(_nothing)
        except StoreError as error:
            if not _is_broken(error):
                await super()._stop()
                self._file.release()
                raise
            await self._renew()
        for path in self._file.others():
            await self._adopt(path)

    async def _stop(self) -> None:
        await super()._stop()
        self._file.release()

    async def _put(self, records: tuple[LogRecord, ...], after: int) -> int:
        work = partial(_put, records=records, after=after, limit=self._limit)
        lost: int = await self._counted(work)
        return lost

    async def _discard(self, through: int) -> None:
        await self._counted(partial(_discard, through=through))
        if not self.count:
            # Return free pages to the file system; a failure is retried the next time.
            with suppress(StoreError):
                await self._run(_shrink)

    async def _counted(self, work: Any) -> Any:
        """Run a change, then update the counts."""
        try:
            result, self.count, self.octets, self.oldest = await self._run(partial(_also, work))
        except StoreError as error:
            if _is_broken(error):
                raise StoreError("spool_broken", error.message) from error
            raise
        return result

    async def _renew(self) -> int:
        lost = self.count
        await super()._stop()
        path = self._file.path
        with suppress(OSError):
            os.replace(path, path + ".broken")
        _remove(path, "-wal", "-shm")
        self._log.error(
            "{path} is damaged: renamed to {path}.broken, and a new one was made", path=path
        )
        await super()._start()
        await self._counted(_nothing)
        return lost

    async def _adopt(self, path: Path) -> None:
        """Take over the records of a process that has ended."""
        lock = _locked(path)
        if lock is None:
            return
        try:
            count = await self._counted(partial(_copy, path=path))
            _remove(str(path), "", "-wal", "-shm")
            if count:
                self._log.info("{count} records found in {path}", count=count, path=path)
        except (StoreError, OSError) as error:
            self._log.warn("{path} was not taken over: {error}", path=path, error=str(error))
        finally:
            os.close(lock)


def _locked(path: Path) -> int | None:
    """Lock a file until it is closed; None: another process holds it."""
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove(path: str, *suffixes: str) -> None:
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            os.remove(path + suffix)


def _is_broken(error: BaseException | None) -> bool:
    while error is not None:
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
            return True
        error = error.__cause__
    return False


# --- in the thread ----------------------------------------------------------------------


def _also(work: Any, cursor: Any) -> tuple[Any, int, int, datetime | None]:
    result = work(cursor)
    cursor.execute("SELECT count, octets FROM totals")
    count, octets = cursor.fetchone()
    cursor.execute("SELECT kind, record FROM spool ORDER BY number LIMIT 1")
    first = cursor.fetchone()
    oldest = _from_text(*first) if first else None
    return result, count, octets, oldest.at if oldest else None


def _nothing(cursor: Any) -> None:
    pass


def _put(cursor: Any, records: Sequence[LogRecord], after: int, limit: int) -> int:
    rows = [row for row in map(_row, records) if row is not None]
    cursor.executemany("INSERT INTO spool (kind, record, octets, owner) VALUES (?, ?, ?, ?)", rows)
    return len(records) - len(rows) + _shed(cursor, after, limit)


def _row(record: LogRecord) -> tuple[str, str, int, str] | None:
    """Convert a record to a row; None: the store would reject it too."""
    try:
        text = to_json(msgspec.to_builtins(record))
    except (TypeError, ValueError):
        return None
    owner = getattr(record, "device_id", "")
    return _KIND_OF[type(record)], text, len(text.encode()) + _ROW, owner


def _shed(cursor: Any, after: int, limit: int) -> int:
    """Drop the oldest messages and events of the device that has most, and sessions' rows
    only if nothing else is left. Return the number dropped.
    """
    cursor.execute("SELECT octets FROM totals")
    (octets,) = cursor.fetchone()
    gone = 0
    while octets > limit:
        found = _heaviest(cursor, after)
        if not found:
            cursor.execute(
                "SELECT number, octets FROM spool WHERE number > ? ORDER BY number LIMIT ?",
                (after, _SHED),
            )
            found = cursor.fetchall()
        if not found:
            break
        for number, size in found:
            if octets <= limit:
                break
            cursor.execute("DELETE FROM spool WHERE number = ?", (number,))
            octets -= size
            gone += 1
    return gone


def _heaviest(cursor: Any, after: int) -> list[tuple[int, int]]:
    """Return some of the oldest rows of the device that has most, after number ``after``."""
    cursor.execute("SELECT owner FROM shares ORDER BY octets DESC LIMIT 1")
    for (owner,) in cursor.fetchall():
        cursor.execute(
            "SELECT number, octets FROM spool WHERE kind IN ('message', 'event')"
            " AND owner = ? AND number > ? ORDER BY number LIMIT ?",
            (owner, after, _SHED_OF_ONE),
        )
        if found := cursor.fetchall():
            return list(found)
    # All its rows are being written: take the next in order.
    cursor.execute(
        "SELECT number, octets FROM spool WHERE kind IN ('message', 'event') AND number > ?"
        " ORDER BY number LIMIT ?",
        (after, _SHED_OF_ONE),
    )
    return list(cursor.fetchall())


def _take(cursor: Any, limit: int) -> list[tuple[int, LogRecord | None]]:
    cursor.execute("SELECT number, kind, record FROM spool ORDER BY number LIMIT ?", (limit,))
    return [(number, _from_text(kind, text)) for number, kind, text in cursor.fetchall()]


def _from_text(kind: str, text: str) -> LogRecord | None:
    try:
        record: LogRecord = msgspec.json.decode(text, type=_KINDS[kind])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return None
    return record


def _discard(cursor: Any, through: int) -> None:
    cursor.execute("DELETE FROM spool WHERE number <= ?", (through,))


def _shrink(cursor: Any) -> None:
    cursor.execute("VACUUM")


def _copy(cursor: Any, path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        # A file of an earlier version has no owners.
        columns = [name for _, name, *_ in other.execute("PRAGMA table_info(spool)")]
        owner = "owner" if "owner" in columns else "''"
        rows = other.execute(f"SELECT kind, record, octets, {owner} FROM spool ORDER BY number")
        cursor.executemany(
            "INSERT INTO spool (kind, record, octets, owner) VALUES (?, ?, ?, ?)", rows
        )
    return int(cursor.rowcount)
