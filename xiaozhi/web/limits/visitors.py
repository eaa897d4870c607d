"""Limits on clients by address, and the access log in bursts."""

from __future__ import annotations

import math
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.logburst import LogBurst
from xiaozhi.metrics.instruments import Tally
from xiaozhi.web.limits.buckets import Buckets
from xiaozhi.web.limits.peers import AddressLimits, Peers
from xiaozhi.web.limits.refusals import Refusals, Refused
from xiaozhi.web.replies import HttpError
from xiaozhi.web.request import WebRequest

# Lines of the access log for one page and status: so many at once, then so many a second.
# The rest are counted in one line a burst. Pages are named by routes, so there are few.
_LINES = 20
_LINES_A_SECOND = 1.0


class VisitorPolicy(Protocol):
    """Admission of connections and requests, and an account of both.

    A connection is counted under a key, which :meth:`arrive` gives; empty: not counted.
    """

    def arrive(self, host: str, connections: int) -> str | None:
        """Admit a connection.

        :param host: its address.
        :param connections: those open already.
        :return: the key for :meth:`served` and :meth:`leave`, which must follow; None: it is
            refused and must be closed.
        """

    def served(self, key: str) -> None:
        """Note that the first request of a connection has a whole head."""

    def leave(self, key: str) -> None:
        """Note that a connection is closed."""

    def refuse(self, reason: str, status: int, host: str) -> None:
        """Count a connection or request that is not served; status 0: dropped."""

    def admit(self, request: WebRequest, key: str, done: Deferred[None]) -> None:
        """Judge a request whose head has come.

        :param key: of its connection.
        :param done: fires at the end of the request, however it ends.
        :raises HttpError: it is refused.
        """

    def answered(self, request: WebRequest, page: str, status: int, size: int) -> None:
        """Count and log a request that was answered.

        :param page: one of a few names.
        :param size: bytes of the reply's body.
        """

    def stop(self) -> None:
        """Log the counts that are still held back. Idempotent."""


class BoundedVisitors:
    """Bounds the connections of a port, and neither counts nor logs anything else.

    See :class:`VisitorPolicy`.
    """

    def __init__(self, max_connections: int) -> None:
        self._most = max_connections

    def arrive(self, host: str, connections: int) -> str | None:
        return "" if connections < self._most else None

    def served(self, key: str) -> None: ...

    def leave(self, key: str) -> None: ...

    def refuse(self, reason: str, status: int, host: str) -> None: ...

    def admit(self, request: WebRequest, key: str, done: Deferred[None]) -> None: ...

    def answered(self, request: WebRequest, page: str, status: int, size: int) -> None: ...

    def stop(self) -> None: ...


class VisitorSettings(AddressLimits, Protocol):
    """Settings of :class:`Visitors`.

    :ivar max_connections: further connections are closed at once.
    :ivar log_interval: seconds of refusals or requests that share one line of the log.
    """

    @property
    def max_connections(self) -> int: ...
    @property
    def log_interval(self) -> float: ...


class Visitors:
    """Limits connections and requests by address. See :class:`VisitorPolicy`.

    A request that a trusted proxy passes on counts for the address the proxy names; the
    proxy's own connections are not counted.

    :ivar refusals: connections and requests that were not served, by reason.
    """

    _log = Logger()

    def __init__(
        self, settings: VisitorSettings, clock: IReactorTime, requests: Tally | None = None
    ) -> None:
        """:param requests: counts answers by page and status."""
        self._peers = Peers(settings, clock)
        self._clock = clock
        self.refusals = Refusals(clock, settings.log_interval)
        self.requests = Tally() if requests is None else requests
        self._lines = Buckets(_LINES_A_SECOND, _LINES)
        self._window = settings.log_interval
        self._most = settings.max_connections
        self._bursts: dict[str, LogBurst[str]] = {}

    @property
    def addresses(self) -> int:
        """Addresses that have a connection, or a request behind a proxy."""
        return self._peers.addresses

    def arrive(self, host: str, connections: int) -> str | None:
        if connections >= self._most:
            self.refuse("too_many_connections", 0, host)
            return None
        key = self._peers.key(host)
        if why := self._peers.arrive(key, rated=False):
            self.refuse(why, 0, host)
            return None
        return key

    def served(self, key: str) -> None:
        self._peers.served(key)

    def leave(self, key: str) -> None:
        self._peers.leave(key)

    def refuse(self, reason: str, status: int, host: str) -> None:
        self.refusals.add(Refused(reason, status, host))

    def admit(self, request: WebRequest, key: str, done: Deferred[None]) -> None:
        if self._peers.is_proxy(request.client):
            named = request.headers.get("x-forwarded-for", ())
            key = self._peers.named(value.encode("latin-1") for value in named)
            if why := self._peers.arrive(key, rated=False):
                self.refuse(why, 429, key)
                raise too_many("there are too many requests from your address", 1.0)
            self._peers.served(key)
            done.addBoth(lambda _: self._peers.leave(key))
        wait = self._peers.ask(key)
        if wait:
            self.refuse("request_rate", 429, key)
            raise too_many("your address asks too often", wait)

    def answered(self, request: WebRequest, page: str, status: int, size: int) -> None:
        self.requests.add(page, str(status))
        if page == "/metrics":
            return  # scraped every few seconds
        kind = f"{page} {status}"
        if self._lines.take(kind, self._clock.seconds()):
            self._log.info(
                "{method} {path} {status} {size} {peer} {agent}, request {request}",
                method=printable(request.method, 16),
                path=printable(request.path, 120),  # never the query, which may hold a token
                status=status,
                size=size,
                peer=request.client or "-",
                agent=printable(request.header("user-agent") or "-", 80),
                request=request.id,
            )
            return
        burst = self._bursts.get(kind)
        if burst is None:
            burst = LogBurst[str](
                self._clock, lambda n, peer: self._tell(n, kind, peer), self._window
            )
            self._bursts[kind] = burst
        burst.add(request.client or "-")

    def stop(self) -> None:
        """Log the counts that are still held back. Idempotent."""
        self.refusals.stop()
        for burst in self._bursts.values():
            burst.stop()

    def _tell(self, count: int, kind: str, peer: str) -> None:
        self._log.info(
            "{kind}: {count} more request(s), the last from {peer}",
            kind=kind,
            count=count,
            peer=peer,
        )


def too_many(message: str, seconds: float) -> HttpError:
    """429, with the time after which to come again."""
    headers = {"Retry-After": str(math.ceil(seconds))}
    return HttpError(429, "too_many_requests", message, headers)


def printable(text: str, longest: int) -> str:
    """Printable ASCII, so that no request can forge a line of the log."""
    return "".join(c if " " < c <= "~" else "?" for c in text[:longest])
