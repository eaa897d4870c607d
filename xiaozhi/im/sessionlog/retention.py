"""Periodic jobs of an edge process for the session store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from xiaozhi.im.sessionlog.journal import Journal
from xiaozhi.interfaces import ISessionStore
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.runtime.periodic import PeriodicJob

# Seconds from the start to the first run, and between runs, of closing abandoned sessions.
_FIRST = 5.0
_LOOK = 60.0


def retention_jobs(
    store: ISessionStore,
    journal: Journal,
    *,
    node: str,
    clock: IReactorTime,
    retention_days: float,
    purge_interval: float,
    stale_after: float,
) -> list[PeriodicJob]:
    """Make the jobs that remove old rows and close sessions of dead processes.

    Every process has them; the store lets one run at a time.

    :param node: name of this process; its sessions from before its start are over.
    :param retention_days: 0: remove nothing.
    :param stale_after: seconds without activity after which a session is closed.
    """

    wall = wall_time(clock)

    def now() -> datetime:
        return datetime.fromtimestamp(wall(), UTC)

    started = now()

    def purge(size: int) -> Deferred[int]:
        return store.purge(now() - timedelta(days=retention_days), size)

    def close_left(size: int) -> Deferred[int]:
        if journal.spooled or journal.trouble():
            # The store lacks our latest records: a session that seems idle may be active.
            return succeed(0)
        return store.close_left(node, started, now() - timedelta(seconds=stale_after), size)

    found = [
        PeriodicJob("closing sessions left behind", close_left, clock, interval=_LOOK, first=_FIRST)
    ]
    if retention_days:
        found.append(
            PeriodicJob(
                "purging the session log", purge, clock, interval=purge_interval, first=_LOOK
            )
        )
    return found
