"""HTTP connections of devices: bounded bodies, bounded time, and an end that
does not race with the device's own (§13)."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, parse_qs
from twisted.web.server import Request

from xiaozhi.ai.http.answers import HttpAnswer, deliver, failure, whole
from xiaozhi.ai.http.endpoint import Endpoint
from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.http.visitors import Visitors
from xiaozhi.web import heads

#: Bytes thrown away so that a client whose body was refused can read why; past
#: that it is cut off.
_DRAINED = 1 << 20


class RequestSite(Protocol):
    """What connections share.

    :ivar connections: open now.
    :ivar lingering: connections kept so that the client closes first.
    :ivar visitors: who asks, by address.
    """

    settings: HttpSettings
    connections: int
    lingering: int
    visitors: Visitors

    def endpoint(self, path: bytes) -> Endpoint:
        """What stands at a path."""

    def hold(self, size: int) -> bool:
        """Account for bytes of a body; False if they do not fit."""

    def release(self, size: int) -> None:
        """Take :meth:`hold` back."""


class DeviceRequest(Request):
    """A request whose body is counted while it streams in, and kept in memory.

    A refused body goes on being read and thrown away up to a limit, because a
    client that is still sending would lose the answer to a reset.
    """

    refused: HttpAnswer | None = None
    channel: DeviceChannel
    _limit = 0
    _received = 0
    _held = 0

    def __init__(self, channel: DeviceChannel, *arguments: Any, **named: Any) -> None:
        self._site = channel.site
        self._body = BytesIO()
        super().__init__(channel, *arguments, **named)

    def gotLength(self, length: int | None) -> None:
        """The headers are complete. See ``http.Request``."""
        self.content = self._body
        self.method, self.uri, self.clientproto = self.channel.asked_for()
        self._split_uri()
        self.notifyFinish().addBoth(self._forget_body)
        endpoint = self._site.endpoint(self.path)
        self._limit = endpoint.body_limit
        refused = self._site.visitors.admit(self, self.channel.counted_as)
        if refused is not None:
            self.refused = refused
        elif length is not None and length > self._limit:
            self.refused = self._too_large()
        else:
            self.refused = endpoint.admit(self)

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body. See ``http.Request``."""
        self._received += len(data)
        if self.refused is None:
            if self._received > self._limit:
                self.refused = self._too_large()
            elif not self._site.hold(len(data)):
                self.refused = failure("busy", "too many uploads at once, try again later", 503)
            else:
                self._held += len(data)
                self._body.write(data)
                return
            self._forget_body(None)
        if self._received > self._limit + _DRAINED and not self.finished:
            self.channel.persistent = False
            self.responseHeaders.setRawHeaders("Connection", ["close"])
            deliver(self, self.refused)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is complete. Unlike Twisted's, this does not parse forms."""
        if self.finished:
            return
        self._body.seek(0)
        if self.refused is not None:
            deliver(self, self.refused)
        else:
            self.process()

    def processingFailed(self, reason: Failure) -> Failure | None:
        """Something of ours broke: 500 in JSON, the rest into the log."""
        self._log.failure("answering {path} failed", failure=reason, path=self.path)
        deliver(self, failure("internal_error", "something went wrong here", 500))
        return None

    def _split_uri(self) -> None:
        self.path, _, query = self.uri.partition(b"?")
        self.args = parse_qs(query, True)

    def _too_large(self) -> HttpAnswer:
        return failure("too_large", f"the body is larger than {self._limit} bytes", 413)

    def _forget_body(self, _: object) -> None:
        self._site.release(self._held)
        self._held = 0
        if not self._body.closed:
            self._body.truncate(0)


class DeviceChannel(HTTPChannel):
    """A connection.

    The firmware's HTTP client frees its socket twice if our FIN meets its own
    close. Where it said ``Connection: close`` and can tell the end of the
    answer by its length, it gets a moment to close first.
    """

    site: RequestSite
    transport: Any
    counted_as = ""  # in Visitors
    _waiting = True  # for the first head
    _in_head = True  # or before one, on a new connection
    _heard = False  # anything of the head
    _deadline: IDelayedCall | None = None
    _lingering = False
    _farewell: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """See ``IProtocol``."""
        super().connectionMade()
        self.site.connections += 1
        self._restart_deadline(self.site.settings.head_timeout)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``IProtocol``."""
        self.site.connections -= 1
        self._head_has_come()
        self.site.visitors.leave(self.counted_as)
        self._stop_deadline()
        self._stop_lingering()
        super().connectionLost(reason)

    def asked_for(self) -> tuple[bytes, bytes, bytes]:
        """Method, URI and version of the request whose headers have just been read."""
        return self._command, self._path, self._version

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``. What comes after the last request is thrown away."""
        if self._lingering:
            return
        if not self._in_head and not self.requests:  # the next request of the connection
            self._in_head = True
            self._restart_deadline(self.site.settings.head_timeout)
        self._heard = True
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """See ``LineReceiver``: a line of a head."""
        if heads.is_clean_line(line):
            super().lineReceived(line)
        else:
            self._refuse_head(heads.CODE, heads.MESSAGE, 400)

    def allHeadersReceived(self) -> None:
        """See ``HTTPChannel``."""
        self._in_head = self._heard = False
        self._head_has_come()
        self._restart_deadline(self.site.settings.request_time)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """See ``HTTPChannel``."""
        if self.requests:  # else it has been answered and cut off
            self._stop_deadline()
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """See ``HTTPChannel``."""
        self._restart_deadline(self.site.settings.request_time)
        if not self.persistent:
            self._lingering = self._may_linger(request)
            if self._lingering:
                self.site.lingering += 1
        super().requestDone(request)

    def loseConnection(self) -> None:
        """Close once everything is written, or after the client did."""
        if not self._lingering:
            super().loseConnection()
        elif self._farewell is None:
            self._farewell = self.callLater(self.site.settings.linger, self._say_farewell)

    def _may_linger(self, request: Request) -> bool:
        return (
            self.site.settings.linger > 0
            and self.site.lingering < self.site.settings.max_lingering
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

    def _head_has_come(self) -> None:
        if self._waiting:
            self._waiting = False
            self.site.visitors.served(self.counted_as)

    def _refuse_head(self, code: str, message: str, status: int) -> None:
        """Answer a head that cannot be served, and close."""
        self.site.visitors.refuse(code, status, str(getattr(self.getPeer(), "host", "")))
        self.transport.write(whole(failure(code, message, status)))
        super().loseConnection()

    def _restart_deadline(self, seconds: float) -> None:
        self._stop_deadline()
        self._deadline = self.callLater(seconds, self._too_slow)

    def _stop_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _too_slow(self) -> None:
        self._deadline = None
        if self._in_head and self._heard:
            self._refuse_head("request_timeout", "the request did not come in time", 408)
            return
        peer = str(getattr(self.getPeer(), "host", ""))
        if self._in_head or self.requests:
            self.site.visitors.refuse("slow_request" if self.requests else "silent", 0, peer)
        self.timeoutConnection()
