"""The agent does not answer its own voice, nor the sound of its alerts."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.listening.echo import NEVER, EchoGuard
from xiaozhi.device import events as e
from xiaozhi.im.settings import EdgeSettings, LinkSettings
from xiaozhi.languages.texts import text
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH
from xiaozhi.testing.leak import Leak
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import ListenMode

APOLOGY = text("apology", "en")
# Loud enough for the detector of the doubles at 2 % of full scale.
SHARP = {"threshold": 60}
FAILS = {"fail": "vendor_down"}
HANGS = {"hang": True}


class LoopTests(ConversationCase):
    def test_a_recogniser_that_fails(self) -> None:
        """One sentence, one apology or alert, whatever leaks into the microphone: with and
        without the edge's filter, and also with a late echo."""
        spoken, shown, silent = ({"level": 12000}, True), (FAILS, True), (FAILS, False)
        filtered, unfiltered, late = (1.2, 0.1), (0.0, 0.1), (1.2, 0.7)
        # Every pair of two columns occurs.
        rows = (
            (ListenMode.AUTO, FAILS, spoken, filtered),
            (ListenMode.REALTIME, HANGS, spoken, unfiltered),
            (ListenMode.AUTO, HANGS, spoken, late),
            (ListenMode.REALTIME, HANGS, shown, filtered),
            (ListenMode.AUTO, FAILS, shown, unfiltered),
            (ListenMode.REALTIME, FAILS, shown, late),
            (ListenMode.AUTO, HANGS, silent, filtered),
            (ListenMode.REALTIME, FAILS, silent, unfiltered),
            (ListenMode.REALTIME, HANGS, silent, late),
        )
        for row in rows:
            mode, asr, (tts, shipped), (alert_sound, delay) = row
            edge = EdgeSettings(link=LinkSettings(alert_sound=alert_sound))
            house = self.house(vad=SHARP, shipped=shipped, edge=edge, asr=asr, tts=tts)
            visitor = house.connect(mode=mode)
            visitor.device.say(SPEECH).addErrback(lambda _: None)
            Leak(house, visitor, 0.02, delay).run(75)
            said = [each.text for each in visitor.seen(e.Sentence)]
            told = said.count(APOLOGY) + len(visitor.seen(e.Alerted))
            self.assertEqual(told, 1, str(row))
            self.assert_paired(visitor)
            self.flushLoggedErrors()

    def test_words_of_our_own(self) -> None:
        """The recogniser works and transcribes our apology, and the model fails repeatedly."""
        house = self.house(
            vad=SHARP,
            asr={"texts": ("hello", "something went wrong", "please try again")},
            llm=FAILS,
            tts={"level": 12000},
        )
        visitor = house.connect()
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        Leak(house, visitor, 0.02).run(75)
        self.assertEqual([each.text for each in visitor.seen(e.Sentence)], [APOLOGY])
        self.flushLoggedErrors()

    def test_posted_alert(self) -> None:
        house = self.house(vad=SHARP, asr=FAILS)
        visitor = house.connect()
        visitor.device.listen()
        leak = Leak(house, visitor, 0.02)
        leak.run(1)
        assert visitor.cable.link is not None
        alert = '{"type":"alert","status":"Tea","message":"Ready","emotion":"happy"}'
        visitor.cable.link.deliver(Mail(message=alert))
        leak.run(20)
        self.assertEqual(len(visitor.seen(e.Alerted)), 1)
        self.assertEqual(visitor.seen(e.Sentence), [])

    def test_a_person_is_answered_again(self) -> None:
        """A later attempt gets the apology again, and recognised words end the suspicion."""
        house = self.house(asr={"texts": ("one",), "fail": "down"})
        visitor = house.connect()
        for wait, apologies in ((0, 1), (0.2, 1), (0, 2), (1, 2), (20, 3)):
            house.run(wait)
            visitor.device.say(SPEECH).addErrback(lambda _: None)
            house.run(7)
            said = [each.text for each in visitor.seen(e.Sentence)]
            self.assertEqual(said, [APOLOGY] * apologies, wait)
            # With or without sound, there is a reaction.
            self.assertIn(visitor.seen(e.Face)[-1].emotion, ("neutral", "confused"))

    def test_a_button_press_is_always_answered(self) -> None:
        house = self.house(asr=FAILS)
        visitor = house.connect(mode=ListenMode.MANUAL)
        for count in (1, 2, 3):
            house.until(visitor.device.say(SPEECH))
            self.assertEqual(len(visitor.seen(e.Sentence)), count)


class GuardTests(SynchronousTestCase):
    def test_course(self) -> None:
        """Events: ``f`` and seconds after our sound: not recognised, and whether an apology
        follows; words and seconds: whether they are accepted.
        """
        for course in (
            [("f", 0.1, True), ("f", 0.1, False), ("f", 0.1, False)],
            [("f", 0.1, True), ("f", 3.1, True), ("f", 5.9, False), ("f", 12.1, True)],
            [("f", -2.0, True), ("f", -1.0, False)],
            [("f", NEVER, True), ("f", NEVER, True), ("f", NEVER, True)],
            [("f", 0.1, True), ("hello", 0.1, True), ("f", 0.1, True), ("f", 0.1, False)],
            [("f", 0.1, True), ("", 0.1, True), ("f", 0.1, True)],
            [("Try again", 1.0, False), ("try again!", 3.5, True), ("again and", 1.0, True)],
            [("f", 0.1, True)] + [("f", 1.0, False)] * 20 + [("f", 49.0, True)],
        ):
            guard = EchoGuard(Clock(), 3.0)
            guard.said("Sorry. Please try again.")
            for what, after, answered in course:
                if what == "f":
                    self.assertIs(guard.failed(after), answered, course)
                else:
                    self.assertIs(guard.understood(what, after), answered, course)

    def test_since_our_sound(self) -> None:
        clock = Clock()
        guard = EchoGuard(clock, 3.0)
        self.assertEqual(guard.after(clock.seconds()), NEVER)
        clock.advance(5)
        guard.sounded()
        clock.advance(2)
        self.assertEqual(guard.after(clock.seconds()), 2)
        self.assertEqual(guard.after(4), -1)
