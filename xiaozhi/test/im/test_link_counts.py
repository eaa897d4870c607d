"""Counts, logs, limits and released state of a link."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.values import LogDirection, SessionStatus
from xiaozhi.im.settings import EdgeSettings, LimitSettings, LinkSettings
from xiaozhi.testing.edge import DEVICE, EdgeBench, FakeBridge, FakeSession, wire_of
from xiaozhi.wire import messages as m
from xiaozhi.wire.mail import Mail

AUTO: dict[str, Any] = {"type": "listen", "state": "start", "mode": "auto"}
PRESS = {**AUTO, "mode": "manual"}
CHAT = {"type": "chat", "text": "what time is it"}
PACKET = b"\x58opus"  # SILK, one frame of 60 ms


class LinkCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.start(EdgeSettings())

    def start(self, settings: EdgeSettings) -> None:
        self.bench = EdgeBench(settings)
        self.counts = self.bench.context.counts
        self.link, self.transport = self.bench.link()

    def say(self, **message: Any) -> None:
        self.link.text_received(json.dumps(message))

    def greet(self) -> FakeSession:
        self.say(type="hello", features={"mcp": True}, audio_params={"frame_duration": 60})
        self.transport.sent.clear()
        return self.bench.bridge.sessions[-1]

    def texts(self) -> list[str]:
        """Types of the sent texts, and states of ``tts``."""
        found = [json.loads(what) for _, what in self.transport.sent if isinstance(what, str)]
        return [f"{each['type']} {each.get('state', '')}".rstrip() for each in found]

    def hold(self) -> FakeSession:
        """Press the button during an answer, so that its stop is held."""
        session = self.greet()
        session.events.received(m.Tts(m.TtsState.START, turn=1))
        self.say(**PRESS)
        self.assertEqual(self.texts(), ["tts start"])
        return session


class CountTests(LinkCase):
    def test_sound(self) -> None:
        self.greet()
        for _ in range(3):
            wire_of(self.link).binary_received(PACKET)
        self.assertEqual((self.counts.frames_up, self.counts.bytes_up), (3, 3 * len(PACKET)))

    def test_texts(self) -> None:
        self.greet()
        self.say(**CHAT)
        self.say(type="my own")
        counted = dict(self.counts.messages)
        self.assertEqual(
            [counted.get(("up", kind)) for kind in ("hello", "chat", "unknown", "my own")],
            [1, 1, 1, None],
        )

    def test_unreadable_messages(self) -> None:
        self.greet()
        self.link.text_received("{")
        self.assertEqual(self.counts.malformed, 1)

    def test_sound_before_hello(self) -> None:
        """It is counted; without a hello within 2 s, the device gets one error."""
        wire_of(self.link).binary_received(PACKET)
        wire_of(self.link).binary_received(PACKET)
        self.assertEqual(self.counts.dropped[("early",)], 2)
        self.bench.pass_time(1.9)
        self.assertEqual(self.texts(), [])
        self.bench.pass_time(3)
        self.assertEqual(self.texts(), ["error"])

    def test_the_sound_of_an_alert(self) -> None:
        """Dropped just after it; later it is the person's."""
        for after, forwarded in ((0.1, 0), (2.3, 1)):
            self.start(EdgeSettings())
            session = self.greet()
            session.events.received(m.Alert("s", "m", "sad"))
            self.bench.pass_time(after)
            wire_of(self.link).binary_received(PACKET)
            self.assertEqual(len(session.sent), forwarded, after)
            self.assertEqual(self.counts.dropped[("alert_sound",)], 1 - forwarded, after)

    def test_an_end(self) -> None:
        self.greet()
        self.bench.clock.advance(1.23456)
        wire_of(self.link).binary_received(PACKET)
        wire_of(self.link).connection_lost("")
        self.assertEqual(dict(self.counts.closed), {("device_lost",): 1})
        self.assertEqual(self.bench.log.event_data("closed")["seconds"], 1.235)
        # The interrupted utterance has its row all the same.
        rows = [content for kind, content in self.bench.log.rows(LogDirection.INBOUND)]
        self.assertEqual(rows[-1], f'{{"frames":1,"bytes":{len(PACKET)},"ms":60}}')

    def test_valid_sound_resets_the_count_of_errors(self) -> None:
        self.start(EdgeSettings(limits=LimitSettings(malformed_in_a_row=3)))
        self.greet()
        for _ in range(3):
            for _ in range(3):
                self.link.text_received("{")
            wire_of(self.link).binary_received(PACKET)
        self.assertIsNone(self.transport.closed)

    def test_packets_that_a_transport_cannot_read(self) -> None:
        self.start(EdgeSettings(limits=LimitSettings(messages_per_second=1, message_burst=5)))
        error = ProtocolError("bad_frame", "too short")
        self.link.malformed(error, 4)
        # Too early, as any packet before the hello.
        self.assertEqual((self.counts.dropped[("early",)], self.transport.sent), (1, []))
        self.greet()
        for _ in range(3):
            self.link.malformed(error, 4)
        self.assertIsNone(self.transport.closed)
        self.link.malformed(error, 4)
        self.assertEqual(self.transport.closed, (1008, "rate_limit"))

    def test_a_reconnect_does_not_refill_the_limits(self) -> None:
        limits = LimitSettings(messages_per_second=1, message_burst=5)
        self.start(EdgeSettings(limits=limits))
        self.greet()
        for _ in range(4):
            wire_of(self.link).binary_received(PACKET)
        wire_of(self.link).connection_lost("")
        self.link, self.transport = self.bench.link()
        self.greet()
        self.assertEqual(self.transport.closed, (1008, "rate_limit"))


class LogTests(LinkCase):
    def logged(self, log_messages: bool) -> list[tuple[str, str, int, int]]:
        self.start(EdgeSettings(log_messages=log_messages))
        self.greet()
        with capturedLogs() as captured:
            self.say(**CHAT)
            self.say(**AUTO)
            wire_of(self.link).binary_received(PACKET)
            wire_of(self.link).binary_received(PACKET)
            self.say(type="abort")
        return [
            (each["kind"], each["request_id"], each["size"], each["frames"])
            for each in captured
            if "request_id" in each
        ]

    def test_each_message_if_wanted(self) -> None:
        self.assertEqual(self.logged(False), [])
        self.assertEqual(
            self.logged(True),
            [
                ("chat", "s1-1", len(json.dumps(CHAT)), 0),
                ("listen", "s1-2", len(json.dumps(AUTO)), 0),
                ("audio", "s1-4", 2 * len(PACKET), 2),
                ("abort", "s1-5", len('{"type": "abort"}'), 0),
            ],
        )

    def test_a_session_begins_lives_and_ends(self) -> None:
        self.assertEqual(self.bench.log.started, [("s1", DEVICE)])
        session = self.greet()
        self.assertEqual(self.bench.owner.hellos, [self.link])
        for _ in range(8):
            self.bench.pass_time(10, 0.25)
            wire_of(self.link).binary_received(PACKET)
        self.assertIn(("s1", SessionStatus.ACTIVE), self.bench.log.changed)
        self.link.go_away()
        self.assertEqual(self.bench.log.changed[-1], ("s1", SessionStatus.DISCONNECTED))
        self.assertEqual(self.bench.owner.over, [self.link])
        # Later messages of the AI service are dropped.
        self.transport.sent.clear()
        session.events.received(m.Stt("late"))
        self.link.drain()
        self.assertEqual(self.transport.sent, [])

    def test_connections_that_stay(self) -> None:
        for keep, stays in ((frozenset({DEVICE.device_id}), True), (frozenset({"x"}), False)):
            self.start(EdgeSettings(link=LinkSettings(keep=keep)))
            self.greet()
            for _ in range(15):
                self.link.alive(0)
                self.bench.pass_time(10, 0.5)
            self.assertEqual(self.transport.closed is None, stays)

    def test_disconnected_while_its_session_is_opened(self) -> None:
        class Slow(FakeBridge):
            def open(self, opening: m.SessionOpen, events: Any) -> FakeSession:
                link.go_away()
                return super().open(opening, events)

        bridge = self.bench.bridge = Slow()
        object.__setattr__(self.bench.context, "bridge", bridge)
        link, _ = self.bench.link()
        link.text_received('{"type":"hello"}')
        self.assertEqual(bridge.sessions[-1].ended, ("device_gone", ""))
        self.assertNotIn(link, self.bench.owner.hellos)


class MailTests(LinkCase):
    def test_posted_messages(self) -> None:
        self.assertFalse(self.link.deliver(Mail(say="Dinner.")), "no hello yet")
        session = self.greet()
        self.assertTrue(self.link.deliver(Mail(say="Dinner.")))
        self.assertEqual(session.sent, [m.Say("Dinner.")])
        alert = '{"type":"alert","status":"s","message":"m","emotion":"sad"}'
        self.assertTrue(self.link.deliver(Mail(message=alert)))
        self.assertTrue(self.link.deliver(Mail(message='{"type":"custom","payload":{}}')))
        self.assertEqual(self.texts(), ["alert", "custom"])
        events = [data for kind, data in self.bench.log.events if kind == "posted"]
        self.assertEqual(events, [{"say": True}, {"say": False}, {"say": False}])
        self.link.go_away()
        self.assertFalse(self.link.deliver(Mail(say="Dinner.")), "it is gone")
        self.assertFalse(self.link.deliver(Mail(message=alert)), "it is gone")

    def test_one_that_may_not_be_connected_any_more(self) -> None:
        self.link.dismissed("revoked")
        self.assertEqual(self.transport.closed, (1008, "revoked"))

    def test_a_question_that_is_given_up(self) -> None:
        session = self.greet()
        self.say(**CHAT)
        asked = list(session.sent)
        self.say(**CHAT)
        self.assertEqual(session.retracted, asked)

    def test_no_mail_after_the_ai_has_said_goodbye(self) -> None:
        session = self.greet()
        session.events.received(m.Tts(m.TtsState.START, turn=1))
        self.say(**CHAT)
        self.link.depart("farewell")
        sent = list(session.sent)
        self.say(**CHAT)
        self.assertEqual((session.sent, session.retracted), (sent, []))


class HeldStopTests(LinkCase):
    """A held stop is sent before the end of the connection."""

    def test_a_recording_that_a_browser_ends(self) -> None:
        self.hold()
        wire_of(self.link).binary_received(PACKET)
        self.assertEqual(self.texts(), ["tts start"])
        wire_of(self.link).binary_received(b"")
        self.assertEqual(self.texts(), ["tts start", "tts stop"])

    def test_the_ai_ends_the_session(self) -> None:
        self.hold()
        self.link.drain()
        self.link.depart("going_away")
        self.assertEqual(self.texts(), ["tts start", "tts stop"])

    def test_the_edge_ends_it(self) -> None:
        self.hold()
        self.link.replaced()
        self.assertEqual(self.texts(), ["tts start", "tts stop"])
