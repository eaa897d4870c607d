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

# Access log lines per page and status: a burst, and a sustained rate. Further requests are
# counted in one line per interval. Routes name the pages, so there are few.
_LINES = 20
_LINES_A_SECOND = 1.0


class VisitorPolicy(Protocol):
    """Admits, counts and logs connections and requests.

    A connection is counted under a key from :meth:`arrive`; empty: not counted.
    """

    def arrive(self, host: str, connections: int) -> str | None:
        """Admit a connection.

        :param host: its address.
        :param connections: number of open connections.
        :return: the key for :meth:`served` and :meth:`leave`, which must follow; None: it is
            refused and must be closed.
        """

    def served(self, key: str) -> None:
        """Count a connection as one whose first request head is complete."""

    def leave(self, key: str) -> None:
        """Uncount a closed connection."""

    def refuse(self, reason: str, status: int, host: str) -> None:
        """Count a refused connection or request; status 0: dropped."""

    def admit(self, request: WebRequest, key: str, done: Deferred[None]) -> None:
        """Check a request whose head is complete.

        :param key: key of its connection.
        :param done: fires at the end of the request, whatever its result.
        :raises HttpError: the request is refused.
        """

    def answered(self, request: WebRequest, page: str, status: int, size: int) -> None:
        """Count and log a request that was answered.

        :param page: one of a few names.
        :param size: bytes of the reply's body.
        """

    def stop(self) -> None:
        """Log the counts that are not logged yet. Idempotent."""


class BoundedVisitors:
    """Bounds the connections of a port, without any other limit or log.

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

    :ivar max_connections: maximum connections; further ones are closed at once.
    :ivar log_interval: seconds of refusals or requests that share one log line.
    """

    @property
    def max_connections(self) -> int: ...
    @property
    def log_interval(self) -> float: ...


class Visitors:
    """Limits connections and requests by address. See :class:`VisitorPolicy`.

    A request through a trusted proxy counts for the address that the proxy names; the proxy's
    own connections are not counted.

    :ivar refusals: refused connections and requests, by reason.
    """

    _log = Logger()

    def __init__(
        self, settings: VisitorSettings, clock: IReactorTime, requests: Tally | None = None
    ) -> None:
        """:param requests: counts requests by page and status."""
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
        """The number of addresses with a connection, or a request through a proxy."""
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
                raise too_many("too many concurrent requests from your address", 1.0)
            self._peers.served(key)
            done.addBoth(lambda _: self._peers.leave(key))
        wait = self._peers.ask(key)
        if wait:
            self.refuse("request_rate", 429, key)
            raise too_many("too many requests from your address", wait)

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
                self._clock, lambda n, peer: self._report(n, kind, peer), self._window
            )
            self._bursts[kind] = burst
        burst.add(request.client or "-")

    def stop(self) -> None:
        """Log the counts that are not logged yet. Idempotent."""
        self.refusals.stop()
        for burst in self._bursts.values():
            burst.stop()

    def _report(self, count: int, kind: str, peer: str) -> None:
        self._log.info(
            "{kind}: {count} more request(s), the last from {peer}",
            kind=kind,
            count=count,
            peer=peer,
        )


def too_many(message: str, seconds: float) -> HttpError:
    """Return a 429 with the time after which to retry."""
    headers = {"Retry-After": str(math.ceil(seconds))}
    return HttpError(429, "too_many_requests", message, headers)


def printable(text: str, longest: int) -> str:
    """Return a text as printable ASCII, so that no request can forge a log line."""
    return "".join(c if " " < c <= "~" else "?" for c in text[:longest])
