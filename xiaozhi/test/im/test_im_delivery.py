"""Delivery to one device: texts, packets, a congested socket, and the end."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.im.settings import EdgeSettings, LimitSettings, LinkSettings, PacerSettings
from xiaozhi.im.websocket.channel import WebSocketChannel
from xiaozhi.testing.edge import DEVICE, EdgeBench, FakeSession, FakeTransport
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import JsonDialect

START, SENTENCE, STOP = m.TtsState.START, m.TtsState.SENTENCE_START, m.TtsState.STOP
PACKET = b"\x58opus"  # SILK, one frame of 60 ms
ALERT = m.Alert("Error", "Sorry.")
UNSENDABLE = m.Iot(b"[]")
BACKLOG, CONGESTED, HOLD = 65_536, 20.0, 5.0


class DeliveryCase(SynchronousTestCase):
    def setUp(self) -> None:
        settings = EdgeSettings(
            limits=LimitSettings(backlog_bytes=BACKLOG),
            link=LinkSettings(congestion_timeout=CONGESTED),
            pacer=PacerSettings(stop_hold=HOLD),
        )
        self.bench = EdgeBench(settings)
        self.clock, self.counts = self.bench.clock, self.bench.context.counts
        self.transport = FakeTransport(self.clock)
        self.channel = WebSocketChannel(self.transport)
        self.turns = TurnGate(settings.link)
        self.down = Delivery(self.bench.context, self.channel, "s1", self.turns)
        opening = m.SessionOpen("s1", DEVICE, m.Hello(), self.bench.context.downlink)
        self.session = FakeSession(opening, None)  # type: ignore[arg-type]
        self.down.serve(self.session)

    def speak(self, frames: int, turn: int = 1, stop: bool = True) -> None:
        self.down.tts(m.Tts(START, turn=turn))
        for _ in range(frames):
            self.down.audio(m.Audio(PACKET, 0, turn))
        if stop:
            self.down.tts(m.Tts(STOP, turn=turn))

    def story(self) -> list[str]:
        """Return items since the last call: types, states of ``tts``; ``audio`` for packets."""
        told = []
        for _, what in self.transport.sent:
            if isinstance(what, bytes):
                told.append("audio")
            else:
                text = json.loads(what)
                told.append(text.get("state", text["type"]))
        self.transport.sent.clear()
        return told

    def rows(self) -> list[str]:
        return [kind for kind, _, _ in self.bench.log.messages]


class TextTests(DeliveryCase):
    def test_sent_counted_and_noted(self) -> None:
        self.clock.advance(7)
        self.down.text(ALERT)
        self.assertEqual(self.story(), ["alert"])
        self.assertEqual((self.down.active, self.rows()), (7.0, ["alert"]))
        self.assertEqual(dict(self.counts.messages), {("down", "alert"): 1})

    def test_a_device_s_session_id_and_time(self) -> None:
        self.down.adopt(JsonDialect.ENVELOPED)
        self.clock.advance(12.5)
        for known, session in ((True, {"session_id": "s1"}), (False, {})):
            self.down.text(ALERT, known=known)
            (_, text), *_ = self.transport.sent
            self.transport.sent.clear()
            sent = json.loads(text)
            self.assertEqual(sent["timestamp"], 12500)
            self.assertEqual({k: v for k, v in sent["data"].items() if k == "session_id"}, session)

    def test_an_alert_makes_a_sound(self) -> None:
        for message, expected in ((m.System("reboot"), False), (ALERT, True)):
            self.down.text(message)
            self.assertEqual(self.down.alert_sound.expected, expected)

    def test_unwritable_messages(self) -> None:
        self.down.text(UNSENDABLE)
        self.assertEqual((self.story(), self.rows(), self.down.refused), ([], [], 1))
        self.assertEqual(dict(self.counts.dropped), {("unsendable",): 1})

    def test_verbatim(self) -> None:
        self.clock.advance(7)
        self.down.verbatim('{"type":"any"}')
        self.assertEqual(self.story(), ["any"])
        self.assertEqual((self.down.active, self.rows()), (7.0, ["posted"]))

    def test_nothing_after_the_end(self) -> None:
        self.down.close()
        self.clock.advance(7)
        self.down.text(ALERT)
        self.down.verbatim("{}")
        self.assertEqual((self.story(), self.rows(), self.down.active), ([], [], 0.0))


class CongestionTests(DeliveryCase):
    def test_time_until_a_congested_device_is_overdue(self) -> None:
        """Messages sent meanwhile, and seconds, until the device is overdue."""
        text = "x" * (BACKLOG // 2)
        say = self.down.verbatim
        cases: tuple[tuple[Callable[[], None], float, bool], ...] = (
            (lambda: None, CONGESTED - 0.1, False),
            (lambda: None, CONGESTED, True),
            (lambda: (say(text), say(text), None)[-1], 1.0, False),
            (lambda: (say(text), say(text + "x"), None)[-1], 1.0, True),
            (lambda: self.down.text(m.Alert("", text * 2)), 1.0, True),
            (lambda: None, 1.0, False),
        )
        for meanwhile, seconds, overdue in cases:
            # Earlier messages do not count; nor does a second notice.
            say(text)
            self.clock.advance(100)
            self.assertFalse(self.down.overdue(self.clock.seconds()))
            self.down.choke()
            meanwhile()
            self.clock.advance(seconds)
            self.down.choke()
            self.assertEqual(self.down.overdue(self.clock.seconds()), overdue, seconds)
            self.down.unchoke()
            self.assertFalse(self.down.overdue(self.clock.seconds() + 2 * CONGESTED))

    def test_speech_waits(self) -> None:
        """Whether it has begun before or not."""
        for begun in (True, False):
            if begun:
                self.speak(20, stop=False)
                self.bench.pass_time(0.2)
                self.story()
            self.down.choke()
            if not begun:
                self.down = Delivery(self.bench.context, self.channel, "s1", self.turns)
                self.down.choke()
                self.speak(20, stop=False)
            self.bench.pass_time(2)
            self.assertEqual(self.story(), [])
            self.assertGreater(self.down.waiting, 0)
            self.down.unchoke()
            self.bench.pass_time(0.1)
            self.assertIn("audio", self.story())

    def test_nothing_is_released_after_the_end(self) -> None:
        self.speak(20, stop=False)
        self.down.choke()
        self.down.close()
        self.down.unchoke()
        self.speak(20, turn=2)
        self.bench.pass_time(3)
        self.assertNotIn("audio", self.story()[10:])


class SpeechTests(DeliveryCase):
    def test_nothing_was_said_yet(self) -> None:
        down = self.down
        self.assertEqual((down.waiting, down.stale, down.overflowed), (0, 0, 0))
        self.assertEqual((down.turn, down.heard_since, down.uncounted), (None, None, (0, 0)))
        self.assertFalse(down.busy or down.unfinished)

    def test_a_turn_is_counted_at_its_end(self) -> None:
        for turn in (1, 2):
            self.speak(3, turn)
            self.bench.pass_time(0.15)
            self.assertEqual(self.down.uncounted, (3, 3 * len(PACKET)))
            self.bench.pass_time(1)
            self.assertEqual(self.down.uncounted, (0, 0))
            self.assertEqual(self.counts.frames_down, 3 * turn)
            self.assertEqual(self.counts.bytes_down, 3 * turn * len(PACKET))
            self.assertEqual(self.rows().count("audio"), turn)

    def test_sound_keeps_the_connection_busy(self) -> None:
        self.speak(20)
        self.bench.pass_time(0.9)
        self.assertGreater(self.down.active, 0.5)

    def test_a_packet_that_does_not_fit(self) -> None:
        self.channel.greet(m.Hello(version=3))
        self.down.tts(m.Tts(START, turn=1))
        self.down.audio(m.Audio(b"\x58" + bytes(70_000), 0, 1))
        self.bench.pass_time(0.2)
        self.assertNotIn("audio", self.story())
        self.assertEqual((self.down.refused, self.down.uncounted), (1, (0, 0)))
        self.assertEqual(self.counts.dropped["unsendable",], 1)

    def test_turn_control_is_notified_of_a_stop(self) -> None:
        """The ``listen start`` that follows it interrupts nothing; another one does."""
        self.speak(1)
        self.bench.pass_time(1)
        again = m.Listen(m.ListenState.START, m.ListenMode.AUTO)
        now = self.clock.seconds()
        for wanted in (False, True):
            self.assertEqual(self.turns.interrupts(again, now, now - 1), wanted)

    def test_the_session_hears_of_it(self) -> None:
        self.speak(3)
        self.bench.pass_time(1)
        self.assertEqual(self.session.playbacks(), [(1, "started", 0), (1, "finished", 180)])

    def test_wind_up(self) -> None:
        """The sentences that begin: of a turn that has not begun one, the first."""
        for told, begun in (("", ["1", "2"]), ("before", ["1"]), ("within", ["1"])):
            self.transport.sent.clear()
            self.down = Delivery(self.bench.context, self.channel, "s1", self.turns)
            if told == "before":
                self.down.wind_up()
            self.down.tts(m.Tts(START, turn=1))
            for sentence in "12":
                self.down.tts(m.Tts(SENTENCE, sentence, 1))
                for _ in range(10):
                    self.down.audio(m.Audio(PACKET, 0, 1))
            self.bench.pass_time(0.2)
            if told == "within":
                self.down.wind_up()
            self.down.tts(m.Tts(STOP, turn=1))
            self.bench.pass_time(2)
            texts = [text for text in self.transport.texts() if type(text) is m.Tts]
            self.assertEqual([text.text for text in texts if text.text], begun, told)
            self.assertIs(texts[-1].state, STOP)

    def test_pause(self) -> None:
        """In a turn, and before its first packet."""
        self.down.pause(1, paused=False)
        self.assertFalse(self.down.busy)
        self.down.pause(1, paused=True)
        for turn in (1, 2):
            self.speak(20, turn)
            self.bench.pass_time(0.2)
            self.down.pause(turn, paused=True)
            self.bench.pass_time(0.5)
            self.story()
            self.bench.pass_time(2)
            self.assertEqual(self.story(), [])
            self.down.pause(turn, paused=False)
            self.bench.pass_time(3)
            self.assertEqual(self.story()[-1], "stop")

    def test_rest(self) -> None:
        told: list[str] = []
        self.down.when_rested(lambda: told.append("at once"))
        self.down.at_rest(lambda: told.append("later"))
        self.assertEqual(told, ["at once"])
        self.speak(1)
        self.down.when_rested(lambda: told.append("last"))
        self.assertEqual(told, ["at once"])
        self.bench.pass_time(1)
        self.assertEqual(told, ["at once", "later", "last"])
        self.speak(1, turn=2)
        self.bench.pass_time(1)
        self.assertEqual(len(told), 3)


class HeldStopTests(DeliveryCase):
    """A pressed button cuts a turn."""

    def hold(self) -> None:
        self.speak(20)
        self.bench.pass_time(0.2)
        self.story()
        self.down.cut(hold=True)
        self.bench.pass_time(1)
        self.assertEqual(self.story(), [])

    def test_released(self) -> None:
        self.hold()
        self.down.let_go()
        self.down.let_go()
        self.assertEqual(self.story(), ["stop"])
        self.bench.pass_time(2 * HOLD)
        self.assertEqual(self.story(), [])

    def test_not_without_a_button(self) -> None:
        self.speak(20)
        self.bench.pass_time(0.2)
        self.story()
        self.down.cut()
        self.assertEqual(self.story(), ["stop"])

    def test_hold_limit(self) -> None:
        self.hold()
        self.bench.pass_time(HOLD - 1.5)
        self.assertEqual(self.story(), [])
        self.bench.pass_time(1)
        self.assertEqual(self.story(), ["stop"])

    def test_each_hold_has_its_own_time(self) -> None:
        """The end of the first one does not end the second one."""
        self.hold()
        self.down.let_go()
        self.bench.pass_time(HOLD / 2)
        self.story()
        self.speak(20, turn=2)
        self.bench.pass_time(0.2)
        self.down.cut(hold=True)
        self.story()
        self.bench.pass_time(HOLD - 1.5)
        self.assertEqual(self.story(), [])

    def test_until_the_next_turn(self) -> None:
        self.hold()
        self.speak(1, turn=2)
        self.bench.pass_time(1)
        self.assertEqual(self.story(), ["stop", "start", "audio", "stop"])

    def test_a_sentence_does_not_end_it(self) -> None:
        self.hold()
        self.down.send(m.Tts(SENTENCE, "Hm.", 1))
        self.assertEqual(self.story(), ["sentence_start"])

    def test_forgotten_at_the_end(self) -> None:
        self.hold()
        self.down.close()
        self.down.let_go()
        self.bench.pass_time(2 * HOLD)
        self.assertEqual(self.story(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_breaks_all_references(self) -> None:
        self.hold()
        self.down.close()
        gone = weakref.ref(self.transport)
        del self.down, self.channel, self.transport
        gc.collect()
        self.assertIsNone(gone())


class CloseTests(DeliveryCase):
    def test_nothing_is_done_after_the_end(self) -> None:
        told: list[Any] = []
        self.speak(50)
        self.down.at_rest(lambda: told.append("rested"))
        self.bench.pass_time(0.2)
        self.down.close()
        before = list(self.session.sent)
        self.down.rested()
        self.down.hold()
        self.down.report(m.Playback(1, m.PlaybackState.FINISHED, 60))
        self.assertEqual((told, self.session.sent, self.session.paused), ([], before, False))

    def test_playback_is_logged(self) -> None:
        self.speak(50)
        self.bench.pass_time(0.5)
        frames, _ = self.down.uncounted
        self.assertGreater(frames, 0)
        self.down.close()
        self.assertEqual((self.counts.frames_down, self.rows().count("audio")), (frames, 1))
        self.down.close()
        self.assertEqual(self.counts.frames_down, frames)
