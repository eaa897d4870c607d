"""Contract of the HTTP client: the same over memory and real sockets."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.kit.http.settings import VendorHttpSettings
from xiaozhi.testing.vendors.octets import head
from xiaozhi.testing.vendors.vendor import HANG_UP, RESET, ScriptedVendor

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as TestCase
else:
    TestCase = object

T = TypeVar("T")
KEY = "t0psecret-9876"


def whole(body: bytes, status: int = 200) -> bytes:
    """Make an answer with its length."""
    return head("application/json", status, {"Content-Length": str(len(body))}) + body


class HttpContract(TestCase):
    """Mix into a test case that defines how to run and where the vendor listens."""

    vendor: ScriptedVendor

    def finish(self, running: Awaitable[T]) -> T:
        """Run to the end; implemented by subclasses."""
        raise NotImplementedError

    def error(self, running: Awaitable[Any]) -> ProviderError:
        """Run to a :class:`ProviderError` and return it."""
        raise NotImplementedError

    def address(self) -> str:
        """Return the vendor's base URL."""
        raise NotImplementedError

    @property
    def reactor(self) -> Any:
        """Return the reactor of the client."""
        raise NotImplementedError

    def client(self, **changes: Any) -> VendorClient:
        settings = VendorHttpSettings(base_url=self.address(), api_key=KEY, **changes)
        client = VendorClient(settings, self.reactor)
        self.addCleanup(client.close)
        return client

    async def posted(self, client: VendorClient, body: bytes = b"{}", limit: int = 1000) -> bytes:
        answer = await client.post("/chat", body)
        return await answer.read(limit)

    def test_a_request(self) -> None:
        self.vendor.play([whole(b'"yes"')])
        self.assertEqual(self.finish(self.posted(self.client(), b'{"a":1}')), b'"yes"')
        request = self.vendor.last
        self.assertEqual((request.method, request.path), ("POST", "/v1/chat"))
        self.assertEqual((request.body, request.headers["content-length"]), (b'{"a":1}', "7"))
        self.assertEqual(request.headers["authorization"], f"Bearer {KEY}")
        self.assertEqual(request.headers["accept-encoding"], "identity")

    def test_headers_of_its_own(self) -> None:
        self.vendor.play([whole(b"1")])
        settings = VendorHttpSettings(base_url=self.address(), api_key=KEY)
        client = VendorClient(settings, self.reactor, headers={"X-Key": KEY})
        self.addCleanup(client.close)
        self.finish(self.posted(client))
        self.assertEqual(self.vendor.last.headers["x-key"], KEY)
        self.assertNotIn("authorization", self.vendor.last.headers)

    def test_another_method(self) -> None:
        self.vendor.play([whole(b"[]")])

        async def listed() -> bytes:
            answer = await self.client().request("GET", "/models")
            return await answer.read(100)

        self.assertEqual(self.finish(listed()), b"[]")
        self.assertEqual((self.vendor.last.method, self.vendor.last.path), ("GET", "/v1/models"))

    def test_pieces_as_they_come(self) -> None:
        self.vendor.play([head("text/plain"), b"one", b"two", HANG_UP])

        async def pieces() -> bytes:
            answer = await self.client().post("/chat", b"")
            return b"|".join([chunk async for chunk in answer.chunks()])

        self.assertEqual(self.finish(pieces()).replace(b"|", b""), b"onetwo")

    def test_a_connection_is_kept(self) -> None:
        client = self.client()
        for _ in range(3):
            self.vendor.play([whole(b"1")])
            self.finish(self.posted(client))
        self.assertEqual(len(self.vendor.connections), 1)

    def test_refusals(self) -> None:
        for status, code in ((401, "unauthorized"), (404, "not_found"), (429, "rate_limited")):
            self.vendor.play([whole(b'{"error": "no: ' + KEY.encode() + b'"}', status)])
            error = self.error(self.posted(self.client()))
            self.assertEqual(error.code, code)
            self.assertIn(f"answered {status}: no: ***", error.message)

    def test_a_body_over_the_limit(self) -> None:
        self.vendor.play([whole(b"a" * 2000)])
        self.assertEqual(self.error(self.posted(self.client())).code, "bad_answer")

    def test_an_answer_that_breaks_off(self) -> None:
        for last in (HANG_UP, RESET):
            length = {"Content-Length": "100"}
            self.vendor.play([head("text/plain", 200, length) + b"half", last])
            error = self.error(self.posted(self.client()))
            self.assertEqual((error.code, error.retryable), ("connection_lost", True))

    def test_after_the_end(self) -> None:
        client = self.client()
        client.close()
        self.assertEqual(self.error(self.posted(client)).code, "closed")
