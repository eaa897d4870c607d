"""Conversations with failing providers, outages and stopping processes."""

from __future__ import annotations

from xiaozhi.device import events as e
from xiaozhi.im.settings import EdgeSettings, LinkSettings
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.house import AI, SPEECH, House
from xiaozhi.wire.messages import Features, ListenMode


class TroubleTests(ConversationCase):
    def apology(self, house: House) -> None:
        visitor = house.connect()
        answer = house.until(visitor.device.text("hi"))
        self.assertEqual(answer.sentences[-1], "Sorry, something went wrong. Please try again.")
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
            house = self.house(tts=settings, shipped=False)
            visitor = house.connect()
            visitor.device.text("hi").addErrback(lambda _: None)
            house.run(25)
            self.assertEqual([alert.status for alert in visitor.seen(e.Alerted)], ["Error"])
            self.assert_paired(visitor)
            self.assertNotEqual(visitor.device.machine.state, e.TalkState.SPEAKING)

    def test_synthesizer_fails_in_chinese(self) -> None:
        house = self.house(llm={"fail": "vendor_down"}, asr={"language": "zh"})
        answer = house.until(house.connect().device.text("你好吗"))
        self.assertEqual(answer.text, "抱歉，出了点问题，请再试一次。")

    def test_others_are_not_delayed(self) -> None:
        """With any fault of a provider for one device's answers."""
        replies = {"bad": "Bad answer.", "good": "Good answer."}
        quick = self.first_sound(self.house(llm={"replies": replies}))
        self.assertLess(quick, 0.2)
        for trouble in ({"hang": True}, {"crawl": 2.0}, {"fail": "vendor_down"}):
            for settings in (
                {"llm": {"replies": replies, "trouble": ({"when": "bad"} | trouble,)}},
                {"llm": {"replies": replies}, "tts": {"trouble": ({"when": "Bad"} | trouble,)}},
            ):
                house = self.house(**settings)
                for number in range(2, 12):
                    house.connect(number).device.text("bad").addErrback(lambda _: None)
                house.run(1)
                self.assertAlmostEqual(self.first_sound(house), quick, msg=str(settings))

    def first_sound(self, house: House) -> float:
        """Return the seconds that one more device waits for it."""
        visitor = house.connect()
        began = house.clock.seconds()
        house.until(visitor.device.text("good"))
        return next(at for at, event in visitor.events if isinstance(event, e.PacketPlayed)) - began


class OutageTests(ConversationCase):
    def test_lost_in_mid_answer(self) -> None:
        """The device does not stay in speaking, and continues when the AI service is back."""
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
        """Sound becomes too old to be sent, the button's two messages do not: the device gets an
        alert and does not wait for ever.
        """
        house = self.house(edge=EdgeSettings(link=LinkSettings(outage_patience=60)))
        visitor = house.connect(mode=ListenMode.MANUAL)
        house.until(visitor.device.text("hi"))
        house.kill_ai()
        house.run(3)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(15)
        house.start_ai()
        house.run(15)
        self.assertIn("Not heard", [alert.status for alert in visitor.seen(e.Alerted)])
        self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")

    def test_lost_while_the_device_listens(self) -> None:
        """The device continues to send sound and does not repeat ``listen start`` (§4.4)."""
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
        """The edge answers the hello at once."""
        house = self.house()
        house.kill_ai()
        visitor = house.connect()
        house.start_ai()
        house.run(12)
        self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")

    def test_lost_while_it_thinks(self) -> None:
        """The recognised question is asked again, so that the person need not repeat it."""
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

    def test_an_answer_of_another_process_can_be_interrupted(self) -> None:
        """Its first turn is not confused with the first turn of the lost process."""
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
        self.assertEqual(visitor.device.machine.state, e.TalkState.SPEAKING)
        began = house.clock.seconds()
        house.until(visitor.device.say(SPEECH))
        stops = [at - began for at, event in visitor.events if isinstance(event, e.SpeechStopped)]
        # It is paused at the voice and cancelled at recognised words.
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
        """A question lost a second time gets an alert, too."""
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
        """A question meanwhile gets an alert."""
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
    """An AI process is stopping."""

    def test_turns_end_and_the_move_is_not_noticed(self) -> None:
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

    def test_a_speaking_person_is_heard_to_the_end(self) -> None:
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
        """Unanswered questions are asked again elsewhere."""
        house = self.house(llm={"delay": 8.0, "replies": {"go": "Gone."}})
        visitor = house.connect()
        answer = visitor.device.text("go")
        house.run(1)
        drained = house.ai.drain(3)
        house.run(3.1)
        self.successResultOf(drained)
        house.ai.stop()
        house.start_ai()
        house.until(answer, 60)
        house.run(40)
        # Once at the lost process, and once at the one that answers.
        expected = ["One moment, please.", "One moment, please.", "Gone."]
        self.assertEqual([sentence.text for sentence in visitor.seen(e.Sentence)], expected)
        self.assert_paired(visitor)
