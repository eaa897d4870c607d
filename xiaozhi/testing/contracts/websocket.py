"""Contract of the WebSocket client: the same over memory and real sockets."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from xiaozhi.base.errors import ConfigError, ProviderError
from xiaozhi.providers.kit.websocket import (
    Message,
    WebSocketConnection,
    WebSocketOptions,
    connect,
)
from xiaozhi.testing.vendors.octets import Opcode, close_frame, frame, head
from xiaozhi.testing.vendors.vendor import ACCEPT, HANG_UP, NEXT, RESET, ScriptedVendor

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as TestCase
else:
    TestCase = object

T = TypeVar("T")
SIGNED = "?token=topsecret"


class WebSocketContract(TestCase):
    """Mix into a test case that defines how to run and where the vendor listens."""

    vendor: ScriptedVendor

    def finish(self, running: Awaitable[T]) -> T:
        """Run to the end; implemented by subclasses."""
        raise NotImplementedError

    def error(self, running: Awaitable[Any]) -> ProviderError:
        """Run to a :class:`ProviderError` and return it."""
        raise NotImplementedError

    def url(self, path: str = "/v1" + SIGNED) -> str:
        """Return the vendor's address."""
        raise NotImplementedError

    @property
    def reactor(self) -> Any:
        """Return the reactor of the client."""
        raise NotImplementedError

    def options(self, **changes: Any) -> WebSocketOptions:
        return WebSocketOptions(secrets=("topsecret",), **changes)

    def dial(self, **changes: Any) -> Awaitable[WebSocketConnection]:
        return connect(self.url(), self.reactor, self.options(**changes))

    async def answers(self, *sent: Message, count: int = 1, **changes: Any) -> list[Any]:
        """Open, send, and return so many messages; the end is None."""
        connection = await self.dial(**changes)
        for message in sent:
            await connection.send(message)
        received = [await connection.receive() for _ in range(count)]
        connection.close()
        return received

    def test_messages_both_ways(self) -> None:
        self.vendor.play([ACCEPT, NEXT, NEXT, frame("你好"), frame(b"\x00\xff"), NEXT])
        self.assertEqual(
            self.finish(self.answers("hello", b"\x01\x02", count=2)), ["你好", b"\x00\xff"]
        )
        self.assertEqual(self.vendor.last.messages, ["hello", b"\x01\x02"])

    def test_headers_query_and_subprotocol(self) -> None:
        self.vendor.play([ACCEPT, frame("x"), NEXT])
        self.finish(self.answers(headers={"Authorization": "Bearer k", "X-App": "7"}))
        request = self.vendor.last
        self.assertEqual(request.path, "/v1" + SIGNED)
        self.assertEqual(request.headers["authorization"], "Bearer k")
        self.assertEqual(request.headers["x-app"], "7")
        self.assertNotIn("sec-websocket-extensions", request.headers)

    def test_a_large_message(self) -> None:
        large = b"a" * 3_000_000
        self.vendor.play([ACCEPT, frame(large), NEXT])
        self.assertEqual(self.finish(self.answers()), [large])

    def test_a_message_in_fragments(self) -> None:
        parts = frame("one ", Opcode.TEXT, final=False), frame("two", Opcode.MORE)
        self.vendor.play([ACCEPT, *parts, NEXT])
        self.assertEqual(self.finish(self.answers()), ["one two"])

    def test_a_message_over_the_limit(self) -> None:
        self.vendor.play([ACCEPT, frame(b"a" * 2000), NEXT])
        error = self.error(self.answers(max_message=1000))
        self.assertEqual((error.code, error.retryable), ("connection_lost", False))

    def test_a_normal_end(self) -> None:
        for last in ([close_frame(1000)], [close_frame(None)], [close_frame(1001)]):
            self.vendor.play([ACCEPT, frame("bye"), *last])
            self.assertEqual(self.finish(self.answers(count=2)), ["bye", None])

    def test_an_end_with_a_reason(self) -> None:
        self.vendor.play([ACCEPT, close_frame(4001, "quota of topsecret is used up"), HANG_UP])
        error = self.error(self.answers())
        self.assertEqual((error.code, error.retryable), ("connection_lost", True))
        self.assertIn("4001: quota of *** is used up", error.message)

    def test_a_connection_that_is_cut(self) -> None:
        for last in (HANG_UP, RESET):
            self.vendor.play([ACCEPT, frame("x"), last])
            self.assertEqual(self.error(self.answers(count=2)).code, "connection_lost")

    def test_refusals(self) -> None:
        for status, code in ((401, "unauthorized"), (429, "rate_limited"), (503, "vendor_error")):
            body = b'{"error": {"message": "no: topsecret"}}'
            self.vendor.play(
                [
                    head("application/json", status, {"Content-Length": str(len(body))}) + body,
                    HANG_UP,
                ]
            )
            error = self.error(self.dial())
            self.assertEqual(error.code, code)
            self.assertIn(f"answered {status}", error.message)
            self.assertNotIn("topsecret", error.message)

    def test_answers_that_are_not_websocket(self) -> None:
        self.vendor.play([b"SSH-2.0-OpenSSH_9.6\r\n\r\n", HANG_UP])
        error = self.error(self.dial())
        self.assertIn(error.code, ("connection_lost", "unreachable"))

    def test_text_that_is_no_utf8(self) -> None:
        self.vendor.play([ACCEPT, frame(b"\xff\xfe", Opcode.TEXT), NEXT])
        error = self.error(self.answers())
        self.assertEqual((error.code, error.retryable), ("connection_lost", False))

    def test_pings_are_answered_and_none_is_sent(self) -> None:
        self.vendor.play([ACCEPT, frame(b"p", Opcode.PING), frame("x"), NEXT])
        self.assertEqual(self.finish(self.answers()), ["x"])
        self.assertEqual(self.vendor.last.pings, [])

    def test_urls(self) -> None:
        for url in ("http://x/", "ws://", "x", "ws:///path"):
            running: Any = connect(url, self.reactor, self.options())
            self.assertRaises(ConfigError, running.send, None)
