"""Stale audio of a broken stream: its gap is announced and returns its credit."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge import items
from xiaozhi.bridge.delivery.incoming import Incoming
from xiaozhi.bridge.items import DOWN, OPENED, UP
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.test.bridge.test_bridge_server import EdgeHand, NoPort
from xiaozhi.testing.contracts.bridge import Sessions, came, opening
from xiaozhi.wire import messages as m

AGE = 1.0
CREDIT = 16


class GapTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = Sessions()
        settings = ServerSettings(audio_max_age=AGE, credit=CREDIT)
        self.server = BridgeServer(NoPort(), self.sessions, settings, self.clock, "ai", "boot")
        self.successResultOf(self.server.start())
        self.addCleanup(self.server.stop)

    @property
    def link(self) -> Any:
        return self.sessions.accepted[-1].link

    def test_resending_after_a_broken_stream(self) -> None:
        """``a``: a packet, stale by then; ``t``: a text. Numbers are sequences."""
        for sent, acknowledged, again in (
            ("a", 0, [("skip", 1)]),
            ("aaa", 0, [("skip", 3)]),
            ("aaa", 2, [("skip", 3)]),
            ("aaa", 3, []),
            ("ta", 0, [("text", 1), ("skip", 2)]),
            ("taa", 1, [("skip", 3)]),
            ("ata", 0, [("skip", 1), ("text", 2), ("skip", 3)]),
            ("aat", 0, [("skip", 2), ("text", 3)]),
            ("aataata", 3, [("skip", 5), ("text", 6), ("skip", 7)]),
            ("t", 0, [("text", 1)]),
            ("", 0, []),
        ):
            one = EdgeHand(self.server)
            one.say(opening())
            for kind in sent:
                self.link.send(m.Audio(b"x") if kind == "a" else m.Stt("text"))
            self.clock.advance(0.1)
            one.listener.stream_closed("cut")
            self.clock.advance(AGE + 0.1)
            two = EdgeHand(self.server)
            two.resume(ack=acknowledged)
            told = [
                ("skip" if item.type == DOWN.skip else "text", item.sequence)
                for item in two.raw
                if item.type != OPENED
            ]
            self.assertEqual(told, again, (sent, acknowledged))
            # The next item has no gap before it.
            self.link.send(m.Stt("next"))
            self.assertEqual(two.raw[-1].sequence, len(sent) + 1, sent)
            self.link.close("farewell", "")
            two.listener.stream_closed("done")

    def test_skipped_packets_return_their_credit(self) -> None:
        """Otherwise each broken stream would reduce the edge's credit, finally to none."""
        for came_before, skipped_to, granted in (
            (0, 5, 5 + CREDIT),
            (3, 3, 3 + CREDIT),  # nothing is missing
            (3, 2, 3 + CREDIT),  # late, and without news
            (3, 9, 9 + CREDIT),
            (8, 16, 16 + CREDIT),
        ):
            edge = EdgeHand(self.server)
            edge.say(opening(), *(m.Audio(b"x") for _ in range(came_before)))
            edge.send(came(UP, items.skip(UP, "s1", skipped_to)))
            self.clock.advance(0.1)
            credits = [item.credit for item in edge.raw if item.credit]
            self.assertEqual(credits[-1], granted, (came_before, skipped_to))
            self.link.close("farewell", "")
            edge.listener.stream_closed("done")

    def test_credit_lasts_over_many_broken_streams(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        last = 0
        for _ in range(10 * CREDIT):
            last += 3
            edge.send(came(UP, items.skip(UP, "s1", last)))
        self.clock.advance(0.1)
        self.assertEqual(edge.raw[-1].credit, last + CREDIT)

    def test_counting(self) -> None:
        incoming = Incoming(CREDIT)
        incoming.skipped(7)
        self.assertEqual(incoming.received, 7)
        item = came(UP, incoming.receipt())
        self.assertEqual((item.ack, item.credit), (7, 7 + CREDIT))
