"""The provider kit's HTTP client over real sockets: its contract, asynchronously."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial import unittest

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.kit.http.settings import VendorHttpSettings
from xiaozhi.testing.contracts.http import KEY, whole
from xiaozhi.testing.vendors.octets import head
from xiaozhi.testing.vendors.vendor import HANG_UP, NEXT, RESET, ScriptedVendor

T = TypeVar("T")
reactor: Any = global_reactor


def started(running: Awaitable[T]) -> Deferred[T]:
    return Deferred.fromCoroutine(cast(Coroutine[Any, Any, T], running))


class HttpTests(unittest.TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.vendor = ScriptedVendor(reactor)
        listening = reactor.listenTCP(0, self.vendor, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.over)
        address = f"http://127.0.0.1:{listening.getHost().port}/v1"
        settings = VendorHttpSettings(base_url=address, api_key=KEY, idle_timeout=1.0)
        self.client = VendorClient(settings, reactor)
        self.addCleanup(self.client.close)

    def over(self) -> Deferred[None]:
        self.vendor.hang_up()
        return deferLater(reactor, 0.1)

    async def posted(self, body: bytes = b"{}") -> bytes:
        answer = await self.client.post("/chat", body)
        return await answer.read(10_000_000)

    async def error(self) -> ProviderError:
        failure: Any = await self.assertFailure(started(self.posted()), ProviderError)
        assert isinstance(failure, ProviderError)
        return failure

    async def test_a_request(self) -> None:
        self.vendor.play([whole(b'"yes"')])
        self.assertEqual(await started(self.posted(b'{"a":1}')), b'"yes"')
        request = self.vendor.last
        self.assertEqual(
            (request.method, request.path, request.body), ("POST", "/v1/chat", b'{"a":1}')
        )
        self.assertEqual(request.headers["authorization"], f"Bearer {KEY}")

    async def test_a_large_answer_on_a_kept_connection(self) -> None:
        large = bytes(range(256)) * 20_000
        for _ in range(3):
            self.vendor.play([whole(large)])
            self.assertEqual(await started(self.posted()), large)
        self.assertEqual(len(self.vendor.connections), 1)

    async def test_refusals(self) -> None:
        for status, code in ((401, "unauthorized"), (404, "not_found"), (429, "rate_limited")):
            self.vendor.play([whole(b'{"error": "no: ' + KEY.encode() + b'"}', status)])
            error = await self.error()
            self.assertEqual(error.code, code)
            self.assertIn("no: ***", error.message)

    async def test_an_answer_that_breaks_off(self) -> None:
        for last in (HANG_UP, RESET):
            length = {"Content-Length": "100"}
            self.vendor.play([head("text/plain", 200, length) + b"half", last])
            self.assertEqual((await self.error()).code, "connection_lost")

    async def test_a_vendor_that_falls_silent(self) -> None:
        self.vendor.play([head("text/plain"), b"a", NEXT])
        self.assertEqual((await self.error()).code, "timeout")
