"""The provider kit's WebSocket client over real sockets, plain and with TLS."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from OpenSSL import SSL
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.trial import unittest

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.websocket import WebSocketOptions, connect
from xiaozhi.testing.certificates import Authority
from xiaozhi.testing.vendors.octets import close_frame, frame
from xiaozhi.testing.vendors.vendor import ACCEPT, HANG_UP, NEXT, ScriptedVendor

T = TypeVar("T")
reactor: Any = global_reactor


def started(running: Awaitable[T]) -> Deferred[T]:
    return Deferred.fromCoroutine(cast(Coroutine[Any, Any, T], running))


class RealCase(unittest.TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.vendor = ScriptedVendor(reactor)

    def serve(self, listening: Any) -> int:
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.over)
        port: int = listening.getHost().port
        return port

    def over(self) -> Deferred[None]:
        self.vendor.hang_up()
        return deferLater(reactor, 0.1)

    async def exchange(self, url: str, count: int, **changes: Any) -> list[Any]:
        connection = await connect(url, reactor, WebSocketOptions(**changes))
        await connection.send("start")
        found = [await connection.receive() for _ in range(count)]
        connection.close()
        return found


class PlainTests(RealCase):
    def setUp(self) -> None:
        super().setUp()
        port = self.serve(reactor.listenTCP(0, self.vendor, interface="127.0.0.1"))
        self.url = f"ws://127.0.0.1:{port}/v1?sign=x"

    async def test_a_conversation(self) -> None:
        sound = bytes(range(256)) * 4000
        self.vendor.play([ACCEPT, NEXT, frame({"ok": True}), frame(sound), close_frame(1000)])
        found = await started(self.exchange(self.url, 3))
        self.assertEqual(found, ['{"ok": true}', sound, None])
        self.assertEqual(self.vendor.last.messages, ["start"])

    async def test_a_vendor_that_hangs_up(self) -> None:
        self.vendor.play([ACCEPT, NEXT, frame("one"), HANG_UP])
        error: Any = await self.assertFailure(started(self.exchange(self.url, 2)), ProviderError)
        self.assertEqual(error.code, "connection_lost")

    async def test_connection_refused(self) -> None:
        error: Any = await self.assertFailure(
            started(self.exchange("ws://127.0.0.1:1/x", 1)), ProviderError
        )
        self.assertEqual(error.code, "unreachable")


class TlsTests(RealCase):
    """A vendor with a certificate that no public authority has signed."""

    def setUp(self) -> None:
        super().setUp()
        directory = Path(self.mktemp())
        directory.mkdir()
        certificate, key = Authority(directory).issue("vendor", "localhost", "127.0.0.1")
        context = DefaultOpenSSLContextFactory(key, certificate, sslmethod=SSL.TLS_METHOD)
        port = self.serve(reactor.listenSSL(0, self.vendor, context, interface="127.0.0.1"))
        self.url = f"wss://localhost:{port}/v1"

    async def test_it_is_not_trusted(self) -> None:
        error: Any = await self.assertFailure(started(self.exchange(self.url, 1)), ProviderError)
        self.assertIn(error.code, ("connection_lost", "unreachable"))
        self.assertEqual(self.vendor.requests, [])

    async def test_trusted_if_configured(self) -> None:
        self.vendor.play([ACCEPT, NEXT, frame("hello"), NEXT])
        found = await started(self.exchange(self.url, 1, verify_tls=False))
        self.assertEqual(found, ["hello"])
