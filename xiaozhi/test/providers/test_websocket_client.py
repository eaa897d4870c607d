"""The WebSocket client of the provider kit, on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.websocket import WebSocketConnection
from xiaozhi.testing.contracts.websocket import WebSocketContract
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import frame
from xiaozhi.testing.vendors.vendor import ACCEPT, NEXT, ScriptedVendor

T = TypeVar("T")
PORT = 8000


class VirtualCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(PORT, self.vendor)
        self.addCleanup(self.check_clean)

    def check_clean(self) -> None:
        self.network.advance(5)
        self.vendor.hang_up()
        self.network.settle()
        self.assertEqual(self.network.getDelayedCalls(), [])

    @property
    def reactor(self) -> Any:
        return self.network

    def url(self, path: str = "/v1?token=topsecret") -> str:
        return f"ws://vendor.example:{PORT}{path}"

    def start(self, running: Awaitable[T]) -> Deferred[T]:
        return Deferred.fromCoroutine(cast(Coroutine[Any, Any, T], running))

    def finish(self, running: Awaitable[T]) -> T:
        started = self.start(running)
        self.network.settle()
        return self.successResultOf(started)

    def error(self, running: Awaitable[Any]) -> ProviderError:
        started = self.start(running)
        self.network.pump([0.0, 0.5, 0.5])
        found = self.failureResultOf(started, ProviderError).value
        assert isinstance(found, ProviderError)
        return found


class WebSocketTests(VirtualCase, WebSocketContract):
    def test_connection_refused(self) -> None:
        self.network.refuse(PORT)
        error = self.error(self.dial())
        self.assertEqual((error.code, error.retryable), ("unreachable", True))
        self.assertNotIn("topsecret", error.message)

    def test_no_answer_to_the_handshake(self) -> None:
        self.vendor.play([NEXT])
        started = self.start(self.dial(open_timeout=4.0))
        self.network.settle()
        self.network.advance(3.9)
        self.assertNoResult(started)
        self.network.advance(0.2)
        error = self.failureResultOf(started, ProviderError).value
        self.assertEqual((error.code, "did not open" in error.message), ("timeout", True))

    def test_silence(self) -> None:
        self.vendor.play([ACCEPT, NEXT])
        started = self.start(self.answers(idle_timeout=7.0))
        self.network.settle()
        self.network.advance(6.9)
        self.assertNoResult(started)
        self.network.advance(0.2)
        self.assertEqual(self.failureResultOf(started, ProviderError).value.code, "timeout")

    def test_a_caller_that_cancels(self) -> None:
        self.vendor.play([NEXT])
        dialling = self.start(self.dial())
        self.network.settle()
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        self.vendor.play([ACCEPT, NEXT])
        connection = self.finish(self.dial())
        waiting = self.start(connection.receive())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        connection.close()

    def test_a_vendor_that_sends_more_than_is_taken(self) -> None:
        piece = b"a" * 100_000
        self.vendor.play([ACCEPT, *[frame(piece)] * 20, NEXT])
        connection = self.finish(self.dial())
        self.network.settle()
        # The queue here is bounded; the rest waits at the vendor.
        self.assertLess(connection._size, 500_000)
        for _ in range(20):
            self.assertEqual(self.finish(connection.receive()), piece)
        connection.close()

    def test_closing(self) -> None:
        self.vendor.play([ACCEPT, NEXT])
        connection: WebSocketConnection = self.finish(self.dial())
        connection.close()
        connection.close()
        self.assertEqual(self.error(connection.send("late")).code, "closed")
        self.assertIsNone(self.finish(connection.receive()))
        self.network.settle()
        self.assertEqual(self.vendor.last.close_code, 1000)

    def test_a_vendor_that_does_not_read(self) -> None:
        self.vendor.play([ACCEPT, NEXT])
        connection = self.finish(self.dial(idle_timeout=5.0))
        connection.blocked(True)
        started = self.start(connection.send("one"))
        self.assertNoResult(started)
        connection.blocked(False)
        self.successResultOf(started)
        connection.blocked(True)
        started = self.start(connection.send("two"))
        self.network.advance(5.1)
        self.assertEqual(self.failureResultOf(started, ProviderError).value.code, "timeout")
