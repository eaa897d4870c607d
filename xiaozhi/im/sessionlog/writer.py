"""Log writer: writes records to the session store, in batches, in the background."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import LogRecord
from xiaozhi.im.sessionlog.backlog import Backlog
from xiaozhi.im.sessionlog.spooling import Spooling
from xiaozhi.interfaces import ISessionStore, ISpool


class _Enough(Exception):
    """Stop writing: the rest goes to the spool."""


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """Batches, retries and use of the spool.

    :ivar flush_interval: seconds that the first record of a batch waits for others.
    :ivar batch_size: records per transaction.
    :ivar spool_after: seconds without an answer of the store after which records are spooled.
    :ivar spool_from: number of records in memory from which they are spooled in any case.
    :ivar spool_from_octets: the same, in bytes.
    :ivar retry_delays: delay of the first retry in seconds, which doubles up to the second
        value.
    """

    flush_interval: float
    batch_size: int
    spool_after: float
    spool_from: int
    spool_from_octets: int
    retry_delays: tuple[float, float]


class LogWriter:
    """Writes the backlog to the store, one transaction after the other.

    Spooled records are written before those in memory; newly spooled ones follow them. Rows of
    sessions therefore precede the rows that refer to them. One transaction with the store and
    one with the spool may run at the same time.
    """

    _log = Logger()

    def __init__(
        self,
        store: ISessionStore,
        spool: ISpool | None,
        backlog: Backlog,
        clock: IReactorTime,
        settings: WriterSettings,
    ) -> None:
        self._store = store
        self._backlog = backlog
        self._clock = clock
        self._settings = settings
        self._spooling = Spooling(spool, backlog, clock) if spool is not None else None
        # Used without a spool; with one, Spooling.held is.
        self._held: tuple[LogRecord, ...] = ()
        self._size = settings.batch_size
        self._state = "idle"  # then started, stopping
        self._since: float | None = None
        self._flush_call: IDelayedCall | None = None
        self._retry_call: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._failures = 0
        self._is_closed = False
        self.trouble = ""

    @property
    def spooled(self) -> int:
        """Records in the spool."""
        return self._spooling.count if self._spooling is not None else 0

    # --- life -------------------------------------------------------------------------

    async def start(self) -> None:
        """Start to write, first the records of an earlier process."""
        if self._spooling is not None:
            await self._spooling.start()
            if self.spooled:
                self._log.info("session log: {count} records in the spool", count=self.spooled)
        self._state = "started"
        self.noted()

    async def stop(self, timeout: float) -> None:
        """Write all records, or else spool them.

        :param timeout: maximum seconds to wait for the store.
        """
        was, self._state = self._state, "stopping"
        self._cancel_flush()
        if was != "started":
            return
        if self._spooling is not None:
            self._spooling.leave()
        self._write()
        if self._retry_call is not None:
            self._retry_call.reset(0)
        if self._writing is not None:
            await self._writing.addTimeout(timeout, self._clock)
        if self._spooling is not None:
            await self._spooling.everything()

    def noted(self) -> None:
        """Schedule work for the backlog, which may have records."""
        if self._state != "started":
            return
        spooling, settings = self._spooling, self._settings
        waiting = len(self._backlog)
        if spooling is not None and waiting:
            if waiting >= settings.spool_from or self._backlog.octets >= settings.spool_from_octets:
                spooling.soon(0)
            elif self._overdue():
                spooling.soon(settings.flush_interval)
        if self._writing is not None or not (waiting or self.spooled):
            return
        delay = 0.0 if waiting >= settings.batch_size or self.spooled else settings.flush_interval
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(delay, self._write)
        elif delay == 0.0 and self._flush_call.getTime() > self._clock.seconds():
            self._flush_call.reset(0)

    @property
    def held(self) -> tuple[LogRecord, ...]:
        """Records taken from memory and not written yet."""
        return self._held if self._spooling is None else self._spooling.held

    @held.setter
    def held(self, records: tuple[LogRecord, ...]) -> None:
        if self._spooling is None:
            self._held = records
        else:
            self._spooling.held = records

    def _overdue(self) -> bool:
        since = self._since
        return since is not None and self._clock.seconds() - since >= self._settings.spool_after

    # --- writing ----------------------------------------------------------------------

    def _cancel_flush(self) -> None:
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None

    def _write(self) -> None:
        self._cancel_flush()
        if self._writing is not None:
            return
        writing = self._writing = Deferred.fromCoroutine(self._write_all())

        def written(result: object) -> None:
            self._writing = None
            self.noted()

        writing.addBoth(written)

    async def _write_all(self) -> None:
        """Run one transaction after the other until no records are left.

        A batch that the store rejects for its content is halved until the invalid record is
        alone; that record is dropped.
        """
        spooling = self._spooling
        self._size = self._settings.batch_size
        with suppress(_Enough):
            while True:
                if spooling is not None:
                    await spooling.settled()
                    if spooling.count and spooling.usable:
                        await self._write_spooled(spooling)
                        continue
                if not await self._write_memory():
                    return

    async def _write_spooled(self, spooling: Spooling) -> None:
        if self._state == "stopping":
            raise _Enough
        found = await spooling.oldest(self._size)
        records = tuple(record for _, record in found if record is not None)
        if found and await self._append(records):
            self._backlog.lost("unreadable", len(found) - len(records))
            await spooling.written(found[-1][0])

    async def _write_memory(self) -> bool:
        """:return: whether there was anything to write."""
        if not self.held:
            self.held = tuple(self._backlog.take(self._settings.batch_size))
        part = self.held[: self._size]
        # A record that was spooled meanwhile is no longer ours.
        if part and await self._append(part) and self.held[: len(part)] == part:
            self.held = self.held[len(part) :]
            self._backlog.done(part)
        return bool(part)

    async def _append(self, records: tuple[LogRecord, ...]) -> bool:
        """Append records to the store.

        :return: False: retry, after a pause or with fewer records.
        :raises _Enough: the store is away, and the process stops.
        """
        if self._since is None:
            self._since = self._clock.seconds()
            if self._spooling is not None:
                self._spooling.soon(self._settings.spool_after)
        try:
            if self._is_closed:
                await self._store.start()
                self._is_closed = False
            await self._store.append(records)
        except CancelledError:
            raise
        except Exception as error:
            if isinstance(error, StoreError) and error.code != "store_rejected":
                # The store was away when this process started.
                self._is_closed = self._is_closed or error.code == "store_closed"
                await self._wait_for_store(error)
                return False
            if len(records) > 1:
                self._size = len(records) // 2
                return False
            self._refused(records[0], error)
        else:
            self._size = min(self._size * 2, self._settings.batch_size)
            self._succeeded()
        return True

    async def _wait_for_store(self, error: StoreError) -> None:
        if self._failures == 0:
            self._log.warn("session log: write failed, retrying: {error}", error=str(error))
        first, longest = self._settings.retry_delays
        delay = min(first * 2 ** min(self._failures, 30), longest)
        self._failures += 1
        self.trouble = error.message
        if self._state == "stopping" and self._spooling is not None:
            raise _Enough
        pause: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._retry_call = self._clock.callLater(delay, pause.callback, None)
        try:
            await pause
        finally:
            self._retry_call = None

    def _succeeded(self) -> None:
        self._since = None
        self._backlog.relieved()
        if self._spooling is not None and len(self._backlog) < self._settings.spool_from:
            self._spooling.leave()
        if self._failures:
            self._log.info("session log: the store accepts records again")
            self._failures = 0
            self.trouble = ""

    def _refused(self, record: LogRecord, error: Exception) -> None:
        self._backlog.lost("refused")
        self._log.error(
            "session log: the store rejected a {kind} of session {session_id}, dropped: {error}",
            kind=type(record).__name__,
            session_id=record.session_id,
            error=str(error),
        )
