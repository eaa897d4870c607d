"""HTTP requests of tools: bounded in time and size, without secrets in errors."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ToolError
from xiaozhi.interfaces import ToolHttpReply
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import head, stream, until_close, whole
from xiaozhi.testing.vendors.vendor import HANG_UP, RESET, ScriptedVendor, Step
from xiaozhi.tools import http
from xiaozhi.tools.http import HttpFetcher

URL = "http://api.example:8000/v1"


class HttpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)
        self.http = HttpFetcher(self.network)

    def request(
        self, method: str = "GET", url: str = URL, **options: Any
    ) -> Deferred[ToolHttpReply]:
        waiting = self.http.request(method, url, **options)
        for _ in range(20):
            self.network.settle()
        return waiting

    def dropped(self) -> str:
        """Return the reason for a request without an answer."""
        waiting = self.request(url=URL + "?secret")
        # A name's addresses are tried one after the other.
        for _ in range(10):
            self.network.advance(0.1)
        return self.refused(waiting, "http_unreachable")

    def refused(self, waiting: Deferred[ToolHttpReply], code: str) -> str:
        error = self.failureResultOf(waiting, ToolError).value
        self.assertEqual(error.code, code)
        self.assertNotIn("secret", error.message)
        self.assertEqual(self.network.getDelayedCalls(), [])
        return str(error.message)

    def test_a_request(self) -> None:
        self.vendor.play(whole({"x": [1]}, headers={"X-Left": "7"}))
        reply = self.successResultOf(
            self.request("POST", query={"k": "ä b"}, headers={"X-Key": "s"}, body={"a": "ü"})
        )
        self.assertEqual((reply.status, reply.json()), (200, {"x": [1]}))
        self.assertEqual(reply.headers["x-left"], "7")
        self.assertIs(reply.checked(), reply)
        (request,) = self.vendor.requests
        self.assertEqual((request.method, request.path), ("POST", "/v1?k=%C3%A4+b"))
        self.assertEqual((request.headers["x-key"], request.json()), ("s", {"a": "ü"}))
        self.assertEqual(request.headers["content-type"], "application/json")

    def test_bytes_are_sent_as_they_are(self) -> None:
        self.vendor.play(stream(b"in ", b"pieces", media_type="text/plain"))
        url = URL + "?a=1"
        reply = self.successResultOf(self.request("PUT", url, query={"b": "2"}, body=b"\0raw"))
        self.assertEqual(reply.body, b"in pieces")
        (request,) = self.vendor.requests
        self.assertEqual((request.path, request.body), ("/v1?a=1&b=2", b"\0raw"))
        self.assertNotIn("content-type", request.headers)

    def test_an_answer_that_ends_with_the_connection(self) -> None:
        self.vendor.play([until_close(b"all of it"), HANG_UP])
        self.assertEqual(self.successResultOf(self.request()).body, b"all of it")

    def test_status_and_body_are_checked_on_demand(self) -> None:
        self.vendor.play(whole(b"no such thing", "text/plain", 404))
        reply = self.successResultOf(self.request())
        self.assertEqual(reply.status, 404)
        error = self.assertRaises(ToolError, reply.checked)
        self.assertEqual(error.message, "api.example answered with status 404")
        error = self.assertRaises(ToolError, reply.json)
        self.assertEqual(error.code, "bad_answer")

    def test_redirects_are_not_followed(self) -> None:
        self.vendor.play(whole(b"", None, 302, {"Location": "http://10.0.0.1/"}))
        self.assertEqual(self.successResultOf(self.request()).status, 302)

    def test_too_large(self) -> None:
        self.vendor.play([*stream(b"x" * 60, b"x" * 60), b"0"])
        words = self.refused(self.request(max_bytes=100), "http_too_large")
        self.assertIn("100", words)
        self.assertTrue(self.network.sockets[0].aborted)

    def test_too_late(self) -> None:
        # Before the head, and in the middle of the body.
        begun = head("text/plain", headers={"Content-Length": "9"})
        scripts: list[list[Step]] = [[5.0], [begun, b"x", 5.0]]
        for script in scripts:
            self.vendor.play(script)
            waiting = self.request(url=URL + "?secret", timeout=2.0)
            self.network.advance(1.9)
            self.assertNoResult(waiting)
            self.network.advance(0.2)
            self.network.settle()
            error = self.failureResultOf(waiting, ToolError).value
            self.assertEqual(error.message, "api.example did not answer in 2 s")
            self.assertTrue(self.network.sockets[-1].aborted)

    def test_cancelled(self) -> None:
        self.vendor.play([5.0])
        waiting = self.request()
        waiting.cancel()
        self.network.settle()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.network.sockets[0].aborted)

    def test_unreachable(self) -> None:
        begun = head("text/plain", headers={"Content-Length": "9"})
        self.vendor.play([RESET], [begun, b"x", RESET])
        self.dropped()
        self.dropped()
        self.network.refuse(8000)
        self.assertIn("ConnectionRefusedError", self.dropped())
        self.network.unknown_names.add("api.example")
        self.assertIn("api.example cannot be reached", self.dropped())

    def test_addresses_that_cannot_be(self) -> None:
        for url in (
            "ftp://a/secret",
            "http:///secret",
            "http://user:secret@a/",
            "http://a:99999/secret",
            "http://ä/secret",
            "http://a/secret#x",
            "http://[::1/secret",
            "file:///secret",
        ):
            self.refused(self.request(url=url), "bad_url")
        self.assertEqual(self.vendor.requests, [])

    def test_only_so_many_at_a_time(self) -> None:
        self.patch(http, "_CONCURRENT", 2)
        self.http = HttpFetcher(self.network)
        script: list[Step] = [1.0, *whole({})]
        self.vendor.play(script, script, script)
        waiting = [self.request(timeout=9.0) for _ in range(3)]
        self.assertEqual(len(self.vendor.requests), 2)
        for _ in range(10):
            self.network.advance(0.3)
        self.assertEqual([self.successResultOf(each).status for each in waiting], [200] * 3)
