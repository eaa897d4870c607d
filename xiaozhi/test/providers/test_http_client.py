"""The HTTP client of the provider kit, on virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from xiaozhi.base.errors import ProviderError
from xiaozhi.test.providers.test_websocket_client import PORT, VirtualCase
from xiaozhi.testing.contracts.http import HttpContract
from xiaozhi.testing.vendors.octets import head
from xiaozhi.testing.vendors.vendor import NEXT


class HttpTests(VirtualCase, HttpContract):
    def address(self) -> str:
        return f"http://vendor.example:{PORT}/v1"

    def test_limits(self) -> None:
        """Rows: the vendor's behaviour; the setting; seconds until the call fails."""
        rows: tuple[tuple[list[Any], dict[str, float], float], ...] = (
            ([NEXT], {"first_byte_timeout": 4.0}, 4.0),
            ([head("text/plain"), b"a", NEXT], {"idle_timeout": 3.0}, 3.0),
            ([head("text/plain"), *[1.0, b"a"] * 20], {"total_timeout": 6.5}, 6.5),
        )
        for steps, setting, seconds in rows:
            self.vendor.play(steps)
            started = self.start(self.posted(self.client(**setting)))
            self.network.settle()
            self.network.pump([0.1] * round((seconds - 0.2) * 10))
            self.assertNoResult(started)
            self.network.pump([0.1] * 4)
            error = self.failureResultOf(started, ProviderError).value
            self.assertEqual((error.code, error.retryable), ("timeout", True), setting)

    def test_a_caller_that_cancels(self) -> None:
        self.vendor.play([NEXT])
        started = self.start(self.posted(self.client()))
        self.network.settle()
        started.cancel()
        self.failureResultOf(started, CancelledError)

    def test_connection_refused(self) -> None:
        self.network.refuse(PORT)
        self.assertEqual(self.error(self.posted(self.client())).code, "unreachable")
