"""Our databases over ``twisted.enterprise.adbapi``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from xiaozhi.base.errors import StoreError
from xiaozhi.storage.dialects import SqlDialect
from xiaozhi.storage.schema import MIGRATIONS, Migration
from xiaozhi.storage.upgrade import upgrade

T = TypeVar("T")

# Seconds for an upgrade; less than a component's limit for its start.
_UPGRADE_LIMIT = 50.0


class _Connection(adbapi.Connection):
    """Drops a lost connection quietly; adbapi's own class logs an error and keeps it."""

    def rollback(self) -> None:
        connection: Any = self._connection
        try:
            connection.rollback()
        except Exception:
            with suppress(Exception):
                self._pool.disconnect(connection)


class Pool(adbapi.ConnectionPool):
    """A pool of threads, each with a connection."""

    connectionFactory = _Connection


class _Deadline:
    """Interrupts a thread's call after a time limit. Without it, a hanging server or a
    locked table would hold the thread, and the end of this process, for ever.

    :param seconds: from now.
    :param interrupt: called with the connection in use.
    """

    def __init__(self, reactor: Any, seconds: float, interrupt: Callable[[Any], None]) -> None:
        self._seconds = seconds
        self._interrupt = interrupt
        self._passed = False
        self._connection: Any = None
        self._call = reactor.callLater(seconds, self._pass)

    def watch(self, connection: Any) -> None:
        """Set the connection in use, or None; called in the thread.

        :raises TimeoutError: the deadline has passed.
        """
        self._connection = connection
        if self._passed:
            raise TimeoutError(f"no answer within {self._seconds:g} s")

    def cancel(self) -> None:
        """Cancel the deadline."""
        if self._call.active():
            self._call.cancel()

    def _pass(self) -> None:
        self._passed = True
        if self._connection is not None:
            self._interrupt(self._connection)


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections to a database.

    :ivar size: number of connections, if the database allows several.
    :ivar pool: runs calls in threads, one for each connection.
    :ivar answer_limit: seconds one call may take.
    """

    size: int = 4
    pool: type[Pool] = Pool
    answer_limit: float = 15.0


class Database:
    """SQLite or PostgreSQL with our schema; calls run in threads, a transaction each.

    Errors carry one of the codes ``store_unavailable`` (a retry may help),
    ``store_rejected`` (a record cannot be stored) and ``store_closed``; at the
    start also ``schema_too_new`` and ``schema_foreign``.
    """

    _log = Logger()

    def __init__(
        self,
        dialect: SqlDialect,
        reactor: Any,
        *,
        name: str = "session store",
        connections: Connections = Connections(),
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        """
        :param name: names the store in errors and the log.
        """
        self._dialect = dialect
        self._name = name
        self._reactor = reactor
        self._pool_size = dialect.threads or connections.size
        self._new_pool = connections.pool
        self._migrations = migrations
        self._answer_limit = connections.answer_limit
        self._pool: Any = None
        self._running: set[Deferred[Any]] = set()

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        try:
            self._dialect.prepare()
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        # Not in __init__: a thread started before twistd forks is lost.
        self._pool = self._new_pool(
            self._dialect.driver,
            cp_min=1,
            cp_max=self._pool_size,
            cp_reactor=self._reactor,
            cp_openfun=self._dialect.opened,
            **self._dialect.connect_arguments(),
        )
        try:
            found = await self._run(
                partial(upgrade, dialect=self._dialect, migrations=self._migrations),
                _UPGRADE_LIMIT,
            )
        except StoreError as error:
            await self._stop()
            if error.code in ("store_unavailable", "store_rejected"):
                raise self._unreachable(_reason(error.__cause__ or error)) from error
            raise
        if found < len(self._migrations):
            self._log.info(
                "{name} {address}: schema upgraded from version {old} to {new}",
                name=self._name,
                address=self._dialect.address,
                old=found,
                new=len(self._migrations),
            )

    async def _stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # Closing joins the threads: let them finish first, or the reactor waits.
        await DeferredList(list(self._running))
        pool.close()

    def _run(self, work: Callable[[Any], T], limit: float | None = None) -> Deferred[T]:
        return Deferred.fromCoroutine(self._in_pool(work, limit or self._answer_limit))

    async def _in_pool(self, work: Callable[[Any], T], limit: float) -> T:
        if self._pool is None:
            raise StoreError("store_closed", f"the {self._name} is not open")
        # Cancelling the Deferred does not stop the thread, so stop() waits for it.
        answer: Deferred[T] = Deferred()
        done: Deferred[None] = Deferred()
        self._running.add(done)
        deadline = _Deadline(self._reactor, limit, self._dialect.interrupt)

        def finished(result: T) -> None:
            deadline.cancel()
            self._running.discard(done)
            answer.callback(result)
            done.callback(None)

        self._pool.runWithConnection(self._in_thread, work, deadline).addBoth(finished)
        try:
            return await answer
        except StoreError:
            raise
        except self._dialect.rejections as error:
            raise self._failed("store_rejected", error) from error
        except (TimeoutError, self._dialect.failures) as error:
            raise self._failed("store_unavailable", error) from error
        except (ValueError, TypeError) as error:
            raise self._failed("store_rejected", error) from error

    def _in_thread(self, connection: Any, work: Callable[[Any], T], deadline: _Deadline) -> T:
        try:
            return self._once(connection, work, deadline)
        except self._dialect.failures:
            deadline.watch(None)
            if not self._dialect.lost(connection):
                raise
        # The server went away since the last use of this connection. All our transactions
        # can be repeated, whatever happened to this one.
        connection.reconnect()
        return self._once(connection, work, deadline)

    def _once(self, connection: Any, work: Callable[[Any], T], deadline: _Deadline) -> T:
        deadline.watch(connection._connection)
        cursor = connection.cursor()
        result = work(cursor)
        cursor.close()
        connection.commit()
        return result

    def _failed(self, code: str, error: Exception) -> StoreError:
        return StoreError(code, f"the {self._name} at {self._dialect.address}: {_reason(error)}")

    def _unreachable(self, reason: str) -> StoreError:
        return StoreError(
            "store_unavailable",
            f"cannot open the {self._name} at {self._dialect.address}: {reason}."
            f" {self._dialect.advice}",
        )


def _reason(error: BaseException) -> str:
    # The first line only: later ones may quote the row, which holds transcripts.
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
