"""The upgrade request: :mod:`xiaozhi.device.network.socket`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device.errors import DeviceError
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.ota import DeviceEndpoint
from xiaozhi.device.network.socket import FirmwareSocketFactory, open_socket

ME = Identity("02:00:00:00:00:09", "c-9")


class RequestTests(SynchronousTestCase):
    def request(self, endpoint: DeviceEndpoint, framing: int = 1) -> list[str]:
        factory = FirmwareSocketFactory(Clock(), endpoint, ME, framing)
        return factory.request(b"a2V5").decode().split("\r\n")

    def test_byte_for_byte(self) -> None:
        self.assertEqual(
            self.request(DeviceEndpoint("ws://example.org:8001/xiaozhi/v1/?x=1", "abc"), 3),
            [
                "GET /xiaozhi/v1/?x=1 HTTP/1.1",
                "Host: example.org",
                "Authorization: Bearer abc",
                "Client-Id: c-9",
                "Connection: Upgrade",
                "Device-Id: 02:00:00:00:00:09",
                "Protocol-Version: 3",
                "Sec-WebSocket-Key: a2V5",
                "Sec-WebSocket-Version: 13",
                "Upgrade: websocket",
                "",
                "",
            ],
        )

    def test_token_with_a_space_is_sent_as_it_is(self) -> None:
        self.assertIn("Authorization: Token x", self.request(DeviceEndpoint("ws://h/", "Token x")))

    def test_no_token(self) -> None:
        lines = self.request(DeviceEndpoint("ws://h/"))
        self.assertFalse([line for line in lines if line.startswith("Authorization")])

    def test_invalid_header_values(self) -> None:
        for token in ("a\r\nX: y", "é"):
            self.assertRaises(DeviceError, self.request, DeviceEndpoint("ws://h/", token))


class Via:
    """An endpoint that never connects."""

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred()


class OpenTests(SynchronousTestCase):
    def test_timeout(self) -> None:
        clock, via = Clock(), Via()
        opening = open_socket(clock, DeviceEndpoint("ws://h/"), ME, 1, via=via, timeout=10)  # type: ignore[arg-type]
        clock.advance(9)
        self.assertNoResult(opening)
        clock.advance(2)
        error = self.failureResultOf(opening, DeviceError).value
        self.assertEqual(error.code, "cannot_connect")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_bad_url(self) -> None:
        for url in ("http://h/", "nonsense", "ws://h:99999999/"):
            opening = open_socket(Clock(), DeviceEndpoint(url), ME, 1, via=Via())  # type: ignore[arg-type]
            error = self.failureResultOf(opening, DeviceError).value
            self.assertIn(url, error.message)
