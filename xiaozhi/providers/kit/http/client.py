"""Requests to one vendor."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.web.client import HTTPConnectionPool, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from xiaozhi.base import trace
from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.http.answer import VendorAnswer
from xiaozhi.providers.kit.http.bodies import RequestBody
from xiaozhi.providers.kit.http.calls import VendorCalls
from xiaozhi.providers.kit.http.settings import VendorHttpSettings
from xiaozhi.providers.kit.redaction import Redaction
from xiaozhi.providers.kit.url import VendorUrl
from xiaozhi.runtime.connecting import http_agent

_ERROR_LIMIT = 16 * 1024
# Idle connections kept for later calls, which saves handshakes.
_IDLE, _IDLE_SECONDS = 64, 60.0
# Seconds to wait for connections to close when stopping.
_FAREWELL = 1.0


class VendorClient:
    """Sends requests to one vendor over persistent connections."""

    def __init__(
        self,
        settings: VendorHttpSettings,
        reactor: Any,
        agent: IAgent | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """:param agent: for tests; the default has a pool of its own.
        :param headers: of each request, instead of ``Authorization`` with the key.
        """
        self._url = VendorUrl.parse(settings.base_url)
        key = settings.api_key.strip()
        if headers is None:
            authorization = _authorization(self._url, key)
            headers = {"Authorization": authorization} if authorization else {}
        self._headers = dict(headers)
        self.settings = settings
        self._calls = VendorCalls(self._url.place, reactor, Redaction((key, *headers.values())))
        self._answers: set[VendorAnswer] = set()
        self._pool: HTTPConnectionPool | None = None
        if agent is None:
            self._pool = HTTPConnectionPool(reactor, persistent=True)
            self._pool.maxPersistentPerHost = _IDLE
            self._pool.cachedConnectionTimeout = _IDLE_SECONDS  # type: ignore[assignment]
            agent = http_agent(reactor, connect_timeout=settings.connect_timeout, pool=self._pool)
        self._http = agent

    @property
    def place(self) -> str:
        """The vendor's name in logs: without query and password."""
        return self._calls.place

    async def post(
        self, path: str, body: bytes, media_type: str = "application/json"
    ) -> VendorAnswer:
        """Send a POST request; see :meth:`request`."""
        return await self.request("POST", path, body, media_type)

    async def request(
        self, method: str, path: str, body: bytes = b"", media_type: str = ""
    ) -> VendorAnswer:
        """Send a request.

        :param path: below the base URL, e.g. ``/chat/completions``.
        :return: an answer of status 200; the caller reads or closes it.
        :raises ProviderError: anything else.
        """
        calls = self._calls
        if calls.over:
            raise calls.closed_error()
        sent = calls.clock.seconds()
        due = sent + min(self.settings.first_byte_timeout, self.settings.total_timeout)
        sending = method, path, self._head(media_type), body, due
        try:
            response = await self._send(*sending)
        except ProviderError as problem:
            # An idle connection may close just as it is used again; Twisted retries only requests
            # without a body.
            if problem.code != "connection_lost" or not isinstance(
                problem.__cause__, ResponseNeverReceived
            ):
                raise
            response = await self._send(*sending)
        answer = VendorAnswer(calls, self.settings, response, sent, self._answers.discard)
        self._answers.add(answer)
        await self._check(answer, response)
        return answer

    def _head(self, media_type: str) -> Headers:
        # A few bytes of a compressed answer may become gigabytes, so none is requested.
        fixed = {"User-Agent": "xiaozhi-im", "Accept-Encoding": "identity"}
        if media_type:
            fixed["Content-Type"] = media_type
        if (request := trace.current()) is not None:
            fixed["X-Request-Id"] = request.id
        return Headers({name: [value] for name, value in (fixed | self._headers).items()})

    async def _send(
        self, method: str, path: str, headers: Headers, body: bytes, due: float
    ) -> IResponse:
        """Send the request. :return: the answer's head, by ``due`` on the clock."""
        producer = RequestBody(body) if body else None
        request = self._http.request(method.encode(), self._url.to(path), headers, producer)
        return await self._calls.within(request, due - self._calls.clock.seconds())

    async def _check(self, answer: VendorAnswer, response: IResponse) -> None:
        """Check the answer's head.

        :raises ProviderError: the answer is compressed, or its status is not 200.
        """
        calls = self._calls
        if coding := _coding(response):
            answer.close()
            if response.code != 200:
                raise calls.refusal(response.code, f"compressed ({coding}), unread".encode())
            raise ProviderError(
                "bad_answer",
                f"{self.place} compresses its answer without being asked to:"
                f" Content-Encoding: {self.shorten(coding)}",
                retryable=False,
            )
        if response.code == 200:
            return
        try:
            text = await answer.read(_ERROR_LIMIT)
        except ProviderError:
            text = b""
        raise calls.refusal(response.code, text)

    def reported(self, value: Any) -> ProviderError | None:
        """Make the error that decoded JSON of status 200 reports; None: there is no error."""
        return self._calls.reported(value)

    def shorten(self, text: str) -> str:
        """Make a vendor's text fit for a log: one short line without the key."""
        return self._calls.shorten(text)

    def close(self) -> Deferred[None]:
        """Fail running calls and close connections."""
        self._calls.close()
        for answer in list(self._answers):
            answer.close()
        if self._pool is None:
            return succeed(None)
        # Over TLS a hanging vendor would delay us until its close notification. Without a
        # canceller, so that a late one is accepted.
        closed: Deferred[None] = Deferred()
        self._pool.closeCachedConnections().addBoth(lambda _: closed.callback(None))
        return closed.addTimeout(_FAREWELL, self._calls.clock).addErrback(lambda _: None)


def _authorization(url: VendorUrl, key: str) -> str:
    """Return the header of that name; empty: none is sent."""
    if url.user or url.password:
        return "Basic " + b64encode(f"{url.user}:{url.password}".encode()).decode()
    return f"Bearer {key}" if key else ""


def _coding(response: IResponse) -> str:
    """Return the compression of an answer; empty: none."""
    named = ",".join(response.headers.getRawHeaders("content-encoding", []))
    codings = [each.strip().lower() for each in named.split(",")]
    return ", ".join(each for each in codings if each not in ("", "identity", "none"))
