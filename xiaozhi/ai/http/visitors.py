"""Who asks the AI service over HTTP: limits by address, and the access log in bursts."""

from __future__ import annotations

import math
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http import Request

from xiaozhi.ai.http.answers import HttpAnswer, failure
from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.base.logburst import LogBurst
from xiaozhi.web.buckets import Buckets
from xiaozhi.web.peers import Peers
from xiaozhi.web.refusals import Refusals, Refused

# Lines of the access log for one path and status: so many at once, then so many a second;
# what comes beyond is told once a burst. Paths are ours, so there are few.
_LINES = 20
_LINES_A_SECOND = 1.0


class Visitors:
    """Counts connections and requests by address.

    Requests that a trusted proxy passes on count for the address it names, its
    connections for nobody.

    :ivar refusals: what was not served, by reason.
    """

    _log = Logger()

    def __init__(self, settings: HttpSettings, clock: IReactorTime) -> None:
        self._peers = Peers(settings, clock)
        self._clock = clock
        self.refusals = Refusals(clock, settings.log_interval)
        self._lines = Buckets(_LINES_A_SECOND, _LINES)
        self._window = settings.log_interval
        self._bursts: dict[str, LogBurst[str]] = {}

    @property
    def addresses(self) -> int:
        """How many have a connection, or a request behind a proxy."""
        return self._peers.addresses

    def arrive(self, host: str) -> str | None:
        """A connection comes.

        :return: what it counts as, for :meth:`served` and :meth:`leave`, which must
            follow; None: it is refused.
        """
        key = self._peers.key(host)
        if why := self._peers.arrive(key, rated=False):
            self.refuse(why, 0, host)
            return None
        return key

    def served(self, key: str) -> None:
        """Its first request has a whole head."""
        self._peers.served(key)

    def leave(self, key: str) -> None:
        """It is closed."""
        self._peers.leave(key)

    def refuse(self, reason: str, status: int, host: str) -> None:
        """Note that somebody is not served."""
        self.refusals.add(Refused(reason, status, host))

    def admit(self, request: Request, key: str) -> HttpAnswer | None:
        """Judge a request whose head has come.

        :param key: what its connection counts as.
        :return: how it is refused; None: let it in.
        """
        host = str(getattr(request.client, "host", ""))
        if self._peers.is_proxy(host):
            named = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
            key = self._peers.named(named)
            if why := self._peers.arrive(key, rated=False):
                self.refuse(why, 429, key)
                return too_many("there are too many requests from your address", 1.0)
            self._peers.served(key)
            request.notifyFinish().addBoth(lambda _: self._peers.leave(key))
        wait = self._peers.ask(key)
        if wait:
            self.refuse("request_rate", 429, key)
            return too_many("your address asks too often", wait)
        return None

    def log(self, page: str, status: int, **event: Any) -> None:
        """A line of the access log, or one for many.

        :param page: one of a few.
        """
        kind = f"{page} {status}"
        if self._lines.take(kind, self._clock.seconds()):
            self._log.info("{method} {path} {status} {size} {peer} {agent}", status=status, **event)
            return
        burst = self._bursts.get(kind)
        if burst is None:
            burst = LogBurst[str](
                self._clock, lambda n, peer: self._tell(n, kind, peer), self._window
            )
            self._bursts[kind] = burst
        burst.add(str(event.get("peer")))

    def stop(self) -> None:
        """Tell what was not told yet."""
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


def too_many(message: str, seconds: float) -> HttpAnswer:
    """429, and when to come again."""
    refused = failure("too_many_requests", message, 429)
    return HttpAnswer(429, refused.body, refused.content_type, retry_after=math.ceil(seconds))
