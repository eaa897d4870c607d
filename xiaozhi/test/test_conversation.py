"""Whole conversations through everything we have, on virtual time."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.settings import (
    Detector,
    IdleSettings,
    ListenSettings,
    SessionSettings,
    TurnSettings,
    WakeSettings,
)
from xiaozhi.audio import OpusDecoder, OpusEncoder, rms
from xiaozhi.device import events as e
from xiaozhi.device.identity import numbered
from xiaozhi.device.mcp import DeviceTool
from xiaozhi.im.delivery import Delivery
from xiaozhi.testing.house import AI, SPEECH, Browser, House, Visitor
from xiaozhi.values import Direction, Receipt, Role
from xiaozhi.wire.jsontext import Dialect
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Features, ListenMode, Playback, PlaybackState

LONG = "This is a long answer that takes quite some seconds to say, and then some more."


class ConversationCase(SynchronousTestCase):
    """Every test ends with a house that leaves nothing behind."""

    def house(self, **settings: Any) -> House:
        house = House(**settings)

        def check() -> None:
            self.assertEqual(house.close(), [], "timers left behind")

        self.addCleanup(check)
        return house

    def assert_paired(self, visitor: Visitor) -> None:
        """§9.2: exactly one stop per start."""
        starts, stops = visitor.seen(e.SpeechStarted), visitor.seen(e.SpeechStopped)
        self.assertEqual(len(stops), len(starts))


class TalkTests(ConversationCase):
    def test_auto(self) -> None:
        house = self.house(asr={"texts": ("hello", "and now")}, llm={"answers": ("Hi there.",)})
        visitor = house.connect()
        for text in ("hello", "and now"):
            answer = house.until(visitor.device.say(SPEECH))
            self.assertEqual((answer.heard, answer.sentences), (text, ("Hi there.",)))
            self.assertEqual((answer.tts_starts, answer.tts_stops), (1, 1))
            self.assertEqual((answer.gaps, answer.dropped), ((), 0))
            # 60 ms a character, and the pause after a sentence.
            self.assertApproximates(answer.audio_ms, 540 + 120, 60)

    def test_a_talk_goes_on_after_a_reconnect_and_without_the_ai_process(self) -> None:
        house = self.house(llm={"recall": "what did I say"})
        visitor = house.connect()
        house.until(visitor.device.text("my name is Ada"))
        visitor.device.close()
        visitor = house.connect()
        answer = house.until(visitor.device.text("what did I say"))
        self.assertEqual(answer.text, "my name is Ada")
        house.until(visitor.device.text("I like bread"))
        house.kill_ai()
        house.run(1)
        house.start_ai()
        house.run(12)
        answer = house.until(visitor.device.text("what did I say"))
        self.assertEqual(answer.text, "I like bread")
        stranger = house.connect(2)
        answer = house.until(stranger.device.text("what did I say"))
        self.assertEqual(answer.text, "Nothing.")

    def test_manual(self) -> None:
        house = self.house()
        visitor = house.connect(mode=ListenMode.MANUAL)
        for _ in range(2):
            answer = house.until(visitor.device.say(SPEECH))
            self.assertEqual(answer.heard, "hello")
            self.assertEqual(visitor.device.machine.state, e.State.IDLE)
            # No end of speech to listen for: only the gap the device needs (§3.3).
            assert answer.first_audio_latency is not None
            self.assertLess(answer.first_audio_latency, 0.15)

    def test_manual_silence_is_not_the_end(self) -> None:
        """§4.4: in manual only ``listen stop`` ends an utterance."""
        house = self.house()
        visitor = house.connect(mode=ListenMode.MANUAL)
        answer = visitor.device.say(SPEECH + bytes(32000 * 3) + SPEECH)
        house.run(4.5)
        self.assertEqual(visitor.seen(e.Heard), [])
        self.assertEqual(house.until(answer).heard, "hello")

    def test_realtime_needs_no_second_start(self) -> None:
        """§9.8."""
        house = self.house()
        visitor = house.connect(mode=ListenMode.REALTIME)
        for _ in range(3):
            self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")
        self.assertEqual(len(visitor.seen(e.ListeningStarted)), 1)

    def test_typed(self) -> None:
        """§9.26: a detect that is no wake word is a question."""
        house = self.house(llm={"replies": {"2+2?": "Four."}})
        answer = house.until(house.connect().device.text("2+2?"))
        self.assertEqual((answer.heard, answer.text), ("2+2?", "Four."))

    def test_every_framing_and_dialect(self) -> None:
        house = self.house()
        for number, framing in enumerate((1, 2, 3, 1, 2, 3)):
            dialect = Dialect.FLAT if number < 3 else Dialect.ENVELOPED
            visitor = house.connect(number, framing=framing, dialect=dialect)
            answer = house.until(visitor.device.say(SPEECH))
            self.assertEqual((answer.heard, answer.dropped, answer.errors), ("hello", 0, ()))

    def test_two_devices_do_not_meet(self) -> None:
        house = self.house(llm={"replies": {"one": "First.", "two": "Second."}})
        one, two = house.connect(1), house.connect(2)
        first, second = one.device.text("one"), two.device.text("two")
        self.assertEqual(house.until(first).text, "First.")
        self.assertEqual(house.until(second).text, "Second.")

    def test_nothing_heard_is_no_turn(self) -> None:
        house = self.house(asr={"texts": ("",)})
        visitor = house.connect()
        visitor.device.listen()
        visitor.device.microphone.say(SPEECH)
        house.run(4)
        self.assertEqual(visitor.seen(e.SpeechStarted), [])
        self.assertEqual(visitor.device.machine.state, e.State.LISTENING)

    def test_long_answer_is_paced_and_complete(self) -> None:
        """§9.4, §9.5: never more than the lead ahead, and nothing is lost."""
        house = self.house(llm={"answers": ((LONG + " ") * 5,)}, tts={"milliseconds": 100})
        visitor = house.connect()
        answer = house.until(visitor.device.text("tell me"), 120)
        self.assertGreater(answer.audio_ms, 30_000)
        self.assertEqual((answer.gaps, answer.dropped), ((), 0))
        times = [at for at, event in visitor.events if isinstance(event, e.PacketPlayed)]
        for number, at in enumerate(times):
            self.assertGreaterEqual(at - times[0] + 0.021, (number - 2) * 0.06)

    def test_stop_comes_after_the_end_of_playback(self) -> None:
        """§9.6."""
        house = self.house()
        visitor = house.connect()
        answer = house.until(visitor.device.text("hi"))
        times = {type(event): at for at, event in visitor.events}
        first = next(at for at, event in visitor.events if isinstance(event, e.PacketPlayed))
        self.assertGreaterEqual(times[e.SpeechStopped] + 0.011, first + answer.audio_ms / 1000)

    def test_an_answer_may_play_longer_than_thinking_may_take(self) -> None:
        house = self.house(
            session=SessionSettings(turn=TurnSettings(whole=10)),
            llm={"answers": ((LONG + " ") * 10,)},
            tts={"pace": 4.0},
        )
        answer = house.until(house.connect().device.text("go"))
        self.assertGreater(answer.audio_ms, 40_000)
        self.assertEqual(answer.sentences[-1], LONG)

    def test_thinking_all_in_all_is_limited(self) -> None:
        house = self.house(
            session=SessionSettings(turn=TurnSettings(whole=20)),
            llm={"answers": (LONG.replace(",", "").replace(".", "") * 2,), "token_delay": 1.0},
        )
        answer = house.until(house.connect().device.text("go"))
        self.assertIn("Sorry", answer.text)
        self.flushLoggedErrors()

    def test_the_log_has_it_all(self) -> None:
        house = self.house(llm={"answers": ("Fine.",)})
        visitor = house.connect()
        house.until(visitor.device.say(SPEECH))
        assert visitor.cable.link is not None
        session_id = visitor.cable.link.session_id
        house.run(1)
        rows = self.successResultOf(house.store.messages(session_id, 100))
        kinds = [(row.message_type, row.direction) for row in rows]
        for expected in (
            ("hello", Direction.INBOUND),
            ("hello", Direction.OUTBOUND),
            ("listen", Direction.INBOUND),
            ("audio", Direction.INBOUND),
            ("stt", Direction.OUTBOUND),
            ("tts", Direction.OUTBOUND),
            ("audio", Direction.OUTBOUND),
        ):
            self.assertIn(expected, kinds)
        # One row for an utterance, not one for a packet.
        self.assertEqual(kinds.count(("audio", Direction.OUTBOUND)), 1)


class ToolTests(ConversationCase):
    def test_on_the_device(self) -> None:
        call = {"name": "self_audio_speaker_set_volume", "arguments": {"volume": 30}}
        house = self.house(llm={"calls": (call,)})
        visitor = house.connect()
        answer = house.until(visitor.device.text("quieter"))
        self.assertEqual([tool.name for tool in answer.tools], ["self.audio_speaker.set_volume"])
        self.assertEqual(visitor.device.panel.volume, 30)
        self.assertEqual(answer.text, "true")

    def test_several_in_one_reply(self) -> None:
        """A device runs one call at a time (§5.2): it is not asked for the next one before
        it has answered. The server's own go on beside it."""
        ran: list[str] = []
        answer: Deferred[str] = Deferred()

        async def slow(_: object) -> str:
            ran.append("slow")
            return await answer

        async def quick(_: object) -> str:
            ran.append("quick")
            return "quickly"

        names = ("self_slow", "self_quick", "get_date")
        house = self.house(llm={"calls": tuple({"name": name} for name in names)})
        visitor = house.connect(
            tools=(
                DeviceTool("self.slow", "Slow.", slow),
                DeviceTool("self.quick", "Quick.", quick),
            )
        )
        asked = visitor.device.text("do all")
        house.run(2)
        self.assertEqual(ran, ["slow"])
        answer.callback("slowly")
        house.until(asked)
        self.assertEqual(ran, ["slow", "quick"])
        house.run(1)
        said = self.successResultOf(
            Deferred.fromCoroutine(house.history.recall(visitor.device.identity.device_id, 99))
        )
        results = [entry.said.text for entry in said if entry.said.role is Role.TOOL]
        self.assertEqual(results[:2], ["slowly", "quickly"])
        self.assertIn("2026-09-21", results[2])

    def test_on_the_server(self) -> None:
        house = self.house(llm={"calls": ({"name": "get_date", "arguments": {}},)})
        answer = house.until(house.connect().device.text("what day is it"))
        self.assertIn("2026-09-21", answer.text)

    def test_endless_calls_end(self) -> None:
        house = self.house(
            session=SessionSettings(turn=TurnSettings(tool_rounds=1)),
            llm={"calls": ({"name": "get_time", "arguments": {}},)},
        )
        answer = house.until(house.connect().device.text("time"))
        self.assertEqual(answer.text, "I could not finish that.")

    def test_device_without_mcp(self) -> None:
        house = self.house()
        visitor = house.connect(features=Features(mcp=False))
        self.assertEqual(house.until(visitor.device.text("hi")).text, "All right.")

    def test_goodbye_is_heard_and_then_closed(self) -> None:
        """§4.5, 5."""
        house = self.house(llm={"calls": ({"name": "end_conversation", "arguments": {}},)})
        visitor = house.connect()
        house.until(visitor.device.text("goodbye"))
        house.run(1)
        self.assertEqual(visitor.cable.closed, (1000, "farewell"))
        self.assert_paired(visitor)

    def test_a_goodbye_talked_over_is_none(self) -> None:
        house = self.house(
            llm={
                "calls": ({"name": "end_conversation", "when": "goodbye"},),
                "replies": {"no, wait": "Yes?"},
            }
        )
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="detect", text="goodbye")
        house.run(0.5)
        browser.say(type="listen", state="detect", text="no, wait")
        house.run(3)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["goodbye", "no, wait"])
        self.assertEqual(browser.of("tts")[-1]["state"], "stop")
        self.assertIsNone(browser.closed)

    def test_a_goodbye_over_an_answer_is_one(self) -> None:
        """That the answer before it was cut off is told late."""
        report = Delivery.report

        def late(delivery: Delivery, playback: Playback) -> None:
            flushed = playback.state is PlaybackState.FLUSHED
            house.clock.callLater(0.4 if flushed else 0, report, delivery, playback)

        self.patch(Delivery, "report", late)
        house = self.house(
            asr={"texts": ("hello", "goodbye")},
            llm={
                "calls": ({"name": "end_conversation", "when": "goodbye"},),
                "replies": {"hello": LONG},
            },
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(4)
        house.until(visitor.device.say(SPEECH))
        house.run(1)
        self.assertEqual(visitor.cable.closed, (1000, "farewell"))


class InterruptionTests(ConversationCase):
    def test_abort(self) -> None:
        """§4.6: silence at once, one stop, and the next question is answered."""
        house = self.house(llm={"replies": {"go": LONG * 3, "next": "Yes."}})
        visitor = house.connect()
        answer = visitor.device.text("go")
        house.run(2)
        visitor.device.abort()
        began = house.clock.seconds()
        first = house.until(answer)
        self.assertTrue(first.interrupted)
        # The device plays out the two or three packets it holds.
        self.assertLess(house.clock.seconds() - began, 0.25)
        house.run(1)
        self.assert_paired(visitor)
        late = [
            at
            for at, event in visitor.events
            if isinstance(event, e.PacketPlayed) and at > began + 0.02
        ]
        self.assertEqual(late, [])
        self.assertEqual(house.until(visitor.device.text("next")).text, "Yes.")
        self.assert_paired(visitor)

    def test_voice_in_realtime(self) -> None:
        house = self.house(
            asr={"texts": ("go", "stop")}, llm={"replies": {"go": LONG * 3, "stop": "Okay."}}
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        first = visitor.device.say(SPEECH)
        house.run(5)
        self.assertEqual(visitor.device.machine.state, e.State.SPEAKING)
        second = house.until(visitor.device.say(SPEECH))
        self.assertEqual((second.heard, second.text), ("stop", "Okay."))
        self.assertLess(house.until(first).audio_ms, 6_000)
        self.assert_paired(visitor)

    def test_a_short_noise_does_not_interrupt(self) -> None:
        house = self.house(llm={"answers": (LONG,)})
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(3)
        visitor.device.microphone.say(SPEECH[: 32 * 150])
        self.assertGreater(house.until(answer).audio_ms, 4_000)

    def silent(self, visitor: Visitor, begin: float, end: float) -> bool:
        """Whether nothing was played in that time; a device plays out what it has."""
        return not any(
            begin < at < end for at, event in visitor.events if isinstance(event, e.PacketPlayed)
        )

    def test_words_interrupt_while_they_are_said(self) -> None:
        """A recogniser that tells them as they come: the answer ends with the first."""
        house = self.house(
            asr={"texts": ("hello", "please stop it now"), "interim": 0.3},
            llm={"replies": {"hello": LONG * 2, "please stop it now": "Okay."}},
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(3)
        begin = house.clock.seconds()
        answer = house.until(visitor.device.say(SPEECH * 2))
        self.assertEqual((answer.heard, answer.text), ("please stop it now", "Okay."))
        stops = [at - begin for at, event in visitor.events if isinstance(event, e.SpeechStopped)]
        self.assertLess(min(stop for stop in stops if stop > 0), 0.8)
        self.assert_paired(visitor)

    def test_an_unfinished_phrase_is_waited_for(self) -> None:
        listen = ListenSettings(detector=Detector.TEXT, min_delay=0.3, max_delay=2.0)
        house = self.house(
            session=SessionSettings(listen=listen),
            asr={"texts": ("turn on the", "turn on the light"), "interim": 0.2},
        )
        visitor = house.connect()
        waited = []
        for _ in range(2):
            begin = house.clock.seconds()
            visitor.device.say(SPEECH + SPEECH).addErrback(lambda _: None)
            house.run(5)
            heard = [at for at, event in visitor.events if isinstance(event, e.Heard)]
            waited.append(heard[-1] - begin - 1.8)
        self.assertLess(abs(waited[0] - 2.0), 0.2)
        self.assertLess(abs(waited[1] - 0.3), 0.2)

    def assert_whole(self, audio_ms: float) -> None:
        """All of ``LONG``, and a pause after each of its two clauses."""
        self.assertLess(abs(audio_ms - 60 * len(LONG) - 240), 180)

    def test_a_noise_only_pauses(self) -> None:
        """Sound pauses at the voice and goes on where it was when no words come."""
        house = self.house(asr={"texts": ("hello", "")}, llm={"answers": (LONG,)})
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(3)
        begin = house.clock.seconds()
        visitor.device.microphone.say(SPEECH)
        told = house.until(answer)
        self.assertTrue(self.silent(visitor, begin + 0.5, begin + 1.5))
        self.assertEqual(" ".join(told.sentences), LONG)
        self.assertFalse(told.interrupted)
        self.assert_whole(told.audio_ms)
        self.assert_paired(visitor)

    def test_a_noise_that_is_no_utterance_only_pauses(self) -> None:
        listen = ListenSettings(barge_in=0.1, min_speech=0.4)
        house = self.house(session=SessionSettings(listen=listen), llm={"answers": (LONG,)})
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(3)
        visitor.device.microphone.say(SPEECH[: 32 * 300])
        told = house.until(answer)
        self.assertEqual((told.interrupted, len(visitor.seen(e.Heard))), (False, 1))
        self.assert_whole(told.audio_ms)

    def test_a_noise_while_it_is_thought_of(self) -> None:
        house = self.house(
            asr={"texts": ("hello", "")}, llm={"answers": ("All right.",), "delay": 1.0}
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(1.8)
        visitor.device.microphone.say(SPEECH)
        told = house.until(answer)
        self.assertEqual((told.text, told.tts_stops), ("All right.", 1))

    def test_a_recogniser_that_fails_over_an_answer(self) -> None:
        """Who cannot be understood does not interrupt."""
        house = self.house(llm={"answers": (LONG,)})
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(3)
        visitor.device.microphone.say(SPEECH)
        house.providers.asr.close()
        self.assertFalse(house.until(answer).interrupted)

    def test_words_that_are_recognised_when_the_answer_is_over(self) -> None:
        """A noise is being recognised, and what is said after it is not lost with it."""
        house = self.house(asr={"texts": ("", "hello"), "delay": 2.5})
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(2)
        visitor.device.microphone.say(SPEECH)
        house.run(8)
        self.assertEqual([heard.text for heard in visitor.seen(e.Heard)], ["hello"])
        self.assert_paired(visitor)

    def test_what_is_said_while_what_was_said_before_is_still_recognised(self) -> None:
        """The answer it was said over is over; both are answered, in their order."""
        house = self.house(
            asr={"texts": ("", "first", "second"), "delay": 2.5},
            llm={"replies": {"first": "One.", "second": "Two."}},
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        for _ in range(2):
            house.run(2)
            visitor.device.microphone.say(SPEECH)
        house.run(8)
        self.assertEqual([heard.text for heard in visitor.seen(e.Heard)], ["first", "second"])
        self.assertEqual([s.text for s in visitor.seen(e.Sentence)][-1], "Two.")
        self.assert_paired(visitor)

    def test_two_utterances_over_an_answer(self) -> None:
        """The first ends it, and nothing more of it is played; the second is answered, too."""
        house = self.house(
            asr={"texts": ("hello", "stop", "and then"), "delay": 2.0},
            llm={"replies": {"hello": LONG * 2, "stop": "Fine.", "and then": "Go on."}},
        )
        told: list[bool] = []
        pause = Delivery.pause

        def noted(delivery: Delivery, turn: int, *, paused: bool) -> None:
            told.append(paused)
            pause(delivery, turn, paused=paused)

        self.patch(Delivery, "pause", noted)
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(6)
        begin = house.clock.seconds()
        for _ in range(2):
            visitor.device.microphone.say(SPEECH)
            house.run(1.7)
        house.run(8)
        starts = [at for at, event in visitor.events if isinstance(event, e.SpeechStarted)]
        self.assertTrue(self.silent(visitor, begin + 0.5, starts[1]))
        heard = [heard.text for heard in visitor.seen(e.Heard)]
        self.assertEqual(heard, ["hello", "stop", "and then"])
        self.assertEqual(told, [True], "it went on for a moment")
        self.assert_paired(visitor)

    def test_nothing_is_played_into_the_first_words_of_a_session(self) -> None:
        """The answer begins while somebody speaks, and no pacer has played anything yet."""
        house = self.house(asr={"texts": ("hello", ""), "delay": 1.0}, llm={"answers": (LONG,)})
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(1.7)
        begin = house.clock.seconds()
        visitor.device.microphone.say(SPEECH * 3)
        told = house.until(answer)
        self.assertTrue(self.silent(visitor, begin, begin + 2.7))
        self.assert_whole(told.audio_ms)

    def test_who_speaks_on_and_on_is_listened_to(self) -> None:
        """Longer than a pause may be: then it is no noise."""
        listen = ListenSettings(pause=2.0)
        house = self.house(
            session=SessionSettings(listen=listen),
            asr={"texts": ("hello", "a long story")},
            llm={"replies": {"hello": LONG * 2, "a long story": "I see."}},
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(3)
        begin = house.clock.seconds()
        answer = house.until(visitor.device.say(SPEECH * 4))
        self.assertEqual((answer.heard, answer.text), ("a long story", "I see."))
        stops = [at - begin for at, event in visitor.events if isinstance(event, e.SpeechStopped)]
        self.assertLess(min(stop for stop in stops if stop > 0), 2.6)
        self.assert_paired(visitor)

    def test_a_recogniser_that_takes_long_over_an_answer(self) -> None:
        """The pause is bounded; then it goes on."""
        listen = ListenSettings(pause=2.0)
        house = self.house(
            session=SessionSettings(listen=listen),
            asr={"texts": ("hello", "never heard"), "delay": 5.0},
            llm={"answers": (LONG,)},
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(8)
        visitor.device.microphone.say(SPEECH)
        self.assertFalse(house.until(answer).interrupted)
        self.assertEqual(len(visitor.seen(e.Heard)), 1)

    def test_typing_over_an_answer(self) -> None:
        house = self.house(llm={"replies": {"go": LONG * 3, "next": "Yes."}})
        visitor = house.connect()
        visitor.device.text("go").addErrback(lambda _: None)
        house.run(2)
        answer = house.until(visitor.device.text("next"))
        self.assertEqual(answer.text, "Yes.")
        self.assert_paired(visitor)

    def test_press_over_an_answer(self) -> None:
        house = self.house(llm={"answers": (LONG * 3,)})
        visitor = house.connect(mode=ListenMode.MANUAL)
        visitor.device.text("go").addErrback(lambda _: None)
        house.run(2)
        visitor.device.machine.listen()
        house.run(0.5)
        self.assertEqual(visitor.device.machine.state, e.State.LISTENING)
        self.assert_paired(visitor)

    def test_the_edge_silences_by_itself(self) -> None:
        """Whoever interrupts hears the end at once, also while the AI is away."""
        for interrupt in (
            {"type": "abort"},
            {"type": "listen", "state": "detect", "text": "what else"},
            {"type": "listen", "state": "detect", "text": "你好小智"},
            {"type": "listen", "state": "start", "mode": "manual"},
            {"type": "listen", "state": "start", "mode": "auto"},
            {"type": "chat", "text": "what else"},
            {
                "type": "image",
                "text": "what is it",
                "image_data": {"data": "AAAA", "format": "png"},
            },
        ):
            house = self.house(llm={"answers": (LONG * 3,)})
            browser = house.browse()
            browser.say(type="hello")
            house.run(0.1)
            browser.say(type="listen", state="detect", text="go")
            house.run(2)
            self.assertEqual(browser.of("tts")[-1]["state"], "sentence_start")
            for stream in house.network.streams(AI):
                stream.stall()
            browser.say(**interrupt)
            packets = len(browser.packets)
            self.assertEqual(browser.of("tts")[-1]["state"], "stop", interrupt)
            house.run(1)
            self.assertEqual(len(browser.packets), packets, interrupt)

    def test_hanging_up_in_mid_answer(self) -> None:
        house = self.house(llm={"answers": (LONG * 3,)}, tts={"pace": 2.0})
        visitor = house.connect()
        visitor.device.text("go").addErrback(lambda _: None)
        house.run(2)
        visitor.device.machine.drop()
        house.run(1)
        self.assertEqual(house.ai.status().sessions, 0)


class IdleTests(ConversationCase):
    """Nobody says anything any more."""

    def test_farewell(self) -> None:
        """Spoken, played to its end, and only then is the device hung up."""
        house = self.house(session=SessionSettings(idle=IdleSettings(no_speech=20)))
        for mode in (ListenMode.AUTO, ListenMode.REALTIME):
            visitor = house.connect(mode=mode)
            house.until(visitor.device.say(SPEECH))
            house.run(19)
            self.assertEqual(len(visitor.seen(e.SpeechStarted)), 1)
            house.run(5)
            sentences = [sentence.text for sentence in visitor.seen(e.Sentence)]
            self.assertEqual(sentences[1:], ["Goodbye for now."])
            self.assert_paired(visitor)
            self.assertEqual(visitor.cable.closed, (1000, "farewell"))
            played = [at for at, event in visitor.events if isinstance(event, e.PacketPlayed)]
            closed = [at for at, event in visitor.events if isinstance(event, e.Disconnected)]
            self.assertLess(played[-1], closed[0])
            self.assertGreaterEqual(
                len(played) * 60, 60 * len("All right." + "Goodbye for now.") + 240
            )

    def test_who_speaks_meanwhile_stays(self) -> None:
        house = self.house(
            session=SessionSettings(idle=IdleSettings(no_speech=20)),
            asr={"texts": ("hello", "wait")},
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        house.until(visitor.device.say(SPEECH))
        house.run(19.5)
        answer = house.until(visitor.device.say(SPEECH))
        self.assertEqual((answer.heard, answer.text), ("wait", "All right."))
        house.run(15)
        self.assertIsNone(visitor.cable.closed)

    def test_a_farewell_that_is_talked_over_is_none(self) -> None:
        house = self.house(
            session=SessionSettings(idle=IdleSettings(no_speech=20)),
            asr={"texts": ("hello", "wait")},
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        house.until(visitor.device.say(SPEECH))
        house.run(20.2)
        self.assertEqual(visitor.device.machine.state, e.State.SPEAKING)
        visitor.device.microphone.say(SPEECH)
        house.run(10)
        self.assertEqual([heard.text for heard in visitor.seen(e.Heard)], ["hello", "wait"])
        self.assertIsNone(visitor.cable.closed)

    def test_without_a_word(self) -> None:
        idle = IdleSettings(no_speech=20, farewell=False)
        house = self.house(session=SessionSettings(idle=idle))
        visitor = house.connect()
        house.until(visitor.device.say(SPEECH))
        house.run(21)
        self.assertEqual(visitor.cable.closed, (1000, "farewell"))
        self.assertEqual(len(visitor.seen(e.SpeechStarted)), 1)

    def test_devices_that_stay(self) -> None:
        kept = frozenset({numbered(1).device_id})
        house = self.house(session=SessionSettings(idle=IdleSettings(no_speech=20, keep=kept)))
        visitor = house.connect()
        house.until(visitor.device.say(SPEECH))
        house.run(60)
        self.assertIsNone(visitor.cable.closed)

    def test_never(self) -> None:
        house = self.house(session=SessionSettings(idle=IdleSettings(no_speech=0)))
        visitor = house.connect()
        house.until(visitor.device.say(SPEECH))
        house.run(200)
        self.assertIsNone(visitor.cable.closed)

    def test_by_button_nobody_is_waited_for(self) -> None:
        house = self.house(session=SessionSettings(idle=IdleSettings(no_speech=20)))
        visitor = house.connect(mode=ListenMode.MANUAL)
        house.until(visitor.device.say(SPEECH))
        house.run(60)
        self.assertEqual(len(visitor.seen(e.SpeechStarted)), 1)
        self.assertIsNone(visitor.cable.closed)


class WakeWordTests(ConversationCase):
    def test_typed_over_an_answer_does_not_deafen(self) -> None:
        """A browser says once that it listens, and never again (§13)."""
        house = self.house(llm={"answers": (LONG,), "delay": 1.0})
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="start", mode="auto")
        browser.say(type="listen", state="detect", text="go")
        house.run(0.5)
        browser.say(type="listen", state="detect", text="你好小智")
        house.run(0.5)
        self.assertEqual(browser.of("tts")[-1]["state"], "stop")
        encoder = OpusEncoder(16000)
        for packet in encoder.encode(SPEECH + bytes(32000)):
            browser.link.binary_received(packet)
        house.run(1)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["go", "hello"])

    def test_is_not_answered(self) -> None:
        """§9.25: neither the burst before it nor the word is a question."""
        house = self.house()
        visitor = house.connect()
        visitor.device.machine.wake("你好小智", (b"\x18" + bytes(99),) * 20)
        house.run(3)
        self.assertEqual(visitor.seen(e.Heard), [])
        self.assertEqual(visitor.device.machine.state, e.State.LISTENING)
        self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")

    def test_its_end_is_not_answered(self) -> None:
        """§9.25: the device listens at once, and what comes first is the word's end."""
        house = self.house(asr={"texts": ("{ms}",)})
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="detect", text="你好小智")
        browser.say(type="listen", state="start", mode="auto")
        for packet in OpusEncoder(16000).encode(SPEECH[: 32 * 240] + bytes(32 * 1500)):
            browser.link.binary_received(packet)
            house.run(0.06)
        self.assertEqual(browser.of("stt"), [])
        for packet in OpusEncoder(16000).encode(SPEECH + bytes(32 * 1500)):
            browser.link.binary_received(packet)
            house.run(0.06)
        self.assertEqual(len(browser.of("stt")), 1)

    def hears(self, house: House, browser: Browser, pcm: bytes) -> None:
        for packet in OpusEncoder(16000).encode(pcm):
            browser.link.binary_received(packet)
            house.run(0.06)

    def test_heard_while_listening_it_is_not_answered(self) -> None:
        """An open microphone has heard the word itself, too."""
        house = self.house()
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="start", mode="realtime")
        self.hears(house, browser, SPEECH)
        browser.say(type="listen", state="detect", text="你好小智")
        self.hears(house, browser, bytes(32 * 1500))
        self.assertEqual(browser.of("stt"), [])
        self.hears(house, browser, SPEECH + bytes(32 * 1500))
        self.assertEqual([text["text"] for text in browser.of("stt")], ["hello"])

    def test_what_is_said_behind_a_greeting_is_heard_from_its_beginning(self) -> None:
        """What comes first is no end of the wake word any more."""
        house = self.house(
            session=SessionSettings(wake=WakeSettings(greeting="Yes?")),
            asr={"texts": ("{ms}",)},
        )
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="detect", text="你好小智")
        browser.say(type="listen", state="start", mode="auto")
        house.run(2)
        self.assertEqual(browser.of("tts")[-1]["state"], "stop")
        browser.say(type="listen", state="start", mode="auto")
        self.hears(house, browser, SPEECH + bytes(32 * 1500))
        self.assertGreater(int(browser.of("stt")[-1]["text"]), 900 + 600)

    def test_an_empty_packet_closes_no_open_microphone(self) -> None:
        """It ends what is being said (§13), and realtime goes on listening (§4.4)."""
        house = self.house()
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="start", mode="realtime")
        browser.link.binary_received(b"")
        for times in (1, 2):
            self.hears(house, browser, SPEECH)
            browser.link.binary_received(b"")
            house.run(3)
            self.assertEqual([text["text"] for text in browser.of("stt")], ["hello"] * times)

    def test_is_greeted_if_so_configured(self) -> None:
        house = self.house(session=SessionSettings(wake=WakeSettings(greeting="Yes?")))
        visitor = house.connect()
        answer, ended = visitor.device.book.expect()
        visitor.device.machine.wake("你好，小智！")
        ended(house.clock.seconds())
        self.assertEqual(house.until(answer).text, "Yes?")
        self.assert_paired(visitor)


class TroubleTests(ConversationCase):
    def apology(self, house: House) -> None:
        visitor = house.connect()
        answer = house.until(visitor.device.text("hi"))
        self.assertEqual(answer.text, "Sorry, something went wrong. Please try again.")
        self.assert_paired(visitor)
        self.flushLoggedErrors()

    def test_model_fails(self) -> None:
        self.apology(self.house(llm={"fail": "vendor_down"}))

    def test_model_hangs(self) -> None:
        self.apology(self.house(llm={"hang": True}))

    def test_recognizer_fails(self) -> None:
        house = self.house(asr={"fail": "vendor_down"})
        visitor = house.connect()
        answer = house.until(visitor.device.say(SPEECH))
        self.assertEqual(answer.heard, None)
        self.assertIn("Sorry", answer.text)
        self.assert_paired(visitor)

    def test_synthesizer_fails(self) -> None:
        for settings in ({"fail": "vendor_down"}, {"hang": True}):
            house = self.house(tts=settings)
            visitor = house.connect()
            visitor.device.text("hi").addErrback(lambda _: None)
            house.run(25)
            self.assertEqual([alert.status for alert in visitor.seen(e.Alerted)], ["Error"])
            self.assert_paired(visitor)
            self.assertNotEqual(visitor.device.machine.state, e.State.SPEAKING)

    def test_synthesizer_fails_in_chinese(self) -> None:
        house = self.house(llm={"fail": "vendor_down"}, asr={"language": "zh"})
        answer = house.until(house.connect().device.text("你好吗"))
        self.assertEqual(answer.text, "抱歉，出了点问题，请再试一次。")


class OutageTests(ConversationCase):
    def test_lost_in_mid_answer(self) -> None:
        """The device is not left speaking, and talks on when the AI is back."""
        house = self.house(llm={"replies": {"go": LONG * 3, "again": "Yes."}}, tts={"pace": 1.5})
        visitor = house.connect()
        visitor.device.text("go").addErrback(lambda _: None)
        house.run(2)
        house.kill_ai()
        house.run(6)
        self.assert_paired(visitor)
        self.assertTrue(visitor.seen(e.Alerted))
        self.assertIsNone(visitor.cable.closed)
        self.assertNotEqual(house.bridge.status().state, "connected")
        house.start_ai()
        house.run(12)
        self.assertEqual(house.until(visitor.device.text("again")).text, "Yes.")
        self.assert_paired(visitor)

    def test_said_while_away_is_answered_after(self) -> None:
        house = self.house(llm={"replies": {"are you there": "Yes."}})
        visitor = house.connect()
        house.kill_ai()
        house.run(1)
        answer = visitor.device.text("are you there")
        house.run(1)
        house.start_ai()
        self.assertEqual(house.until(answer).text, "Yes.")

    def test_said_by_button_while_away(self) -> None:
        """Sound grows too old to be sent, the button's two messages do not: who spoke
        is told that nothing was heard, and does not wait for ever."""
        house = self.house()
        visitor = house.connect(mode=ListenMode.MANUAL)
        house.until(visitor.device.text("hi"))
        house.kill_ai()
        house.run(1)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(15)
        house.start_ai()
        house.run(15)
        self.assertIn("Not heard", [alert.status for alert in visitor.seen(e.Alerted)])
        self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")

    def test_lost_while_the_device_listens(self) -> None:
        """The device goes on sending sound and does not say again that it listens (§4.4)."""
        for mode in (ListenMode.AUTO, ListenMode.REALTIME):
            house = self.house(asr={"texts": ("one", "two")})
            visitor = house.connect(mode=mode)
            house.until(visitor.device.say(SPEECH))
            house.run(1)
            house.kill_ai()
            house.run(1)
            house.start_ai()
            house.run(12)
            self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "two")
            self.assert_paired(visitor)

    def test_connected_while_away(self) -> None:
        """The hello is answered at once, by the edge."""
        house = self.house()
        house.kill_ai()
        visitor = house.connect()
        house.start_ai()
        house.run(12)
        self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")

    def test_lost_while_it_thinks(self) -> None:
        """What it had understood is asked again: nobody has to say it twice."""
        house = self.house(llm={"replies": {"hello": "Hi there."}, "delay": 2.0})
        visitor = house.connect()
        answer = visitor.device.say(SPEECH)
        house.run(3)
        self.assertEqual([heard.text for heard in visitor.seen(e.Heard)], ["hello"])
        house.kill_ai()
        house.run(0.5)
        house.start_ai()
        house.until(answer, 30)
        house.run(10)
        spoken = [sentence.text for sentence in visitor.seen(e.Sentence)]
        self.assertEqual(spoken, ["Hi there."])
        self.assertEqual(visitor.seen(e.Alerted), [])
        self.assert_paired(visitor)

    def test_what_is_answered_by_another_can_be_interrupted(self) -> None:
        """Its first turn is not taken for the first of the one that was lost."""
        house = self.house(
            asr={"texts": ("hello", "stop it")},
            llm={"replies": {"hello": LONG, "stop it": "Fine."}, "delay": 1.0},
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(2)
        house.kill_ai()
        house.start_ai()
        house.run(3)
        self.assertEqual(visitor.device.machine.state, e.State.SPEAKING)
        began = house.clock.seconds()
        house.until(visitor.device.say(SPEECH))
        stops = [at - began for at, event in visitor.events if isinstance(event, e.SpeechStopped)]
        # It is paused at the voice, and given up when there were words.
        stopped = min(stop for stop in stops if stop > 0)
        self.assertLess(stopped, 2.0)
        played = [at - began for at, event in visitor.events if isinstance(event, e.PacketPlayed)]
        self.assertLess(max(at for at in played if at < stopped), 0.6)
        house.run(5)
        self.assertEqual(visitor.seen(e.Sentence)[-1].text, "Fine.")
        self.assert_paired(visitor)

    def test_heard_by_the_ai_and_never_acknowledged(self) -> None:
        """A partition longer than ``bridge.resume_timeout``: the question is answered."""
        house = self.house(llm={"replies": {"go": "Gone."}})
        visitor = house.connect()
        for stream in house.network.streams(AI):
            stream.peer.stall()
        answer = visitor.device.text("go")
        house.run(0.2)
        port = house.network.port(AI)
        acceptor, port.acceptor = port.acceptor, None
        house.network.cut(AI)
        house.run(3)
        port.acceptor = acceptor
        self.assertEqual(house.until(answer).text, "Gone.")

    def test_lost_twice(self) -> None:
        """Who lost what they said a second time is told so, too."""
        house = self.house(asr={"delay": 5.0})
        visitor = house.connect(mode=ListenMode.MANUAL, features=Features(mcp=False))
        visitor.device.text("warm up")
        house.run(8)
        for count in (1, 2):
            visitor.device.say(SPEECH).addErrback(lambda _: None)
            house.run(1.2)
            house.kill_ai()
            house.start_ai()
            house.run(0.8)
            self.assertEqual(len(visitor.seen(e.Alerted)), count)
        house.run(30)

    def test_nowhere_to_move(self) -> None:
        """Who asks meanwhile is told that nobody is there."""
        house = self.house()
        visitor = house.connect(mode=ListenMode.MANUAL)
        house.ai.drain(1)
        house.run(1)
        house.ai.stop()
        house.run(5)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(2)
        self.assertEqual(len(visitor.seen(e.Alerted)), 1)
        house.run(30)

    def test_broken_streams_go_unnoticed(self) -> None:
        house = self.house(llm={"answers": (LONG,)})
        visitor = house.connect()
        answer = visitor.device.text("go")
        for _ in range(8):
            house.run(0.5)
            house.network.cut(AI)
        whole = house.until(answer)
        self.assertEqual(" ".join(whole.sentences), LONG)
        self.assertEqual((whole.gaps, whole.dropped), ((), 0))
        self.assertEqual((whole.tts_starts, whole.tts_stops), (1, 1))
        self.assertEqual(visitor.seen(e.Alerted), [])


class DrainTests(ConversationCase):
    """An AI process is about to stop."""

    def test_turns_end_and_nobody_notices(self) -> None:
        house = self.house(llm={"answers": (LONG,)}, asr={"texts": ("one", "two")})
        asking, idle, listening = (house.connect(number) for number in range(3))
        house.until(listening.device.say(SPEECH))
        house.run(1)
        answer = asking.device.text("go")
        house.run(3.5)
        drained = house.ai.drain(60)
        house.run(0.5)
        self.assertEqual(house.ai.status().sessions, 1)
        self.assertEqual(" ".join(house.until(answer).sentences), LONG)
        house.run(0.5)
        self.successResultOf(drained)
        house.ai.stop()
        house.start_ai()
        house.run(12)
        self.assertEqual(house.until(listening.device.say(SPEECH)).heard, "two")
        for visitor in (asking, idle):
            self.assertEqual(house.until(visitor.device.text("again")).heard, "again")
        for visitor in (asking, idle, listening):
            self.assertEqual(visitor.seen(e.Alerted), [])
            self.assert_paired(visitor)

    def test_who_speaks_is_heard_out(self) -> None:
        house = self.house()
        for mode in (ListenMode.MANUAL, ListenMode.AUTO):
            visitor = house.connect(mode=mode)
            answer = visitor.device.say(SPEECH)
            house.run(0.6)
            drained = house.ai.drain(60)
            self.assertEqual(house.until(answer).heard, "hello")
            house.run(1)
            self.successResultOf(drained)
            house.ai.stop()
            house.start_ai()
            house.run(12)

    def test_time_is_up(self) -> None:
        """What was not answered yet is asked again elsewhere."""
        house = self.house(llm={"delay": 10.0, "replies": {"go": "Gone."}})
        visitor = house.connect()
        answer = visitor.device.text("go")
        house.run(1)
        drained = house.ai.drain(2)
        house.run(2.1)
        self.successResultOf(drained)
        house.ai.stop()
        house.start_ai()
        house.until(answer, 60)
        house.run(40)
        self.assertEqual([sentence.text for sentence in visitor.seen(e.Sentence)], ["Gone."])
        self.assert_paired(visitor)


class NewestWinsTests(ConversationCase):
    def test_the_older_connection_is_closed(self) -> None:
        """§9.22."""
        house = self.house()
        older = house.connect(7)
        newer = house.connect(7)
        house.run(1)
        assert older.cable.closed is not None
        self.assertEqual(older.cable.closed[1], "replaced")
        self.assertEqual(house.until(newer.device.say(SPEECH)).heard, "hello")


class SoundTests(ConversationCase):
    def test_nothing_of_a_sentence_is_cut(self) -> None:
        """The last milliseconds come out of the codec, too."""
        house = self.house(llm={"answers": ("Yes.",)}, tts={"milliseconds": 45})
        visitor = house.connect()
        answer = house.until(visitor.device.text("?"))
        decoder = OpusDecoder(24000)
        sound = b"".join(map(decoder.decode, answer.packets))
        # 4 characters of 45 ms; the codec delays sound by 2.5 ms.
        end = int(24000 * (0.18 + 0.0025)) * 2
        self.assertGreater(rms(sound[end - 240 : end]), 1500)
        self.assertLess(rms(sound[end + 960 :]), 300)


class PostedTests(ConversationCase):
    """What somebody posts to a device."""

    def posted(self, house: House, visitor: Visitor, mail: Mail) -> Receipt:
        receipt: Receipt = self.successResultOf(
            house.inbox.post(visitor.device.identity.device_id, mail, 60)
        )
        return receipt

    def said(self, visitor: Visitor) -> list[str]:
        return [event.text for event in visitor.seen(e.Sentence)]

    def test_words_are_spoken(self) -> None:
        house = self.house()
        for number, mode in enumerate(ListenMode):
            visitor = house.connect(number, mode=mode)
            self.assertTrue(self.posted(house, visitor, Mail(say="Tea is ready.")).delivered)
            house.run(4)
            self.assertEqual(self.said(visitor), ["Tea is ready."])
            self.assertGreater(len(visitor.seen(e.PacketPlayed)), 10)
            self.assertEqual(len(visitor.seen(e.SpeechStopped)), 1)
            self.assertEqual(visitor.seen(e.Heard), [])

    def test_after_the_answer(self) -> None:
        house = self.house(llm={"answers": ("Half past four.",)})
        visitor = house.connect()
        answer = visitor.device.text("what time is it")
        house.run(0.5)
        for words in ("Tea is ready.", "And cake."):
            self.posted(house, visitor, Mail(say=words))
        self.assertEqual(house.until(answer).text, "Half past four.")
        house.run(6)
        self.assertEqual(self.said(visitor), ["Half past four.", "Tea is ready.", "And cake."])
        self.assert_paired(visitor)

    def test_after_the_person(self) -> None:
        """Who is speaking is heard to the end, and answered first."""
        for mode in ListenMode:
            house = self.house(llm={"answers": ("Hi.",)})
            visitor = house.connect(mode=mode)
            answer = visitor.device.say(SPEECH)
            house.run(0.6)
            self.posted(house, visitor, Mail(say="Tea is ready."))
            self.assertEqual(house.until(answer).heard, "hello")
            house.run(5)
            self.assertEqual(self.said(visitor), ["Hi.", "Tea is ready."])

    def test_after_a_noise(self) -> None:
        house = self.house()
        visitor = house.connect()
        visitor.device.listen()
        visitor.device.microphone.say(SPEECH[: 32 * 150])
        house.run(0.2)
        self.posted(house, visitor, Mail(say="Tea is ready."))
        house.run(4)
        self.assertEqual(self.said(visitor), ["Tea is ready."])

    def test_after_what_had_no_words(self) -> None:
        """It waits while that is being recognised, but not for more sound."""
        house = self.house(asr={"texts": ("", ""), "delay": 2.5})
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="start", mode="realtime")
        for packet in OpusEncoder(16000).encode((SPEECH + bytes(32 * 900)) * 2):
            browser.link.binary_received(packet)
            house.run(0.06)
        house.run(1)
        house.inbox.post(numbered(1).device_id, Mail(say="Tea is ready."), 60)
        house.run(0.5)
        self.assertEqual(browser.of("tts"), [])
        house.run(4)
        told = [text["text"] for text in browser.of("tts") if "text" in text]
        self.assertEqual(told, ["Tea is ready."])

    def test_no_more_than_may_wait(self) -> None:
        house = self.house(session=SessionSettings(announcements=2), llm={"answers": (LONG,)})
        visitor = house.connect()
        answer = visitor.device.text("go")
        house.run(0.5)
        for number in range(4):
            self.posted(house, visitor, Mail(say=f"Number {number}."))
        house.until(answer)
        house.run(8)
        self.assertEqual(self.said(visitor)[-2:], ["Number 0.", "Number 1."])

    def test_in_the_language_of_its_words(self) -> None:
        house = self.house(tts={"fail": "down"})
        visitor = house.connect()
        self.posted(house, visitor, Mail(say="茶好了。"))
        house.run(4)
        (alert,) = visitor.seen(e.Alerted)
        self.assertEqual(alert.status, "出错了")
        self.flushLoggedErrors()

    def test_a_message_in_the_device_s_dialect(self) -> None:
        house = self.house()
        mail = Mail(
            message='{"type":"alert","data":{"status":"Mail","message":"One","emotion":"happy"}}'
        )
        for number, dialect in enumerate(Dialect):
            visitor = house.connect(number, dialect=dialect)
            self.posted(house, visitor, mail)
            house.run(0.1)
            (alert,) = visitor.seen(e.Alerted)
            self.assertEqual((alert.status, alert.message), ("Mail", "One"))

    def test_any_other_message_as_it_is(self) -> None:
        house = self.house()
        browser = house.browse()
        browser.say(type="hello", version=1)
        device_id = browser.link.device.device_id
        for text in ('{"type":"weather","sun":true}', '{"no":"type"}'):
            house.inbox.post(device_id, Mail(message=text), 60)
            self.assertEqual(browser.texts[-1], json.loads(text))
        house.run(1)
        (row,) = self.successResultOf(house.store.sessions_of(device_id, 1))
        messages = self.successResultOf(house.store.messages(row.session_id, 100))
        self.assertEqual([each.message_type for each in messages].count("posted"), 2)

    def test_kept_until_the_hello(self) -> None:
        house = self.house()
        browser = house.browse()
        device_id = browser.link.device.device_id
        texts = [f'{{"number":{number}}}' for number in range(3)]
        for text in texts:
            house.inbox.post(device_id, Mail(message=text), 60)
        self.assertEqual(browser.texts, [])
        browser.say(type="hello", version=1)
        self.assertEqual(browser.texts[0]["type"], "hello")
        self.assertEqual(browser.texts[1:], [json.loads(text) for text in texts])
