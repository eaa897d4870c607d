from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.base.values import LogDirection, SessionStatus
from xiaozhi.im.session.link import DeviceLink
from xiaozhi.im.session.nobody import NO_EVENTS
from xiaozhi.im.settings import EdgeSettings, LimitSettings, LinkSettings
from xiaozhi.interfaces import IDeviceChannel, IDeviceEvents, IEdgeEvents
from xiaozhi.testing.edge import DEVICE, EdgeBench, FakeSession, FakeTransport, wire_of
from xiaozhi.wire import messages as m

HELLO: dict[str, Any] = {
    "type": "hello",
    "version": 1,
    "features": {"mcp": True, "aec": True, "glyph_push": True},
    "text_font": {"bundle": "noto-v1", "charset": "common", "size": 20, "bpp": 4},
    "transport": "websocket",
    "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
}
START, STOP = m.TtsState.START, m.TtsState.STOP
PACKET = b"\x58opus"  # SILK, one frame of 60 ms


class LinkCase(SynchronousTestCase):
    settings = EdgeSettings(
        limits=LimitSettings(
            messages_per_second=50, message_burst=100, malformed_in_a_row=3, backlog_bytes=65_536
        )
    )

    def setUp(self) -> None:
        self.bench = EdgeBench(self.settings)
        self.log = self.bench.log
        self.link, self.transport = self.bench.link()

    def send(self, _link: DeviceLink | None = None, **message: Any) -> None:
        (_link or self.link).text_received(json.dumps(message))

    def greet(self) -> FakeSession:
        self.send(**HELLO)
        self.transport.sent.clear()
        return self.bench.bridge.sessions[-1]

    def last(self) -> dict[str, Any]:
        """Return the last text as the device sees it."""
        text = self.transport.sent[-1][1]
        assert isinstance(text, str)
        found: dict[str, Any] = json.loads(text)
        return found

    def story(self, transport: FakeTransport | None = None) -> list[str]:
        """Types, and states of ``tts``; ``audio`` for packets."""
        found = []
        for _, what in (transport or self.transport).sent:
            if isinstance(what, bytes):
                found.append("audio")
            else:
                text = json.loads(what)
                found.append(f"{text['type']} {text.get('state', '')}".rstrip())
        return found

    def speak(self, session: FakeSession, frames: int, turn: int = 1, stop: bool = True) -> None:
        session.events.received(m.Tts(START, turn=turn))
        for _ in range(frames):
            session.events.received(m.Audio(PACKET, 0, turn))
        if stop:
            session.events.received(m.Tts(STOP, turn=turn))


class HelloTests(LinkCase):
    def test_interfaces(self) -> None:
        verifyObject(IEdgeEvents, self.greet().events)
        verifyObject(IDeviceChannel, self.link.channel)
        verifyObject(IDeviceEvents, self.link)
        verifyObject(IDeviceEvents, NO_EVENTS)

    def test_answered_at_once_by_the_edge(self) -> None:
        """§2.2; §9, 1 and 17: ``transport`` is a string, the rate one Opus knows."""
        self.send(**HELLO)
        self.assertEqual(
            self.last(),
            {
                "type": "hello",
                "transport": "websocket",
                "session_id": "s1",
                "audio_params": {
                    "format": "opus",
                    "sample_rate": 24000,
                    "channels": 1,
                    "frame_duration": 60,
                },
            },
        )
        opening = self.bench.bridge.sessions[0].opening
        self.assertEqual(opening.session_id, "s1")
        self.assertEqual(opening.device, DEVICE)
        self.assertEqual(opening.hello.features, m.Features(True, True, True))
        self.assertEqual(opening.downlink, m.AudioParams("opus", 24000, 1, 60))

    def test_exactly_once(self) -> None:
        """§9, 28."""
        self.greet()
        self.send(**HELLO)
        self.assertEqual(self.story(), ["error"])
        self.assertEqual(self.last()["code"], "hello_repeated")
        self.assertEqual(len(self.bench.bridge.sessions), 1)

    def test_everything_but_the_type_is_optional(self) -> None:
        """§2.1: the browser client; framing is then raw."""
        self.send(type="hello", device_id="x", device_name="y", token="t", features={"emoji": True})
        wire_of(self.link).binary_received(b"opus")
        (session,) = self.bench.bridge.sessions
        self.assertEqual(session.sent, [m.Audio(b"opus")])
        self.assertNotIn("t", [content for _, content in self.log.rows(LogDirection.INBOUND)])

    def test_the_dialect_of_the_hello_is_answered(self) -> None:
        self.send(type="hello", data={"version": 1}, timestamp=1)
        self.assertEqual(self.last()["data"]["session_id"], "s1")
        self.send(type="ping", data={}, timestamp=2)
        self.assertEqual(
            self.last(),
            {"type": "pong", "data": {"timestamp": 0, "session_id": "s1"}, "timestamp": 0},
        )

    def test_framings(self) -> None:
        """§3.1; §13: a device that announced 2 or 3 crashes on raw packets."""
        cases = {
            1: PACKET,
            2: b"\0\2\0\0\0\0\0\0\0\0\0\x07\0\0\0\5" + PACKET,
            3: b"\0\0\0\5" + PACKET,
            7: PACKET,
        }
        for version, wire in cases.items():
            link, transport = self.bench.link()
            self.send(link, **{**HELLO, "version": version})
            wire_of(link).binary_received(wire)
            session = self.bench.bridge.sessions[-1]
            self.assertEqual(session.sent, [m.Audio(PACKET, 7 if version == 2 else 0)])
            session.events.received(m.Tts(START, turn=1))
            session.events.received(m.Audio(PACKET, 7, 1))
            self.bench.pass_time(0.1)
            self.assertEqual(transport.packets(), [wire])

    def test_framing_from_the_header(self) -> None:
        link, _ = self.bench.link(framing=3)
        self.send(link, type="hello")
        wire_of(link).binary_received(b"\0\0\0\4opus")
        self.assertEqual(self.bench.bridge.sessions[0].sent, [m.Audio(b"opus")])
        self.assertEqual(self.bench.bridge.sessions[0].opening.hello.version, 3)

    def test_too_late(self) -> None:
        self.bench.pass_time(29.5, 0.25)
        self.assertIsNone(self.transport.closed)
        self.bench.pass_time(1, 0.25)
        self.assertEqual(self.transport.closed, (1008, "hello_timeout"))

    def test_no_hello(self) -> None:
        """A client without a hello gets an answer, if it sends anything, and is closed."""
        for what, answers in (
            (lambda link: None, 0),
            (lambda link: wire_of(link).binary_received(b"opus"), 1),
            (lambda link: link.alive(0), 0),
            (lambda link: link.alive(4), 0),
            (lambda link: link.text_received('{"type":"listen","state":"start"}'), 1),
            (lambda link: link.text_received('{"type":"ping"}'), 1),
            (lambda link: link.text_received("{}"), 1),
            (lambda link: link.text_received("garbage"), 1),
        ):
            for once in (True, False):
                link, transport = self.bench.link()
                for second in range(29):
                    if not (once and second):
                        what(link)
                    self.bench.pass_time(1, 0.25)
                self.assertGreaterEqual(len(transport.sent), answers)
                self.bench.pass_time(1.5, 0.25)
                assert transport.closed is not None
                self.assertEqual(transport.closed[0], 1008)

    def test_texts_before_hello(self) -> None:
        self.send(type="listen", state="start", mode="auto")
        self.assertEqual(self.last()["code"], "hello_first")
        self.assertNotIn("session_id", self.last())
        self.assertIsNone(self.transport.closed)
        self.greet()

    def test_audio_before_hello(self) -> None:
        """§9, 19: no error, but the audio is dropped."""
        for _ in range(3):
            wire_of(self.link).binary_received(b"opus")
        self.assertEqual(self.transport.sent, [])
        session = self.greet()
        self.assertEqual(session.sent, [])
        self.bench.pass_time(5)
        self.assertEqual(self.transport.sent, [], "it only was too early")
        wire_of(self.link).connection_lost("")
        self.assertEqual(self.log.event_data("closed")["early_audio"], 3)

    def test_preamble_without_json(self) -> None:
        """§4.1: the Flutter client where it cannot set headers; it holds a token."""
        self.link.text_received("Authorization: Bearer abc")
        self.link.text_received("Device-ID: aa:bb")
        self.assertEqual(self.transport.sent, [])
        self.greet()
        self.assertNotIn("abc", repr(self.log.messages) + repr(self.log.events))


class UplinkTests(LinkCase):
    def test_everything_is_forwarded_in_order(self) -> None:
        """§9, 8 and 25 to 26 are decided by the AI service: the edge holds nothing back."""
        session = self.greet()
        wire_of(self.link).binary_received(b"wake")
        self.send(type="listen", state="detect", text="小智")
        self.send(type="listen", state="start", mode="realtime", session_id="other")
        wire_of(self.link).binary_received(b"a")
        self.send(type="abort", reason="wake_word_detected", session_id="")
        self.send(type="chat", text="hi")
        self.send(type="mcp", payload={"jsonrpc": "2.0", "id": 1, "result": {}})
        self.send(type="iot", update=True, states=[])
        self.send(type="vision", cmd="read_img")
        self.send(type="image", image_data={"url": "http://x/y.png"})
        self.assertEqual(
            [type(message).__name__ for message in session.sent],
            [
                "Audio",
                "Listen",
                "Listen",
                "Audio",
                "Abort",
                "Chat",
                "Mcp",
                "Iot",
                "Vision",
                "Image",
            ],
        )
        self.assertEqual(self.transport.sent, [])

    def test_unknown_types_are_no_error(self) -> None:
        """§4.1; §9, 19: the Flutter client sends ``speak``, ``voice_mute``."""
        session = self.greet()
        self.send(type="voice_mute", session_id="s1", level=3)
        self.assertEqual(session.sent, [m.Unknown("voice_mute", b'{"level":3}')])
        self.assertEqual(self.transport.sent, [])

    def test_mcp_passes_unread(self) -> None:
        """§9, 9 and 10: the AI service judges errors without a code, string ids, big numbers."""
        session = self.greet()
        payload = '{"jsonrpc":"2.0","id":"x","error":{"message":"no"},"n":12345678901234567890.5}'
        self.link.text_received('{"session_id":"s1","type":"mcp","payload":' + payload + "}")
        self.assertEqual(session.sent, [m.Mcp(payload.encode())])

    def test_any_session_id_is_taken(self) -> None:
        """§2.2; §9, 18."""
        session = self.greet()
        for session_id in ("", "other", None):
            self.send(type="listen", state="stop", session_id=session_id)
        self.assertEqual(len(session.sent), 3)

    def test_tiny_and_empty_packets(self) -> None:
        """§3.2; §9, 24: one byte is a packet. §13: none ends a browser's recording."""
        session = self.greet()
        wire_of(self.link).binary_received(b"\x58")
        wire_of(self.link).binary_received(b"")
        self.assertEqual(session.sent, [m.Audio(b"\x58"), m.Audio(b"")])

    def test_ping(self) -> None:
        session = self.greet()
        self.bench.clock.advance(1.5)
        self.send(type="ping")
        self.assertEqual(self.last(), {"type": "pong", "timestamp": 1500, "session_id": "s1"})
        self.assertEqual(session.sent, [])

    def test_goodbye(self) -> None:
        session = self.greet()
        self.send(type="goodbye")
        self.assertEqual(session.ended, ("goodbye", "goodbye"))
        self.assertEqual(self.transport.closed, (1000, "goodbye"))

    def test_nothing_is_forwarded_after_the_end(self) -> None:
        session = self.greet()
        self.send(type="goodbye")
        wire_of(self.link).binary_received(b"a")
        self.send(type="chat", text="hi")
        session.events.received(m.Stt("late"))
        self.assertEqual((session.sent, self.transport.sent), ([], []))


class MistakeTests(LinkCase):
    def test_malformed(self) -> None:
        session = self.greet()
        for text, code in (
            ("{", "bad_json"),
            ("[1]", "bad_json"),
            ("{}", "bad_type"),
        ):
            self.link.text_received(text)
            self.assertEqual((self.last()["type"], self.last()["code"]), ("error", code))
        self.assertIsNone(self.transport.closed)
        self.send(type="listen", state="stop")
        self.link.text_received('{"type":"listen","state":"fly"}')
        self.assertEqual(self.last()["code"], "bad_field")
        self.link.text_received("[" * 40 + "]" * 40)
        self.assertEqual(self.last()["code"], "too_deep")
        self.assertEqual(len(session.sent), 1)

    def test_too_many_malformed_in_a_row(self) -> None:
        session = self.greet()
        for _ in range(4):
            self.link.text_received("{")
        self.assertEqual(self.transport.closed, (1008, "malformed_limit"))
        self.assertEqual(session.ended, ("device_gone", "malformed_limit"))
        self.assertEqual(self.log.event_data("closed")["malformed"], 4)

    def test_bad_frames(self) -> None:
        self.send(**{**HELLO, "version": 3})
        wire_of(self.link).binary_received(b"\0\0\0\x09opus")
        self.assertEqual(self.last()["code"], "bad_frame")
        self.assertEqual(self.bench.bridge.sessions[0].sent, [])

    def test_too_many_messages(self) -> None:
        self.greet()
        for _ in range(98):
            wire_of(self.link).binary_received(b"a")
        self.bench.clock.advance(1)
        for _ in range(50):
            wire_of(self.link).binary_received(b"a")
        self.assertIsNone(self.transport.closed)
        for _ in range(52):
            wire_of(self.link).binary_received(b"a")
        self.assertEqual(self.transport.closed, (1008, "rate_limit"))

    def test_too_many_bytes(self) -> None:
        self.greet()
        for _ in range(5):
            wire_of(self.link).binary_received(b"a" * 1_000_000)
        self.assertEqual(self.transport.closed, (1008, "rate_limit"))

    def test_text_costs_its_bytes(self) -> None:
        self.greet()
        text = '{"type": "image", "url": "http://x/", "pad": "' + "文" * 300_000 + '"}'
        for _ in range(4):
            self.link.text_received(text)
        self.assertIsNone(self.transport.closed)
        self.link.text_received(text)
        self.assertEqual(self.transport.closed, (1008, "rate_limit"))

    def test_a_wake_word_burst_is_no_abuse(self) -> None:
        """§4.4: 33 packets at once, before ``detect``."""
        self.greet()
        for _ in range(33):
            wire_of(self.link).binary_received(b"a" * 160)
        self.assertIsNone(self.transport.closed)

    def test_ping_flood(self) -> None:
        self.greet()
        self.assertEqual([self.link.alive(10) for _ in range(100)].count(True), 99)
        self.assertEqual(self.transport.closed, (1008, "rate_limit"))


class DownlinkTests(LinkCase):
    def test_a_turn(self) -> None:
        """§4.5."""
        session = self.greet()
        events = session.events
        events.received(m.Stt("hi", 1))
        events.received(m.Tts(START, turn=1))
        events.received(m.Llm("happy", "🙂", 1))
        events.received(m.Tts(m.TtsState.SENTENCE_START, "Hello.", 1))
        for _ in range(4):
            events.received(m.Audio(PACKET, 0, 1))
        events.received(m.Tts(STOP, turn=1))
        self.bench.pass_time(1)
        self.assertEqual(
            self.story(),
            ["stt", "tts start", "llm", "tts sentence_start", *["audio"] * 4, "tts stop"],
        )
        self.assertEqual(session.playbacks(), [(1, "started", 0), (1, "finished", 240)])

    def test_other_messages_go_at_once(self) -> None:
        session = self.greet()
        for message in (
            m.Mcp(b'{"jsonrpc":"2.0","method":"tools/list","id":1}'),
            m.Iot(b'{"commands":[]}'),
            m.Alert("a", "b", "sad"),
            m.System("reboot"),
            m.Error("x", "y"),
            m.Unknown("custom", b'{"payload":{}}'),
        ):
            session.events.received(message)
        self.assertEqual(self.story(), ["mcp", "iot", "alert", "system", "error", "custom"])

    def test_what_only_a_device_says_is_not_passed_on(self) -> None:
        session = self.greet()
        for message in (m.Abort(), m.Say("Hello.")):
            session.events.received(message)  # type: ignore[arg-type]
        self.assertEqual(self.story(), [])

    def test_abort_silences_without_the_ai(self) -> None:
        """§4.6; §9, 2: one stop at once."""
        session = self.greet()
        self.speak(session, 30, stop=False)
        self.bench.pass_time(0.5)
        heard = self.story().count("audio")
        session.sent.clear()
        self.send(type="abort")
        self.assertEqual(self.story()[-1], "tts stop")
        flushed, abort = session.sent
        self.assertEqual((flushed.turn, flushed.state), (1, m.PlaybackState.FLUSHED))
        self.assertEqual(abort, m.Abort())
        # The AI service's own stop, and audio in flight, are dropped.
        session.events.received(m.Audio(PACKET, 0, 1))
        session.events.received(m.Flush(1))
        session.events.received(m.Tts(STOP, turn=1))
        self.bench.pass_time(2)
        self.assertEqual(self.story().count("audio"), heard)
        self.assertEqual(self.story().count("tts stop"), 1)

    def test_abort_when_nothing_plays(self) -> None:
        """§4.5: exactly one stop per start; a stray one could end the next turn."""
        session = self.greet()
        self.send(type="abort")
        self.speak(session, 1)
        self.bench.pass_time(1)
        self.send(type="abort")
        self.assertEqual(self.story(), ["tts start", "audio", "tts stop"])
        self.assertEqual(len([x for x in session.sent if isinstance(x, m.Abort)]), 2)

    def test_flush_by_the_ai(self) -> None:
        """§4.6: voice over the answer in realtime."""
        session = self.greet()
        self.speak(session, 30, stop=False)
        self.bench.pass_time(0.2)
        session.events.received(m.Flush(1))
        self.assertEqual(self.story()[-1], "tts stop")

    def test_audio_without_a_turn_is_counted(self) -> None:
        """§9, 3."""
        session = self.greet()
        session.events.received(m.Audio(PACKET, 0, 1))
        self.bench.pass_time(1)
        self.assertEqual(self.transport.sent, [])
        wire_of(self.link).connection_lost("")
        self.assertEqual(self.log.event_data("closed")["stale_audio"], 1)

    def test_packets_too_long_for_the_framing_are_counted(self) -> None:
        self.send(**{**HELLO, "version": 3})
        session = self.bench.bridge.sessions[0]
        session.events.received(m.Tts(START, turn=1))
        session.events.received(m.Audio(b"\x58" * 70_000, 0, 1))
        session.events.received(m.Tts(STOP, turn=1))
        self.bench.pass_time(1)
        self.assertEqual(self.story(), ["hello", "tts start", "tts stop"])
        wire_of(self.link).connection_lost("")
        self.assertEqual(self.log.event_data("closed")["unsendable"], 1)

    def test_the_ai_is_paused(self) -> None:
        session = self.greet()
        self.speak(session, 100, stop=False)
        self.assertTrue(session.paused)
        self.bench.pass_time(4)
        self.assertFalse(session.paused)

    def test_the_ai_pauses_the_device(self) -> None:
        session = self.greet()
        session.events.pause_sending()
        self.assertTrue(self.transport.paused)
        # Nothing is read, so silence does not mean that the device is dead.
        self.bench.pass_time(200, 0.25)
        self.assertIsNone(self.transport.closed)
        session.events.resume_sending()
        self.assertFalse(self.transport.paused)

    def test_a_device_that_does_not_read(self) -> None:
        """§9, 27, in the other direction."""
        session = self.greet()
        self.speak(session, 30)
        self.bench.pass_time(0.2)
        self.link.congested()
        heard = self.story().count("audio")
        self.bench.pass_time(5)
        self.assertEqual(self.story().count("audio"), heard)
        self.assertFalse(self.link.alive(1))
        self.link.uncongested()
        self.bench.pass_time(5)
        self.assertEqual(self.story().count("audio"), 30)
        self.link.congested()
        self.bench.pass_time(22, 0.25)
        self.assertEqual(self.transport.closed, (1008, "slow_reader"))

    def test_pending_texts_are_bounded(self) -> None:
        session = self.greet()
        self.link.congested()
        for _ in range(70):
            session.events.received(m.Stt("x" * 1000))
        self.bench.pass_time(2, 0.25)
        self.assertEqual(self.transport.closed, (1008, "slow_reader"))

    def test_every_tts_has_a_state_and_long_sentences_pass(self) -> None:
        """§9, 29 and 30."""
        session = self.greet()
        session.events.received(m.Tts(START, turn=1))
        session.events.received(m.Tts(m.TtsState.SENTENCE_START, "word " * 2000, 1))
        session.events.received(m.Tts(STOP, turn=1))
        self.bench.pass_time(1)
        self.assertEqual(self.story(), ["tts start", "tts sentence_start", "tts stop"])
        self.assertNotIn("text", self.last())

    def test_an_aborted_turn_does_not_reach_into_the_next(self) -> None:
        """§9, 7: with everything of the old turn still in flight."""
        session = self.greet()
        self.speak(session, 30, stop=False)
        self.bench.pass_time(0.3)
        self.send(type="abort", reason="wake_word_detected")
        self.send(type="listen", state="start", mode="auto")
        session.events.received(m.Tts(START, turn=2))
        for turn in (1, 2):
            session.events.received(m.Audio(PACKET, 0, turn))
        session.events.received(m.Tts(STOP, turn=1))
        session.events.received(m.Tts(STOP, turn=2))
        self.bench.pass_time(1)
        self.assertEqual(self.story()[-4:], ["tts stop", "tts start", "audio", "tts stop"])


class OutageTests(LinkCase):
    def test_in_a_turn(self) -> None:
        session = self.greet()
        self.speak(session, 10, stop=False)
        self.bench.pass_time(0.1)
        session.events.interrupted()
        session.events.interrupted()
        self.bench.pass_time(2)
        self.assertEqual(self.story().count("audio"), 10)
        self.assertEqual(self.story().count("tts stop"), 1)
        self.assertEqual(self.story().count("alert"), 1)
        alert = next(x for x in self.transport.texts() if isinstance(x, m.Alert))
        self.assertTrue(alert.status and alert.message and alert.emotion)

    def test_a_short_outage_is_not_noticed(self) -> None:
        session = self.greet()
        session.events.interrupted()
        self.bench.pass_time(2)
        wire_of(self.link).binary_received(b"a")
        session.events.received(m.Stt("hi"))
        self.assertEqual(self.story(), ["stt"])
        self.assertEqual(self.log.event_data("interrupted"), {})
        self.assertEqual(self.log.event_data("resumed")["seconds"], 2.0)

    def test_speech_is_alerted_once(self) -> None:
        session = self.greet()
        self.bench.bridge.state = "disconnected"
        session.events.interrupted()
        self.bench.pass_time(4)
        self.assertEqual(self.story(), [])
        for _ in range(5):
            wire_of(self.link).binary_received(b"a")
        self.send(type="chat", text="hi")
        self.assertEqual(self.story(), ["alert"])
        # The bridge keeps the messages until the AI service is back.
        self.assertEqual(len(session.sent), 6)

    def test_a_device_that_connects_during_one_is_alerted_too(self) -> None:
        """Most devices open a new connection for each conversation."""
        self.bench.bridge.state = "disconnected"
        session = self.greet()
        self.bench.pass_time(4)
        self.assertEqual(self.story(), [])
        self.send(type="listen", state="detect", text="hello?")
        self.assertEqual(self.story(), ["alert"])
        session.events.received(m.Stt("hi"))
        self.assertEqual(self.story(), ["alert", "stt"])

    def test_an_early_question_that_waits_is_alerted_too(self) -> None:
        session = self.greet()
        self.bench.bridge.state = "disconnected"
        session.events.interrupted()
        self.send(type="listen", state="detect", text="hi")
        self.bench.pass_time(2)
        self.assertEqual(self.story(), [])
        self.bench.pass_time(2)
        self.assertEqual(self.story(), ["alert"])

    def test_speech_after_it_is_not_alerted(self) -> None:
        """Even if the AI service has not answered yet, because there was no question."""
        session = self.greet()
        session.events.interrupted()
        self.bench.pass_time(4)
        self.send(type="listen", state="detect", text="hi")
        self.assertEqual(self.story(), [])
        self.assertEqual(self.log.event_data("resumed")["seconds"], 4.0)

    def test_a_pending_question_is_alerted_at_once(self) -> None:
        session = self.greet()
        self.send(type="listen", state="start", mode="manual")
        self.send(type="listen", state="stop")
        session.events.interrupted()
        self.assertEqual(self.story(), ["alert"])

    def test_a_question_is_asked_again(self) -> None:
        """One that the lost AI process had recognised but not answered."""
        session = self.greet()
        self.send(type="listen", state="start", mode="auto")
        self.assertEqual(session.events.restored(), [session.sent[-1]])
        session.events.received(m.Stt("what time is it", 1))
        session.events.received(m.Tts(START, turn=1))
        session.events.interrupted()
        self.assertEqual(self.story(), ["stt", "tts start", "tts stop"])
        self.send(type="listen", state="start", mode="auto")  # as devices do in this case
        expected = [m.Listen(m.ListenState.START, m.ListenMode.AUTO), m.Chat("what time is it")]
        self.assertEqual(session.events.restored(), expected)
        self.speak(session, 2, turn=1, stop=False)
        self.assertNotIn("alert", self.story())
        # Interrupted in the middle of an answer, which is not repeated.
        self.assertEqual(session.events.restored(), expected[:1])
        self.bench.pass_time(4)
        self.assertEqual(self.story().count("alert"), 1)

    def test_a_question_given_up_is_not_asked_again(self) -> None:
        """The AI service retracts its turn: the person spoke during it, or aborted it before the
        transcript.
        """
        session = self.greet()
        self.send(type="abort")
        session.events.received(m.Stt("what time is it", 1))
        session.events.received(m.Flush(1))
        self.assertEqual(session.events.restored(), [])

    def test_a_question_is_not_asked_again_late(self) -> None:
        session = self.greet()
        self.bench.bridge.state = "disconnected"
        session.events.received(m.Stt("what time is it", 1))
        session.events.interrupted()
        self.bench.pass_time(4)
        self.assertEqual(self.story(), ["stt", "alert"])
        self.assertEqual(session.events.restored(), [])

    def test_an_aborted_question_is_not_asked_again(self) -> None:
        session = self.greet()
        session.events.received(m.Stt("what time is it", 1))
        self.send(type="abort")
        self.assertEqual(session.events.restored(), [])
        session.events.received(m.Stt("what time is it", 2))
        self.send(type="listen", state="detect", text="never mind")
        self.assertEqual(session.events.restored(), [])

    def test_a_picture_is_not_asked_again(self) -> None:
        session = self.greet()
        self.send(type="image", text="what is it", data="aGVsbG8=")
        self.assertIsInstance(session.sent[-1], m.Image)
        session.events.received(m.Stt("what is it", 1))
        session.events.interrupted()
        self.assertEqual(self.story(), ["stt", "alert"])
        self.assertEqual(session.events.restored(), [])

    def test_the_next_outage_is_alerted_anew(self) -> None:
        session = self.greet()
        for _ in range(2):
            self.send(type="listen", state="stop")
            session.events.interrupted()
            session.events.received(m.Llm("happy"))
        self.assertEqual(self.story(), ["alert", "llm", "alert", "llm"])

    def test_a_lost_ai_holds_no_audio_back(self) -> None:
        session = self.greet()
        session.events.pause_sending()
        session.events.interrupted()
        self.assertFalse(self.transport.paused)

    def test_the_session_continues(self) -> None:
        session = self.greet()
        self.speak(session, 3, turn=9, stop=False)
        session.events.interrupted()
        self.bench.pass_time(1)
        self.transport.sent.clear()
        self.speak(session, 2, turn=1)
        self.bench.pass_time(1)
        self.assertEqual(self.story(), ["tts start", "audio", "audio", "tts stop"])


class EndTests(LinkCase):
    def test_farewell_is_heard_to_its_end(self) -> None:
        """§4.5, 5."""
        session = self.greet()
        self.speak(session, 10)
        session.events.closed("farewell", "")
        self.bench.pass_time(0.5)
        self.assertIsNone(self.transport.closed)
        self.bench.pass_time(1)
        self.assertEqual(self.story()[-1], "tts stop")
        self.assertEqual(self.story().count("audio"), 10)
        self.assertEqual(self.transport.closed, (1000, "farewell"))

    def test_a_farewell_without_a_stop(self) -> None:
        session = self.greet()
        self.speak(session, 3, stop=False)
        session.events.closed("farewell", "")
        self.bench.pass_time(1)
        self.assertEqual(self.story().count("tts stop"), 1)
        self.assertEqual(self.transport.closed, (1000, "farewell"))

    def test_a_farewell_can_be_cut_short(self) -> None:
        """§9, 2: an abort is answered at once even now, and a ping."""
        session = self.greet()
        self.speak(session, 10)
        session.events.closed("farewell", "")
        self.bench.pass_time(0.3)
        self.send(type="ping")
        self.assertEqual(self.story()[-1], "pong")
        self.send(type="abort")
        self.assertEqual(self.story()[-1], "tts stop")
        self.assertEqual(self.transport.closed, (1000, "farewell"))
        self.assertEqual(self.story().count("tts stop"), 1)

    def test_other_reasons_for_closing(self) -> None:
        for code, close in (("idle", 1000), ("draining", 1001), ("overload", 1011)):
            link, transport = self.bench.link()
            self.send(link, **HELLO)
            self.bench.bridge.sessions[-1].events.closed(code, "why")
            self.assertEqual(transport.closed, (close, code))
            self.assertIsNone(self.bench.bridge.sessions[-1].ended)

    def test_lost(self) -> None:
        session = self.greet()
        self.bench.clock.advance(2.5)
        wire_of(self.link).connection_lost("reset")
        wire_of(self.link).connection_lost("reset")
        self.assertEqual(session.ended, ("device_gone", "reset"))
        closed = self.log.event_data("closed")
        self.assertEqual((closed["code"], closed["seconds"]), (1006, 2.5))
        self.assertEqual(self.bench.owner.over, [self.link])
        self.assertEqual(self.log.changed, [("s1", SessionStatus.DISCONNECTED)])
        self.assertIsNone(self.transport.closed)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_lost_while_speaking(self) -> None:
        session = self.greet()
        self.speak(session, 30)
        self.bench.pass_time(0.3)
        wire_of(self.link).connection_lost("")
        sent = len(self.transport.sent)
        self.bench.pass_time(2)
        self.assertEqual(len(self.transport.sent), sent)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_replaced(self) -> None:
        """§9, 22."""
        session = self.greet()
        self.link.replaced()
        self.assertEqual(self.transport.closed, (4001, "replaced"))
        self.assertEqual(session.ended, ("replaced", "replaced"))
        self.assertEqual(self.log.event_data("replaced"), {})

    def test_drain_lets_a_turn_end(self) -> None:
        session = self.greet()
        self.speak(session, 10)
        self.link.drain()
        self.assertIsNone(self.transport.closed)
        self.bench.pass_time(1.5)
        self.assertEqual(self.transport.closed, (1001, "going_away"))

    def test_drain_lets_a_question_be_answered(self) -> None:
        """It was recognised, and its turn is in the bridge's next batch."""
        session = self.greet()
        session.events.received(m.Stt("how loud is it?"))
        self.link.drain()
        self.bench.pass_time(1)
        self.assertIsNone(self.transport.closed)
        self.speak(session, 10)
        self.bench.pass_time(0.1)
        self.assertIsNone(self.transport.closed)
        self.bench.pass_time(1.5)
        self.assertEqual(self.transport.closed, (1001, "going_away"))

    def test_drain_does_not_wait_for_a_cancelled_answer(self) -> None:
        session = self.greet()
        session.events.received(m.Stt("how loud is it?"))
        self.link.drain()
        self.assertIsNone(self.transport.closed)
        self.send(type="abort")
        self.assertEqual(session.sent[-1], m.Abort())
        self.assertEqual(self.transport.closed, (1001, "going_away"))

    def test_drain_at_the_limit(self) -> None:
        session = self.greet()
        self.speak(session, 10)
        self.link.drain()
        self.link.go_away()
        self.bench.pass_time(1.5)
        self.assertEqual(self.transport.closed, (1001, "going_away"))

    def test_idle(self) -> None:
        """§1.5; §9, 22: before the device considers the socket dead at 120 s."""
        session = self.greet()
        for _ in range(6):
            self.link.alive(0)
            self.bench.pass_time(10, 0.25)
        session.events.received(m.Stt("anything from the server counts"))
        for _ in range(10):
            self.link.alive(0)
            self.bench.pass_time(10, 0.25)
        self.assertIsNone(self.transport.closed)
        for _ in range(2):
            self.link.alive(0)
            self.bench.pass_time(10, 0.25)
        self.assertEqual(self.transport.closed, (1000, "idle"))
        self.assertEqual(session.ended, ("idle", "idle"))

    def test_devices_that_stay(self) -> None:
        """§1.5: they get a sign of life before they consider the socket dead."""
        link = LinkSettings(keep=frozenset({DEVICE.device_id}))
        self.bench = EdgeBench(EdgeSettings(link=link))
        for features, told in (({"mcp": True}, 3), ({}, 0)):
            self.link, self.transport = self.bench.link()
            self.send(**(HELLO | {"features": features}))
            self.transport.sent.clear()
            for _ in range(25):
                self.link.alive(0)
                self.bench.pass_time(10, 0.25)
            self.assertIsNone(self.transport.closed)
            texts = [json.loads(str(text)) for _, text in self.transport.sent]
            methods = [text["payload"]["method"] for text in texts]
            self.assertEqual(methods, ["notifications/alive"] * told)
            wire_of(self.link).connection_lost("gone")

    def test_half_open(self) -> None:
        self.greet()
        self.bench.pass_time(30.5, 0.25)
        self.assertEqual(self.transport.pings, 1)
        self.bench.pass_time(10, 0.25)
        self.link.alive(0)
        self.bench.pass_time(20, 0.25)
        self.assertIsNone(self.transport.closed)
        self.bench.pass_time(10.5, 0.25)
        self.assertEqual(self.transport.pings, 2)
        self.bench.pass_time(20.5, 0.25)
        self.assertEqual(self.transport.closed, (1011, "ping_timeout"))

    def test_data_proves_liveness(self) -> None:
        self.greet()
        for _ in range(20):
            self.bench.pass_time(20, 0.25)
            wire_of(self.link).binary_received(b"a")
        self.assertEqual(self.transport.pings, 0)


class LogTests(LinkCase):
    def test_rows(self) -> None:
        session = self.greet()
        self.send(type="listen", state="start", mode="auto")
        for _ in range(5):
            wire_of(self.link).binary_received(b"opus")
        session.events.received(m.Stt("hi", 1))
        self.speak(session, 3)
        self.bench.pass_time(1)
        self.assertEqual(
            self.log.rows(LogDirection.INBOUND),
            [
                ("hello", None),
                ("listen", "start"),
                ("audio", '{"frames":5,"bytes":20,"ms":300}'),
            ],
        )
        self.assertEqual(
            self.log.rows(LogDirection.OUTBOUND),
            [
                ("hello", None),
                ("stt", "hi"),
                ("tts", "start"),
                ("tts", "stop"),
                ("audio", '{"frames":3,"bytes":15,"ms":180}'),
            ],
        )

    def test_a_session_is_there_before_its_events(self) -> None:
        self.assertEqual(self.log.started, [("s1", DEVICE)])
        self.greet()
        self.assertEqual([kind for kind, _ in self.log.events], ["connected", "hello"])
        self.assertEqual(
            self.log.event_data("hello"),
            {"framing": 1, "dialect": "flat", "frame_duration": 60, "mcp": True, "aec": True},
        )

    def test_mcp_leaves_no_token(self) -> None:
        session = self.greet()
        session.events.received(
            m.Mcp(b'{"method":"initialize","id":1,"params":{"capabilities":{"token":"abc"}}}')
        )
        self.assertEqual(self.log.rows(LogDirection.OUTBOUND)[-1], ("mcp", "initialize 1"))

    def test_unknown_types_fit_the_column(self) -> None:
        self.greet()
        self.send(type="x" * 200, token="abc")
        self.assertEqual(self.log.rows(LogDirection.INBOUND)[-1], ("x" * 50, None))


class SettingsTests(SynchronousTestCase):
    def test_errors_name_the_key(self) -> None:
        for path, value in (
            ("pacer", {"lead_frames": 11}),
            ("pacer", {"low_water": 200}),
            ("link", {"downlink_sample_rate": 44100}),
            ("limits", {"max_message_bytes": 8_000_000}),
            ("gateway", {"paths": ["ws"]}),
            ("gateway", {"pahts": []}),
        ):
            with self.assertRaises(msgspec.ValidationError) as caught:
                msgspec.convert({path: value}, EdgeSettings)
            self.assertIn(f"$.{path}", str(caught.exception))

    def test_other_downlink(self) -> None:
        bench = EdgeBench(
            EdgeSettings(link=LinkSettings(downlink_sample_rate=16000, downlink_frame_duration=20))
        )
        link, transport = bench.link()
        link.text_received('{"type":"hello"}')
        hello = transport.texts()[0]
        assert isinstance(hello, m.ServerHello)
        self.assertEqual(hello.audio, m.AudioParams("opus", 16000, 1, 20))
