"""Log records in memory that are not written yet."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from itertools import chain

from twisted.logger import Logger

from xiaozhi.values import EventLogged, LogRecord, MessageLogged, SessionChanged, SessionStarted

_OF_SESSIONS = (SessionStarted, SessionChanged)


class Backlog:
    """Bounded to ``capacity`` records, those that were taken out and may come back
    included. Beyond it the oldest messages and events go first; rows of sessions,
    which the others refer to, only when there is nothing else.

    :ivar away: how many were taken out and are neither done nor put back.
    :ivar drops: records lost, by reason: ``full``, ``refused`` by the store,
        ``spool_full``, ``spool_broken``, ``unreadable`` in the spool, ``stopped``.
    """

    _log = Logger()

    def __init__(self, capacity: int) -> None:
        self.away = 0
        self.drops: Counter[str] = Counter()
        self._capacity = capacity
        self._burst = 0
        self._sessions: deque[SessionStarted | SessionChanged] = deque()
        self._entries: deque[MessageLogged | EventLogged] = deque()

    def __len__(self) -> int:
        return len(self._sessions) + len(self._entries)

    @property
    def oldest(self) -> datetime | None:
        """The time of the oldest record."""
        return min(
            (queue[0].at for queue in (self._sessions, self._entries) if queue), default=None
        )

    def add(self, record: LogRecord) -> bool:
        """:return: whether there was room for it, if need be in another's place."""
        if len(self) + self.away >= self._capacity:
            if not self._burst:
                self._log.warn("session log: full, dropping the oldest records")
            self._burst += 1
            self.drops["full"] += 1
            if not self._make_room(record):
                return False
        if isinstance(record, _OF_SESSIONS):
            self._sessions.append(record)
        else:
            self._entries.append(record)
        return True

    def relieved(self) -> None:
        """There is room again: tell how much was dropped."""
        if self._burst:
            self._log.warn(
                "session log: {count} records were dropped while it was full", count=self._burst
            )
            self._burst = 0

    def take(self, limit: int) -> list[LogRecord]:
        """The oldest. Sessions first: what else is there may refer to them."""
        sessions, entries = self._sessions, self._entries
        taken: list[LogRecord] = [sessions.popleft() for _ in range(min(limit, len(sessions)))]
        rest = min(limit - len(taken), len(entries))
        taken.extend(entries.popleft() for _ in range(rest))
        self.away += len(taken)
        return taken

    def put_back(self, records: Sequence[LogRecord]) -> None:
        """What was taken was not dealt with."""
        self.away -= len(records)
        for record in reversed(records):
            if isinstance(record, _OF_SESSIONS):
                self._sessions.appendleft(record)
            else:
                self._entries.appendleft(record)

    def done(self, count: int) -> None:
        """So many of those that were taken are dealt with."""
        self.away -= count

    def clear(self) -> list[LogRecord]:
        """Everything that is left."""
        left = [*chain[LogRecord](self._sessions, self._entries)]
        self._sessions.clear()
        self._entries.clear()
        return left

    def _make_room(self, record: LogRecord) -> bool:
        if self._entries:
            self._entries.popleft()
            return True
        if isinstance(record, _OF_SESSIONS) and self._sessions:
            self._sessions.popleft()
            return True
        return False
