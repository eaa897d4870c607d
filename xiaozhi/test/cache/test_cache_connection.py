"""Loss and return of a connection to Redis, without a Redis."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.cache import connection as module
from xiaozhi.cache.connection import RedisAddress, RedisConnection


class Endpoint:
    """Connects on command; cancelled, it fails as Twisted's own endpoints do."""

    def __init__(self) -> None:
        self.connecting: Deferred[Any] | None = None
        self.tries = 0

    def connect(self, factory: Any) -> Deferred[Any]:
        self.tries += 1
        self.factory = factory
        self.connecting = Deferred(lambda d: d.errback(ConnectingCancelledError(None)))
        return self.connecting

    def connected(self) -> Any:
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        self.connecting.callback(protocol)  # type: ignore[union-attr]
        protocol.dataReceived(b"+OK\r\n")
        return protocol


class ReturnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.patch(module, "host_endpoint", lambda *_, **__: self.endpoint)
        self.connection = RedisConnection(
            RedisAddress.parse("redis://127.0.0.1/0"), self.clock, 3.0
        )
        started = Deferred.fromCoroutine(self.connection.start())
        protocol = self.endpoint.connected()
        self.successResultOf(started)
        protocol.connectionLost(Failure(ConnectionLost()))

    def test_returns(self) -> None:
        self.clock.advance(module._FIRST_RETRY)
        self.endpoint.connected()
        self.assertTrue(self.connection.connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped_while_it_waits(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.connection.stop()))
        self.clock.advance(60)
        self.assertEqual((self.endpoint.tries, self.clock.getDelayedCalls()), (1, []))

    def test_stopped_while_it_connects(self) -> None:
        self.clock.advance(module._FIRST_RETRY)
        self.assertEqual(self.endpoint.tries, 2)
        self.successResultOf(Deferred.fromCoroutine(self.connection.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(60)
        self.assertEqual(self.endpoint.tries, 2)
