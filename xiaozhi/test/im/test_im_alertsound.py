"""The sound of an alert is ignored, whichever side sent the alert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.settings import EdgeSettings, LinkSettings
from xiaozhi.testing.edge import EdgeBench, FakeSession, wire_of
from xiaozhi.wire import messages as m
from xiaozhi.wire.mail import Mail

# 60 ms and 20 ms of SILK.
LONG, SHORT = b"\x58opus", b"\x48opus"
ALERT = m.Alert("Error", "Something went wrong", "sad")
POSTED = '{"type":"alert","status":"Tea","message":"Ready","emotion":"happy"}'


class AlertSoundTests(SynchronousTestCase):
    def bench(self, **settings: Any) -> FakeSession:
        self.at = EdgeBench(EdgeSettings(link=LinkSettings(**settings)))
        self.link, self.transport = self.at.link()
        self.link.text_received('{"type":"hello"}')
        return self.at.bridge.sessions[-1]

    def heard(self, session: FakeSession, packet: bytes, count: int) -> int:
        """Return how many of these packets, each in real time, reach the AI service."""
        session.sent.clear()
        for _ in range(count):
            wire_of(self.link).binary_received(packet)
            self.at.clock.advance(0.06 if packet is LONG else 0.02)
        return sum(type(each) is m.Audio for each in session.sent)

    def from_ai(self, session: FakeSession) -> None:
        session.events.received(ALERT)

    def of_the_edge(self, session: FakeSession) -> None:
        self.link.text_received('{"type":"listen","state":"stop"}')
        session.events.interrupted()

    def posted(self, session: FakeSession) -> None:
        self.link.deliver(Mail(message=POSTED))

    def test_each_kind(self) -> None:
        kinds: tuple[Callable[[FakeSession], None], ...] = (
            self.from_ai,
            self.of_the_edge,
            self.posted,
        )
        for kind in kinds:
            for packet, seconds, dropped in (
                (LONG, 1.2, 20),
                (SHORT, 1.2, 60),
                (LONG, 0.6, 10),
                (LONG, 0.0, 0),
            ):
                session = self.bench(alert_sound=seconds)
                kind(session)
                self.assertEqual(sum('"alert"' in str(x) for _, x in self.transport.sent), 1)
                self.assertEqual(self.heard(session, packet, 80), 80 - dropped, kind.__name__)
                self.assertEqual(self.heard(session, packet, 10), 10)

    def test_counted_from_when_the_microphone_opens(self) -> None:
        """Within limits: sound long after the alert is the person's."""
        for wait, dropped in ((0.0, 20), (0.5, 20), (1.0, 20), (3.0, 0), (60.0, 0)):
            session = self.bench()
            session.events.received(ALERT)
            self.at.clock.advance(wait)
            self.assertEqual(self.heard(session, LONG, 40), 40 - dropped, wait)

    def test_a_button_press_is_heard(self) -> None:
        session = self.bench()
        session.events.received(ALERT)
        self.link.text_received('{"type":"listen","state":"start","mode":"manual"}')
        self.assertEqual(self.heard(session, LONG, 10), 10)

    def test_other_messages_make_no_sound(self) -> None:
        session = self.bench()
        session.events.received(m.Stt("hi"))
        session.events.received(m.Llm("sad"))
        self.assertEqual(self.heard(session, LONG, 10), 10)
