"""The mood of a voice reaches the model, and nothing else."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.settings import DialogueSettings, SessionSettings, TurnSettings
from xiaozhi.ai.llm.mood import MOODS, mood_line, mood_of
from xiaozhi.device import events as e
from xiaozhi.device.identity import numbered
from xiaozhi.languages.texts import CATALOGUES, text
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.openai.audio import OpenAITranscription, TranscriptionSettings
from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH, House, Visitor
from xiaozhi.testing.logs import LogLines
from xiaozhi.testing.vendors.answers import HELLO, TEXT, plain
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor

# A recogniser's text; the words, the language of the answer, the mood.
HEARD: tuple[tuple[str, str, str, str], ...] = (
    ("<|en|><|HAPPY|><|Speech|><|withitn|>I won.", "I won.", "en", "happy"),
    ("<|en|><|SAD|><|Speech|><|withitn|>I lost.", "I lost.", "en", "sad"),
    ("<|zh|><|ANGRY|><|Speech|><|withitn|>烦死了。", "烦死了。", "zh", "angry"),
    ("<|zh|><|FEARFUL|><|Speech|><|withitn|>救命。", "救命。", "zh", "shocked"),
    ("<|ja|><|SURPRISED|><|Speech|><|withitn|>ほんとう？", "ほんとう？", "ja", "surprised"),
    ("<|ko|><|DISGUSTED|><|Speech|><|withitn|>싫어.", "싫어.", "ko", "confused"),
    ("<|en|><|Cry|>Why?", "Why?", "en", "crying"),
    ("太好了😊", "太好了", "zh", "happy"),
    # No mood.
    ("<|en|><|NEUTRAL|><|Speech|><|withitn|>Hello.", "Hello.", "en", ""),
    ("<|en|><|EMO_UNKNOWN|><|Speech|><|withitn|>Hello.", "Hello.", "en", ""),
    ("<|en|><|GLEEFUL|>Hello.", "Hello.", "en", ""),
    ("Hello.", "Hello.", "en", ""),
)


class TextTests(SynchronousTestCase):
    def test_vocabulary(self) -> None:
        for emotion in MOODS:
            self.assertEqual(mood_of(emotion), emotion)
        for emotion in ("", "neutral", "gleeful", "Happy", "happy\nobey", "x" * 10_000):
            self.assertEqual(mood_of(emotion), "")
            self.assertEqual(mood_line(mood_of(emotion), "en"), "")

    def test_every_language_has_a_word_for_each(self) -> None:
        for language in CATALOGUES:
            lines = {mood_line(mood, language) for mood in MOODS}
            self.assertEqual(len(text("moods", language).split("|")), len(MOODS), language)
            self.assertEqual(len(lines), len(MOODS), language)
            for line in lines:
                self.assertNotIn("{", line)
        self.assertEqual(mood_line("sad", "fi"), mood_line("sad", "en"))


class MoodTests(ConversationCase):
    """A scripted recogniser and model, everything else real, on virtual time."""

    def home(self) -> tuple[House, Visitor]:
        self.net = Network()
        self.recognizer, self.model = ScriptedVendor(self.net), ScriptedVendor(self.net)
        self.net.listen(8000, self.recognizer)
        self.net.listen(8001, self.model)
        asr = OpenAITranscription(
            TranscriptionSettings(base_url="http://127.0.0.1:8000/v1"), self.net
        )
        chat = OpenAIChat(
            ChatSettings(base_url="http://127.0.0.1:8001/v1", model="m"), self.net, Random(1)
        )
        group = FailoverGroup.of("asr", [("sense", asr)], FailoverSettings(), self.net)
        session = SessionSettings(
            turn=TurnSettings(bridge=0), dialogue=DialogueSettings(prompt="Be kind.")
        )
        house = self.house(
            clock=self.net, model=chat, recognizer=FailoverRecognizer(group), session=session
        )

        def stop() -> None:
            house.until(chat.close())
            house.until(asr.close())
            for vendor in (self.recognizer, self.model):
                vendor.hang_up()
            house.run(1)

        self.addCleanup(stop)
        return house, house.connect()

    def asked(self, house: House, visitor: Visitor, heard: str) -> list[dict[str, Any]]:
        """Speak. :return: the model's messages."""
        self.recognizer.play(whole({"text": heard}))
        self.model.play(plain(*HELLO))
        answer = house.until(visitor.device.say(SPEECH))
        self.assertEqual(answer.text, TEXT)
        messages: list[dict[str, Any]] = self.model.requests[-1].json()["messages"]
        return messages

    def test_the_model_is_informed(self) -> None:
        house, visitor = self.home()
        lines = LogLines(self)
        for heard, words, language, mood in HEARD:
            with self.subTest(heard=heard):
                before = len(lines.events)
                prompt, *talk = self.asked(house, visitor, heard)
                line = mood_line(mood, language)
                self.assertEqual(prompt["role"], "system")
                told = "Be kind." + (f"\n\n{line}" if line else "")
                self.assertEqual(prompt["content"], told)
                self.assertEqual(talk[-1], {"role": "user", "content": words})
                # Only this question has it: no earlier one, and no display.
                for other in MOODS:
                    self.assertNotIn(mood_line(other, language), json.dumps(talk))
                self.assertEqual(visitor.seen(e.Heard)[-1].text, words)
                (ended,) = (each for each in lines.events[before:] if "tokens_in" in each)
                self.assertEqual(ended.get("mood", ""), mood)

    def test_nothing_is_remembered(self) -> None:
        house, visitor = self.home()
        self.asked(house, visitor, HEARD[1][0])
        known = self.successResultOf(
            Deferred.fromCoroutine(house.history.recall(numbered(1).device_id, 99))
        )
        self.assertIn("I lost.", repr(known))
        for word in ("sad", "voice", "<|"):
            self.assertNotIn(word, repr(known))
        # A typed question has no voice.
        self.model.play(plain(*HELLO))
        house.until(visitor.device.text("And now?"))
        prompt, *_ = self.model.requests[-1].json()["messages"]
        self.assertEqual(prompt["content"], "Be kind.")
