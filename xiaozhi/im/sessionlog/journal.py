"""Journal: the session log in memory, on its way to the store.

A device's message must not wait for a database. Records are queued at once and written a
moment later, in batches; while the store is away, they go to a spool on disk, if configured.
The records of one session are written in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.fairqueue import cut
from xiaozhi.base.ids import new_id
from xiaozhi.base.values import (
    EventLogged,
    LogDirection,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionStarted,
    SessionStatus,
)
from xiaozhi.im.sessionlog.backlog import Backlog
from xiaozhi.im.sessionlog.writer import LogWriter, WriterSettings
from xiaozhi.interfaces import ISessionStore, ISpool
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.wire.messages import Device

_TICK = timedelta(microseconds=1)
# Seconds for which health reports a loss.
_RECENT = 60.0
_CLOCK_SLIP = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Bounds and intervals of a journal.

    :ivar keep_content: whether the words of messages are written.
    :ivar flush_interval: seconds that the first record of a batch waits for others.
    :ivar batch_size: records per transaction.
    :ivar capacity: maximum records in memory; ``capacity_bytes``: maximum bytes of these.
    :ivar max_content_bytes: maximum bytes of one message's content; the rest is cut off.
    :ivar spool_after: seconds without an answer of the store after which records are spooled;
        they also are when half the capacity is in use.
    :ivar retry_delays: delay of the first retry in seconds, which doubles up to the second
        value.
    """

    keep_content: bool = True
    flush_interval: float = 0.2
    batch_size: int = 500
    capacity: int = 10_000
    capacity_bytes: int = 16_777_216
    max_content_bytes: int = 4096
    spool_after: float = 1.0
    retry_delays: tuple[float, float] = (0.5, 10.0)


class Journal:
    """Queues session log records and writes them in the background.

    The queue holds at most ``capacity`` records of ``capacity_bytes``, including records that
    are being written; see :class:`~xiaozhi.im.sessionlog.backlog.Backlog` for its policy.
    Dropped records are counted and reported.

    :ivar drops: records lost since the start, by reason; see
        :class:`~xiaozhi.im.sessionlog.backlog.Backlog`.
    """

    _log = Logger()

    def __init__(
        self,
        store: ISessionStore,
        clock: IReactorTime,
        settings: JournalSettings,
        spool: ISpool | None = None,
        node: str = "",
        new_id: Callable[[], UUID] = new_id,
    ) -> None:
        """
        :param spool: holds records while the store is away; None: they stay in memory.
        :param node: name of this process, for the rows of its sessions.
        """
        self._clock = clock
        self._wall = wall_time(clock)
        self._spool = spool
        self._keep_content = settings.keep_content
        self._node = node
        self._new_id = new_id
        self._max_content = settings.max_content_bytes
        # Session id → device id of open sessions: the queue is fair between devices.
        self._devices: dict[str, str] = {}
        self._backlog = Backlog(settings.capacity, settings.capacity_bytes, clock.seconds)
        self._writer = LogWriter(
            store,
            spool,
            self._backlog,
            clock,
            WriterSettings(
                settings.flush_interval,
                settings.batch_size,
                settings.spool_after,
                settings.capacity // 2,
                settings.capacity_bytes // 2,
                settings.retry_delays,
            ),
        )
        self._stopped = False
        self._last_time = datetime.fromtimestamp(0, UTC)

    @property
    def pending(self) -> int:
        """Records in memory that are not written yet."""
        return len(self._backlog) + self._backlog.away

    @property
    def spooled(self) -> int:
        """Records on disk that are not written yet."""
        return self._writer.spooled

    @property
    def spooled_octets(self) -> int:
        """Bytes of the records on disk."""
        return int(self._spool.octets) if self._spool is not None else 0

    @property
    def lag(self) -> float:
        """Age of the oldest unwritten record, in seconds."""
        oldest = [record.at for record in self._writer.held[:1]]
        oldest += [at for at in (self._backlog.oldest, self._spool_oldest()) if at is not None]
        return max(0.0, self._wall() - min(oldest).timestamp()) if oldest else 0.0

    @property
    def drops(self) -> Mapping[str, int]:
        """Records lost since the start, by reason."""
        return self._backlog.drops

    @property
    def dropped(self) -> int:
        """Sum of :attr:`drops`."""
        return self._backlog.drops.total()

    def trouble(self) -> str:
        """Return why records do not reach the store at present; empty while they do."""
        return self._writer.trouble

    def loss(self) -> str:
        """Return a message if records were lost in the last minute, else an empty string."""
        at = self._backlog.lost_at
        if at is None or self._clock.seconds() - at > _RECENT:
            return ""
        return f"records are being lost, {self.dropped} since the start; see the log"

    def status(self) -> dict[str, Any]:
        """Return the state of the queue for ``/health``."""
        return {
            "pending": self.pending,
            "spooled": self.spooled,
            "spooled_bytes": self.spooled_octets,
            "lag": round(self.lag, 3),
            "dropped": {reason: count for reason, count in self.drops.items() if count},
        }

    # --- noting -----------------------------------------------------------------

    def session_started(
        self, session_id: str, device: Device, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Log the start of a session."""
        self._devices[session_id] = device.device_id
        self.record(
            SessionStarted(
                session_id,
                device.device_id,
                device.client_id,
                device.user_id,
                self._now(),
                dict(metadata or {}),
                self._node,
            )
        )

    def session_changed(self, session_id: str, status: SessionStatus) -> None:
        """Log a session's new status."""
        self.record(SessionChanged(session_id, status, self._now()))
        if status is SessionStatus.DISCONNECTED:
            self._devices.pop(session_id, None)

    def message(
        self, session_id: str, message_type: str, direction: LogDirection, content: str | None
    ) -> None:
        """Log a message.

        :param message_type: ``audio`` means a whole utterance; its content is numbers, not
            words, and is always kept.
        """
        kept = content if self._keep_content or message_type == "audio" else None
        if kept is not None:
            kept = cut(kept, self._max_content)
        owner = self._devices.get(session_id, session_id)
        now = self._now()
        self.record(
            MessageLogged(self._new_id(), session_id, message_type, direction, kept, now, owner)
        )

    def event(
        self, session_id: str, event_type: str, data: Mapping[str, Any] | None = None
    ) -> None:
        """Log an event of a connection."""
        self.record(
            EventLogged(
                self._new_id(),
                session_id,
                event_type,
                self._now(),
                dict(data or {}),
                self._devices.get(session_id, session_id),
            )
        )

    def record(self, record: LogRecord) -> None:
        """Queue a record. Never blocks, never raises."""
        if self._stopped:
            self._backlog.lost("stopped")
            return
        self._backlog.add(record)
        self._writer.noted()

    # --- life -------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Start to write, first the records that an earlier process has spooled. The Deferred
        never fails."""
        return Deferred.fromCoroutine(self._writer.start())

    def stop(self, timeout: float = 5.0) -> Deferred[None]:
        """Write or spool all records, and stop. The Deferred never fails.

        :param timeout: maximum seconds to wait for the store.
        """
        return Deferred.fromCoroutine(self._stop(timeout))

    async def _stop(self, timeout: float) -> None:
        if self._stopped:
            return
        await self._writer.stop(timeout)
        self._stopped = True
        left = self.pending
        if left:
            self._log.warn("session log: {count} records were not written", count=left)
            self._backlog.lost("stopped", left)
        self._backlog.clear()

    def _spool_oldest(self) -> datetime | None:
        oldest: datetime | None = self._spool.oldest if self._spool is not None else None
        return oldest

    def _now(self) -> datetime:
        """Return a unique, increasing time, by which the store orders records."""
        now = datetime.fromtimestamp(self._wall(), UTC)
        # If the clock was set back far, follow it.
        if timedelta(0) <= self._last_time - now < _CLOCK_SLIP:
            now = self._last_time + _TICK
        self._last_time = now
        return now
