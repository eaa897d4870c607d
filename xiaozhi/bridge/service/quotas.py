"""Limits of sessions per stream and per address."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.logburst import LogBurst
from xiaozhi.bridge.service.server_session import ServerSession
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.wire.messages import SessionClose


class SessionQuotas:
    """Counts sessions by the address of their edge.

    A session counts until it is over, also while it waits for its edge to reconnect.
    """

    _log = Logger()

    def __init__(self, settings: ServerSettings, clock: IReactorTime) -> None:
        self._settings = settings
        self._counts: Counter[str] = Counter()
        self._where: dict[ServerSession, str] = {}
        self._refusals = LogBurst[tuple[str, str]](clock, self._tell)

    def refusal(self, remote: str, on_stream: int) -> SessionClose | None:
        """Return why another session is refused; None: it is admitted.

        :param remote: the edge's address.
        :param on_stream: sessions its stream carries.
        """
        settings = self._settings
        if on_stream >= settings.max_sessions_per_stream:
            key, limit = "grpc.max_sessions_per_stream", settings.max_sessions_per_stream
        elif self._counts[remote] >= settings.max_sessions_per_peer:
            key, limit = "grpc.max_sessions_per_peer", settings.max_sessions_per_peer
        else:
            return None
        self._refusals.add((remote, f"{limit} are open ({key})"))
        return SessionClose("too_many_sessions", f"There are {limit} sessions already ({key}).")

    def opened(self, session: ServerSession, remote: str) -> None:
        """Count a session; :meth:`left` must follow."""
        self._where[session] = remote
        self._counts[remote] += 1

    def moved(self, session: ServerSession, remote: str) -> None:
        """Count a session at its edge's new address."""
        if self._where.get(session) not in (None, remote):
            self.left(session)
            self.opened(session, remote)

    def left(self, session: ServerSession) -> None:
        """Uncount a session. Idempotent."""
        remote = self._where.pop(session, None)
        if remote is not None:
            self._counts[remote] -= 1
            if not self._counts[remote]:
                del self._counts[remote]

    def stop(self) -> None:
        """Log the refusals not logged yet."""
        self._refusals.stop()

    def _tell(self, count: int, latest: tuple[str, str]) -> None:
        remote, why = latest
        self._log.warn(
            "refused {count} session(s), the last from {remote}: {why}",
            count=count,
            remote=remote or "an unknown address",
            why=why,
        )
