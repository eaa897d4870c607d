"""Values that tools keep: in SQLite, in PostgreSQL, or in memory."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, execute, succeed
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IToolStore
from xiaozhi.storage.database import Database
from xiaozhi.storage.dialects import SqlDialect
from xiaozhi.storage.forms import text

#: Values of one owner in one source.
VALUES_LIMIT = 1000

_PLACE = "source = %s AND owner = %s"
_PUT = (
    "INSERT INTO tool_values (source, owner, name, value, updated_at)"
    " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (source, owner, name)"
    " DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at"
)


def _full(source: str) -> StoreError:
    return StoreError("too_many_values", f"{source} keeps {VALUES_LIMIT} values of it already")


@implementer(IToolStore)
class SqlToolStore(Database):
    """The table ``tool_values``.

    The database opens at its first use: most installations have no tool that stores values,
    and an unreachable database must not keep the service from starting.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._opening = DeferredLock()
        self._closed = False

    def start(self) -> Deferred[None]:
        """Do nothing: the first use opens the database."""
        self._closed = False
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Close every connection. Idempotent."""
        self._closed = True
        return super().stop()

    def get(self, source: str, owner: str, key: str) -> Deferred[str | None]:
        return self._do(_get, text(source), text(owner), text(key))

    def put(self, source: str, owner: str, key: str, value: str) -> Deferred[None]:
        return self._do(_put, text(source), text(owner), text(key), text(value))

    def remove(self, source: str, owner: str, key: str) -> Deferred[None]:
        return self._do(_remove, text(source), text(owner), text(key))

    def of(self, source: str, owner: str) -> Deferred[dict[str, str]]:
        return self._do(_of, text(source), text(owner))

    def forget(self, owner: str) -> Deferred[None]:
        return self._do(_forget, text(owner))

    def _do(self, work: Any, *arguments: str) -> Deferred[Any]:
        async def opened() -> Any:
            await self._opening.run(self._open)
            return await self._run(partial(_call, work, self._dialect, arguments))

        return Deferred.fromCoroutine(opened())

    def _open(self) -> Deferred[None]:
        if self._pool is not None or self._closed:
            return succeed(None)
        return super().start()


def _call(work: Any, dialect: SqlDialect, arguments: tuple[str, ...], cursor: Any) -> Any:
    return work(cursor, dialect, *arguments)


def _get(cursor: Any, dialect: SqlDialect, *place: str) -> str | None:
    statement = f"SELECT value FROM tool_values WHERE {_PLACE} AND name = %s"
    cursor.execute(dialect.sql(statement), place)
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def _put(cursor: Any, dialect: SqlDialect, *row: str) -> None:
    statement = f"SELECT COUNT(*) FROM tool_values WHERE {_PLACE} AND name <> %s"
    cursor.execute(dialect.sql(statement), row[:3])
    if cursor.fetchone()[0] >= VALUES_LIMIT:
        raise _full(row[0])
    cursor.execute(dialect.sql(_PUT), (*row, dialect.time_to(datetime.now(UTC))))


def _remove(cursor: Any, dialect: SqlDialect, *place: str) -> None:
    cursor.execute(dialect.sql(f"DELETE FROM tool_values WHERE {_PLACE} AND name = %s"), place)


def _of(cursor: Any, dialect: SqlDialect, *place: str) -> dict[str, str]:
    statement = f"SELECT name, value FROM tool_values WHERE {_PLACE} ORDER BY name"
    cursor.execute(dialect.sql(statement), place)
    return {str(name): str(value) for name, value in cursor.fetchall()}


def _forget(cursor: Any, dialect: SqlDialect, owner: str) -> None:
    cursor.execute(dialect.sql("DELETE FROM tool_values WHERE owner = %s"), (owner,))


@implementer(IToolStore)
class MemoryToolStore:
    """Values kept in the process.

    :param owners: the most pairs of source and owner; beyond, the least recently written is
        forgotten.
    """

    def __init__(self, owners: int = 10_000) -> None:
        self._most = owners
        self._places: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def get(self, source: str, owner: str, key: str) -> Deferred[str | None]:
        return succeed(self._places.get((source, owner), {}).get(key))

    def put(self, source: str, owner: str, key: str, value: str) -> Deferred[None]:
        return execute(self._put, source, owner, key, value)

    def _put(self, source: str, owner: str, key: str, value: str) -> None:
        values = self._places.setdefault((source, owner), {})
        if key not in values and len(values) >= VALUES_LIMIT:
            raise _full(source)
        values[key] = text(value)
        self._places.move_to_end((source, owner))
        if len(self._places) > self._most:
            self._places.popitem(last=False)

    def remove(self, source: str, owner: str, key: str) -> Deferred[None]:
        self._places.get((source, owner), {}).pop(key, None)
        return succeed(None)

    def of(self, source: str, owner: str) -> Deferred[dict[str, str]]:
        return succeed(dict(sorted(self._places.get((source, owner), {}).items())))

    def forget(self, owner: str) -> Deferred[None]:
        for place in [place for place in self._places if place[1] == owner]:
            del self._places[place]
        return succeed(None)
