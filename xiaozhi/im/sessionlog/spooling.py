"""Move records from memory to the spool while the store is away or slow."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import LogRecord
from xiaozhi.im.sessionlog.backlog import Backlog
from xiaozhi.interfaces import ISpool

_CHUNK = 1000
_AGAIN_AFTER = 10.0
"""Seconds before a failed spool (e.g. a full disk) is tried again."""


class Spooling:
    """Moves the backlog to the spool, one chunk after the other.

    A failure of the spool is logged once, and the spool is not used for a while; records stay
    in memory within the bound of the backlog.

    :ivar held: records that the writer is writing. They are spooled before newer ones, and the
        writer no longer owns them then. A record that is written twice is still one row.
    :ivar through: number in the spool up to which the writer is writing.
    """

    _log = Logger()

    def __init__(self, spool: ISpool, backlog: Backlog, clock: IReactorTime) -> None:
        self.held: tuple[LogRecord, ...] = ()
        self.through = 0
        self._spool = spool
        self._backlog = backlog
        self._clock = clock
        self._is_open = False
        self._failed_at: float | None = None
        self._call: IDelayedCall | None = None
        self._running: Deferred[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether the spool has not failed recently."""
        failed = self._failed_at
        return failed is None or self._clock.seconds() - failed >= _AGAIN_AFTER

    @property
    def count(self) -> int:
        """Records in the spool."""
        return int(self._spool.count) if self._is_open else 0

    async def start(self) -> None:
        """Open the spool; after a failure, which is logged, records stay in memory."""
        await self._open()

    def soon(self, delay: float) -> None:
        """Empty the backlog within ``delay`` seconds."""
        due = self._clock.seconds() + delay
        call = self._call
        if call is not None and call.active():
            if call.getTime() > due:
                call.reset(delay)
        elif self._running is None:
            self._call = self._clock.callLater(delay, self.now)

    def now(self) -> None:
        """Start to empty the backlog, unless this is running already."""
        self.leave()
        if self._running is None and self.usable:
            running = self._running = Deferred.fromCoroutine(self._empty())
            running.addBoth(self._ended)

    def leave(self) -> None:
        """Cancel :meth:`soon`."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def settled(self) -> Deferred[None]:
        """Wait until no records are on their way to the spool."""
        if self._running is None:
            return succeed(None)
        settled: Deferred[None] = Deferred()

        def ended(result: None) -> None:
            if not settled.called:
                settled.callback(None)

        self._running.addCallback(ended)
        return settled

    async def everything(self) -> None:
        """Spool all records in memory before the process stops."""
        await self.settled()
        self._failed_at = None
        self.now()
        await self.settled()
        if self._is_open:
            await self._spool.stop()

    # --- what has been spooled --------------------------------------------------------

    async def oldest(self, limit: int) -> list[tuple[int, LogRecord | None]]:
        """Read the records to write next; empty also if the spool is unreadable now."""
        try:
            found = await self._spool.take(limit)
        except StoreError as error:
            await self._fail(error)
            return []
        self.through = found[-1][0] if found else 0
        return found

    async def written(self, through: int) -> bool:
        """Remove records up to a number: the store has them.

        :return: whether they were removed.
        """
        self.through = 0
        try:
            await self._spool.discard(through)
        except StoreError as error:
            await self._fail(error)
            return False
        return True

    # --- inside -----------------------------------------------------------------------

    async def _open(self) -> bool:
        if not self._is_open:
            try:
                await self._spool.start()
                self._is_open = True
            except StoreError as error:
                await self._fail(error)
        return self._is_open

    async def _empty(self) -> None:
        if not await self._open():
            return
        backlog = self._backlog
        while self.held or len(backlog):
            held, taken = self.held, backlog.take(_CHUNK)
            try:
                lost = await self._spool.put((*held, *taken), self.through)
            except StoreError as error:
                backlog.put_back(taken)
                await self._fail(error)
                return
            if self.held is held:
                self.held = ()
                backlog.done(held)
            backlog.done(taken)
            self._failed_at = None
            backlog.relieved()
            self._count_lost(lost)

    def _count_lost(self, lost: int) -> None:
        if lost:
            if not self._backlog.drops["spool_full"]:
                self._log.warn("session log: the spool is full, dropping the oldest records")
            self._backlog.lost("spool_full", lost)

    async def _fail(self, error: StoreError) -> None:
        if self._failed_at is None:
            self._log.error(
                "session log: the spool failed, keeping records in memory: {error}",
                error=str(error),
            )
        self._failed_at = self._clock.seconds()
        if error.code == "spool_broken":
            try:
                self._backlog.lost("spool_broken", await self._spool.renew())
            except StoreError:
                self._is_open = False

    def _ended(self, result: object) -> None:
        self._running = None
