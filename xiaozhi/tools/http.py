"""HTTP requests of tools, bounded in time, size and number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from xiaozhi.base.errors import ToolError
from xiaozhi.interfaces import ToolHttpReply
from xiaozhi.runtime.cancelling import within
from xiaozhi.runtime.connecting import http_agent

_CONNECT_TIMEOUT = 5.0
# Concurrent requests of all tools; more wait, each within its own timeout.
_CONCURRENT = 64


@dataclass(frozen=True, slots=True, repr=False)
class HttpReply:
    """A :class:`~xiaozhi.interfaces.ToolHttpReply`."""

    host: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def checked(self) -> HttpReply:
        """See :class:`~xiaozhi.interfaces.ToolHttpReply`."""
        if not 200 <= self.status < 300:
            raise ToolError("http_status", f"{self.host} answered with status {self.status}")
        return self

    def json(self) -> Any:
        """See :class:`~xiaozhi.interfaces.ToolHttpReply`."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise ToolError("bad_answer", f"{self.host} did not answer with JSON") from None


class HttpFetcher:
    """A :class:`~xiaozhi.interfaces.ToolHttp` on a reactor."""

    def __init__(self, reactor: Any, agent: IAgent | None = None) -> None:
        self._clock = reactor
        self._agent = agent or http_agent(reactor, connect_timeout=_CONNECT_TIMEOUT)
        self._room = DeferredSemaphore(_CONCURRENT)

    def request(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = 10.0,
        max_bytes: int = 1 << 20,
    ) -> Deferred[ToolHttpReply]:
        """See :class:`~xiaozhi.interfaces.ToolHttp`."""
        fields = Headers({"User-Agent": ["xiaozhi-ai"]})
        for name, value in (headers or {}).items():
            fields.setRawHeaders(name, [value])
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body, ensure_ascii=False).encode()
            fields.setRawHeaders("Content-Type", ["application/json"])

        async def work() -> ToolHttpReply:
            whole, host = _address(url, query)

            def late() -> ToolError:
                return ToolError("http_timeout", f"{host} did not answer in {timeout:g} s")

            fetching = self._fetch(method, whole, host, fields, body, max_bytes)
            return await within(timeout, self._clock, fetching, late)

        return Deferred.fromCoroutine(work())

    async def _fetch(
        self, method: str, url: bytes, host: str, headers: Headers, body: Any, max_bytes: int
    ) -> HttpReply:
        await self._room.acquire()
        try:
            producer = None if body is None else _Bytes(body)
            response = await self._agent.request(method.encode(), url, headers, producer)
            collected = await _collected(response, max_bytes)
        except (CancelledError, ToolError):
            raise
        except Exception as error:
            inner = _inner(error)
            if isinstance(inner, CancelledError):
                raise inner from None
            # The error's text may contain the URL, and so a key.
            reason = f"{host} cannot be reached ({type(inner).__name__})"
            raise ToolError("http_unreachable", reason) from None
        finally:
            self._room.release()
        if collected is None:
            raise ToolError("http_too_large", f"the response of {host} exceeds {max_bytes} bytes")
        found = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return HttpReply(host, int(response.code), found, collected)


def _address(url: str, query: Mapping[str, str] | None) -> tuple[bytes, str]:
    """:return: the complete URL and its host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        whole = url + (f"{'&' if parts.query else '?'}{urlencode(query)}" if query else "")
        encoded = whole.encode("ascii")
        _ = parts.port
    except ValueError:
        raise ToolError("bad_url", "the address is invalid") from None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.fragment:
        raise ToolError("bad_url", "the address must be http(s)://host/…")
    return encoded, host


def _inner(error: BaseException) -> BaseException:
    """Return the cause of an error that Twisted's HTTP client has wrapped."""
    reasons = getattr(error, "reasons", None)
    return reasons[0].value if reasons else error


def _collected(response: IResponse, most: int) -> Deferred[bytes | None]:
    """Read a body.

    :return: None: it is longer than ``most``.
    """
    collector = _Collector(most)
    response.deliverBody(collector)
    return collector.done


class _Collector(Protocol):
    def __init__(self, most: int) -> None:
        self._most = most
        self._data = bytearray()
        self.done: Deferred[bytes | None] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._data += data
        if len(self._data) > self._most:
            self._data.clear()
            self.done.callback(None)
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(reason)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            # Twisted's proxy hides abortConnection; over TLS, loseConnection would wait for the
            # server's close_notify.
            real = getattr(transport, "_producer", None) or transport
            getattr(real, "abortConnection", transport.loseConnection)()


@implementer(IBodyProducer)
class _Bytes:
    """A body in memory."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """Do nothing: the whole body is already written."""

    def resumeProducing(self) -> None:
        """As :meth:`pauseProducing`."""

    def stopProducing(self) -> None:
        """As :meth:`pauseProducing`."""
