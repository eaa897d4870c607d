"""Bodies of requests and answers."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

_BUFFER_LIMIT = 64 * 1024


@implementer(IBodyProducer)
class RequestBody:
    """The body of a request. The transport accepts it at once and buffers it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def stopProducing(self) -> None:
        """Do nothing: everything is written."""

    def pauseProducing(self) -> None:
        """Do nothing: everything is written."""

    def resumeProducing(self) -> None:
        """Do nothing: everything is written."""


class IncomingBody(Protocol):
    """The body of an answer as it arrives.

    Pieces wait here until they are read; above 64 KiB the vendor is paused.
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
        """Return the next piece; empty at the end."""
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
        # Twisted's proxy hides abortConnection, and over TLS loseConnection would wait for the
        # vendor's close notification.
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
