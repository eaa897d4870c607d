"""Control characters in a request's head: 400 at both services, for any request."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.test.ai.test_http_ota import SiteCase
from xiaozhi.test.im.test_im_gateway import FIRMWARE, PortCase
from xiaozhi.testing.vendors.httpwire import Wire as HttpWire
from xiaozhi.web.limits.heads import is_clean_head, is_clean_line

#: Lines of a head, without line ends.
BAD = (
    b"X-A: a\x00b",
    b"X-A: \x01",
    b"X-A: \x08",
    b"X-A: a\x0bb",
    b"X-A: a\x0cb",
    b"X-A: \x1b[31mred",
    b"X-A: \x7f",
    b"X-A: a\rX-Forged: 1",
    b"X-A: a\nX-Forged: 1",
    b"X-A: a\n",
    b"X\x00A: b",
    b"Device-Id: aa\x00bb",
    b"Authorization: Bearer \rx",
    b"\x00",
)
GOOD = (b"X-A: a\tb", b"X-A:\tb", b"X-A: caf\xc3\xa9", b"X-A: \x80\xff", b"X-A: ~ !", b"X-A:")
#: Request lines.
BAD_TARGETS = (b"GET /health\x00 HTTP/1.1", b"GET /he\x1balth HTTP/1.1", b"GET\x0b/alive HTTP/1.1")


class HeadTests(SynchronousTestCase):
    def test_lines(self) -> None:
        for line in (*BAD, *BAD_TARGETS):
            self.assertFalse(is_clean_line(line), line)
        for line in GOOD:
            self.assertTrue(is_clean_line(line), line)

    def test_heads(self) -> None:
        for line in (*BAD, *BAD_TARGETS):
            self.assertFalse(is_clean_head(b"GET / HTTP/1.1\r\n" + line + b"\r\nHost: x"), line)
        self.assertTrue(is_clean_head(b"GET / HTTP/1.1\r\n" + b"\r\n".join(GOOD)))
        self.assertTrue(is_clean_head(FIRMWARE[: FIRMWARE.index(b"\r\n\r\n")]))


class EdgeHeadTests(PortCase):
    def refused(self, head: bytes) -> None:
        wire = self.dial()
        wire.feed(head)
        status, _, body = self.answer(wire.take())
        self.assertEqual((status, body["error"]), (400, "bad_head"), head)
        self.assertTrue(wire.disconnecting)
        wire.lose()

    def test_websocket(self) -> None:
        for line in BAD:
            self.refused(FIRMWARE.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"))
        self.assertEqual(self.gateway.entrance.refusals.counts["bad_head"], len(BAD))
        self.assertEqual(self.gateway.connections, 0)
        self.greet()

    def test_http(self) -> None:
        for line in BAD:
            self.refused(b"GET /alive HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
        for target in BAD_TARGETS:
            self.refused(target + b"\r\nHost: x\r\n\r\n")

    def test_the_second_request_of_a_connection(self) -> None:
        for line in (*BAD, *(target for target in BAD_TARGETS)):
            wire = self.dial()
            wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(self.answer(wire.take())[0], 200)
            wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
            status, _, body = self.answer(wire.take())
            self.assertEqual((status, body["error"]), (400, "bad_head"), line)
            self.assertTrue(wire.disconnecting)
            wire.lose()

    def test_unusual_and_allowed(self) -> None:
        for line in GOOD:
            wire = self.dial()
            wire.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
            self.assertEqual(self.answer(wire.take())[0], 200, line)
            wire.lose()


class AiHeadTests(SiteCase):
    def test_refused(self) -> None:
        first = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        for before in (b"", first):
            for line in (*BAD, *BAD_TARGETS):
                is_target = line in BAD_TARGETS
                head = line if is_target else b"GET /health HTTP/1.1\r\n" + line
                wire = HttpWire(self.site)
                if before:
                    wire.send(before)
                    self.assertEqual(wire.reply().status, 200)
                wire.send(head + b"\r\nHost: x\r\n\r\n")
                reply = wire.reply()
                self.assertEqual((reply.status, reply.json["error"]), (400, "bad_head"), line)
                self.assertTrue(wire.closed)
                wire.disconnect()
        self.assertEqual(self.site.connections, 0)
        counted = self.visitors.refusals.counts["bad_head"]
        self.assertEqual(counted, 2 * len((*BAD, *BAD_TARGETS)))
        self.visitors.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unusual_and_allowed(self) -> None:
        for line in GOOD:
            head = b"GET /health HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n"
            self.assertEqual(self.exchange(head).status, 200, line)
