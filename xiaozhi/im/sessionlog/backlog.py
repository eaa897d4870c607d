"""Backlog: session log records in memory that wait to be written."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain

from twisted.logger import Logger

from xiaozhi.base.fairqueue import FairQueue
from xiaozhi.base.values import (
    EventLogged,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionStarted,
)

_OF_SESSIONS = (SessionStarted, SessionChanged)
# Estimated bytes of a record besides its text.
_RECORD = 500


def octets_of(record: LogRecord) -> int:
    """Estimate the memory of a record, in bytes."""
    if isinstance(record, MessageLogged):
        # A character of a text that is not ASCII takes two bytes, or four.
        words = record.content
        return _RECORD + (len(words) * (1 if words.isascii() else 4) if words else 0)
    if isinstance(record, EventLogged):
        return _RECORD + sum(len(str(each)) for each in record.data.values())
    return _RECORD


class Backlog:
    """A queue of at most ``capacity`` records and ``most_octets`` bytes, including records that
    are being written.

    When it is full, messages and events are dropped first: the oldest of the device with the
    most. Rows of sessions, which other rows refer to, are dropped only if nothing else is left.

    :ivar away: records that are being written.
    :ivar lost_at: time of the last loss, by ``seconds``; None: none yet.
    :ivar drops: records lost, by reason: ``full``, ``refused`` by the store,
        ``spool_full``, ``spool_broken``, ``unreadable`` in the spool, ``stopped``.
    """

    _log = Logger()

    def __init__(
        self, capacity: int, most_octets: int = 1 << 60, seconds: Callable[[], float] = float
    ) -> None:
        """:param seconds: monotonic clock, in seconds."""
        self.away = 0
        self.lost_at: float | None = None
        self._seconds = seconds
        self._most_octets = most_octets
        self._away_octets = 0
        self._session_octets = 0
        self.drops: Counter[str] = Counter()
        self._capacity = capacity
        self._dropping = 0
        self._sessions: deque[SessionStarted | SessionChanged] = deque()
        self._entries: FairQueue[MessageLogged | EventLogged] = FairQueue()

    def __len__(self) -> int:
        return len(self._sessions) + len(self._entries)

    @property
    def oldest(self) -> datetime | None:
        """The time of the oldest record."""
        found = [self._sessions[0].at] if self._sessions else []
        if self._entries:
            found.append(self._entries.oldest().at)
        return min(found, default=None)

    @property
    def octets(self) -> int:
        """Estimated memory of the records, in bytes."""
        return self._entries.octets + self._session_octets

    def lost(self, reason: str, count: int = 1) -> None:
        """Count records that will not be written."""
        if count:
            self.drops[reason] += count
            self.lost_at = self._seconds()

    def add(self, record: LogRecord) -> bool:
        """Add a record; if the queue is full, drop another one for it.

        :return: False: the record itself was dropped.
        """
        size = octets_of(record)
        while self._is_full(size):
            if not self._dropping:
                self._log.warn("session log: full, dropping the oldest records")
            self._dropping += 1
            self.lost("full")
            if not self._make_room(record):
                return False
        if isinstance(record, _OF_SESSIONS):
            self._sessions.append(record)
            self._session_octets += size
        else:
            self._entries.append(record, record.device_id, size)
        return True

    def _is_full(self, size: int) -> bool:
        return (
            len(self) + self.away >= self._capacity
            or self.octets + self._away_octets + size > self._most_octets
        )

    def relieved(self) -> None:
        """Log how many records were dropped, now that there is room again."""
        if self._dropping:
            self._log.warn(
                "session log: {count} records were dropped while it was full", count=self._dropping
            )
            self._dropping = 0

    def take(self, limit: int) -> list[LogRecord]:
        """Take the oldest records; sessions first, because others refer to them."""
        sessions, entries = self._sessions, self._entries
        taken: list[LogRecord] = [sessions.popleft() for _ in range(min(limit, len(sessions)))]
        rest = min(limit - len(taken), len(entries))
        taken.extend(entries.popleft() for _ in range(rest))
        octets = sum(map(octets_of, taken))
        self._session_octets -= sum(map(octets_of, taken[: len(taken) - rest]))
        self.away += len(taken)
        self._away_octets += octets
        return taken

    def put_back(self, records: Sequence[LogRecord]) -> None:
        """Put back records that were not written."""
        self.done(records)
        for record in reversed(records):
            size = octets_of(record)
            if isinstance(record, _OF_SESSIONS):
                self._sessions.appendleft(record)
                self._session_octets += size
            else:
                self._entries.appendleft(record, record.device_id, size)

    def done(self, records: Sequence[LogRecord]) -> None:
        """Remove records that were written or abandoned from the count."""
        self.away -= len(records)
        self._away_octets -= sum(map(octets_of, records))

    def clear(self) -> list[LogRecord]:
        """Take all remaining records; none may be put back."""
        self.away = self._away_octets = self._session_octets = 0
        left = [*chain[LogRecord](self._sessions, self._entries)]
        self._sessions.clear()
        self._entries.clear()
        return left

    def _make_room(self, record: LogRecord) -> bool:
        if self._entries:
            self._entries.drop()
            return True
        if isinstance(record, _OF_SESSIONS) and self._sessions:
            self._session_octets -= octets_of(self._sessions.popleft())
            return True
        return False
