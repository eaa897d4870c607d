"""The session store: reads and writes the log, on a :class:`Database`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.base.values import EventLogged, LogRecord, MessageLogged, SessionRow
from xiaozhi.interfaces import ISessionStore
from xiaozhi.storage import rows
from xiaozhi.storage.database import Database


@implementer(ISessionStore)
class SessionStore(Database):
    """The log in SQLite or PostgreSQL.

    ``messages`` and ``events`` give the latest ``limit`` entries, oldest first.
    """

    def append(self, records: Sequence[LogRecord]) -> Deferred[None]:
        return self._run(partial(rows.write, dialect=self._dialect, records=tuple(records)))

    def session(self, session_id: str) -> Deferred[SessionRow | None]:
        return self._run(partial(rows.read_session, dialect=self._dialect, session_id=session_id))

    def sessions_of(self, device_id: str, limit: int) -> Deferred[list[SessionRow]]:
        return self._run(
            partial(rows.read_sessions_of, dialect=self._dialect, device_id=device_id, limit=limit)
        )

    def messages(self, session_id: str, limit: int) -> Deferred[list[MessageLogged]]:
        return self._run(
            partial(rows.read_messages, dialect=self._dialect, session_id=session_id, limit=limit)
        )

    def events(self, session_id: str, limit: int) -> Deferred[list[EventLogged]]:
        return self._run(
            partial(rows.read_events, dialect=self._dialect, session_id=session_id, limit=limit)
        )

    def purge(self, before: datetime, limit: int) -> Deferred[int]:
        return self._run(partial(rows.purge, dialect=self._dialect, before=before, limit=limit))

    def close_left(
        self, node: str, started: datetime, silent_since: datetime, limit: int
    ) -> Deferred[int]:
        work = partial(
            rows.close_left,
            dialect=self._dialect,
            node=node,
            started=started,
            silent_since=silent_since,
            limit=limit,
        )
        return self._run(work)
