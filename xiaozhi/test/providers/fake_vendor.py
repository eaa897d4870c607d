"""A vendor without a network: an HTTP agent whose answers a test controls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer


class FakeTransport(StringTransport):
    """Records whether it was paused or aborted."""

    aborted = False
    paused = False

    def abortConnection(self) -> None:
        self.aborted = True

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


@implementer(IResponse)
class FakeResponse:
    """An answer whose body arrives in pieces."""

    version = (b"HTTP", 1, 1)
    phrase = b""
    length = 0
    request: Any = None
    previousResponse: Any = None

    def __init__(self, code: int, media_type: str) -> None:
        self.code = code
        self.headers = Headers({"content-type": [media_type]})
        self.transport = FakeTransport()
        self.protocol: IProtocol | None = None

    def deliverBody(self, protocol: IProtocol) -> None:
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def setPreviousResponse(self, response: IResponse) -> None:
        raise NotImplementedError

    def send(self, *chunks: bytes) -> None:
        assert self.protocol is not None
        for chunk in chunks:
            self.protocol.dataReceived(chunk)

    def end(self, reason: BaseException | None = None) -> None:
        assert self.protocol is not None
        self.protocol.connectionLost(Failure(reason or ResponseDone()))


@dataclass
class Request:
    """A request to the vendor."""

    method: bytes
    url: bytes
    headers: Headers
    body: bytes
    answered: Deferred[IResponse]
    cancelled: list[bool] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)

    def answer(self, media_type: str = "text/event-stream", code: int = 200) -> FakeResponse:
        """Send the head."""
        response = FakeResponse(code, media_type)
        self.answered.callback(response)
        return response

    def whole(self, body: bytes, media_type: str = "application/json", code: int = 200) -> None:
        """Send everything at once."""
        response = self.answer(media_type, code)
        response.send(body)
        response.end()


@implementer(IAgent)
class FakeVendor:
    """Keeps every request until the test answers it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        sink = StringTransport()
        if bodyProducer is not None:
            bodyProducer.startProducing(sink)
        cancelled: list[bool] = []
        answered: Deferred[IResponse] = Deferred(lambda _: cancelled.append(True))
        request = Request(method, uri, headers or Headers(), sink.value(), answered, cancelled)
        self.requests.append(request)
        return answered


class Reading:
    """An iteration in the background, so that a test can inspect it half-way."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self.items: list[Any] = []
        self.done: Deferred[None] = Deferred.fromCoroutine(self._read(source))

    async def _read(self, source: AsyncIterator[Any]) -> None:
        async for item in source:
            self.items.append(item)
