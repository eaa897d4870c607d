from __future__ import annotations

import json

from twisted.internet.testing import StringTransport

from xiaozhi.test.im.test_im_gateway import FIRMWARE, MAC, PortCase, Wire
from xiaozhi.wire.mail import Mail


class HttpCase(PortCase):
    """Probes through the ingress."""

    def ask(
        self, path: str, method: str = "GET"
    ) -> tuple[int, dict[str, str], dict[str, object] | None]:
        wire = self.dial()
        wire.feed(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode())
        wire.feed(b"Authorization: Bearer admin\r\n\r\n")
        self.clock.advance(0)
        data = wire.take()
        wire.lose()
        if method == "HEAD":
            top, _, body = data.partition(b"\r\n\r\n")
            self.assertEqual(body, b"")
            return int(top.split()[1]), {}, None
        return self.answer_of(data)

    def answer_of(self, data: bytes) -> tuple[int, dict[str, str], dict[str, object] | None]:
        status, headers, body = self.answer(data)
        return status, headers, body


class HttpTests(HttpCase):
    def test_healthy(self) -> None:
        self.greet()
        status, _, body = self.ask("/health")
        self.assertEqual(status, 200)
        assert body is not None
        self.assertEqual(
            (body["status"], body["connections"], body["grpc_status"]),
            ("healthy", 1, "connected"),
        )
        self.assertEqual(body["checks"], {"store": "ok", "presence": "ok"})
        self.assertEqual((body["node"], body["nodes"]), ("im-1", self.nodes))

    def test_without_the_ai(self) -> None:
        for state in ("connecting", "disconnected"):
            self.bridge.state = state
            status, _, body = self.ask("/health")
            assert body is not None
            self.assertEqual(
                (status, body["status"], body["grpc_status"]), (503, "unhealthy", state)
            )
        # Devices may still connect and are kept until it is back.
        self.assertEqual(self.ask("/ready")[0], 200)

    def test_without_the_store(self) -> None:
        self.checks["store"] = lambda: "no connection to 127.0.0.1:5432"
        status, _, body = self.ask("/health")
        assert body is not None
        self.assertEqual(status, 503)
        self.assertEqual(
            body["checks"], {"store": "no connection to 127.0.0.1:5432", "presence": "ok"}
        )

    def test_without_presence(self) -> None:
        """Connected devices are not affected: a load balancer should not remove this edge."""
        self.useful["presence"] = lambda: "redis://127.0.0.1:6379/0: not connected"
        status, _, body = self.ask("/health")
        assert body is not None
        self.assertEqual((status, body["status"]), (200, "degraded"))
        self.assertEqual(
            body["checks"],
            {"store": "ok", "presence": "redis://127.0.0.1:6379/0: not connected"},
        )
        self.bridge.state = "disconnected"
        status, _, body = self.ask("/health")
        assert body is not None
        self.assertEqual((status, body["status"]), (503, "unhealthy"))

    def test_while_draining(self) -> None:
        self.gateway.drain(1)
        self.assertEqual(self.ask("/ready")[::2], (503, {"status": "draining"}))
        self.assertEqual(self.ask("/alive")[::2], (200, {"status": "alive"}))

    def test_other_paths(self) -> None:
        for path in ("/", "/healthy", "/health/x", "/xiaozhi", "/xiaozhi/v2"):
            status, _, body = self.ask(path)
            assert body is not None
            self.assertEqual((status, body["error"]), (404, "not_found"), path)

    def test_a_device_path_without_an_upgrade(self) -> None:
        for path in ("/ws", "/ws/", "/ws?token=secret", "/xiaozhi/v1/", "/xiaozhi/v1"):
            status, headers, body = self.ask(path)
            assert body is not None
            self.assertEqual((status, body["error"]), (426, "upgrade_required"), path)
            self.assertEqual(headers["upgrade"], "websocket")

    def test_other_methods(self) -> None:
        status, headers, body = self.ask("/health", "DELETE")
        assert body is not None
        self.assertEqual((status, body["error"]), (405, "method_not_allowed"))
        self.assertEqual(headers["allow"], "GET, HEAD")
        self.assertEqual(self.ask("/health", "HEAD")[0], 200)

    def test_keep_alive(self) -> None:
        wire = self.dial()
        for _ in range(3):
            wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(self.answer(wire.take())[2], {"status": "alive"})
        self.assertEqual(self.door.waiting, 0)
        self.clock.pump([1.0] * 61)
        self.assertTrue(wire.disconnecting)

    def test_no_more_than_so_many_at_once(self) -> None:
        """Each may be silent for a minute between two requests."""
        wires = [self.dial() for _ in range(4)]
        for wire in wires:
            wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(self.answer(wire.take())[0], 200)
        more = self.dial()
        more.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((more.take(), more.disconnecting), (b"", True))
        more.lose()
        self.assertEqual(self.door.waiting, 0)
        wires[0].lose()
        self.assertEqual(self.ask("/alive")[0], 200)
        # Devices are counted separately.
        self.greet()

    def test_a_request_body_goes_along(self) -> None:
        wire = self.dial()
        wire.feed(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        wire.feed(b"cd")
        self.assertEqual(self.answer(wire.take())[0], 405)

    def test_a_long_body_is_not_kept(self) -> None:
        """Otherwise anyone could fill the disk or the memory."""
        for length in (b"Content-Length: 10000000000\r\n", b"Transfer-Encoding: chunked\r\n"):
            wire = self.dial()
            wire.feed(b"POST /health HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n")
            chunk = bytes(1000)
            if b"chunked" in length:
                chunk = b"3e8\r\n" + chunk + b"\r\n"
            sent = 0
            while not wire.aborted and sent < 10_000_000:
                wire.feed(chunk)
                sent += 1000
            self.assertLess(sent, 100_000)
            self.assertEqual(wire.take(), b"")

    def test_the_word_upgrade_elsewhere_is_no_upgrade(self) -> None:
        wire = self.dial()
        wire.feed(b"GET /alive?upgrade: websocket HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertNotIn(b"101", wire.take()[:20])

    def test_an_upgrade_is_not_handled_by_the_site(self) -> None:
        wire = self.dial()
        wire.feed(FIRMWARE)
        self.assertIn(b"101", wire.take()[:20])
        self.assertIsInstance(wire, StringTransport)

    def test_garbage(self) -> None:
        wire = self.dial()
        wire.feed(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        self.clock.advance(0)
        self.assertTrue(wire.disconnecting)

    def test_json_has_its_length(self) -> None:
        """§9, 15: no chunked answers."""
        wire = self.dial()
        wire.feed(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        top, _, body = wire.take().partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", top.lower())
        self.assertEqual(json.loads(body)["status"], "healthy")


class SlowTests(PortCase):
    """Endless requests."""

    def slow(self, request: bytes) -> None:
        """Send a byte per second."""
        wire = self.dial()
        passed = 0
        for octet in request:
            if wire.disconnecting or getattr(wire, "aborted", False):
                break
            wire.feed(bytes([octet]))
            self.clock.pump([0.25] * 4)
            passed += 1
        self.assertLessEqual(passed, 11)
        self.assertTrue(wire.disconnecting)

    def test_head(self) -> None:
        self.slow(b"GET /health HTTP/1.1\r\nHost: somewhere\r\n\r\n")
        self.assertEqual(self.gateway.entrance.refusals.counts, {"request_timeout": 1})

    def test_body(self) -> None:
        wire = self.dial()
        wire.feed(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(9):
            wire.feed(b"x")
            self.clock.pump([0.25] * 4)
        self.assertFalse(wire.aborted)
        wire.feed(b"x")
        self.clock.pump([0.25] * 8)
        self.assertTrue(wire.aborted)
        self.assertEqual(self.gateway.entrance.refusals.counts, {"slow_request": 1})

    def test_second_request(self) -> None:
        """On a connection with a complete first request."""
        wire = self.dial()
        wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
        self.clock.pump([0.25] * 60)
        self.assertFalse(wire.aborted)
        for _ in range(9):
            wire.feed(b"G")
            self.clock.pump([0.25] * 4)
        self.assertFalse(wire.aborted)
        wire.feed(b"G")
        self.clock.pump([0.25] * 8)
        self.assertTrue(wire.aborted)

    def test_probes_may_keep_their_connection(self) -> None:
        wire = self.dial()
        for _ in range(10):
            wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
            self.clock.pump([0.25] * 40)
        self.assertFalse(wire.aborted)
        self.assertEqual(wire.take().count(b"HTTP/1.1 200 OK"), 10)
        wire.lose()
        self.assertEqual(self.gateway.entrance.refusals.counts, {})


class PostTests(HttpCase):
    """The edge's ``POST /api/devices/{device_id}/messages``."""

    path = "/api/devices/AA:bb:cc:dd:ee:ff/messages"

    def post(self, body: bytes, token: str = "admin", path: str = "") -> Wire:
        wire = self.dial()
        head = f"POST {path or self.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        wire.feed(head.encode() + f"Authorization: Bearer {token}\r\n\r\n".encode())
        wire.feed(body)
        return wire

    def outcome(self, wire: Wire) -> tuple[int, dict[str, object]]:
        status, _, body = self.answer(wire.take())
        return status, body

    def test_posted(self) -> None:
        wire = self.post(b'{"say": "Tea is ready.", "ttl": 60}')
        self.assertEqual(self.outcome(wire), (200, {"delivered": True, "node": "im-1"}))
        self.assertEqual(self.posted.posted, [(MAC, Mail(say="Tea is ready."), 60)])
        # The connection can be used again.
        wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.answer(wire.take())[0], 200)

    def test_piece_by_piece(self) -> None:
        wire = self.dial()
        wire.feed(f"POST {self.path} HTTP/1.1\r\nHost: x\r\n".encode())
        wire.feed(b"Authorization: Bearer admin\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b'{"say"', b': "Tea"}'):
            wire.feed(b"%x\r\n%s\r\n" % (len(piece), piece))
        wire.feed(b"0\r\n\r\n")
        self.assertEqual(self.outcome(wire)[0], 200)

    def test_without_the_token(self) -> None:
        wire = self.post(b'{"say": "Tea"}', "secret")
        status, headers, body = self.answer(wire.take())
        self.assertEqual((status, body["error"]), (401, "bad_token"))
        self.assertEqual(headers["www-authenticate"], "Bearer")
        self.assertEqual(self.posted.posted, [])

    def test_too_large(self) -> None:
        status, body = self.outcome(self.post(b" " * 301))
        self.assertEqual((status, body["error"]), (413, "too_large"))
        self.assertEqual(self.outcome(self.post(b" " * 301, "secret"))[0], 401)

    def test_far_too_large(self) -> None:
        wire = self.dial()
        head = f"POST {self.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
        wire.feed(head.encode())
        wire.feed(b" " * 70_000)
        self.assertTrue(wire.aborted)

    def test_only_post(self) -> None:
        status, headers, body = self.ask(self.path)
        assert body is not None
        self.assertEqual((status, body["error"]), (405, "method_not_allowed"))
        self.assertEqual(headers["allow"], "POST")

    def test_elsewhere(self) -> None:
        for path in ("", "/", "/x", "/x/message", "/x/messages/y"):
            wire = self.post(b"{}", path="/api/devices" + path)
            self.assertEqual(self.outcome(wire)[0], 404, path)
            wire.lose()
        self.assertEqual(self.ask("/api")[0], 404)

    def test_a_client_that_disconnects(self) -> None:
        self.posted.receipt = None
        wire = self.post(b'{"say": "Tea"}')
        (waiting,) = self.posted.waiting
        wire.lose()
        self.assertTrue(waiting.called, "cancelled")

    def test_an_exception_of_ours(self) -> None:
        self.posted.broken = RuntimeError("oops")
        status, body = self.outcome(self.post(b'{"say": "Tea"}'))
        self.assertEqual((status, body["error"]), (500, "internal"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
