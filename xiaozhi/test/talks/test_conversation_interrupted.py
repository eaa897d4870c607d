"""Conversations with interruptions, and with silence."""

from __future__ import annotations

from xiaozhi.agents.settings import (
    Detector,
    IdleSettings,
    ListenSettings,
    SessionSettings,
    WakeSettings,
)
from xiaozhi.audio import OpusEncoder
from xiaozhi.device import events as e
from xiaozhi.device.client import firmware_encoder
from xiaozhi.device.identity import numbered
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.house import AI, SPEECH, Browser, House, Visitor
from xiaozhi.wire.messages import ListenMode


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
        # The device plays the two or three packets in its queue.
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
        self.assertEqual(visitor.device.machine.state, e.TalkState.SPEAKING)
        second = house.until(visitor.device.say(SPEECH))
        self.assertEqual((second.heard, second.text), ("stop", "Okay."))
        self.assertLess(house.until(first).audio_ms, 6_000)
        self.assert_paired(visitor)

    def test_a_short_noise_does_not_interrupt(self) -> None:
        house = self.house(llm={"answers": (LONG,)})
        house.make_encoder = firmware_encoder
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(3)
        visitor.device.microphone.say(SPEECH[: 32 * 150])
        self.assertGreater(house.until(answer).audio_ms, 4_000)

    def silent(self, visitor: Visitor, begin: float, end: float) -> bool:
        """Return whether nothing was played in that time; a device plays its queue."""
        return not any(
            begin < at < end for at, event in visitor.events if isinstance(event, e.PacketPlayed)
        )

    def test_words_interrupt_while_they_are_said(self) -> None:
        """With interim results, the answer ends at the first word."""
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
        house.make_encoder = firmware_encoder
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
        """Check for all of ``LONG``, and a pause after each of its two clauses."""
        self.assertLess(abs(audio_ms - 60 * len(LONG) - 240), 180)

    def test_a_noise_only_pauses(self) -> None:
        """Playback pauses at the voice and continues where it was if there are no words."""
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
        """Speech that is not recognised does not interrupt."""
        house = self.house(llm={"answers": (LONG,)})
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(3)
        visitor.device.microphone.say(SPEECH)
        house.providers.asr.close()
        self.assertFalse(house.until(answer).interrupted)

    def test_words_that_are_recognised_when_the_answer_is_over(self) -> None:
        """A noise is being recognised, and the speech after it is not lost with it."""
        house = self.house(asr={"texts": ("", "hello"), "delay": 2.5})
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(2)
        visitor.device.microphone.say(SPEECH)
        house.run(8)
        self.assertEqual([heard.text for heard in visitor.seen(e.Heard)], ["hello"])
        self.assert_paired(visitor)

    def test_speech_while_the_previous_utterance_is_being_recognised(self) -> None:
        """The answer that it interrupted is over; both are answered, in order."""
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
        """The first ends it, and no more of it is played; the second is answered, too."""
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
        """The answer begins during speech, before any playback."""
        house = self.house(asr={"texts": ("hello", ""), "delay": 1.0}, llm={"answers": (LONG,)})
        visitor = house.connect(mode=ListenMode.REALTIME)
        answer = visitor.device.say(SPEECH)
        house.run(1.7)
        begin = house.clock.seconds()
        visitor.device.microphone.say(SPEECH * 3)
        told = house.until(answer)
        self.assertTrue(self.silent(visitor, begin, begin + 2.7))
        self.assert_whole(told.audio_ms)

    def test_long_speech_is_not_a_noise(self) -> None:
        """It is longer than a pause may be."""
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
        """The pause is bounded; then playback continues."""
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
        self.assertEqual(visitor.device.machine.state, e.TalkState.LISTENING)
        self.assert_paired(visitor)

    def test_the_edge_silences_by_itself(self) -> None:
        """An interruption is audible at once, also while the AI service is away."""
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
            if interrupt.get("mode") == "manual":
                # Its stop is held until the button is released.
                browser.say(type="listen", state="stop")
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
    """The person has stopped talking."""

    def test_farewell(self) -> None:
        """It is spoken and played to its end before the device is disconnected."""
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

    def test_speech_during_the_farewell_keeps_the_session(self) -> None:
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
        self.assertEqual(visitor.device.machine.state, e.TalkState.SPEAKING)
        visitor.device.microphone.say(SPEECH)
        house.run(10)
        self.assertEqual([heard.text for heard in visitor.seen(e.Heard)], ["hello", "wait"])
        self.assertIsNone(visitor.cable.closed)

    def test_without_a_farewell(self) -> None:
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

    def test_by_button_there_is_no_idle_limit(self) -> None:
        house = self.house(session=SessionSettings(idle=IdleSettings(no_speech=20)))
        visitor = house.connect(mode=ListenMode.MANUAL)
        house.until(visitor.device.say(SPEECH))
        house.run(60)
        self.assertEqual(len(visitor.seen(e.SpeechStarted)), 1)
        self.assertIsNone(visitor.cable.closed)


class WakeWordTests(ConversationCase):
    def test_typed_over_an_answer_does_not_deafen(self) -> None:
        """A browser sends ``listen start`` once, and never again (§13)."""
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
            wire_of(browser.link).binary_received(packet)
        house.run(1)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["go", "hello"])

    def test_is_not_answered(self) -> None:
        """§9.25: neither the sound before the wake word nor the word is a question."""
        house = self.house()
        visitor = house.connect()
        visitor.device.machine.wake("你好小智", (b"\x18" + bytes(99),) * 20)
        house.run(3)
        self.assertEqual(visitor.seen(e.Heard), [])
        self.assertEqual(visitor.device.machine.state, e.TalkState.LISTENING)
        self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")

    def test_its_end_is_not_answered(self) -> None:
        """§9.25: the device listens at once, and the first sound is the end of the word."""
        house = self.house(asr={"texts": ("{ms}",)})
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="detect", text="你好小智")
        browser.say(type="listen", state="start", mode="auto")
        for packet in OpusEncoder(16000).encode(SPEECH[: 32 * 240] + bytes(32 * 1500)):
            wire_of(browser.link).binary_received(packet)
            house.run(0.06)
        self.assertEqual(browser.of("stt"), [])
        for packet in OpusEncoder(16000).encode(SPEECH + bytes(32 * 1500)):
            wire_of(browser.link).binary_received(packet)
            house.run(0.06)
        self.assertEqual(len(browser.of("stt")), 1)

    def hears(self, house: House, browser: Browser, pcm: bytes) -> None:
        for packet in OpusEncoder(16000).encode(pcm):
            wire_of(browser.link).binary_received(packet)
            house.run(0.06)

    def test_heard_while_listening_it_is_not_answered(self) -> None:
        """An open microphone has picked up the word itself, too."""
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

    def test_speech_after_a_greeting_is_heard_from_its_beginning(self) -> None:
        """By then the first sound is not the end of the wake word."""
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
        """It ends the utterance (§13), and realtime continues to listen (§4.4)."""
        house = self.house()
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="start", mode="realtime")
        wire_of(browser.link).binary_received(b"")
        for times in (1, 2):
            self.hears(house, browser, SPEECH)
            wire_of(browser.link).binary_received(b"")
            house.run(3)
            self.assertEqual([text["text"] for text in browser.of("stt")], ["hello"] * times)

    def test_is_greeted_if_so_configured(self) -> None:
        house = self.house(session=SessionSettings(wake=WakeSettings(greeting="Yes?")))
        visitor = house.connect()
        answer, ended = visitor.device.answers.expect()
        visitor.device.machine.wake("你好，小智！")
        ended(house.clock.seconds())
        self.assertEqual(house.until(answer).text, "Yes?")
        self.assert_paired(visitor)
