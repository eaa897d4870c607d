"""What all providers that speak the OpenAI dialect share: requests, timeouts, errors."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import deque
from collections.abc import AsyncGenerator
from enum import Enum
from math import inf
from typing import Annotated, Any, TypeVar

import msgspec
from twisted.internet import defer, error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    HTTPConnectionPool,
    ResponseDone,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from xiaozhi.base import trace
from xiaozhi.base.errors import ConfigError, ProviderError
from xiaozhi.providers.kit.errors import RETRYABLE, error_text, fault_in, meaning_of_refusal
from xiaozhi.providers.kit.url import VendorUrl
from xiaozhi.runtime.connecting import http_agent

T = TypeVar("T")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]

_BUFFER_LIMIT = 64 * 1024
_ERROR_LIMIT = 16 * 1024
_MESSAGE_LIMIT = 200
# Characters of a vendor's words that are looked at for them.
_WORDS_LIMIT = 4096
# Characters from which on an API key is a secret.
_SECRET = 8
_KEY_BEFORE = r"""((?:key|token|bearer)\b['"]?\s*(?:provided|is)?\s*[:=]?\s*['"(]?)"""
_KEY_LIKE = re.compile(r"\b(sk|key)-[\w*.\-]{4,}")
# Connections kept for the next calls, so that not each begins with a handshake.
_IDLE, _IDLE_SECONDS = 64, 60.0
# Seconds in which a connection may be closed, at the end.
_FAREWELL = 1.0


class VendorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a vendor is and how long it may take; all times in seconds.

    :ivar base_url: up to and with the version, e.g. ``http://localhost:11434/v1``; see
        :class:`~xiaozhi.providers.kit.url.VendorUrl`.
    :ivar extra: merged into each request last; a null takes a key out.
    :ivar first_byte_timeout: from sending the request to the answer's first byte.
    :ivar idle_timeout: between two pieces of the answer.
    :ivar total_timeout: the whole call, but for the time in which the caller does not
        want more of the answer, because the device still plays what came before.
    """

    base_url: str = "https://api.openai.com/v1"
    api_key: str = ""
    extra: dict[str, Any] = {}
    connect_timeout: Seconds = 5.0
    first_byte_timeout: Seconds = 30.0
    idle_timeout: Seconds = 20.0
    total_timeout: Seconds = 120.0

    def __post_init__(self) -> None:
        """Refuse an address that nothing can be sent to, selected or not."""
        try:
            url = VendorUrl.parse(self.base_url)
        except ConfigError as error:
            raise ValueError(error.message) from None
        if (url.user or url.password) and self.api_key.strip():
            raise ValueError("base_url: has a user name although there is an api_key")

    def __repr__(self) -> str:
        """Without the key, and a password in the URL."""
        return f"<{type(self).__name__}>"

    def merged(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with ``extra`` in it."""
        both = request | self.extra
        return {key: value for key, value in both.items() if value is not None}


@implementer(IBodyProducer)
class RequestBody:
    """Bytes to send. The transport takes them at once and buffers."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def stopProducing(self) -> None:
        """All is written already."""

    def pauseProducing(self) -> None:
        """All is written already."""

    def resumeProducing(self) -> None:
        """All is written already."""


class _Incoming(Protocol):
    """An answer's body as it arrives.

    What is not fetched waits here; above 64 KiB the vendor is held back.
    """

    transport: Any = None

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended: Failure | None = None
        self._waiting: Deferred[bytes] | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(data)
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _BUFFER_LIMIT and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = reason
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._end(waiting)

    def chunk(self) -> Deferred[bytes]:
        """The next piece; empty at the end."""
        if self._chunks:
            data = self._chunks.popleft()
            self._size -= len(data)
            if self._paused and self._size <= _BUFFER_LIMIT // 2 and self.transport is not None:
                self._paused = False
                self.transport.resumeProducing()
            return succeed(data)
        waiting: Deferred[bytes] = Deferred(self._forget)
        if self._ended is not None:
            self._end(waiting)
        else:
            self._waiting = waiting
        return waiting

    def abort(self) -> None:
        """Drop the connection unless the answer is complete."""
        self._chunks.clear()
        transport = self.transport
        if self._ended is not None or transport is None:
            return
        # Twisted's proxy hides abortConnection, and over TLS loseConnection
        # would wait for the vendor's farewell.
        real = getattr(transport, "_producer", None) or transport
        getattr(real, "abortConnection", transport.loseConnection)()

    def _forget(self, _: Deferred[bytes]) -> None:
        self._waiting = None

    def _end(self, waiting: Deferred[bytes]) -> None:
        assert self._ended is not None
        if self._ended.check(ResponseDone, PotentialDataLoss):
            waiting.callback(b"")
        else:
            waiting.errback(self._ended)


class VendorAnswer:
    """A vendor's answer with status 200."""

    def __init__(self, client: VendorClient, response: IResponse, sent: float) -> None:
        self._client = client
        self._body = _Incoming()
        settings, self._clock = client.settings, client.clock
        self._first_by = sent + settings.first_byte_timeout
        self._end_by = sent + settings.total_timeout
        self._over_by = inf
        self._begun = False
        # When the caller was last given something; until it asks again, time is not ours.
        self._given = self._clock.seconds()
        types = response.headers.getRawHeaders("content-type", [""])
        self.media_type, *parameters = (each.strip().lower() for each in types[0].split(";"))
        #: As in ``audio/pcm; rate=16000``.
        self.parameters = dict(each.partition("=")[::2] for each in parameters)
        response.deliverBody(self._body)
        client.answers.add(self)

    async def chunk(self) -> bytes:
        """The next piece; empty at the end.

        :raises ProviderError: it took too long, or the connection broke.
        """
        now = self._clock.seconds()
        self._end_by += now - self._given
        self._over_by += now - self._given
        due = now + self._client.settings.idle_timeout if self._begun else self._first_by
        due = min(due, self._end_by, self._over_by)
        data = await self._client.within(self._body.chunk(), due - now)
        self._begun = True
        self._given = self._clock.seconds()
        return data

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """All pieces. Closing this early drops the connection."""
        try:
            while data := await self.chunk():
                yield data
        finally:
            self.close()

    async def read(self, limit: int) -> bytes:
        """The whole body.

        :raises ProviderError: also when it is longer than ``limit``.
        """
        data = bytearray()
        try:
            while chunk := await self.chunk():
                data += chunk
                if len(data) > limit:
                    raise ProviderError(
                        "bad_answer", f"the answer is longer than {limit} bytes", retryable=False
                    )
        finally:
            self.close()
        return bytes(data)

    def hurry(self, seconds: float | None) -> None:
        """Wait no longer than this from now on; None: as long as the settings say."""
        self._over_by = inf if seconds is None else self._clock.seconds() + seconds

    def close(self) -> None:
        """Drop the connection unless the answer is complete. Idempotent."""
        self._body.abort()
        self._client.answers.discard(self)


class _Stopped(Enum):
    """Whether waiting was given up."""

    NO = 0
    BY_CALLER = 1
    BY_TIME = 2

    def __bool__(self) -> bool:
        return self is not _Stopped.NO


class VendorClient:
    """Sends requests to one vendor over connections that are kept.

    :param agent: for tests; otherwise one of its own with a pool.
    """

    def __init__(self, settings: VendorSettings, reactor: Any, agent: IAgent | None = None) -> None:
        self._url = VendorUrl.parse(settings.base_url)
        self._authorization = _authorization(self._url, settings.api_key.strip())
        self.settings = settings
        self.place = self._url.place
        self.clock = reactor
        self.answers: set[VendorAnswer] = set()
        self._pool: HTTPConnectionPool | None = None
        self._waiting: set[Deferred[Any]] = set()
        self._closed = False
        if agent is None:
            self._pool = HTTPConnectionPool(reactor, persistent=True)
            self._pool.maxPersistentPerHost = _IDLE
            self._pool.cachedConnectionTimeout = _IDLE_SECONDS  # type: ignore[assignment]
            agent = http_agent(reactor, connect_timeout=settings.connect_timeout, pool=self._pool)
        self._http = agent

    async def post(
        self, path: str, body: bytes, media_type: str = "application/json"
    ) -> VendorAnswer:
        """Send a request.

        :return: an answer of status 200; the caller reads or closes it.
        :raises ProviderError: anything else.
        """
        if self._closed:
            raise self._closed_error()
        headers = Headers({"Content-Type": [media_type], "User-Agent": ["xiaozhi-im"]})
        # Some bytes of a compressed answer may become gigabytes; none is asked for.
        headers.setRawHeaders("Accept-Encoding", ["identity"])
        if self._authorization:
            headers.setRawHeaders("Authorization", [self._authorization])
        if (request := trace.current()) is not None:
            headers.setRawHeaders("X-Request-Id", [request.id])
        sent = self.clock.seconds()
        due = sent + min(self.settings.first_byte_timeout, self.settings.total_timeout)
        try:
            response = await self._send(path, headers, body, due)
        except ProviderError as problem:
            # A kept connection may end just as it is used again; Twisted repeats
            # only requests without a body.
            if problem.code != "connection_lost" or not isinstance(
                problem.__cause__, ResponseNeverReceived
            ):
                raise
            response = await self._send(path, headers, body, due)
        answer = VendorAnswer(self, response, sent)
        if coding := _coding(response):
            answer.close()
            if response.code != 200:
                raise self.refusal(response.code, f"compressed ({coding}), unread".encode())
            raise ProviderError(
                "bad_answer",
                f"{self.place} compresses its answer, which was not asked for:"
                f" Content-Encoding: {self.shorten(coding)}",
                retryable=False,
            )
        if response.code == 200:
            return answer
        try:
            text = await answer.read(_ERROR_LIMIT)
        except ProviderError:
            text = b""
        raise self.refusal(response.code, text)

    async def _send(self, path: str, headers: Headers, body: bytes, due: float) -> IResponse:
        """:return: the answer's head, by ``due`` on the clock."""
        request = self._http.request(b"POST", self._url.to(path), headers, RequestBody(body))
        return await self.within(request, due - self.clock.seconds())

    async def within(self, waiting: Deferred[T], seconds: float) -> T:
        """Wait with a limit, and turn every failure into a :class:`ProviderError`."""
        stopped = _Stopped.NO

        def stop(_: Deferred[T]) -> None:
            nonlocal stopped
            stopped = stopped or _Stopped.BY_CALLER
            waiting.cancel()

        def give_up() -> None:
            nonlocal stopped
            stopped = _Stopped.BY_TIME
            shield.cancel()

        # Twisted's HTTP client answers a cancellation with errors of its own.
        shield: Deferred[T] = Deferred(stop)
        waiting.addCallbacks(shield.callback, shield.errback)
        timer = self.clock.callLater(max(0.0, seconds), give_up)
        self._waiting.add(shield)
        try:
            return await shield
        except Exception as problem:
            if stopped is _Stopped.BY_CALLER and not self._closed:
                raise defer.CancelledError() from None
            raise self._lost(problem, stopped is _Stopped.BY_TIME) from problem
        finally:
            self._waiting.discard(shield)
            if timer.active():
                timer.cancel()

    def refusal(self, status: int, body: bytes) -> ProviderError:
        """The error for an answer that is not 200."""
        text = self.shorten(error_text(body))
        code = meaning_of_refusal(status, body)
        message = f"{self.place} answered {status}" + (f": {text}" if text else "")
        return ProviderError(code, message, retryable=RETRYABLE[code])

    def reported(self, value: Any) -> ProviderError | None:
        """Return the error that decoded JSON of status 200 reports; None: it reports none."""
        if (fault := fault_in(value)) is None:
            return None
        text = f"{self.place} reports: {self.shorten(fault.words)}"
        return ProviderError(fault.code, text, retryable=fault.retryable)

    def shorten(self, text: str) -> str:
        """A vendor's words, fit for a log: one short line without the key."""
        key = self.settings.api_key.strip()
        # Single blanks: patterns take their time with many.
        text = " ".join(text[:_WORDS_LIMIT].split())
        if len(key) >= _SECRET:
            text = text.replace(key, "***")
        elif key:
            # Made up for a vendor that wants some: elsewhere it is a word, or a letter, of others.
            text = re.sub(rf"(?i:{_KEY_BEFORE})(?-i:{re.escape(key)})(?!\w)", r"\1***", text)
        text = _KEY_LIKE.sub("***", text)
        return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"

    def close(self) -> Deferred[None]:
        """Running calls fail, connections are closed."""
        self._closed = True
        for waiting in list(self._waiting):
            waiting.cancel()
        for answer in list(self.answers):
            answer.close()
        if self._pool is None:
            return succeed(None)
        # Over TLS a vendor that hangs would keep us waiting for its farewell. Without a
        # canceller, so that it takes one that comes late.
        closed: Deferred[None] = Deferred()
        self._pool.closeCachedConnections().addBoth(lambda _: closed.callback(None))
        return closed.addTimeout(_FAREWELL, self.clock).addErrback(lambda _: None)

    def _closed_error(self) -> ProviderError:
        return ProviderError("closed", "the provider has been closed", retryable=False)

    def _lost(self, problem: Exception, timed_out: bool) -> ProviderError:
        place = self.place
        if isinstance(problem, ProviderError):
            return problem
        if self._closed:
            return self._closed_error()
        if timed_out:
            return ProviderError("timeout", f"no answer from {place} in time", retryable=True)
        if isinstance(problem, error.ConnectError | error.DNSLookupError | error.TimeoutError):
            return ProviderError(
                "unreachable",
                f"cannot reach {place}: {self.shorten(str(problem))}",
                retryable=True,
            )
        reasons = getattr(problem, "reasons", None) or [Failure(problem)]
        text = self.shorten(reasons[-1].getErrorMessage())
        return ProviderError(
            "connection_lost", f"the connection to {place} was lost: {text}", retryable=True
        )


def _authorization(url: VendorUrl, key: str) -> str:
    """:return: the header of that name; empty: none is sent."""
    if url.user or url.password:
        return "Basic " + b64encode(f"{url.user}:{url.password}".encode()).decode()
    return f"Bearer {key}" if key else ""


def _coding(response: IResponse) -> str:
    """:return: how an answer is compressed; empty: it is not."""
    named = ",".join(response.headers.getRawHeaders("content-encoding", []))
    codings = [each.strip().lower() for each in named.split(",")]
    return ", ".join(each for each in codings if each not in ("", "identity", "none"))
