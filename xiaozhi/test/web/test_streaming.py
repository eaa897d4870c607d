"""Streamed replies wait for the client, up to a limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.testing.vendors.httpwire import Wire, request
from xiaozhi.web.limits.visitors import BoundedVisitors
from xiaozhi.web.options import SiteLimits, SiteStyle
from xiaozhi.web.replies import Reply, StreamReply
from xiaozhi.web.routes import Routes
from xiaozhi.web.site import WebSite

PIECES = (b"one ", b"two ", b"three")
BODY = b"".join(PIECES)
LIMITS = SiteLimits(idle_time=20.0)


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.given: list[bytes] = []
        self.ended = False
        self.clock = Clock()
        routes = Routes()
        routes.get("/stream", self.stream)
        self.wire = Wire(WebSite(routes, BoundedVisitors(1), self.clock, LIMITS, SiteStyle()))
        self.addCleanup(self.wire.disconnect)

    def stream(self) -> Reply | StreamReply:
        return StreamReply(200, self.pieces(), "text/plain", length=len(BODY))

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            for piece in PIECES:
                self.given.append(piece)
                yield piece
                # The client does not read on.
                if piece == PIECES[0]:
                    self.producer().pauseProducing()
        finally:
            self.ended = True

    def producer(self) -> IPushProducer:
        """Return the end of the connection that is paused while the client does not read."""
        return cast(IPushProducer, self.wire.transport.producer)

    def begin(self, method: str = "GET") -> None:
        self.wire.send(request(method, "/stream"))

    def test_no_piece_is_made_while_the_client_does_not_read(self) -> None:
        self.begin()
        self.assertEqual(self.given, [*PIECES[:2]])
        self.clock.advance(LIMITS.idle_time - 1)
        self.producer().resumeProducing()
        self.assertEqual(self.wire.reply().body, BODY)
        self.assertTrue(self.ended)
        self.assertEqual(self.clock.getDelayedCalls()[1:], [])

    def test_a_client_that_does_not_read_for_too_long(self) -> None:
        self.begin()
        self.clock.advance(LIMITS.idle_time + 1)
        self.assertTrue(self.wire.closed)
        self.assertTrue(self.ended)
        self.assertEqual(self.given, [*PIECES[:2]])

    def test_a_client_that_disconnects(self) -> None:
        self.begin()
        self.wire.disconnect()
        self.assertTrue(self.ended)
        self.assertEqual(self.given, [*PIECES[:2]])

    def test_head(self) -> None:
        self.begin("HEAD")
        self.assertEqual(self.given, [])
        self.assertIn(b"content-length: %d" % len(BODY), self.wire.transport.value().lower())
        self.assertNotIn(PIECES[0], self.wire.transport.value())
