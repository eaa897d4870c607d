"""HTTP connections: clean heads, deadlines, and a close that does not race with the client's
own (protocol notes, §13)."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from xiaozhi.web.limits import heads
from xiaozhi.web.options import ServedSite
from xiaozhi.web.replies import HttpError, closing


class WebChannel(HTTPChannel):
    """A connection.

    The firmware's HTTP client frees its socket twice if our FIN meets its own close. If it sent
    ``Connection: close`` and the reply has a length, we wait a moment for it to close first.

    :ivar counted_as: the connection's key, see :class:`~xiaozhi.web.limits.visitors.VisitorPolicy`.
    """

    site: ServedSite
    transport: Any
    counted_as = ""
    _waiting = True  # for the first head
    _in_head = True  # within a head, or before the first one
    _heard = False  # a part of the head has arrived
    _deadline: IDelayedCall | None = None
    _lingering = False
    _farewell: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """See ``IProtocol``."""
        super().connectionMade()
        self.site.connections += 1
        self._restart_deadline(self.site.limits.head_time)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``IProtocol``."""
        self.site.connections -= 1
        self._head_arrived()
        self.site.visitors.leave(self.counted_as)
        self._stop_deadline()
        self._stop_lingering()
        super().connectionLost(reason)

    def head(self) -> tuple[bytes, bytes, bytes]:
        """Return method, target and version of the request whose headers were just read."""
        return self._command, self._path, self._version

    def abortConnection(self) -> None:
        """Drop the connection without a reply."""
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``. Data after the last request is discarded."""
        if self._lingering:
            return
        if not self._in_head and not self.requests:  # the next request of the connection
            self._in_head = True
            self._restart_deadline(self.site.limits.head_time)
        self._heard = True
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """See ``LineReceiver``: a line of a head."""
        if heads.is_clean_line(line):
            super().lineReceived(line)
        else:
            self._refuse_head(HttpError(400, heads.CODE, heads.MESSAGE))

    def allHeadersReceived(self) -> None:
        """See ``HTTPChannel``."""
        self._in_head = self._heard = False
        self._head_arrived()
        if self.site.limits.body_time is not None:
            self._restart_deadline(self.site.limits.body_time)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """See ``HTTPChannel``."""
        if self.requests:  # otherwise it was answered and closed before
            self._stop_deadline()
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """See ``HTTPChannel``."""
        self._restart_deadline(self.site.limits.idle_time)
        if not self.persistent:
            self._lingering = self._may_linger(request)
            if self._lingering:
                self.site.lingering += 1
        super().requestDone(request)

    def loseConnection(self) -> None:
        """Close when everything is written, or wait for the client to close first."""
        if not self._lingering:
            super().loseConnection()
        elif self._farewell is None:
            self._farewell = self.callLater(self.site.limits.linger, self._say_farewell)

    def _may_linger(self, request: Request) -> bool:
        return (
            self.site.limits.linger > 0
            and self.site.lingering < self.site.limits.max_lingering
            and request.clientproto == b"HTTP/1.1"
            and not request.chunked
            and request.responseHeaders.hasHeader("Content-Length")
        )

    def _say_farewell(self) -> None:
        self._stop_lingering()
        super().loseConnection()

    def _stop_lingering(self) -> None:
        if self._lingering:
            self._lingering = False
            self.site.lingering -= 1
        farewell, self._farewell = self._farewell, None
        if farewell is not None and farewell.active():
            farewell.cancel()

    def _head_arrived(self) -> None:
        if self._waiting:
            self._waiting = False
            self.site.visitors.served(self.counted_as)

    def _refuse_head(self, error: HttpError) -> None:
        """Answer an invalid or late head, and close."""
        self._refused(error.code, error.status)
        self.transport.write(closing(self.site.error(error)))
        super().loseConnection()

    def _refused(self, reason: str, status: int) -> None:
        host = str(getattr(self.getPeer(), "host", ""))
        self.site.visitors.refuse(reason, status, self.counted_as or host)

    def _restart_deadline(self, seconds: float) -> None:
        self._stop_deadline()
        self._deadline = self.callLater(seconds, self._too_slow)

    def _stop_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _too_slow(self) -> None:
        self._deadline = None
        begun = bool(self.requests) or (self._in_head and self._heard)
        if begun and self.site.limits.cut:
            self._refused("slow_request", 0)
            self.abortConnection()
        elif self._in_head and self._heard:
            late = "the request did not arrive in time"
            self._refuse_head(HttpError(408, "request_timeout", late))
        else:
            if self._in_head or self.requests:
                self._refused("slow_request" if self.requests else "silent", 0)
            self.timeoutConnection()
