"""No silence without a reaction: a stored phrase bridges the wait, and stages end in time."""

from __future__ import annotations

import itertools
from typing import Any

from xiaozhi.agents.settings import DialogueSettings, SessionSettings, TurnSettings
from xiaozhi.device import events as e
from xiaozhi.device.identity import numbered
from xiaozhi.im.settings import EdgeSettings, LinkSettings
from xiaozhi.languages.texts import CATALOGUES, text
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH, House, Visitor
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import ListenMode

HANGS = {"hang": True}
# Seconds from a question to the first sound, and from one sound to the next.
FIRST, NEXT = 3.6, 8.5
WAITING, APOLOGY = text("waiting", "en"), text("apology", "en")
BUSY = "I am well. And you?"


def sounds(visitor: Visitor) -> list[float]:
    return [at for at, event in visitor.events if isinstance(event, e.PacketPlayed)]


def said(visitor: Visitor) -> list[str]:
    return [each.text for each in visitor.seen(e.Sentence)]


class BridgedWaitTests(ConversationCase):
    def asked(self, house: House, spoken: bool, **device: Any) -> tuple[Visitor, float]:
        """Ask and run half a minute. :return: the end of the question."""
        visitor = house.connect(**device)
        if spoken:
            visitor.device.say(SPEECH).addErrback(lambda _: None)
            # The end of speech is detected 0.7 s later.
            house.run(0.9 + 0.7 + 0.2)
        else:
            visitor.device.text("how are you").addErrback(lambda _: None)
        since = house.clock.seconds()
        house.run(30)
        self.assert_paired(visitor)
        self.assertIsNot(visitor.device.machine.state, e.TalkState.SPEAKING)
        self.flushLoggedErrors()
        return visitor, since

    def test_each_stage_hangs(self) -> None:
        crawls = {"delay": 4.0}
        rows: tuple[tuple[bool, dict[str, dict[str, Any]], list[str]], ...] = (
            (True, {"asr": HANGS}, [WAITING, APOLOGY]),
            (True, {"asr": crawls}, [WAITING, BUSY]),
            (False, {"llm": HANGS}, [WAITING, APOLOGY]),
            (True, {"llm": HANGS}, [WAITING, APOLOGY]),
            (False, {"llm": crawls}, [WAITING, BUSY]),
            (True, {"llm": {"token_delay": 1.6}}, [WAITING, BUSY]),
            (False, {"tts": HANGS}, [WAITING, APOLOGY]),
            (False, {"tts": crawls}, [WAITING, BUSY]),
            (True, {"tts": HANGS}, [WAITING, APOLOGY]),
            (True, {"asr": HANGS, "tts": HANGS}, [WAITING, APOLOGY]),
            (True, {"asr": crawls, "llm": crawls}, [WAITING, BUSY]),
            (False, {"llm": {"fail": "down"}, "tts": HANGS}, [WAITING, APOLOGY]),
            (False, {"llm": {"fail": "down"}, "tts": {"fail": "down"}}, [APOLOGY]),
            (False, {}, [BUSY]),
            (False, {"llm": {"delay": 2.5}}, [BUSY]),
        )
        for spoken, providers, sentences in rows:
            with self.subTest(spoken=spoken, providers=providers):
                model = {"answers": (BUSY,)} | providers.get("llm", {})
                house = self.house(**{**providers, "llm": model})
                visitor, since = self.asked(house, spoken)
                self.assertEqual(" ".join(said(visitor)), " ".join(sentences))
                heard = sounds(visitor)
                self.assertLess(heard[0] - since, FIRST)
                gaps = [late - early for early, late in itertools.pairwise(heard)]
                self.assertLess(max(gaps), NEXT)
                self.assertEqual(visitor.seen(e.Alerted), [])

    def test_a_dead_synthesiser_and_much_to_say(self) -> None:
        """More sentences wait than are read ahead: the device is not silent until the limit."""
        many = " ".join(f"This is sentence number {n} of a very long answer." for n in range(20))
        for tts in (HANGS, {"fail": "down", "delay": 0.5}):
            house = self.house(llm={"answers": (many,)}, tts=tts)
            visitor, since = self.asked(house, False)
            self.assertEqual(said(visitor)[-1], APOLOGY)
            stops = [at for at, event in visitor.events if isinstance(event, e.SpeechStopped)]
            self.assertLess(stops[-1] - since, 12)

    def test_in_the_language_of_the_talk(self) -> None:
        for language in CATALOGUES:
            dialogue = DialogueSettings(language=language)
            house = self.house(session=SessionSettings(dialogue=dialogue), asr=HANGS, tts=HANGS)
            visitor, _ = self.asked(house, True)
            expected = [text("waiting", language), text("apology", language)]
            self.assertEqual(said(visitor), expected)
            self.assertTrue(sounds(visitor))
        # After words it is their language.
        replies = {"replies": {"你好吗": "好。"}, "trouble": ({"when": "慢", "hang": True},)}
        house = self.house(llm=replies, asr={"language": ""})
        visitor = house.connect()
        house.until(visitor.device.text("你好吗"))
        visitor.device.text("慢").addErrback(lambda _: None)
        house.run(20)
        self.assertEqual(said(visitor)[1:], [text("waiting", "zh"), text("apology", "zh")])
        self.flushLoggedErrors()

    def test_any_form_of_sound(self) -> None:

        for rate in (8000, 16000, 24000, 48000):
            for duration in (20, 60):
                link = LinkSettings(downlink_sample_rate=rate, downlink_frame_duration=duration)
                house = self.house(edge=EdgeSettings(link=link), llm=HANGS, tts=HANGS)
                visitor, _ = self.asked(house, False)
                self.assertEqual(said(visitor), [WAITING, APOLOGY])
                lengths = {each.duration_ms for each in visitor.seen(e.PacketPlayed)}
                self.assertEqual(lengths, {duration})

    def test_when_and_whether(self) -> None:
        for bridge, at in ((1.0, 1.0), (5.0, 5.0), (0.0, None)):
            turn = TurnSettings(bridge=bridge)
            house = self.house(session=SessionSettings(turn=turn), llm={"delay": 8.0})
            visitor, since = self.asked(house, False)
            if at is None:
                self.assertNotIn(WAITING, said(visitor))
            else:
                self.assertApproximates(sounds(visitor)[0] - since, at, 0.2)

    def test_interrupted_meanwhile(self) -> None:
        for mode in ListenMode:
            house = self.house(llm={"trouble": ({"when": "slow", "hang": True},)})
            visitor = house.connect(mode=mode)
            visitor.device.text("slow").addErrback(lambda _: None)
            house.run(3.3)
            self.assertEqual(said(visitor), [WAITING])
            self.assertEqual(house.until(visitor.device.text("quick")).text, "All right.")
            house.run(2)
            self.assert_paired(visitor)

    def test_noise_after_a_wait(self) -> None:
        """There were no words: the phrase is played to its end, without an answer."""
        house = self.house(asr={"texts": ("",), "delay": 4.0})
        visitor, _ = self.asked(house, True)
        self.assertEqual(said(visitor), [WAITING])
        self.assertGreater(len(sounds(visitor)), 20)

    def test_announcements_are_not_bridged(self) -> None:
        """Nobody waits for an announcement."""

        house = self.house(tts={"delay": 5.0})
        visitor = house.connect()
        house.inbox.post(numbered(1).device_id, Mail(say="Tea."), 60)
        house.run(12)
        self.assertEqual(said(visitor), ["Tea."])
